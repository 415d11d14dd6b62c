# SPDX-License-Identifier: MIT
"""bond_to_atom_sum; its transpose is tested in test_atom_to_bond_gather.py."""

from __future__ import annotations

import pytest
import torch
from helpers import check_first_and_second_derivatives, check_operator, random_graph

from dtnn_fast import reference
from dtnn_fast.ops import NeighborOrder, bond_to_atom_sum, neighbor_order

ENDS = ("center", "neighbor", "sum", "difference")
PAYLOADS = ((), (1,), (5,), (3, 32), (6, 4), (0,))
HALVES = (torch.float16, torch.bfloat16)


@pytest.mark.parametrize("ends", ENDS)
@pytest.mark.parametrize("payload", PAYLOADS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equals_reference(ends, payload, dtype):
    graph = random_graph(50, 400)
    bonds = torch.randn(400, *payload, dtype=dtype)
    torch.testing.assert_close(bond_to_atom_sum(bonds, *graph, ends), reference.bond_to_atom_sum(bonds, *graph, ends))


@pytest.mark.parametrize("ends", ENDS)
@pytest.mark.parametrize("payload", PAYLOADS)
@pytest.mark.parametrize("dtype", HALVES)
def test_16_bits_are_added_in_float32_and_rounded_once(ends, payload, dtype):
    graph = random_graph(50, 400)
    values = torch.randn(400, *payload).to(dtype)
    out = bond_to_atom_sum(values, *graph, ends)
    assert out.dtype == dtype
    assert torch.equal(out, bond_to_atom_sum(values.float(), *graph, ends).to(dtype))
    torch.testing.assert_close(out, reference.bond_to_atom_sum(values, *graph, ends))


@pytest.mark.parametrize("ends", ENDS)
def test_hand_written_case(ends):
    pairs = torch.tensor([[0, 0, 2], [1, 0, 1]])
    row_ptr = torch.tensor([0, 2, 2, 3])
    sums = bond_to_atom_sum(torch.tensor([1.0, 10.0, 100.0]), pairs, row_ptr, ends)
    expected = {
        "center": [11, 0, 100],
        "neighbor": [10, 101, 0],
        "sum": [21, 101, 100],
        "difference": [-1, 101, -100],
    }
    assert sums.tolist() == expected[ends]


@pytest.mark.parametrize("ends", ENDS)
def test_first_and_second_derivatives(ends):
    graph = random_graph(6, 15)
    bonds = torch.randn(15, 3, 2, dtype=torch.float64)
    check_first_and_second_derivatives(lambda x: bond_to_atom_sum(x, *graph, ends) ** 2, bonds)


@pytest.mark.parametrize("ends", [(1, 0), (0, 1), (1, 1), (-1, 1)])
def test_opcheck(ends):
    graph = random_graph(6, 15)
    order = neighbor_order(graph.pairs, 6)
    bonds = torch.randn(15, 3, 2, requires_grad=True)
    check_operator(torch.ops.dtnn_fast.bond_to_atom_sum.default, bonds, *graph, *order, *ends)


@pytest.mark.parametrize("ends", ENDS)
def test_same_bits_for_any_number_of_threads(ends):
    graph = random_graph(3000, 60000)
    bonds = torch.randn(60000, 8)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        single = bond_to_atom_sum(bonds, *graph, ends)
        torch.set_num_threads(2)
        assert torch.equal(single, bond_to_atom_sum(bonds, *graph, ends))
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize(("atoms", "bonds"), [(0, 0), (1, 0), (7, 0)])
def test_empty(atoms, bonds):
    graph = random_graph(atoms, bonds) if atoms else (torch.empty(2, 0, dtype=torch.int64), torch.tensor([0]))
    for ends in ENDS:
        values = torch.randn(bonds, 3, requires_grad=True)
        sums = bond_to_atom_sum(values, *graph, ends)
        assert sums.shape == (atoms, 3)
        assert not sums.any()
        sums.sum().backward()
        assert values.grad is not None
        assert values.grad.shape == values.shape


def test_non_contiguous_inputs():
    graph = random_graph(20, 90)
    bonds = torch.randn(8, 90).t()
    pairs = graph.pairs.t().contiguous().t()
    assert not bonds.is_contiguous()
    assert not pairs.is_contiguous()
    expected = reference.bond_to_atom_sum(bonds, *graph, "sum")
    torch.testing.assert_close(bond_to_atom_sum(bonds, pairs, graph.row_ptr, "sum"), expected)


def test_full_list_equals_half_list_with_both_ends():
    """The model works on half lists thanks to this identity, for an even and an odd bond quantity."""
    half = random_graph(10, 40, seed=3)
    even, odd = torch.randn(2, 40, dtype=torch.float64)
    pairs = torch.cat([half.pairs, half.pairs.flip(0)], dim=1)
    order = torch.sort(pairs[0], stable=True).indices
    row_ptr = torch.searchsorted(pairs[0][order], torch.arange(11))
    full = pairs[:, order].contiguous(), row_ptr
    torch.testing.assert_close(
        bond_to_atom_sum(even, *half, "sum"), bond_to_atom_sum(torch.cat([even, even])[order], *full)
    )
    torch.testing.assert_close(
        bond_to_atom_sum(odd, *half, "difference"), bond_to_atom_sum(torch.cat([-odd, odd])[order], *full)
    )


GRAPH = random_graph(4, 9)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bond_values": torch.ones(9, dtype=torch.int64)}, "expected `bond_values` of dtype float32"),
        ({"bond_values": torch.ones(8, 2)}, r"expected `bond_values` of shape \[E, ...\] with E = 9"),
        ({"bond_values": torch.tensor(1.0)}, "got a scalar"),
        ({"pairs": GRAPH.pairs.int()}, "expected `pairs` of dtype int64, got int32"),
        ({"pairs": GRAPH.pairs[:1]}, r"expected `pairs` of shape \[2, E\], got \[1, 9\]"),
        ({"pairs": GRAPH.pairs.flip(1)}, "sorted by center"),
        ({"pairs": GRAPH.pairs + 4}, "out of range"),
        ({"row_ptr": GRAPH.row_ptr + 1}, "expected `row_ptr` from 0"),
        ({"row_ptr": torch.empty(0, dtype=torch.int64)}, "expected `row_ptr` of shape"),
        ({"row_ptr": torch.tensor([0, 100, -5, 3, 9])}, "another atom's segment"),
    ],
)
def test_bad_input(change, message):
    arguments = {"bond_values": torch.ones(9, 2), "pairs": GRAPH.pairs, "row_ptr": GRAPH.row_ptr} | change
    with pytest.raises(RuntimeError, match=f"bond_to_atom_sum: .*{message}"):
        bond_to_atom_sum(**arguments)


def test_bad_neighbors():
    order, segments = neighbor_order(GRAPH.pairs, 4)
    counts = segments.diff()
    first = int(segments[int(counts.argmax())])
    assert counts.max() > 1
    twice = order.clone()
    twice[first + 1] = twice[first]
    with pytest.raises(RuntimeError, match=r"bond_to_atom_sum: .* a bond twice"):
        bond_to_atom_sum(torch.ones(9, 2), *GRAPH, "neighbor", NeighborOrder(twice, segments))
    outside = torch.stack([GRAPH.pairs[0], GRAPH.pairs[1] + 4])
    with pytest.raises(RuntimeError, match=r"bond_to_atom_sum: .* are all neighbors in `pairs` in \[0, 4\)\?"):
        bond_to_atom_sum(torch.ones(9, 2), outside, GRAPH.row_ptr, "neighbor")
    with pytest.raises(RuntimeError, match=r"bond_to_atom_sum: expected `row_ptr` of shape \[N\+1\], got \[\]"):
        bond_to_atom_sum(torch.ones(9, 2), GRAPH.pairs, torch.tensor(0), "neighbor")
