# SPDX-License-Identifier: MIT
"""Cases of the fused operations of a model, with the widths of the bundled model.

They are bond_geometry, bond_perceptron_sum, atom_update, atom_readout and decode.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor

from dtnn_fast import ops, reference
from dtnn_fast.ops.atom_readout import num_readout_weights
from dtnn_fast.ops.atom_update import num_update_weights
from dtnn_fast.ops.decode import num_decoder_weights

from . import traffic
from .case import BACKWARD, FORWARD, Case, Inputs
from .crystals import BATCHES, LARGE, batch, random_tensors

FLOAT = 4
# Half of a list at 5 Angstrom, which the bundled model's last layer and its decoders read.
CUTOFF = 5.0
SCALARS, VECTORS, TENSORS, RADIAL = 128, 32, 32, 8
READ = (128, 64, 32)
LAYERS, MEMBERS, BLOCKS, LATENT, READOUTS = 3, 5, 2, 64, 2


def all_cases() -> list[Case]:
    """Every operation on every size; 1024 crystals first, what a model runs on."""
    sizes = [*reversed(BATCHES), LARGE]
    return [make(size) for make in (_geometry, _perceptrons, _update, _readout, _decode) for size in sizes]


def _case(op: str, name: str, inputs: Callable[..., Inputs], stages: Any, **more: Any) -> Case:
    """A network; torch.compile would take tens of seconds for what the model's own benchmark measures."""
    settings = {"native": getattr(ops, op), "reference": getattr(reference, op)} | more
    return Case(op, name, inputs, stages=stages, passes=(FORWARD, BACKWARD), compiled=False, **settings)


def _num_atoms(size: str) -> int:
    return int(batch(size).ptr[-1])


@cache
def _graph(size: str) -> tuple[ops.NeighborList, ops.NeighborOrder]:
    crystals = batch(size)
    found = ops.neighbor_list(crystals.positions, crystals.cell, crystals.pbc, CUTOFF, crystals.ptr, half=True)
    return found, ops.neighbor_order(found.pairs, len(crystals.positions))


def _geometry(size: str) -> Case:
    def inputs(device: torch.device, seed: int) -> Inputs:
        crystals, (bonds, _) = batch(size), _graph(size)
        vectors = ops.bond_vectors(crystals.positions, crystals.cell, bonds.pairs, bonds.shifts, crystals.ptr)
        return Inputs(((1.0 + 1e-3 * seed) * vectors.float().to(device),), (CUTOFF, RADIAL))

    def stages(inputs: Inputs) -> tuple[traffic.Traffic, ...]:
        return traffic.bond_geometry(len(inputs.leaves[0]), RADIAL, FLOAT)

    return _case("bond_geometry", f"{size}, {RADIAL} radial functions", inputs, stages)


def _perceptrons(size: str) -> Case:
    perceptrons = MEMBERS * BLOCKS

    def inputs(device: torch.device, seed: int) -> Inputs:
        bonds, order = _graph(size)
        scalar, w1, b1, w2, b2 = random_tensors(
            device,
            seed,
            (bonds.pairs.shape[1], SCALARS),
            (perceptrons, SCALARS, LATENT),
            (perceptrons, LATENT),
            (perceptrons, LATENT, LATENT),
            (perceptrons, LATENT),
        )
        generator = torch.Generator(device).manual_seed(seed)
        envelope = torch.rand(len(scalar), device=device, generator=generator)
        by_neighbor = ops.NeighborOrder(*(x.to(device) for x in order))
        leaves = scalar, envelope, w1 / SCALARS**0.5, b1, w2 / LATENT**0.5, b2
        return Inputs(leaves, (bonds.pairs.to(device), bonds.row_ptr.to(device), by_neighbor))

    def stages(inputs: Inputs) -> tuple[traffic.Traffic, ...]:
        pairs, row_ptr, _ = inputs.constants
        widths = SCALARS, LATENT, LATENT, perceptrons
        return traffic.bond_perceptron_sum(len(row_ptr) - 1, pairs.shape[1], *widths, FLOAT)

    def native(*arguments: Any) -> Any:
        *others, by_neighbor = arguments
        return ops.bond_perceptron_sum(*others, None, by_neighbor)

    def by_reference(*arguments: Any) -> Any:
        return reference.bond_perceptron_sum(*arguments[:-1])

    name = f"{size}, {perceptrons} perceptrons {SCALARS}-{LATENT}-{LATENT}"
    return _case("bond_perceptron_sum", name, inputs, stages, native=native, reference=by_reference)


