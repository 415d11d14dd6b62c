# SPDX-License-Identifier: MIT
"""Distillation on one atom and one bond of each orbit has the loss and the gradients of all atoms."""

from __future__ import annotations

import pytest
import torch
from test_distill_training import ENCODER

from dtnn_fast.distillation import batches
from dtnn_fast.distillation.batches import LabelledShards
from dtnn_fast.distillation.held_out_report import evaluate
from dtnn_fast.distillation.labels import ENERGY, fit_labelled_energies
from dtnn_fast.distillation.student import LayerMatch, Student, label_statistics

pytest.importorskip("moyopy")

NAMES = [ENERGY, "rank2_1", "scalar_1", "scalar_2", "vector_1"]


@pytest.fixture(scope="module")
def shards(labels):
    plain = LabelledShards(labels, ENCODER.cutoffs, NAMES, batch_atoms=60)
    return plain, LabelledShards(labels, ENCODER.cutoffs, NAMES, batch_atoms=60, reduced=True)


@pytest.fixture
def student(labels):
    torch.manual_seed(0)
    statistics = label_statistics(labels)
    made = Student(ENCODER, (LayerMatch(1, 1), LayerMatch(2, 2)), statistics, 0.5, fit_labelled_energies(labels))
    with torch.no_grad():
        made.energy.weight.normal_()
        made.energy.shift.normal_(std=0.1)
        for parameter in made.encoder.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return made


def test_losses_and_gradients(shards, student):
    student = student.double()
    num_stored = num_atoms = 0
    parameters = [parameter for parameter in student.parameters() if parameter.requires_grad]
    for plain, reduced in zip(*(each.training_batches(0, 0) for each in shards), strict=True):
        assert torch.equal(plain.labels[ENERGY], reduced.labels[ENERGY])
        assert len(reduced.labels["vector_1"]) == reduced.graph.num_atoms
        num_atoms += plain.graph.num_atoms
        num_stored += reduced.graph.num_atoms
        results = []
        for batch in (plain, reduced):
            losses = student(batch.graph.to(dtype=torch.float64), batch.labels)
            results.append((losses, torch.autograd.grad(losses.total, parameters, allow_unused=True)))
        (expected, gradients), (ours, our_gradients) = results
        # Labels are stored in float16, and crystals are symmetric to 1e-3 Angstrom.
        for a, b in zip(ours, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=5e-3, atol=1e-4)
        largest = max(float(g.abs().max()) for g in gradients if g is not None)
        for a, b in zip(our_gradients, gradients, strict=True):
            assert (a is None) == (b is None)
            if a is not None:
                torch.testing.assert_close(a, b, rtol=0, atol=5e-3 * largest)
    # Half of the made crystals are rattled, and keep all atoms.
    assert num_stored < 0.9 * num_atoms


def test_held_out_reports(shards, student):
    for made in (False, True):
        plain, reduced = (evaluate(student, each.held_out_batches(made), "cpu") for each in shards)
        for a, b in zip(reduced.latents, plain.latents, strict=True):
            for rank, value in a.ranks.items():
                assert value == pytest.approx(b.ranks[rank], rel=1e-2, abs=1e-2)
        assert reduced.energies.quality.mae_mev == pytest.approx(plain.energies.quality.mae_mev, rel=1e-3)


def test_operations_are_searched_once(labels, monkeypatch):
    searched = []
    search = batches.with_operations

    def count(crystals):
        searched.append(len(crystals))
        return search(crystals)

    monkeypatch.setattr(batches, "with_operations", count)
    shards = LabelledShards(labels, ENCODER.cutoffs, NAMES, batch_atoms=60, reduced=True)
    for epoch in range(2):
        for _ in shards.training_batches(0, epoch):
            pass
    assert len(searched) == shards.num_shards
