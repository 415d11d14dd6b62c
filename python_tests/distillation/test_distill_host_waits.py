# SPDX-License-Identifier: MIT
"""A step of a distillation never waits for a GPU: no value is read, and no size depends on values."""

from __future__ import annotations

from dataclasses import replace

import pytest
from host_waits import guard_steps
from test_distill_training import ALONE, ENCODER, NAMES, SETTINGS

from dtnn_fast.distillation.batches import LabelledShards
from dtnn_fast.distillation.distill_trainer import DistillTrainer
from dtnn_fast.distillation.labels import fit_labelled_energies
from dtnn_fast.distillation.student import label_statistics


@pytest.mark.parametrize("reduced", [False, True])
def test_distillation_does_not_wait(labels, tmp_path, monkeypatch, reduced):
    settings = replace(SETTINGS, epochs=1, energy_weight=0.5)
    shards = LabelledShards(labels, ENCODER.cutoffs, [*NAMES, "energy"], settings.batch_atoms, reduced=reduced)
    fit = fit_labelled_energies(labels)
    trainer = DistillTrainer(settings, shards, label_statistics(labels), tmp_path, ALONE, fit=fit)
    steps = guard_steps(trainer, monkeypatch)
    list(trainer.train())
    assert len(steps) == trainer.num_steps > 1
