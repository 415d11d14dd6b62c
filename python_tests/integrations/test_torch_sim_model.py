# SPDX-License-Identifier: MIT
"""The model of torch-sim: its interface, its units and signs, and the numbers of the energy model."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from energy_cases import energy_model

pytest.importorskip("torch_sim")
import torch_sim
from ase.build import bulk
from torch_sim.models.interface import validate_model_outputs
from torch_sim.models.lennard_jones import LennardJonesModel

from dtnn_fast.crystals.convert import to_crystals
from dtnn_fast.errors import BadCrystalError
from dtnn_fast.integrations import DTNNSimModel, EnergyPotential


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def crystals():
    made = [bulk("MgO", "rocksalt", a=4.21), bulk("Fe", "bcc", a=2.87, cubic=True), bulk("SrO", "rocksalt", a=5.2)]
    for number, atoms in enumerate(made):
        atoms.rattle(0.05, seed=number)
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + 0.03 * np.triu(np.ones((3, 3)))), scale_atoms=True)
    return made


def state_of(atoms, dtype=torch.float64):
    return torch_sim.io.atoms_to_state(atoms, torch.device("cpu"), dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_torch_sims_own_checks_of_a_model_pass(dtype):
    model = DTNNSimModel(energy_model(dtype=dtype))
    assert (model.dtype, model.device, model.compute_stress, model.compute_forces) == (
        dtype,
        torch.device("cpu"),
        True,
        True,
    )
    validate_model_outputs(model, torch.device("cpu"), dtype)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 2e-5)])
def test_a_batch_gives_what_the_potential_gives_for_each_crystal(dtype, tolerance):
    atoms = crystals()
    model = DTNNSimModel(energy_model(), dtype=dtype)
    outputs = model(state_of(atoms, dtype))
    expected = EnergyPotential(energy_model()).evaluate(to_crystals(atoms))
    assert {value.dtype for value in outputs.values()} == {dtype}
    assert not any(value.requires_grad for value in outputs.values())
    close = {"rtol": tolerance, "atol": tolerance}
    np.testing.assert_allclose(outputs["energy"], [found.energy for found in expected], **close)
    np.testing.assert_allclose(outputs["forces"], np.concatenate([found.forces for found in expected]), **close)
    np.testing.assert_allclose(outputs["stress"], [found.stress for found in expected], **close)


def test_the_stress_is_the_derivative_by_the_strain_with_the_sign_of_torch_sims_models():
    state, model = state_of(crystals()), DTNNSimModel(energy_model())

    def slopes(model, i, j):
        energies = []
        for sign in (1, -1):
            strain = torch.eye(3, dtype=torch.float64)
            strain[i, j] += sign * 5e-5
            strain[j, i] += sign * 5e-5
            moved = state.clone()
            moved.positions = state.positions @ strain
            moved.row_vector_cell = state.row_vector_cell @ strain
            energies.append(model(moved)["energy"])
        return (energies[0] - energies[1]) / 2e-4 / state.volume.abs()

    stress = model(state)["stress"]
    assert stress.abs().amax((1, 2)).min() > 1e-5
    for i in range(3):
        for j in range(i + 1):
            torch.testing.assert_close(stress[:, i, j], slopes(model, i, j), rtol=1e-4, atol=1e-7)
    # The sign alone: the stresses of torch-sim 0.3's Lennard-Jones model are about twice ASE's.
    lennard_jones = LennardJonesModel(2.2, 0.1, dtype=torch.float64, compute_stress=True, cutoff=6.0)
    theirs = lennard_jones(state)["stress"].diagonal(dim1=1, dim2=2)
    for i in range(3):
        assert torch.equal(theirs[:, i].sign(), slopes(lennard_jones, i, i).sign())


@pytest.mark.filterwarnings("ignore:Optimize has reached max steps")
def test_torch_sim_runs_and_relaxes_with_it():
    atoms = crystals()
    given = energy_model()
    model = DTNNSimModel(given)
    static = torch_sim.static(atoms, model)
    energies = model(state_of(atoms))["energy"]
    np.testing.assert_allclose([float(one["potential_energy"]) for one in static], energies, rtol=1e-9)
    final = torch_sim.optimize(atoms, model, optimizer=torch_sim.optimizers.fire, max_steps=10)
    assert (model(final)["energy"] < energies).all()
    # The user's model is a copy's source and stays as it was.
    assert all(parameter.requires_grad for parameter in given.encoder.parameters())


def test_a_dictionary_is_a_state_and_nothing_is_changed():
    state = state_of(crystals())
    before = deepcopy(state)
    model = DTNNSimModel(energy_model())
    names = ("positions", "cell", "pbc", "atomic_numbers", "system_idx")
    from_dictionary = model({name: getattr(state, name) for name in names})
    outputs = model(state)
    assert all(torch.equal(outputs[name], from_dictionary[name]) for name in ("energy", "forces", "stress"))
    assert all(torch.equal(getattr(state, name), getattr(before, name)) for name in names if name != "pbc")
    with torch.no_grad():
        assert torch.equal(model(state)["forces"], outputs["forces"])


def test_what_the_model_cannot_compute_is_an_error():
    model = DTNNSimModel(energy_model())
    with pytest.raises(BadCrystalError, match="system 1: Cs is not an element of the model"):
        model(state_of([bulk("MgO", "rocksalt", a=4.21), bulk("CsCl", "cesiumchloride", a=4.1)]))
    with pytest.raises(ValueError, match=r"expected a state of torch.float64, got torch.float32"):
        model(state_of(crystals(), torch.float32))
    with pytest.raises(ValueError, match=r"expected `dtype` float32 or float64, got torch.float16"):
        DTNNSimModel(energy_model(), dtype=torch.float16)
    isolated = state_of(crystals())
    isolated.pbc = False
    with pytest.raises(BadCrystalError, match="periodic in all directions, got False"):
        model(isolated)
    two = state_of([bulk("MgO", "rocksalt", a=4.21)] * 2)
    two.system_idx = two.system_idx.flip(0)
    with pytest.raises(RuntimeError, match="sorted by crystal"):
        model(two)
