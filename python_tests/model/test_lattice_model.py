# SPDX-License-Identifier: MIT
"""Force constants and Born charges of `LatticeModel`: symmetries, sum rules, cells, reduced graphs, storage."""

from __future__ import annotations

import copy
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from lattice_cases import random_lattice_model
from model_cases import (
    asymmetric_crystals,
    orthogonal,
    permuted,
    recelled,
    small_crystals,
    transformed,
    unwrapped,
)

from dtnn_fast.crystals.crystal import Crystal
from dtnn_fast.errors import BadCrystalError, BadFileError
from dtnn_fast.model.lattice_model import LatticeGraph, LatticeModel
from dtnn_fast.model.pair_springs import AtomPairs, assemble
from dtnn_fast.phonons import ionic_tensor
from dtnn_fast.symmetry import with_operations
from dtnn_fast.training.lattice_loss import lattice_terms
from dtnn_fast.training.lattice_training import LatticeData

CRYSTALS = asymmetric_crystals()
TOLERANCE = 1e-8


@pytest.fixture(scope="module")
def model():
    return random_lattice_model()


def close(actual, expected, tolerance=TOLERANCE):
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance)


def blocks(matrix):
    """[3N, 3N] -> [N, N, 3, 3]."""
    count = len(matrix) // 3
    return matrix.reshape(count, 3, count, 3).transpose(0, 2, 1, 3)


def test_there_is_a_signal_that_the_other_tests_can_see(model):
    for crystal, response in zip(CRYSTALS[1:], model.predict(CRYSTALS[1:]), strict=True):
        assert response.force_constants.shape == (3 * crystal.num_atoms,) * 2
        off_diagonal = blocks(response.force_constants)[0, 1]
        assert np.abs(off_diagonal).max() > 0.1
        if crystal.num_atoms > 2:  # the two atoms of a pair see the same bonds from both sides
            assert np.abs(off_diagonal - off_diagonal.T).max() > 1e-3


def test_one_atom_has_neither_charge_nor_springs(model):
    (response,) = model.predict(CRYSTALS[:1])
    close(response.force_constants, 0.0)
    close(response.born_charges, 0.0)


def test_force_constants_are_symmetric_and_moving_all_atoms_costs_nothing(model):
    for response in model.predict(CRYSTALS):
        matrix = response.force_constants
        close(matrix, matrix.T)
        close(blocks(matrix).sum(1), 0.0)
        close(response.born_charges.sum(0), 0.0)


@pytest.mark.parametrize(
    "matrix",
    [orthogonal(1, improper=False), orthogonal(2, improper=True), -np.eye(3)],
    ids=["rotation", "rotation and reflection", "inversion"],
)
def test_both_indices_turn_with_the_crystal(model, matrix):
    turned = model.predict([transformed(crystal, matrix) for crystal in CRYSTALS])
    for before, after in zip(model.predict(CRYSTALS), turned, strict=True):
        close(blocks(after.force_constants), matrix @ blocks(before.force_constants) @ matrix.T)
        close(after.born_charges, matrix @ before.born_charges @ matrix.T)


def test_the_order_of_atoms_is_kept(model):
    for crystal in CRYSTALS:
        order = np.random.RandomState(0).permutation(crystal.num_atoms)
        before, after = model.predict([crystal, permuted(crystal, order)])
        close(blocks(after.force_constants), blocks(before.force_constants)[np.ix_(order, order)])
        close(after.born_charges, before.born_charges[order])


def test_neither_batches_nor_images_of_atoms_matter(model):
    together = model.predict(CRYSTALS)
    for crystal, response in zip(CRYSTALS, together, strict=True):
        for other in (crystal, unwrapped(crystal)):
            (alone,) = model.predict(other)
            close(alone.force_constants, response.force_constants)
            close(alone.born_charges, response.born_charges)


