# SPDX-License-Identifier: MIT
"""Time and peak memory of predictions against the number of atoms in one cell, stage by stage.

    python benchmarks/large_cells.py large_cells.csv --figure docs/images/large_cells.png

writes a row for each structure, size and stage, and draws the picture of docs/performance.md; `--from-csv` draws it
again without measuring. Linux only, for the peak memory. The stages add up to `dtnn-fast predict FILE`.
"""

from __future__ import annotations

import argparse
import csv
import ctypes
import gc
import itertools
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dtnn_fast.crystals.crystal import Crystal

SIZES = (10, 100, 1000, 5184, 20_000, 100_000)
STRUCTURES = ("MgO", "quartz", "amorphous")
STAGES = ("read", "check", "graph", "model", "symmetry", "warnings", "match", "write")
# Stages are repeated for about this many seconds, within the numbers of repetitions; those that take longer than the
# last number of seconds are not.
_SECONDS, _FEWEST_REPETITIONS, _MOST_REPETITIONS, _LONG_SECONDS = 0.3, 3, 20, 5.0


class Row(NamedTuple):
    """A measurement: seconds, and peak memory above that before the stage in MiB."""

    structure: str
    atoms: int
    stage: str
    seconds: float
    mebibytes: float

    @classmethod
    def parse(cls, line: Sequence[str]) -> Row:
        """Make a row of a line of the CSV file."""
        structure, atoms, stage, seconds, mebibytes = line
        return cls(structure, int(atoms), stage, float(seconds), float(mebibytes))


def supercell(structure: str, num_atoms: int) -> Crystal:
    """Make a supercell of about this many atoms, as near to a cube as it can be.

    Args:
        structure: "MgO" and "quartz" exactly as in the unit cell; "amorphous" is quartz with all atoms displaced by
            0.1 Angstrom in each direction (standard deviation), so that nothing is symmetric.
        num_atoms: at least as many as in the unit cell, otherwise the unit cell.
    """
    cell = _magnesia() if structure == "MgO" else _quartz()
    lengths = np.linalg.norm(cell.cell, axis=1)
    repeats = _near_cubic(num_atoms / cell.num_atoms, lengths)
    steps = np.array(list(itertools.product(*map(range, repeats))))
    positions = (steps @ cell.cell)[:, None] + cell.positions
    positions = positions.reshape(-1, 3)
    if structure == "amorphous":
        positions += np.random.default_rng(0).normal(0.0, 0.1, positions.shape)
    numbers = np.tile(cell.atomic_numbers, len(steps))
    return Crystal.make(structure, numbers, positions, np.array(repeats)[:, None] * cell.cell)


def _near_cubic(num_cells: float, lengths: np.ndarray) -> list[int]:
    side = (num_cells * lengths.prod()) ** (1 / 3)
    ranges = [range(max(1, int(side / length) - 1), int(side / length) + 3) for length in lengths]

    def badness(repeats: tuple[int, ...]) -> float:
        sides = np.array(repeats) * lengths
        return 3 * abs(np.log(np.prod(repeats) / num_cells)) + np.log(sides.max() / sides.min())

    return list(min(itertools.product(*ranges), key=badness))


def _magnesia() -> Crystal:
    corners = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    return Crystal.from_fractional("MgO", [12] * 4 + [8] * 4, np.vstack([corners, corners + 0.5]), np.eye(3) * 4.212)


def _quartz() -> Crystal:
    """Right-handed quartz, space group P3_2 21: Si on the twofold axes."""
    a, c, u, (x, y, z) = 4.913, 5.405, 0.4697, (0.4133, 0.2672, 0.7855)
    third = 1 / 3
    silicon = [[u, 0, 2 * third], [0, u, third], [-u, -u, 0]]
    oxygen = [
        *([x, y, z], [-y, x - y, z + 2 * third], [y - x, -x, z + third]),
        *([y, x, -z], [x - y, -y, third - z], [-x, y - x, 2 * third - z]),
    ]
    cell = np.array([[a, 0, 0], [-a / 2, a * np.sqrt(3) / 2, 0], [0, 0, c]])
    return Crystal.from_fractional("quartz", [14] * 3 + [8] * 6, np.array(silicon + oxygen), cell)


