# SPDX-License-Identifier: MIT
"""Reference implementation of `atom_update`."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import silu

from ._atom_algebra import dyad, layer_norm, symmetric_times_vector
from ._flat_weights import FlatWeights
from .rank2_linear import smooth_norm

_EPS = 0.01


def atom_update(
    scalar: Tensor,
    vector: Tensor,
    rank2: Tensor,
    sum_scalar: Tensor,
    sum_vector: Tensor,
    sum_rank2: Tensor,
    weights: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Mix the sums in and update scalars, vectors and tensors; see `dtnn_fast.ops.atom_update`."""
    taken = FlatWeights(weights)
    s, c, t = scalar.shape[-1], vector.shape[-1], rank2.shape[-1]
    x, x_norm = _soft_normalised(torch.cat([vector, sum_vector], dim=-1) @ taken.matrix(2 * c, c))
    y, y_norm = _soft_normalised(torch.cat([rank2, sum_rank2], dim=-1) @ taken.matrix(t + c, c))
    turned = symmetric_times_vector(y, x)
    invariants = [layer_norm(scalar), sum_scalar, x_norm, y_norm, y[:, :3].sum(1), (x * turned).sum(1)]
    hidden = silu(torch.cat(invariants, dim=-1) @ taken.matrix(2 * s + 4 * c, s) + taken.vector(s))
    update = hidden @ taken.matrix(s, s + 4 * c) + taken.vector(s + 4 * c)
    change, *gates = update.split([s, c, c, c, c], dim=-1)
    g1, g2, g3, g4 = (gate.unsqueeze(1) for gate in gates)
    return (
        scalar + change,
        vector + g1 * x + g2 * turned,
        rank2 + (g3 * y + g4 * dyad(x)) @ taken.matrix(c, t),
    )


def _soft_normalised(components: Tensor) -> tuple[Tensor, Tensor]:
    norm = smooth_norm(components, _EPS)
    scale = torch.rsqrt(1.0 + (norm * norm).mean(-1, keepdim=True))
    return components * scale.unsqueeze(1), norm * scale
