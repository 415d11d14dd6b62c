# SPDX-License-Identifier: MIT
"""The training set of a model: counts and latents, saved beside the weights, compared without a second encoding."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from model_cases import SMALL, config, labelled, randomised, small_crystals

from dtnn_fast import DTNN, Ensemble
from dtnn_fast.datasets.splits import split
from dtnn_fast.errors import BadFileError
from dtnn_fast.model.ensemble_model import join_members
from dtnn_fast.model.training_set import (
    LATENTS_FILE,
    SETTINGS_FILE,
    TrainingDistances,
    TrainingSet,
    mean_scalars,
    save_training_set,
)
from dtnn_fast.training.train_run import train_run
from dtnn_fast.training.training_settings import TrainingSettings

CRYSTALS = list(labelled()[:30])


def latents_of(model, crystals):
    with torch.no_grad():
        graph = model.graph(crystals)
        return mean_scalars(model.encoder(graph), graph.ptr)


@pytest.fixture
def model():
    model = randomised(config(2, channels=SMALL, targets=("electronic", "ionic", "total"))).float().eval()
    model.training_set = TrainingSet.of(CRYSTALS, latents_of(model, CRYSTALS))
    return model


def test_counts_are_of_crystals_not_of_atoms(model):
    for z in (8, 16):
        assert model.training_set.element_counts.get(z, 0) == sum(z in c.atomic_numbers for c in CRYSTALS)


def test_latents_are_means_over_the_atoms(model):
    graph = model.graph(CRYSTALS)
    with torch.no_grad():
        scalars = model.encoder(graph)[-1].atom_scalar.double()
    sizes = [crystal.num_atoms for crystal in CRYSTALS]
    expected = np.stack([part.mean(0).numpy() for part in scalars.split(sizes)])
    np.testing.assert_allclose(latents_of(model, CRYSTALS), expected, rtol=1e-12)


def test_the_limit_leaves_out_a_hundredth(model):
    rng = np.random.default_rng(0)
    points = rng.normal(size=(200, 3))
    limit = TrainingSet.of([], points).distance_limit
    distances = np.linalg.norm(points[:, None] - points, axis=-1)
    np.fill_diagonal(distances, np.inf)
    assert np.mean(distances.min(1) < limit) == pytest.approx(0.99, abs=0.006)


def test_training_crystals_are_near_and_the_encoder_runs_once(model, monkeypatch):
    calls = []
    forward = type(model.encoder).forward
    monkeypatch.setattr(type(model.encoder), "forward", lambda *args: calls.append(1) or forward(*args))
    plain = model.predict_batch(CRYSTALS)
    with TrainingDistances(model.encoders_with_training_sets()) as distances:
        tensors = model.predict_batch(CRYSTALS)
    assert len(calls) == 2
    for target, values in plain.items():
        np.testing.assert_array_equal(tensors[target], values)
    # Up to the rounding of the stored latents.
    assert distances.relative().max() < 0.05
    model.predict_batch(CRYSTALS)
    assert len(distances.relative()) == len(CRYSTALS)


def test_without_a_training_set_nothing_is_known():
    model = randomised(config(2)).float().eval()
    with TrainingDistances(model.encoders_with_training_sets()) as distances:
        model.predict_batch(CRYSTALS[:2])
    assert distances.relative() is None


def test_saved_and_loaded(model, tmp_path):
    model.save(tmp_path)
    again = DTNN.from_pretrained(tmp_path)
    assert again.training_set.element_counts == model.training_set.element_counts
    assert again.training_set.distance_limit == model.training_set.distance_limit
    np.testing.assert_array_equal(again.training_set.latents, model.training_set.latents)
    assert again.with_targets(["ionic"]).training_set is again.training_set
    # A model without a training set does not leave that of another one behind.
    model.training_set = None
    model.save(tmp_path)
    assert DTNN.from_pretrained(tmp_path).training_set is None


def test_damaged_files_are_named(model, tmp_path):
    model.save(tmp_path)
    settings = (tmp_path / SETTINGS_FILE).read_text()
    for text in (settings[:40], settings.replace("elements", "atoms"), settings.replace('"O"', '"Oxygen"')):
        (tmp_path / SETTINGS_FILE).write_text(text)
        with pytest.raises(BadFileError, match=r"training_set\.json"):
            DTNN.from_pretrained(tmp_path)
    (tmp_path / SETTINGS_FILE).write_text(settings)
    (tmp_path / LATENTS_FILE).unlink()
    with pytest.raises(BadFileError, match=r"training_latents\.safetensors: missing or damaged"):
        DTNN.from_pretrained(tmp_path)
    save_training_set(replace(model.training_set, latents=np.zeros((0, 3), np.float16)), tmp_path)
    with pytest.raises(BadFileError, match=r"shape \[n, C\]"):
        DTNN.from_pretrained(tmp_path)


def test_joined_models_know_the_crystals_of_all(model, tmp_path):
    other = DTNN(model.config, model.encoder).float().eval()
    other.training_set = TrainingSet.of(CRYSTALS[10:], latents_of(model, CRYSTALS[10:]))
    joined = join_members([model, other])
    assert joined.training_set.element_counts == model.training_set.element_counts
    assert len(joined.training_set.latents) == len(CRYSTALS)
    with TrainingDistances(Ensemble([model, other]).encoders_with_training_sets()) as distances:
        model.predict_batch(CRYSTALS[:10])
    assert len(distances.relative()) == 10


def test_training_writes_the_training_set(tmp_path):
    crystals = small_crystals(24, max_atoms=4)
    settings = TrainingSettings(replace(config(2, channels=SMALL, latent=8), elements=()), epochs=1, batch_size=8)
    train_run(settings, crystals, tmp_path)
    model = DTNN.from_pretrained(tmp_path / "model")
    train = [crystals[index] for index in split([c.id for c in crystals], settings.seed).train]
    expected = TrainingSet.of(train, latents_of(model, train))
    assert model.training_set.element_counts == expected.element_counts
    np.testing.assert_allclose(model.training_set.latents, expected.latents, rtol=2e-3, atol=1e-3)


def test_the_bundled_model_has_its_training_set():
    training_set = DTNN.from_pretrained("dielectric").training_set
    assert len(training_set.latents) == 10924
    assert training_set.element_counts[8] == 5785
    assert sum(count < 5 for count in training_set.element_counts.values()) == 3