def measure(structure: str, num_atoms: int, stages: Sequence[str], threads: int) -> list[Row]:
    """Measure the stages of one cell in this process."""
    import torch

    from dtnn_fast import DTNN
    from dtnn_fast.crystals.checks import check_crystals
    from dtnn_fast.crystals.structure_index import pair_distribution
    from dtnn_fast.datasets.bundled import labelled_index
    from dtnn_fast.formats.reading import read_crystals
    from dtnn_fast.screening.crystal_warnings import structure_warnings
    from dtnn_fast.screening.engine import screen_crystals
    from dtnn_fast.screening.predictions_file import write_parquet
    from dtnn_fast.symmetry import find_forbidden_ionic_responses, known_crystal_system

    torch.set_num_threads(threads)
    model = DTNN.from_pretrained("dielectric")
    index = labelled_index()
    crystal = supercell(structure, num_atoms)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "POSCAR"
        _write_poscar(crystal, file)

        def run_model() -> None:
            with torch.no_grad():
                model.member_tensors(graph)

        def symmetry() -> None:
            find_forbidden_ionic_responses([crystal])
            known_crystal_system(crystal)

        def warn() -> None:
            structure_warnings([crystal], model)

        calls: dict[str, Callable[[], Any]] = {
            "read": lambda: list(read_crystals(file)),
            "check": lambda: check_crystals([crystal], model.elements),
            "graph": lambda: model.graph([crystal]),
            "model": run_model,
            "symmetry": symmetry,
            "warnings": warn,
            # Also where no bundled crystal has the composition and volume.
            "match": lambda: (crystal.formula, index.find(crystal), pair_distribution(crystal)),
            "write": lambda: write_parquet(Path(folder) / "out.parquet", screened, "dielectric"),
        }
        screened, rejected = screen_crystals(model, [supercell(structure, 10)])
        if rejected:
            raise SystemExit(f"{structure}: {rejected[0].reason}")
        # What is imported or built at the first call counts nowhere.
        calls["write"]()
        calls["read"]()
        graph = model.graph([crystal])
        if error := check_crystals([crystal], model.elements)[0]:
            raise SystemExit(str(error))
        return [Row(structure, crystal.num_atoms, stage, *_measured(calls[stage])) for stage in stages]


def _measured(call: Callable[[], Any]) -> tuple[float, float]:
    """Seconds, the least of some calls, and the peak memory of the first one in MiB."""
    gc.collect()
    # Memory that is free, but kept for later, would hide what the call needs.
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    # Resets the peak to what is in use now.
    Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    start = time.perf_counter()
    call()
    seconds = time.perf_counter() - start
    peak = _status("VmHWM") - before
    repetitions = min(_MOST_REPETITIONS, max(_FEWEST_REPETITIONS, int(_SECONDS / seconds)))
    for _ in range(repetitions if seconds < _LONG_SECONDS else 0):
        start = time.perf_counter()
        call()
        seconds = min(seconds, time.perf_counter() - start)
    return seconds, max(peak, 0.0)


def _status(name: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) / 1024
    raise SystemExit(f"/proc/self/status: expected a line {name}")


def _write_poscar(crystal: Crystal, path: Path) -> None:
    from dtnn_fast.crystals.elements import SYMBOLS

    order = np.argsort(crystal.atomic_numbers, kind="stable")
    numbers, counts = np.unique(crystal.atomic_numbers, return_counts=True)
    rows = [" ".join(f"{value:.10f}" for value in row) for row in crystal.cell]
    atoms = [" ".join(f"{value:.10f}" for value in row) for row in crystal.positions[order]]
    head = [crystal.id, "1.0", *rows, " ".join(SYMBOLS[z] for z in numbers), " ".join(map(str, counts)), "Cartesian"]
    path.write_text("\n".join([*head, *atoms]) + "\n")


def measure_all(options: argparse.Namespace) -> list[Row]:
    """Measure each cell in a process of its own, from small to large; the model only while memory lasts."""
    rows: list[Row] = []
    for structure in options.structures:
        for size in options.sizes:
            stages = [stage for stage in STAGES if stage != "model" or size <= options.model_atoms]
            if "model" in stages and not _fits(rows, structure, size):
                print(f"{structure} {size}: not enough memory for the model", file=sys.stderr)
                stages.remove("model")
            arguments = ["--one", structure, str(size), ",".join(stages), "--threads", str(options.threads)]
            command = [sys.executable, __file__, *arguments]
            output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            for line in csv.reader(output.splitlines()):
                rows.append(Row(line[0], int(line[1]), line[2], float(line[3]), float(line[4])))
                print(
                    f"{line[0]:10} {line[1]:>7} {line[2]:10} {float(line[3]) * 1e3:12.3f} ms {float(line[4]):10.1f} MiB"
                )
            sys.stdout.flush()
    return rows