@pytest.mark.parametrize("cell", [[[1, 1, 0], [0, 1, 0], [0, 0, 1]], [[2, 0, 0], [0, 1, 0], [0, 1, 2]]])
def test_the_ionic_tensor_does_not_depend_on_the_cell(model, cell):
    for crystal in CRYSTALS[1:]:
        tensors = []
        for form in (crystal, recelled(crystal, cell)):
            (response,) = model.predict(form)
            volume = abs(np.linalg.det(form.cell))
            # Random springs have soft modes: stiffened, as adding a constant to all modes would.
            stiffened = response.force_constants + 500.0 * np.eye(len(response.force_constants))
            tensors.append(ionic_tensor(stiffened, response.born_charges, volume))
        close(tensors[1], tensors[0], 1e-7)


def test_reduced_graphs_give_what_all_atoms_give(model):
    known = [crystal for crystal in with_operations(small_crystals(200, 12)[::8]) if crystal.operations is not None]
    assert len({len(crystal.operations) for crystal in known}) > 4
    plain = model.predict([replace(crystal, operations=None) for crystal in known])
    for before, after in zip(plain, model.predict(known), strict=True):
        # Snapping to exact symmetry moves atoms by what the rounded positions lack.
        size = np.abs(before.force_constants).max(initial=1.0)
        np.testing.assert_allclose(after.force_constants, before.force_constants, atol=2e-4 * size)
        np.testing.assert_allclose(after.born_charges, before.born_charges, atol=2e-4)


def test_reduced_graphs_of_exact_crystals_agree_to_rounding(model):
    rutile = Crystal.from_fractional(
        "rutile",
        [22, 22, 8, 8, 8, 8],
        [[0, 0, 0], [0.5] * 3, [0.3, 0.3, 0], [0.7, 0.7, 0], [0.8, 0.2, 0.5], [0.2, 0.8, 0.5]],
        np.diag([4.6, 4.6, 2.96]),
    )
    (known,) = with_operations([rutile])
    assert len(known.operations) == 16
    graph = model.graph([known])
    assert graph.graph.num_atoms == 2
    before, after = model.predict([rutile, known])
    close(after.force_constants, before.force_constants)
    close(after.born_charges, before.born_charges)


def test_springs_vanish_smoothly_at_the_cutoff(model):
    def stiffness(distance):
        crystal = Crystal.make("pair", [12, 8], [[0, 0, 0], [distance, 0, 0]], 40.0 * np.eye(3))
        (response,) = model.predict(crystal)
        return response.force_constants[0, 3]

    assert abs(stiffness(3.5)) > 1e-3
    assert abs(stiffness(4.999)) < 1e-6
    assert stiffness(5.001) == 0.0


def test_assembled_matrices_have_the_energy_of_their_springs():
    generator = torch.Generator().manual_seed(1)
    sizes = [3, 0, 2]
    first, second = torch.tensor([0, 0, 1, 3, 3]), torch.tensor([1, 2, 2, 4, 4])
    symmetric = torch.randn(5, 3, 3, generator=generator, dtype=torch.float64)
    symmetric = symmetric + symmetric.transpose(1, 2)
    matrices = assemble(-symmetric, AtomPairs(first, second, torch.zeros(5, 3)), sizes)
    assert [len(matrix) for matrix in matrices] == [9, 0, 6]
    displacements = torch.randn(5, 3, generator=generator, dtype=torch.float64)
    parts = displacements.split(sizes)
    energy = sum(0.5 * part.flatten() @ matrix @ part.flatten() for part, matrix in zip(parts, matrices, strict=True))
    stretch = displacements[first] - displacements[second]
    torch.testing.assert_close(energy, 0.5 * torch.einsum("ei,eij,ej->", stretch, symmetric, stretch))


