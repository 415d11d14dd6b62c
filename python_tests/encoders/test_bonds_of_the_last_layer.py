# SPDX-License-Identifier: MIT
"""Latents without the bonds of lower layers, which decoders do not read."""

import torch
from model_cases import small_crystals

from dtnn_fast.encoders import Channels, NativeEncoderConfig
from dtnn_fast.encoders.native import NativeEncoder
from dtnn_fast.nn.graph import build_graph


def test_only_bonds_of_lower_layers_are_missing():
    torch.manual_seed(0)
    encoder = NativeEncoder(NativeEncoderConfig(channels=Channels(8, 4, 4)), num_layers=3)
    graph = build_graph(small_crystals(3), encoder.cutoffs)
    with torch.no_grad():
        whole, short = encoder(graph), encoder(graph, all_bonds=False)
    assert [layer.bonds is None for layer in short] == [True, True, False]
    for ours, expected in zip(short, whole, strict=True):
        given = [(a, b) for a, b in zip(ours[:6], expected[:6], strict=True) if a is not None]
        assert len(given) == (6 if ours.bonds is not None else 3)
        assert all(torch.equal(a, b) for a, b in given)