def _fits(rows: Sequence[Row], structure: str, size: int) -> bool:
    """Tell from the next smaller cell whether the model's memory is there."""
    before = [row for row in rows if row.structure == structure and row.stage == "model"]
    if not before:
        return True
    available = next(
        int(line.split()[1]) / 1024
        for line in Path("/proc/meminfo").read_text().splitlines()
        if line.startswith("MemAvailable")
    )
    return before[-1].mebibytes * size / before[-1].atoms < 0.8 * available


def draw(rows: Sequence[Row], path: Path) -> None:
    """Draw seconds and peak memory against atoms, a panel each, with a line for each stage of the largest time."""
    from dtnn_fast.plotting import mark_panels, picture

    shown = ("read", "check", "graph", "model", "warnings", "match")
    colors = dict(zip(shown, ("#6c757d", "#588157", "#2a6f97", "#9e2a2b", "#e09f3e", "#7b5ea7"), strict=True))
    styles = dict(zip(STRUCTURES, ("o-", "s--", "^:"), strict=True))
    with picture(path, width=8.8, height=3.9) as figure:
        axes = figure.subplots(1, 2)
        for axis, name in zip(axes, ("seconds", "mebibytes"), strict=True):
            for structure, stage in itertools.product(STRUCTURES, shown):
                chosen = [row for row in rows if row.structure == structure and row.stage == stage]
                points = [(row.atoms, getattr(row, name)) for row in chosen]
                # Small allocations come from memory that the process has anyway.
                points = [(atoms, value) for atoms, value in points if name == "seconds" or value >= 1.0]
                if points:
                    label = stage if structure == STRUCTURES[-1] else None
                    x, y = zip(*points, strict=True)
                    axis.plot(x, y, styles[structure], color=colors[stage], markersize=3, linewidth=1, label=label)
            axis.set(xscale="log", yscale="log", xlabel="atoms in the cell")
            low, high = axis.get_ylim()
            x = np.geomspace(10, 1e5, 2)
            for start in 10.0 ** np.arange(-12, 12):
                axis.plot(x, start * x, color="0.9", linewidth=0.6, zorder=0)
            axis.set(xlim=(6, 1.6e5), ylim=(low, high))
        axes[0].set(ylabel="time, s")
        axes[1].set(ylabel="peak memory, MiB")
        axes[0].legend(fontsize=8)
        mark_panels(axes)


def main() -> None:
    """Parse the command line, measure, and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("csv", nargs="?", type=Path, help="file for the rows")
    parser.add_argument("--figure", type=Path, help="PNG to draw")
    parser.add_argument("--from-csv", action="store_true", help="do not measure; draw the rows of the file")
    parser.add_argument("--structures", nargs="+", choices=STRUCTURES, default=STRUCTURES, help="default: all")
    parser.add_argument("--sizes", nargs="+", type=int, default=SIZES, help="numbers of atoms")
    parser.add_argument("--model-atoms", type=int, default=10**9, help="largest cell that goes through the model")
    parser.add_argument("--threads", type=int, default=1, help="torch's threads (default 1)")
    parser.add_argument("--one", nargs=3, metavar=("STRUCTURE", "SIZE", "STAGES"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        structure, size, stages = options.one
        csv.writer(sys.stdout).writerows(measure(structure, int(size), stages.split(","), options.threads))
        return
    if options.csv is None:
        parser.error("expected the path of a CSV file")
    if options.from_csv:
        with options.csv.open(newline="") as file:
            rows = [
                Row(r[0], int(r[1]), r[2], float(r[3]), float(r[4]))
                for r in itertools.islice(csv.reader(file), 1, None)
            ]
    else:
        rows = measure_all(options)
        with options.csv.open("w", newline="") as file:
            csv.writer(file).writerows([Row._fields, *rows])
    if options.figure:
        draw(rows, options.figure)


if __name__ == "__main__":
    main()
