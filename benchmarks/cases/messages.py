# SPDX-License-Identifier: MIT
"""The case of bond_messages: one layer of the native encoder, with its widths."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor

from dtnn_fast import ops, reference

from . import traffic
from .case import Case, Inputs
from .crystals import BATCHES, LARGE, batch, random_tensors

# Half of a list at 4 Angstrom, about 8 bonds an atom: the third of the encoder's five layers.
CUTOFF = 4.0
SCALARS, VECTORS, RADIAL, HIDDEN = 128, 32, 8, 128
FLOAT = 4


def all_cases() -> list[Case]:
    """Every size; 1024 crystals first, what a model runs on."""
    return [_messages(size) for size in reversed(BATCHES)] + [_messages(LARGE)]


@cache
def _graph(size: str) -> tuple[Tensor, Tensor, ops.NeighborOrder]:
    crystals = batch(size)
    found = ops.neighbor_list(crystals.positions, crystals.cell, crystals.pbc, CUTOFF, crystals.ptr, half=True)
    return found.pairs, found.row_ptr, ops.neighbor_order(found.pairs, len(crystals.positions))


def _messages(size: str) -> Case:
    def inputs(device: torch.device, seed: int) -> Inputs:
        pairs, row_ptr, order = _graph(size)
        atoms, bonds = row_ptr.shape[0] - 1, pairs.shape[1]
        features, outputs = SCALARS + 5 * VECTORS + RADIAL, SCALARS + 5 * VECTORS
        shapes = [(atoms, 3, VECTORS), (atoms, 6, VECTORS), (atoms, HIDDEN), (bonds, SCALARS), (bonds, 3, VECTORS)]
        shapes += [(bonds, 3), (bonds,), (bonds, RADIAL)]
        shapes += [(HIDDEN, features), (HIDDEN,), (outputs, HIDDEN), (outputs,)]
        tensors = list(random_tensors(device, seed, *shapes))
        tensors[5] = torch.nn.functional.normalize(tensors[5], dim=-1)
        for place in (8, 10):
            tensors[place] = tensors[place] / tensors[place].shape[1] ** 0.5
        by_neighbor = ops.NeighborOrder(*(x.to(device) for x in order))
        return Inputs(tuple(tensors), (pairs.to(device), row_ptr.to(device), by_neighbor))

    def stages(inputs: Inputs) -> tuple[traffic.Traffic, ...]:
        pairs, row_ptr, _ = inputs.constants
        widths = (SCALARS, VECTORS, RADIAL, HIDDEN)
        return traffic.bond_messages(row_ptr.shape[0] - 1, pairs.shape[1], *widths, FLOAT)

    return Case(
        "bond_messages",
        f"{size}, {SCALARS} + {VECTORS} channels",
        inputs,
        partial(_call, ops.bond_messages),
        partial(_call, reference.bond_messages),
        stages,
        compiled=False,  # tens of seconds for what the model's own benchmark measures
    )


def _call(messages: Callable[..., Any], *arguments: Any) -> Any:
    """The operation with its weights one by one."""
    *floats, pairs, row_ptr, order = arguments
    return messages(*floats[:8], ops.MessageWeights(*floats[8:]), pairs, row_ptr, order)
