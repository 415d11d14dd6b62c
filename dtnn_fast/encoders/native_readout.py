# SPDX-License-Identifier: MIT
"""Latents read out of the state of the native encoder, with other and usually more channels.

The messages need few channels, since they are made for every bond; a decoder that reads the latents likes more of them.
The readout works on atoms only. With x and tau linear maps of the state's vectors and tensors, scaled to a root mean
square below 1,

[h, g_1 .. g_4] = MLP(normalised a_s)
s = A a_s + B h;    v = (1 + g_1) W a_v + g_2 W (tau x);    t = (1 + g_3) W a_t + g_4 W (x (x) x) without its trace
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from ..nn.layers import MLP, ChannelMix, Linear
from ..nn.symmetric_tensors import norm_squared, square, times_vector, traceless
from .native_layer import Channels, soft_scale


class NativeReadout(nn.Module):
    """The readout of one layer.

    Args:
        channels: of the state.
        outputs: how many scalars, vectors and tensors are read out.
    """

    def __init__(self, channels: Channels, outputs: Channels) -> None:
        super().__init__()
        scalar, vector, rank2 = channels.scalar, channels.vector, channels.rank2
        self.sizes = [scalar, outputs.vector, outputs.vector, outputs.rank2, outputs.rank2]
        self.norm = nn.LayerNorm(scalar, elementwise_affine=False)
        self.gates = MLP((scalar, scalar, sum(self.sizes)))
        self.scalar = Linear(scalar, outputs.scalar)
        self.hidden = Linear(scalar, outputs.scalar, bias=False)
        self.vector = ChannelMix(vector, outputs.vector)
        self.rank2 = ChannelMix(rank2, outputs.rank2)
        self.vector_in = ChannelMix(vector, vector)
        self.rank2_in = ChannelMix(rank2, vector)
        self.turned = ChannelMix(vector, outputs.vector)
        self.squared = ChannelMix(vector, outputs.rank2)
        last = cast(nn.Linear, self.gates[-1])
        with torch.no_grad():
            # Start as linear maps, near zero.
            last.weight.zero_()
            last.bias.zero_()
            for mix in (self.scalar, self.vector, self.rank2):
                mix.weight.mul_(0.1)

    def forward(self, scalar: Tensor, vector: Tensor, rank2: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Scalars [N, C], vectors [N, 3, C] and tensors [N, 6, C] of the state to those that are read out."""
        hidden, *gates = self.gates(self.norm(scalar)).split(self.sizes, dim=-1)
        g1, g2, g3, g4 = (gate.unsqueeze(1) for gate in gates)
        x, tau = self.vector_in(vector), self.rank2_in(rank2)
        x = x * soft_scale(norm_squared(x)).unsqueeze(1)
        tau = tau * soft_scale(norm_squared(tau)).unsqueeze(1)
        turned, squared = self.turned(times_vector(tau, x)), self.squared(square(x))
        return (
            self.scalar(scalar) + self.hidden(hidden),
            (1.0 + g1) * self.vector(vector) + g2 * turned,
            traceless((1.0 + g3) * self.rank2(rank2) + g4 * squared),
        )
