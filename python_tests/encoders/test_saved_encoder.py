# SPDX-License-Identifier: MIT
"""Saved encoders: whole or cut to the first layers they come back to the bit, and damage is named."""

import json

import pytest
import torch
from model_cases import SMALL, asymmetric_crystals
from safetensors.torch import load_file, save_file

from dtnn_fast.encoders import NativeEncoder, NativeEncoderConfig
from dtnn_fast.encoders.build import load_encoder, read_encoder_config, save_encoder
from dtnn_fast.errors import BadFileError
from dtnn_fast.nn.graph import build_graph

TEACHER = {"name": "a potential", "digest": "0123"}


@pytest.fixture
def encoder():
    torch.manual_seed(3)
    return NativeEncoder(NativeEncoderConfig(channels=SMALL))


@pytest.fixture
def folder(encoder, tmp_path):
    save_encoder(encoder, tmp_path / "saved", TEACHER)
    return tmp_path / "saved"


@pytest.mark.parametrize("num_layers", [None, 1, 4, 5])
def test_the_first_layers_come_back_to_the_bit(encoder, folder, num_layers):
    again = load_encoder(folder, num_layers)
    assert not again.training
    assert again.num_layers == (num_layers or 5)
    assert read_encoder_config(folder / "config.json") == (encoder.config, TEACHER)
    graph = build_graph(asymmetric_crystals(), encoder.cutoffs)
    with torch.no_grad():
        for mine, theirs in zip(again(graph), encoder(graph), strict=False):
            assert torch.equal(mine.atom_scalar, theirs.atom_scalar)
            assert torch.equal(mine.atom_rank2, theirs.atom_rank2)


@pytest.mark.parametrize("num_layers", [0, 6])
def test_no_layers_or_too_many_are_refused(folder, num_layers):
    with pytest.raises(ValueError, match="load_encoder: expected `num_layers` from 1 to 5"):
        load_encoder(folder, num_layers)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "dtnn_fast model 1"}, "expected the format 'dtnn_fast encoder 1'"),
        ({"encoder": None}, "expected `encoder` of the kind native"),
        ({"encoder": {"kind": "other"}}, "expected `encoder` of the kind native"),
        ({"encoder": {"kind": "native"}}, "`encoder` lacks"),
        ({"teacher": 3}, "and `teacher`"),
    ],
)
def test_wrong_settings_are_named(folder, change, message):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(BadFileError, match=message):
        load_encoder(folder)


@pytest.mark.parametrize("text", ["", "[1", "[]"])
def test_damaged_settings_are_named(folder, text):
    (folder / "config.json").write_text(text)
    with pytest.raises(BadFileError, match=r"config\.json"):
        load_encoder(folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(BadFileError, match="missing"):
        load_encoder(folder)


def test_damaged_weights_are_named(folder):
    path = folder / "model.safetensors"
    state = {name: value.clone() for name, value in load_file(path).items()}
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BadFileError, match="not a whole safetensors file"):
        load_encoder(folder)
    save_file({name: value for name, value in state.items() if "layers.2" not in name}, path)
    with pytest.raises(BadFileError, match="does not fit"):
        load_encoder(folder)
    state["embedding.weight"][0, 0] = torch.nan
    save_file(state, path)
    with pytest.raises(BadFileError, match="not finite"):
        load_encoder(folder)
