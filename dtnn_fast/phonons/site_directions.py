# SPDX-License-Identifier: MIT
"""Directions to displace an atom in, as few as its site symmetry allows."""

from __future__ import annotations

from itertools import combinations

import numpy as np

# Two directions are the same where the length of their difference is below this; rotations are exact to about 1e-12.
_SAME = 1e-6
# Smallest eigenvalue that the mean of d d^T over the images of all directions may have, relative to its trace: 1/3
# where they are spread evenly. Below, noise of the forces would grow.
_LEAST_SPREAD = 0.1
# Along the three axes of a frame, and between two or three of them.
_FRAME_STEPS = np.array(
    [
        (x, y, z)
        for x in (-1, 0, 1)
        for y in (-1, 0, 1)
        for z in (-1, 0, 1)
        if (x, y, z) > (0, 0, 0)  # the first component that is not zero is positive: one of d and -d
    ],
    dtype=np.float64,
)


def site_directions(rotations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Choose directions whose images under a point group span space, at the price of the fewest displacements.

    Central differences need a displacement along -d too, unless an operation takes d to -d: then forces at -d are the
    rotated forces at d.

    Args:
        rotations: the point group of an atom's site. [H, 3, 3], float64

    Returns:
        Unit vectors [D, 3] with D from 1 to 3, and for each whether it needs the displacement along -d. [D], bool
    """
    candidates = _by_symmetry(_candidates(rotations), rotations)
    images = np.einsum("hij,cj->chi", rotations, candidates)
    needs_both = ~(np.linalg.norm(images + candidates[:, None], axis=-1) < _SAME).any(1)
    spreads = np.einsum("chi,chj->cij", images, images) / len(rotations)
    costs = 1 + needs_both.astype(int)
    best: tuple[int, float, tuple[int, ...]] = (7, 0.0, ())
    for count in (1, 2, 3):
        # More directions cost at least one displacement each.
        if best[0] <= count:
            break
        choices = np.array(list(combinations(range(len(candidates)), count)))
        smallest = np.linalg.eigvalsh(spreads[choices].sum(1))[:, 0] / count
        # Equal spreads differ by rounding; the first of them is taken on every machine and in every cell.
        smallest = np.round(smallest, 6)
        prices = costs[choices].sum(1)
        prices[smallest < _LEAST_SPREAD] = 7
        cheapest = int(prices.min())
        if cheapest < best[0]:
            place = int(np.argmax(np.where(prices == cheapest, smallest, -1.0)))
            best = cheapest, float(smallest[place]), tuple(choices[place].tolist())
    chosen = list(best[2])
    return candidates[chosen], needs_both[chosen]


def _candidates(rotations: np.ndarray) -> np.ndarray:
    """Collect unit vectors along and between the axes of the group. [C, 3]"""
    symmetric = _rotation_axes(rotations)
    axes = np.concatenate([symmetric, np.eye(3)])
    frames = []
    for first in symmetric:
        across = axes - (axes @ first)[:, None] * first
        lengths = np.linalg.norm(across, axis=1)
        # The axis most nearly at a right angle, the first of several, as a second one.
        second = across[int(np.argmax(np.round(lengths, 6)))]
        second /= np.linalg.norm(second)
        frames.append(np.stack([first, second, np.cross(first, second)]))
    # The frame of the cell comes last: of directions that are equal but for rounding, the exact one stays.
    frames.append(np.eye(3))
    directions = (_FRAME_STEPS @ np.stack(frames)).reshape(-1, 3)
    return _distinct(directions / np.linalg.norm(directions, axis=1, keepdims=True))


def _rotation_axes(rotations: np.ndarray) -> np.ndarray:
    """Find the axes of the operations but 1 and -1: for a mirror its normal. [A, 3]"""
    proper = rotations * np.sign(np.linalg.det(rotations))[:, None, None]
    proper = proper[np.trace(proper, axis1=1, axis2=2) < 3 - _SAME]
    if not len(proper):
        return np.empty((0, 3))
    # The axis is the eigenvector of R + R^T to its largest eigenvalue, 2.
    axes = _distinct(np.linalg.eigh(proper + proper.transpose(0, 2, 1))[1][:, :, 2])
    return _by_symmetry(axes, rotations)


def _by_symmetry(directions: np.ndarray, rotations: np.ndarray) -> np.ndarray:
    """Sort directions by the number of their images, then by coordinates, whatever the order of the rotations.

    So all cells of a crystal have the same directions. They matter where forces are not linear in the displacement.
    """
    images = np.einsum("hij,cj->chi", rotations, directions)
    overlaps = np.abs(np.einsum("chi,ci->ch", images, directions)) > 1 - _SAME
    # Operations that keep a direction or turn it round: the more there are, the fewer images it has.
    keys = [*(np.round(directions, 5) + 0.0).T[::-1], -overlaps.sum(1)]
    ordered: np.ndarray = directions[np.lexsort(keys)]
    return ordered


def _distinct(directions: np.ndarray) -> np.ndarray:
    """Leave out directions that another one is equal or opposite to; the first nonzero component becomes positive."""
    rounded = np.round(directions, 6) + 0.0
    first = rounded[np.arange(len(rounded)), (np.abs(rounded) > _SAME).argmax(1)]
    signed = directions * np.sign(first)[:, None]
    _, places = np.unique(np.round(signed, 5) + 0.0, axis=0, return_index=True)
    distinct: np.ndarray = signed[np.sort(places)]
    return distinct
