# SPDX-License-Identifier: MIT
"""A training step never waits for a GPU: no value is read, and no size depends on values."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from host_waits import NoHostWaits, WaitError, guard_steps
from model_cases import TINY, config, small_crystals

from dtnn_fast import use_backend
from dtnn_fast.datasets.splits import split
from dtnn_fast.encoders import NativeEncoder
from dtnn_fast.encoders.latent_cache import encode_crystals
from dtnn_fast.symmetry import with_operations
from dtnn_fast.training.labelled_data import make_labelled_data
from dtnn_fast.training.trainer import Trainer
from dtnn_fast.training.training_settings import TrainingSettings

CRYSTALS = small_crystals(20, max_atoms=4)


@pytest.mark.parametrize(
    "call",
    [
        lambda x: x.sum().item(),
        lambda x: float(x[0]),
        lambda x: bool(torch.isfinite(x).all()),
        lambda x: x.nonzero(),
        lambda x: x[x > 0],
        lambda x: x.masked_select(x > 0),
        lambda x: x.index_put((x > 0,), x.new_zeros(())),
        lambda x: x.tolist(),
        lambda x: x.cpu(),
        lambda x: x.unique(),
        lambda x: torch.equal(x, x),
        lambda x: torch.bincount(x.long()),
        lambda x: torch.repeat_interleave(x.long()),
        lambda x: x.to(dtype=torch.float64, device="cpu"),
        lambda x: torch.nn.utils.clip_grad_norm_([x.requires_grad_()], 1.0, error_if_nonfinite=True),
    ],
)
def test_the_mode_notices_waiting(call):
    values = torch.tensor([1.0, 2.0])
    values.grad = torch.ones(2)
    with pytest.raises(WaitError), NoHostWaits():
        call(values)


def test_the_mode_allows_other_operations():
    with NoHostWaits():
        x = torch.ones(3)
        x[torch.tensor([0, 1])] = 2.0
        torch.repeat_interleave(x, torch.tensor([1, 2, 1]), output_size=4)


@pytest.mark.parametrize("backend", ["native", "reference"])
@pytest.mark.parametrize("form", ["plain", "reduced", "ensemble", "several targets", "joint", "frozen"])
def test_training_does_not_wait(form, backend, monkeypatch):
    more = {"frozen": {"bonds": False}, "joint": {"joint": True}}.get(form, {})
    model = config(2, channels=TINY, latent=8, dropout=0.2, **more)
    if form in ("several targets", "joint"):
        model = replace(model, targets=("electronic", "ionic", "total"))
    if form == "ensemble":
        model = replace(model, members=3)
    settings = TrainingSettings(model, epochs=1, batch_size=8, average=0.9, frozen=form == "frozen")
    crystals = CRYSTALS if form == "plain" else with_operations(CRYSTALS)
    encoder = NativeEncoder(model.encoder, 2).eval() if form == "frozen" else None
    latents = None if encoder is None else encode_crystals(encoder, crystals, (2,))
    data = make_labelled_data(settings, crystals, latents)
    run = Trainer(settings, data, split([crystal.id for crystal in crystals], 0), encoder=encoder)
    steps = guard_steps(run, monkeypatch)
    with use_backend(backend):
        (epoch,) = run.epochs()
    assert len(steps) == 2
    assert np.isfinite(epoch.train_loss)


def test_a_planted_wait_is_noticed_in_a_step(monkeypatch):
    settings = TrainingSettings(config(2, channels=TINY, latent=8), epochs=1, batch_size=8)
    run = Trainer(settings, make_labelled_data(settings, CRYSTALS, None), split([c.id for c in CRYSTALS], 0))
    guard_steps(run, monkeypatch)
    monkeypatch.setattr(run.mean, "update", lambda: next(iter(run.model.parameters())).sum().item())
    with pytest.raises(WaitError, match="_local_scalar_dense"):
        list(run.epochs())
