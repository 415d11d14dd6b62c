# SPDX-License-Identifier: MIT
"""The calculator of ASE: the model's own numbers under ASE's names, kept and recomputed by ASE's rules."""

from unittest.mock import patch

import numpy as np
import pytest
import torch
from energy_cases import energy_model
from model_cases import config

pytest.importorskip("ase")
import ase.io
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import CalculationFailed, PropertyNotImplementedError, all_properties
from ase.calculators.fd import calculate_numerical_forces
from ase.calculators.lj import LennardJones
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS

from dtnn_fast import DTNN, LatticeModel
from dtnn_fast.integrations import DTNNCalculator
from dtnn_fast.integrations import ase_calculator as module
from dtnn_fast.potentials import AsePotential


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def mgo(rattled=0.0):
    atoms = bulk("MgO", "rocksalt", a=4.21)
    atoms.rattle(rattled, seed=1)
    return atoms


def test_the_tensors_are_those_of_the_model_with_error_bars():
    atoms = mgo(0.1)
    calculator = atoms.calc = DTNNCalculator(lattice="lattice")
    model = DTNN.from_pretrained("dielectric")
    assert set(calculator.implemented_properties) <= set(all_properties)
    tensor = calculator.get_property("dielectric_tensor", atoms)
    np.testing.assert_array_equal(tensor, model.predict(atoms, "total")[0])
    result = calculator.get_dielectric(atoms)
    for name in ("electronic", "ionic", "total"):
        np.testing.assert_array_equal(getattr(result, name), model.predict(atoms, name)[0])
        mean, error = model.predict_mean_with_errors(atoms, name) if model.mean_calibrations else (None, None)
        assert mean is None or (result.mean(name), result.mean_errors[name]) == (mean[0], error[0])
    charges = calculator.get_property("born_effective_charges", atoms)
    expected = LatticeModel.from_pretrained("lattice").predict(atoms)[0].born_charges
    np.testing.assert_array_equal(charges, expected)
    own = DTNNCalculator(model).get_property("born_effective_charges", atoms)
    np.testing.assert_array_equal(own, model.predict_born_charges(atoms)[0])
    assert np.abs(own - charges).max() > 1e-4
    # ASE's own container takes names, dtypes and shapes.
    exported = calculator.export_properties()
    assert exported["natoms"] == 2
    assert exported["dielectric_tensor"].shape == (3, 3)


def test_results_are_kept_until_the_crystal_changes():
    atoms = mgo()
    atoms.calc = DTNNCalculator()
    with patch.object(module, "dielectric_of", wraps=module.dielectric_of) as computed:
        first = atoms.calc.get_property("dielectric_tensor", atoms)
        atoms.calc.get_dielectric(atoms)
        atoms.set_initial_magnetic_moments([1.0, 0.0])  # no input of the model
        atoms.calc.get_property("dielectric_tensor", atoms)
        assert computed.call_count == 1
        first[:] = 0  # a copy: the kept result stays
        assert atoms.calc.get_property("dielectric_tensor", atoms)[0, 0] > 1
        atoms.set_cell(atoms.cell * 1.02, scale_atoms=True)
        assert atoms.calc.get_property("dielectric_tensor", atoms, allow_calculation=False) is None
        second = atoms.calc.get_dielectric(atoms)
        assert computed.call_count == 2
    np.testing.assert_array_equal(second.total, DTNN.from_pretrained("dielectric").predict(atoms, "total")[0])


def test_charges_and_tensor_are_one_prediction_and_atoms_can_be_written(tmp_path):
    atoms = mgo()
    atoms.calc = DTNNCalculator(energy=energy_model())
    with patch.object(module, "dielectric_of", wraps=module.dielectric_of) as computed:
        tensor = atoms.calc.get_property("dielectric_tensor", atoms)
        atoms.get_potential_energy()
        for name in ("atoms.extxyz", "atoms.traj"):
            ase.io.write(tmp_path / name, atoms)
            read = ase.io.read(tmp_path / name)
            np.testing.assert_allclose(read.calc.results["dielectric_tensor"], tensor, atol=1e-6)
            assert read.get_potential_energy() == pytest.approx(atoms.get_potential_energy())
        assert atoms.calc.get_property("born_effective_charges", atoms).shape == (2, 3, 3)
        assert computed.call_count == 1
        atoms.positions[0] += 0.01
        atoms.calc.get_property("born_effective_charges", atoms)
        assert computed.call_count == 2
        assert np.abs(atoms.calc.get_property("dielectric_tensor", atoms) - tensor).max() > 1e-6


