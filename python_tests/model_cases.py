# SPDX-License-Identifier: MIT
"""Models of every variant with weights far from zero, real crystals, and transformations that keep predictions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor

from dtnn_fast.crystals.crystal import Crystal
from dtnn_fast.datasets.bundled import load_labelled
from dtnn_fast.encoders import Channels, NativeEncoderConfig
from dtnn_fast.model.decoder import DecoderConfig
from dtnn_fast.model.dtnn import DTNN, DTNNConfig
from dtnn_fast.nn.graph import CrystalGraph, build_graph
from dtnn_fast.ops import neighbor_order

SMALL = Channels(scalar=16, vector=8, rank2=8, radial=4)
TINY = Channels(scalar=4, vector=2, rank2=2, radial=2)
TOLERANCE = 1e-8


def config(layer: int = 4, bonds: bool = True, residual: bool = True, **more) -> DTNNConfig:
    """Make the settings of a small model."""
    channels = more.pop("channels", SMALL)
    targets = more.pop("targets", ("total",))
    decoder = DecoderConfig(layer=layer, bonds=bonds, residual=residual, **{"latent": 16, **more})
    return DTNNConfig(NativeEncoderConfig(channels=channels), decoder, targets)


VARIANTS = {
    **{
        f"layer{layer}-{'bonds' if bonds else 'simple'}-{'residual' if residual else 'plain'}": config(
            layer, bonds, residual
        )
        for layer in (1, 2, 3, 4, 5)
        for bonds in (True, False)
        for residual in (True, False)
    },
    "no-blocks": config(blocks=0),
    "three-blocks": config(blocks=3),
    "fewer-tensors": config(channels=Channels(scalar=16, vector=8, rank2=5, radial=4)),
    "several-layers": config(layer=4, more_layers=(1, 3)),
    "all-layers": config(layer=5, bonds=False, more_layers=(1, 2, 3, 4)),
    "positive": config(positive=("total",)),
    "joint": config(targets=("electronic", "ionic", "total"), joint=True),
    "more-tensors": config(channels=Channels(scalar=12, vector=4, rank2=6, radial=3)),
}


def randomised(settings: DTNNConfig, seed: int = 0) -> DTNN:
    """Make a float64 model in evaluation mode with random weights; all three parts of its tensors are of order 1."""
    model = DTNN(settings).double().eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            spread = 0.9 / parameter.shape[-1] ** 0.5 if parameter.dim() > 1 else 0.5
            parameter.copy_(spread * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
        graph = model.graph(asymmetric_crystals())
        for readouts in (readout for decoder in model.decoders.values() for readout in decoder.readouts.values()):
            # The positive definite form starts above its bound.
            readouts.offset.fill_(0.7 if readouts.bound is None else 5.0)
            readouts.scale.fill_(1.9)
            for readout in (readouts.vector_readout, readouts.rank2_readout):
                outputs: list[Tensor] = []
                hook = readout.register_forward_hook(lambda module, inputs, output, to=outputs: to.append(output))
                model(graph)
                hook.remove()
                readout.weight.div_(outputs[0].square().mean().sqrt())
    return model


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Use one thread: with small models on a busy machine, two threads wait a hundred times longer than they work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@cache
def variant(name: str) -> DTNN:
    """Return the randomised model of a variant; tests must not change it."""
    # With seed 0 one tensor of this variant is nearly zero by chance.
    return randomised(VARIANTS[name], seed=1 if name == "fewer-tensors" else 0)


@cache
def labelled() -> tuple[Crystal, ...]:
    """Load the bundled labelled crystals."""
    return tuple(load_labelled())


def small_crystals(count: int, max_atoms: int = 6, skip: int = 0) -> list[Crystal]:
    """Return bundled crystals with few atoms."""
    return [crystal for crystal in labelled() if crystal.num_atoms <= max_atoms][skip : skip + count]


def rattled(crystal: Crystal, amplitude: float = 0.12, seed: int = 0) -> Crystal:
    """Remove all symmetry: displace the atoms and strain the cell at random."""
    random = np.random.RandomState(seed)
    strain = np.eye(3) + random.uniform(-0.05, 0.05, (3, 3))
    moved = crystal.positions + random.uniform(-amplitude, amplitude, crystal.positions.shape)
    return replace(crystal, positions=moved @ strain, cell=crystal.cell @ strain)


@cache
def asymmetric_crystals() -> list[Crystal]:
    """Return crystals of one atom (bonded only to its images), two, and several atoms in triclinic cells."""
    # Dense ones, with bonds inside the shortest cutoff.
    picked: dict[int, Crystal] = {}
    for crystal in sorted(labelled(), key=lambda c: abs(np.linalg.det(c.cell)) / c.num_atoms):
        picked.setdefault(crystal.num_atoms, crystal)
    one = Crystal.make("one", [14], [[0.3, -0.2, 0.9]], [[2.7, 0.1, 0.0], [0.9, 2.8, 0.2], [-0.6, 0.7, 3.1]])
    return [one, *(rattled(picked[atoms], seed=atoms) for atoms in (2, 3, 5))]


def orthogonal(seed: int, improper: bool) -> np.ndarray:
    """Draw a random rotation, or a rotation with a reflection."""
    q, _ = np.linalg.qr(np.random.RandomState(seed).normal(size=(3, 3)))
    return -q if (np.linalg.det(q) < 0) != improper else q


def transformed(crystal: Crystal, matrix: np.ndarray) -> Crystal:
    """Move every point r of the crystal to matrix @ r."""
    return replace(crystal, positions=crystal.positions @ matrix.T, cell=crystal.cell @ matrix.T)


def recelled(crystal: Crystal, matrix: Sequence[Sequence[int]]) -> Crystal:
    """Describe the same crystal in the cell matrix @ cell, whose volume is |det| times as large."""
    m = np.array(matrix)
    volume = round(abs(np.linalg.det(m)))
    points = np.stack(np.meshgrid(*[np.arange(-6, 7)] * 3, indexing="ij"), -1).reshape(-1, 3)
    inside = points @ np.linalg.inv(m)
    inside = (inside > -1e-9).all(1) & (inside < 1 - 1e-9).all(1)
    steps = points[inside] @ crystal.cell
    assert len(steps) == volume
    positions = (crystal.positions[None] + steps[:, None]).reshape(-1, 3)
    numbers = np.tile(crystal.atomic_numbers, volume)
    return replace(crystal, atomic_numbers=numbers, positions=positions, cell=m @ crystal.cell)


def permuted(crystal: Crystal, order: np.ndarray) -> Crystal:
    """Put the atoms in another order."""
    return replace(crystal, atomic_numbers=crystal.atomic_numbers[order], positions=crystal.positions[order])


def unwrapped(crystal: Crystal, reach: int = 4, seed: int = 0) -> Crystal:
    """Move each atom by different lattice vectors."""
    steps = np.random.RandomState(seed).randint(-reach, reach + 1, (crystal.num_atoms, 3))
    return replace(crystal, positions=crystal.positions + steps @ crystal.cell)


def flipped(graph: CrystalGraph, seed: int = 0) -> tuple[CrystalGraph, list[Tensor], list[Tensor]]:
    """Store half of the bonds, at random, from their other end, and sort the lists again.

    Returns the graph and, for each tier, the old index and the sign of each new bond.
    """
    longest = graph.tiers[-1]
    turn = torch.rand(longest.num_bonds, generator=torch.Generator().manual_seed(seed)) < 0.5
    # Indices of the bonds of each tier in the longest tier.
    place = torch.arange(longest.num_bonds)
    places = [place]
    for tier in reversed(graph.tiers[1:]):
        place = place[tier.inner]
        places.append(place)
    tiers, olds, signs = [], [], []
    rank_in_shorter: Tensor | None = None
    for tier, place in zip(graph.tiers, reversed(places), strict=True):
        reverse = turn[place]
        pairs = torch.where(reverse, tier.pairs.flip(0), tier.pairs)
        shifts = torch.where(reverse[:, None], -tier.shifts, tier.shifts)
        keys = torch.cat([pairs, shifts.t()]).numpy()
        order = torch.from_numpy(np.lexsort(keys[::-1]))
        pairs = pairs[:, order].contiguous()
        where = torch.empty_like(order)
        where[order] = torch.arange(len(order))
        inner = tier.inner if rank_in_shorter is None else where[tier.inner][rank_in_shorter]
        row_ptr = torch.searchsorted(pairs[0].contiguous(), torch.arange(graph.num_atoms + 1))
        by_neighbor = neighbor_order(pairs, graph.num_atoms)
        turned = replace(tier, pairs=pairs, shifts=shifts[order], row_ptr=row_ptr, by_neighbor=by_neighbor, inner=inner)
        tiers.append(turned)
        olds.append(order)
        signs.append(torch.where(reverse, -1.0, 1.0).double()[order])
        rank_in_shorter = order
    return replace(graph, tiers=tuple(tiers)), olds, signs


def tensors(model: DTNN, *crystals: Crystal) -> Tensor:
    """Predict without gradients, in the model's dtype. [B, 3, 3]"""
    with torch.no_grad():
        return model(model.graph(crystals))["total"]


