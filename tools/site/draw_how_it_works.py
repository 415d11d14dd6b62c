# SPDX-License-Identifier: MIT
"""Write the drawings of docs/how_it_works.md: ``python tools/site/draw_how_it_works.py``.

Atoms, bonds and shifts in them are computed, so that a drawing shows what the operations give.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
from drawings import arrow, ball, box, line, picture, text

from dtnn_fast.numpy import neighbor_list

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "images" / "how"
# A plane crystal of two atoms; lengths are pixels. The third vector is not periodic.
CELL = np.array([[94.0, 0.0, 0.0], [29.0, 82.0, 0.0], [0.0, 0.0, 1.0]])
PLACES = np.array([[0.22, 0.30, 0.0], [0.68, 0.64, 0.0]]) @ CELL
PLANE = [True, True, False]
CUTOFF = 75.0


def place(atom: int, shift: np.ndarray, origin: np.ndarray) -> tuple[float, float]:
    """Find where an image of an atom is in the picture, whose y axis points down."""
    x, y, _ = PLACES[atom] + shift @ CELL
    return origin[0] + x, origin[1] - y


def outline(origin: np.ndarray, shift: np.ndarray, style: str) -> list[str]:
    """Draw the edges of a cell."""
    corners = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 0, 0]]) + shift
    points = [(origin[0] + x, origin[1] - y) for x, y, _ in corners @ CELL]
    return [line(a, b, style) for a, b in pairwise(points)]


def crystal_to_tensor() -> str:
    """From a crystal to its tensor: neighbor list, encoder, decoder, readout."""
    parts = []
    origin = np.array([28.0, 200.0])
    parts += outline(origin, np.zeros(3), "bond")
    for x in (0, 1):
        for y in (0, 1):
            parts.append(ball((origin[0] + (x * CELL[0] + y * CELL[1])[0], origin[1] - (y * CELL[1])[1]), 2, "c"))
    parts += [ball(place(0, np.zeros(3), origin), 13, "a"), ball(place(1, np.zeros(3), origin), 9, "b")]
    parts += [text(95, 250, "crystal"), text(95, 268, "elements, positions, cell", "small")]

    center = (268.0, 155.0)
    shifts, neighbors = neighbors_of_first()
    parts.append(f'<circle cx="{center[0]}" cy="{center[1]}" r="58" class="plain"/>')
    scale = 58 / CUTOFF
    for j, shift in zip(neighbors, shifts, strict=True):
        vector = (PLACES[j] + shift @ CELL - PLACES[0]) * scale
        end = (center[0] + vector[0], center[1] - vector[1])
        parts += [line(center, end), ball(end, 6, "ab"[j])]
    parts += [ball(center, 9, "a"), text(268, 250, "bonds"), text(268, 268, "within a cutoff", "small")]

    for layer in range(3):
        parts.append(box(372 + 52 * layer, 112, 42, 88, [f"{layer + 1}"]))
        if layer:
            parts.append(arrow([(366 + 52 * layer, 156), (371 + 52 * layer, 156)], curved=False))
    parts += [text(445, 250, "encoder"), text(445, 268, "layers of messages", "small")]

    for row, (name, kind) in enumerate((("s", "scalars"), ("v", "vectors"), ("t", "tensors"))):
        y = 126 + 32 * row
        parts += [text(560, y, f"{kind} {name}", "left code"), line((560, y + 7), (634, y + 7), f"line-{'abc'[row]}")]
    parts += [text(600, 250, "latents"), text(600, 268, "of each atom", "small")]

    parts.append(box(670, 112, 96, 88, ["decoder", ".reads all", ".layers"]))
    parts += [text(718, 250, "decoder"), text(718, 268, "five members", "small")]
    parts.append('<ellipse cx="858" cy="156" rx="50" ry="31" class="box" transform="rotate(-24 858 156)"/>')
    for angle, length in ((-24, 50), (66, 31)):
        x, y = length * np.cos(np.radians(angle)), length * np.sin(np.radians(angle))
        parts.append(line((858 - x, 156 - y), (858 + x, 156 + y), "line-b"))
    parts += [text(858, 250, "tensor"), text(858, 268, "mean over the atoms", "small")]
    for x in (188, 340, 532, 644, 776):
        parts.append(arrow([(x, 156), (x + 22, 156)]))
    parts.append(text(790, 86, "mean over the atoms of s 1 + v ⊗ v + t", "small"))
    return picture(
        940, 290, parts, "From a crystal by bonds, encoder layers, latents and decoder to its tensor", top=62
    )


def neighbors_of_first(half: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Find the shifts and indices of the neighbors of the first atom."""
    i, j, shifts = neighbor_list("ijS", PLACES, CUTOFF, CELL, PLANE, half=half)
    return shifts[i == 0], j[i == 0]


