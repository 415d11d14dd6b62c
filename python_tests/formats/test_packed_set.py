# SPDX-License-Identifier: MIT
"""Packed sets: written and read back exactly, and an error when damaged."""

import os
from dataclasses import replace

import numpy as np
import pytest

from dtnn_fast.crystals import SymmetryOperations
from dtnn_fast.crystals.crystal import Rejected
from dtnn_fast.datasets.bundled import LABELLED_FILE, load_labelled
from dtnn_fast.errors import BadFileError
from dtnn_fast.files import replacing
from dtnn_fast.formats.packed_set import read_packed, write_packed
from dtnn_fast.formats.reading import file_format_of, read_crystals
from dtnn_fast.symmetry import with_operations

PROVENANCE = {"source": "test", "database_version": "1", "query": {"limit": None}}


@pytest.fixture
def crystals():
    return load_labelled()[:20]


@pytest.fixture
def packed(tmp_path, crystals):
    path = tmp_path / "set.npz"
    write_packed(path, crystals, PROVENANCE)
    return path


def overwrite_arrays(path, **arrays):
    with np.load(path) as archive:
        kept = {name: archive[name] for name in archive.files}
    kept |= arrays  # None removes an array
    np.savez(path, allow_pickle=True, **{name: array for name, array in kept.items() if array is not None})
    return path


def test_round_trip_is_exact(packed, crystals):
    items, provenance = read_packed(packed)
    assert provenance == PROVENANCE
    assert [item.id for item in items] == [crystal.id for crystal in crystals]
    for item, crystal in zip(items, crystals, strict=True):
        np.testing.assert_array_equal(item.atomic_numbers, crystal.atomic_numbers)
        np.testing.assert_array_equal(item.positions, crystal.positions)
        np.testing.assert_array_equal(item.cell, crystal.cell)
        assert item.pbc.all()
        assert item.info == crystal.info
        assert item.targets.keys() == crystal.targets.keys()
        for name, tensor in crystal.targets.items():
            np.testing.assert_array_equal(item.targets[name], tensor)


def test_read_crystals_reads_packed_sets(packed, crystals):
    assert file_format_of(packed) == "npz"
    assert [item.id for item in read_crystals(packed)] == [crystal.id for crystal in crystals]


def test_missing_tensors_stay_missing(tmp_path, crystals):
    only = replace(crystals[0], targets={"electronic": crystals[0].targets["electronic"]})
    write_packed(tmp_path / "a.npz", [only, replace(crystals[1], targets={})], {})
    first, second = read_packed(tmp_path / "a.npz").items
    assert list(first.targets) == ["electronic"]
    assert second.targets == {}


def test_empty_set(tmp_path):
    write_packed(tmp_path / "a.npz", [], PROVENANCE)
    assert read_packed(tmp_path / "a.npz").items == []


def test_tensor_with_one_bad_element_is_rejected(packed, crystals):
    tensors = np.array([crystal.targets["total"] for crystal in crystals])
    tensors[3, 0, 1] = np.inf
    items = read_packed(overwrite_arrays(packed, total=tensors)).items
    assert isinstance(items[3], Rejected)
    assert items[3].reason == "the total tensor has elements that are NaN or infinite"
    assert sum(isinstance(item, Rejected) for item in items) == 1


def test_info_that_is_not_an_object_is_rejected(packed):
    items = read_packed(overwrite_arrays(packed, info=np.array(["[]", "{"] + ["{}"] * 18))).items
    assert [isinstance(item, Rejected) for item in items] == [True, True] + [False] * 18


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        ({"format": np.array("dtnn_fast crystals 2")}, "not a packed set"),
        ({"cell": None}, "lacks cell"),
        ({"num_atoms": np.full(20, 3)}, "expected shape"),
        ({"num_atoms": np.full(20, -1)}, "num_atoms is not a list of counts"),
        ({"positions": np.zeros((4, 3))}, "positions"),
        ({"total": np.zeros((20, 3, 4))}, r"total has shape \[20, 3, 4\]"),
        ({"provenance": np.array("{")}, "provenance is not JSON"),
        ({"provenance": np.array("[]")}, "provenance is not a JSON object"),
        ({"id": np.array([{}] * 20, dtype=object)}, "damaged, or not an .npz that dtnn-fast data fetch writes"),
    ],
)
def test_damaged_arrays(packed, arrays, reason):
    with pytest.raises(BadFileError, match=reason):
        read_packed(overwrite_arrays(packed, **arrays))


