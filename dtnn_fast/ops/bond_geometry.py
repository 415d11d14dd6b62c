# SPDX-License-Identifier: MIT
"""Length, direction, smooth cutoff and radial basis of bonds."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .._backend import reference_implementations, uses_reference
from ._fused import register_network


def bond_geometry(vectors: Tensor, cutoff: float, num_radial: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Evaluate the functions of bond vectors that the native encoder reads, in one pass.

    The smooth cutoff is 1 - 28 x^6 + 48 x^7 - 21 x^8 with x = length / cutoff (arXiv 2003.03123, Eq. 8, p = 6), the
    radial basis sqrt(2 / cutoff) sin(k pi length / cutoff) / length for k = 1 ... num_radial (Eq. 7).

    Args:
        vectors: bond vectors, not zero. [E, 3], float32 or float64, Angstrom.
        cutoff: Angstrom, above 0.
        num_radial: number R of radial functions.

    Returns:
        Lengths [E], unit vectors [E, 3], smooth cutoff [E] and radial basis [E, R]; dtype of `vectors`.

    Raises:
        RuntimeError: a shape or dtype does not fit, or a number is out of range.

    Example:
        >>> length, direction, envelope, radial = bond_geometry(torch.tensor([[0.0, 3.0, 4.0]]), 5.0, 2)
        >>> length, direction, envelope
        (tensor([5.]), tensor([[0.0000, 0.6000, 0.8000]]), tensor([0.]))
    """
    if uses_reference():
        return reference_implementations().bond_geometry(vectors, cutoff, num_radial)
    return torch.ops.dtnn_fast.bond_geometry(vectors, cutoff, num_radial)


def _fake(vectors: Tensor, cutoff: float, num_radial: int) -> tuple[Tensor, ...]:
    bonds = vectors.shape[0]
    return tuple(vectors.new_empty(shape) for shape in ((bonds,), (bonds, 3), (bonds,), (bonds, num_radial)))


def _reference(*arguments: Any) -> tuple[Tensor, ...]:
    return reference_implementations().bond_geometry(*arguments)


register_network(
    "bond_geometry",
    names=("vectors",),
    groups=(0,),
    grad_names=("grad_length", "grad_direction", "grad_envelope", "grad_radial"),
    fake=_fake,
    reference=_reference,
    autocast=False,  # 16 bits are too few for positions
    double_backward_on_cpu=True,
)
