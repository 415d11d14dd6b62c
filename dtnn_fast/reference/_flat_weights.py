# SPDX-License-Identifier: MIT
"""Weights that stand one after the other in a flat tensor."""

from __future__ import annotations

from torch import Tensor


class FlatWeights:
    """Weights taken from the front of a flat tensor, one after the other.

    Args:
        flat: matrices [inputs, outputs] and biases. [P].
    """

    def __init__(self, flat: Tensor) -> None:
        self._flat, self._used = flat, 0

    def matrix(self, inputs: int, outputs: int) -> Tensor:
        """Take the next matrix. [inputs, outputs]."""
        return self.vector(inputs * outputs).view(inputs, outputs)

    def vector(self, size: int) -> Tensor:
        """Take the next bias. [size]."""
        self._used += size
        return self._flat[self._used - size : self._used]
