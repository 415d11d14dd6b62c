# SPDX-License-Identifier: MIT
"""Crystals with energies, forces and stresses, from the files in which other programs keep them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..crystals.checks import check_crystal
from ..crystals.crystal import Crystal, Rejected
from ..errors import BadCrystalError, BadFileError, optional_import

_PURPOSE = "read and write energies and forces"


@dataclass(frozen=True)
class ForceFrame:
    """A crystal with what a calculation of its energy gave.

    Args:
        crystal: the crystal.
        energy: of the cell. eV
        forces: minus the derivatives by the positions. [N, 3], float64, eV/Angstrom
        stress: derivative of the energy by the strain, over the volume; positive where the crystal is stretched; None
            where unknown. [3, 3], float64, eV/Angstrom^3
    """

    crystal: Crystal
    energy: float
    forces: np.ndarray
    stress: np.ndarray | None = None


def read_force_frames(paths: Iterable[Path]) -> tuple[list[ForceFrame], list[Rejected]]:
    """Read files of ASE with energies and forces: extended XYZ, trajectories, vasprun.xml, OUTCAR.

    Args:
        paths: files; every frame of each is read.

    Returns:
        The frames, and those that cannot be used with the reason: no energy or no forces, a value that is no number,
        or a crystal that is not sound.

    Raises:
        BadFileError: a file is missing, or ASE cannot read it.
        MissingPackageError: ASE is not installed.
    """
    ase_io = optional_import("ase.io", extra="io", purpose=_PURPOSE)
    frames: list[ForceFrame] = []
    rejected: list[Rejected] = []
    for path in paths:
        if not path.is_file():
            raise BadFileError(f"{path}: {'a folder; expected a file of frames' if path.is_dir() else 'no such file'}")
        if path.stat().st_size == 0:
            raise BadFileError(f"{path}: the file is empty")
        try:
            for number, atoms in enumerate(ase_io.iread(str(path), index=":"), 1):
                found = _frame(atoms, f"{path.stem}:{number}", str(path))
                (rejected if isinstance(found, Rejected) else frames).append(found)  # type: ignore[arg-type]
        except Exception as error:  # readers of ASE raise errors of all kinds
            raise BadFileError(f"{path}: ASE cannot read it: {type(error).__name__}: {error}") from error
    return frames, rejected


def frames_digest(frames: Iterable[ForceFrame]) -> str:
    """Compute a short fingerprint of frames: structures and labels, in any order."""
    digests = []
    for frame in frames:
        digest = hashlib.sha256(np.float64(frame.energy).tobytes())
        crystal = frame.crystal
        for array in (crystal.atomic_numbers, crystal.positions, crystal.cell, frame.forces, frame.stress):
            digest.update(b"" if array is None else np.ascontiguousarray(array).tobytes())
        digests.append(digest.hexdigest())
    return hashlib.sha256("".join(sorted(digests)).encode()).hexdigest()[:16]


def write_force_frames(path: Path, frames: Iterable[ForceFrame], *, append: bool = False) -> None:
    """Write frames as extended XYZ.

    Args:
        path: file to write.
        frames: frames, whose crystals keep their ids as name=.
        append: whether they are added to the file.

    Raises:
        MissingPackageError: ASE is not installed.
    """
    ase = optional_import("ase", extra="io", purpose=_PURPOSE)
    ase_io = optional_import("ase.io", extra="io", purpose=_PURPOSE)
    calculator = optional_import("ase.calculators.singlepoint", extra="io", purpose=_PURPOSE).SinglePointCalculator
    made = []
    for frame in frames:
        crystal = frame.crystal
        atoms = ase.Atoms(
            crystal.atomic_numbers, crystal.positions, cell=crystal.cell, pbc=crystal.pbc, info={"name": crystal.id}
        )
        stress = {} if frame.stress is None else {"stress": frame.stress[(0, 1, 2, 1, 0, 0), (0, 1, 2, 2, 2, 1)]}
        atoms.calc = calculator(atoms, energy=frame.energy, forces=frame.forces, **stress)
        made.append(atoms)
    ase_io.write(str(path), made, format="extxyz", append=append)


def _frame(atoms: Any, name: str, source: str) -> ForceFrame | Rejected:
    name = str(atoms.info.get("name", name))
    results = {} if atoms.calc is None else dict(atoms.calc.results)
    missing = [what for what in ("energy", "forces") if results.get(what) is None]
    if missing:
        return Rejected(name, source, f"no label: it has no {' and no '.join(missing)}")
    forces = np.asarray(results["forces"], dtype=np.float64)
    stress = None
    if results.get("stress") is not None:
        stress = np.asarray(atoms.get_stress(voigt=False), dtype=np.float64)
    try:
        crystal = Crystal.make(
            name, atoms.numbers, atoms.positions, np.array(atoms.cell), np.asarray(atoms.pbc), source=source
        )
        check_crystal(crystal)
    except BadCrystalError as error:
        return Rejected.from_error(error, name, source)
    values = [np.array(results["energy"], dtype=np.float64), forces, *([] if stress is None else [stress])]
    if not all(np.isfinite(value).all() for value in values):
        return Rejected(name, source, "its energy, forces or stress are NaN or infinite")
    return ForceFrame(crystal, float(values[0]), forces, stress)