def lists() -> str:
    """A full and a half neighbor list of the same crystal, with their rows in order."""
    parts = []
    for half in (False, True):
        left = 516.0 * half
        origin = np.array([left + 128.0, 226.0])
        for x in (-1, 0, 1):
            for y in (-1, 0, 1):
                shift = np.array([x, y, 0.0])
                if (x or y) and not (x == 1 and y):
                    parts += outline(origin, shift, "plain")
        parts += outline(origin, np.zeros(3), "line-c")
        i, j, shifts = neighbor_list("ijS", PLACES, CUTOFF, CELL, PLANE, half=half)
        drawn = set()
        rows = []
        for a, b, shift in zip(i.tolist(), j.tolist(), shifts, strict=True):
            start, end = np.array(place(a, np.zeros(3), origin)), np.array(place(b, shift, origin))
            parts.append(arrow([tuple(start), tuple(end - 11 * (end - start) / np.linalg.norm(end - start))]))
            drawn |= {(b, tuple(shift))}
            rows.append(f"{a}   {b}   ({shift[0]:2d}, {shift[1]:2d}, {shift[2]:2d})")
        for b, shift in sorted(drawn - {(0, (0, 0, 0)), (1, (0, 0, 0))}):
            at = place(b, np.array(shift), origin)
            parts += [ball(at, 9, "back"), f'<circle cx="{at[0]:.1f}" cy="{at[1]:.1f}" r="9" class="line-{"ab"[b]}"/>']
        for atom in (0, 1):
            at = place(atom, np.zeros(3), origin)
            parts += [ball(at, 11, "ab"[atom]), text(at[0], at[1] + 5, str(atom), "inverse bold")]
        parts.append(text(left + 432, 92, "i   j   shift       ", "code pre bold"))
        parts += [text(left + 432, 114 + 20 * row, words, "code pre") for row, words in enumerate(rows)]
        parts.append(
            text(left + 240, 28, "half=True: each bond once" if half else "full list: each bond from both ends", "bold")
        )
    parts.append(line((515, 50), (515, 318), "plain"))
    parts.append(
        text(515, 346, "solid: atoms of the cell; rings: their periodic images. d = r_j - r_i + shift @ cell.", "small")
    )
    parts.append(text(515, 366, "Rows are always sorted by i, then j, then shift.", "small"))
    return picture(
        1024, 382, parts, "A full list has each bond from both ends, a half list once, both in a fixed order"
    )


def layer() -> str:
    """A layer of the encoder: messages of bonds and their sums in one operation, then the update of atoms."""
    parts = [box(16, 84, 128, 96, ["atoms", ".scalars [N, C]", ".vectors [N, 3, C]", ".tensors [N, 6, C]"])]
    parts.append(box(16, 226, 128, 60, ["bonds", ".half list, lengths"]))
    parts.append('<rect x="182" y="56" width="420" height="256" rx="10" class="plain"/>')
    parts.append(text(392, 46, "bond_messages: one operation, a tile of bonds at a time", "bold"))
    steps = (("gather", "both ends"), ("invariants", "dot products"), ("perceptron", "two products"))
    for k, (name, note) in enumerate(steps):
        parts.append(box(200 + 134 * k, 92, 116, 56, [name, f".{note}"]))
        if k:
            parts.append(arrow([(182 + 134 * k, 120), (199 + 134 * k, 120)]))
    parts.append(box(468, 222, 116, 64, ["messages", ".s, v, t of a bond"]))
    parts.append(box(200, 222, 200, 64, ["sums at both ends", ".in a fixed order"]))
    parts += [arrow([(526, 149), (526, 221)]), arrow([(467, 254), (401, 254)])]
    parts += [arrow([(145, 120), (199, 120)]), arrow([(145, 256), (172, 256), (172, 132), (199, 132)])]
    parts.append(text(204, 178, "Features and hidden channels of a tile", "small left"))
    parts.append(text(204, 196, "stay in the cache.", "small left"))
    parts.append('<rect x="640" y="56" width="176" height="256" rx="10" class="plain"/>')
    parts.append(text(728, 46, "atom_update", "bold"))
    parts.append(box(658, 92, 140, 56, ["channels", ".mixed, normed"]))
    parts.append(box(658, 222, 140, 64, ["gates", ".perceptron, sums"]))
    parts += [arrow([(728, 149), (728, 221)])]
    parts += [arrow([(300, 287), (300, 334), (622, 334), (622, 120), (657, 120)])]
    parts.append(text(460, 350, "sums A of each atom [N, C], [N, 3, C], [N, 6, C]", "small"))
    parts.append(box(846, 206, 96, 96, ["atoms", ".of the next", ".layer"]))
    parts.append(arrow([(799, 254), (845, 254)]))
    return picture(958, 366, parts, "A layer: bond messages and their sums in one operation, then the update of atoms")


