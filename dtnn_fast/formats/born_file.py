# SPDX-License-Identifier: MIT
"""BORN files of phonopy: the electronic tensor and Born effective charges, for the splitting of phonons at Gamma.

https://phonopy.github.io/phonopy/input-files.html#born-optional. phonopy writes and reads them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..crystals.crystal import Crystal
from ..errors import BadFileError, optional_import
from ..files import replacing

_PURPOSE = "write and read BORN files"


def write_born_file(path: Path | str, crystal: Crystal, born_charges: np.ndarray, electronic: np.ndarray) -> None:
    """Write the charges of the symmetry-independent atoms, averaged over the space group by phonopy.

    Args:
        path: the file, which phonopy expects to be named BORN.
        crystal: the unit cell.
        born_charges: Z[atom, field, displacement]. [N, 3, 3], e.
        electronic: electronic tensor. [3, 3].

    Raises:
        MissingPackageError: phonopy is not installed.
    """
    file_io = optional_import("phonopy.file_IO", extra="phonopy", purpose=_PURPOSE)
    lines = file_io.get_BORN_lines(_cell(crystal), born_charges, electronic)
    with replacing(path) as unfinished:
        unfinished.write_text("\n".join(line.rstrip() for line in lines) + "\n", encoding="utf-8")


def read_born_file(path: Path | str, crystal: Crystal) -> tuple[np.ndarray, np.ndarray]:
    """Read a BORN file.

    Args:
        path: the file.
        crystal: the cell that it was written for.

    Returns:
        Z[atom, field, displacement] of all atoms, [N, 3, 3], e; and the electronic tensor, [3, 3]. float64.

    Raises:
        BadFileError: the file cannot be read, or does not fit the symmetry of the cell.
        MissingPackageError: phonopy is not installed.
    """
    file_io = optional_import("phonopy.file_IO", extra="phonopy", purpose=_PURPOSE)
    structure = optional_import("phonopy.structure.cells", extra="phonopy", purpose=_PURPOSE)
    primitive = structure.Primitive(_cell(crystal), np.eye(3))
    try:
        values = file_io.parse_BORN(primitive, filename=str(path))
    except (OSError, ValueError, RuntimeError) as error:
        raise BadFileError(f"{path}: {error}") from error
    return np.array(values["born"], dtype=np.float64), np.array(values["dielectric"], dtype=np.float64)


def _cell(crystal: Crystal) -> Any:
    atoms = optional_import("phonopy.structure.atoms", extra="phonopy", purpose=_PURPOSE)
    return atoms.PhonopyAtoms(
        numbers=crystal.atomic_numbers,
        cell=crystal.cell,
        scaled_positions=crystal.positions @ np.linalg.inv(crystal.cell),
    )
