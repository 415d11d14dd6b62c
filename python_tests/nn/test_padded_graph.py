# SPDX-License-Identifier: MIT
"""Dummy crystals behind those of a graph: the results of the graph's own crystals stay the same."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from model_cases import small_crystals, variant
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from dtnn_fast import use_backend
from dtnn_fast.crystals.crystal import Crystal
from dtnn_fast.nn import weight_cache
from dtnn_fast.nn.graph import CrystalGraph
from dtnn_fast.nn.padded_graph import GraphSize, pad_graph
from dtnn_fast.symmetry import with_operations

NEON = Crystal.make("far apart", [10], [[0, 0, 0]], 30.0 * np.eye(3))
CASES = {
    "plain": small_crystals(5, max_atoms=8),
    "one crystal": small_crystals(1, max_atoms=8, skip=3),
    "no bonds": [NEON],
    "some without bonds": [*small_crystals(2, max_atoms=4), NEON],
    "reduced": with_operations(small_crystals(5, max_atoms=8)),
    "some reduced": [*with_operations(small_crystals(3, max_atoms=8)), *small_crystals(2, max_atoms=8, skip=3)],
}
NAMES = ["layer4-bonds-residual", "layer2-simple-residual", "joint", "positive", "all-layers"]


@pytest.fixture(params=CASES)
def crystals(request: Any) -> list[Crystal]:
    return CASES[request.param]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("backend", ["native", "reference"])
def test_results_of_the_own_crystals_stay_the_same(name, backend, crystals):
    model = variant(name)
    graph = model.inference_graph(crystals)
    own = GraphSize.of(graph)
    with torch.no_grad(), use_backend(backend):
        expected = model.member_tensors(graph)
        for size in (own.rounded_up(), own._replace(crystals=own.crystals + 1, atoms=own.atoms + 1), larger(own)):
            padded = pad_graph(graph, size)
            assert GraphSize.of(padded) == size
            assert padded.is_reduced == graph.is_reduced
            found = model.member_tensors(padded)
            for target, values in expected.items():
                # Products may depend on the number of rows in the last bits.
                torch.testing.assert_close(found[target][:, : own.crystals], values, rtol=1e-12, atol=1e-12)
                assert torch.isfinite(found[target]).all()
                assert found[target].shape[1] == size.crystals


def larger(size: GraphSize) -> GraphSize:
    return GraphSize(size.crystals + 7, size.atoms + 50, tuple(number + 300 + k for k, number in enumerate(size.bonds)))


def test_padding_in_float32(crystals):
    model = copy.deepcopy(variant("joint")).float()
    graph = model.inference_graph(crystals)
    with torch.inference_mode():
        expected = model.member_tensors(graph)["total"]
        found = model.member_tensors(pad_graph(graph, GraphSize.of(graph).rounded_up()))["total"]
    torch.testing.assert_close(found[:, : len(crystals)], expected, rtol=1e-5, atol=1e-6)


def test_dummy_bonds_are_spread_over_dummy_atoms(crystals):
    graph = variant("joint").inference_graph(crystals)
    own = GraphSize.of(graph)
    padded = pad_graph(graph, larger(own))
    for tier, before in zip(padded.tiers, graph.tiers, strict=True):
        for row_ptr in (tier.row_ptr, tier.by_neighbor.row_ptr):
            counts = row_ptr.diff()[own.atoms :]
            assert counts.sum() == tier.num_bonds - before.num_bonds
            assert counts.max() <= counts.min() + 1
        assert (tier.pairs[:, before.num_bonds :] >= own.atoms).all()
        lengths = padded.vectors(tier)[before.num_bonds :].norm(dim=1)
        assert (lengths > 0).all()
        assert (lengths < padded.tiers[0].cutoff).all()
    assert (padded.ptr.diff() > 0).all()


def test_sizes_are_few_and_near():
    generator = random.Random(0)
    for _ in range(2000):
        crystals = generator.randint(1, 300)
        atoms = crystals * generator.randint(1, 40)
        short = generator.randint(0, 30 * atoms)
        own = GraphSize(crystals, atoms, (short, short + generator.randint(0, 30 * atoms)))
        size = own.rounded_up()
        assert own.fits_into(size)
        assert size.bonds[-1] <= max(16, 1.6 * own.bonds[-1] + 16)
        # A multiple of an eighth of the power of two above, of which there are four in each octave.
        for number in (size.crystals, size.atoms, *size.bonds):
            assert number % max(1, 1 << ((number - 1).bit_length() - 3)) == 0


@pytest.mark.parametrize(
    "change",
    [
        lambda size: size._replace(crystals=size.crystals),
        lambda size: size._replace(crystals=size.crystals + 2, atoms=size.atoms + 1),
        lambda size: size._replace(crystals=size.crystals + 1),
        lambda size: GraphSize(size.crystals + 1, size.atoms + 1, tuple(number - 1 for number in size.bonds)),
        lambda size: GraphSize(size.crystals + 1, size.atoms + 1, (size.bonds[0] + 5, *size.bonds[1:])),
        lambda size: GraphSize(size.crystals + 1, size.atoms + 1, tuple(number + 33 for number in size.bonds)),
        lambda size: GraphSize(size.crystals + 1, size.atoms + 1, size.bonds[:1]),
    ],
)
def test_sizes_that_do_not_fit(change):
    graph = variant("joint").graph(CASES["plain"])
    own = GraphSize.of(graph)
    assert len(own.bonds) > 1
    with pytest.raises(ValueError, match=r"pad_graph: expected a `size` into which the graph's GraphSize"):
        pad_graph(graph, change(own))


class OnOneDevice(TorchDispatchMode):
    """Raise for tensors of the CPU, whose copy to a GPU could not be captured, and for operations that read values."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        places = {x.device.type for x in tree_leaves((args, kwargs, result)) if isinstance(x, Tensor)}
        assert places <= {"meta"}, f"{func} has tensors on {places}"
        return result


