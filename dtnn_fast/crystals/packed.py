# SPDX-License-Identifier: MIT
"""Several crystals in common arrays, one after the other, as native code takes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .crystal import Crystal


class PackedCrystals(NamedTuple):
    """Several crystals in common arrays.

    Args:
        atomic_numbers: [N], int64.
        positions: [N, 3], float64, Angstrom.
        cells: rows are lattice vectors. [B, 3, 3], float64, Angstrom.
        pbc: periodic directions. [B, 3], bool.
        ptr: crystal b owns the atoms ``ptr[b]:ptr[b + 1]``. [B+1], int64.
    """

    atomic_numbers: np.ndarray
    positions: np.ndarray
    cells: np.ndarray
    pbc: np.ndarray
    ptr: np.ndarray

    @classmethod
    def of(cls, crystals: Sequence[Crystal]) -> PackedCrystals:
        """Copy crystals, at least one, into common arrays."""
        ptr = np.zeros(len(crystals) + 1, dtype=np.int64)
        np.cumsum([crystal.num_atoms for crystal in crystals], out=ptr[1:])
        return cls(
            np.concatenate([crystal.atomic_numbers for crystal in crystals], dtype=np.int64),
            np.concatenate([crystal.positions for crystal in crystals], dtype=np.float64),
            np.array([crystal.cell for crystal in crystals], dtype=np.float64),
            np.array([crystal.pbc for crystal in crystals], dtype=np.bool_),
            ptr,
        )
