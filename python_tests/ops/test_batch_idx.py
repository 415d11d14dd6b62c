# SPDX-License-Identifier: MIT
"""`batch_idx` in place of `ptr`, and the names that other packages have for parts of a neighbor list."""

import inspect

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import dtnn_fast
from dtnn_fast import ops, reference
from dtnn_fast.ops._batch_index import ptr_of_batch

PBC = torch.tensor([True, True, False])
WITH_BATCH_IDX = (
    "bond_vectors",
    "bonds_within",
    "nearest_neighbors",
    "neighbor_list",
    "neighbor_list_fixed",
    "nested_neighbor_lists",
    "tensor_readout",
)


def batch(sizes=(2, 0, 3, 1), dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    positions = 3 * torch.rand(sum(sizes), 3, generator=generator, dtype=dtype)
    cell = 3 * torch.eye(3, dtype=dtype) + 0.3 * torch.rand(len(sizes), 3, 3, generator=generator, dtype=dtype)
    index = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    return positions, cell, index, torch.tensor([0, *torch.tensor(sizes).cumsum(0)])


def every_call(positions, cell, **atoms):
    """The result of each function that takes `ptr` or `batch_idx`, as a flat list of tensors."""
    pbc, found = PBC, {}
    full = ops.neighbor_list(positions, cell, pbc, 3.5, **atoms)
    found["neighbor_list"] = [*full]
    found["neighbor_list_fixed"] = [*ops.neighbor_list_fixed(positions, cell, pbc, 2.5, 400, **atoms)]
    nested = ops.nested_neighbor_lists(positions, cell, pbc, (2.0, 3.5), half=True, **atoms)
    found["nested_neighbor_lists"] = [*nested.lists[0], *nested.lists[1], *nested.inner]
    found["nearest_neighbors"] = [*ops.nearest_neighbors(positions, cell, pbc, 3, **atoms)]
    found["bonds_within"] = [*ops.bonds_within(positions, cell, *full, 2.0, **atoms)]
    found["bond_vectors"] = [ops.bond_vectors(positions, cell, full.pairs, full.shifts, **atoms)]
    lists = ops.SkinNeighborList(3.0, 0.5)
    found["SkinNeighborList"] = [*lists.update(positions, cell, pbc, **atoms)]
    found["SkinNeighborList again"] = [*lists.update(positions + 0.01, cell, pbc, **atoms)]
    assert lists.num_rebuilds == 0
    return found


@pytest.mark.parametrize("backend", ["native", "reference"])
@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8])
def test_the_results_are_those_of_ptr(backend, dtype):
    positions, cell, index, ptr = batch()
    with dtnn_fast.use_backend(backend):
        expected = every_call(positions, cell, ptr=ptr)
        found = every_call(positions, cell, batch_idx=index.to(dtype))
    assert found.keys() == expected.keys()
    for name, tensors in expected.items():
        assert len(tensors[0]) > 0, name
        assert all(map(torch.equal, tensors, found[name])), name


@given(st.lists(st.integers(0, 4), min_size=1, max_size=6))
@settings(max_examples=50, deadline=None)
def test_ptr_counts_the_atoms_of_each_crystal(sizes):
    index = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    expected = [0, *torch.tensor(sizes).cumsum(0).tolist()]
    cell = torch.zeros(len(sizes), 3, 3)
    assert ptr_of_batch("op", len(index), None, index, cell).tolist() == expected
    assert ptr_of_batch("op", len(index), None, index, cell[0], cell[:, 0]).tolist() == expected
    assert ptr_of_batch("op", len(index), None, index, cell[0], cell[0, 0], cell[:, 0, 0]).tolist() == expected
    # Without an argument that tells it, the batch ends with the last crystal that has atoms.
    last = max((k for k, size in enumerate(sizes) if size), default=-1)
    assert ptr_of_batch("op", len(index), None, index, 3.0, None).tolist() == expected[: last + 2]


@pytest.mark.parametrize("backend", ["native", "reference"])
def test_the_readout(backend):
    _, _, index, ptr = batch((2, 3, 1))
    generator = torch.Generator().manual_seed(1)
    latents = [torch.randn(6, *shape, 2, generator=generator) for shape in ((), (3,), (6,))]
    with dtnn_fast.use_backend(backend):
        assert torch.equal(ops.tensor_readout(*latents, batch_idx=index), ops.tensor_readout(*latents, ptr))
        with pytest.raises(RuntimeError, match="expected `ptr` to be a tensor, got None"):
            ops.tensor_readout(*latents)


@pytest.mark.parametrize("backend", ["native", "reference"])
@pytest.mark.parametrize(
    ("index", "message"),
    [
        (torch.tensor([0, 1, 0, 2, 2, 3]), "sorted by crystal, got 0 at atom 2 behind 1: sort the atoms"),
        (torch.tensor([-1, 0, 0, 2, 2, 3]), "of 0 or more, got -1"),
        (torch.tensor([0, 0, 0, 2, 2, 4]), "below 4, the number of crystals, got 4"),
        (torch.tensor([0, 0, 0]), r"of shape \[6\], got \[3\]"),
        (torch.zeros(6, 1, dtype=torch.int64), r"of shape \[6\], got \[6, 1\]"),
        (torch.zeros(6), "of an integer dtype, got torch.float32"),
        (torch.zeros(6, dtype=torch.bool), "of an integer dtype, got torch.bool"),
    ],
)
def test_bad_values_are_rejected_by_name(backend, index, message):
    positions, cell, _, _ = batch()
    with (
        dtnn_fast.use_backend(backend),
        pytest.raises(RuntimeError, match=f"neighbor_list: expected `batch_idx` {message}"),
    ):
        ops.neighbor_list(positions, cell, PBC, 3.0, batch_idx=index)


