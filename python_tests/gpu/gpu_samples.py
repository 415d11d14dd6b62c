# SPDX-License-Identifier: MIT
"""Inputs for every operation, made on the CPU so that all devices get the same ones."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import pytest
import torch
from helpers import random_graph
from torch import Tensor

from dtnn_fast import ops
from dtnn_fast.ops.atom_readout import num_readout_weights
from dtnn_fast.ops.atom_update import num_update_weights
from dtnn_fast.ops.decode import num_decoder_weights

# Long enough not to magnify rounding errors: the second derivative of the norm grows as 1 / eps where y is near 0.
EPS = 0.5
ENDS = ("center", "neighbor", "sum", "difference")


class Sample(NamedTuple):
    """A call ``function(*leaves, *constants)``.

    Args:
        name: operation and variant.
        op: the operation whose kernel must be there.
        function: a public function.
        leaves: differentiable arguments.
        constants: the other arguments.
        exact: its forward pass gives the bits of the CPU.
    """

    name: str
    op: str
    function: Callable[..., Any]
    leaves: tuple[Tensor, ...]
    constants: tuple[Any, ...]
    exact: bool = False

    def on(self, device: torch.device, dtype: torch.dtype) -> Sample:
        """Move the sample to a device and dtype; skip the test where this build has no kernel for the device."""
        key = device.type.upper()
        if not torch._C._dispatch_has_kernel_for_dispatch_key(f"dtnn_fast::{self.op}", key):
            pytest.skip(f"{self.op} has no {key} kernel in this build")
        leaves = tuple(x.to(device, dtype) for x in self.leaves)
        return self._replace(leaves=leaves, constants=tuple(_move(x, device) for x in self.constants))

    def call(self, *leaves: Tensor) -> tuple[Tensor, ...]:
        """The outputs as a tuple, for these leaves or the sample's own."""
        out = self.function(*(leaves or self.leaves), *self.constants)
        return (out,) if isinstance(out, Tensor) else tuple(out)

    def derivatives(self) -> list[Tensor]:
        """Outputs, first and second derivatives, along directions that depend on nothing but the shapes."""
        leaves = [x.detach().clone().requires_grad_() for x in self.leaves]
        outputs = self.call(*leaves)
        grads = [directions(out, 1).requires_grad_() for out in outputs]
        first = torch.autograd.grad(outputs, leaves, grads, create_graph=True)
        seconds = [directions(x, 2) for x in leaves]
        second = torch.autograd.grad(first, [*leaves, *grads], seconds, allow_unused=True)
        return [x.detach() for x in (*outputs, *first, *second) if x is not None]


def directions(like: Tensor, seed: int) -> Tensor:
    """Normal values of this shape, drawn on the CPU."""
    return _drawn(like.shape, seed, like.device, like.dtype).clone()