def _atoms(device: torch.device, seed: int, size: str, widths: tuple[int, int, int]) -> tuple[Tensor, ...]:
    """Scalars, vectors and tensors of atoms."""
    n, (s, v, t) = _num_atoms(size), widths
    return random_tensors(device, seed, (n, s), (n, 3, v), (n, 6, t))


def _weights(device: torch.device, *shape: int) -> Tensor:
    """Weights that leave numbers at about their size."""
    (weights,) = random_tensors(device, 7, shape)
    return weights / SCALARS**0.5


def _update(size: str) -> Case:
    def inputs(device: torch.device, seed: int) -> Inputs:
        atoms = _atoms(device, seed, size, (SCALARS, VECTORS, TENSORS))
        sums = _atoms(device, seed + 1, size, (SCALARS, VECTORS, VECTORS))
        return Inputs((*atoms, *sums, _weights(device, num_update_weights(SCALARS, VECTORS, TENSORS))))

    def stages(inputs: Inputs) -> tuple[traffic.Traffic, ...]:
        return traffic.atom_update(len(inputs.leaves[0]), SCALARS, VECTORS, TENSORS, FLOAT)

    return _case("atom_update", f"{size}, {SCALARS} + {VECTORS} + {TENSORS} channels", inputs, stages)


def _readout(size: str) -> Case:
    def inputs(device: torch.device, seed: int) -> Inputs:
        atoms = _atoms(device, seed, size, (SCALARS, VECTORS, TENSORS))
        count = num_readout_weights(SCALARS, VECTORS, TENSORS, *READ)
        return Inputs((*atoms, _weights(device, count)), READ)

    def stages(inputs: Inputs) -> tuple[traffic.Traffic, ...]:
        return traffic.atom_readout(len(inputs.leaves[0]), (SCALARS, VECTORS, TENSORS), READ, FLOAT)

    return _case("atom_readout", f"{size}, to {' + '.join(map(str, READ))} channels", inputs, stages)


def _decode(size: str) -> Case:
    channels = (LAYERS * READ[0], LAYERS * READ[1], LAYERS * READ[2])
    sizes = {"blocks": BLOCKS, "latent": LATENT, "readouts": READOUTS}

    def inputs(device: torch.device, seed: int) -> Inputs:
        n = _num_atoms(size)
        atoms = _atoms(device, seed, size, channels)
        bonds = random_tensors(device, seed + 1, (n, 3, VECTORS), (MEMBERS * BLOCKS, n, LATENT), (n,))
        weights = _weights(device, MEMBERS, num_decoder_weights(*channels, VECTORS, **sizes))
        return Inputs((*atoms, weights, *bonds), (batch(size).ptr.to(device),))

    def stages(inputs: Inputs) -> tuple[traffic.Traffic, ...]:
        (ptr,) = inputs.constants
        n = len(inputs.leaves[0])
        return traffic.decode(n, len(ptr) - 1, channels, VECTORS, MEMBERS, BLOCKS, LATENT, READOUTS, FLOAT)

    def call(function: Callable[..., Any], *arguments: Any) -> Any:
        scalar, vector, rank2, weights, *bonds, ptr = arguments
        return function(scalar, vector, rank2, weights, ptr, *bonds, **sizes)

    name = f"{size}, {MEMBERS} members, {BLOCKS} blocks of {LATENT}"
    functions = {"native": partial(call, ops.decode), "reference": partial(call, reference.decode)}
    return _case("decode", name, inputs, stages, **functions)
