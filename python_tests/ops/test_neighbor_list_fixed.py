# SPDX-License-Identifier: MIT
"""neighbor_list_fixed: equal to neighbor_list, with padding that every operation accepts, and overflow."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers import check_operator
from list_cases import random_case

from dtnn_fast import reference
from dtnn_fast.ops import (
    FixedNeighborList,
    atom_to_bond_gather,
    bond_reverses,
    bond_to_atom_sum,
    bond_vectors,
    neighbor_list,
    neighbor_list_fixed,
)

ALL = torch.tensor([True, True, True])
CUBIC = {"positions": torch.zeros(1, 3), "cell": 3 * torch.eye(3), "pbc": ALL, "cutoff": 3.5, "capacity": 8}


def batch(num_crystals=3, dtype=torch.float64):
    """Make small crystals, with a single spare atom at the end."""
    generator = torch.Generator().manual_seed(num_crystals)
    sizes = [2 + b % 3 for b in range(num_crystals)] + [1]
    cell = 3 * torch.eye(3, dtype=dtype) + 0.3 * torch.rand(num_crystals + 1, 3, 3, dtype=dtype, generator=generator)
    pbc = ALL.repeat(num_crystals + 1, 1)
    pbc[-1] = False
    positions = 3 * torch.rand(sum(sizes), 3, dtype=dtype, generator=generator)
    return {"positions": positions, "cell": cell, "pbc": pbc, "ptr": torch.tensor([0, *sizes]).cumsum(0)}


def assert_identical(ours, expected):
    for name, a, b in zip(FixedNeighborList._fields, ours, expected, strict=True):
        assert a.dtype == b.dtype
        assert torch.equal(a, b), f"{name} differs"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("self_pairs", [False, True])
def test_the_real_bonds_are_those_of_neighbor_list(dtype, half, self_pairs):
    arguments = batch(dtype=dtype) | {"cutoff": 3.1, "half": half, "self_pairs": self_pairs}
    bonds = neighbor_list(**arguments)
    num_bonds = bonds.pairs.shape[1]
    for spare in (0, 1, 50):
        fixed = neighbor_list_fixed(**arguments, capacity=num_bonds + spare)
        assert fixed.status.item() == 0
        assert fixed.num_bonds.item() == num_bonds
        assert torch.equal(fixed.pairs[:, :num_bonds], bonds.pairs)
        assert torch.equal(fixed.shifts[:num_bonds], bonds.shifts)
        assert torch.equal(fixed.row_ptr[:-1], bonds.row_ptr[:-1])
        assert fixed.row_ptr[-1] == num_bonds + spare
        assert (fixed.pairs[:, num_bonds:] == len(arguments["positions"]) - 1).all()
        assert not fixed.shifts[num_bonds:].any()
        assert_identical(fixed, reference.neighbor_list_fixed(**arguments, capacity=num_bonds + spare))


def test_random_cells_with_enough_and_too_little_room():
    rng = np.random.default_rng(1)
    for number in range(24):
        case = random_case(rng, number, most_bonds=2000)
        arguments = [torch.from_numpy(np.ascontiguousarray(array)) for array in case[:3]]
        needed = neighbor_list(*arguments, case.cutoff).pairs.shape[1]
        for capacity in (needed, needed // 2, 0):
            ours = neighbor_list_fixed(*arguments, case.cutoff, capacity)
            assert_identical(ours, reference.neighbor_list_fixed(*arguments, case.cutoff, capacity))
            assert ours.num_bonds.item() == needed
            assert ours.status.item() == int(capacity < needed)


def test_large_crystals():
    positions, cell = 14 * torch.rand(700, 3, dtype=torch.float64), 14 * torch.eye(3, dtype=torch.float64)
    bonds = neighbor_list(positions, cell, ALL, 2.5)
    fixed = neighbor_list_fixed(positions, cell, ALL, 2.5, bonds.pairs.shape[1] + 3)
    assert torch.equal(fixed.pairs[:, :-3], bonds.pairs)
    assert torch.equal(fixed.shifts[:-3], bonds.shifts)
    assert neighbor_list_fixed(positions, cell, ALL, 2.5, 9).num_bonds.item() == bonds.pairs.shape[1]


def test_overflow_leaves_a_list_without_bonds():
    fixed = neighbor_list_fixed(**(CUBIC | {"positions": torch.zeros(2, 3), "capacity": 5}))
    assert (fixed.status.item(), fixed.num_bonds.item()) == (1, 26)
    assert fixed.row_ptr.tolist() == [0, 0, 5]
    assert (fixed.pairs == 1).all()


def test_operations_take_the_padded_list():
    """Padding affects only the last atom, at both ends."""
    arguments = batch() | {"cutoff": 3.1}
    bonds = neighbor_list(**arguments)
    num_bonds, num_atoms = bonds.pairs.shape[1], len(arguments["positions"])
    fixed = neighbor_list_fixed(**arguments, capacity=num_bonds + 7)
    values = torch.rand(num_bonds + 7, 4, dtype=torch.float64)
    for ends in ("center", "neighbor", "sum", "difference"):
        padded = bond_to_atom_sum(values, fixed.pairs, fixed.row_ptr, ends)
        plain = bond_to_atom_sum(values[:num_bonds], bonds.pairs, bonds.row_ptr, ends)
        assert torch.equal(padded[: num_atoms - 1], plain[: num_atoms - 1])
        atoms = torch.rand(num_atoms, 4, dtype=torch.float64)
        gathered = atom_to_bond_gather(atoms, fixed.pairs, fixed.row_ptr, ends)
        assert torch.equal(gathered[:num_bonds], atom_to_bond_gather(atoms, bonds.pairs, bonds.row_ptr, ends))
    geometry = arguments["positions"], arguments["cell"]
    vectors = bond_vectors(*geometry, fixed.pairs, fixed.shifts, arguments["ptr"])
    assert torch.equal(vectors[:num_bonds], bond_vectors(*geometry, bonds.pairs, bonds.shifts, arguments["ptr"]))
    assert not vectors[num_bonds:].any()
    exact = neighbor_list_fixed(**arguments, capacity=num_bonds)
    assert torch.equal(
        bond_reverses(exact.pairs, exact.shifts, exact.row_ptr),
        bond_reverses(bonds.pairs, bonds.shifts, bonds.row_ptr),
    )


def test_no_atoms():
    nothing = CUBIC | {"positions": torch.zeros(0, 3), "capacity": 0}
    fixed = neighbor_list_fixed(**nothing)
    assert fixed.pairs.shape == (2, 0)
    assert (fixed.row_ptr.tolist(), fixed.num_bonds.item(), fixed.status.item()) == ([0], 0, 0)
    assert_identical(fixed, reference.neighbor_list_fixed(**nothing))


def test_cutoff_for_each_crystal():
    arguments = batch() | {"capacity": 200}
    cutoffs = torch.tensor([3.0, 0.0, 2.5, 1.0])
    fixed = neighbor_list_fixed(**arguments, cutoff=cutoffs)
    assert fixed.status.item() == 0
    assert_identical(fixed, reference.neighbor_list_fixed(**arguments, cutoff=cutoffs))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"positions": torch.zeros(4, 2)}, r"expected `positions` of shape \[N, 3\], got \[4, 2\]"),
        ({"pbc": torch.ones(3)}, "expected `pbc` of dtype bool, got float32"),
        ({"capacity": -1}, "expected a `capacity` of 0 or more, got -1"),
        ({"positions": torch.zeros(0, 3)}, "expected a `capacity` of 0 without atoms, which padding needs, got 8"),
        ({"cutoff": -1.0}, "expected a finite `cutoff` of 0 or more, got -1"),
    ],
)
def test_bad_arguments(change, message):
    with pytest.raises(RuntimeError, match=f"neighbor_list_fixed: {message}"):
        neighbor_list_fixed(**(CUBIC | change))


@pytest.mark.parametrize(
    "change",
    [
        {"positions": torch.tensor([[0, float("nan"), 0]])},
        {"cell": torch.zeros(3, 3)},
        {"ptr": torch.tensor([0, 2])},
        {"cutoff": torch.tensor([-1.0])},
    ],
)
def test_bad_values_raise_or_are_in_the_status(change):
    """The CPU raises; a CUDA kernel does not make the host wait and sets the status instead."""
    arguments = CUBIC | change
    try:
        fixed = neighbor_list_fixed(**arguments)
    except RuntimeError as error:
        assert str(error).startswith("neighbor_list_fixed: ")  # noqa: PT017  either is right
        return
    assert (fixed.status.item(), fixed.num_bonds.item()) == (2, 0)
    assert fixed.row_ptr.tolist() == [0, 8]


def test_opcheck():
    op = torch.ops.dtnn_fast.neighbor_list_fixed.default
    positions = 3 * torch.rand(5, 3, dtype=torch.float64)
    check_operator(op, positions, 3 * torch.eye(3, dtype=torch.float64), ALL, None, 3.5, None, False, False, 300)
    ptr, cutoffs = torch.tensor([0, 2, 5]), torch.tensor([3.0, 2.0], dtype=torch.float64)
    check_operator(op, positions.float(), 3 * torch.eye(3), ALL, ptr, 0.0, cutoffs, True, True, 2)


def test_compiled_as_one_graph():
    @torch.compile(fullgraph=True, dynamic=True, backend="aot_eager")
    def total(positions, cell):
        fixed = neighbor_list_fixed(positions, cell, ALL, 4.0, 2000)
        return bond_vectors(positions, cell, fixed.pairs, fixed.shifts).square().sum()

    for num_atoms in (3, 5):
        positions, cell = 3 * torch.rand(num_atoms, 3, dtype=torch.float64), 3 * torch.eye(3, dtype=torch.float64)
        bonds = neighbor_list(positions, cell, ALL, 4.0)
        expected = bond_vectors(positions, cell, bonds.pairs, bonds.shifts).square().sum()
        torch.testing.assert_close(total(positions, cell), expected)
