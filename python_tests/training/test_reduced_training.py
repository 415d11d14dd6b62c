# SPDX-License-Identifier: MIT
"""Training on reduced graphs of labelled crystals is training on the crystals."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from model_cases import TINY, asymmetric_crystals, config, small_crystals

from dtnn_fast.datasets.splits import split
from dtnn_fast.encoders import NativeEncoder
from dtnn_fast.encoders.latent_cache import cached_latents, encode_crystals, operations_digest
from dtnn_fast.model.dtnn import DTNN
from dtnn_fast.symmetry import with_operations
from dtnn_fast.training.labelled_data import LabelledGraphs, LabelledLatents, make_labelled_data
from dtnn_fast.training.trainer import Trainer
from dtnn_fast.training.training_settings import TrainingSettings

pytest.importorskip("moyopy")

# One crystal without symmetry among them.
PLAIN = [*small_crystals(23, max_atoms=4), replace(asymmetric_crystals()[1], id="none")]
PLAIN[-1] = replace(PLAIN[-1], targets=PLAIN[0].targets)
REDUCED = with_operations(PLAIN)
SETTINGS = TrainingSettings(config(2, channels=TINY, latent=8, dropout=0.0), epochs=5, batch_size=8, learning_rate=1e-2)


def test_the_crystals_have_symmetry():
    assert sum(crystal.operations is not None for crystal in REDUCED) == 23
    assert REDUCED[-1].operations is None
    assert all(crystal.operations is None for crystal in PLAIN)


def curve(data):
    torch.manual_seed(3)
    run = Trainer(SETTINGS, data, split([crystal.id for crystal in PLAIN], 0), None, 1)
    losses = [[epoch.train_loss, epoch.score] for epoch in run.epochs()]
    return np.array(losses), run.model


@pytest.mark.parametrize("frozen", [False, True])
def test_the_loss_curve_is_the_same(frozen):
    encoder = NativeEncoder(SETTINGS.model.encoder, 2).eval()
    settings = replace(SETTINGS, frozen=frozen)
    data = []
    for crystals in (PLAIN, REDUCED):
        latents = encode_crystals(encoder, crystals, (1, 2)) if frozen else None
        data.append(make_labelled_data(settings, crystals, latents))
    num_atoms = [sum(graph.num_atoms for graph in graphs.graphs) for graphs in data]
    assert num_atoms[1] < 0.8 * num_atoms[0]
    (plain, plain_model), (reduced, reduced_model) = map(curve, data)
    np.testing.assert_allclose(reduced, plain, rtol=1e-3)
    for a, b in zip(plain_model.parameters(), reduced_model.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=2e-2, atol=2e-3)


@pytest.mark.parametrize(("layer", "bonds"), [(2, True), (4, False), (5, True)])
def test_latents_give_what_the_graphs_give(layer, bonds):
    settings = config(layer=layer, bonds=bonds)
    encoder = NativeEncoder(settings.encoder, layer).eval()
    model = DTNN(settings, encoder).eval()
    table = encode_crystals(encoder, REDUCED, settings.decoder.kept_layers)
    latents = LabelledLatents(REDUCED, ["total"], encoder.cutoffs, table, reduced=True)
    reduced = LabelledGraphs(REDUCED, ["total"], encoder.cutoffs, reduced=True)
    plain = LabelledGraphs(PLAIN, ["total"], encoder.cutoffs)
    chosen = [17, 23, 3, 11]
    with torch.no_grad():
        expected = model(plain.batch(chosen)[0])["total"]
        torch.testing.assert_close(model(latents.batch(chosen)[0])["total"], expected, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(model(reduced.batch(chosen)[0])["total"], expected, rtol=1e-4, atol=1e-4)


def test_the_cache_knows_the_operations(tmp_path):
    assert operations_digest(PLAIN) != operations_digest(REDUCED)
    encoder = NativeEncoder(config(channels=TINY).encoder, 2).eval()
    calls: list[int] = []
    for crystals in (PLAIN, REDUCED, REDUCED, PLAIN):
        table = cached_latents(encoder, crystals, (2,), tmp_path, on_batch=lambda done, total: calls.append(done))
        stored = sum(len(table.select(2, [index])["atom_scalar"]) for index in range(len(crystals)))
        assert stored == int(table.atom_counts.sum())
        assert (stored < sum(crystal.num_atoms for crystal in PLAIN)) == (crystals is REDUCED)
    assert len(list(tmp_path.iterdir())) == 2
