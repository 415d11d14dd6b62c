# SPDX-License-Identifier: MIT
"""Folders of phonopy calculations, written by phonopy for rock salt of springs, whose modes are known by hand."""

from __future__ import annotations

import numpy as np
import pytest
from phonopy_examples import CHARGE, CONF, SPRING, VOLUME

from dtnn_fast.datasets.sources.phonopy_run import read_phonopy_run
from dtnn_fast.errors import BadCrystalError
from dtnn_fast.phonons.ionic_tensor import E2_OVER_EPS0

phonopy = pytest.importorskip("phonopy")


def test_all_labels_of_rock_salt(folder):
    crystal = read_phonopy_run(folder, "mp-1265", "test")
    assert crystal.formula == "MgO"
    assert crystal.num_atoms == 2
    # Each atom has two springs along each axis.
    constants = 2 * SPRING * np.kron([[1, -1], [-1, 1]], np.eye(3))
    np.testing.assert_allclose(crystal.force_constants, constants, atol=1e-5)
    signs = np.where(crystal.atomic_numbers == 12, 1, -1)
    np.testing.assert_allclose(crystal.born_charges, CHARGE * signs[:, None, None] * np.eye(3), atol=1e-6)
    ionic = E2_OVER_EPS0 / VOLUME * CHARGE**2 / (2 * SPRING)
    np.testing.assert_allclose(crystal.targets["electronic"], 3.0 * np.eye(3), atol=1e-6)
    np.testing.assert_allclose(crystal.targets["ionic"], ionic * np.eye(3), rtol=1e-5, atol=1e-8)
    assert crystal.info["unstable"] is False


@pytest.mark.parametrize("form", ["FORCE_CONSTANTS", "force_constants.hdf5", "phonopy_params.yaml"])
def test_other_forms_give_the_same(folder, calculation, form):
    expected = read_phonopy_run(folder, "a", "test")
    (folder / "FORCE_SETS").unlink()
    calculation.produce_force_constants()
    if form == "FORCE_CONSTANTS":
        phonopy.file_IO.write_FORCE_CONSTANTS(calculation.force_constants, filename=str(folder / form))
    elif form == "force_constants.hdf5":
        phonopy.file_IO.write_force_constants_to_hdf5(
            calculation.force_constants, filename=str(folder / form), p2s_map=calculation.primitive.p2s_map
        )
    else:
        (folder / "phonopy.conf").unlink()
        calculation.save(str(folder / form), settings={"force_constants": True})
    crystal = read_phonopy_run(folder, "a", "test")
    np.testing.assert_allclose(crystal.force_constants, expected.force_constants, atol=1e-4)
    np.testing.assert_allclose(crystal.targets["ionic"], expected.targets["ionic"], rtol=1e-3, atol=1e-6)


def test_parts_are_labels_too(folder):
    (folder / "FORCE_SETS").unlink()
    crystal = read_phonopy_run(folder, "a", "test")
    assert crystal.force_constants is None
    assert crystal.targets.keys() == {"electronic"}
    assert crystal.born_charges is not None


def test_an_unstable_crystal_has_no_ionic_tensor(folder, calculation):
    original = calculation.dataset
    flipped = {**original, "first_atoms": [{**d, "forces": -np.array(d["forces"])} for d in original["first_atoms"]]}
    phonopy.file_IO.write_FORCE_SETS(flipped, filename=str(folder / "FORCE_SETS"))
    crystal = read_phonopy_run(folder, "a", "test")
    assert crystal.info["unstable"] is True
    assert "ionic" not in crystal.targets
    assert crystal.force_constants is not None


def without(name):
    return lambda folder: (folder / name).unlink()


def with_text(name, text):
    return lambda folder: (folder / name).write_text(text)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (without("phonopy.conf"), "no unit cell with its supercell"),
        (with_text("phonopy.conf", "PRIMITIVE_AXIS = F\n"), r"no supercell \(tag DIM\)"),
        (with_text("phonopy.conf", "DIM = 2 2\n"), "supercell or primitive cell cannot be read"),
        (with_text("phonopy.conf", CONF.replace("2 2 2", "3 3 3")), "phonopy cannot read mp-1265"),
        (with_text("BORN", "# nothing\n1 2 3\n"), "phonopy cannot read mp-1265"),
        (
            with_text("FORCE_SETS", "64\n1\n\n1\n0.01 0 0\n0 0\n"),
            "cannot read mp-1265: FORCE_SETS: expected 198 numbers .*, got 8",
        ),
        (with_text("FORCE_SETS", "64\n1\n\none\n"), "cannot read mp-1265: FORCE_SETS: could not convert"),
        (with_text("POSCAR-unitcell", "no structure"), "phonopy cannot read mp-1265"),
    ],
)
def test_damaged_folders_are_named(folder, spoil, message):
    spoil(folder)
    with pytest.raises(BadCrystalError, match=message):
        read_phonopy_run(folder, "a", "test")


def test_a_folder_without_labels_is_an_error(folder):
    for name in ("BORN", "FORCE_SETS"):
        (folder / name).unlink()
    with pytest.raises(BadCrystalError, match="neither BORN nor forces"):
        read_phonopy_run(folder, "a", "test")
