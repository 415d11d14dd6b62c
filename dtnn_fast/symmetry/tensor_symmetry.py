# SPDX-License-Identifier: MIT
"""Tensor elements that a point group allows, and the IEEE standard frame."""

from __future__ import annotations

import numpy as np

from ..crystals.crystal import Crystal
from ..errors import optional_import


def symmetrised(tensor: np.ndarray, rotations: np.ndarray) -> np.ndarray:
    """Return the part of a tensor that the symmetry of its crystal allows; forbidden elements are exactly zero.

    epsilon' = mean over R of (R epsilon R^T)

    Args:
        tensor: a symmetric tensor. [3, 3]
        rotations: the point group in the same frame. [G, 3, 3]; in a cell that is not perfectly symmetric these are
            only nearly rotations, so the nearest rotations are used.

    Returns:
        A symmetric tensor. [3, 3], float64
    """
    left, _, right = np.linalg.svd(rotations)
    nearest_rotations = left @ right
    mean = (nearest_rotations @ tensor @ nearest_rotations.transpose(0, 2, 1)).mean(axis=0)
    mean = 0.5 * (mean + mean.T)
    # Cells are published with six to eight digits, so terms that cancel leave a rest of this size.
    mean[np.abs(mean) < 1e-6 * np.abs(mean).max(initial=0.0)] = 0.0
    return mean


def symmetry_violation(tensor: np.ndarray, rotations: np.ndarray) -> float:
    """Measure the part of a tensor that the symmetry of its crystal forbids.

    max |epsilon - mean over R of (R epsilon R^T)| / max |epsilon|, which is zero for a tensor that obeys the symmetry
    (Neumann's principle).

    Args:
        tensor: a symmetric tensor. [3, 3]
        rotations: the point group in the same frame. [G, 3, 3]

    Returns:
        A number of 0 or more; 0 for the zero tensor.
    """
    largest = float(np.abs(tensor).max())
    if largest == 0:
        return 0.0
    mean = (rotations @ tensor @ rotations.transpose(0, 2, 1)).mean(axis=0)
    return float(np.abs(tensor - mean).max()) / largest


def from_ieee_frame(crystal: Crystal, tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Rotate tensors from the crystal's IEEE standard frame (ANSI/IEEE Std 176-1987) into the frame of its cell.

    The IEEE frame is the one of pymatgen's ``Tensor.get_ieee_rotation``, which the Materials Project uses:
    epsilon_cell = R^T epsilon_ieee R.

    Args:
        crystal: the crystal.
        tensors: symmetric tensors by name. [3, 3] each

    Returns:
        The tensors by name in the frame of `crystal.cell`.

    Raises:
        MissingPackageError: pymatgen is not installed.
    """
    core = optional_import("pymatgen.core", extra="io", purpose="rotate tensors into the frame of the cell")
    tensor_class = optional_import("pymatgen.core.tensors", extra="io", purpose="rotate tensors").Tensor
    structure = core.Structure(
        core.Lattice(crystal.cell), crystal.atomic_numbers.tolist(), crystal.positions, coords_are_cartesian=True
    )
    rotation = np.asarray(tensor_class.get_ieee_rotation(structure))
    rotated = {name: rotation.T @ tensor @ rotation for name, tensor in tensors.items()}
    # The product rounds the upper and lower half of a tensor differently.
    return {name: 0.5 * (tensor + tensor.T) for name, tensor in rotated.items()}
