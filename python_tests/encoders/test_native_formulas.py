# SPDX-License-Identifier: MIT
"""The native encoder against its formulas written out bond by bond on full lists of neighbors with 3x3 matrices."""

import math

import numpy as np
import pytest
import torch
from model_cases import VARIANTS, assert_close, asymmetric_crystals, float64_graph, orthogonal, transformed, variant

from dtnn_fast.encoders import NativeEncoder, NativeEncoderConfig
from dtnn_fast.encoders.native import SUBSHELLS, subshell_table
from dtnn_fast.ops import bond_vectors, neighbor_list

EPS = 0.01  # of the smooth norm


def matrices(components):
    """[N, 6, C] -> [N, 3, 3, C]"""
    return components[:, [0, 5, 4, 5, 1, 3, 4, 3, 2]].unflatten(1, (3, 3))


def smooth(x):
    return (x.flatten(1, -2).square().sum(1) + EPS**2).sqrt() - EPS


def normalised(x):
    norm = smooth(x)
    factor = 1 / (1 + norm.square().mean(1, keepdim=True)).sqrt()
    return x * factor.view(-1, *[1] * (x.dim() - 2), 1), norm * factor


def encode(encoder: NativeEncoder, crystal):
    """The state of atoms and directed bonds after each layer."""
    positions, cell = torch.from_numpy(crystal.positions), torch.from_numpy(crystal.cell)
    s = encoder.embedding(subshell_table(torch.float64)[torch.from_numpy(crystal.atomic_numbers)])
    n, c = len(s), encoder.channels
    v, t = s.new_zeros(n, 3, c.vector), s.new_zeros(n, 3, 3, c.rank2)
    memory: dict[tuple, tuple] = {}
    for layer, cutoff, mean_bonds in zip(encoder.layers, encoder.cutoffs, encoder.config.mean_bonds, strict=False):
        pairs, shifts, _ = neighbor_list(positions, cell, torch.ones(3, dtype=torch.bool), cutoff)
        d = bond_vectors(positions, cell, pairs, shifts)
        i, j = pairs
        keys = list(zip(i.tolist(), j.tolist(), map(tuple, shifts.tolist()), strict=True))
        r = d.norm(dim=1, keepdim=True)
        x, u = r / cutoff, (d / r)[:, :, None]
        f = 1 - 28 * x**6 + 48 * x**7 - 21 * x**8
        e = math.sqrt(2 / cutoff) * torch.sin(r * math.pi / cutoff * torch.arange(1, c.radial + 1)) / r
        zero = (s.new_zeros(c.scalar), s.new_zeros(3, c.vector))
        bs = torch.stack([memory.get(key, zero)[0] for key in keys])
        bv = torch.stack([memory.get(key, zero)[1] for key in keys])

        q, tau = v @ layer.vector_in.weight.T, t @ layer.rank2_in.weight.T
        if encoder.config.bounded_messages:
            q, tau = (
                x / (1 + x.flatten(1, -2).square().sum(1).mean(1)).sqrt().view(-1, *[1] * (x.dim() - 1))
                for x in (q, tau)
            )
        dq, taus = q[j] - q[i], tau[i] + tau[j]
        tau_u = torch.einsum("eabc,eb->eac", taus, u[:, :, 0])
        invariants = [
            (u * dq).sum(1),
            (q[i] * q[j]).sum(1),
            (u * tau_u).sum(1),
            (tau[i] * tau[j]).sum((1, 2)),
            (u * bv).sum(1),
        ]
        p = layer.from_atoms(torch.nn.functional.layer_norm(s, s.shape[-1:]))
        hidden = torch.nn.functional.silu(p[i] + p[j] + layer.bond_hidden(torch.cat([bs, *invariants, e], 1)))
        y, y1, y2, y3, y4, y5 = layer.bond_out(hidden).split([c.scalar, *[c.vector] * 5], dim=1)
        bs = bs + f * y
        bv = bv + f[:, None] * (y1[:, None] * u + y2[:, None] * dq + y3[:, None] * tau_u)
        uu = u[:, :, None] * u[:, None]
        ub = 0.5 * (u[:, :, None] * bv[:, None] + bv[:, :, None] * u[:, None])
        bt = (f * y4)[:, None, None] * uu + (f * y5)[:, None, None] * ub
        memory |= dict(zip(keys, zip(bs, bv, strict=True), strict=True))

        scale = 1 / math.sqrt(mean_bonds)
        sums = [scale * b.new_zeros(n, *b.shape[1:]).index_add(0, i, b) for b in (bs, bv, bt)]
        X, X_norm = normalised(torch.cat([v, sums[1]], -1) @ layer.vector_mix.weight.T)
        T, T_norm = normalised(torch.cat([t, sums[2]], -1) @ layer.rank2_mix.weight.T)
        m = torch.einsum("nabc,nbc->nac", T, X)
        trace = T.diagonal(dim1=1, dim2=2).sum(-1)
        parts = [torch.nn.functional.layer_norm(s, s.shape[-1:]), sums[0], X_norm, T_norm, trace, (X * m).sum(1)]
        change, *g = layer.update(torch.cat(parts, 1)).split([c.scalar, *[c.vector] * 4], dim=1)
        g1, g2, g3, g4 = (gate[:, None] for gate in g)
        s = s + change
        v = v + g1 * X + g2 * m
        t = t + (g3[:, None] * T + g4[:, None] * X[:, :, None] * X[:, None]) @ layer.rank2_out.weight.T
        yield s, v, t, dict(zip(keys, zip(bs, bv, strict=True), strict=True))


