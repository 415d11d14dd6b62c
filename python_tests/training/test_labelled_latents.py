# SPDX-License-Identifier: MIT
"""Training on latents that were computed once is training on the crystals, and a cache never gives other latents."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from model_cases import SMALL, config, labelled
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from dtnn_fast.encoders import NativeEncoder
from dtnn_fast.encoders.latent_cache import cached_latents, encode_crystals, structures_digest
from dtnn_fast.errors import BadFileError
from dtnn_fast.model.dtnn import DTNN
from dtnn_fast.training.labelled_data import LabelledGraphs, LabelledLatents
from dtnn_fast.training.train_run import train_run
from dtnn_fast.training.training_settings import TrainingSettings


@pytest.fixture(scope="module")
def crystals():
    return list(labelled()[:24])


def make_encoder(layers: int = 4, seed: int = 0) -> NativeEncoder:
    torch.manual_seed(seed)
    return NativeEncoder(config(channels=SMALL).encoder, layers).eval()


@pytest.fixture(scope="module")
def encoder():
    return make_encoder()


@pytest.mark.parametrize(("layer", "bonds"), [(2, True), (4, False), (5, True)])
def test_a_batch_of_latents_gives_what_the_graphs_give(crystals, layer, bonds):
    encoder = make_encoder(layer)
    settings = config(layer=layer, bonds=bonds)
    model = DTNN(settings, encoder).eval()
    table = encode_crystals(encoder, crystals, settings.decoder.kept_layers)
    latents = LabelledLatents(crystals, ["total"], encoder.cutoffs, table)
    graphs = LabelledGraphs(crystals, ["total"], encoder.cutoffs)
    chosen = [17, 3, 11]
    encoded, expected = latents.batch(chosen)
    graph, same = graphs.batch(chosen)
    torch.testing.assert_close(expected, same, rtol=0, atol=0)
    torch.testing.assert_close(model(encoded), model(graph), rtol=1e-5, atol=1e-6)


def test_the_cache_is_filled_once_and_read_afterwards(crystals, encoder, tmp_path):
    calls: list[int] = []

    def count(done: int, total: int) -> None:
        calls.append(done)

    first = cached_latents(encoder, crystals, (4,), tmp_path / "cache", on_batch=count)
    assert calls[-1] == len(crystals)
    (path,) = (tmp_path / "cache").iterdir()
    calls.clear()
    again = cached_latents(encoder, crystals, (4,), tmp_path / "cache", on_batch=count)
    assert not calls
    torch.testing.assert_close(again.arrays, first.arrays, rtol=0, atol=0)
    torch.testing.assert_close(again.bond_counts, first.bond_counts, rtol=0, atol=0)
    assert path.exists()


def test_other_crystals_layers_or_weights_are_another_file(crystals, encoder, tmp_path):
    cached_latents(encoder, crystals, (4,), tmp_path)
    cached_latents(encoder, crystals[:-1], (4,), tmp_path)
    cached_latents(encoder, crystals, (3,), tmp_path)
    cached_latents(make_encoder(seed=1), crystals, (4,), tmp_path)
    assert len(list(tmp_path.iterdir())) == 4


def test_the_digest_sees_every_part_of_a_structure(crystals):
    crystal = crystals[0]
    changed = [
        replace(crystal, positions=crystal.positions + 1e-9),
        replace(crystal, cell=crystal.cell * (1 + 1e-9)),
        replace(crystal, atomic_numbers=crystal.atomic_numbers + 1),
        replace(crystal, pbc=~crystal.pbc),
    ]
    digests = {structures_digest([c]) for c in (crystal, *changed)}
    assert len(digests) == 5
    assert structures_digest([replace(crystal, id="other", targets={})]) == structures_digest([crystal])


def spoil_nothing_but(path: Path, **changes: torch.Tensor | None) -> None:
    tensors = load_file(path)
    for name, value in changes.items():
        tensors.pop(name.replace("_of_", "."), None)
        if value is not None:
            tensors[name.replace("_of_", ".")] = value
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    save_file({name: value.clone() for name, value in tensors.items()}, path, metadata=metadata)


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1000] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-9]), "damaged; delete it"),
        (lambda path: path.write_bytes(b""), "damaged; delete it"),
        (lambda path: save_file({"a": torch.zeros(1)}, path), "made of another format"),
        (lambda path: spoil_nothing_but(path, **{"4.atom_scalar": None}), "damaged: wrong checksum"),
        (lambda path: spoil_nothing_but(path, **{"4.atom_scalar": torch.zeros(3, 16)}), "damaged: wrong checksum"),
        (flip_a_bit, "damaged: wrong checksum"),
    ],
)
def test_a_bad_file_in_the_cache_is_refused(crystals, encoder, tmp_path, spoil, message):
    cached_latents(encoder, crystals, (4,), tmp_path)
    (path,) = tmp_path.iterdir()
    spoil(path)
    with pytest.raises(BadFileError, match=message):
        cached_latents(encoder, crystals, (4,), tmp_path)


def test_a_cache_of_other_weights_under_this_name_is_refused(crystals, encoder, tmp_path):
    cached_latents(encoder, crystals, (4,), tmp_path / "a")
    cached_latents(make_encoder(seed=1), crystals, (4,), tmp_path / "b")
    (here,), (other,) = ((tmp_path / name).iterdir() for name in "ab")
    here.write_bytes(other.read_bytes())
    with pytest.raises(BadFileError, match="made of another encoder"):
        cached_latents(encoder, crystals, (4,), tmp_path / "a")


@pytest.mark.parametrize("average", [0.0, 0.9])
def test_a_frozen_run_leaves_the_encoder_alone_and_resumes(crystals, encoder, tmp_path, average):
    settings = TrainingSettings(config(dropout=0.1), epochs=6, learning_rate=1e-3, batch_size=8, average=average)
    table = encode_crystals(encoder, crystals, settings.model.decoder.kept_layers)
    before = {name: value.clone() for name, value in encoder.state_dict().items()}

    def stop(trainer, epoch):
        if epoch.epoch == 5:
            raise KeyboardInterrupt

    whole = train_run(settings, crystals, tmp_path / "whole", encoder=encoder, latents=table)
    with pytest.raises(KeyboardInterrupt):
        train_run(settings, crystals, tmp_path / "parts", encoder=encoder, latents=table, on_epoch=stop)
    parts = train_run(settings, crystals, tmp_path / "parts", encoder=encoder, latents=table)
    assert parts["errors"] == whole["errors"]
    torch.testing.assert_close(dict(encoder.state_dict()), before, rtol=0, atol=0)
    saved = DTNN.from_pretrained(tmp_path / "whole" / "model")
    torch.testing.assert_close(dict(saved.encoder.state_dict()), before, rtol=0, atol=0)


def test_a_finetuned_run_changes_a_copy_of_the_encoder(crystals, encoder, tmp_path):
    settings = TrainingSettings(config(), epochs=1, learning_rate=1e-3, batch_size=8)
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    train_run(settings, crystals, tmp_path, encoder=encoder)
    torch.testing.assert_close(dict(encoder.state_dict()), before, rtol=0, atol=0)
    weight = "encoder.layers.0.from_atoms.weight"
    after = DTNN.from_pretrained(tmp_path / "model").state_dict()[weight]
    assert not torch.equal(after, before[weight.removeprefix("encoder.")])


def test_an_encoder_of_other_layers_is_refused():
    with pytest.raises(ValueError, match="expected `encoder` with the 3 layers that are read, got 4"):
        DTNN(config(layer=3), make_encoder(4))
