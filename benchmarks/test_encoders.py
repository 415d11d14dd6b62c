# SPDX-License-Identifier: MIT
"""Crystals a second from structure to tensors: the bundled model, and one on its teacher SevenNet-0."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
from cases.crystals import labelled
from timing import compare

from dtnn_fast import DTNN
from dtnn_fast.encoders import PretrainedEncoderConfig
from dtnn_fast.model.decoder import DecoderConfig
from dtnn_fast.model.dtnn import DTNNConfig

# What is promised of the distilled encoder.
LEAST_RATIO = 60.0


@cache
def teacher() -> DTNN:
    """The shape of the models on SevenNet-0 of docs/results.md, with random weights, which take as long as any."""
    decoder = DecoderConfig(layer=5, more_layers=(1, 2, 3, 4), latent=64, bonds=False, joint=True)
    return DTNN(DTNNConfig(PretrainedEncoderConfig("sevennet-0"), decoder, ("electronic", "ionic", "total"))).eval()


def test_distilled_against_its_teacher(benchmark, device: str, quick: bool) -> None:
    pytest.importorskip("sevenn")
    if device != "cpu":
        pytest.skip("promised for the CPU")
    crystals = labelled()[: 4 if quick else 120]
    distilled = DTNN.from_pretrained("dielectric")

    def predict(model: DTNN) -> Any:
        return model.predict_targets(crystals)

    label = f"DTNN, 3 targets, {len(crystals)} crystals from structures, {device}"
    sides = {"native": [lambda: predict(distilled)], "SevenNet-0": [lambda: predict(teacher())]}
    times = compare(benchmark, label, sides, device, once=quick)
    case = f"{len(crystals)} crystals, from structures"
    benchmark.extra_info |= {"op": "DTNN, 3 targets", "case": case, "pass": "forward"}
    if not quick:
        assert times["SevenNet-0"] >= LEAST_RATIO * times["native"]
