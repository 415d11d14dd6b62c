# SPDX-License-Identifier: MIT
"""Reference implementation of `atom_readout`."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import silu

from ..ops._rank2 import component_weights
from ._atom_algebra import dyad, layer_norm, symmetric_times_vector
from ._flat_weights import FlatWeights


def atom_readout(
    scalar: Tensor,
    vector: Tensor,
    rank2: Tensor,
    weights: Tensor,
    scalar_out: int,
    vector_out: int,
    rank2_out: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Read latents out of the state of atoms; see `dtnn_fast.ops.atom_readout`."""
    taken = FlatWeights(weights)
    s, c, t = scalar.shape[-1], vector.shape[-1], rank2.shape[-1]
    sizes = [s, vector_out, vector_out, rank2_out, rank2_out]
    hidden = silu(layer_norm(scalar) @ taken.matrix(s, s) + taken.vector(s))
    h, *gates = (hidden @ taken.matrix(s, sum(sizes)) + taken.vector(sum(sizes))).split(sizes, dim=-1)
    g1, g2, g3, g4 = (gate.unsqueeze(1) for gate in gates)
    new_scalar = scalar @ taken.matrix(s, scalar_out) + taken.vector(scalar_out) + h @ taken.matrix(s, scalar_out)
    own_vector, own_rank2 = vector @ taken.matrix(c, vector_out), rank2 @ taken.matrix(t, rank2_out)
    x, y = _bounded(vector @ taken.matrix(c, c)), _bounded(rank2 @ taken.matrix(t, c))
    turned = symmetric_times_vector(y, x) @ taken.matrix(c, vector_out)
    new_rank2 = (1.0 + g3) * own_rank2 + g4 * (dyad(x) @ taken.matrix(c, rank2_out))
    trace = new_rank2[:, :3].mean(1, keepdim=True)
    return (
        new_scalar,
        (1.0 + g1) * own_vector + g2 * turned,
        torch.cat([new_rank2[:, :3] - trace, new_rank2[:, 3:]], dim=1),
    )


def _bounded(x: Tensor) -> Tensor:
    squares = (component_weights(x) * x * x).sum(1)
    return x * torch.rsqrt(1.0 + squares.mean(-1, keepdim=True)).unsqueeze(1)
