# SPDX-License-Identifier: MIT
"""Labels on disk: the teacher's latents, resumed shard by shard; errors name damaged files."""

import json

import pytest
import torch
from fake_teacher import SETTINGS
from safetensors.torch import load_file

from dtnn_fast.distillation.batches import LabelledShards
from dtnn_fast.distillation.labels import (
    RANKS,
    LabelSettings,
    label_crystals,
    read_manifest,
    read_shard,
    rejected_ids,
    shard_path,
)
from dtnn_fast.distillation.made_crystals import MADE_SOURCE, CrystalSettings, is_held_out
from dtnn_fast.errors import BadFileError, DTNNError
from dtnn_fast.nn.graph import build_graph


def test_labels_are_the_teachers_latents(crystals, teacher, labels):
    manifest = read_manifest(labels)
    assert manifest["teacher"]["digest"] == "0123"
    assert manifest["crystals"]["shards"] == -(-len(crystals) // 25)
    assert rejected_ids(labels) == []
    shard, mine = read_shard(labels, 1), crystals[25:50]
    assert shard["held_out"].tolist() == [is_held_out(c, 0.3) for c in mine]
    assert shard["made"].tolist() == [c.source == MADE_SOURCE for c in mine]
    graph = build_graph(mine, teacher.cutoffs)
    assert torch.equal(shard["ptr"], graph.ptr)
    with torch.no_grad():
        first, last = teacher.forward(graph)
    for rank, values in zip(RANKS, first[:3], strict=True):
        torch.testing.assert_close(shard[f"{rank}_1"].float(), values, rtol=2e-3, atol=2e-3)
    torch.testing.assert_close(shard["scalar_2"].float(), last.atom_scalar, rtol=2e-3, atol=2e-3)
    assert "vector_2" not in shard


def test_labelling_continues_where_it_stopped(crystals, teacher, labels, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        label_crystals(crystals, teacher, tmp_path, SETTINGS, on_shard=stop_after_two)
    calls = teacher.calls
    label_crystals(crystals, teacher, tmp_path, SETTINGS)
    assert teacher.calls < 2.5 * calls
    for number in range(read_manifest(labels)["crystals"]["shards"]):
        before, after = (load_file(shard_path(folder, number)) for folder in (labels, tmp_path))
        assert before.keys() == after.keys()
        assert all(torch.equal(value, after[name]) for name, value in before.items())
    calls = teacher.calls
    label_crystals(crystals, teacher, tmp_path, SETTINGS)
    assert teacher.calls == calls
    with pytest.raises(BadFileError, match="of other crystals, of other settings or of another teacher"):
        label_crystals(crystals[1:], teacher, tmp_path, SETTINGS)


def stop_after_two(done, total):
    if done == 2:
        raise KeyboardInterrupt


def test_two_processes_share_the_work(crystals, teacher, labels, tmp_path):
    label_crystals(crystals, teacher, tmp_path, SETTINGS, share=(1, 2))
    assert sorted(path.name for path in tmp_path.glob("*.safetensors"))[0] == "labels-00001.safetensors"
    label_crystals(crystals, teacher, tmp_path, SETTINGS, share=(0, 2))
    assert len(list(tmp_path.glob("*.safetensors"))) == read_manifest(labels)["crystals"]["shards"]


def test_a_crystal_with_latents_out_of_range_is_left_out_and_named(crystals, teacher, tmp_path):
    whole = teacher.forward

    def broken(graph):
        layers = whole(graph)
        layers[0].atom_vector[graph.ptr[2], 1, 0] = 1e6
        return layers

    teacher.forward = broken
    label_crystals(crystals[:5], teacher, tmp_path, SETTINGS)
    assert rejected_ids(tmp_path) == [crystals[2].id]
    shard = read_shard(tmp_path, 0)
    kept = [*crystals[:2], *crystals[3:5]]
    assert shard["ptr"].diff().tolist() == [c.num_atoms for c in kept]
    assert shard["atomic_numbers"].tolist() == [z for c in kept for z in c.atomic_numbers.tolist()]
    assert len(shard["scalar_1"]) == len(shard["atomic_numbers"])
    assert len(shard["cell"]) == 4


def test_damage_is_named(crystals, teacher, tmp_path):
    with pytest.raises(BadFileError, match="not a folder of labels"):
        read_manifest(tmp_path)
    label_crystals(crystals[:30], teacher, tmp_path, SETTINGS)
    path = shard_path(tmp_path, 0)
    whole = path.read_bytes()
    path.unlink()
    with pytest.raises(BadFileError, match="missing"):
        read_shard(tmp_path, 0)
    path.write_bytes(whole[:1000])
    for read in (lambda: read_shard(tmp_path, 0), lambda: rejected_ids(tmp_path)):
        with pytest.raises(BadFileError, match="not a complete shard"):
            read()
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    (tmp_path / "manifest.json").write_text(json.dumps(manifest | {"format": "other"}))
    with pytest.raises(BadFileError, match="expected the format"):
        read_manifest(tmp_path)
    with pytest.raises(ValueError, match="LabelSettings: expected"):
        LabelSettings(CrystalSettings(), dtype="int8")


def crystals_of(batch):
    """Identify the crystals of a batch by their cells, which are all different."""
    return [tuple(cell.flatten().tolist()) for cell in batch.graph.cell]


def test_an_epoch_has_every_training_crystal_once_and_no_other(crystals, labels):
    shards = LabelledShards(labels, (2.5, 3.0), ["scalar_1", "vector_1"], batch_atoms=30, num_mixed_shards=2)
    training = [c for c in crystals if not is_held_out(c, 0.3)]
    assert shards.num_crystals == len(training)
    assert shards.num_atoms == sum(c.num_atoms for c in training)
    batches = list(shards.training_batches(seed=0, epoch=0))
    seen = [key for batch in batches for key in crystals_of(batch)]
    assert len(seen) == len(set(seen)) == len(training)
    held = [key for made in (False, True) for batch in shards.held_out_batches(made) for key in crystals_of(batch)]
    assert len(held) == len(crystals) - len(training)
    assert not set(held) & set(seen)
    for batch in batches:
        assert batch.graph.num_atoms <= 30
        assert len(batch.labels["vector_1"]) == batch.graph.num_atoms
    again = [key for batch in shards.training_batches(0, 0) for key in crystals_of(batch)]
    other = [key for batch in shards.training_batches(0, 1) for key in crystals_of(batch)]
    assert again == seen
    assert other != seen
    assert set(other) == set(seen)


def test_labels_stay_with_their_atoms(teacher, labels):
    shards = LabelledShards(labels, teacher.cutoffs, ["vector_1"], batch_atoms=40)
    for batch in shards.training_batches(seed=1, epoch=0):
        with torch.no_grad():
            expected = teacher.forward(batch.graph)[0].atom_vector
        torch.testing.assert_close(batch.labels["vector_1"].float(), expected, rtol=2e-3, atol=2e-3)


def test_processes_share_an_epoch_and_skipping_gives_the_rest(labels):
    shards = LabelledShards(labels, (3.0,), ["scalar_1"], batch_atoms=30, num_mixed_shards=2)
    whole = [crystals_of(batch) for batch in shards.training_batches(0, 0)]
    parts = [[crystals_of(batch) for batch in shards.training_batches(0, 0, (rank, 2))] for rank in (0, 1)]
    assert len(parts[0]) == len(parts[1])
    assert all(batch in whole for part in parts for batch in part)
    assert not any(batch in parts[1] for batch in parts[0])
    for skip in (1, 3, len(whole) - 1, len(whole)):
        assert [crystals_of(batch) for batch in shards.training_batches(0, 0, skip=skip)] == whole[skip:]


def test_missing_labels_are_named(crystals, teacher, labels, tmp_path):
    with pytest.raises(DTNNError, match="no labels vector_2"):
        LabelledShards(labels, (3.0,), ["vector_2"])
    seen = [c for c in crystals if not is_held_out(c, 0.3)]
    label_crystals(seen[:5], teacher, tmp_path, SETTINGS)
    with pytest.raises(DTNNError, match="held-out chemical systems"):
        LabelledShards(tmp_path, (3.0,), ["scalar_1"])