def test_both_are_rejected_by_every_function():
    positions, cell, index, ptr = batch()
    bonds = ops.neighbor_list(positions, cell, PBC, 3.0, ptr)
    calls = {
        "neighbor_list": lambda **atoms: ops.neighbor_list(positions, cell, PBC, 3.0, **atoms),
        "neighbor_list_fixed": lambda **atoms: ops.neighbor_list_fixed(positions, cell, PBC, 3.0, 99, **atoms),
        "nested_neighbor_lists": lambda **atoms: ops.nested_neighbor_lists(positions, cell, PBC, (3.0,), **atoms),
        "nearest_neighbors": lambda **atoms: ops.nearest_neighbors(positions, cell, PBC, 3, **atoms),
        "bonds_within": lambda **atoms: ops.bonds_within(positions, cell, *bonds, 2.0, **atoms),
        "bond_vectors": lambda **atoms: ops.bond_vectors(positions, cell, *bonds[:2], **atoms),
        "tensor_readout": lambda **atoms: ops.tensor_readout(
            *(positions.new_ones(6, *k, 1) for k in ((), (3,), (6,))), **atoms
        ),
    }
    assert sorted(calls) == sorted(WITH_BATCH_IDX)
    for name, call in calls.items():
        with pytest.raises(RuntimeError, match=f"{name}: expected `ptr` or `batch_idx`, got both"):
            call(ptr=ptr, batch_idx=index)


def test_all_operations_on_atoms_of_crystals_take_it_and_so_do_the_references():
    takes = {name for name in ops.__all__ if "batch_idx" in parameters(getattr(ops, name))}
    assert takes == set(WITH_BATCH_IDX)
    for name in takes:
        assert parameters(getattr(ops, name)) == parameters(getattr(reference, name))


def parameters(function):
    return list(inspect.signature(function).parameters) if inspect.isfunction(function) else []


def vectors_by_index(positions, cell, index):
    bonds = ops.neighbor_list(positions, cell, PBC, 3.5, batch_idx=index)
    vectors = ops.bond_vectors(positions, cell, bonds.edge_index, bonds.shifts, batch_idx=index)
    return ops.bond_to_atom_sum(vectors.square(), bonds.edge_index, bonds.neighbor_ptr)


def test_compiled_with_one_graph_for_all_sizes():
    torch._dynamo.reset()
    compiled = torch.compile(vectors_by_index, fullgraph=True, dynamic=True, backend="aot_eager")
    for sizes in ((2, 0, 3, 1), (4, 2), (1, 1, 1, 5, 2)):
        positions, cell, index, ptr = batch(sizes)
        bonds = ops.neighbor_list(positions, cell, PBC, 3.5, ptr)
        vectors = ops.bond_vectors(positions, cell, bonds.pairs, bonds.shifts, ptr)
        expected = ops.bond_to_atom_sum(vectors.square(), bonds.pairs, bonds.row_ptr)
        assert torch.equal(compiled(positions, cell, index), expected)
        assert torch.equal(vectors_by_index(positions, cell, index), expected)
    for bad in (index.flip(0), index + 1, index - 1):
        with pytest.raises(RuntimeError, match="ptr"):
            compiled(positions, cell, bad)


class VectorsByIndex(torch.nn.Module):
    def forward(self, positions, cell, index):
        return vectors_by_index(positions, cell, index)


def test_exported_for_any_numbers_of_atoms_and_crystals():
    atoms, crystals = torch.export.Dim("atoms", min=2), torch.export.Dim("crystals", min=2)
    shapes = ({0: atoms}, {0: crystals}, {0: atoms})
    exported = torch.export.export(VectorsByIndex(), batch()[:3], dynamic_shapes=shapes).module()
    for sizes in ((1, 1), (4, 0, 2)):
        inputs = batch(sizes)[:3]
        assert torch.equal(exported(*inputs), vectors_by_index(*inputs))


def test_gradients_flow_as_with_ptr():
    positions, cell, index, ptr = batch()
    bonds = ops.neighbor_list(positions, cell, PBC, 3.0, ptr)
    found = []
    for atoms in ({"ptr": ptr}, {"batch_idx": index}):
        inputs = positions.clone().requires_grad_(), cell.clone().requires_grad_()
        energy = ops.bond_vectors(*inputs, bonds.pairs, bonds.shifts, **atoms).pow(4).sum()
        found.append(torch.autograd.grad(energy, inputs))
    assert all(map(torch.equal, *found))


def test_names_of_other_packages():
    positions, cell, _, ptr = batch()
    for bonds in (
        ops.neighbor_list(positions, cell, PBC, 3.0, ptr),
        ops.neighbor_list_fixed(positions, cell, PBC, 3.0, 500, ptr),
        ops.nearest_neighbors(positions, cell, PBC, 3, ptr),
    ):
        assert bonds.edge_index is bonds.pairs
        assert bonds.neighbor_ptr is bonds.row_ptr
        assert "edge_index" not in bonds._fields  # the list unpacks as before
