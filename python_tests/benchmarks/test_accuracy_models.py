# SPDX-License-Identifier: MIT
"""The baselines turn with the crystal, depend on nothing but the crystal, can learn, and are what their papers say."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from typing import TypeVar

import numpy as np
import pytest
import torch
from accuracy import painn
from accuracy.graphs import BondGraph, LabelledGraphs, build_graph, collate
from accuracy.models import ModelName, Ranged, TrainingStatistics, make_model
from accuracy.recipes import RECIPES
from model_cases import labelled, one_thread  # noqa: F401  a fixture that every test uses
from torch import nn

from dtnn_fast.crystals.crystal import Crystal
from dtnn_fast.crystals.elements import SYMBOLS
from dtnn_fast.errors import DTNNError
from dtnn_fast.training.metrics import mae_ten, median_tensor

CUTOFF = 5.0
RANGES = {"electronic": (1.0, 2.0), "ionic": (3.0, 4.0), "total": (5.0, 6.0)}
PACKAGES = {ModelName.painn: "torch", ModelName.matten: "e3nn", ModelName.m3gnet: "matgl"}
STEPS = {ModelName.painn: 80, ModelName.matten: 30, ModelName.m3gnet: 60}
MODELS = pytest.mark.parametrize("name", list(ModelName))


@pytest.fixture
def exact() -> Iterator[None]:
    """New tensors are in float64."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def some_crystals(count: int) -> list[Crystal]:
    """Small ones whose tensors are not isotropic."""
    return [c for c in labelled() if 3 <= c.num_atoms <= 6 and np.ptp(c.targets["total"].diagonal()) > 1][:count]


def graph_of(crystals: list[Crystal]) -> BondGraph:
    return collate([build_graph(crystal, CUTOFF, torch.float64) for crystal in crystals])


def new_model(name: ModelName, crystals: list[Crystal]):
    pytest.importorskip(PACKAGES[name])
    elements = {int(z) for crystal in crystals for z in crystal.atomic_numbers}
    torch.manual_seed(0)
    return make_model(name, CUTOFF, TrainingStatistics(tuple(sorted(elements)), 30.0, 20.0, RANGES))


def predict(model: Ranged, crystals: list[Crystal]) -> np.ndarray:
    """The electronic and the ionic tensors. [2, B, 3, 3]."""
    found = model(graph_of(crystals))
    return torch.stack([found["electronic"], found["ionic"]]).numpy()


def moved(crystal: Crystal, **arrays: np.ndarray) -> Crystal:
    known = {"atomic_numbers": crystal.atomic_numbers, "positions": crystal.positions, "cell": crystal.cell}
    return Crystal(crystal.id, **{**known, **arrays})


@MODELS
@pytest.mark.usefixtures("exact")
def test_the_tensor_turns_with_the_crystal_and_depends_on_nothing_else(name):
    crystals = some_crystals(3)
    model = new_model(name, crystals).double().eval()
    with torch.no_grad():
        tensors = predict(model, crystals)
        size = np.abs(tensors - np.eye(3)).max()
        anisotropy = np.abs(tensors - tensors.trace(axis1=2, axis2=3)[..., None, None] / 3 * np.eye(3)).max((1, 2, 3))
        assert anisotropy.min() > 1e-6 * size > 0  # there is something to turn
        close = {"rtol": 0, "atol": 1e-9 * anisotropy.min() + 1e-15}
        np.testing.assert_allclose(tensors, tensors.swapaxes(2, 3), **close)

        turn, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))
        for matrix in (turn, turn @ np.diag([1.0, 1.0, -1.0])):  # a rotation and a reflection
            turned = [moved(c, positions=c.positions @ matrix.T, cell=c.cell @ matrix.T) for c in crystals]
            np.testing.assert_allclose(predict(model, turned), matrix @ tensors @ matrix.T, **close)
        assert np.linalg.det(turn) * np.linalg.det(matrix) < 0

        others = {
            "origin": [moved(c, positions=c.positions + 0.7) for c in crystals],
            "order": [
                moved(c, atomic_numbers=c.atomic_numbers[::-1].copy(), positions=c.positions[::-1].copy())
                for c in crystals
            ],
            "cell": [moved(c, cell=np.array([[1, 1, 0], [0, 1, 0], [2, 0, 1]]) @ c.cell) for c in crystals],
            "supercell": [
                moved(
                    c,
                    atomic_numbers=np.tile(c.atomic_numbers, 2),
                    positions=np.concatenate([c.positions, c.positions + c.cell[0]]),
                    cell=np.diag([2, 1, 1]) @ c.cell,
                )
                for c in crystals
            ],
        }
        for what, same in others.items():
            np.testing.assert_allclose(predict(model, same), tensors, **close, err_msg=what)
        alone = np.concatenate([predict(model, [c]) for c in crystals], axis=1)
        np.testing.assert_allclose(alone, tensors, **close, err_msg="alone")


