# SPDX-License-Identifier: MIT
"""What the tensor must not depend on, and how it must turn with the crystal, for every variant of the model."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from model_cases import (
    VARIANTS,
    anisotropy,
    assert_close,
    asymmetric_crystals,
    flipped,
    orthogonal,
    permuted,
    recelled,
    tensors,
    transformed,
    unwrapped,
    variant,
)

from dtnn_fast.nn.graph import build_graph, collate

every_variant = pytest.mark.parametrize("name", VARIANTS)
CRYSTALS = asymmetric_crystals()
TRANSFORMATIONS = {
    "rotation": orthogonal(1, improper=False),
    "rotation and reflection": orthogonal(2, improper=True),
    "mirror": np.diag([1.0, 1.0, -1.0]),
    "inversion": -np.eye(3),
}
CELLS = {
    "2x1x1": [[2, 0, 0], [0, 1, 0], [0, 0, 1]],
    "sheared": [[1, 0, 0], [2, 1, 0], [-1, 1, 1]],
    "left-handed": [[0, 1, 0], [1, 0, 0], [0, 0, 1]],
    "mirrored": [[-1, 0, 0], [0, -1, 0], [0, 0, -1]],
    "sheared, twofold": [[1, 1, 0], [-1, 1, 0], [1, 0, 1]],
}


@every_variant
def test_there_is_a_signal_that_the_other_tests_can_see(name):
    model = variant(name)
    predicted = tensors(model, *CRYSTALS)
    assert min(anisotropy(tensor) for tensor in predicted) > 0.005
    assert max(anisotropy(tensor) for tensor in predicted) > 0.1
    assert ((predicted.abs().amax((1, 2)) > 0.05) & (predicted.abs().amax((1, 2)) < 50)).all()
    with torch.no_grad():
        latents = model.encoder(model.graph(CRYSTALS))[-1]
    several = CRYSTALS[0].num_atoms  # the single atom is at a center of inversion: no vectors there
    for part in (latents.atom_scalar, latents.atom_vector[several:], latents.atom_rank2, latents.bond_vector):
        assert part.abs().mean() > 0.005


@every_variant
@pytest.mark.parametrize("matrix", TRANSFORMATIONS.values(), ids=TRANSFORMATIONS)
def test_turns_with_the_crystal(name, matrix):
    turned = tensors(variant(name), *(transformed(crystal, matrix) for crystal in CRYSTALS))
    q = torch.from_numpy(matrix)
    for before, after in zip(tensors(variant(name), *CRYSTALS), turned, strict=True):
        assert_close(after, q @ before @ q.T)


@every_variant
def test_tensors_are_symmetric(name):
    predicted = tensors(variant(name), *CRYSTALS)
    assert torch.equal(predicted, predicted.transpose(1, 2))


@every_variant
@pytest.mark.parametrize("matrix", CELLS.values(), ids=CELLS)
def test_does_not_depend_on_the_cell(name, matrix):
    other = tensors(variant(name), *(recelled(crystal, matrix) for crystal in CRYSTALS))
    for before, after in zip(tensors(variant(name), *CRYSTALS), other, strict=True):
        assert_close(after, before)


@every_variant
def test_does_not_depend_on_translation_order_or_wrapping_of_atoms(name):
    model, shift = variant(name), np.array([0.37, -5.1, 11.3])
    random = np.random.RandomState(0)
    for crystal in CRYSTALS:
        before = tensors(model, crystal)
        assert_close(tensors(model, replace(crystal, positions=crystal.positions + shift)), before)
        assert_close(tensors(model, permuted(crystal, random.permutation(crystal.num_atoms))), before)
        assert_close(tensors(model, permuted(crystal, np.arange(crystal.num_atoms)[::-1])), before)
        assert_close(tensors(model, unwrapped(crystal)), before)


@every_variant
def test_does_not_depend_on_the_end_from_which_a_bond_is_stored(name):
    model = variant(name)
    graph = model.graph(CRYSTALS)
    other, olds, signs = flipped(graph)
    assert any((tier.pairs[0] > tier.pairs[1]).any() for tier in other.tiers)
    own_images = [(t.pairs[0] == t.pairs[1]) & (s < 0) for t, s in zip(other.tiers, signs, strict=True)]
    assert any(reversed_images.any() for reversed_images in own_images)
    for tier, turned, old, sign in zip(graph.tiers, other.tiers, olds, signs, strict=True):
        assert_close(other.vectors(turned), sign[:, None] * graph.vectors(tier)[old], 1e-12)
    with torch.no_grad():
        assert_close(model(other)["total"], model(graph)["total"])
        before, after = model.encoder(graph), model.encoder(other)
    for expected, actual in zip(before, after, strict=True):
        level = graph.tiers.index(expected.bonds)
        assert_close(actual.atom_vector, expected.atom_vector)
        assert_close(actual.atom_rank2, expected.atom_rank2)
        assert_close(actual.bond_scalar, expected.bond_scalar[olds[level]])
        assert_close(actual.bond_vector, signs[level][:, None, None] * expected.bond_vector[olds[level]])


@every_variant
def test_a_batch_gives_what_single_crystals_give(name):
    model = variant(name)
    singles = torch.cat([tensors(model, crystal) for crystal in CRYSTALS])
    assert_close(tensors(model, *CRYSTALS), singles, 1e-12)
    assert_close(tensors(model, *CRYSTALS[::-1]), singles.flip(0), 1e-12)


def test_collate_gives_the_graph_of_all_crystals_to_the_bit():
    cutoffs = (3.0, 4.0, 6.0)
    joined = collate([build_graph([crystal], cutoffs) for crystal in CRYSTALS])
    nested = collate([build_graph(CRYSTALS[:2], cutoffs), build_graph(CRYSTALS[2:], cutoffs)])
    expected = build_graph(CRYSTALS, cutoffs)
    for graph in (joined, nested):
        for name in ("atomic_numbers", "positions", "cell", "ptr"):
            assert torch.equal(getattr(graph, name), getattr(expected, name)), name
        for actual, tier in zip(graph.tiers, expected.tiers, strict=True):
            assert actual.cutoff == tier.cutoff
            for name in ("pairs", "shifts", "row_ptr", "inner"):
                assert torch.equal(getattr(actual, name), getattr(tier, name)), name
            for a, e in zip(actual.by_neighbor, tier.by_neighbor, strict=True):
                assert torch.equal(a, e)


def test_tiers_are_nested_and_each_is_the_list_of_its_cutoff():
    cutoffs = (3.0, 4.0, 6.0)
    graph = build_graph(CRYSTALS, cutoffs, torch.float64)
    for level, cutoff in enumerate(cutoffs):
        alone = build_graph(CRYSTALS, [cutoff], torch.float64).tiers[0]
        tier = graph.tier(cutoff)
        for name in ("pairs", "shifts", "row_ptr"):
            assert torch.equal(getattr(tier, name), getattr(alone, name)), name
        assert (graph.vectors(tier).norm(dim=1) < cutoff).all()
        if level:
            shorter = graph.tiers[level - 1]
            assert torch.equal(tier.pairs[:, tier.inner], shorter.pairs)
            assert torch.equal(tier.shifts[tier.inner], shorter.shifts)
