# SPDX-License-Identifier: MIT
"""Born effective charges: how they turn with the crystal, the sum rule, what symmetry forbids, and their storage."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from model_cases import (
    TOLERANCE,
    VARIANTS,
    asymmetric_crystals,
    config,
    flipped,
    orthogonal,
    permuted,
    randomised,
    rattled,
    recelled,
    small_crystals,
    transformed,
    unwrapped,
)

from dtnn_fast import DTNN, Ensemble
from dtnn_fast.model.born_charges import without_mean
from dtnn_fast.nn.graph import collate
from dtnn_fast.nn.reduced_graph import reduce_crystals
from dtnn_fast.ops import symmetrise_crystals
from dtnn_fast.symmetry import find_symmetry, with_operations

CRYSTALS = asymmetric_crystals()
CHARGED = ["layer4-bonds-residual", "layer3-simple-plain", "several-layers", "joint"]
TRANSFORMATIONS = [orthogonal(1, improper=False), orthogonal(2, improper=True), -np.eye(3)]


def charged(name="several-layers"):
    return randomised(replace(VARIANTS[name], born_charges=True))


@pytest.fixture(params=CHARGED)
def model(request):
    return charged(request.param)


def charges(model, *crystals):
    return model.predict_born_charges(list(crystals))


def close(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=TOLERANCE, atol=TOLERANCE)


def test_there_is_a_signal_that_the_other_tests_can_see(model):
    for crystal, values in zip(CRYSTALS[1:], charges(model, *CRYSTALS[1:]), strict=True):
        assert values.shape == (crystal.num_atoms, 3, 3)
        assert np.abs(values).max() > 1e-3
        if crystal.num_atoms > 2:  # two atoms are centers of inversion for each other's images: no vectors, no cross
            assert np.abs(values - values.transpose(0, 2, 1)).max() > 1e-4


@pytest.mark.parametrize("matrix", TRANSFORMATIONS, ids=["rotation", "rotation and reflection", "inversion"])
def test_both_indices_turn_with_the_crystal(model, matrix):
    turned = charges(model, *(transformed(crystal, matrix) for crystal in CRYSTALS))
    for before, after in zip(charges(model, *CRYSTALS), turned, strict=True):
        close(after, matrix @ before @ matrix.T)


def test_charges_of_a_crystal_sum_to_zero(model):
    for values in charges(model, *CRYSTALS):
        assert np.abs(values.sum(0)).max() < 1e-14
    assert np.abs(charges(model, CRYSTALS[0])[0]).max() == 0.0  # an element with one atom in the cell


def test_do_not_depend_on_order_wrapping_cell_or_stored_ends(model):
    crystal = CRYSTALS[-1]
    (before,) = charges(model, crystal)
    order = np.random.default_rng(0).permutation(crystal.num_atoms)
    close(charges(model, permuted(crystal, order))[0], before[order])
    close(charges(model, unwrapped(crystal))[0], before)
    doubled = charges(model, recelled(crystal, [[2, 0, 0], [0, 1, 0], [0, 0, 1]]))[0]
    close(doubled, np.concatenate([before, before]))
    with torch.no_grad():
        graph = model.graph(CRYSTALS)
        torch.testing.assert_close(
            model.born_charges(flipped(graph)[0]), model.born_charges(graph), rtol=1e-8, atol=1e-8
        )


def test_a_batch_is_its_crystals(model):
    for together, alone in zip(charges(model, *CRYSTALS), [charges(model, c)[0] for c in CRYSTALS], strict=True):
        close(together, alone)


def test_elements_that_the_site_symmetry_forbids_are_zero(model):
    for crystal in small_crystals(6, skip=3):
        symmetry = find_symmetry(crystal, 1e-4)
        if symmetry is None:
            continue
        for values, operations in zip(charges(model, crystal)[0], site_rotations(crystal), strict=True):
            average = np.mean([r @ values @ r.T for r in operations], axis=0)
            np.testing.assert_allclose(values, average, atol=2e-5)  # the positions have six decimals


def site_rotations(crystal):
    """Cartesian rotations that leave each atom in its place."""
    (known,) = with_operations([crystal], tolerance=1e-4)
    fractional = crystal.positions @ np.linalg.inv(crystal.cell)
    rotations = [[] for _ in range(crystal.num_atoms)]
    for w, image in zip(*known.operations, strict=True):
        shift = fractional[image] - w @ fractional[0]
        cartesian = crystal.cell.T @ w @ np.linalg.inv(crystal.cell.T)
        for atom, place in enumerate(fractional):
            moved = w @ place + shift - place
            if np.abs((moved - np.rint(moved)) @ crystal.cell).max() < 1e-2:
                rotations[atom].append(cartesian)
    return rotations


def test_symmetric_charges_of_reduced_graphs_are_those_of_all_atoms(model):
    crystals = [crystal for crystal in with_operations(small_crystals(12)) if crystal.operations is not None]
    graph, stored = reduce_crystals(crystals, model.encoder.cutoffs, torch.float64)
    plain = [replace(crystal, operations=None) for crystal in crystals]
    everything = np.concatenate(charges(model, *plain))[stored.numpy()]
    with torch.no_grad():
        reduced = model.born_charges(graph).numpy()
    # Snapping to exact symmetry moves atoms by what the rounded positions lack.
    np.testing.assert_allclose(
        reduced + reduced.transpose(0, 2, 1), everything + everything.transpose(0, 2, 1), atol=2e-4
    )


def snapped(crystal):
    """The crystal made exactly symmetric, as it is in a reduced graph, with all its atoms."""
    if crystal.operations is None:
        return crystal
    symmetric = symmetrise_crystals(
        torch.from_numpy(crystal.positions),
        torch.from_numpy(crystal.cell)[None],
        torch.tensor([0, crystal.num_atoms]),
        torch.from_numpy(crystal.atomic_numbers),
        torch.from_numpy(crystal.operations.rotations.astype(np.int32)),
        torch.from_numpy(crystal.operations.images.astype(np.int64)),
        torch.tensor([0, len(crystal.operations)]),
        1e-3,
    )
    return replace(crystal, positions=symmetric.positions.numpy(), cell=symmetric.cell[0].numpy(), operations=None)


def test_all_atoms_follow_from_one_of_each_orbit(model):
    # Low symmetry allows antisymmetric parts, threefold axes tell a rotation from its inverse.
    several = [c for c in small_crystals(400, max_atoms=10) if c.num_atoms > 5]
    low = [c for c in several if c.info["space_group"] < 62][:8]
    threefold = [c for c in several if c.info["space_group"] > 142][:20]
    with_some = [*with_operations([*low, *threefold]), CRYSTALS[-1]]
    plain = [snapped(crystal) for crystal in with_some]
    assert {crystal.operations is None for crystal in with_some} == {False, True}
    for crystal, reduced, whole in zip(with_some, charges(model, *with_some), charges(model, *plain), strict=True):
        assert reduced.shape == (crystal.num_atoms, 3, 3)
        assert np.abs(reduced.sum(0)).max() < 1e-13
        close(reduced, whole)
    assert sum(np.abs(whole - whole.transpose(0, 2, 1)).max() > 1e-4 for whole in charges(model, *plain)) > 2


def test_operations_that_do_not_fit_leave_all_atoms(model):
    (crystal,) = with_operations(small_crystals(1, skip=6))
    moved = replace(crystal, positions=rattled(crystal).positions, cell=rattled(crystal).cell)
    close(charges(model, moved)[0], charges(model, replace(moved, operations=None))[0])


@pytest.mark.parametrize("reduced", [False, True])
def test_tensors_and_charges_come_from_one_run_of_the_encoder(model, reduced):
    crystals = with_operations(small_crystals(4, skip=3)) if reduced else CRYSTALS
    runs = []
    model.encoder.register_forward_hook(lambda *_: runs.append(1))
    both = model.predict_batch_with_charges(crystals)
    assert len(runs) == 1
    for target, tensors in model.predict_batch(crystals).items():
        close(both.tensors[target], tensors)
    for together, alone in zip(both.born_charges, charges(model, *crystals), strict=True):
        close(together, alone)


def test_an_ensemble_has_the_mean_of_its_models():
    models = [randomised(replace(VARIANTS["joint"], born_charges=True), seed) for seed in (0, 1)]
    ensemble = Ensemble(models)
    expected = [np.mean(pair, axis=0) for pair in zip(*(charges(model, *CRYSTALS) for model in models), strict=True)]
    both = ensemble.predict_batch_with_charges(CRYSTALS)
    for single, together, mean in zip(charges(ensemble, *CRYSTALS), both.born_charges, expected, strict=True):
        close(single, mean)
        close(together, mean)
    close(both.tensors["total"], ensemble.predict(CRYSTALS, "total"))
    mixed = Ensemble([models[0], randomised(VARIANTS["joint"])])
    assert ensemble.has_born_charges
    assert not mixed.has_born_charges
    with pytest.raises(ValueError, match="got one without"):
        mixed.predict_born_charges(CRYSTALS)


def test_gradients_reach_positions_and_weights():
    model = charged()
    graph = model.graph(CRYSTALS[1:3])
    positions = graph.positions.clone().requires_grad_()
    values = model.born_charges(replace(graph, positions=positions))
    parameters = dict(model.born_readout.named_parameters())
    del parameters["charge.3.bias"]  # the same for all atoms, which the sum rule takes away
    gradients = torch.autograd.grad(values.square().sum(), [positions, *parameters.values()])
    assert all(gradient.abs().max() > 0 for gradient in gradients)


def test_models_without_the_readout_say_so():
    with pytest.raises(ValueError, match="got one without"):
        randomised(VARIANTS["joint"]).predict_born_charges(CRYSTALS)


def test_saved_models_keep_the_readout(tmp_path):
    model = charged("joint")
    model.save(tmp_path)
    loaded = DTNN.from_pretrained(tmp_path)
    for before, after in zip(charges(model, *CRYSTALS), charges(loaded, *CRYSTALS), strict=True):
        np.testing.assert_array_equal(before, after)
    electronic = loaded.with_targets(["electronic"])
    close(charges(electronic, *CRYSTALS)[-1], charges(model, *CRYSTALS)[-1])


def test_old_settings_have_no_readout_and_one_functional():
    settings = config()
    assert not {"born_charges", "functionals"} & settings.to_json().keys()
    again = type(settings).from_json(json.loads(json.dumps(settings.to_json())))
    assert again.born_charges is False
    assert again.functionals == ()


class TestFunctionals:
    """Shifts of the latents for labels of other functionals."""

    @pytest.fixture
    def model(self):
        return randomised(replace(VARIANTS["several-layers"], functionals=("PBE", "PBEsol"), born_charges=True))

    @pytest.mark.parametrize("what", ["member_tensors", "born_charges"])
    def test_the_first_functional_is_the_model_without_shifts(self, model, what):
        def result(functional):
            encoded = model.encode(model.graph(CRYSTALS))
            if functional is not None:
                encoded = encoded._replace(functional=torch.full((len(CRYSTALS),), functional))
            values = getattr(model, what)(encoded)
            return values if what == "born_charges" else values["total"]

        with torch.no_grad():
            torch.testing.assert_close(result(0), result(None), rtol=1e-12, atol=1e-12)
            assert (result(1) - result(None)).abs().max() > 1e-3

    def test_each_crystal_has_its_own(self, model):
        graphs = [model.graph([crystal]) for crystal in CRYSTALS]
        functional = torch.tensor([0, 1, 1, 0])
        with torch.no_grad():
            together = model(model.encode(collate(graphs))._replace(functional=functional))["total"]
            for index, graph in enumerate(graphs):
                alone = model(model.encode(graph)._replace(functional=functional[index : index + 1]))["total"]
                torch.testing.assert_close(together[index], alone[0], rtol=1e-9, atol=1e-9)

    def test_models_of_one_functional_refuse_others(self):
        model = randomised(VARIANTS["joint"])
        with pytest.raises(ValueError, match="one functional"):
            model(model.encode(model.graph(CRYSTALS))._replace(functional=torch.zeros(4, dtype=torch.int64)))

    @pytest.mark.parametrize("functionals", [("PBE",), ("PBE", "PBE")])
    def test_settings_are_checked(self, functionals):
        with pytest.raises(ValueError, match="at least two different"):
            DTNN(replace(VARIANTS["joint"], functionals=functionals))


def test_without_mean_sums_to_zero_and_keeps_differences():
    random = torch.Generator().manual_seed(0)
    values = torch.randn(5, 3, 3, generator=random, dtype=torch.float64)
    centered = without_mean(values, torch.tensor([0, 2, 2, 5]))
    for part, before in ((slice(0, 2), values[:2]), (slice(2, 5), values[2:])):
        assert centered[part].sum(0).abs().max() < 1e-14
        torch.testing.assert_close(centered[part] - centered[part][:1], before - before[:1])
