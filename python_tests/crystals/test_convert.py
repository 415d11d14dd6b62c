# SPDX-License-Identifier: MIT
"""Structures of pymatgen and ASE become crystals; everything else is an error that says why."""

import subprocess
import sys

import numpy as np
import pytest
from ase import Atoms
from crystal_examples import ONE_OF_EACH_SYSTEM, SYSTEM_IDS, assert_same_frame, to_ase, to_pymatgen
from pymatgen.core import DummySpecies, IStructure, Lattice, Molecule, Structure

from dtnn_fast.crystals.convert import to_crystal, to_crystals
from dtnn_fast.errors import BadCrystalError

LATTICE = Lattice.cubic(4.0)


@pytest.mark.parametrize("crystal", ONE_OF_EACH_SYSTEM, ids=SYSTEM_IDS)
@pytest.mark.parametrize("convert", [to_pymatgen, to_ase, lambda crystal: crystal])
def test_round_trip(crystal, convert):
    actual = to_crystal(convert(crystal), "name")
    assert actual.id == "name"
    assert_same_frame(actual, crystal, 1e-12)


def test_pymatgen_structure_classes():
    sites = ([26, 8], [[0, 0, 0], [0.5, 0.5, 0.5]])
    for structure in (
        IStructure(LATTICE, *sites),
        Structure(LATTICE, ["Fe2+", "O2-"], sites[1]),
        Structure(LATTICE, ["Fe", "O"], sites[1], site_properties={"magmom": [5, 0]}),
    ):
        assert to_crystal(structure).atomic_numbers.tolist() == [26, 8]
    assert to_crystal(Structure(LATTICE, ["D", "O"], sites[1])).atomic_numbers.tolist() == [1, 8]


def test_pbc():
    assert to_crystal(Atoms("H", cell=[4, 4, 4], pbc=[True, False, True])).pbc.tolist() == [True, False, True]
    slab = Structure(Lattice(np.eye(3) * 4, pbc=(True, True, False)), ["H"], [[0, 0, 0]])
    assert to_crystal(slab).pbc.tolist() == [True, True, False]


def test_a_crystal_is_returned_unchanged():
    crystal = ONE_OF_EACH_SYSTEM[0]
    assert to_crystal(crystal) is crystal
    renamed = to_crystal(crystal, "new")
    assert (renamed.id, renamed.targets, renamed.info) == ("new", crystal.targets, crystal.info)


@pytest.mark.parametrize(
    ("obj", "message"),
    [
        (
            Structure(LATTICE, [{"Fe": 0.5, "Co": 0.5}], [[0, 0, 0]]),
            r"x: partial occupancy at site 0 .*Co:0.5.*: order",
        ),
        (Structure(LATTICE, ["O", {"Fe": 0.9}], [[0, 0, 0], [0.5] * 3]), r"x: partial occupancy at site 1 .*Fe:0.9"),
        (Molecule(["O"], [[0, 0, 0]]), "x: a pymatgen Molecule has no lattice"),
        (Structure(LATTICE, [DummySpecies("X")], [[0, 0, 0]]), "x: site 0 holds 'X.*', which is not an element"),
        (
            Atoms("Fe", cell=[4, 4, 4], pbc=True, info={"occupancy": {"0": {"Fe": 0.5, "Co": 0.5}}}),
            r"x: partial occupancy at site 0 \(Fe: 0.5, Co: 0.5\)",
        ),
    ],
)
def test_unusable_structures(obj, message):
    with pytest.raises(BadCrystalError, match=message):
        to_crystal(obj, "x")


@pytest.mark.parametrize(
    ("obj", "message"),
    [
        ("POSCAR", "got str: read files with"),
        ([Atoms("H")], "got list: convert several with to_crystals"),
        (None, "got NoneType$"),
        (np.zeros((3, 3)), "got ndarray$"),
        (LATTICE, "got Lattice$"),
        (Atoms("H")[0], "got Atom$"),
    ],
)
def test_objects_that_are_not_structures(obj, message):
    with pytest.raises(TypeError, match=f"to_crystal: structure: expected a pymatgen Structure.*{message}"):
        to_crystal(obj)


def test_several_structures():
    crystal = ONE_OF_EACH_SYSTEM[0]
    several = to_crystals(iter([to_ase(crystal), crystal, to_pymatgen(crystal)]))
    assert [c.id for c in several] == ["structure 0", crystal.id, "structure 2"]
    for single in (to_ase(crystal), to_pymatgen(crystal), crystal):
        assert len(to_crystals(single)) == 1
    assert to_crystals([]) == []
    with pytest.raises(TypeError, match="structure 1: expected"):
        to_crystals([crystal, "POSCAR"])
    with pytest.raises(TypeError, match="got str: read files"):
        to_crystals("POSCAR")


def test_optional_packages_are_not_imported():
    code = (
        "import sys, dtnn_fast.formats, dtnn_fast.datasets.bundled, dtnn_fast.crystals.convert\n"
        "import dtnn_fast.datasets.splits, dtnn_fast.datasets.cleaning, dtnn_fast.crystals.checks, dtnn_fast.symmetry\n"
        "print([name for name in ('pymatgen', 'ase', 'gemmi', 'moyopy', 'pyarrow', 'torch') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
