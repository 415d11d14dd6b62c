# SPDX-License-Identifier: MIT
"""Messages of reading processes: what goes in comes out, and damage is an error."""

import numpy as np
import pytest

from dtnn_fast.crystals.crystal import Crystal
from dtnn_fast.crystals.insulators import is_known_insulator
from dtnn_fast.datasets.bundled import load_labelled
from dtnn_fast.serving.crystal_messages import Refusal, RefusalCode, pack_items, unpack_items
from dtnn_fast.serving.reading_process import ReaderSettings, read_job
from dtnn_fast.symmetry import with_operations

SETTINGS = ReaderSettings((), (2, 200), 50, 3, 1 << 30)


def test_crystals_come_out_as_they_went_in():
    crystals = with_operations(load_labelled()[:12])
    plain = Crystal.make("plain", [3], [[0.1, 0.2, 0.3]], 3 * np.eye(3), info={"space_group": 221, "x": object()})
    refusal = Refusal("ü\u2028", RefusalCode.UNUSABLE, "why not")
    items = [*crystals[:6], refusal, plain, *crystals[6:]]
    back = unpack_items(pack_items(items))
    assert len(back) == len(items)
    for before, after in zip(items, back, strict=True):
        if isinstance(before, Refusal):
            assert after == before
            continue
        assert after.id == before.id
        for name in ("atomic_numbers", "positions", "cell"):
            got, expected = getattr(after, name), getattr(before, name)
            assert (got == expected).all()
            assert got.dtype == expected.dtype
        assert (after.operations is None) == (before.operations is None)
        if before.operations is not None:
            assert (after.operations.rotations == before.operations.rotations).all()
            assert (after.operations.images == before.operations.images).all()
            assert after.operations.rotations.dtype == np.int32
        assert after.info.get("space_group") == before.info.get("space_group")
        # Labels stay behind; that the crystal is no metal does not.
        assert not after.targets
        assert is_known_insulator(after) == is_known_insulator(before)
    assert unpack_items(pack_items([])) == []


def test_damaged_messages_are_errors():
    message = pack_items(load_labelled()[:2])
    for damaged in (b"", message[:3], message[:40], message[:-1], message[:-64], b"\xff" + message, message[4:]):
        with pytest.raises(ValueError, match=r"."):
            unpack_items(damaged)


def test_a_job_keeps_what_is_read_before_the_damage():
    frame = '2\nLattice="0 2.8 2.8 2.8 0 2.8 2.8 2.8 0"\nNa 0 0 0\nCl 2.8 2.8 2.8\n'
    items = read_job(SETTINGS, "a.xyz", None, (frame + frame + "2\nbroken").encode())
    assert [type(item) for item in items] == [Crystal, Crystal, Refusal]
    items = read_job(SETTINGS, "a.xyz", None, (frame * 4).encode())
    assert [type(item) for item in items] == [Crystal] * 3 + [Refusal]
    assert items[-1].code == RefusalCode.TOO_MANY
    (item,) = read_job(SETTINGS, "a.xyz", None, b"")
    assert (item.code, item.reason) == (RefusalCode.UNREADABLE, "the file is empty")


def test_answers_do_not_repeat_whole_files():
    structure = '"lattice_vectors": [[0,3,3],[3,0,3],[3,3,0]], "species_at_sites": ["Na"], "cartesian_site_positions": '
    long = "x" * 100_000
    (crystal,) = read_job(SETTINGS, "a.json", None, f'{{"id": "{long}", {structure} [[0,0,0]]}}'.encode())
    assert len(crystal.id) == 200
    (refusal,) = read_job(SETTINGS, "a.xyz", None, f'1\nLattice="{"1 " * 10_000}"\nNa 0 0 0\n'.encode())
    assert len(refusal.reason) == 1000
    (refusal,) = read_job(SETTINGS, "a.json", None, f'{{"id": "{long}", {structure} "{long}"}}'.encode())
    assert len(refusal.id) == 200
    assert len(refusal.reason) <= 1000


def test_an_unexpected_error_is_a_refusal(monkeypatch):
    def fail(*arguments):
        raise MemoryError

    monkeypatch.setattr("dtnn_fast.serving.reading_process.iter_crystals_of_bytes", fail)
    (item,) = read_job(SETTINGS, "a.cif", None, b"data_x")
    assert (item.code, item.reason) == (RefusalCode.UNREADABLE, "cannot be read: it needs too much memory")