@MODELS
def test_a_handful_of_crystals_is_learned_by_heart(name):
    crystals = some_crystals(4)
    data = LabelledGraphs(crystals, list(RANGES), CUTOFF)
    graph, expected = data.batch(range(4))
    pytest.importorskip(PACKAGES[name])
    elements = {int(z) for crystal in crystals for z in crystal.atomic_numbers}
    torch.manual_seed(0)
    model = make_model(name, CUTOFF, TrainingStatistics.of(graph, expected, elements)).train()
    optimizer = torch.optim.Adam(model.parameters(), RECIPES[name].learning_rate)
    for _ in range(STEPS[name]):
        predicted = model(graph)
        losses = {target: mae_ten(predicted[target], expected[target]) for target in RANGES}
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()
    for target, loss in losses.items():
        tensors = expected[target]
        trivial = mae_ten(torch.from_numpy(median_tensor(tensors.numpy())).expand_as(tensors), tensors)
        assert loss.item() < 0.6 * trivial.item(), target


def test_every_readout_has_its_own_range_and_total_is_the_sum():
    class UnitMultiples(nn.Module):
        """Readout number n is n times the unit tensor."""

        def __init__(self, count: int) -> None:
            super().__init__()
            self.count = count

        def forward(self, graph: BondGraph) -> torch.Tensor:
            values = torch.arange(1.0, 1.0 + self.count)
            return (values[:, None, None] * torch.eye(3)).expand(graph.num_crystals, -1, -1, -1)

    graph = graph_of(some_crystals(2))
    together = Ranged(UnitMultiples(2), TrainingStatistics((8,), 1.0, 1.0, RANGES))(graph)
    alone = Ranged(UnitMultiples(1), TrainingStatistics((8,), 1.0, 1.0, {"ionic": RANGES["ionic"]}))(graph)
    for target, value in {"electronic": 1 + 2 * 1, "ionic": 3 + 4 * 2, "total": 3 + 11}.items():
        torch.testing.assert_close(together[target], value * torch.eye(3).expand(2, 3, 3))
    assert alone.keys() == {"ionic"}
    torch.testing.assert_close(alone["ionic"], (3 + 4 * 1) * torch.eye(3).expand(2, 3, 3))


# Names of our parameters, in order, and of the same ones in schnetpack.
NAMES = (
    ("filters.linear", "filter_net"),
    ("messages", "interactions"),
    ("senders", "interatomic_context_net"),
    ("updates", "mixing"),
    ("mix.", "mu_channel_mix."),
    ("factors", "intraatomic_context_net"),
)


def test_painn_is_that_of_schnetpack(monkeypatch):
    # What keeps schnetpack from being imported beside torch 2.13 is this name, which torch no longer has.
    monkeypatch.setattr("torch.utils.data.dataloader.T_co", TypeVar("T_co"), raising=False)
    layers = pytest.importorskip("schnetpack.nn")
    representation = pytest.importorskip("schnetpack.representation")

    torch.manual_seed(0)
    ours, graph = painn.PaiNN(CUTOFF), collate([build_graph(c, CUTOFF) for c in some_crystals(3)])
    basis, ending = layers.BesselRBF(painn.RADIAL, CUTOFF), layers.CosineCutoff(CUTOFF)
    theirs = representation.PaiNN(painn.FEATURES, painn.BLOCKS, basis, ending, max_z=len(SYMBOLS))
    state = {}
    for name, value in ours.named_parameters():
        for our_part, their_part in NAMES:
            name = name.replace(our_part, their_part)  # noqa: PLW2901  step by step
        state[re.sub(r"\.2\.(weight|bias)$", r".1.\1", name)] = value
    missing = theirs.load_state_dict(state, strict=False).missing_keys
    assert set(missing) == {"radial_basis.freqs", "cutoff_fn.cutoff"}  # no parameters
    scalars, vectors = ours(graph)
    centers, neighbors = graph.pairs
    inputs = {"_atomic_numbers": graph.atomic_numbers, "_Rij": graph.vectors, "_idx_i": centers, "_idx_j": neighbors}
    found = theirs(inputs)
    torch.testing.assert_close(scalars, found["scalar_representation"])
    torch.testing.assert_close(vectors, found["vector_representation"])
    assert vectors.abs().max() > 1e-2


