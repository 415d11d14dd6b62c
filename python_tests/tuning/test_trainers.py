# SPDX-License-Identifier: MIT
"""Trials share what is the same for one encoder layer, and learn from what dtnn-fast train would learn from."""

from dataclasses import replace

import pytest
import torch
from model_cases import TINY, config, small_crystals

from dtnn_fast.datasets.splits import split
from dtnn_fast.encoders.build import build_encoder
from dtnn_fast.encoders.latent_cache import encode_crystals
from dtnn_fast.training.train_run import train_run
from dtnn_fast.training.training_settings import TrainingSettings
from dtnn_fast.tuning.objective import Trainers
from dtnn_fast.tuning.search_space import with_values

CRYSTALS = small_crystals(20, max_atoms=4)
PARTS = split([crystal.id for crystal in CRYSTALS], 0)
BASE = TrainingSettings(replace(config(4, channels=TINY, latent=8), elements=()), epochs=2, batch_size=8)


def encoder_of(layer):
    torch.manual_seed(1)
    return build_encoder(BASE.model.encoder, layer)


def test_a_frozen_encoder_runs_once_for_each_layer():
    calls = []

    def latents_of(encoder, layers):
        calls.append(tuple(layers))
        return encode_crystals(encoder, CRYSTALS, layers)

    trainers = Trainers(CRYSTALS, encoder_of, latents_of)
    for layer in ("4", "2", "4", "5", "1-4"):
        trainer = trainers(with_values(BASE, {"layer": layer, "blocks": 1}), PARTS)
        assert trainer.settings.frozen
        before = [p.clone() for p in trainer.model.encoder.parameters()]
        list(trainer.epochs())
        assert all(torch.equal(a, b) for a, b in zip(before, trainer.model.encoder.parameters(), strict=True))
    assert calls == [(4,), (2,), (4, 5), (1, 2, 3, 4)]


@pytest.mark.parametrize("frozen", [True, False])
def test_a_trial_has_the_validation_error_of_the_run_that_train_makes(tmp_path, frozen):
    def latents_of(encoder, layers):
        return encode_crystals(encoder, CRYSTALS, layers)

    encoder = encoder_of(4) if frozen else None
    trainers = Trainers(CRYSTALS, encoder_of if frozen else lambda layer: None, latents_of)
    trainer = trainers(BASE, PARTS)
    list(trainer.epochs())
    table = latents_of(encoder, (4,)) if frozen else None
    result = train_run(BASE, CRYSTALS, tmp_path, encoder=encoder, table=table)
    assert trainer.best_score == pytest.approx(result["errors"]["total"]["validation"]["all"]["mae_ten"], rel=1e-5)
    assert trainer.best_epoch == result["best_epoch"]