@cache
def _drawn(shape: torch.Size, seed: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(device, dtype)


def capture(call: Callable[[], list[Tensor]], device: torch.device) -> Callable[[], list[Tensor]]:
    """The call as a CUDA graph; on a CPU, which has none, the call itself."""
    if device.type == "cpu":
        return call
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        outputs = call()

    def replay() -> list[Tensor]:
        graph.replay()
        return outputs

    return replay


def _move(constant: Any, device: torch.device) -> Any:
    if isinstance(constant, (ops.NeighborOrder, ops.BondTurns)):
        return type(constant)(*(x.to(device) for x in constant))
    return constant.to(device) if isinstance(constant, Tensor) else constant


@cache
def _random(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64)


def differentiable(num_atoms: int, num_bonds: int, channels: int) -> list[Sample]:
    """Every operation with floating-point outputs, on a random graph of three crystals."""
    graph = random_graph(num_atoms, num_bonds)
    ptr = torch.tensor([0, num_atoms // 3, num_atoms // 2, num_atoms])
    samples = [_bond_vectors(num_bonds, ptr)]
    order = ops.neighbor_order(graph.pairs, num_atoms)
    for ends in ENDS:
        for payload in ((channels,), (3, channels), (6, channels), (5,)):
            constants = (graph.pairs, graph.row_ptr, ends, order)
            for op, rows in (("bond_to_atom_sum", num_bonds), ("atom_to_bond_gather", num_atoms)):
                name = f"{op}-{ends}-{'x'.join(map(str, payload))}"
                samples.append(Sample(name, op, getattr(ops, op), (_random(rows, *payload),), constants, exact=True))
    for k in (1, 3, 6):
        x, weight = _random(num_atoms, k, channels), _random(channels + 1, channels)
        gate, residual = _random(num_atoms, channels + 1), _random(num_atoms, k, channels + 1)
        samples += [
            Sample(f"rank2_linear-{k}", "rank2_linear", ops.rank2_linear, (x, weight), ()),
            Sample(f"rank2_linear-{k}-norm", "rank2_linear_norm", ops.rank2_linear, (x, weight), (True, EPS)),
            Sample(f"rank2_gate-{k}", "rank2_gate", ops.rank2_gate, (x, gate, weight), ()),
            Sample(f"rank2_gate-{k}-residual", "rank2_gate", ops.rank2_gate, (x, gate, weight, residual), ()),
        ]
    parts = _random(num_atoms, channels), _random(num_atoms, 3, channels), _random(num_atoms, 6, channels)
    samples.append(Sample("tensor_readout", "tensor_readout", ops.tensor_readout, parts, (ptr,)))
    vectors = 2.0 * torch.nn.functional.normalize(_random(num_bonds, 3), dim=-1)
    samples.append(Sample("bond_geometry", "bond_geometry", ops.bond_geometry, (vectors,), (2.5, 5)))
    return samples + _bond_messages(num_atoms, num_bonds, (channels + 1, channels, 3, channels + 2))


def fused_networks(num_atoms: int, num_bonds: int, channels: int) -> list[Sample]:
    """Whole networks in one operation."""
    graph, sizes = random_graph(num_atoms, num_bonds), (channels + 1, channels, 3)
    ptr = torch.tensor([0, num_atoms // 3, num_atoms // 2, num_atoms])
    atoms = _random(num_atoms, sizes[0]), _random(num_atoms, 3, sizes[1]), _random(num_atoms, 6, sizes[2])
    sums = *(2.0 * x for x in atoms[:2]), _random(num_atoms, 6, sizes[1])
    update = _random(num_update_weights(*sizes)) / sizes[0] ** 0.5
    readout = _random(num_readout_weights(*sizes, 3, 2, 4)) / sizes[0] ** 0.5
    perceptrons = (
        _random(2, channels, 5) / channels**0.5,
        _random(2, 5),
        _random(2, 5, channels + 3) / 5**0.5,
        _random(2, channels + 3),
    )
    bonds = _random(num_bonds, channels), _random(num_bonds).sigmoid()
    lists = graph.pairs, graph.row_ptr, ops.neighbor_order(graph.pairs, num_atoms)
    decoder = {"blocks": 2, "latent": channels, "readouts": 2}
    weights = _random(2, num_decoder_weights(*sizes, 2, **decoder)) / channels**0.5
    summed = _random(num_atoms, 3, 2), _random(4, num_atoms, channels), _random(num_atoms).sigmoid()

    def decode(*leaves: Tensor) -> Tensor:
        *inputs, bond_vector, bond_sums, envelope_sum, own_ptr = leaves
        return ops.decode(*inputs, own_ptr, bond_vector, bond_sums, envelope_sum, **decoder)

    def perceptron_sums(*leaves: Any) -> Any:
        *inputs, factors, pairs, row_ptr, order = leaves
        return ops.bond_perceptron_sum(*inputs, pairs, row_ptr, factors, order)

    summands = *bonds, *perceptrons, _random(2, num_bonds)
    return [
        Sample("decode", "decode", decode, (*atoms, weights, *summed), (ptr,)),
        Sample("bond_perceptron_sum", "bond_perceptron_sum", perceptron_sums, summands, lists),
        Sample("atom_update", "atom_update", ops.atom_update, (*atoms, *sums, update), ()),
        Sample("atom_readout", "atom_readout", ops.atom_readout, (*atoms, readout), (3, 2, 4)),
    ]


def _bond_messages(num_atoms: int, num_bonds: int, sizes: tuple[int, int, int, int]) -> list[Sample]:
    """An ordinary list and one with turns, for numbers of scalars, vectors, radial functions and hidden channels."""
    scalars, vectors, radial, hidden = sizes
    features, outputs = scalars + 5 * vectors + radial, scalars + 5 * vectors
    graph = random_graph(num_atoms, num_bonds)
    atoms = _random(num_atoms, 3, vectors), _random(num_atoms, 6, vectors), _random(num_atoms, hidden)
    bonds = _random(num_bonds, scalars), _random(num_bonds, 3, vectors)
    geometry = torch.nn.functional.normalize(_random(num_bonds, 3), dim=-1), _random(num_bonds).sigmoid()
    weights = _random(hidden, features) / (8 * features**0.5), _random(hidden)
    weights = *weights, _random(outputs, hidden) / hidden**0.5, _random(outputs)
    leaves = *atoms, *bonds, *geometry, _random(num_bonds, radial), *weights
    constants = graph.pairs, graph.row_ptr, ops.neighbor_order(graph.pairs, num_atoms)
    rotation = torch.linalg.qr(_random(num_bonds, 3, 3)).Q
    turns = ops.BondTurns(rotation, torch.arange(2 * num_bonds).reshape(2, num_bonds) % 4)
    return [
        Sample("bond_messages", "bond_messages", _messages, leaves, (*constants, None)),
        Sample("bond_messages-turned", "bond_messages", _messages, leaves, (*constants, turns)),
    ]


def _messages(*arguments: Any) -> tuple[Tensor, ...]:
    """`bond_messages` with its weights one by one, and turns of the dtype of the rest."""
    *floats, pairs, row_ptr, order, turns = arguments
    if turns is not None:
        turns = ops.BondTurns(*(x.to(floats[0].dtype) for x in turns))
    return ops.bond_messages(*floats[:8], ops.MessageWeights(*floats[8:]), pairs, row_ptr, order, turns)


def _bond_vectors(num_bonds: int, ptr: Tensor) -> Sample:
    """Bonds within each crystal."""
    generator = torch.Generator().manual_seed(0)
    num_atoms = int(ptr[-1])
    centers = torch.randint(num_atoms, (num_bonds,), generator=generator).sort().values
    crystal = torch.searchsorted(ptr, centers, right=True) - 1
    low, high = ptr[crystal], ptr[crystal + 1]
    neighbors = low + torch.randint(2**40, (num_bonds,), generator=generator) % (high - low)
    shifts = torch.randint(-3, 4, (num_bonds, 3), generator=generator, dtype=torch.int32)
    leaves = _random(num_atoms, 3), _random(len(ptr) - 1, 3, 3)
    constants = (torch.stack([centers, neighbors]), shifts, ptr)
    return Sample("bond_vectors", "bond_vectors", ops.bond_vectors, leaves, constants)


def _small() -> list[Sample]:
    """Small enough for finite differences, of which `bond_messages` with its twelve arguments takes many."""
    samples = differentiable(num_atoms=7, num_bonds=15, channels=2)
    others = [sample for sample in samples if sample.op != "bond_messages"]
    return others + _bond_messages(3, 4, (2, 1, 1, 2))


SMALL = _small()
MEDIUM = differentiable(num_atoms=700, num_bonds=9000, channels=32)
EMPTY = [sample for sample in differentiable(6, 0, 4) if sample.op.startswith(("bond", "atom"))]


def name_of(sample: Sample) -> str:
    """For the ids of parametrized tests."""
    return sample.name