def test_the_maps_of_matten_are_those_of_e3nn():
    o3 = pytest.importorskip("e3nn.o3")
    from accuracy.matten_layers import BondProduct, Couplings, SpeciesLinear

    torch.manual_seed(0)
    graph = collate([build_graph(c, CUTOFF) for c in some_crystals(2)])
    irreps, bond = o3.Irreps("3x0o + 4x0e + 2x1o + 2x1e + 2x2e"), o3.Irreps("0e + 1o + 2e")
    atoms, species = torch.randn(graph.num_atoms, irreps.dim), torch.arange(graph.num_atoms) % 5

    ours = SpeciesLinear(irreps, o3.Irreps("2x0e + 3x1o + 1x2o"), 5)
    theirs = o3.FullyConnectedTensorProduct(irreps, "5x0e", "2x0e + 3x1o + 1x2o")
    # e3nn's weights: for each kind [channels in, elements, channels out], in the order of the output.
    weights = torch.cat([weight.permute(2, 0, 1).flatten() for weight in ours.weights])
    expected = theirs(atoms, torch.nn.functional.one_hot(species, 5).float(), weights)
    torch.testing.assert_close(ours(atoms, species), expected)

    couplings = Couplings(bond, 2)
    product = BondProduct(irreps, couplings, irreps)
    harmonics = o3.spherical_harmonics(bond, graph.vectors, normalize=True)
    weights = torch.randn(graph.pairs.shape[1], product.num_weights)
    paths = [
        (first, second, channels, irrep)
        for first, (channels, atom_irrep) in enumerate(irreps)
        for second, (_, bond_irrep) in enumerate(bond)
        for irrep in atom_irrep * bond_irrep
        if irrep in irreps
    ]
    sorted_irreps, places, _ = o3.Irreps([(channels, irrep) for _, _, channels, irrep in paths]).sort()
    instructions = [(a, b, place, "uvu", True) for (a, b, _, _), place in zip(paths, places, strict=True)]
    theirs = o3.TensorProduct(irreps, bond, sorted_irreps, instructions, internal_weights=False, shared_weights=False)
    messages = theirs(atoms[graph.pairs[1]], harmonics, weights)
    expected = torch.zeros(graph.num_atoms, sorted_irreps.dim).index_add(0, graph.pairs[0], messages)
    assert product.irreps_out == sorted_irreps.simplify()
    found = product(atoms, couplings(harmonics), weights, graph)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_compiled_products_of_matten_are_those_of_torch(monkeypatch):
    o3 = pytest.importorskip("e3nn.o3")
    from accuracy.bond_product import CompiledProduct
    from accuracy.matten import BOND_IRREPS, LAYER_IRREPS
    from accuracy.matten_layers import BondProduct, Couplings

    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(DTNNError, match="no C\\+\\+ compiler no-such-compiler"):
        CompiledProduct()
    monkeypatch.delenv("CXX")
    if shutil.which("c++") is None:
        pytest.skip("no C++ compiler")

    torch.manual_seed(0)
    graph = collate([build_graph(c, CUTOFF) for c in some_crystals(2)])
    irreps, bond = o3.Irreps(LAYER_IRREPS), o3.Irreps(BOND_IRREPS)
    couplings = Couplings(bond, 4)
    tables = couplings(o3.spherical_harmonics(bond, graph.vectors, normalize=True))
    for irreps_in, irreps_out in ((o3.Irreps("16x0e"), irreps), (irreps, irreps), (irreps, o3.Irreps("0e + 2e"))):
        product = BondProduct(irreps_in, couplings, irreps_out)
        atoms = torch.randn(graph.num_atoms, irreps_in.dim, requires_grad=True)
        weights = torch.randn(graph.pairs.shape[1], product.num_weights, requires_grad=True)
        expected = product(atoms, tables, weights, graph)
        direction = torch.randn_like(expected)
        expected_grads = torch.autograd.grad((expected * direction).sum(), (atoms, weights))
        product.compiled = CompiledProduct()
        found = product(atoms, tables, weights, graph)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
        grads = torch.autograd.grad((found * direction).sum(), (atoms, weights))
        torch.testing.assert_close(grads, expected_grads, rtol=1e-4, atol=1e-3)
