# SPDX-License-Identifier: MIT
"""Random batches of crystals and their bonds."""

from __future__ import annotations

import random
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dtnn_fast import ops

from .tensors import any_layout, floating_dtype


def random_cell() -> Tensor:
    """Draw a cubic, triclinic, left-handed or very skewed cell of more than 2 cubic Angstrom."""
    shape = random.random()
    while True:
        cell = torch.randn(3, 3, dtype=torch.float64) * random.choice([1, 3, 6])
        if shape < 0.3:
            cell = torch.eye(3, dtype=torch.float64) * random.uniform(1.3, 8)
        elif shape > 0.8:
            row, column = random.sample(range(3), 2)
            cell[row] += random.randint(-3, 3) * cell[column]
        if torch.linalg.det(cell).abs() > 2:
            return cell


def random_batch() -> dict[str, Any]:
    """Draw arguments of `neighbor_list`: up to 4 crystals, some empty, with ties at the cutoff and atoms outside."""
    counts = [random.choice([0, 1, 1, 2, 3, 7, 15]) for _ in range(random.choice([1, 1, 2, 4]))]
    num_crystals, num_atoms = len(counts), sum(counts)
    dtype = floating_dtype()
    positions = torch.rand(num_atoms, 3, dtype=torch.float64) * random.choice([1, 5, 8])
    if random.random() < 0.3:
        positions = positions.round()
    if random.random() < 0.2 and num_atoms:
        positions[random.randrange(num_atoms)] += torch.randn(3, dtype=torch.float64) * random.choice([10, 1e3, 1e6])
    shared_cell = random.random() < 0.3
    cell = random_cell() if shared_cell else torch.stack([random_cell() for _ in counts])
    shape = (3,) if random.random() < 0.3 else (num_crystals, 3)
    pbc = torch.rand(shape) < random.choice([0, 0.3, 0.7, 1, 1])
    without_ptr = num_crystals == 1 and random.random() < 0.5
    return {
        "positions": any_layout(positions.to(dtype)),
        "cell": any_layout(cell.to(dtype)),
        "pbc": any_layout(pbc),
        "cutoff": random.choice([0.5, 1.0, 2.0, 3.0, 4.0]),
        "ptr": None if without_ptr else any_layout(torch.tensor([0, *accumulate(counts)])),
    }


def random_bonds(half: bool = False) -> tuple[dict[str, Any], ops.NeighborList]:
    """Draw a batch of crystals and make its list."""
    batch = random_batch()
    return batch, ops.neighbor_list(**batch, half=half)


# Generators of some point groups in the basis of a cubic or an oblique lattice.
_GENERATORS = {
    "1": [],
    "-1": [-np.eye(3, dtype=int)],
    "3": [np.array([[0, 0, 1], [1, 0, 0], [0, 1, 0]])],
    "222": [np.diag([1, -1, -1]), np.diag([-1, 1, -1])],
    "4/mmm": [np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1]]), np.diag([-1, 1, 1]), np.diag([1, 1, -1])],
    "432": [np.array([[0, 0, 1], [1, 0, 0], [0, 1, 0]]), np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1]])],
}


def random_operations() -> dict[str, Any]:
    """Draw arguments of `symmetrise_crystals`: cubic crystals of a point group, atoms moved within the tolerance."""
    while True:
        arguments = _drawn_operations()
        # Atoms that were left out because others are near can break the symmetry.
        if not ops.symmetrise_crystals(**arguments).faults.any():
            return arguments


def _drawn_operations() -> dict[str, Any]:
    parts = [_symmetric_crystal() for _ in range(random.choice([1, 1, 2, 3]))]
    positions, cells, elements, rotations, images = zip(*parts, strict=True)
    tolerance = 1e-3
    moved = torch.cat(positions)
    return {
        "positions": any_layout(moved + tolerance * random.choice([0, 0.1]) * (torch.rand_like(moved) - 0.5)),
        "cell": any_layout(torch.stack(cells)),
        "ptr": any_layout(torch.tensor([0, *accumulate(map(len, positions))])),
        "atomic_numbers": any_layout(torch.cat(elements)),
        "rotations": any_layout(torch.cat(rotations)),
        "images": any_layout(torch.cat(images)),
        "operation_ptr": any_layout(torch.tensor([0, *accumulate(map(len, images))])),
        "tolerance": tolerance,
    }


def _symmetric_crystal() -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    group = [np.eye(3, dtype=int)]
    generators = _GENERATORS[random.choice(list(_GENERATORS))]
    while generators:
        known = {w.tobytes() for w in group}
        new = {(w @ v).tobytes(): w @ v for w in group for v in generators}
        added = [w for key, w in new.items() if key not in known]
        if not added:
            break
        group += added
    # Seeds on general and on special positions, kept apart from each other's images.
    atoms: list[np.ndarray] = []
    elements: list[int] = []
    for element in range(1, random.choice([2, 3])):
        seed = np.array(random.choice([[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0, 0], [random.uniform(0.1, 0.4)] * 3]))
        if random.random() < 0.3:
            seed = np.random.default_rng(random.randrange(10**6)).uniform(0, 1, 3)
        for image in [(w @ seed) % 1.0 for w in group]:
            gaps = [np.abs((image - other) - np.rint(image - other)).max() for other in atoms]
            if min(gaps, default=1.0) > 0.02:
                atoms.append(image)
                elements.append(element)
    fractional = np.array(atoms)
    side = random.uniform(2.0, 3.5)
    images, numbers = [], np.array(elements)
    for w in group:
        gaps = fractional - w @ fractional[0]
        images.append(int(np.abs(gaps - np.rint(gaps)).max(1).argmin()))
    step = np.random.default_rng(random.randrange(10**6)).integers(-2, 3, fractional.shape)
    return (
        torch.from_numpy((fractional + step) * side + random.uniform(-3, 3)),
        side * torch.eye(3, dtype=torch.float64),
        torch.from_numpy(numbers),
        torch.from_numpy(np.array(group, dtype=np.int32)),
        torch.tensor(images),
    )