def orbits() -> str:
    """One atom and one bond of each symmetry orbit, and what the operations make of them."""
    parts = []
    for k, title in enumerate(("all atoms and bonds", "one of each orbit")):
        center = (150.0 + 320.0 * k, 186.0)
        parts.append(text(center[0], 30, title, "bold"))
        for turn in range(4):
            angle = np.radians(45 + 90 * turn)
            end = (center[0] + 92 * np.cos(angle), center[1] - 92 * np.sin(angle))
            stored = k == 0 or turn == 0
            parts.append(line(center, end, "line-c" if stored else "plain"))
            parts.append(
                ball(end, 12, "b") if stored else f'<circle cx="{end[0]:.1f}" cy="{end[1]:.1f}" r="12" class="plain"/>'
            )
            if k and turn < 3:
                middle = np.radians(90 + 90 * turn)
                points = [
                    (center[0] + 112 * np.cos(middle + s), center[1] - 112 * np.sin(middle + s))
                    for s in np.linspace(-0.5, 0.5, 9)
                ]
                parts += [
                    arrow(points),
                    text(center[0] + 136 * np.cos(middle), center[1] - 130 * np.sin(middle) + 5, "R"),
                ]
        parts.append(ball(center, 15, "a"))
        parts.append(text(center[0], 348, ("5 atoms, 4 bonds", "2 atoms, 1 bond, rotations R")[k], "small"))
    x = 668
    for row, words in enumerate(
        (
            "1  find the space group's operations",
            "2  move atoms onto their exact places",
            "3  store one atom, one bond per orbit",
            "4  messages of the stored bonds only",
            "5  sums: n P b, with P the mean of",
            "    the rotations that keep the atom",
            "6  readout: mean over all images",
        )
    ):
        parts.append(text(x, 106 + 27 * row, words, "left pre"))
    return picture(958, 366, parts, "A fourfold axis: one bond is computed, three are its rotations")


def screening() -> str:
    """A screening: chunks of the input, readers, model, parts, and what is done after an interruption."""
    parts = [box(16, 70, 128, 120, ["input", ".folders, CIF,", ".JSON, archives,", ".Parquet, ASE"])]
    states = (
        ("chunk 1", "part written"),
        ("chunk 2", "part written"),
        ("chunk 3", "stopped here"),
        ("chunk 4", "waiting"),
    )
    for k, (name, state) in enumerate(states):
        parts.append(box(186, 40 + 48 * k, 132, 40, [name, f".{state}"], "box" if k < 2 else "plain"))
    parts.append(text(190, 256, "The same start cuts the same chunks,", "small"))
    parts.append(text(190, 274, "and computes those without a part.", "small"))
    parts.append(arrow([(145, 130), (185, 130)]))
    parts.append(box(362, 84, 122, 92, ["readers", ".processes:", ".read, check,", ".symmetry"]))
    parts.append(box(528, 84, 122, 92, ["model", ".batches by atoms,", ".halved when", ".memory ends"]))
    parts.append(box(694, 84, 128, 92, ["parts", ".part-*.parquet,", ".whole or not", ".at all"]))
    parts += [arrow([(319, 130), (361, 130)]), arrow([(485, 130), (527, 130)]), arrow([(651, 130), (693, 130)])]
    parts.append(box(362, 226, 122, 46, ["rejected", ".with the reason"], "plain"))
    parts.append(arrow([(423, 177), (423, 225)]))
    parts.append(box(664, 226, 188, 62, ["when all parts are there", ".ids, duplicates"]))
    parts.append(arrow([(758, 177), (758, 225)]))
    parts.append(box(520, 322, 178, 46, ["ranking.csv, plot", ".DuckDB over the parts"]))
    parts.append(box(744, 322, 198, 46, ["report.html, refine, dfpt", ".the best ones"]))
    parts += [arrow([(700, 289), (640, 321)]), arrow([(699, 345), (743, 345)])]
    return picture(958, 384, parts, "A screening in chunks: finished parts are kept, the others are computed again")


DRAWINGS = {
    "crystal_to_tensor": crystal_to_tensor,
    "neighbor_lists": lists,
    "layer": layer,
    "orbits": orbits,
    "screening": screening,
}


def main() -> None:
    """Write all drawings."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, draw in DRAWINGS.items():
        (FOLDER / f"{name}.svg").write_text(draw(), encoding="utf-8")


if __name__ == "__main__":
    main()
