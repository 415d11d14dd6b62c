# SPDX-License-Identifier: MIT
"""Errors of Born charges by element, on crystals that a run did not learn from."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from model_cases import TINY, config, small_crystals

from dtnn_fast import DTNN, Ensemble
from dtnn_fast.crystals.crystal import Crystal
from dtnn_fast.datasets.splits import Split, split
from dtnn_fast.errors import BadFileError
from dtnn_fast.training.charge_errors import CHARGES_FILE, ChargePredictions
from dtnn_fast.training.ensemble_runs import join_runs
from dtnn_fast.training.held_out import held_out_with_charges, without_held_out
from dtnn_fast.training.train_run import train_run
from dtnn_fast.training.training_settings import TrainingSettings

MAIN = small_crystals(30, max_atoms=4)
OTHERS = small_crystals(12, max_atoms=4, skip=30)
SPLIT = Split(np.arange(3), np.arange(3, 6), np.arange(6, 30))
TARGETS = ("electronic", "ionic", "total")
MODEL = replace(
    config(2, channels=TINY, latent=8, dropout=0.0, targets=TARGETS, joint=True), born_charges=True, elements=()
)


def charged(crystal, seed=0, **changes):
    charges = np.random.default_rng(seed).normal(size=(crystal.num_atoms, 3, 3))
    return replace(crystal, born_charges=charges - charges.mean(0), **changes)


def moved(crystal):
    return replace(crystal, positions=crystal.positions + np.array([0.3, 0.2, 0.1]))


def held_out(crystals, more, by_system=False):
    outside = [crystals[index] for part in (SPLIT.test, SPLIT.validation) for index in part]
    learned = without_held_out(more, outside, by_system)
    return {
        part: [crystal.id for crystal in found]
        for part, found in held_out_with_charges(crystals, SPLIT, more, learned, by_system).items()
    }


class TestHeldOut:
    """Which crystals count."""

    def test_those_of_the_split_and_further_ones_that_are_the_same(self):
        crystals = [charged(MAIN[0]), MAIN[1], MAIN[2], charged(MAIN[3]), *MAIN[4:6], *map(charged, MAIN[6:])]
        more = [
            charged(moved(MAIN[1]), id="twin of test"),
            charged(OTHERS[0], id="listed", info={"matches": [MAIN[2].id]}),
            charged(OTHERS[1], id="listed in a text", info={"matches": f"x {MAIN[2].id}"}),
            charged(MAIN[4], id="twin of validation"),
            charged(OTHERS[2], id="both", info={"matches": [MAIN[2].id, MAIN[5].id]}),
            replace(MAIN[1], id="without charges"),
            charged(OTHERS[3], id="learned"),
        ]
        assert held_out(crystals, more) == {
            "test": [MAIN[0].id, "twin of test", "listed", "listed in a text"],
            "validation": [MAIN[3].id, "twin of validation", "both"],
        }

    def test_systems_that_are_held_out(self):
        numbers = np.resize(np.unique(MAIN[0].atomic_numbers), OTHERS[0].num_atoms)
        same_system = charged(replace(OTHERS[0], atomic_numbers=numbers), id="same system")
        assert same_system.chemical_system == MAIN[0].chemical_system
        assert held_out(MAIN, [same_system]) == {"test": [], "validation": []}
        assert held_out(MAIN, [same_system], by_system=True)["test"] == ["same system"]

    @pytest.mark.parametrize(
        "learned",
        [
            replace(OTHERS[0], id="x"),  # the same structure
            replace(OTHERS[5], id="x", info={"matches": ["candidate"]}),
            replace(OTHERS[5], id="x", info={"matches": ["shared"]}),
            replace(OTHERS[5], id="shared"),
        ],
    )
    def test_what_is_the_same_as_a_learned_crystal_does_not_count(self, learned):
        """It would be known through another set, though its own list names a test crystal."""
        candidate = charged(OTHERS[0], id="candidate", info={"matches": [MAIN[0].id, "shared"]})
        assert held_out(MAIN, [candidate])["test"] == ["candidate"]
        assert held_out(MAIN, [candidate, learned])["test"] == []

    def test_unknown_charges_do_not_count(self):
        unknown = replace(MAIN[0], id="nan", born_charges=np.full((MAIN[0].num_atoms, 3, 3), np.nan))
        assert held_out(MAIN, [unknown]) == {"test": [], "validation": []}


def made_up(predicted, expected, numbers=(8, 12, 8), num_atoms=(2, 1), parts=("test", "test")):
    arrays = (np.array(values, dtype=float)[:, None, None] * np.ones((3, 3)) for values in (predicted, expected))
    ids = np.array([f"c{index}" for index in range(len(parts))])
    return ChargePredictions(ids, np.array(parts), np.array(num_atoms), np.array(numbers), *arrays)


def test_a_summary_by_hand():
    summary = made_up([-2.0, 2.0, -1.0], [-1.5, 2.25, -1.0]).summary()
    assert list(summary) == ["test"]
    assert summary["test"] == {
        "crystals": 2,
        "atoms": 3,
        "mae": pytest.approx(0.25),
        "mean_size": pytest.approx(4.75 / 3),
        "by_element": {
            "O": {"crystals": 2, "atoms": 2, "mae": 0.25, "mean_size": 1.25},
            "Mg": {"crystals": 1, "atoms": 1, "mae": 0.25, "mean_size": 2.25},
        },
    }
    parts = made_up([1.0, 2.0, 3.0], [0.0, 0.0, 0.0], parts=("validation", "test")).summary()
    assert (parts["validation"]["mae"], parts["test"]["mae"]) == (1.5, 3.0)


def test_the_mean_of_members_is_over_the_crystals_that_all_were_tested_on():
    first = made_up([1.0, 1.0, 2.0], [0.0, 0.0, 0.0], parts=("validation", "test"))
    second = replace(made_up([4.0, 5.0, 5.0], [0.0, 0.0, 0.0], (8, 12, 8), (1, 2)), ids=np.array(["c1", "c0"]))
    mean = ChargePredictions.mean([first, second], [1, 3])
    assert mean.ids.tolist() == ["c1"]
    assert mean.predicted[:, 0, 0].tolist() == [(2.0 + 3 * 4.0) / 4]
    both = ChargePredictions.mean([replace(first, parts=np.array(["test", "test"])), second], [1, 3])
    assert both.ids.tolist() == ["c0", "c1"]
    assert both.predicted[:, 0, 0].tolist() == [4.0, 4.0, 3.5]
    # The same id with other labels is another calculation.
    assert ChargePredictions.mean([first, replace(second, expected=second.expected + 1.0)], [1, 1]) is None
    nothing = made_up([1.0, 1.0, 1.0], [0.0, 0.0, 0.0], parts=("validation", "validation"))
    assert ChargePredictions.mean([nothing, nothing], [1, 1]) is None


def test_each_crystal_is_predicted_for_the_functional_of_its_labels():
    model = DTNN(replace(MODEL, functionals=("PBE", "PBEsol"), elements=(8, 12))).double().eval()
    model.functional_shifts.shifts.data.normal_()
    cell, positions = 4.2 * np.eye(3), [[0, 0, 0], [2.1, 2.0, 2.2], [2.0, 0.1, 0.0]]
    oxide = charged(Crystal.make("MgO", [12, 8, 8], positions, cell))
    crystals = [replace(oxide, info=info) for info in ({}, {"functional": "PBE"}, {"functional": "PBEsol"})]
    strangers = [
        replace(oxide, id="SCAN", info={"functional": "SCAN"}),
        replace(oxide, id="Ca", atomic_numbers=oxide.atomic_numbers + 8),
    ]
    found = ChargePredictions.of(model, {"test": [*crystals, *strangers]})
    assert len(found.ids) == 3
    first, second, third = np.split(found.predicted, 3)
    (plain,) = model.predict_born_charges(oxide)
    np.testing.assert_allclose(first, plain, atol=1e-12)
    np.testing.assert_allclose(second, plain, atol=1e-12)
    assert np.abs(third - plain).max() > 1e-6
    np.testing.assert_array_equal(found.expected, np.tile(oxide.born_charges, (3, 1, 1)))


def test_files(tmp_path):
    path = tmp_path / CHARGES_FILE
    assert ChargePredictions.load(path) is None
    made_up([1.0, 2.0, 3.0], [0.0, 0.0, 0.0]).save(path)
    assert ChargePredictions.load(path).summary() == made_up([1.0, 2.0, 3.0], [0.0, 0.0, 0.0]).summary()
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(BadFileError, match="not the Born charges of a run"):
        ChargePredictions.load(path)


class TestRuns:
    """Runs of models with charges."""

    SETTINGS = TrainingSettings(MODEL, epochs=2, batch_size=8, learning_rate=1e-2, born_weight=1.0)

    @pytest.fixture
    def crystals(self):
        return [charged(crystal, seed) for seed, crystal in enumerate(MAIN)]

    def test_results_have_the_errors_of_the_saved_model(self, tmp_path, crystals):
        tested = crystals[split([crystal.id for crystal in crystals], 0).test[0]]
        more = [charged(OTHERS[0], 1), charged(moved(tested), 2, id="twin")]
        results = train_run(self.SETTINGS, crystals, tmp_path, more=more)
        assert json.loads((tmp_path / "results.json").read_text()) == results
        parts = split([crystal.id for crystal in crystals], 0)
        judged = [*(crystals[index] for index in parts.test), more[1]]
        predicted = DTNN.from_pretrained(tmp_path / "model").predict_born_charges(judged)
        errors = [np.abs(p - crystal.born_charges) for p, crystal in zip(predicted, judged, strict=True)]
        entry = results["born_charges"]["test"]
        assert entry["crystals"] == 4
        assert entry["mae"] == pytest.approx(np.concatenate(errors).mean(), rel=1e-3)
        assert sum(row["atoms"] for row in entry["by_element"].values()) == entry["atoms"]
        assert results["born_charges"]["validation"]["crystals"] == 3

    def test_runs_without_labels_or_charges(self, tmp_path, crystals):
        without = [replace(crystal, born_charges=None) for crystal in crystals]
        results = train_run(self.SETTINGS, without, tmp_path / "a", more=[charged(OTHERS[0])])
        assert results["born_charges"] == {}
        plain = replace(self.SETTINGS, model=replace(MODEL, born_charges=False), born_weight=0.0)
        assert "born_charges" not in train_run(plain, without, tmp_path / "b")

    def test_an_ensemble_has_the_errors_of_its_mean(self, tmp_path, crystals):
        runs = [tmp_path / str(member) for member in range(2)]
        for member, run in enumerate(runs):
            train_run(replace(self.SETTINGS, member=member, rotate=True), crystals, run)
        systems = {crystal.id: "unknown" for crystal in crystals}
        results = join_runs(tmp_path / "both", runs, systems)
        tested = [crystals[index] for index in split([crystal.id for crystal in crystals], 0).test]
        predicted = Ensemble.from_pretrained(tmp_path / "both" / "model").predict_born_charges(tested)
        errors = [np.abs(p - crystal.born_charges) for p, crystal in zip(predicted, tested, strict=True)]
        assert list(results["born_charges"]) == ["test"]
        assert results["born_charges"]["test"]["mae"] == pytest.approx(np.concatenate(errors).mean(), rel=1e-3)
        (runs[0] / CHARGES_FILE).unlink()
        assert "born_charges" not in join_runs(tmp_path / "again", runs, systems)
