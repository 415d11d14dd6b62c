# SPDX-License-Identifier: MIT
"""bond_vectors: the differentiable part of a neighbor list."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
from helpers import check_compiled, check_first_and_second_derivatives, check_operator, check_same_bits
from torch import Tensor

from dtnn_fast import reference, use_backend
from dtnn_fast.ops import bond_vectors

OPS = torch.ops.dtnn_fast


class Batch(NamedTuple):
    positions: Tensor
    cell: Tensor
    pairs: Tensor
    shifts: Tensor
    ptr: Tensor | None


def random_batch(sizes, bonds_per_atom=5, dtype=torch.float64, seed=0) -> Batch:
    """Make crystals of these sizes, with bonds sorted by center between random atoms of the same crystal."""
    generator = torch.Generator().manual_seed(seed)
    ptr = torch.tensor([0, *sizes]).cumsum(0)
    total = int(ptr[-1])
    centers = torch.arange(total).repeat_interleave(bonds_per_atom)
    crystal = torch.searchsorted(ptr, centers, right=True) - 1
    draw = torch.rand(len(centers), generator=generator)
    neighbors = ptr[crystal] + (draw * (ptr[crystal + 1] - ptr[crystal])).long()
    shifts = torch.randint(-3, 4, (len(centers), 3), generator=generator, dtype=torch.int32)
    positions = torch.randn(total, 3, dtype=dtype, generator=generator) * 5
    cell = torch.randn(len(sizes), 3, 3, dtype=dtype, generator=generator) * 4
    return Batch(positions, cell, torch.stack([centers, neighbors]), shifts, ptr)


def with_one_crystal(batch: Batch) -> Batch:
    return batch._replace(cell=batch.cell[0], ptr=None)


def shuffled(batch: Batch) -> Batch:
    order = torch.randperm(batch.pairs.shape[1], generator=torch.Generator().manual_seed(1))
    return batch._replace(pairs=batch.pairs[:, order], shifts=batch.shifts[order])


CASES = {
    "batch": random_batch([3, 1, 8, 2]),
    "empty crystals": random_batch([0, 3, 0, 0, 4, 0]),
    "one crystal": with_one_crystal(random_batch([7])),
    "one cell for all": random_batch([3, 4])._replace(cell=torch.randn(3, 3, dtype=torch.float64)),
    "unsorted": shuffled(random_batch([3, 4, 5])),
    "one atom": with_one_crystal(random_batch([1])),
    "no bonds": random_batch([2, 3], bonds_per_atom=0),
    "no atoms": with_one_crystal(random_batch([0])),
    "no crystals": random_batch([]),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equals_reference_with_gradients(name, dtype):
    batch = CASES[name]
    results = []
    for backend in ("native", "reference"):
        positions, cell = (t.to(dtype).requires_grad_() for t in batch[:2])
        with use_backend(backend):
            vectors = bond_vectors(positions, cell, *batch[2:])
        vectors.sin().sum().backward()
        results.append((vectors, positions.grad, cell.grad))
    assert torch.equal(results[0][0], results[1][0])  # to the bit
    torch.testing.assert_close(*results)


@pytest.mark.parametrize("change", [lambda batch: batch, shuffled], ids=["sorted", "unsorted"])
@pytest.mark.parametrize("sizes", [[20_000], [3, 20_000, 0, 5]])
def test_crystal_summed_in_parts(sizes, change):
    """Above 65,536 bonds a crystal's gradient is a sum of parts; with unsorted bonds each part has all atoms."""
    batch = change(random_batch(sizes))
    assert batch.pairs.shape[1] > 65_536
    grad = torch.randn(batch.pairs.shape[1], 3, dtype=torch.float64)
    outputs = OPS.bond_vectors_backward(grad, *batch[2:], sum(sizes), len(sizes))
    leaves = [t.requires_grad_() for t in batch[:2]]
    expected = torch.autograd.grad(reference.bond_vectors(*leaves, *batch[2:]), leaves, grad)
    torch.testing.assert_close(outputs, expected)
    check_same_bits(lambda: OPS.bond_vectors_backward(grad.float(), *batch[2:], sum(sizes), len(sizes)))