@pytest.mark.parametrize("name", ["layer5-bonds-residual", "fewer-tensors", "more-tensors"])
@pytest.mark.parametrize("crystal", asymmetric_crystals(), ids=lambda crystal: crystal.id)
def test_half_lists_give_what_the_formulas_give_on_full_lists(name, crystal):
    encoder = variant(name).encoder
    with torch.no_grad():
        layers = encoder(float64_graph(variant(name), crystal))
        for latents, (s, v, t, bonds) in zip(layers, encode(encoder, crystal), strict=True):
            assert_close(latents.atom_scalar, s)
            # Vectors of the atom at a center of inversion are zero, in one way of adding them up only nearly.
            torch.testing.assert_close(latents.atom_vector, v, rtol=1e-8, atol=1e-10)
            assert_close(matrices(latents.atom_rank2), t)
            assert len(bonds) == 2 * latents.bonds.num_bonds
            keys = zip(*latents.bonds.pairs.tolist(), map(tuple, latents.bonds.shifts.tolist()), strict=True)
            expected = [bonds[key] for key in keys]
            assert_close(latents.bond_scalar, torch.stack([scalar for scalar, _ in expected]))
            assert_close(latents.bond_vector, torch.stack([vector for _, vector in expected]))


@pytest.mark.parametrize("name", [name for name in VARIANTS if "layer" in name and "simple-plain" not in name])
@pytest.mark.parametrize("improper", [False, True], ids=["rotation", "reflection"])
def test_latents_of_every_layer_turn_with_the_crystal(name, improper):
    model, matrix = variant(name), orthogonal(5, improper)
    crystals = asymmetric_crystals()
    q = torch.from_numpy(matrix)
    with torch.no_grad():
        before = model.encoder(model.graph(crystals))
        after = model.encoder(model.graph([transformed(crystal, matrix) for crystal in crystals]))
    assert len(before) == model.config.decoder.layer
    for old, new in zip(before, after, strict=True):
        assert torch.equal(new.bonds.pairs, old.bonds.pairs)
        assert_close(new.atom_scalar, old.atom_scalar)
        assert_close(new.bond_scalar, old.bond_scalar)
        assert_close(new.atom_vector, torch.einsum("ab,nbc->nac", q, old.atom_vector))
        assert_close(new.bond_vector, torch.einsum("ab,nbc->nac", q, old.bond_vector))
        turned = torch.einsum("ab,nbdc,ed->naec", q, matrices(old.atom_rank2), q)
        assert_close(matrices(new.atom_rank2), turned)


def test_element_table_holds_half_the_electrons_and_tells_elements_apart():
    table = subshell_table(torch.float64)
    assert table.shape == (119, len(SUBSHELLS))
    assert torch.equal(table.sum(1), 0.5 * torch.arange(119, dtype=torch.float64))
    assert len({tuple(row) for row in table.tolist()}) == 119
    # Carbon 1s2 2s2 2p2 and iron [Ar] 4s2 3d6, halved.
    columns = {name: column for column, name in enumerate(SUBSHELLS)}
    assert [table[6, columns[name]].item() for name in ("1s", "2s", "2p", "3s")] == [1, 1, 1, 0]
    assert [table[26, columns[name]].item() for name in ("3p", "4s", "3d", "4p")] == [3, 1, 3, 0]


@pytest.mark.parametrize(
    ("cutoffs", "mean_bonds"),
    [
        ((4.0, 3.0), (7.0, 7.0)),
        ((3.0, 4.0), (7.0,)),
        ((0.0, 3.0), (7.0, 7.0)),
        ((-1.0,), (7.0,)),
        ((), ()),
        ((3.0, float("nan")), (7.0, 7.0)),
        ((float("nan"), 3.0), (7.0, 7.0)),
        ((3.0, float("inf")), (7.0, 7.0)),
        ((3.0,), (float("nan"),)),
        ((3.0,), (float("inf"),)),
    ],
)
def test_cutoffs_that_fall_or_do_not_fit_are_refused(cutoffs, mean_bonds):
    with pytest.raises(ValueError, match="NativeEncoder: expected finite positive `cutoffs` that do not decrease"):
        NativeEncoder(NativeEncoderConfig(cutoffs, mean_bonds))


def test_new_models_start_with_vectors_and_tensors_that_matter():
    torch.manual_seed(0)
    encoder = NativeEncoder().double()
    model = variant("layer5-bonds-residual")
    with torch.no_grad():
        last = encoder(model.graph(asymmetric_crystals()))[-1]
    sizes = [float(part.square().mean().sqrt()) for part in (last.atom_scalar, last.atom_vector, last.atom_rank2)]
    assert np.all(np.array(sizes) > 0.05)
    assert np.all(np.array(sizes) < 20)