def strained(graph: CrystalGraph, positions: Tensor, strain: Tensor) -> CrystalGraph:
    """Replace the positions of the graph, then deform it by 1 + strain."""
    deformation = torch.eye(3, dtype=positions.dtype) + strain
    return replace(graph, positions=positions @ deformation, cell=graph.cell @ deformation)


def float64_graph(model: DTNN, *crystals: Crystal) -> CrystalGraph:
    """Build the graph of crystals in float64."""
    return build_graph(crystals, model.encoder.cutoffs, torch.float64)


def assert_close(actual: Tensor | np.ndarray, expected: Tensor | np.ndarray, tolerance: float = TOLERANCE) -> None:
    """Compare with `tolerance` relative to the largest expected element."""
    a, e = torch.as_tensor(actual), torch.as_tensor(expected)
    assert a.shape == e.shape
    assert torch.isfinite(e).all()
    torch.testing.assert_close(a, e, rtol=0, atol=tolerance * float(e.abs().max()))


def anisotropy(tensor: Tensor) -> float:
    """Compute the norm of the anisotropic part relative to the norm of the tensor."""
    isotropic = tensor.diagonal(dim1=-2, dim2=-1).mean(-1)[..., None, None] * torch.eye(3, dtype=tensor.dtype)
    return float((tensor - isotropic).norm() / tensor.norm())