class NoListsOfIndices(TorchFunctionMode):
    """Refuse lists of indices, which would be copied to a GPU."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is Tensor.__getitem__:
            parts = args[1] if isinstance(args[1], tuple) else (args[1],)
            assert not any(isinstance(part, list) for part in parts), "a list of indices"
        return func(*args, **(kwargs or {}))


@pytest.fixture
def as_on_a_gpu(monkeypatch) -> Iterator[None]:
    """Run fused operations on torch's device without values, and refuse lists of indices."""
    monkeypatch.setattr(weight_cache, "_DEVICES_WITH_KERNELS", ("meta",))
    with NoListsOfIndices():
        yield


def on_meta(graph: CrystalGraph) -> CrystalGraph:
    return graph.to("meta")


@pytest.mark.parametrize("name", NAMES)
def test_a_forward_pass_needs_nothing_from_the_host(name, crystals, as_on_a_gpu):
    """Torch's device without values stands in for a GPU: nothing can be read there, and nothing comes from the CPU."""
    model = copy.deepcopy(variant(name)).to("meta")
    graph = on_meta(variant(name).inference_graph(crystals))
    with torch.inference_mode():
        model.member_tensors(graph)  # puts the weights together
        with OnOneDevice():
            padded = pad_graph(graph, GraphSize.of(graph).rounded_up())
            tensors = model.member_tensors(padded)
    assert all(values.shape[1] == padded.num_crystals for values in tensors.values())


def test_a_model_of_several_decoders_needs_nothing_from_the_host(as_on_a_gpu):
    from model_cases import config, randomised

    model = randomised(config(targets=("electronic", "ionic", "total"))).to("meta")
    graph = on_meta(variant("joint").graph(CASES["plain"]))
    with torch.inference_mode():
        model.member_tensors(graph)
        with OnOneDevice():
            assert set(model.member_tensors(graph)) == {"electronic", "ionic", "total"}


def test_what_a_gpu_would_need_from_the_host_is_noticed(as_on_a_gpu):
    values = torch.ones(3, device="meta")
    with pytest.raises(AssertionError, match="a list of indices"):
        values[[0, 1]]
    with OnOneDevice(), pytest.raises(AssertionError, match="has tensors on"):
        values.index_select(0, torch.tensor([0, 1]))
    with OnOneDevice(), pytest.raises(RuntimeError, match="meta"):
        values.sum().item()
