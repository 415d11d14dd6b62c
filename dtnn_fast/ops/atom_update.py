# SPDX-License-Identifier: MIT
"""Update of the atoms in a layer of the native encoder."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .._backend import reference_implementations, uses_reference
from ._fused import register_network
from ._rank2 import matmul_precision


def atom_update(
    scalar: Tensor,
    vector: Tensor,
    rank2: Tensor,
    sum_scalar: Tensor,
    sum_vector: Tensor,
    sum_rank2: Tensor,
    weights: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Update atoms from their bonds' summed messages: the second half of a layer of the native encoder, in one pass.

    The update uses layer normalisation, smooth norms (eps = 0.01) and a perceptron; csrc/ops/atom_network.h has the
    formulas. On the CPU, products follow
    ``torch.set_float32_matmul_precision``, as in `bond_messages`.

    Args:
        scalar: [N, S], float32 or float64.
        vector: [N, 3, C], dtype of `scalar`.
        rank2: symmetric tensors, stored xx yy zz yz xz xy. [N, 6, T], dtype of `scalar`.
        sum_scalar: sums over the bonds. [N, S], dtype of `scalar`.
        sum_vector: [N, 3, C], dtype of `scalar`.
        sum_rank2: [N, 6, C], dtype of `scalar`.
        weights: matrices [inputs, outputs] and biases one after the other: vector_mix [2 C, C], rank2_mix [T + C, C],
            update's two layers [2 S + 4 C, S] and [S, S + 4 C], rank2_out [C, T]. [P], dtype of `scalar`.

    Returns:
        Scalars, vectors and tensors, of the shapes of the first three.

    Raises:
        RuntimeError: a shape, dtype or device does not fit.
    """
    arguments = scalar, vector, rank2, sum_scalar, sum_vector, sum_rank2, weights
    if uses_reference():
        return reference_implementations().atom_update(*arguments)
    return torch.ops.dtnn_fast.atom_update(*arguments, matmul_precision())


def num_update_weights(scalar: int, vector: int, rank2: int) -> int:
    """Count the weights of `atom_update`, P, for these channels of the atoms."""
    update = (2 * scalar + 4 * vector + 1) * scalar + (scalar + 1) * (scalar + 4 * vector)
    return (2 * vector + 2 * rank2 + vector) * vector + update


def _fake(scalar: Tensor, vector: Tensor, rank2: Tensor, *_: Tensor) -> tuple[Tensor, ...]:
    return tuple(scalar.new_empty(x.shape) for x in (scalar, vector, rank2))


def _reference(*arguments: Any) -> tuple[Tensor, ...]:
    return reference_implementations().atom_update(*arguments)


register_network(
    "atom_update",
    names=("scalar", "vector", "rank2", "sum_scalar", "sum_vector", "sum_rank2", "weights"),
    groups=(0, 0, 0, 1, 1, 1, 2),
    double_backward_on_cpu=True,
    fake=_fake,
    reference=_reference,
)
