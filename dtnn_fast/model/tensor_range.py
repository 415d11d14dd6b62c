# SPDX-License-Identifier: MIT
"""The range of a readout: offset and scale, and the positive definite form."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

# With an offset at the bound itself, the positive definite form would have no gradient.
_SMALLEST_ABOVE_BOUND = 0.1


class TensorRange(NamedTuple):
    """The range of one or more readouts, in the form in which it is applied.

    Args:
        middle: added to the scaled tensors. Broadcastable to them.
        scale: factor of the tensors. Broadcastable to them.
        bound: the smallest principal value times the unit tensor, for results of which the sum is a square root; None
            for the plain form. Broadcastable to the tensors.
    """

    middle: Tensor
    scale: Tensor
    bound: Tensor | None

    @classmethod
    def of(cls, offset: Tensor, scale: Tensor, bound: Tensor | float | None) -> TensorRange:
        """Prepare a range; see `Readout`.

        Args:
            offset: of any shape that, with two more dimensions of size 1, is broadcastable to the tensors.
            scale: shape of `offset`.
            bound: b of the positive definite form, a number or of the shape of `offset`; None for the plain form.
        """
        identity = torch.eye(3, dtype=offset.dtype, device=offset.device)
        offset, scale = offset[..., None, None], scale[..., None, None]
        if bound is None:
            return cls(offset * identity, scale, None)
        if isinstance(bound, Tensor):
            bound = bound[..., None, None]
        middle = (offset - bound).clamp(min=_SMALLEST_ABOVE_BOUND).sqrt()
        return cls(middle * identity, 0.5 * scale / middle, bound * identity)

    def apply(self, tensors: Tensor) -> Tensor:
        """Bring the tensors T of a readout to the range. [..., 3, 3] -> [..., 3, 3]."""
        result = self.middle + self.scale * tensors
        return result if self.bound is None else self.bound + result @ result
