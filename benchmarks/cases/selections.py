# SPDX-License-Identifier: MIT
"""Cases of operations around neighbor lists: shorter and nested lists, reverses, nearest neighbors, fixed size."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch

from dtnn_fast import ops, reference

from . import traffic
from .case import FORWARD, Case, Inputs, Peer
from .crystals import BATCHES, CUTOFF, SIZES, batch, bonds

# The encoder's cutoffs, Angstrom; a list at the last one is cut to the middle one.
NESTED = (3.0, 4.0, CUTOFF)
NEAREST = 12


def all_cases() -> list[Case]:
    """Return the cases of each operation on every size."""
    makers = (_fixed, _bonds_within, _nested, _reverses, _nearest)
    return [make(size) for make in makers for size in SIZES]


@cache
def _num_bonds(size: str, cutoff: float) -> int:
    crystals = batch(size)
    return _pairs(ops.neighbor_list(crystals.positions, crystals.cell, crystals.pbc, cutoff, crystals.ptr))


def _pairs(found: Any) -> int:
    return found.pairs.shape[1]


def _case(op: str, name: str, inputs: Any, stages: Any, **more: Any) -> Case:
    settings = {
        "reference": getattr(reference, op),
        "passes": (FORWARD,),
        "compiled": False,
        "reference_devices": ("cpu",),
    }
    return Case(op, name, inputs, getattr(ops, op), stages=stages, **(settings | more))


def _reference_of_small(size: str) -> dict[str, Any]:
    """Reference implementations that loop in Python take seconds on more than a few crystals."""
    return {} if size in BATCHES[:2] else {"reference": None}


def _crystals(size: str, device: torch.device) -> tuple[torch.Tensor, ...]:
    """positions, cell, pbc, ptr."""
    crystals = batch(size)
    return tuple(x.to(device) for x in (crystals.positions, crystals.cell, crystals.pbc, crystals.ptr))


def _fixed(size: str) -> Case:
    """Room for a tenth more bonds than the crystals have: the list that a CUDA graph can hold."""

    def inputs(device: torch.device, seed: int) -> Inputs:
        positions, cell, pbc, ptr = _crystals(size, device)
        room = _num_bonds(size, CUTOFF) * 11 // 10
        return Inputs((), (positions + 0.01 * seed, cell, pbc, CUTOFF, room, ptr))

    def stages(inputs: Inputs) -> tuple[traffic.Traffic]:
        positions, cell, _, _, room, _ = inputs.constants
        return (
            traffic.neighbor_list(len(positions), len(cell), room)[0]._replace(flops=23 * _num_bonds(size, CUTOFF)),
        )

    def search(inputs: Inputs) -> tuple[Callable[..., Any], Inputs]:
        positions, cell, pbc, cutoff, _, ptr = inputs.constants
        return partial(ops.neighbor_list, positions, cell, pbc, cutoff, ptr), Inputs(())

    peers = (Peer("neighbor_list", search, passes=(FORWARD,)),)
    return _case("neighbor_list_fixed", size, inputs, stages, peers=peers, **_reference_of_small(size))


def _bonds_within(size: str) -> Case:
    def inputs(device: torch.device, seed: int) -> Inputs:
        positions, cell, _, ptr = _crystals(size, device)
        found = (x.to(device) for x in bonds(size).list)
        return Inputs((), (positions + 0.01 * seed, cell, *found, NESTED[1], ptr))

    def stages(inputs: Inputs) -> tuple[traffic.Traffic]:
        positions, cell, pairs, *_ = inputs.constants
        return traffic.bonds_within(len(positions), len(cell), pairs.shape[1], _num_bonds(size, NESTED[1]))

    def search(inputs: Inputs) -> tuple[Callable[..., Any], Inputs]:
        positions, cell, *_, cutoff, ptr = inputs.constants
        pbc = batch(size).pbc.to(positions.device)
        return partial(ops.neighbor_list, positions, cell, pbc, cutoff, ptr), Inputs(())

    peers = (Peer("neighbor_list", search, passes=(FORWARD,)),)
    name = f"{size}, {NESTED[2]:g} to {NESTED[1]:g} Angstrom"
    return _case("bonds_within", name, inputs, stages, peers=peers, count=_pairs)


def _nested(size: str) -> Case:
    def inputs(device: torch.device, seed: int) -> Inputs:
        positions, cell, pbc, ptr = _crystals(size, device)
        return Inputs((), (positions + 0.01 * seed, cell, pbc, NESTED, ptr))

    def stages(inputs: Inputs) -> tuple[traffic.Traffic]:
        positions, cell, *_ = inputs.constants
        counts = [_num_bonds(size, cutoff) for cutoff in NESTED]
        return traffic.nested_neighbor_lists(len(positions), len(cell), counts)

    def three_searches(inputs: Inputs) -> tuple[Callable[..., Any], Inputs]:
        positions, cell, pbc, cutoffs, ptr = inputs.constants
        return lambda: [ops.neighbor_list(positions, cell, pbc, cutoff, ptr) for cutoff in cutoffs], Inputs(())

    return _case(
        "nested_neighbor_lists",
        f"{size}, {', '.join(f'{cutoff:g}' for cutoff in NESTED)} Angstrom",
        inputs,
        stages,
        kernels=("neighbor_list", "bonds_within"),
        peers=(Peer("a neighbor_list per cutoff", three_searches, passes=(FORWARD,)),),
        **_reference_of_small(size),
    )


def _reverses(size: str) -> Case:
    def inputs(device: torch.device, seed: int) -> Inputs:
        return Inputs((), tuple(x.to(device) for x in bonds(size).list))

    def stages(inputs: Inputs) -> tuple[traffic.Traffic]:
        pairs, _, row_ptr = inputs.constants
        return traffic.bond_reverses(len(row_ptr) - 1, pairs.shape[1])

    return _case("bond_reverses", size, inputs, stages, **_reference_of_small(size))


def _nearest(size: str) -> Case:
    def inputs(device: torch.device, seed: int) -> Inputs:
        positions, cell, pbc, ptr = _crystals(size, device)
        return Inputs((), (positions + 0.01 * seed, cell, pbc, NEAREST, ptr))

    def stages(inputs: Inputs) -> tuple[traffic.Traffic]:
        positions, cell, *_ = inputs.constants
        return traffic.neighbor_list(len(positions), len(cell), NEAREST * len(positions))

    return _case(
        "nearest_neighbors",
        f"{size}, k = {NEAREST}",
        inputs,
        stages,
        kernels=("neighbor_list",),
        **_reference_of_small(size),
    )