@pytest.mark.parametrize("prepare", [list, with_operations])
def test_a_training_step_needs_only_tensors_of_its_device(prepare):
    """Torch's device without values refuses tensors of another one, and operations that read values."""
    model = random_lattice_model(functionals=("PBE", "PBEsol"))
    crystals = prepare(small_crystals(3, max_atoms=4, skip=3))
    labelled = [
        replace(crystal, force_constants=found.force_constants, born_charges=found.born_charges)
        for crystal, found in zip(crystals, model.predict(crystals), strict=True)
    ]
    data = LatticeData(labelled, model)
    there = copy.deepcopy(model).to("meta")
    graph, functional, labels = data.batch([0, 1, 2], there.device)
    assert there.graph(crystals).pairs.vectors.device == there.device
    matrices, charges = there(graph, functional)
    terms = lattice_terms(matrices, charges, labels)
    assert set(terms) == {"force_constants", "born_charges", "ionic"}
    torch.stack(list(terms.values())).sum().backward()
    assert [len(matrix) for matrix in matrices] == [3 * crystal.num_atoms for crystal in crystals]
    assert there.springs.ends.weight.grad.device == there.device


def test_gradients_reach_all_weights(model):
    graph = model.graph(CRYSTALS)
    matrices, charges = model(graph)
    loss = charges.square().sum() + sum(matrix.square().sum() for matrix in matrices)
    parameters = dict(model.named_parameters())
    del parameters["born_head.charge.3.bias"]  # the same for all atoms, which the sum rule takes away
    unused = {name for name in parameters if name.startswith("atom_input")}
    gradients = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    missing = {name for name, gradient in zip(parameters, gradients, strict=True) if gradient is None}
    assert missing <= unused | {name for name in parameters if name.startswith("encoder.layers.2")}


def test_graphs_are_joined_in_order(model):
    graphs = [LatticeGraph.of(crystal, model.encoder.cutoffs, 5.0, torch.float64) for crystal in CRYSTALS]
    joined = LatticeGraph.join(graphs)
    assert joined.ptr.tolist() == np.cumsum([0, *(crystal.num_atoms for crystal in CRYSTALS)]).tolist()
    assert len(joined.pairs.vectors) == sum(len(graph.pairs.vectors) for graph in graphs)


def test_saved_models_come_back(tmp_path):
    model = random_lattice_model(elements=tuple(range(1, 100)))
    model.save(tmp_path)
    loaded = LatticeModel.from_pretrained(tmp_path)
    assert loaded.config == model.config
    for before, after in zip(model.predict(CRYSTALS), loaded.predict(CRYSTALS), strict=True):
        np.testing.assert_array_equal(before.force_constants, after.force_constants)
        np.testing.assert_array_equal(before.born_charges, after.born_charges)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pair_cutoff": -1.0}, "pair_cutoff"),
        ({"elements": [0]}, "elements"),
        ({"unheard": 1}, "unheard"),
        ({"encoder": {"kind": "sevennet"}}, "kind 'native'"),
    ],
)
def test_wrong_settings_are_refused(tmp_path, change, message):
    random_lattice_model().save(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(BadFileError, match=message):
        LatticeModel.from_pretrained(tmp_path)


def test_no_model_of_that_name(tmp_path):
    with pytest.raises(BadFileError, match="expected 'lattice' or the folder"):
        LatticeModel.from_pretrained(tmp_path / "nowhere")


def test_unknown_elements_are_refused():
    model = random_lattice_model(elements=(14,))
    with pytest.raises(BadCrystalError, match="element"):
        model.predict(CRYSTALS[1:2])


def test_a_very_skewed_cell_gives_what_its_compact_cell_gives():
    """The search for pairs refuses cells whose volume is lost to rounding; the lattice is an ordinary one."""
    model = random_lattice_model().float()
    compact = np.array([[3.0, 0, 0], [0, 3.1, 0], [0, 0, 3.4]])
    steps = np.array([[1, 0, 0], [300_000, 1, 0], [30_000, 20_000, 1]])
    positions = np.array([[0, 0, 0], [1.5, 1.4, 1.6]])
    expected, found = model.predict(
        [Crystal.make("x", [12, 8], positions, cell) for cell in (compact, steps @ compact)]
    )
    np.testing.assert_allclose(found.force_constants, expected.force_constants, atol=1e-4)
