# SPDX-License-Identifier: MIT
"""Trials with the same encoder layers share graphs and latents, and train as dtnn-fast train does."""

from dataclasses import replace

import pytest
import torch
from model_cases import TINY, config, small_crystals

from dtnn_fast.datasets.splits import split
from dtnn_fast.encoders.build import build_encoder
from dtnn_fast.encoders.latent_cache import encode_crystals
from dtnn_fast.training.train_run import train_run
from dtnn_fast.training.training_settings import TrainingSettings
from dtnn_fast.tuning.objective import TrainerFactory
from dtnn_fast.tuning.search_space import with_values

CRYSTALS = small_crystals(20, max_atoms=4)
PARTS = split([crystal.id for crystal in CRYSTALS], 0)
BASE = TrainingSettings(replace(config(4, channels=TINY, latent=8), elements=()), epochs=2, batch_size=8)


def make_encoder(layer):
    torch.manual_seed(1)
    return build_encoder(BASE.model.encoder, layer)


def test_a_frozen_encoder_runs_once_for_each_layer():
    calls = []

    def encode(encoder, layers):
        calls.append(tuple(layers))
        return encode_crystals(encoder, CRYSTALS, layers)

    make_trainer = TrainerFactory(CRYSTALS, make_encoder, encode)
    for layer in ("4", "2", "4", "5", "1-4"):
        trainer = make_trainer(with_values(BASE, {"layer": layer, "blocks": 1}), PARTS)
        assert trainer.settings.frozen
        before = [p.clone() for p in trainer.model.encoder.parameters()]
        list(trainer.epochs())
        assert all(torch.equal(a, b) for a, b in zip(before, trainer.model.encoder.parameters(), strict=True))
    assert calls == [(4,), (2,), (4, 5), (1, 2, 3, 4)]


def test_trials_run_on_the_device():
    """The CPU cannot stand in for a GPU here; torch's device without values can."""
    make_trainer = TrainerFactory(CRYSTALS, lambda layer: None, encode_crystals, "meta")
    trainer = make_trainer(BASE, PARTS)
    assert trainer.workers.device == torch.device("meta")
    assert {parameter.device for parameter in trainer.model.parameters()} == {torch.device("meta")}


@pytest.mark.parametrize("frozen", [True, False])
def test_a_trial_has_the_validation_error_of_a_run_of_train(tmp_path, frozen):
    def encode(encoder, layers):
        return encode_crystals(encoder, CRYSTALS, layers)

    encoder = make_encoder(4) if frozen else None
    make_trainer = TrainerFactory(CRYSTALS, make_encoder if frozen else lambda layer: None, encode)
    trainer = make_trainer(BASE, PARTS)
    list(trainer.epochs())
    table = encode(encoder, (4,)) if frozen else None
    result = train_run(BASE, CRYSTALS, tmp_path, encoder=encoder, latents=table)
    assert trainer.best_score == pytest.approx(result["errors"]["total"]["validation"]["all"]["mae_ten"], rel=1e-5)
    assert trainer.best_epoch == result["best_epoch"]
