# SPDX-License-Identifier: MIT
"""Cases of bond_vectors, bond_to_atom_sum and atom_to_bond_gather."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from dtnn_fast import ops, reference

from . import traffic
from .case import BACKWARD, FORWARD, PASSES, Case, Inputs, Peer
from .crystals import BATCHES, LARGE, SIZES, bonds, random_tensors, regular_bonds

# The sums of the promises: 40 bonds an atom, as crystals have at 5 Angstrom.
NUM_BONDS, NUM_ATOMS = 400_000, 10_000
MANY = "4e5 bonds"
PAYLOADS = ((128,), (3, 32), (6, 32))
FLOAT = 4

# By operation. The forward pass of the gather is one index_select in eager PyTorch, which is as fast as memory too.
GPU_PROMISES: dict[str, dict[tuple[str, str], dict[str, float]]] = {
    "bond_vectors": {("cuda", FORWARD): {"eager": 3.0}, ("cuda", BACKWARD): {"eager": 3.0}},
    "bond_to_atom_sum": {("cuda", FORWARD): {"eager": 3.0}, ("cuda", BACKWARD): {"eager": 2.0}},
    "atom_to_bond_gather": {("cuda", BACKWARD): {"eager": 5.0}},
}


def all_cases() -> list[Case]:
    """bond_vectors on every size; sums and gathers on every size and, for the promises, on 400,000 bonds."""
    cases = [_bond_vectors(size) for size in SIZES]
    for op in ("bond_to_atom_sum", "atom_to_bond_gather"):
        cases += [_values(op, size, (3, 32), "center") for size in SIZES]
    for payload in PAYLOADS:
        cases += [_values("bond_to_atom_sum", MANY, payload, ends) for ends in ("center", "neighbor", "difference")]
    cases += [_values("atom_to_bond_gather", MANY, (3, 32), ends) for ends in ("neighbor", "difference")]
    return cases


def _bond_vectors(size: str) -> Case:
    def inputs(device: torch.device, seed: int) -> Inputs:
        graph = bonds(size)
        positions, cell = graph.batch.positions.float().to(device), graph.batch.cell.float().to(device)
        tensors = (graph.list.pairs, graph.list.shifts, graph.batch.ptr, graph.list.row_ptr)
        # With the rows and the order by neighbor, as the model passes them: the backward on CUDA would sort without.
        by_neighbor = ops.NeighborOrder(*(x.to(device) for x in graph.by_neighbor))
        return Inputs((positions + 0.01 * seed, cell), (*(x.to(device) for x in tensors), by_neighbor))

    def stages(inputs: Inputs) -> tuple[traffic.Traffic, ...]:
        (positions, cell), (pairs, *_) = inputs
        return traffic.bond_vectors(len(positions), len(cell), pairs.shape[1], FLOAT)

    promising = size not in BATCHES[:2]
    return Case(
        "bond_vectors",
        size,
        inputs,
        ops.bond_vectors,
        reference.bond_vectors,
        stages,
        promises=GPU_PROMISES["bond_vectors"] if promising else {},
        bandwidth_promise=0.7 if size == LARGE else None,
    )


def _graph(size: str) -> tuple[Tensor, Tensor, ops.NeighborOrder]:
    """pairs, row_ptr and the order by neighbor of a size, or of the 400,000 bonds."""
    if size == MANY:
        return regular_bonds(NUM_BONDS, NUM_ATOMS)
    graph = bonds(size)
    return graph.list.pairs, graph.list.row_ptr, graph.by_neighbor


def _values(op: str, size: str, payload: tuple[int, ...], ends: str) -> Case:
    """The sum or the gather of one payload."""
    is_sum = op == "bond_to_atom_sum"

    def inputs(device: torch.device, seed: int) -> Inputs:
        pairs, row_ptr, order = _graph(size)
        rows = pairs.shape[1] if is_sum else row_ptr.shape[0] - 1
        by_neighbor = ops.NeighborOrder(*(x.to(device) for x in order))
        constants = (pairs.to(device), row_ptr.to(device), ends, by_neighbor)
        return Inputs(random_tensors(device, seed, (rows, *payload)), constants)

    def stages(inputs: Inputs) -> tuple[traffic.Traffic, ...]:
        (values,), (pairs, row_ptr, _, _) = inputs
        width, atoms = values[0].numel(), row_ptr.shape[0] - 1
        return getattr(traffic, op)(atoms, pairs.shape[1], width, ends, FLOAT)

    promises: dict[tuple[str, str], dict[str, float]] = {} if size in BATCHES[:2] else dict(GPU_PROMISES[op])
    if is_sum and size == MANY and ends == "center":
        promises["cpu", BACKWARD] = {"eager": 3.0, "torch.segment_reduce": 2.0}
    peers = {("bond_to_atom_sum", "center"): SUM_PEERS, ("atom_to_bond_gather", "center"): GATHER_PEERS}
    return Case(
        op,
        f"{size}, {'E' if is_sum else 'N'} x {' x '.join(map(str, payload))}, {ends}",
        inputs,
        getattr(ops, op),
        getattr(reference, op),
        stages,
        passes=(BACKWARD,) if size == MANY else PASSES,
        peers=peers.get((op, ends), ()),
        promises=promises,
        bandwidth_promise=0.7 if size in (LARGE, MANY) else None,
    )


def _same_inputs(call: Callable[..., Any], inputs: Inputs) -> tuple[Callable[..., Any], Inputs]:
    """A peer that takes the arguments of the operation."""
    return call, inputs


def _segment_reduce(values: Tensor, pairs: Tensor, row_ptr: Tensor, *_: Any) -> Tensor:
    return torch.segment_reduce(values, "sum", offsets=row_ptr, axis=0)


def _scatter_add(values: Tensor, pairs: Tensor, row_ptr: Tensor, *_: Any) -> Tensor:
    index = pairs[0].view(-1, *(1,) * (values.dim() - 1)).expand_as(values)
    return values.new_zeros((row_ptr.shape[0] - 1, *values.shape[1:])).scatter_add(0, index, values)


def _index_select(values: Tensor, pairs: Tensor, *_: Any) -> Tensor:
    return values.index_select(0, pairs[0])


def _segment_csr(inputs: Inputs) -> tuple[Callable[..., Any], Inputs]:
    """Of torch-scatter, or of a pyg-lib that has it."""
    try:
        segment_csr = import_module("torch_scatter").segment_csr
    except ImportError:
        operations = import_module("pyg_lib.ops")
        if not hasattr(operations, "segment_csr"):
            raise ImportError("pyg_lib has no segment_csr") from None
        segment_csr = operations.segment_csr
    return lambda values, pairs, row_ptr, *_: segment_csr(values, row_ptr), inputs


SUM_PEERS = (
    Peer("torch.segment_reduce", partial(_same_inputs, _segment_reduce), passes=(FORWARD, BACKWARD)),
    Peer("torch.scatter_add", partial(_same_inputs, _scatter_add)),
    Peer("segment_csr", _segment_csr, passes=(FORWARD, BACKWARD)),
)
# The reference implementation gathers by indexing, whose backward sums with index_put; index_select's with index_add.
GATHER_PEERS = (Peer("torch.index_select", partial(_same_inputs, _index_select)),)
