# SPDX-License-Identifier: MIT
"""The decoder against the equations of the paper, bond by bond from both ends with 3x3 matrices; its settings."""

import math

import pytest
import torch
from model_cases import SMALL, VARIANTS, assert_close, asymmetric_crystals, config, randomised, variant

from dtnn_fast.model.decoder import Decoder, DecoderConfig, Readout
from dtnn_fast.model.dtnn import DTNN, DTNNConfig

EPS = 0.01  # of the smooth norm
CRYSTALS = asymmetric_crystals()
IDENTITY = torch.eye(3, dtype=torch.float64)


def matrices(components):
    """[N, 6, C] -> [N, 3, 3, C]"""
    return components[:, [0, 5, 4, 5, 1, 3, 4, 3, 2]].unflatten(1, (3, 3))


def smooth(x):
    return (x.flatten(1, -2).square().sum(1) + EPS**2).sqrt() - EPS


def decode(model: DTNN, graph):
    """The tensors by the equations, the bond perceptron's last layer applied to every bond."""
    decoder = model.decoders["total"]
    settings = model.config.decoder
    latents = model.encoder(graph)
    taken = latents[settings.layer - 1]
    layers = [latents[layer - 1] for layer in (*settings.more_layers, settings.layer)]
    # Layer 5 is read for its scalars; its vectors are those of layer 4, taken once.
    others = [
        latents[layer - 1] for layer in sorted({min(layer, 4) for layer in (*settings.more_layers, settings.layer)})
    ]
    s = torch.cat([part.atom_scalar for part in layers], 1)
    v = torch.cat([part.atom_vector for part in others], 2)
    t = matrices(torch.cat([part.atom_rank2 for part in others], 2))
    i, j = taken.bonds.pairs
    r = graph.vectors(taken.bonds).norm(dim=1, keepdim=True) / taken.bonds.cutoff
    f = 1 - 28 * r**6 + 48 * r**7 - 21 * r**8
    for block in decoder.blocks:
        s, inputs = block.scalar_in(s), v
        v = v @ block.vector_in.weight[:, : v.shape[-1]].T
        if settings.bonds:
            last, bias = block.bond_out.weight[:, :-1], block.bond_out.weight[:, -1]
            b = f * (block.bond_hidden(taken.bond_scalar) @ last.T + bias) * block.bond_scale
            s = s.index_add(0, i, b).index_add(0, j, b)
            b = taken.bond_vector @ block.vector_in.weight[:, inputs.shape[-1] :].T * block.bond_scale
            v = v.index_add(0, i, b).index_add(0, j, -b)
        t = t @ block.rank2_in.weight.T
        change, g_v, g_t = block.mix(torch.cat([s, smooth(v), smooth(t)], 1)).chunk(3, dim=1)
        residual = 1.0 if settings.residual else 0.0
        s = residual * s + change
        v = residual * v + g_v.sigmoid()[:, None] * (v @ block.vector_out.weight.T)
        t = residual * t + g_t.sigmoid()[:, None, None] * (t @ block.rank2_out.weight.T)
    readout = decoder.readouts["total"]
    s = readout.scalar_value(s) * readout.scalar_gate(s).sigmoid()
    v, t = v @ readout.vector_readout.weight.T, t @ readout.rank2_readout.weight.T
    atoms = s[:, :, None] * IDENTITY + v * v.transpose(1, 2) + t[..., 0]
    means = [atoms[a:b].mean(0) for a, b in zip(graph.ptr[:-1], graph.ptr[1:], strict=True)]
    if not settings.positive:
        return readout.offset * IDENTITY + readout.scale * torch.stack(means)
    m = max(readout.offset.item() - 1.0, 0.1) ** 0.5
    root = m * IDENTITY + readout.scale / (2 * m) * torch.stack(means)
    return IDENTITY + root @ root


@pytest.mark.parametrize("name", [name for name in VARIANTS if name != "joint"])
def test_decoder_gives_what_the_equations_give(name):
    model = variant(name)
    graph = model.graph(CRYSTALS)
    with torch.no_grad():
        expected = decode(model, graph)
        for actual, tensor in zip(model(graph)["total"], expected, strict=True):
            assert_close(actual, tensor)


@pytest.mark.parametrize("layer", [1, 2, 3, 4, 5])
def test_bond_latents_change_the_result(layer):
    model = randomised(config(layer))
    graph = model.graph(CRYSTALS)
    with torch.no_grad():
        before = model(graph)["total"]
        for block in model.decoders["total"].blocks:
            block.bond_out.weight.zero_()
        without_scalars = model(graph)["total"]
        for block in model.decoders["total"].blocks:
            block.vector_in.weight[:, -SMALL.vector :] = 0
        without_bonds = model(graph)["total"]
    size = before.abs().max()
    assert (before - without_scalars).abs().max() > 1e-3 * size
    assert (without_scalars - without_bonds).abs().max() > 1e-4 * size


def test_layer_five_takes_scalars_from_five_and_the_rest_from_four():
    model = variant("layer5-simple-residual")
    with torch.no_grad():
        graph = model.graph(CRYSTALS)
        latents = model.encoder(graph)
        expected = model.decoders["total"](latents, graph.ptr)["total"]
        mixed = [*latents[:4], latents[3]._replace(atom_scalar=latents[4].atom_scalar)]
        assert torch.equal(model.decoders["total"](mixed, graph.ptr)["total"], expected)
        changed = [*latents[:4], latents[4]._replace(atom_scalar=latents[3].atom_scalar)]
        assert not torch.allclose(model.decoders["total"](changed, graph.ptr)["total"], expected)