def test_a_direct_calculation_of_another_crystal_forgets_the_first():
    calculator = DTNNCalculator(energy=energy_model())
    calculator.calculate(mgo(), ["dielectric_tensor"])
    calculator.calculate(mgo(0.1), ["energy"])
    assert "dielectric_tensor" not in calculator.results
    with pytest.raises(CalculationFailed, match="expected `atoms`, got None before any calculation"):
        DTNNCalculator().calculate()


def test_forces_and_stress_are_the_derivatives_of_the_energy():
    atoms = mgo(0.1)
    atoms.calc = DTNNCalculator(energy=energy_model())
    forces, stress = atoms.get_forces(), atoms.get_stress(voigt=False)
    assert np.abs(forces).max() > 1e-3
    assert np.abs(stress).max() > 1e-4
    numeric = calculate_numerical_forces(atoms, eps=1e-4)
    np.testing.assert_allclose(forces, numeric, atol=1e-7)
    cell = atoms.cell.array.copy()
    for i in range(3):
        for j in range(3):
            energies = []
            for sign in (1, -1):
                strain = np.eye(3)
                strain[i, j] += sign * 5e-5
                strain[j, i] += sign * 5e-5
                atoms.set_cell(cell @ strain, scale_atoms=True)
                energies.append(atoms.get_potential_energy())
            atoms.set_cell(cell, scale_atoms=True)
            slope = (energies[0] - energies[1]) / 2e-4 / atoms.get_volume()
            assert stress[i, j] == pytest.approx(slope, abs=1e-7)
    # Asking for one part computes no other.
    assert "dielectric_tensor" not in atoms.calc.results
    atoms.get_forces()
    atoms.calc.get_property("dielectric_tensor", atoms)
    assert {"energy", "forces", "stress", "dielectric_tensor"} <= set(atoms.calc.results)


def test_ase_relaxes_with_a_potential():
    potential = AsePotential(LennardJones(sigma=2.0, epsilon=0.1, rc=6.0))
    atoms = Atoms("Mg2", [[0, 0, 0], [1.4, 1.6, 1.7]], cell=[3.0, 3.1, 3.2], pbc=True)
    atoms.calc = DTNNCalculator(energy=potential)
    direct = atoms.copy()
    direct.calc = LennardJones(sigma=2.0, epsilon=0.1, rc=6.0)
    np.testing.assert_allclose(atoms.get_stress(), direct.get_stress())
    assert atoms.get_potential_energy() == atoms.get_potential_energy(force_consistent=True)
    BFGS(FrechetCellFilter(atoms), logfile=None).run(fmax=0.01, steps=200)
    assert np.abs(atoms.get_forces()).max() < 0.01
    assert atoms.calc.get_dielectric(atoms).total.shape == (3, 3)


@pytest.mark.parametrize(
    ("atoms", "reason"),
    [
        (bulk("Po", "sc", a=3.35), "Po"),
        (Atoms("MgO", [[0, 0, 0], [2.1, 0, 0]], cell=[4, 4, 12], pbc=[True, True, False]), "periodic"),
        (Atoms("MgO", [[0, 0, 0], [0.1, 0, 0]], cell=[4, 4, 4], pbc=True), "Angstrom"),
    ],
)
def test_bad_crystals_fail_as_ase_expects_with_the_reason(atoms, reason):
    atoms.calc = DTNNCalculator(energy=energy_model())
    for name in ("dielectric_tensor", "energy"):
        with pytest.raises(CalculationFailed, match=reason):
            atoms.calc.get_property(name, atoms)
    # The calculator works afterwards.
    good = mgo()
    assert atoms.calc.get_property("dielectric_tensor", good).shape == (3, 3)


def test_what_no_model_was_given_for_is_not_implemented():
    atoms = mgo()
    atoms.calc = DTNNCalculator(DTNN(config(targets=("electronic",))))
    assert atoms.calc.target == "electronic"
    for call in (atoms.get_potential_energy, atoms.get_forces, atoms.get_stress):
        with pytest.raises(PropertyNotImplementedError):
            call()
    with pytest.raises(PropertyNotImplementedError, match="born_effective_charges"):
        atoms.calc.get_property("born_effective_charges", atoms)
    with pytest.raises(PropertyNotImplementedError, match="no model was given for energy"):
        atoms.calc.calculate(atoms, ["energy"])
    with pytest.raises(KeyError, match="expected one of the predicted tensors electronic, got 'total'"):
        _ = atoms.calc.get_dielectric(atoms).total
    with pytest.raises(ValueError, match="expected `target` to be one of electronic, got 'total'"):
        DTNNCalculator("dielectric-electronic", target="total")
