# SPDX-License-Identifier: MIT
"""Training crystals are known to their model by structure, whatever their name and cell; others are not."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from dtnn_fast import DTNN, Ensemble
from dtnn_fast.crystals.crystal import Crystal
from dtnn_fast.datasets.bundled import load_labelled
from dtnn_fast.datasets.cleaning import clean
from dtnn_fast.datasets.splits import split
from dtnn_fast.errors import BadFileError
from dtnn_fast.model.trained_crystals import trained_on
from dtnn_fast.model.training_set import SETTINGS_FILE, TrainingSet, load_training_set, mean_scalars, save_training_set

CRYSTALS, _ = clean(load_labelled())
PARTS = split([crystal.id for crystal in CRYSTALS], 0)
LEARNED = [CRYSTALS[index] for index in PARTS.train[::10]]
LEARNED_SIC = [CRYSTALS[index] for index in PARTS.train if CRYSTALS[index].formula == "SiC"]


@pytest.fixture(scope="module")
def model():
    """The bundled encoder, as if trained on the training crystals of a split."""
    model = DTNN.from_pretrained("dielectric").with_targets(["total"])
    learned = [CRYSTALS[index] for index in PARTS.train]
    with torch.no_grad():
        graph = model.graph(learned)
        model.training_set = TrainingSet.of(learned, mean_scalars(model.encoder(graph), graph.ptr))
    return model


def moved(crystal, seed):
    """Another name, frame, cell and order of atoms."""
    rng = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    order = rng.permutation(crystal.num_atoms)
    return replace(
        crystal,
        id=f"another {seed}",
        positions=crystal.positions[order] @ rotation,
        atomic_numbers=crystal.atomic_numbers[order],
        cell=np.array([[1, 0, 0], [1, 1, 0], [0, -1, 1]]) @ crystal.cell @ rotation,
    )


def test_all_training_crystals_are_known_in_any_cell(model):
    assert trained_on(model, LEARNED).all()
    assert trained_on(model, [moved(crystal, seed) for seed, crystal in enumerate(LEARNED)]).all()


def test_other_calculations_of_them_are_known(model):
    relaxed = [replace(c, positions=1.01 * c.positions, cell=1.01 * c.cell) for c in LEARNED]
    assert trained_on(model, relaxed).all()


def test_few_test_crystals_are_known_and_only_polymorphs(model):
    tested = [CRYSTALS[index] for index in PARTS.test]
    known = trained_on(model, tested)
    assert known.mean() < 0.1
    learned = {CRYSTALS[index].formula for index in PARTS.train}
    assert all(crystal.formula in learned for crystal, is_known in zip(tested, known, strict=True) if is_known)


def test_other_elements_and_other_structures_are_not_known(model):
    carbide = next(crystal for crystal in LEARNED_SIC if crystal.info["space_group"] == 216)
    assert trained_on(model, [carbide])[0]
    germanium = replace(carbide, atomic_numbers=np.where(carbide.atomic_numbers == 14, 32, 6))
    assert germanium.formula not in model.training_set.formulas
    # Of the same volume.
    a = np.cbrt(8 * abs(np.linalg.det(carbide.cell)) / carbide.num_atoms)
    salt = Crystal.from_fractional("rock salt", [14, 6], [[0, 0, 0], [0.5] * 3], 0.5 * a * (1 - np.eye(3)))
    assert not trained_on(model, [germanium, salt]).any()


def test_the_bundled_model_says_what_it_was_trained_on():
    assert trained_on(DTNN.from_pretrained("dielectric"), LEARNED) is not None


def test_a_model_that_does_not_say_knows_nothing(model):
    silent = model.with_targets(["total"])
    silent.training_set = None
    assert trained_on(silent, LEARNED) is None
    # One silent model of an ensemble may have been trained on anything.
    assert trained_on(Ensemble([silent, model.with_targets(["total"])]), LEARNED) is None
    older = model.with_targets(["total"])
    older.training_set = replace(model.training_set, formulas=None)
    assert trained_on(older, LEARNED) is None


def test_an_ensemble_knows_what_any_of_its_models_knows(model):
    first, second = (model.with_targets(["total"]) for _ in range(2))
    both = model.training_set
    half = len(both.latents) // 2
    for part, rows in ((first, slice(0, half)), (second, slice(half, None))):
        part.training_set = replace(both, latents=both.latents[rows], formulas=both.formulas[rows])
    assert not trained_on(first, LEARNED).all()
    assert trained_on(Ensemble([first, second]), LEARNED).all()


class TestFormulas:
    """Formulas in the saved training set."""

    def training_set(self, formulas=("NaCl", "MgO")):
        return TrainingSet({12: 1, 8: 1}, np.arange(4.0).reshape(2, 2).astype(np.float16), 1.0, formulas)

    def test_they_are_saved(self, tmp_path):
        for formulas in (("NaCl", "MgO"), None):
            save_training_set(self.training_set(formulas), tmp_path)
            assert load_training_set(tmp_path).formulas == formulas

    def test_they_stay_with_their_latents_when_sets_are_joined(self):
        sets = [
            self.training_set(),
            replace(self.training_set(), latents=np.float16([[9, 9], [0, 1]]), formulas=("KF", "NaCl")),
        ]
        joined = TrainingSet.join(sets)
        found = dict(zip(joined.formulas, joined.latents.tolist(), strict=True))
        assert found == {"NaCl": [0.0, 1.0], "MgO": [2.0, 3.0], "KF": [9.0, 9.0]}
        assert TrainingSet.join([sets[0], self.training_set(None)]).formulas is None

    def test_distances_are_to_crystals_of_the_formula(self):
        places = np.array([[0.0, 1.0], [2.0, 3.5]])
        np.testing.assert_allclose(self.training_set().distances_of_formula("MgO", places), [np.sqrt(8), 0.5])
        assert np.isinf(self.training_set().distances_of_formula("KF", places)).all()
        with pytest.raises(ValueError, match="known `formulas`"):
            self.training_set(None).distances_of_formula("KF", places)

    @pytest.mark.parametrize("formulas", ['"NaCl"', '["NaCl", "MgO"]', "3"])
    def test_another_number_of_them_is_an_error(self, tmp_path, formulas):
        save_training_set(self.training_set(), tmp_path)
        path = tmp_path / SETTINGS_FILE
        path.write_text(path.read_text().replace('"NaCl MgO"', formulas))
        with pytest.raises(BadFileError, match="`formulas` of 2 formulas"):
            load_training_set(tmp_path)
