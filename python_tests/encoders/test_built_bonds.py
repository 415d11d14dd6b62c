# SPDX-License-Identifier: MIT
"""Built bond latents: the formulas written out for one bond, and models that turn with the crystal."""

from __future__ import annotations

import pytest
import torch
from model_cases import asymmetric_crystals, orthogonal, transformed

from dtnn_fast.encoders.built_bonds import NUM_RADIAL, built_bond_channels, with_built_bonds
from dtnn_fast.encoders.pretrained import AtomLatents, PretrainedEncoder, PretrainedEncoderConfig
from dtnn_fast.model.decoder import DecoderConfig
from dtnn_fast.model.dtnn import DTNN, DTNNConfig
from dtnn_fast.nn.graph import build_graph
from dtnn_fast.nn.latents import Channels, EncodedCrystals, Latents
from dtnn_fast.nn.radial import bessel_basis, smooth_cutoff

CUTOFF = 5.0
ATOMS = Channels(5, 3, 2)


def random_latents(atoms: int, seed: int = 0) -> Latents:
    generator = torch.Generator().manual_seed(seed)
    shapes = (atoms, ATOMS.scalar), (atoms, 3, ATOMS.vector), (atoms, 6, ATOMS.rank2)
    parts = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    return Latents(*parts, None, None, None, None)


def matrix_of(six: torch.Tensor) -> torch.Tensor:
    xx, yy, zz, yz, xz, xy = six
    return torch.stack([xx, xy, xz, xy, yy, yz, xz, yz, zz]).unflatten(0, (3, 3))


def test_the_formulas_of_a_bond():
    crystal = asymmetric_crystals()[2]
    graph = build_graph([crystal], [CUTOFF], torch.float64)
    latents = random_latents(crystal.num_atoms)
    built = with_built_bonds(latents, graph, CUTOFF)
    assert built.bonds is graph.tier(CUTOFF)
    for bond in (0, built.bonds.num_bonds // 2, built.bonds.num_bonds - 1):
        i, j = built.bonds.pairs[:, bond]
        vector = graph.vectors(built.bonds)[bond]
        length = vector.norm()
        u, e = vector / length, bessel_basis(length[None], CUTOFF, NUM_RADIAL)[0]
        f = smooth_cutoff(length, CUTOFF)
        s, v, t = latents[:3]
        ti, tj = (torch.stack([matrix_of(t[k, :, c]) for c in range(ATOMS.rank2)]) for k in (i, j))
        scalar = [s[i] + s[j], u @ (v[j] - v[i]), (v[i] * v[j]).sum(0), (ti + tj) @ u @ u, (ti * tj).sum((1, 2)), e]
        torch.testing.assert_close(built.bond_scalar[bond], torch.cat(scalar))
        odd = [v[j] - v[i], ((ti + tj) @ u).T, u[:, None] * e]
        torch.testing.assert_close(built.bond_vector[bond], f * torch.cat(odd, dim=1))
        torch.testing.assert_close(built.bond_length[bond], length)
    channels = built_bond_channels(ATOMS)
    assert (built.bond_scalar.shape[1], built.bond_vector.shape[2]) == (channels.scalar, channels.vector)


class Fake(PretrainedEncoder):
    """A potential whose latents are simple functions of the surroundings of an atom."""

    def atom_latents(self, atomic_numbers, bonds):
        center, size = bonds.pairs[0], self.channels
        weight = (1.0 - bonds.vectors.norm(dim=-1) / self.cutoffs[0]).clamp(min=0).pow(3)
        z = atomic_numbers.to(weight.dtype)[bonds.pairs[1]] / 20

        def total(values):
            sums = values.new_zeros(len(atomic_numbers), *values.shape[1:])
            return sums.index_add(0, center, values)

        layers = []
        for layer in range(1, self.num_layers + 1):
            w = weight * (z + 0.1 * layer)
            steps = torch.linspace(0.5, 1.5, size.scalar).to(w)
            scalar = total(w[:, None] * steps)
            vector = total((w[:, None] * bonds.vectors)[:, :, None] * steps[: size.vector])
            x, y, z3 = bonds.vectors.unbind(1)
            square = torch.stack([x * x, y * y, z3 * z3, y * z3, x * z3, x * y], 1)
            rank2 = total((w[:, None] * square)[:, :, None] * steps[: size.rank2])
            if layer == 5:
                vector, rank2 = vector[..., :0], rank2[..., :0]
            layers.append(AtomLatents(scalar, vector, rank2))
        return layers

    def atom_energies(self, atomic_numbers, bonds):
        return self.atom_latents(atomic_numbers, bonds)[0].scalar.sum(1)


def fake(layers: int) -> Fake:
    return Fake("sevennet-0", torch.nn.Linear(1, 1), tuple(range(1, 90)), layers).double()


def model_of(layer: int, bonds: bool) -> DTNN:
    torch.manual_seed(0)
    decoder = DecoderConfig(layer=layer, bonds=bonds, latent=16, dropout=0.0)
    return DTNN(DTNNConfig(PretrainedEncoderConfig("sevennet-0"), decoder), fake(layer)).double().eval()


@pytest.mark.parametrize(("layer", "bonds"), [(1, True), (3, False), (4, True), (5, True), (5, False)])
@pytest.mark.parametrize("improper", [False, True])
def test_a_model_on_a_pretrained_encoder_turns_with_the_crystal(layer, bonds, improper):
    model, matrix = model_of(layer, bonds), orthogonal(3, improper)
    crystals = asymmetric_crystals()
    turn = torch.from_numpy(matrix)
    with torch.no_grad():
        before = model(model.graph(crystals))["total"]
        after = model(model.graph([transformed(crystal, matrix) for crystal in crystals]))["total"]
    torch.testing.assert_close(after, turn @ before @ turn.T, atol=1e-8, rtol=1e-8)
    assert (before[1] - before[1].diagonal().mean() * torch.eye(3)).abs().max() > 1e-4


def test_bonds_change_the_result():
    crystals = asymmetric_crystals()
    model = model_of(4, True)
    graph = model.graph(crystals)
    before = model(graph)["total"]
    with torch.no_grad():
        for block in model.decoders["total"].blocks:
            block.bond_out.weight.mul_(2.0)
    assert (model(graph)["total"] - before).abs().max() > 1e-6


def test_built_bonds_need_the_graph():
    model = model_of(3, True)
    graph = model.graph(asymmetric_crystals())
    latents = model.encoder(graph)
    expected = model(graph)["total"]
    torch.testing.assert_close(model(EncodedCrystals(latents, graph.ptr, graph))["total"], expected)
    with pytest.raises(ValueError, match="with their graph"):
        model(EncodedCrystals(latents, graph.ptr))


def test_a_graph_at_another_cutoff_is_refused():
    graph = build_graph(asymmetric_crystals(), [4.0])
    with pytest.raises(KeyError):
        fake(2)(graph)
