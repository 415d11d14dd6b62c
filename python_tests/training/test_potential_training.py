# SPDX-License-Identifier: MIT
"""The loss of a potential: zero where its own derivatives are the labels, and the right size where they are not."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from energy_cases import energy_model

from dtnn_fast.datasets import load_screening
from dtnn_fast.errors import DTNNError
from dtnn_fast.phonons import without_translations
from dtnn_fast.potentials import gamma_force_constants
from dtnn_fast.potentials.energy_potential import EnergyPotential
from dtnn_fast.training import potential_training
from dtnn_fast.training.energy_readout import CompositionFit, EnergyTerm
from dtnn_fast.training.force_frames import ForceFrame
from dtnn_fast.training.potential_training import (
    POTENTIAL_TERMS,
    EnergyLearner,
    PotentialSettings,
    PotentialTrainer,
    new_learner,
)


@pytest.fixture(scope="module")
def model():
    """A random model that is so smooth that errors of third order are small."""
    made = energy_model()
    with torch.no_grad():
        for parameter in made.encoder.parameters():
            parameter.mul_(0.7)
    return made


@pytest.fixture(scope="module")
def crystals(model):
    """Five small crystals with the model's own force constants, made stable as real ones are."""
    known = set(model.elements)
    small = [c for c in load_screening() if 1 < c.num_atoms <= 6 and known.issuperset(c.atomic_numbers.tolist())][:5]
    assert len(small) == 5
    return [
        replace(crystal, force_constants=found.matrix, operations=None)
        for crystal, found in zip(small, gamma_force_constants(small, EnergyPotential(model), 1e-3), strict=True)
    ]


@pytest.fixture(scope="module")
def frames(model, crystals):
    rng = np.random.default_rng(0)
    moved = [replace(c, positions=c.positions + 0.1 * rng.normal(size=c.positions.shape)) for c in crystals]
    results = EnergyPotential(model).evaluate(moved)
    return [ForceFrame(c, one.energy, one.forces, one.stress) for c, one in zip(moved, results, strict=True)]


def learner(model):
    """The learner whose readout is that of the model."""
    learned = EnergyLearner(model.encoder, EnergyTerm(8, CompositionFit(model.constants, 1.0, model.elements))).double()
    with torch.no_grad():
        learned.term.weight.copy_(model.weight)
    return learned


def trainer(model, crystals, frames):
    return PotentialTrainer(learner(model), crystals, frames, PotentialSettings())


def test_own_derivatives_cost_nothing(model, crystals, frames, monkeypatch):
    # The error of third order falls with the square of the displacement.
    monkeypatch.setattr(potential_training, "_DISPLACEMENT", 0.002)
    terms = trainer(model, crystals, frames).terms(range(10), epoch=1)
    assert set(terms) == set(POTENTIAL_TERMS)
    assert terms["energy"] < 1e-9
    assert terms["forces"] < 1e-9
    assert terms["stress"] < 1e-9
    assert terms["force_constants"] < 2e-3


def test_terms_without_labels_are_missing(model, crystals, frames):
    made = trainer(model, crystals, [replace(frame, stress=None) for frame in frames])
    assert set(made.terms([0, 4], epoch=1)) == {"force_constants"}
    assert set(made.terms([5, 9], epoch=1)) == {"energy", "forces"}


def test_the_force_constants_count_by_the_norm_of_their_weighted_error(model, crystals, frames):
    """In the mean square over the random displacements."""
    crystal = crystals[0]
    size = 3 * crystal.num_atoms
    basis = without_translations(crystal.num_atoms)
    expected = crystal.force_constants + basis @ np.diag(np.linspace(-1.0, 2.0, size - 3)) @ basis.T
    made = trainer(model, [replace(crystal, force_constants=expected)], frames)
    squares = [float(made.terms([0], epoch)["force_constants"].detach()) ** 2 for epoch in range(1, 401)]
    stiffness, vectors = np.linalg.eigh(basis.T @ expected @ basis)
    root = basis @ (vectors / np.sqrt(np.maximum(stiffness, 1.0))) @ vectors.T @ basis.T
    norm = np.linalg.norm(root @ (crystal.force_constants - expected) @ root) ** 2 / size
    assert np.mean(squares) == pytest.approx(norm, rel=0.15)


def test_wrong_labels_cost_their_error(model, crystals, frames):
    off = [replace(f, energy=f.energy + 0.3 * f.crystal.num_atoms, stress=f.stress + 0.01) for f in frames]
    terms = trainer(model, crystals, off).terms([5], epoch=1)
    assert float(terms["energy"]) == pytest.approx(0.3, rel=1e-5)
    volume = abs(np.linalg.det(frames[0].crystal.cell)) / frames[0].crystal.num_atoms
    assert float(terms["stress"]) == pytest.approx(0.03 * volume, rel=1e-5)


def test_every_weight_is_taught(model, crystals, frames):
    made = trainer(model, crystals, frames)
    before = {name: value.clone() for name, value in made.model.named_parameters()}
    list(PotentialTrainer(made.model, crystals, frames, PotentialSettings(epochs=1)).epochs())
    still = [name for name, value in made.model.named_parameters() if torch.equal(value, before[name])]
    assert not still


def test_a_learner_starts_at_the_constants_of_the_elements(crystals, frames):
    made = new_learner(energy_model(dtype=torch.float32).encoder, frames).energy_model()
    numbers = [frame.crystal.atomic_numbers for frame in frames]
    assert set(made.elements) == set(np.concatenate(numbers).tolist())
    expected = [float(made.constants[list(one)].sum()) for one in numbers]
    np.testing.assert_allclose(made.predict_energies([frame.crystal for frame in frames]), expected, rtol=1e-12)


def test_bad_data_is_refused(model, crystals, frames):
    with pytest.raises(DTNNError, match="train-potential: expected crystals with energies and forces, got none"):
        trainer(model, crystals, [])
    with pytest.raises(DTNNError, match=r"expected force constants and two atoms or more"):
        trainer(model, [replace(crystals[0], force_constants=None)], frames)
