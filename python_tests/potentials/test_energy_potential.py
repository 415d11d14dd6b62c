# SPDX-License-Identifier: MIT
"""The distilled energy model as a potential: batches, crystals without bonds, supercells, rotations, bad input."""

import numpy as np
import pytest
import torch
from energy_cases import energy_model

from dtnn_fast.crystals.crystal import Crystal
from dtnn_fast.errors import BadCrystalError
from dtnn_fast.integrations import EnergyPotential
from dtnn_fast.nn.graph import build_graph
from dtnn_fast.potentials.energy_potential import energy_derivatives

CELL = np.array([[4.0, 0.2, 0.0], [0.3, 4.3, 0.1], [0.0, 0.4, 4.1]])
POSITIONS = np.array([[0.1, 0.0, 0.2], [2.0, 2.3, 1.9]])


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def pair(numbers=(12, 8), turn=None):
    turn = np.eye(3) if turn is None else turn
    return Crystal.make("pair", numbers, POSITIONS @ turn, CELL @ turn)


def doubled():
    cell = CELL * [[2], [1], [1]]
    return Crystal.make("doubled", [12, 8, 12, 8], np.concatenate([POSITIONS, POSITIONS + CELL[0]]), cell)


def alone():
    return Crystal.make("alone", [26], [[1.0, 2.0, 3.0]], 30 * np.eye(3))


def test_a_batch_gives_what_each_crystal_gives_in_its_order():
    crystals = [doubled(), alone(), pair(), pair((38, 8))]
    potential = EnergyPotential(energy_model(), batch_atoms=5)
    for crystal, found in zip(crystals, potential.evaluate(crystals), strict=True):
        (single,) = potential.evaluate([crystal])
        assert found.energy == pytest.approx(single.energy, abs=1e-10)
        np.testing.assert_allclose(found.forces, single.forces, atol=1e-10)
        np.testing.assert_allclose(found.stress, single.stress, atol=1e-12)
        assert found.energy == pytest.approx(potential.model.predict_energies(crystal)[0], abs=1e-10)
        assert found.forces.shape == (crystal.num_atoms, 3)
        assert found.forces.dtype == found.stress.dtype == np.float64
        np.testing.assert_allclose(found.forces.sum(0), 0, atol=1e-10)
    assert potential.evaluate([]) == []


def test_an_atom_without_bonds_has_no_force_and_no_stress():
    (found,) = EnergyPotential(energy_model()).evaluate([alone()])
    assert np.abs(found.forces).max() == np.abs(found.stress).max() == 0
    assert np.isfinite(found.energy)


def test_supercells_and_turned_crystals():
    turn, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))
    potential = EnergyPotential(energy_model())
    one, two, turned = potential.evaluate([pair(), doubled(), pair(turn=turn)])
    assert np.abs(one.forces).max() > 1e-3
    assert two.energy == pytest.approx(2 * one.energy)
    np.testing.assert_allclose(two.forces, np.tile(one.forces, (2, 1)), atol=1e-9)
    np.testing.assert_allclose(two.stress, one.stress, atol=1e-11)
    np.testing.assert_allclose(turned.forces, one.forces @ turn, atol=1e-9)
    np.testing.assert_allclose(turned.stress, turn.T @ one.stress @ turn, atol=1e-11)


def test_nothing_is_left_behind():
    model = energy_model(dtype=torch.float32).train()
    potential = EnergyPotential(model)
    assert not model.training
    graph = build_graph([pair()], model.encoder.cutoffs)
    with torch.no_grad():
        found = energy_derivatives(model, graph)
    assert not any(values.requires_grad for values in found)
    assert found.energy.dtype == torch.float64
    assert found.forces.dtype == found.stress.dtype == torch.float32
    assert not graph.positions.requires_grad
    assert all(parameter.grad is None for parameter in model.parameters())
    (exact,) = EnergyPotential(energy_model()).evaluate([pair()])
    np.testing.assert_allclose(potential.evaluate([pair()])[0].forces, exact.forces, atol=1e-5)


def test_unknown_elements_are_named():
    with pytest.raises(BadCrystalError, match=r"pair.*Cs"):
        EnergyPotential(energy_model()).evaluate([pair(), pair((55, 8))])
