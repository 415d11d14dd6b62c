# SPDX-License-Identifier: MIT
"""A phonopy calculation of rock salt, and its folder."""

from __future__ import annotations

import numpy as np
import pytest
from phonopy_examples import CHARGE, CONF, spring_forces, unit_cell

from dtnn_fast.crystals.crystal import Crystal
from dtnn_fast.formats.born_file import write_born_file


@pytest.fixture(scope="session")
def calculation():
    phonopy = pytest.importorskip("phonopy")
    phonon = phonopy.Phonopy(unit_cell(), supercell_matrix=np.diag([2, 2, 2]), primitive_matrix="F", log_level=0)
    phonon.generate_displacements(distance=0.01)
    phonon.forces = [spring_forces(phonon.supercell, displaced) for displaced in phonon.supercells_with_displacements]
    return phonon


@pytest.fixture
def folder(tmp_path, calculation):
    """A folder as in the phonon database."""
    file_io, vasp = pytest.importorskip("phonopy.file_IO"), pytest.importorskip("phonopy.interface.vasp")
    place = tmp_path / "mp-1265"
    place.mkdir()
    vasp.write_vasp(str(place / "POSCAR-unitcell"), unit_cell())
    (place / "phonopy.conf").write_text(CONF)
    file_io.write_FORCE_SETS(calculation.dataset, filename=str(place / "FORCE_SETS"))
    primitive = calculation.primitive
    crystal = Crystal.from_fractional("MgO", primitive.numbers, primitive.scaled_positions, primitive.cell)
    write_born_file(place / "BORN", crystal, CHARGE * np.array([np.eye(3), -np.eye(3)]), 3.0 * np.eye(3))
    return place
