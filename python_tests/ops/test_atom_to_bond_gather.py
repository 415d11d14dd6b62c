# SPDX-License-Identifier: MIT
"""atom_to_bond_gather, the transpose of bond_to_atom_sum."""

from __future__ import annotations

import pytest
import torch
from helpers import check_first_and_second_derivatives, check_operator, random_graph

from dtnn_fast import reference
from dtnn_fast.ops import atom_to_bond_gather, bond_to_atom_sum, neighbor_order

ENDS = ("center", "neighbor", "sum", "difference")
PAYLOADS = ((), (1,), (5,), (3, 32), (6, 4), (0,))
HALVES = (torch.float16, torch.bfloat16)


@pytest.mark.parametrize("ends", ENDS)
@pytest.mark.parametrize("payload", PAYLOADS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equals_reference(ends, payload, dtype):
    graph = random_graph(50, 400)
    atoms = torch.randn(50, *payload, dtype=dtype)
    gathered = atom_to_bond_gather(atoms, *graph, ends)
    assert torch.equal(gathered, reference.atom_to_bond_gather(atoms, *graph, ends))


@pytest.mark.parametrize("ends", ENDS)
@pytest.mark.parametrize("payload", PAYLOADS)
@pytest.mark.parametrize("dtype", HALVES)
def test_16_bits_are_added_in_float32_and_rounded_once(ends, payload, dtype):
    graph = random_graph(50, 400)
    values = torch.randn(50, *payload).to(dtype)
    out = atom_to_bond_gather(values, *graph, ends)
    assert out.dtype == dtype
    assert torch.equal(out, atom_to_bond_gather(values.float(), *graph, ends).to(dtype))
    torch.testing.assert_close(out, reference.atom_to_bond_gather(values, *graph, ends))


@pytest.mark.parametrize("dtype", HALVES)
def test_every_16_bit_number_is_read_and_rounded_as_by_torch(dtype):
    numbers = torch.arange(-(2**15), 2**15, dtype=torch.int16).view(dtype)
    pairs = torch.stack([torch.arange(2**16), torch.randperm(2**16)])
    row_ptr = torch.arange(2**16 + 1)
    alone = atom_to_bond_gather(numbers, pairs, row_ptr)
    torch.testing.assert_close(alone, numbers, rtol=0, atol=0, equal_nan=True)
    both = atom_to_bond_gather(numbers, pairs, row_ptr, "sum")  # ties, subnormal numbers, overflow, NaN
    torch.testing.assert_close(both, numbers + numbers[pairs[1]], rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("ends", ENDS)
def test_is_the_transpose_of_the_sum(ends):
    graph = random_graph(12, 70)
    atoms = torch.randn(12, 3, dtype=torch.float64)
    bonds = torch.randn(70, 3, dtype=torch.float64)
    on_bonds = (atom_to_bond_gather(atoms, *graph, ends) * bonds).sum()
    on_atoms = (atoms * bond_to_atom_sum(bonds, *graph, ends)).sum()
    torch.testing.assert_close(on_bonds, on_atoms)


@pytest.mark.parametrize("ends", ENDS)
def test_first_and_second_derivatives(ends):
    graph = random_graph(6, 15)
    atoms = torch.randn(6, 3, 2, dtype=torch.float64)
    check_first_and_second_derivatives(lambda x: atom_to_bond_gather(x, *graph, ends) ** 2, atoms)


@pytest.mark.parametrize("ends", [(1, 0), (0, 1), (1, 1), (-1, 1)])
def test_opcheck(ends):
    graph = random_graph(6, 15)
    order = neighbor_order(graph.pairs, 6)
    atoms = torch.randn(6, 3, 2, requires_grad=True)
    check_operator(torch.ops.dtnn_fast.atom_to_bond_gather.default, atoms, *graph, *order, *ends)


@pytest.mark.parametrize("ends", ENDS)
@pytest.mark.parametrize(("atoms", "bonds"), [(0, 0), (1, 0), (7, 0)])
def test_empty(ends, atoms, bonds):
    graph = random_graph(atoms, bonds) if atoms else (torch.empty(2, 0, dtype=torch.int64), torch.tensor([0]))
    values = torch.randn(atoms, 3, requires_grad=True)
    gathered = atom_to_bond_gather(values, *graph, ends)
    assert gathered.shape == (bonds, 3)
    gathered.sum().backward()
    assert values.grad is not None
    assert not values.grad.any()


def test_non_contiguous_inputs():
    graph = random_graph(20, 90)
    atoms = torch.randn(8, 20).t()
    assert not atoms.is_contiguous()
    expected = reference.atom_to_bond_gather(atoms, *graph, "sum")
    assert torch.equal(atom_to_bond_gather(atoms, graph.pairs.t().contiguous().t(), graph.row_ptr, "sum"), expected)


GRAPH = random_graph(4, 9)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"atom_values": torch.ones(4, dtype=torch.int64)}, "expected `atom_values` of dtype float32"),
        ({"atom_values": torch.ones(5, 2)}, r"expected `atom_values` of shape \[N, ...\] with N = 4"),
        ({"pairs": GRAPH.pairs.int()}, "expected `pairs` of dtype int64, got int32"),
        ({"pairs": GRAPH.pairs + 2}, r"expected `pairs` with atoms in \[0, 4\), got an index outside"),
        ({"pairs": GRAPH.pairs - 4}, r"expected `pairs` with atoms in \[0, 4\), got an index outside"),
        ({"row_ptr": GRAPH.row_ptr.float()}, "expected `row_ptr` of dtype int64, got float32"),
    ],
)
def test_bad_input(change, message):
    arguments = {"atom_values": torch.ones(4, 2), "pairs": GRAPH.pairs, "row_ptr": GRAPH.row_ptr} | change
    with pytest.raises(RuntimeError, match=f"atom_to_bond_gather: {message}"):
        atom_to_bond_gather(**arguments)


def test_unknown_ends():
    with pytest.raises(ValueError, match="atom_to_bond_gather: expected `ends` to be one of center"):
        atom_to_bond_gather(torch.ones(4, 2), *GRAPH, "both")