@pytest.mark.parametrize("place", [0, 40_000, 99_999])
def test_bond_at_fault_in_any_piece(place):
    batch = random_batch([20_000])
    batch.pairs[1, place] = 20_000
    with pytest.raises(RuntimeError, match=r"bond_vectors_backward: expected `pairs` with atoms in \[0, 20000\)"):
        OPS.bond_vectors_backward(torch.ones(100_000, 3), *batch[2:], 20_000, 1)


def test_hand_written_case():
    positions = torch.tensor([[0.0, 0.0, 0.0], [1.0, 2.0, 3.0], [5.0, 5.0, 5.0]])
    cell = torch.tensor([[[10.0, 0, 0], [1, 10, 0], [0, 2, 10]], [[2.0, 0, 0], [0, 3, 0], [0, 0, 4]]])
    pairs = torch.tensor([[0, 1, 2], [1, 0, 2]])
    shifts = torch.tensor([[0, 0, 0], [1, 1, -1], [1, -2, 3]], dtype=torch.int32)
    vectors = bond_vectors(positions, cell, pairs, shifts, torch.tensor([0, 2, 3]))
    assert vectors.tolist() == [[1, 2, 3], [-1 + 11, -2 + 8, -3 - 10], [2, -6, 12]]


@pytest.mark.parametrize("name", ["batch", "one crystal", "one cell for all", "unsorted", "no bonds"])
def test_first_and_second_derivatives(name):
    positions, cell, *bonds = CASES[name]
    check_first_and_second_derivatives(lambda r, h: bond_vectors(r, h, *bonds) ** 2, positions, cell)


@pytest.mark.parametrize("name", CASES)
def test_opcheck(name):
    positions, cell, *bonds = CASES[name]
    num_cells = 1 if bonds[2] is None else len(bonds[2]) - 1
    cells = cell.expand(num_cells, 3, 3).clone().requires_grad_()
    check_operator(OPS.bond_vectors.default, positions.clone().requires_grad_(), cells, *bonds)
    grad = torch.randn(bonds[0].shape[1], 3, dtype=torch.float64, requires_grad=True)
    check_operator(OPS.bond_vectors_backward.default, grad, *bonds, positions.shape[0], num_cells)


@pytest.mark.parametrize("sizes", [[4] * 2000, [8000], [0, 5000, 0, 3000]])
def test_same_bits_for_any_number_of_threads(sizes):
    positions, cell, *bonds = random_batch(sizes, bonds_per_atom=10, dtype=torch.float32)
    grad = torch.randn(bonds[0].shape[1], 3)

    def forward_and_backward():
        vectors = OPS.bond_vectors(positions, cell, *bonds)
        return vectors, *OPS.bond_vectors_backward(grad, *bonds, len(positions), len(cell))

    check_same_bits(forward_and_backward)


def test_sorted_and_unsorted_bonds_give_the_same_gradients():
    grouped = random_batch([3, 4, 5])
    order = torch.randperm(grouped.pairs.shape[1])
    grad = torch.randn(len(order), 3, dtype=torch.float64)
    sums = OPS.bond_vectors_backward(grad, *grouped[2:], 12, 3)
    moved = OPS.bond_vectors_backward(grad[order], grouped.pairs[:, order], grouped.shifts[order], grouped.ptr, 12, 3)
    torch.testing.assert_close(moved, sums)


def test_non_contiguous_inputs():
    batch = CASES["batch"]
    strided = Batch(*(t.transpose(0, -1).contiguous().transpose(0, -1) for t in batch[:4]), batch.ptr)
    assert not any(t.is_contiguous() for t in strided[:4])
    assert torch.equal(bond_vectors(*strided), reference.bond_vectors(*batch))


def test_compiled():
    batches = [random_batch([2] * n, seed=n) for n in (2, 3, 5)]
    check_compiled(bond_vectors, *batches)
    singles = [with_one_crystal(random_batch([n], seed=n))[:4] for n in (2, 3, 5)]
    check_compiled(bond_vectors, *singles)


def bad(message, **change):
    return pytest.param(message, change, id=message[:40])


@pytest.mark.parametrize("ptr", [torch.tensor(4), torch.empty(0, dtype=torch.int64), torch.tensor([[0, 4]])])
def test_ptr_of_a_wrong_shape_beside_one_cell(ptr):
    pairs, shifts = torch.tensor([[0], [1]]), torch.zeros(1, 3, dtype=torch.int32)
    with pytest.raises(RuntimeError) as error:
        bond_vectors(torch.ones(4, 3), torch.eye(3), pairs, shifts, ptr)
    assert "bond_vectors: expected `ptr` of shape [B+1]" in str(error.value)


