# SPDX-License-Identifier: MIT
"""One crystal, in the conventions of docs/conventions.md; `check.check_crystal` says whether it can be used."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..errors import BadCrystalError
from . import elements


@dataclass(frozen=True)
class Crystal:
    """A periodic structure in NumPy arrays.

    Args:
        id: a name that is unique in its data set, for example ``"mp-441"`` or a file name.
        atomic_numbers: atomic numbers. [N], int64.
        positions: Cartesian positions, need not be wrapped. [N, 3], float64, Angstrom.
        cell: rows are lattice vectors. [3, 3], float64, Angstrom.
        pbc: periodic directions. [3], bool.
        source: where it came from, for messages: a file name with line number, or a data set.
        targets: relative permittivity tensors by name ("electronic", "ionic", "total"). [3, 3] each, float64.
        info: anything else that is known, for example space group or band gap.
    """

    id: str
    atomic_numbers: np.ndarray
    positions: np.ndarray
    cell: np.ndarray
    pbc: np.ndarray = field(default_factory=lambda: np.ones(3, dtype=bool))
    source: str = ""
    targets: dict[str, np.ndarray] = field(default_factory=dict)
    info: dict[str, Any] = field(default_factory=dict)

    @property
    def num_atoms(self) -> int:
        """Number of atoms in the cell."""
        return len(self.atomic_numbers)

    @property
    def label(self) -> str:
        """The name for messages: id, and the source where it says more."""
        return f"{self.id} ({self.source})" if self.source and self.source != self.id else self.id

    @property
    def formula(self) -> str:
        """The reduced formula, for example ``"SrTiO3"``."""
        return elements.formula(self.atomic_numbers)

    @classmethod
    def make(cls, id: str, atomic_numbers: Any, positions: Any, cell: Any, pbc: Any = True, **more: Any) -> Crystal:
        """Convert arrays or lists to the dtypes above; shapes are checked, physics is not (see `check_crystal`).

        Raises:
            BadCrystalError: a shape or dtype does not fit.
        """
        try:
            numbers = np.asarray(atomic_numbers, dtype=np.int64).reshape(-1)
            xyz = np.asarray(positions, dtype=np.float64).reshape(len(numbers), 3)
            lattice = np.asarray(cell, dtype=np.float64).reshape(3, 3)
            periodic = np.broadcast_to(np.asarray(pbc, dtype=bool), (3,)).copy()
        except (TypeError, ValueError, OverflowError) as error:
            raise BadCrystalError(f"{more.get('source') or id}: not a crystal: {error}") from error
        return cls(id, numbers, xyz, lattice, periodic, **more)

    @classmethod
    def from_fractional(cls, id: str, atomic_numbers: Any, fractional: Any, cell: Any, **more: Any) -> Crystal:
        """Like `make`, from fractional instead of Cartesian positions.

        Raises:
            BadCrystalError: a shape or dtype does not fit.
        """
        crystal = cls.make(id, atomic_numbers, fractional, cell, **more)
        return replace(crystal, positions=to_cartesian(crystal.positions, crystal.cell))


def to_cartesian(fractional: np.ndarray, cell: np.ndarray) -> np.ndarray:
    """Convert fractional to Cartesian positions, summed in a fixed order so that every machine gets the same bits.

    Args:
        fractional: fractional positions. [N, 3], float64
        cell: rows are lattice vectors; either one cell or one for each atom. [3, 3] or [N, 3, 3], float64, Angstrom

    Returns:
        Cartesian positions. [N, 3], float64, Angstrom
    """
    a, b, c = cell[..., 0, :], cell[..., 1, :], cell[..., 2, :]
    return (fractional[:, 0:1] * a + fractional[:, 1:2] * b) + fractional[:, 2:3] * c
