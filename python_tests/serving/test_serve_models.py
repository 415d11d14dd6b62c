# SPDX-License-Identifier: MIT
"""Other models than the bundled one: without error bars, charges or a training set, and ensembles."""

import json

import numpy as np
import pytest
import torch
from serving_processes import ROCK_SALT, started

from dtnn_fast.crystals.crystal import Crystal
from dtnn_fast.datasets.bundled import load_labelled
from dtnn_fast.encoders import Channels, NativeEncoderConfig
from dtnn_fast.model.decoder import DecoderConfig
from dtnn_fast.model.dtnn import DTNN, DTNNConfig
from dtnn_fast.model.ensemble_model import Ensemble
from dtnn_fast.serving.labelled_neighbors import LabelledNeighbors

SALT = Crystal.make("NaCl", [11, 17], [[0, 0, 0], [2.8, 2.8, 2.8]], 2.8 * (1 - np.eye(3)))


def tiny(seed):
    torch.manual_seed(seed)
    config = DTNNConfig(
        encoder=NativeEncoderConfig(channels=Channels(8, 4, 4)), decoder=DecoderConfig(latent=8), targets=("total",)
    )
    return DTNN(config).eval()


@pytest.mark.slow
def test_an_ensemble_without_anything_else(tmp_path):
    models = [tiny(seed) for seed in (0, 1)]
    Ensemble(models).save(tmp_path)
    expected = np.mean([model.predict([SALT])[0] for model in models], axis=0)
    with started("--model", tmp_path) as server:
        (result,) = server.predict(
            {"name": "a.vasp", "text": ROCK_SALT}, include=["structure", "axes", "born_charges", "neighbors", "refined"]
        )
        np.testing.assert_allclose(result["tensors"]["total"]["tensor"], expected, rtol=1e-5, atol=1e-6)
        assert set(result["tensors"]) == {"total"}
        assert not {"mean_error", "tensor_error"} & set(result["tensors"]["total"])
        assert "born_charges" not in result
        assert result["not_refined"] == "this model has no lattice dynamics"
        assert result["neighbors"] == []
        assert (result["refractive_index"], result["training_distance"]) == (None, None)
        described = json.loads(server.get("/v1/model")[2])
        assert described["elements"] == []
        assert not any(described[name] for name in ("has_born_charges", "has_error_bars", "can_refine"))
        assert server.get("/")[0] == 200


def test_neighbors_are_the_nearest_of_all(model):
    """Against distances of latents that are computed one by one."""
    labelled = load_labelled()[:40]
    neighbors = LabelledNeighbors(model, labelled)
    scalars = []
    with torch.inference_mode():
        for crystal in [*labelled, SALT]:
            latents = model.encode(model.graph([crystal])).latents[-1]
            scalars.append(latents.atom_scalar.double().mean(0).numpy())
    distances = np.linalg.norm(np.array(scalars[:-1]) - scalars[-1], axis=1) / model.training_set.distance_limit
    (found,) = neighbors.nearest([SALT], 3)
    order = np.argsort(distances)[:3]
    assert [one["id"] for one in found] == [labelled[row].id for row in order]
    assert [one["distance"] for one in found] == pytest.approx(distances[order], rel=1e-3)
    assert neighbors.nearest([], 3) == []
    (every,) = neighbors.nearest([SALT], 100)
    assert len(every) == 40


def test_neighbors_of_a_model_without_training_set():
    assert LabelledNeighbors(tiny(0)).nearest([SALT, SALT], 5) == [[], []]