def test_the_paper_s_decoder_has_about_600_000_parameters():
    counts = {bonds: DTNN(DTNNConfig(decoder=DecoderConfig(bonds=bonds))).num_parameters() for bonds in (True, False)}
    print(f"parameters: DTNN {counts[True]}, DTNN-simple {counts[False]}")
    assert counts[True] == {"encoder": 726_528, "decoder": 544_002}
    assert counts[False]["decoder"] < counts[True]["decoder"]
    assert 500_000 < counts[True]["decoder"] < 700_000


def test_defaults_are_the_paper_s():
    settings = DecoderConfig()
    assert (settings.layer, settings.blocks, settings.latent, settings.dropout) == (4, 2, 128, 0.2)
    assert settings.bonds
    assert settings.residual


def test_sums_over_bonds_are_scaled_by_the_mean_of_the_layer():
    for layer, mean in zip((1, 2, 3, 4, 5), (7.0, 7.0, 16.0, 48.0, 48.0), strict=True):
        model = DTNN(config(layer))
        assert model.decoders["total"].blocks[0].bond_scale == pytest.approx(1 / math.sqrt(mean))


def test_dropout_is_active_in_training_only():
    model = randomised(config(dropout=0.5))
    graph = model.graph(CRYSTALS)
    with torch.no_grad():
        assert torch.equal(model(graph)["total"], model(graph)["total"])
        model.train()
        assert not torch.allclose(model(graph)["total"], model(graph)["total"])
        model.eval()


def test_a_decoder_with_bonds_needs_bond_latents():
    model = variant("layer4-bonds-residual")
    graph = model.graph(CRYSTALS)
    with torch.no_grad():
        latents = model.encoder(graph)
    bare = [x._replace(bond_scalar=None, bond_vector=None, bond_length=None, bonds=None) for x in latents]
    with pytest.raises(ValueError, match="expected latents with bonds; use DTNN-simple"):
        model.decoders["total"](bare, graph.ptr)
    simple = Decoder(DecoderConfig(bonds=False, latent=16), SMALL, ["total"]).double().eval()
    assert torch.isfinite(simple(bare, graph.ptr)["total"]).all()
    with pytest.raises(ValueError, match="expected latents of layer 4, got 3 layers"):
        simple(bare[:3], graph.ptr)


@pytest.mark.parametrize("layer", [0, 6, -1])
def test_a_layer_that_does_not_exist_is_refused(layer):
    with pytest.raises(ValueError, match="DTNN: expected `layer` from 1 to 5"):
        DTNN(config(layer))


@pytest.mark.parametrize("targets", [(), ("static",), ("total", "static")])
def test_targets_that_do_not_exist_are_refused(targets):
    with pytest.raises(ValueError, match="DTNN: expected `targets` from electronic, ionic, total"):
        DTNN(config(targets=targets))


def test_a_joint_decoder_gives_the_total_as_the_sum_and_serves_any_target():
    model = variant("joint")
    graph = model.graph(CRYSTALS)
    with torch.no_grad():
        tensors = model(graph)
        assert list(tensors) == ["electronic", "ionic", "total"]
        assert torch.equal(tensors["total"], tensors["electronic"] + tensors["ionic"])
        assert (tensors["electronic"] - tensors["ionic"]).abs().max() > 0.01
        assert torch.equal(model.with_targets(["total"])(graph)["total"], tensors["total"])
    assert list(model.decoders) == ["joint"]
    assert list(model.decoders["joint"].readouts) == ["electronic", "ionic"]


@pytest.mark.parametrize("more", [(4,), (5,), (3, 2), (2, 2), (0,)])
def test_more_layers_rise_below_the_last(more):
    with pytest.raises(ValueError, match="expected `more_layers` that rise from 1 or more and stay below `layer`"):
        config(layer=4, more_layers=more)


def test_sizes_of_frozen_latents_are_divided_out():
    model = randomised(config(layer=5, bonds=False, more_layers=(2,)))
    with torch.no_grad():
        latents = model.encoder(model.graph(CRYSTALS))
    atoms = model.decoders["total"].atom_input
    atoms.set_sizes(latents)
    scalar, vector, rank2 = atoms(latents)
    for joined, width in ((scalar, SMALL.scalar), (vector, SMALL.vector), (rank2, SMALL.rank2)):
        for part in joined.split(width, dim=-1):
            assert part.square().mean() == pytest.approx(1.0)
    torch.testing.assert_close(vector[..., SMALL.vector :] * atoms.vector_size[1], latents[3].atom_vector)


def test_the_positive_form_is_positive_and_the_plain_one_to_first_order():
    torch.manual_seed(0)
    plain, positive = (Readout(SMALL, 8, 0.0, bound).double() for bound in (None, 1.0))
    positive.load_state_dict(plain.state_dict())
    atoms = torch.randn(6, SMALL.scalar), torch.randn(6, 3, SMALL.vector), torch.randn(6, 6, SMALL.rank2)
    inputs = [x.double() for x in atoms]
    ptr = torch.tensor([0, 2, 6])
    with torch.no_grad():
        for scale in (1e-4, 100.0):
            for readout in (plain, positive):
                readout.set_range(5.0, scale)
            given, wanted = positive(*inputs, ptr), plain(*inputs, ptr)
            assert (torch.linalg.eigvalsh(given) >= 1.0 - 1e-9).all()
            if scale < 1:
                torch.testing.assert_close(given, wanted, atol=1e-6, rtol=0)
            else:
                assert torch.linalg.eigvalsh(wanted).min() < 0


def test_positive_targets_must_exist():
    with pytest.raises(ValueError, match="expected `positive` of electronic, ionic, total, got optical"):
        DecoderConfig(positive=("optical",))
