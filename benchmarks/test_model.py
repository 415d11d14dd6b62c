# SPDX-License-Identifier: MIT
"""The whole model: training steps and predictions on the native operations and on their twins in eager PyTorch."""

from __future__ import annotations

import pytest
import torch
from timing import compare

from dtnn_fast import DTNN, use_backend
from dtnn_fast.data.bundled import load_labelled
from dtnn_fast.nn.graph import build_graph


@pytest.fixture(scope="module")
def model() -> DTNN:
    """The bundled model with its three targets."""
    return DTNN.from_pretrained("dielectric")


def on_twins(call):
    """The same call on the reference backend."""

    def run():
        with use_backend("reference"):
            return call()

    return run


def test_prediction_of_labelled_crystals(benchmark, model):
    graph = model.graph(load_labelled()[:256])

    def predict():
        with torch.no_grad():
            return model(graph)

    compare(benchmark, "DTNN, 3 targets: prediction of 256 crystals", predict, {"twins": on_twins(predict)})


def test_training_step(benchmark, model):
    crystals = load_labelled()[::15]
    graph = model.graph(crystals)

    def step():
        model.zero_grad()
        sum(tensors.square().mean() for tensors in model(graph).values()).backward()

    compare(benchmark, f"DTNN, 3 targets: fwd+bwd of {len(crystals)} crystals", step, {"twins": on_twins(step)})


def test_graph(benchmark, model):
    """Neighbor lists for the three cutoffs, which the twins do by brute force over all images."""
    crystals = load_labelled()[::15]

    def build():
        return build_graph(crystals, model.encoder.cutoffs)

    compare(benchmark, f"graphs of {len(crystals)} crystals", build, {"twins": on_twins(build)})
