# SPDX-License-Identifier: MIT
"""The objective is the validation error of real training runs; test crystals have no influence on it."""

from dataclasses import replace

import numpy as np
import pytest
from model_cases import TINY, config, small_crystals

from dtnn_fast.datasets.splits import split
from dtnn_fast.errors import DTNNError
from dtnn_fast.training.labelled_data import LabelledGraphs
from dtnn_fast.training.trainer import Trainer
from dtnn_fast.training.training_settings import TrainingSettings
from dtnn_fast.tuning.objective import Objective, Pruned
from dtnn_fast.tuning.search_space import values_of

CRYSTALS = small_crystals(24, max_atoms=4)
IDS = [crystal.id for crystal in CRYSTALS]
BASE = TrainingSettings(replace(config(2, channels=TINY, latent=8), elements=()), epochs=3, batch_size=8)


class FakeTrial:
    """A trial with given values that remembers its reports and attributes, and can be given up at a step."""

    def __init__(self, values, give_up_at=None):
        self.values, self.give_up_at = values, give_up_at
        self.reports, self.attributes = [], {}

    def suggest_float(self, name, low, high, *, log=False):
        return self.values[name]

    def suggest_categorical(self, name, choices):
        return self.values[name]

    def report(self, value, step):
        self.reports.append((step, value))

    def should_prune(self):
        return self.give_up_at is not None and self.reports[-1][0] >= self.give_up_at

    def set_user_attr(self, name, value):
        self.attributes[name] = value


def objective(crystals=CRYSTALS, seeds=(0,), seen=None):
    data = LabelledGraphs(crystals, BASE.model.targets, BASE.model.encoder.cutoffs[:2])
    splits = {seed: split(IDS, seed) for seed in seeds}

    def make_trainer(settings, parts):
        if seen is not None:
            seen.append((settings.seed, parts))
        return Trainer(settings, data, parts)

    return Objective(BASE, {}, splits, make_trainer)


def given(give_up_at=None, **changes):
    return FakeTrial({**values_of(BASE), "learning_rate": 1e-2, "batch_size": 8, **changes}, give_up_at)


def test_it_is_the_mean_of_the_best_validation_errors():
    trial = given()
    value = objective(seeds=(0, 1))(trial)
    data = LabelledGraphs(CRYSTALS, BASE.model.targets, BASE.model.encoder.cutoffs[:2])
    best = []
    for seed in (0, 1):
        trainer = Trainer(replace(BASE, seed=seed, learning_rate=1e-2), data, split(IDS, seed))
        list(trainer.epochs())
        best.append(trainer.best_score)
        record = trial.attributes["splits"][str(seed)]
        assert record["best_epoch"] == trainer.best_epoch
        assert record["validation"]["total"] == pytest.approx(trainer.best_score)
    assert value == pytest.approx(np.mean(best))
    assert [step for step, _ in trial.reports] == [1, 2, 3, 4, 5, 6]
    assert trial.reports[2][1] == pytest.approx(best[0])
    assert trial.reports[-1][1] == pytest.approx(value)


def test_no_trainer_is_given_test_crystals():
    seen = []
    objective(seeds=(0, 1), seen=seen)(given())
    assert [seed for seed, _ in seen] == [0, 1]
    for seed, parts in seen:
        whole = split(IDS, seed)
        assert len(parts.test) == 0
        assert set(whole.test).isdisjoint([*parts.train, *parts.validation])
        assert len(parts.train) + len(parts.validation) + len(whole.test) == len(IDS)


def test_poisoned_test_tensors_change_nothing_and_others_do():
    clean = objective()(given())

    def with_poison(indices):
        poison = {"total": np.full((3, 3), 1e6)}
        crystals = [replace(c, targets=poison) if n in indices else c for n, c in enumerate(CRYSTALS)]
        return objective(crystals)(given())

    parts = split(IDS, 0)
    assert with_poison(set(parts.test)) == clean
    assert with_poison({parts.validation[0]}) != clean
    assert with_poison({parts.train[0]}) != clean


def test_a_trial_can_be_given_up():
    trial = given(give_up_at=2)
    with pytest.raises(Pruned):
        objective(seeds=(0, 1))(trial)
    assert len(trial.reports) == 2
    assert trial.attributes.keys() == {"seconds"}


def test_a_loss_that_is_no_number_gives_the_trial_up_with_the_reason():
    trial = given(learning_rate=1e30)
    with pytest.raises(Pruned, match="the loss became"):
        objective()(trial)
    assert "the loss became" in trial.attributes["reason"]


def test_an_error_of_the_data_ends_the_search():
    few = CRYSTALS[:5]
    data = LabelledGraphs(few, BASE.model.targets, BASE.model.encoder.cutoffs[:2])
    parts = split(IDS[:5], 0)
    failing = Objective(BASE, {}, {0: parts}, lambda settings, split: Trainer(settings, data, split))
    with pytest.raises(DTNNError, match="at least 10 crystals"):
        failing(given())
