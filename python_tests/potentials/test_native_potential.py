# SPDX-License-Identifier: MIT
"""The bundled potential: its symmetries, its record, and that crystals that everybody tries come out right."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from ase.build import bulk
from model_cases import rattled

from dtnn_fast.crystals import to_crystals
from dtnn_fast.crystals.elements import atomic_masses
from dtnn_fast.datasets import load_screening
from dtnn_fast.integrations import DTNNCalculator
from dtnn_fast.phonons import frequencies
from dtnn_fast.potentials import EnergyPotential, gamma_force_constants, load_energy_model, load_potential, relax
from dtnn_fast.potentials.energy_model import _BUNDLED_FOLDER
from dtnn_fast.refinement.ionic_join import IonicJoin


@pytest.fixture(scope="module")
def potential():
    return load_potential("native")


@pytest.fixture(scope="module")
def crystals():
    return to_crystals(
        [bulk("MgO", "rocksalt", a=4.25), bulk("NaCl", "rocksalt", a=5.69), bulk("Si", "diamond", a=5.47)]
    )


def test_it_is_small_and_recorded(potential):
    assert potential.name == "native"
    files = [path for path in _BUNDLED_FOLDER.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 4.5e6
    record = json.loads((_BUNDLED_FOLDER / "training.json").read_text())
    assert record["command"].startswith("dtnn-fast train-potential")
    assert record["settings"]["epochs"] == record["epochs"]
    assert record["compared"]["native"]["count"] == 80
    assert IonicJoin.load(_BUNDLED_FOLDER.parent / "lattice", "native") is not None


def test_names_are_the_same_model(crystals):
    by_name, by_folder = load_energy_model("native"), load_energy_model(_BUNDLED_FOLDER)
    np.testing.assert_array_equal(by_name.predict_energies(crystals), by_folder.predict_energies(crystals))


def test_it_is_invariant_under_rotations_reflections_and_choice_of_cell(potential, crystals):
    crystal = rattled(crystals[0], 0.08)
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    rotation *= -np.sign(np.linalg.det(rotation))
    turned = replace(crystal, positions=crystal.positions @ rotation.T, cell=crystal.cell @ rotation.T)
    matrix = np.array([[1, 1, 0], [0, 1, 0], [0, 0, 2]])
    doubled = replace(
        crystal,
        atomic_numbers=np.tile(crystal.atomic_numbers, 2),
        positions=np.concatenate([crystal.positions, crystal.positions + crystal.cell[2]]),
        cell=matrix @ crystal.cell,
    )
    one, two, three = potential.evaluate([crystal, turned, doubled])
    assert two.energy == pytest.approx(one.energy, abs=1e-9)
    assert three.energy == pytest.approx(2 * one.energy, abs=1e-9)
    np.testing.assert_allclose(two.forces, one.forces @ rotation.T, atol=1e-9)
    np.testing.assert_allclose(three.forces, np.tile(one.forces, (2, 1)), atol=1e-9)
    np.testing.assert_allclose(two.stress, rotation @ one.stress @ rotation.T, atol=1e-10)
    assert np.abs(one.forces).max() > 0.1


def test_forces_are_derivatives_of_the_energy(potential, crystals):
    crystal = rattled(crystals[0], 0.08)
    (found,) = potential.evaluate([crystal])
    step = 1e-4
    for atom, axis in ((0, 0), (1, 2)):
        moved = [crystal.positions.copy() for _ in range(2)]
        for positions, sign in zip(moved, (1, -1), strict=True):
            positions[atom, axis] += sign * step
        ends = potential.evaluate([replace(crystal, positions=positions) for positions in moved])
        slope = (ends[0].energy - ends[1].energy) / (2 * step)
        assert found.forces[atom, axis] == pytest.approx(-slope, abs=1e-6)


def test_optical_modes_of_crystals_that_everybody_tries(potential, crystals):
    """Transverse optical modes at q = 0; measured: MgO 12.0, NaCl 5.1, Si 15.6 THz. The potential is of PBE."""
    for crystal, found, measured in zip(
        crystals, gamma_force_constants(crystals, potential), (12.0, 5.1, 15.6), strict=True
    ):
        modes = frequencies(found.matrix, atomic_masses(crystal.atomic_numbers))
        assert modes == pytest.approx([measured] * 3, rel=0.2), crystal.formula
        assert np.ptp(modes) < 1e-3  # three equal ones, by symmetry


def test_a_rough_energy_rejects_no_crystal(potential):
    """Forces of an energy are never those of atoms in another order, however asymmetric displacements make them."""
    perovskite = next(crystal for crystal in load_screening() if crystal.id == "mp-2998")
    (found,) = gamma_force_constants([perovskite], potential, 0.01)
    assert found.asymmetry > 0.1 * np.abs(found.matrix).max()
    assert np.linalg.eigvalsh(found.matrix)[0] < -1.0  # cubic BaTiO3 is unstable


def test_float32_gives_the_same_force_constants(potential, crystals):
    single = load_potential("native", dtype=torch.float32)
    for one, two in zip(
        gamma_force_constants(crystals, potential), gamma_force_constants(crystals, single), strict=True
    ):
        np.testing.assert_allclose(two.matrix, one.matrix, atol=2e-3 * np.abs(one.matrix).max())


def test_it_relaxes_crystals(potential):
    (stretched,) = to_crystals([bulk("MgO", "rocksalt", a=4.4)])
    relaxed = relax(stretched, potential).crystal
    length = (4 * abs(np.linalg.det(relaxed.cell))) ** (1 / 3)
    assert length == pytest.approx(4.25, abs=0.06)  # PBE 4.25


def test_ase_takes_its_name():
    atoms = bulk("MgO", "rocksalt", a=4.3)
    atoms.rattle(0.05, seed=0)
    atoms.calc = DTNNCalculator(energy="native")
    (expected,) = EnergyPotential(load_energy_model("native")).evaluate(to_crystals([atoms]))
    np.testing.assert_allclose(atoms.get_forces(), expected.forces, atol=2e-4)
