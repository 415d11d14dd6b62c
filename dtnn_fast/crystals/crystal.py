# SPDX-License-Identifier: MIT
"""`Crystal`, a structure with its dielectric tensors in NumPy arrays, and `Rejected`, a crystal that cannot be used.

Shapes and units follow docs/conventions.md. `checks.check_crystal` decides whether a model can use a crystal.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import BadCrystalError
from . import elements
from .operations import SymmetryOperations


@dataclass(frozen=True)
class Crystal:
    """A periodic structure in NumPy arrays.

    Args:
        id: a name that is unique in its data set, for example ``"mp-441"`` or a file name.
        atomic_numbers: atomic numbers. [N], int64.
        positions: Cartesian positions, need not be wrapped. [N, 3], float64, Angstrom.
        cell: rows are lattice vectors. [3, 3], float64, Angstrom.
        pbc: periodic directions. [3], bool.
        source: origin of the crystal, for messages: a file name with line number, or a data set.
        targets: relative permittivity tensors by name ("electronic", "ionic", "total"). [3, 3] each, float64.
        diagonals: diagonals of the tensors of which no more is known, by name, in the frame of the cell. [3] each,
            float64.
        means: thirds of the traces of the tensors of which no more is known, by name.
        born_charges: Born effective charges Z[atom, field, displacement] = dP[field] / du V / e. [N, 3, 3], float64,
            e; None where unknown.
        force_constants: second derivatives of the energy per cell by displacements with the period of the lattice
            (q = 0), rows and columns x, y, z of the first atom and so on. [3 N, 3 N], float64, eV/Angstrom^2; None
            where unknown.
        info: anything else that is known, for example space group, band gap or functional.
        operations: its symmetry operations, where they were searched for; see `SymmetryOperations`.
    """

    id: str
    atomic_numbers: np.ndarray
    positions: np.ndarray
    cell: np.ndarray
    pbc: np.ndarray = field(default_factory=lambda: np.ones(3, dtype=bool))
    source: str = ""
    targets: dict[str, np.ndarray] = field(default_factory=dict)
    diagonals: dict[str, np.ndarray] = field(default_factory=dict)
    means: dict[str, float] = field(default_factory=dict)
    born_charges: np.ndarray | None = None
    force_constants: np.ndarray | None = None
    info: dict[str, Any] = field(default_factory=dict)
    operations: SymmetryOperations | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "id", _escape_surrogates(self.id))
        object.__setattr__(self, "source", _escape_surrogates(self.source))

    @property
    def num_atoms(self) -> int:
        """Number of atoms in the cell."""
        return len(self.atomic_numbers)

    @property
    def label(self) -> str:
        """The name for messages: the id, with the source in brackets where it says more."""
        return f"{self.id} ({self.source})" if self.source and self.source != self.id else self.id

    @property
    def formula(self) -> str:
        """The reduced formula, for example ``"SrTiO3"``."""
        return elements.formula(self.atomic_numbers)

    @property
    def chemical_system(self) -> str:
        """The sorted symbols of the elements, for example ``"O-Sr-Ti"``."""
        return "-".join(sorted(elements.SYMBOLS[z] for z in np.unique(self.atomic_numbers).tolist()))

    @property
    def has_label(self) -> bool:
        """Whether a tensor, a part of one, or Born charges are known, which `dtnn-fast train` can learn."""
        return bool(self.targets or self.diagonals or self.means) or self.born_charges is not None

    @classmethod
    def make(cls, id: str, atomic_numbers: Any, positions: Any, cell: Any, pbc: Any = True, **fields: Any) -> Crystal:
        """Build a crystal from arrays or lists, converted to the dtypes above.

        Shapes are checked; the physics is not (see `check_crystal`).

        Args:
            id: as above.
            atomic_numbers: integers. [N]
            positions: as above. [N, 3]
            cell: as above. [3, 3]
            pbc: booleans. [] or [3]
            fields: source, labels (targets to force_constants), info and operations.

        Raises:
            BadCrystalError: a shape or dtype does not fit.
        """
        name = fields.get("source") or id
        try:
            numbers = np.asarray(atomic_numbers)
        except (TypeError, ValueError) as error:
            raise BadCrystalError(f"{name}: expected `atomic_numbers` to be integers: {error}") from error
        # A conversion to integers would silently cut off fractions. An empty list has no integers to check.
        if numbers.ndim != 1 or (numbers.size and numbers.dtype.kind not in "iu"):
            raise BadCrystalError(
                f"{name}: expected `atomic_numbers` of shape [N] and integer dtype, got shape {list(numbers.shape)} "
                f"and dtype {numbers.dtype}"
            )
        xyz = _to_floats(name, "positions", positions)
        if xyz.size == 0:
            xyz = xyz.reshape(-1, 3)
        if xyz.shape != (len(numbers), 3):
            raise BadCrystalError(
                f"{name}: expected `positions` of shape [{len(numbers)}, 3], one for each atomic number, "
                f"got {list(xyz.shape)}"
            )
        lattice = _to_floats(name, "cell", cell)
        if lattice.shape != (3, 3):
            raise BadCrystalError(f"{name}: expected `cell` of shape [3, 3], got {list(lattice.shape)}")
        periodic = np.asarray(pbc)
        if periodic.shape not in ((), (3,)) or periodic.dtype.kind not in "biu":
            raise BadCrystalError(f"{name}: expected `pbc` of one or three booleans, got {pbc!r}")
        periodic = np.full(3, periodic, dtype=bool)
        return cls(id, numbers.astype(np.int64), xyz, lattice, periodic, **fields)

    @classmethod
    def from_fractional(cls, id: str, atomic_numbers: Any, fractional: Any, cell: Any, **fields: Any) -> Crystal:
        """Build a crystal as `make` does, from fractional instead of Cartesian positions.

        Raises:
            BadCrystalError: a shape or dtype does not fit.
        """
        crystal = cls.make(id, atomic_numbers, fractional, cell, **fields)
        # The new object is still ours; a second one would check everything again.
        object.__setattr__(crystal, "positions", to_cartesian(crystal.positions, crystal.cell))
        return crystal


def _to_floats(name: str, argument: str, values: Any) -> np.ndarray:
    try:
        return np.array(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise BadCrystalError(f"{name}: expected `{argument}` to be numbers: {error}") from error


def to_cartesian(fractional: np.ndarray, cell: np.ndarray) -> np.ndarray:
    """Convert fractional to Cartesian positions, summed in a fixed order so that every machine gets the same bits.

    Args:
        fractional: fractional positions. [N, 3], float64
        cell: rows are lattice vectors; one cell for all atoms, or one per atom. [3, 3] or [N, 3, 3], float64, Angstrom

    Returns:
        Cartesian positions. [N, 3], float64, Angstrom
    """
    a, b, c = cell[..., 0, :], cell[..., 1, :], cell[..., 2, :]
    cartesian: np.ndarray = (fractional[:, 0:1] * a + fractional[:, 1:2] * b) + fractional[:, 2:3] * c
    return cartesian


def dielectric_targets(electronic: Any = None, total: Any = None, ionic: Any = None) -> dict[str, np.ndarray]:
    """Build the targets of a crystal from published tensors: symmetrised, with total = electronic + ionic.

    A static dielectric tensor is symmetric; published tensors deviate by numerical noise, so (e + e^T) / 2 is taken.

    Args:
        electronic: high-frequency relative permittivity, or None where unknown. [3, 3]
        total: static relative permittivity, or None where unknown. [3, 3]
        ionic: contribution of the lattice, used where one of the others is unknown. [3, 3]

    Returns:
        "electronic", "ionic" and "total", as far as they are known. [3, 3] each, float64

    Raises:
        BadCrystalError: a tensor has another shape, or elements that are not finite.
    """
    targets = {}
    for name, tensor in (("electronic", electronic), ("total", total), ("ionic", ionic)):
        if tensor is not None:
            targets[name] = _symmetric_tensor(name, tensor)
    if "electronic" in targets and "total" in targets:
        targets["ionic"] = targets["total"] - targets["electronic"]
    elif "electronic" in targets and "ionic" in targets:
        targets["total"] = targets["electronic"] + targets["ionic"]
    elif "total" in targets and "ionic" in targets:
        targets["electronic"] = targets["total"] - targets["ionic"]
    return targets


def _symmetric_tensor(name: str, tensor: Any) -> np.ndarray:
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


@dataclass(frozen=True)
class Rejected:
    """A rejected crystal, and the reason.

    Args:
        id: its name if known, otherwise its position in the file, for example ``"line 3"``.
        source: the file or data set that it came from.
        reason: what is wrong, in words for the user.
    """

    id: str
    source: str
    reason: str

    def __post_init__(self) -> None:
        for name in ("id", "source", "reason"):
            object.__setattr__(self, name, _escape_surrogates(getattr(self, name)))

    @classmethod
    def from_error(cls, error: Exception, id: str, source: str) -> Rejected:
        """Take the reason from an error message, without the crystal's name at its start.

        Args:
            error: raised for this crystal.
            id: as above.
            source: as above.
        """
        reason = str(error)
        for name in (f"{id} ({source})", source, id):
            if name:
                reason = reason.removeprefix(f"{name}: ")
        return cls(id, source, reason)


def write_rejected(path: Path, rejected: Iterable[Rejected]) -> None:
    """Write a CSV file with the columns id, source and reason; only the header when nothing was rejected."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "source", "reason"])
        writer.writerows([r.id, r.source, " ".join(r.reason.split())] for r in rejected)


def _escape_surrogates(text: str) -> str:
    r"""Replace what UTF-8 cannot encode by a backslash escape, so that the text can be written to any file.

    These are lone surrogates: from JSON ("\ud800"), or from a byte in a file name that is not UTF-8.
    """
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode("utf-8")
