# SPDX-License-Identifier: MIT
"""Readout of a layer of the native encoder: latents from the state of the atoms."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .._backend import reference_implementations, uses_reference
from ._fused import register_network
from ._rank2 import matmul_precision


def atom_readout(
    scalar: Tensor,
    vector: Tensor,
    rank2: Tensor,
    weights: Tensor,
    scalar_out: int,
    vector_out: int,
    rank2_out: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Read latents with other channels out of the state of atoms, in one pass; tensors become traceless.

    csrc/ops/atom_network.h has the formulas. On the CPU, products follow ``torch.set_float32_matmul_precision``, as in
    `bond_messages`.

    Args:
        scalar: [N, S], float32 or float64.
        vector: [N, 3, C], dtype of `scalar`.
        rank2: symmetric tensors, stored xx yy zz yz xz xy. [N, 6, T], dtype of `scalar`.
        weights: matrices [inputs, outputs] and biases one after the other: the gates' two layers [S, S] and
            [S, S + 2 C' + 2 T'], scalar [S, S'] with its bias, hidden [S, S'], vector [C, C'], rank2 [T, T'],
            vector_in [C, C], rank2_in [T, C], turned [C, C'], squared [C, T']. [P], dtype of `scalar`.
        scalar_out: number of scalars S' of the result.
        vector_out: number of vectors C' of the result.
        rank2_out: number of tensors T' of the result.

    Returns:
        Scalars [N, S'], vectors [N, 3, C'] and tensors [N, 6, T'], dtype of `scalar`.

    Raises:
        RuntimeError: a shape, dtype or device does not fit.
    """
    arguments = scalar, vector, rank2, weights, scalar_out, vector_out, rank2_out
    if uses_reference():
        return reference_implementations().atom_readout(*arguments)
    return torch.ops.dtnn_fast.atom_readout(*arguments, matmul_precision())


def num_readout_weights(scalar: int, vector: int, rank2: int, scalar_out: int, vector_out: int, rank2_out: int) -> int:
    """Count the weights of `atom_readout`, P, for these channels of the atoms and of the result."""
    gates = (scalar + 1) * (2 * scalar + 2 * vector_out + 2 * rank2_out)
    maps = (2 * scalar + 1) * scalar_out + vector * (2 * vector_out + rank2_out + vector) + rank2 * (rank2_out + vector)
    return gates + maps


def _fake(
    scalar: Tensor, vector: Tensor, rank2: Tensor, weights: Tensor, scalar_out: int, vector_out: int, rank2_out: int
) -> tuple[Tensor, ...]:
    num_atoms = scalar.shape[0]
    shapes = (num_atoms, scalar_out), (num_atoms, 3, vector_out), (num_atoms, 6, rank2_out)
    return tuple(scalar.new_empty(shape) for shape in shapes)


def _reference(*arguments: Any) -> tuple[Tensor, ...]:
    return reference_implementations().atom_readout(*arguments)


register_network(
    "atom_readout",
    names=("scalar", "vector", "rank2", "weights"),
    groups=(0, 0, 0, 1),
    double_backward_on_cpu=True,
    fake=_fake,
    reference=_reference,
)
