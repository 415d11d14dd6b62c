# SPDX-License-Identifier: MIT
"""The packed form of the bundled data: NumPy arrays of integers in an .npz, exact to the published digits.

A decimal number with few digits is stored as an integer over a power of ten. Dividing the two gives back the very
float64 that reading the decimal text gives, because both are exact in float64 and division rounds correctly.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..crystals.crystal import Crystal, to_cartesian

FRACTIONAL_SCALE = 10**8
LATTICE_SCALE = 10**8
TENSOR_SCALE = 10**6


def to_integers(values: Any, scale: int) -> np.ndarray:
    """Pack decimal numbers as integers over `scale`.

    Args:
        values: numbers with no more decimals than `scale` has zeros. any shape, float64
        scale: a power of ten.

    Returns:
        Integers of 32 bits where they suffice, otherwise 64, in the shape of `values`

    Raises:
        ValueError: unpacking would not give back exactly the same numbers.
    """
    array = np.asarray(values, dtype=np.float64)
    integers = np.rint(array * scale)
    largest = np.abs(integers).max(initial=0)
    if largest >= 2**53 or not np.array_equal(integers / scale, array):
        raise ValueError(f"to_integers: expected `values` with at most the decimals of 1/{scale}, got others")
    return integers.astype(np.int32 if largest < 2**31 else np.int64)


def pack_structures(rows: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """Pack ids, formulas and structures of rows in the form of our .jsonl files.

    Args:
        rows: with the keys id, formula, lattice_angstrom, atomic_numbers, frac_coords.

    Returns:
        Arrays by name, for ``numpy.savez_compressed`` and `unpack_structures`.
    """
    return {
        "id": np.array([row["id"] for row in rows]),
        "formula": np.array([row["formula"] for row in rows]),
        "num_atoms": np.array([len(row["atomic_numbers"]) for row in rows], dtype=np.int32),
        "atomic_numbers": np.concatenate([row["atomic_numbers"] for row in rows]).astype(np.uint8),
        "lattice": to_integers([row["lattice_angstrom"] for row in rows], LATTICE_SCALE),
        "fractional": to_integers(np.concatenate([row["frac_coords"] for row in rows]), FRACTIONAL_SCALE),
    }


def unpack_structures(arrays: Mapping[str, np.ndarray], source: str) -> Iterator[Crystal]:
    """Give the crystals of `pack_structures`, each with its formula in `info`.

    Args:
        arrays: what `pack_structures` returned.
        source: the name of the data set, for messages.
    """
    counts = arrays["num_atoms"]
    ends = np.cumsum(counts, dtype=np.int64)
    numbers = arrays["atomic_numbers"].astype(np.int64)
    cells = arrays["lattice"] / LATTICE_SCALE
    # One conversion of all atoms at once: thousands of small ones take longer than everything else here.
    positions = to_cartesian(arrays["fractional"] / FRACTIONAL_SCALE, np.repeat(cells, counts, axis=0))
    names = zip(arrays["id"].tolist(), arrays["formula"].tolist(), strict=True)
    for (name, formula), cell, count, end in zip(names, cells, counts.tolist(), ends.tolist(), strict=True):
        atoms = slice(end - count, end)
        yield Crystal(
            name,
            numbers[atoms].copy(),
            positions[atoms].copy(),
            cell.copy(),
            source=source,
            info={"formula": formula},
        )


def load_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read all arrays of an .npz; pickled objects are refused."""
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}
