# SPDX-License-Identifier: MIT
"""The labels of a packed set beside its tensors: diagonals, means, Born charges and force constants.

docs/data.md lists the arrays. Each is written only where some crystal has the label.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..crystals.crystal import Crystal

TENSORS = ("electronic", "ionic", "total")


def label_arrays(crystals: Sequence[Crystal]) -> dict[str, np.ndarray]:
    """Collect the labels of crystals in arrays; NaN where a crystal lacks a label.

    Raises:
        ValueError: Born charges or force constants do not fit the number of atoms.
    """
    arrays: dict[str, np.ndarray] = {}
    for name in TENSORS:
        if any(name in crystal.diagonals for crystal in crystals):
            unknown = np.full(3, np.nan)
            arrays[f"{name}_diagonal"] = np.array([crystal.diagonals.get(name, unknown) for crystal in crystals], float)
        if any(name in crystal.means for crystal in crystals):
            arrays[f"{name}_mean"] = np.array([crystal.means.get(name, np.nan) for crystal in crystals], float)
    for crystal in crystals:
        for name, values, rows in (
            ("born_charges", crystal.born_charges, (crystal.num_atoms, 3, 3)),
            ("force_constants", crystal.force_constants, (3 * crystal.num_atoms,) * 2),
        ):
            if values is not None and np.shape(values) != rows:
                raise ValueError(
                    f"write_packed: expected `{name}` of shape {list(rows)}, got {list(np.shape(values))} of "
                    f"{crystal.label}"
                )
    if any(crystal.born_charges is not None for crystal in crystals):
        charges = [
            np.full((crystal.num_atoms, 3, 3), np.nan) if crystal.born_charges is None else crystal.born_charges
            for crystal in crystals
        ]
        arrays["born_charges"] = np.concatenate(charges)
    if any(crystal.force_constants is not None for crystal in crystals):
        known = [crystal.force_constants for crystal in crystals if crystal.force_constants is not None]
        arrays["has_force_constants"] = np.array([crystal.force_constants is not None for crystal in crystals])
        # They are symmetric: the upper triangles hold all, and seven digits are more than any calculation gives.
        arrays["force_constants"] = np.concatenate([matrix[np.triu_indices(len(matrix))] for matrix in known]).astype(
            np.float32
        )
    return arrays


def split_labels(arrays: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    """Return the labels of each crystal as fields of `Crystal`, from checked arrays (`find_damaged_labels`).

    A value that is infinite, or NaN in parts, is returned as it is: `check_labels` finds it.
    """
    counts = arrays["num_atoms"].astype(np.int64)
    ends = np.cumsum(counts).tolist()
    labels: list[dict[str, Any]] = []
    used = 0
    for index, (count, end) in enumerate(zip(counts.tolist(), ends, strict=True)):
        of_crystal: dict[str, Any] = {"diagonals": {}, "means": {}}
        for name in TENSORS:
            diagonal, mean = arrays.get(f"{name}_diagonal"), arrays.get(f"{name}_mean")
            if diagonal is not None and not np.isnan(diagonal[index]).all():
                of_crystal["diagonals"][name] = diagonal[index].copy()
            if mean is not None and not np.isnan(mean[index]):
                of_crystal["means"][name] = float(mean[index])
        charges = arrays.get("born_charges")
        if charges is not None and count and not np.isnan(charges[end - count : end]).all():
            of_crystal["born_charges"] = charges[end - count : end].copy()
        if "has_force_constants" in arrays and arrays["has_force_constants"][index]:
            size = _triangle(count)
            of_crystal["force_constants"] = _symmetric(arrays["force_constants"][used : used + size], 3 * count)
            used += size
        labels.append(of_crystal)
    return labels


def check_labels(labels: Mapping[str, Any]) -> None:
    """Check the labels of one crystal that `split_labels` returned.

    Raises:
        ValueError: a label has elements that are NaN or infinite.
    """
    for name, diagonal in labels["diagonals"].items():
        if not np.isfinite(diagonal).all():
            raise ValueError(f"the diagonal of the {name} tensor has elements that are NaN or infinite")
    for name, mean in labels["means"].items():
        if not np.isfinite(mean):
            raise ValueError(f"the mean of the {name} tensor is infinite")
    for name in ("born_charges", "force_constants"):
        if name in labels and not np.isfinite(labels[name]).all():
            raise ValueError(f"its {name.replace('_', ' ')} have elements that are NaN or infinite")


def find_damaged_labels(arrays: Mapping[str, np.ndarray]) -> str | None:
    """Describe the first label array of a wrong shape or dtype; None if all are right.

    Args:
        arrays: arrays of a packed set whose `num_atoms` is right.
    """
    counts = arrays["num_atoms"].astype(np.int64)
    num_crystals, num_atoms = len(counts), int(counts.sum())
    shapes: dict[str, tuple[int, ...]] = {"born_charges": (num_atoms, 3, 3), "has_force_constants": (num_crystals,)}
    for name in TENSORS:
        shapes |= {f"{name}_diagonal": (num_crystals, 3), f"{name}_mean": (num_crystals,)}
    if ("has_force_constants" in arrays) != ("force_constants" in arrays):
        return "it has only one of has_force_constants and force_constants"
    if "has_force_constants" in arrays and arrays["has_force_constants"].shape == (num_crystals,):
        known = arrays["has_force_constants"].astype(bool)
        shapes["force_constants"] = (sum(_triangle(count) for count in counts[known].tolist()),)
    for name, shape in shapes.items():
        array = arrays.get(name)
        kind = "b" if name == "has_force_constants" else "f"
        if array is not None and (array.shape != shape or array.dtype.kind != kind):
            return f"{name} has shape {list(array.shape)} and dtype {array.dtype}, expected shape {list(shape)}"
    return None


def _triangle(num_atoms: int) -> int:
    """Give the number of elements in the upper triangle of the force constants."""
    return 3 * num_atoms * (3 * num_atoms + 1) // 2


def _symmetric(triangle: np.ndarray, size: int) -> np.ndarray:
    matrix = np.zeros((size, size))
    matrix[np.triu_indices(size)] = triangle
    return matrix + np.triu(matrix, 1).T