@pytest.mark.parametrize(
    ("message", "change"),
    [
        bad("expected `positions` of dtype float32 or float64, got int32", positions=torch.ones(4, 3).int()),
        bad("expected `positions` of shape [N, 3], got [4, 2]", positions=torch.ones(4, 2)),
        bad("expected `cell` of the dtype of `positions` (float32), got float64", cell=torch.ones(2, 3, 3).double()),
        bad("expected `cell` of shape [B, 3, 3] or [3, 3], got [3, 2]", cell=torch.ones(3, 2)),
        bad("expected `ptr` of shape [B+1] with B = 1 as in `cell`, got [3]", cell=torch.ones(1, 3, 3)),
        bad("expected `ptr` for 2 crystals, got none", ptr=None),
        bad("expected `ptr` of dtype int64, got int32", ptr=torch.tensor([0, 2, 4]).int()),
        bad("expected `ptr` from 0 to the number of atoms, 4, got 0 to 5", ptr=torch.tensor([0, 2, 5])),
        bad("expected `ptr` from 0 to the number of atoms, 4, got 1 to 4", ptr=torch.tensor([1, 2, 4])),
        bad("expected `ptr` in ascending order, got 4 after 9", ptr=torch.tensor([0, 9, 4])),
        bad("expected `pairs` of dtype int64, got int32", pairs=torch.tensor([[0, 3], [1, 2]]).int()),
        bad("expected `pairs` of shape [2, E], got [3, 2]", pairs=torch.zeros(3, 2, dtype=torch.int64)),
        bad("expected `pairs` with atoms in [0, 4), got an index outside", pairs=torch.tensor([[0, 4], [1, 2]])),
        bad("expected `pairs` with atoms in [0, 4), got an index outside", pairs=torch.tensor([[0, 3], [1, -1]])),
        bad("expected `pairs` with both ends in one crystal of `ptr`", pairs=torch.tensor([[0, 3], [2, 2]])),
        bad("expected `shifts` of dtype int32, got int64", shifts=torch.zeros(2, 3, dtype=torch.int64)),
        bad("expected `shifts` of shape [E, 3] with E = 2 as in `pairs`, got [1, 3]", shifts=torch.zeros(1, 3).int()),
        bad("expected `pairs` on the device of `positions` (meta), got cpu", positions=None),
        bad("expected `cell` on the device of `positions` (cpu), got meta", cell=torch.ones(2, 3, 3, device="meta")),
    ],
)
def test_bad_input(message, change):
    if change.get("positions", 0) is None:
        change = {"positions": torch.ones(4, 3, device="meta"), "cell": torch.ones(2, 3, 3, device="meta")}
    arguments = {
        "positions": torch.ones(4, 3),
        "cell": torch.ones(2, 3, 3),
        "pairs": torch.tensor([[0, 3], [1, 2]]),
        "shifts": torch.zeros(2, 3, dtype=torch.int32),
        "ptr": torch.tensor([0, 2, 4]),
    } | change
    with pytest.raises(RuntimeError) as error:
        bond_vectors(**arguments)
    assert f"bond_vectors: {message}" in str(error.value)


@pytest.mark.parametrize(
    ("message", "change"),
    [
        bad("expected `grad` of shape [E, 3] with E = 2 as in `pairs`, got [3, 3]", grad=torch.ones(3, 3)),
        bad("expected `pairs` with atoms in [0, 2), got an index outside", ptr=torch.tensor([0, 2, 2]), num_atoms=2),
        bad("expected counts of 0 or more, got -1 and 2", num_atoms=-1),
        bad("expected `pairs` with both ends in one crystal", ptr=torch.tensor([0, 1, 4])),
    ],
)
def test_bad_input_of_backward(message, change):
    arguments = {
        "grad": torch.ones(2, 3),
        "pairs": torch.tensor([[0, 3], [1, 2]]),
        "shifts": torch.zeros(2, 3, dtype=torch.int32),
        "ptr": torch.tensor([0, 2, 4]),
        "num_atoms": 4,
        "num_cells": 2,
    } | change
    with pytest.raises(RuntimeError) as error:
        OPS.bond_vectors_backward(**arguments)
    assert f"bond_vectors_backward: {message}" in str(error.value)
