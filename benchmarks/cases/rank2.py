# SPDX-License-Identifier: MIT
"""Cases of rank2_linear, rank2_gate and tensor_readout."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import torch

from dtnn_fast import ops, reference

from . import traffic
from .case import BACKWARD, FORWARD, SECOND, Case, Inputs, Peer
from .crystals import BATCHES, LARGE, SIZES, batch, random_tensors

FLOAT = 4
# K, C = D: the latents of the encoder and of the decoder; the first is measured on every size and in every pass. The
# last are scalars, which no gate of vectors and tensors meets.
SHAPES = ((6, 32), (3, 32), (3, 128), (6, 128), (1, 128))
CPU_PROMISE = {"eager": 2.0, "compiled": 1.3}
# The product itself runs at full speed in eager PyTorch; what is saved are the passes over memory around it.
GPU_PROMISE = {"eager": 2.0}
READOUT_GPU_PROMISE = {"eager": 5.0}


def all_cases() -> list[Case]:
    """Every size with K = 6, C = 32; the other shapes on 1024 crystals."""
    cases = []
    for make, shapes in ((_linear_with_norm, SHAPES), (_gate, SHAPES[:4])):
        cases += [make(size, *shapes[0]) for size in SIZES]
        cases += [make(BATCHES[-1], *shape, passes=(BACKWARD,)) for shape in shapes[1:]]
    cases += [_linear(BATCHES[-1], *shape, passes=(FORWARD, BACKWARD)) for shape in SHAPES]
    cases += [_readout(size, 32) for size in SIZES]
    cases.append(_readout(BATCHES[-1], 1))
    return cases


def _num_atoms(size: str) -> int:
    return int(batch(size).ptr[-1])


def _promises(size: str) -> dict[tuple[str, str], dict[str, float]]:
    """Batches of one and of 32 crystals are all overhead and promise nothing."""
    if size in BATCHES[:2]:
        return {}
    cuda = {("cuda", which): GPU_PROMISE for which in (FORWARD, BACKWARD)}
    return {**cuda, ("cpu", BACKWARD): CPU_PROMISE}


def _name(size: str, k: int, c: int) -> str:
    return f"{size}, N x {k} x {c}"


def _linear_with_norm(size: str, k: int, c: int, passes: tuple[str, ...] = (FORWARD, BACKWARD, SECOND)) -> Case:
    return _linear(size, k, c, passes, norm=True)


def _linear(size: str, k: int, c: int, passes: tuple[str, ...], norm: bool = False) -> Case:
    def inputs(device: torch.device, seed: int) -> Inputs:
        x, weight = random_tensors(device, seed, (_num_atoms(size), k, c), (c, c))
        return Inputs((x, weight / c**0.5), (norm,))

    def stages(inputs: Inputs) -> tuple[traffic.Traffic, ...]:
        n, k, c = inputs.leaves[0].shape
        return traffic.rank2_linear(n, k, c, c, norm, FLOAT)

    return Case(
        "rank2_linear",
        _name(size, k, c) + (", norm" if norm else ""),
        inputs,
        ops.rank2_linear,
        reference.rank2_linear,
        stages,
        passes=passes,
        peers=(Peer("e3nn", _e3nn_linear),),
        promises=_promises(size) if norm else {},
        bandwidth_promise=0.7 if size == LARGE else None,
    )


def _gate(size: str, k: int, c: int, passes: tuple[str, ...] = (FORWARD, BACKWARD, SECOND)) -> Case:
    def inputs(device: torch.device, seed: int) -> Inputs:
        n = _num_atoms(size)
        x, gate, weight, residual = random_tensors(device, seed, (n, k, c), (n, c), (c, c), (n, k, c))
        return Inputs((x, gate, weight / c**0.5, residual))

    def stages(inputs: Inputs) -> tuple[traffic.Traffic, ...]:
        n, k, c = inputs.leaves[0].shape
        return traffic.rank2_gate(n, k, c, c, FLOAT)

    return Case(
        "rank2_gate",
        _name(size, k, c),
        inputs,
        ops.rank2_gate,
        reference.rank2_gate,
        stages,
        passes=passes,
        promises=_promises(size),
        bandwidth_promise=0.7 if size == LARGE else None,
    )


def _readout(size: str, c: int) -> Case:
    def inputs(device: torch.device, seed: int) -> Inputs:
        n = _num_atoms(size)
        return Inputs(random_tensors(device, seed, (n, c), (n, 3, c), (n, 6, c)), (batch(size).ptr.to(device),))

    def stages(inputs: Inputs) -> tuple[traffic.Traffic, ...]:
        n, c = inputs.leaves[0].shape
        return traffic.tensor_readout(n, len(inputs.constants[0]) - 1, c, FLOAT)

    gpu = {("cuda", which): READOUT_GPU_PROMISE for which in (FORWARD, BACKWARD)}
    return Case(
        "tensor_readout",
        f"{size}, C = {c}",
        inputs,
        ops.tensor_readout,
        reference.tensor_readout,
        stages,
        promises={} if size in BATCHES[:2] else gpu,
        bandwidth_promise=0.7 if size == LARGE else None,
    )


def _e3nn_linear(inputs: Inputs) -> tuple[Callable[..., Any], Inputs]:
    """o3.Linear (and o3.Norm) on the same irreps: l = 0, l = 1, or l = 2 and l = 0 for the symmetric tensor.

    e3nn keeps the components of a channel together and has a weight for each irrep, so its inputs are its own.
    """
    o3 = import_module("e3nn.o3")
    x, weight = inputs.leaves
    (norm,) = inputs.constants
    n, k, c = x.shape
    irreps = {1: f"{c}x0e", 3: f"{c}x1o", 6: f"{c}x2e + {c}x0e"}[k]
    linear = o3.Linear(irreps, irreps, internal_weights=False, shared_weights=True).to(x.device)
    lengths = o3.Norm(irreps).to(x.device) if norm else None

    def call(x: torch.Tensor, weight: torch.Tensor) -> Any:
        y = linear(x, weight)
        return y if lengths is None else (y, lengths(y))

    weights = torch.cat([weight.flatten()] * (linear.weight_numel // weight.numel()))
    return call, Inputs((x.reshape(n, k * c), weights))
