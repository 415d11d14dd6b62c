# SPDX-License-Identifier: MIT
"""Crystals as a page shows them: numbers, error bars, warnings, tensors with principal axes, and the structure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ..crystals.elements import NONMETALS, SYMBOLS, covalent_radii
from ..screening.store import MEAN_ERROR, TENSOR_ELEMENTS, TENSOR_ERROR

# Larger cells are not drawn, and of a long list those behind this number of atoms in all.
MOST_ATOMS_OF_CRYSTAL, MOST_ATOMS_OF_PAGE = 1000, 40_000
# What an entry lists of a crystal beside tensors and structure, by name of the column.
_PLAIN_COLUMNS = (
    "id",
    "formula",
    "source",
    "crystal_system",
    "space_group",
    "num_atoms",
    "labelled",
    "duplicate_of",
    "prototype",
    "band_gap",
    "e_above_hull",
    "figure_of_merit",
    "refractive_index",
    "training_distance",
)


def entry_of_row(row: Mapping[str, Any], targets: Sequence[str]) -> dict[str, Any]:
    """Make the entry of a crystal from a row of a screening's parts.

    Args:
        row: values by name of the column; columns may be missing.
        targets: names of the predicted tensors.

    Returns:
        What the page's scripts read, without its structure; see `add_structures`.
    """
    tensors = {}
    for target in targets:
        elements = [row.get(f"{target}_{name}") for name in TENSOR_ELEMENTS]
        if any(value is None or not math.isfinite(value) for value in elements):
            continue
        tensor = np.zeros((3, 3))
        for (i, j), value in zip(TENSOR_ELEMENTS.values(), elements, strict=True):
            tensor[i, j] = tensor[j, i] = value
        errors = {name: row.get(f"{target}_{name}") for name in (MEAN_ERROR, TENSOR_ERROR)}
        tensors[target] = tensor_entry(tensor, **errors)
    entry = {name: row.get(name) for name in _PLAIN_COLUMNS}
    entry["rank"] = row.get("rank")
    entry["warnings"] = [text for text in (row.get("warnings") or "").split("; ") if text]
    entry["codes"] = (row.get("warning_codes") or "").split()
    entry["tensors"] = tensors
    return entry


def tensor_entry(
    tensor: np.ndarray, mean_error: float | None = None, tensor_error: float | None = None
) -> dict[str, Any]:
    """Describe a symmetric tensor: its rows, its mean with error bars, and its principal values and axes.

    Args:
        tensor: relative permittivity. [3, 3], float64.
        mean_error: error bar of the mean.
        tensor_error: error bar of the tensor.

    Returns:
        `principal` from small to large, and `axes`, whose row k is the unit vector of principal value k, in the frame
        of the tensor.
    """
    principal, vectors = np.linalg.eigh(tensor)
    axes = vectors.T
    # Right-handed, with the largest component of the first two positive: the same axes on every machine.
    for k in (0, 1):
        axes[k] *= np.sign(axes[k][np.argmax(np.abs(axes[k]).round(6))])
    axes[2] = np.cross(axes[0], axes[1])
    return {
        "tensor": _rounded(tensor),
        "mean": float(np.trace(tensor) / 3.0),
        "mean_error": mean_error,
        "tensor_error": tensor_error,
        "principal": _rounded(principal),
        "axes": _rounded(axes),
        "anisotropy": float(principal[2] - principal[0]),
    }


def add_structures(entries: Sequence[dict[str, Any]], structures: Iterable[Mapping[str, Any]]) -> None:
    """Add to each entry its structure, or the reason why it is not drawn.

    Args:
        entries: of `entry_of_row`.
        structures: for each entry `lattice_vectors` [3][3] and `cartesian_site_positions` [N][3], Angstrom, and
            `species_at_sites` [N], symbols; any may be None.
    """
    num_drawn = 0
    for entry, row in zip(entries, structures, strict=True):
        lattice, species, positions = (
            row.get(name) for name in ("lattice_vectors", "species_at_sites", "cartesian_site_positions")
        )
        entry["structure"] = None
        if lattice is None or not species or positions is None or len(positions) != len(species):
            entry["no_structure"] = "the screening has no structure of this crystal"
        elif len(species) > MOST_ATOMS_OF_CRYSTAL:
            entry["no_structure"] = f"{len(species):,} atoms are too many to be drawn"
        elif num_drawn + len(species) > MOST_ATOMS_OF_PAGE:
            entry["no_structure"] = "left out to keep the page small"
        elif not (_is_finite(lattice, (3, 3)) and _is_finite(positions, (len(species), 3))):
            entry["no_structure"] = "the structure has numbers that are not finite"
        else:
            num_drawn += len(species)
            entry["structure"] = {
                "lattice": _rounded(lattice, 8),
                "species": [str(symbol) for symbol in species],
                "positions": _rounded(positions, 7),
            }
        entry["elements"] = sorted({str(symbol) for symbol in species or ()})


def radii_of(entries: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Return the covalent radius of each element in the entries, by symbol. Angstrom."""
    numbers = {symbol: z for z, symbol in enumerate(SYMBOLS) if z}
    symbols = sorted({symbol for entry in entries for symbol in entry["elements"] if symbol in numbers})
    radii = covalent_radii(np.array([numbers[symbol] for symbol in symbols], dtype=np.int64))
    return dict(zip(symbols, _rounded(radii, 4), strict=True))


def nonmetal_symbols() -> list[str]:
    """Return the symbols of nonmetals and metalloids: bonds between other elements are not drawn."""
    return [SYMBOLS[z] for z in sorted(NONMETALS)]


def _is_finite(values: Any, shape: tuple[int, ...]) -> bool:
    try:
        array = np.asarray(values, dtype=float)
    except (TypeError, ValueError):
        return False
    return array.shape == shape and bool(np.isfinite(array).all())


def _rounded(values: Any, digits: int = 6) -> Any:
    """Round to significant digits, as nested lists."""
    if isinstance(values, list | tuple | np.ndarray):
        return [_rounded(value, digits) for value in values]
    return float(f"{float(values):.{digits}g}") + 0.0
