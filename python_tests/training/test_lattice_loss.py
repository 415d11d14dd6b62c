# SPDX-License-Identifier: MIT
"""The loss of a `LatticeModel`: the ionic tensor and its derivatives, weights, and zero at the labels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from dtnn_fast.crystals.crystal import Crystal
from dtnn_fast.phonons import SOFTEST, ionic_tensor
from dtnn_fast.training.lattice_loss import LatticeLabels, ionic_of, lattice_terms

VOLUME = 40.0


def labelled(seed=0, count=3, softest=2.0):
    """A crystal with random force constants, of which some modes are degenerate, and charges that sum to zero."""
    random = np.random.RandomState(seed)
    translations = np.kron(np.ones((count, 1)), np.eye(3)) / np.sqrt(count)
    basis = np.linalg.qr(np.hstack([translations, random.normal(size=(3 * count, 3 * count - 3))]))[0][:, 3:]
    stiffness = np.linspace(softest, softest + 6.0, 3 * count - 3)
    stiffness[1] = stiffness[0]
    matrix = (basis * stiffness) @ basis.T
    charges = random.normal(size=(count, 3, 3))
    return Crystal.make(
        "random",
        [12, 8, 22][:count],
        random.uniform(0, 3, (count, 3)),
        np.diag([4.0, 5.0, 2.0]),
        force_constants=matrix,
        born_charges=charges - charges.mean(0),
    )


@pytest.mark.parametrize("softest", [2.0, 0.1, -1.5])
def test_the_ionic_tensor_is_that_of_lattice_dynamics(softest):
    crystal = labelled(softest=softest)
    matrix, charges = (torch.from_numpy(array) for array in (crystal.force_constants, crystal.born_charges))
    expected = ionic_tensor(crystal.force_constants, crystal.born_charges, VOLUME, SOFTEST)
    np.testing.assert_allclose(ionic_of(matrix, charges, VOLUME).numpy(), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("softest", [2.0, 0.1, -1.5])
def test_its_derivatives_are_those_of_differences_for_degenerate_modes_too(softest):
    crystal = labelled(softest=softest)
    arguments = [torch.from_numpy(array).requires_grad_() for array in (crystal.force_constants, crystal.born_charges)]
    assert torch.autograd.gradcheck(lambda matrix, charges: ionic_of(matrix, charges, VOLUME), arguments)


def test_the_loss_is_zero_at_the_labels_and_only_there():
    crystals = [labelled(seed, count) for seed, count in ((1, 2), (2, 3))]
    labels = [LatticeLabels.of(crystal) for crystal in crystals]
    matrices = [label.force_constants for label in labels]
    charges = torch.cat([label.born_charges for label in labels])
    assert all(value < 1e-5 for value in lattice_terms(matrices, charges, labels).values())
    softer = lattice_terms([0.8 * matrix for matrix in matrices], charges, labels)
    modes = [3, 6]
    expected = np.mean([0.2 * np.sqrt(count / (count + 3)) for count in modes])
    assert softer["force_constants"].item() == pytest.approx(expected, rel=1e-3)
    assert softer["born_charges"] < 1e-6
    assert softer["ionic"] > 0.1
    larger = lattice_terms(matrices, 1.5 * charges, labels)
    assert larger["force_constants"] < 1e-5
    assert larger["born_charges"] > 0.1
    assert larger["ionic"] > 0.1


def test_an_error_counts_most_in_the_softest_mode():
    crystal = labelled(softest=1.0)
    label = LatticeLabels.of(crystal)
    _, vectors = np.linalg.eigh(crystal.force_constants)
    terms = []
    for mode in (3, -1):  # after the three translations: the softest and the stiffest
        change = torch.from_numpy(0.5 * np.outer(vectors[:, mode], vectors[:, mode])).float()
        values = lattice_terms([label.force_constants + change], label.born_charges, [label])
        terms.append(values["force_constants"])
    assert terms[0] > 5 * terms[1]


def test_unknown_labels_are_left_out():
    whole = labelled()
    matrices = [torch.from_numpy(0.9 * whole.force_constants).float()] * 2
    charges = torch.from_numpy(np.concatenate([whole.born_charges] * 2)).float()
    tensor = np.diag([3.0, 4.0, 5.0])
    only_ionic = replace(whole, force_constants=None, born_charges=None, targets={"ionic": tensor})
    labels = [LatticeLabels.of(crystal) for crystal in (replace(whole, born_charges=None), only_ionic)]
    assert [label.names for label in labels] == [("force_constants",), ("ionic",)]
    values = lattice_terms(matrices, charges, labels)
    assert set(values) == {"force_constants", "ionic"}
    alone = lattice_terms(matrices[:1], charges[: len(charges) // 2], labels[:1])
    assert values["force_constants"] == alone["force_constants"]
    predicted = ionic_of(matrices[1], charges[len(charges) // 2 :], labels[1].volume).numpy()
    places = ([0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1])
    assert values["ionic"].item() == pytest.approx(np.abs(predicted - tensor)[places].mean() / 5.0, rel=1e-5)
    assert LatticeLabels.of(replace(only_ionic, targets={})).names == ()
