# SPDX-License-Identifier: MIT
"""Latents read out of the native encoder's state: the formulas with 3x3 matrices, rotations, and use in a model."""

import pytest
import torch
from model_cases import SMALL, asymmetric_crystals, orthogonal, transformed

from dtnn_fast import DTNN
from dtnn_fast.encoders import Channels, NativeEncoder, NativeEncoderConfig
from dtnn_fast.encoders.build import load_encoder, save_encoder
from dtnn_fast.encoders.native import NativeReadout
from dtnn_fast.model.decoder import DecoderConfig
from dtnn_fast.model.dtnn import DTNNConfig
from dtnn_fast.nn.graph import build_graph

CONFIG = NativeEncoderConfig((3.0, 4.0), (7.0, 16.0), SMALL, readout=(9, 7, 5))
PLACES = [0, 5, 4, 5, 1, 3, 4, 3, 2]


def randomised(module, spread=0.4):
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(spread * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype))
    return module.double()


def matrices(components):
    """[N, 6, C] -> [N, 3, 3, C]"""
    return components[:, PLACES].unflatten(1, (3, 3))


def bounded(x):
    squares = x.flatten(1, -2).square().sum(1)
    return x / (1 + squares.mean(1)).sqrt().view(-1, *[1] * (x.dim() - 1))


def test_readout_is_its_formula():
    module = randomised(NativeReadout(SMALL, Channels(9, 7, 5)))
    a_s, a_v = torch.randn(4, SMALL.scalar, dtype=torch.double), torch.randn(4, 3, SMALL.vector, dtype=torch.double)
    a_t = torch.randn(4, 6, SMALL.rank2, dtype=torch.double)
    s, v, t = module(a_s, a_v, a_t)
    out = module.gates(torch.nn.functional.layer_norm(a_s, a_s.shape[-1:]))
    h, g1, g2, g3, g4 = out.split([SMALL.scalar, 7, 7, 5, 5], dim=1)
    x = bounded(a_v @ module.vector_in.weight.T)
    tau = bounded(matrices(a_t) @ module.rank2_in.weight.T)
    torch.testing.assert_close(s, a_s @ module.scalar.weight.T + module.scalar.bias + h @ module.hidden.weight.T)
    turned = torch.einsum("nabc,nbc->nac", tau, x) @ module.turned.weight.T
    torch.testing.assert_close(v, (1 + g1)[:, None] * (a_v @ module.vector.weight.T) + g2[:, None] * turned)
    expected = (1 + g3)[:, None, None] * (matrices(a_t) @ module.rank2.weight.T)
    expected = expected + g4[:, None, None] * ((x[:, :, None] * x[:, None]) @ module.squared.weight.T)
    trace = expected.diagonal(dim1=1, dim2=2).sum(-1)
    expected = expected - torch.eye(3, dtype=torch.double)[None, :, :, None] * trace[:, None, None] / 3
    torch.testing.assert_close(matrices(t), expected)


@pytest.mark.parametrize("improper", [False, True], ids=["rotation", "reflection"])
def test_what_is_read_out_turns_with_the_crystal(improper):
    encoder, matrix = randomised(NativeEncoder(CONFIG), 0.2), orthogonal(3, improper)
    crystals, q = asymmetric_crystals(), torch.from_numpy(matrix)
    with torch.no_grad():
        before = encoder(build_graph(crystals, encoder.cutoffs, torch.float64))
        turned = [transformed(crystal, matrix) for crystal in crystals]
        after = encoder(build_graph(turned, encoder.cutoffs, torch.float64))
    for old, new in zip(before, after, strict=True):
        assert old.atom_scalar.shape[1:] == (9,)
        assert old.bond_scalar.shape[1:] == (SMALL.scalar,)
        torch.testing.assert_close(new.atom_scalar, old.atom_scalar)
        torch.testing.assert_close(new.atom_vector, torch.einsum("ab,nbc->nac", q, old.atom_vector))
        expected = torch.einsum("ab,nbdc,ed->naec", q, matrices(old.atom_rank2), q)
        torch.testing.assert_close(matrices(new.atom_rank2), expected)


@pytest.mark.parametrize("bonds", [True, False])
def test_a_model_decodes_what_is_read_out(tmp_path, bonds):
    torch.manual_seed(0)
    save_encoder(NativeEncoder(CONFIG), tmp_path / "encoder")
    encoder = load_encoder(tmp_path / "encoder", num_layers=1)
    assert (encoder.channels, len(encoder.readouts)) == (Channels(9, 7, 5), 1)
    model = DTNN(DTNNConfig(encoder.config, DecoderConfig(layer=1, latent=8, bonds=bonds)), encoder).eval()
    model.save(tmp_path / "model")
    again = DTNN.from_pretrained(tmp_path / "model")
    crystals = asymmetric_crystals()
    assert (again.predict(crystals) == model.predict(crystals)).all()


@pytest.mark.parametrize("readout", [(1, 2), (8, 0, 4), (1, 1, 1, 1)])
def test_sizes_that_do_not_fit_are_refused(readout):
    with pytest.raises(ValueError, match="expected `readout` empty or of three sizes"):
        NativeEncoderConfig(readout=readout)
