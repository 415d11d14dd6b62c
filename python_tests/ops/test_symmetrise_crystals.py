# SPDX-License-Identifier: MIT
"""symmetrise_crystals: exact symmetry, the smallest change, faults of single crystals, and bad arguments."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from helpers import check_same_bits

from dtnn_fast import ops, reference
from dtnn_fast.datasets.bundled import load_labelled
from dtnn_fast.ops import SYMMETRY_FAULTS, symmetrise_crystals
from dtnn_fast.symmetry import find_operations

pytest.importorskip("moyopy")


@cache
def arguments(step: int = 40):
    """Return the arguments for some labelled crystals."""
    crystals = [replace(crystal, operations=find_operations(crystal)) for crystal in load_labelled()[::step]]
    crystals = [crystal for crystal in crystals if crystal.operations is not None]
    return {
        "positions": torch.from_numpy(np.concatenate([crystal.positions for crystal in crystals])),
        "cell": torch.from_numpy(np.stack([crystal.cell for crystal in crystals])),
        "ptr": torch.tensor([0, *(crystal.num_atoms for crystal in crystals)]).cumsum(0),
        "atomic_numbers": torch.from_numpy(np.concatenate([crystal.atomic_numbers for crystal in crystals])),
        "rotations": torch.from_numpy(np.concatenate([crystal.operations.rotations for crystal in crystals])),
        "images": torch.from_numpy(np.concatenate([crystal.operations.images for crystal in crystals])),
        "operation_ptr": torch.tensor([0, *(len(crystal.operations) for crystal in crystals)]).cumsum(0),
        "tolerance": 1e-3,
    }


def assert_symmetric(given, result):
    """Check that each operation takes each atom to an atom, and keeps the metric of the cell."""
    row = 0
    for b in range(len(result.cell)):
        atoms = slice(given["ptr"][b], given["ptr"][b + 1])
        cell = result.cell[b].numpy()
        fractional = result.positions[atoms].numpy() @ np.linalg.inv(cell)
        for g in range(given["operation_ptr"][b], given["operation_ptr"][b + 1]):
            w = given["rotations"][g].numpy()
            rows = slice(row, row + len(fractional))
            row = rows.stop
            ends = fractional[result.atoms[rows].numpy()] + result.shifts[rows].numpy()
            translations = ends - fractional @ w.T
            np.testing.assert_allclose(translations @ cell, np.tile(translations[0] @ cell, (len(ends), 1)), atol=1e-11)
            rotation = cell.T @ w @ np.linalg.inv(cell.T)
            np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-11)


def test_results_obey_their_operations():
    given = arguments()
    result = symmetrise_crystals(**given)
    assert not result.faults.any()
    assert result.displacement.max() < 1e-3
    assert result.displacement.max() > 1e-6  # some files are symmetric to a few digits only
    assert_symmetric(given, result)
    again = symmetrise_crystals(**{**given, "positions": result.positions, "cell": result.cell})
    assert again.displacement.max() < 1e-12
    assert again.strain.max() < 1e-12


def test_equals_the_reference():
    given = arguments(80)
    random = torch.Generator().manual_seed(1)
    noise = 2e-4 * torch.rand(given["positions"].shape, generator=random, dtype=torch.float64)
    for positions in (given["positions"], given["positions"] + noise):
        ours = symmetrise_crystals(**{**given, "positions": positions})
        expected = reference.symmetrise_crystals(**{**given, "positions": positions})
        for name, a, b in zip(ours._fields, ours, expected, strict=True):
            assert a.dtype == b.dtype, name
            torch.testing.assert_close(a, b, rtol=0, atol=1e-11)


def test_same_bits_for_any_number_of_threads():
    check_same_bits(lambda: symmetrise_crystals(**arguments()))


def test_the_identity_keeps_the_bits():
    given = arguments()
    count = len(given["cell"])
    identity = torch.eye(3, dtype=torch.int32).expand(count, 3, 3).contiguous()
    alone = {"rotations": identity, "images": torch.zeros(count, dtype=torch.int64)}
    result = symmetrise_crystals(**{**given, **alone, "operation_ptr": torch.arange(count + 1)})
    assert torch.equal(result.positions, given["positions"])
    assert torch.equal(result.cell, given["cell"])
    assert not result.shifts.any()


def simple_cubic(**changes):
    """Return the arguments for two elements on a cubic lattice, with inversion about an atom."""
    given = {
        "positions": torch.tensor([[0.0, 0, 0], [1.5, 1.5, 1.5]], dtype=torch.float64),
        "cell": 3.0 * torch.eye(3, dtype=torch.float64)[None],
        "ptr": torch.tensor([0, 2]),
        "atomic_numbers": torch.tensor([11, 17]),
        "rotations": torch.stack([torch.eye(3, dtype=torch.int32), -torch.eye(3, dtype=torch.int32)]),
        "images": torch.tensor([0, 0]),
        "operation_ptr": torch.tensor([0, 2]),
        "tolerance": 1e-3,
    }
    return given | changes


SHEAR = torch.tensor([[1, 1, 0], [0, 1, 0], [0, 0, 1]], dtype=torch.int32)
QUARTER = torch.tensor([[0, -1, 0], [1, 0, 0], [0, 0, 1]], dtype=torch.int32)
ONE = torch.eye(3, dtype=torch.int32)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({}, 0),
        ({"images": torch.tensor([0, 2])}, 1),
        ({"images": torch.tensor([0, -1])}, 1),
        ({"rotations": torch.stack([ONE, 2 * ONE])}, 2),
        ({"rotations": torch.stack([ONE, 20001 * ONE])}, 2),
        ({"images": torch.tensor([0, 1])}, 3),
        ({"positions": torch.tensor([[0.0, 0, 0], [0.7, 1.5, 1.5]], dtype=torch.float64)}, 4),
        ({"rotations": torch.stack([ONE, QUARTER])}, 5),
        ({"rotations": torch.stack([ONE, ONE])}, 5),
        ({"rotations": torch.stack([-ONE, QUARTER])}, 5),
        ({"positions": torch.tensor([[0.0, 0, 0], [1.5019, 1.5, 1.5]], dtype=torch.float64)}, 0),
        ({"positions": torch.tensor([[0.0, 0, 0], [1.5021, 1.5, 1.5]], dtype=torch.float64)}, 4),
        ({"rotations": torch.stack([ONE, SHEAR])}, 7),
        ({"cell": torch.zeros(1, 3, 3, dtype=torch.float64)}, 8),
        ({"positions": torch.tensor([[0.0, 0, 0], [float("nan"), 1.5, 1.5]], dtype=torch.float64)}, 8),
    ],
)
def test_faults(changes, fault):
    given = simple_cubic(**changes)
    result = symmetrise_crystals(**given)
    assert result.faults[0, 0] == fault
    assert reference.symmetrise_crystals(**given).faults[0, 0] == fault
    assert SYMMETRY_FAULTS[fault].format(1)
    if fault:
        torch.testing.assert_close(result.positions, given["positions"], rtol=0, atol=0, equal_nan=True)
        assert torch.equal(result.cell, given["cell"])


def test_displacement_beyond_the_tolerance():
    """Each pair of atoms is within reach, but an atom lies too far from its symmetric place."""
    cell = 4.0 * torch.eye(3, dtype=torch.float64)[None]
    positions = torch.tensor([[1.0, 0, 0], [-1.0, 0, 0], [0, 1.0, 0], [0, -1.0, 0]], dtype=torch.float64)
    positions[1, 2] += 0.0018
    rotations = torch.stack([ONE, QUARTER, QUARTER @ QUARTER, QUARTER @ QUARTER @ QUARTER])
    given = simple_cubic(
        positions=positions,
        cell=cell,
        ptr=torch.tensor([0, 4]),
        atomic_numbers=torch.ones(4, dtype=torch.int64),
        rotations=rotations,
        images=torch.tensor([0, 2, 1, 3]),
        operation_ptr=torch.tensor([0, 4]),
    )
    for module in (ops, reference):
        result = module.symmetrise_crystals(**given)
        assert result.faults.tolist() == [[6, 1]]
        assert not module.symmetrise_crystals(**{**given, "tolerance": 3e-3}).faults.any()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tolerance": 1e-10}, "expected a finite `tolerance` of 1e-09 Angstrom or more"),
        ({"positions": torch.zeros(2, 3)}, "expected `positions` of dtype float64, got float32"),
        ({"cell": torch.eye(3)[None]}, "expected `cell` of dtype float64, got float32"),
        ({"cell": torch.eye(3, dtype=torch.float64)}, r"expected `cell` of shape \[B, 3, 3\]"),
        ({"rotations": torch.eye(3)[None]}, "expected `rotations` of dtype int32"),
        ({"images": torch.tensor([0])}, r"expected `images` of shape \[G\] with G = 2 operations"),
        ({"atomic_numbers": torch.tensor([1])}, r"expected `atomic_numbers` of shape \[N\] with N = 2 atoms"),
        ({"operation_ptr": torch.tensor([0, 3])}, "expected `operation_ptr` from 0 to the number of operations, 2"),
        ({"ptr": torch.tensor([0, 1])}, "expected `ptr` from 0 to the number of atoms, 2"),
        ({"images": torch.zeros(2, dtype=torch.int64, device="meta")}, "expected `images` on the device of"),
    ],
)
def test_bad_arguments(changes, message):
    with pytest.raises(RuntimeError, match=f"symmetrise_crystals: {message}"):
        symmetrise_crystals(**simple_cubic(**changes))


def test_crystals_without_atoms_or_operations():
    cell, some, none = (
        torch.eye(3, dtype=torch.float64).repeat(2, 1, 1),
        torch.tensor([0, 1, 2]),
        torch.tensor([0, 2, 2]),
    )
    with pytest.raises(RuntimeError, match="expected `ptr` that rises, so that each crystal has atoms"):
        symmetrise_crystals(**simple_cubic(cell=cell, ptr=none, operation_ptr=some))
    with pytest.raises(RuntimeError, match="expected `operation_ptr` that rises, so that each crystal has operations"):
        symmetrise_crystals(**simple_cubic(cell=cell, ptr=some, operation_ptr=none))
