# SPDX-License-Identifier: MIT
"""The three dielectric tensors of a labelled crystal."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import BadCrystalError


def dielectric_targets(electronic: Any = None, total: Any = None) -> dict[str, np.ndarray]:
    """Make the targets of a crystal from published tensors: symmetrised, with ionic = total - electronic.

    A static dielectric tensor is symmetric; published ones deviate by numerical noise, so (e + e^T) / 2 is taken.

    Args:
        electronic: high-frequency relative permittivity, or None where unknown. [3, 3]
        total: static relative permittivity, or None where unknown. [3, 3]

    Returns:
        What is known of "electronic", "ionic" and "total". [3, 3] each, float64

    Raises:
        BadCrystalError: a tensor has another shape, or elements that are no finite numbers.
    """
    targets = {}
    for name, tensor in (("electronic", electronic), ("total", total)):
        if tensor is not None:
            targets[name] = _symmetric(name, tensor)
    if len(targets) == 2:
        targets["ionic"] = targets["total"] - targets["electronic"]
    return targets


def _symmetric(name: str, tensor: Any) -> np.ndarray:
    try:
        array = np.asarray(tensor, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise BadCrystalError(f"expected the {name} tensor as 3x3 numbers: {error}") from error
    if array.shape != (3, 3):
        raise BadCrystalError(f"expected the {name} tensor of shape [3, 3], got {list(array.shape)}")
    if not np.isfinite(array).all():
        raise BadCrystalError(f"the {name} tensor has elements that are NaN or infinite")
    symmetric: np.ndarray = 0.5 * (array + array.T)
    return symmetric