@pytest.mark.parametrize("length", [0, 100, 3000, -40])
def test_truncated_file(packed, length):
    packed.write_bytes(packed.read_bytes()[:length])
    with pytest.raises(BadFileError, match=str(packed)):
        read_packed(packed)


def test_other_files(tmp_path, packed):
    with pytest.raises(BadFileError, match="there is no such file"):
        read_crystals(tmp_path / "absent.npz")
    with pytest.raises(BadFileError, match="not a packed set"):
        read_crystals(LABELLED_FILE)
    (tmp_path / "text.npz").write_text("no archive")
    with pytest.raises(BadFileError, match="damaged"):
        read_crystals(tmp_path / "text.npz")
    packed.rename(tmp_path / "set.npz.gz")
    with pytest.raises(BadFileError, match="unpack"):
        read_crystals(tmp_path / "set.npz.gz")


def test_bad_arguments(tmp_path, crystals):
    with pytest.raises(ValueError, match=r"end in \.npz"):
        write_packed(tmp_path / "a.zip", crystals, {})
    with pytest.raises(ValueError, match="periodic"):
        write_packed(tmp_path / "a.npz", [replace(crystals[0], pbc=np.array([True, True, False]))], {})


def interrupted_write(path):
    with replacing(path) as unfinished:
        unfinished.write_text("half")
        raise KeyboardInterrupt


def test_failed_write_leaves_the_earlier_file(packed, crystals):
    before = packed.read_bytes()
    with pytest.raises(TypeError):
        write_packed(packed, crystals, {"not JSON": object()})
    with pytest.raises(KeyboardInterrupt):
        interrupted_write(packed)
    assert packed.read_bytes() == before
    assert os.listdir(packed.parent) == [packed.name]


class TestOperations:
    @pytest.fixture
    def with_symmetry(self, crystals):
        pytest.importorskip("moyopy")
        return [*with_operations(crystals[:10]), *crystals[10:]]

    def test_are_stored_and_read(self, tmp_path, with_symmetry):
        path = tmp_path / "set.npz"
        write_packed(path, with_symmetry, PROVENANCE)
        items, _ = read_packed(path)
        assert sum(item.operations is not None for item in items) >= 8
        for item, crystal in zip(items, with_symmetry, strict=True):
            assert (item.operations is None) == (crystal.operations is None)
            if crystal.operations is not None:
                np.testing.assert_array_equal(item.operations.rotations, crystal.operations.rotations)
                np.testing.assert_array_equal(item.operations.images, crystal.operations.images)
                assert [array.dtype for array in item.operations] == [np.int32, np.int64]

    def test_entries_that_do_not_fit_are_left_out(self, tmp_path, with_symmetry):
        shear = np.eye(3, dtype=np.int32)[None].repeat(2, 0)
        shear[1, 0, 1] = 40_000
        skewed = replace(with_symmetry[0], operations=SymmetryOperations(shear, np.zeros(2, np.int64)))
        path = tmp_path / "set.npz"
        write_packed(path, [skewed, with_symmetry[1]], PROVENANCE)
        items, _ = read_packed(path)
        assert items[0].operations is None
        assert items[1].operations is not None

    def test_files_without_them_stay_readable(self, packed, crystals):
        overwrite_arrays(packed, num_operations=None, rotations=None, images=None)
        items, _ = read_packed(packed)
        assert [item.id for item in items] == [crystal.id for crystal in crystals]
        assert all(item.operations is None for item in items)

    @pytest.mark.parametrize(
        ("arrays", "message"),
        [
            ({"images": None}, "it has num_operations, rotations without images"),
            ({"num_operations": np.array([1])}, "num_operations is not a list of counts"),
            ({"num_operations": np.full(20, -1)}, "num_operations is not a list of counts"),
            ({"rotations": np.zeros((3, 3, 3), np.int16)}, r"rotations has shape \[3, 3, 3\]"),
            ({"images": np.zeros(4, np.float32)}, r"images has shape \[4\] and dtype float32"),
        ],
    )
    def test_damage(self, packed, arrays, message):
        overwrite_arrays(packed, **arrays)
        with pytest.raises(BadFileError, match=f"damaged: {message}"):
            read_packed(packed)


def test_paths_may_be_texts(tmp_path, crystals):
    path = str(tmp_path / "set.npz")
    write_packed(path, crystals, PROVENANCE)
    assert file_format_of(path) == "npz"
    assert [crystal.id for crystal in read_packed(path).items] == [crystal.id for crystal in crystals]
    with replacing(str(tmp_path / "a.txt")) as unfinished:
        unfinished.write_text("a")
    assert (tmp_path / "a.txt").read_text() == "a"
