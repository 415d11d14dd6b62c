# SPDX-License-Identifier: MIT
"""Crystals in .zip and .tar archives: order, ids and sources; members that must not be read."""

import gzip
import io
import json
import re
import struct
import tarfile
import tracemalloc
import zipfile
from pathlib import Path

import pytest
from test_bad_files import CIF, CONTENTS, EXTXYZ, JSON, POSCAR, ROW

from dtnn_fast.crystals.crystal import Crystal, Rejected
from dtnn_fast.errors import BadFileError
from dtnn_fast.formats.compressed import RATIO_FREE_BYTES
from dtnn_fast.formats.find_files import find_files, read_files
from dtnn_fast.formats.reading import iter_crystals, read_crystals

TAR_MODES = {".tar": "w", ".tar.gz": "w:gz", ".tgz": "w:gz", ".tar.bz2": "w:bz2", ".tbz2": "w:bz2", ".tar.xz": "w:xz"}
ENDINGS = [".zip", *TAR_MODES, ".txz"]
every_archive = pytest.mark.parametrize("ending", ENDINGS)


def write(path, members):
    """Write an archive of members, a list of (name, text or bytes)."""
    members = [(name, data.encode() if isinstance(data, str) else data) for name, data in members]
    ending = next(end for end in sorted(ENDINGS, key=len, reverse=True) if path.name.endswith(end))
    if ending == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in members:
                archive.writestr(name, data)
    else:
        with tarfile.open(path, TAR_MODES.get(ending, "w:xz")) as archive:
            for name, data in members:
                entry = tarfile.TarInfo(name)
                entry.size = len(data)
                archive.addfile(entry, io.BytesIO(data))
    return path


@every_archive
def test_members_of_all_text_formats(tmp_path, ending):
    members = [
        ("z/b.cif", CIF),
        ("z/README.txt", "remarks"),
        ("a.xyz", EXTXYZ + EXTXYZ),
        ("mp-1/POSCAR", POSCAR),
        ("mp-2/POSCAR", POSCAR),
        ("c.json.gz", gzip.compress(JSON.encode())),
        ("d.jsonl", ROW),
        ("__MACOSX/z/._b.cif", "junk"),
    ]
    path = write(tmp_path / f"set{ending}", members)
    items = read_crystals(path)
    assert all(isinstance(item, Crystal) for item in items)
    # In the order of the archive.
    assert [item.id for item in items] == ["b", "a:1", "a:2", "mp-1/POSCAR", "mp-2/POSCAR", "c", "mp-1"]
    sources = [f"{path}/{name}" for name in ("z/b.cif", "a.xyz:1", "a.xyz:5", "mp-1/POSCAR", "mp-2/POSCAR")]
    assert [item.source for item in items] == [*sources, f"{path}/c.json.gz", f"{path}/d.jsonl:1"]
    assert find_files([tmp_path]).files == [path]
    assert [item.id for item in read_files([path])] == [item.id for item in items]
    assert sorted(tmp_path.iterdir()) == [path]


@every_archive
def test_names_that_repeat_have_their_folders_in_front(tmp_path, ending):
    members = [("mp-1/structure.cif", CIF), ("mp-2/structure.cif", CIF), ("mp-2/a.cif", CIF), ("mp-2/a.vasp", POSCAR)]
    path = write(tmp_path / f"set{ending}", members)
    ids = ["mp-1/structure", "mp-2/structure", "a.cif", "a.vasp"]
    assert [item.id for item in iter_crystals(path)] == ids
    again = write(tmp_path / f"other{ending}", members[:1])
    assert [item.id for item in read_files([path, again])] == [*ids, "structure"]
    assert [item.id for item in read_files([path, path])] == [*ids, *(f"{name}#2" for name in ids)]


BAD_NAMES = {
    "../a.cif": 'leads out of it by ".."',
    "a/../../b.cif": 'leads out of it by ".."',
    "/etc/c.cif": "is an absolute path",
    "..\\d.cif": 'leads out of it by ".."',
    "C:\\e.cif": "is an absolute path",
}


@every_archive
def test_names_that_lead_elsewhere(tmp_path, ending):
    path = write(tmp_path / f"set{ending}", [(name, CIF) for name in ("good.cif", *BAD_NAMES, "last.cif")])
    first, *rejected, last = read_crystals(path)
    assert (first.id, last.id) == ("good", "last")
    for item, reason in zip(rejected, BAD_NAMES.values(), strict=True):
        assert isinstance(item, Rejected)
        assert item.source.startswith(f"{path}/")
        assert reason in item.reason


@every_archive
def test_members_that_cannot_be_read(tmp_path, ending):
    bad = {
        "empty.cif": ("", "the file is empty"),
        "page.cif": ("<html>404</html>", "not valid CIF"),
        "cut.cif.gz": (gzip.compress(CIF.encode())[:-9], "truncated: its gzip data"),
        "picture.xyz": (b"\x89PNG\r\n\x1a\n", "a PNG picture"),
        "inner.zip": (b"PK", "archive inside an archive: unpack it first"),
        "set.npz": (b"PK", "packed set inside an archive: unpack it first"),
        "other.vasp": (CIF, "named as POSCAR, but it looks like CIF"),
        "half.json": (json.dumps({"a": 1}), "no structure in it"),
    }
    members = [("good.cif", CIF), *((name, content) for name, (content, _) in bad.items()), ("last.cif", CIF)]
    path = write(tmp_path / f"set{ending}", members)
    first, *rejected, last = read_crystals(path)
    assert (first.id, last.id) == ("good", "last")
    for item, (name, (_, reason)) in zip(rejected, bad.items(), strict=True):
        assert isinstance(item, Rejected)
        assert (item.id, item.source) == (name, f"{path}/{name}")
        assert re.search(reason, item.reason), item.reason


@pytest.mark.parametrize("ending", [".tar", ".tar.gz"])
def test_links_and_devices_in_a_tar(tmp_path, ending):
    path = tmp_path / f"a{ending}"
    with tarfile.open(path, TAR_MODES[ending]) as archive:
        for name, kind in [
            ("soft.cif", tarfile.SYMTYPE),
            ("hard.cif", tarfile.LNKTYPE),
            ("pipe.cif", tarfile.FIFOTYPE),
        ]:
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = kind, "/etc/passwd"
            archive.addfile(entry)
        folder = tarfile.TarInfo("folder.cif")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        entry = tarfile.TarInfo("good.cif")
        entry.size = len(CIF.encode())
        archive.addfile(entry, io.BytesIO(CIF.encode()))
    soft, hard, pipe, good = read_crystals(path)
    assert soft.reason == hard.reason == "is a link to /etc/passwd"
    assert "is a pipe or a device" in pipe.reason
    assert good.id == "good"


def test_links_and_encrypted_members_in_a_zip(tmp_path):
    path = write(tmp_path / "a.zip", [("good.cif", CIF), ("secret.cif", CIF), ("folder.cif/", "")])
    with zipfile.ZipFile(path, "a") as archive:
        link = zipfile.ZipInfo("link.cif")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    data = bytearray(path.read_bytes())
    # The flag of encryption in the central directory, eight bytes behind its mark.
    place = data.index(b"PK\x01\x02", data.index(b"PK\x01\x02") + 1)
    (flags,) = struct.unpack_from("<H", data, place + 8)
    struct.pack_into("<H", data, place + 8, flags | 1)
    path.write_bytes(data)
    good, secret, link = read_crystals(path)
    assert good.id == "good"
    assert (secret.id, secret.source) == ("secret.cif", f"{path}/secret.cif")
    assert "is encrypted" in secret.reason
    assert link.reason == "is a link"


@pytest.mark.parametrize("ending", [ending for ending in ENDINGS if ending != ".tar"])
def test_bombs(tmp_path, ending):
    size = RATIO_FREE_BYTES * 6
    path = write(tmp_path / f"a{ending}", [("good.cif", CIF), ("bomb.cif", b" " * size), ("last.cif", CIF)])
    tracemalloc.start()
    try:
        items = list(read_files([path]))
        assert tracemalloc.get_traced_memory()[1] < size
    finally:
        tracemalloc.stop()
    assert items[0].id == "good"
    assert "looks like a decompression bomb" in items[1].reason
    assert items[1].source == f"{path}/bomb.cif"
    if ending == ".zip":
        assert items[2].id == "last"


def test_members_that_share_their_data_are_a_bomb(tmp_path):
    path = write(tmp_path / "a.zip", [(f"{number}.cif", bytes(1 << 16)) for number in range(2)])
    data = bytearray(path.read_bytes())
    place = data.index(b"PK\x01\x02")
    struct.pack_into("<I", data, place + 20, 1 << 20)  # its compressed size
    path.write_bytes(data)
    with pytest.raises(BadFileError, match="decompression bomb: its members overlap"):
        read_crystals(path)


def test_a_wrong_checksum(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("bad.cif", CIF)
        archive.writestr("good.cif", CIF)
    path.write_bytes(path.read_bytes().replace(b"data_PtO2", b"data_PtO3", 1))
    bad, good = read_crystals(path)
    assert "cannot be unpacked: Bad CRC-32" in bad.reason
    assert good.id == "good"


@every_archive
def test_damaged_archives(tmp_path, ending):
    path = write(tmp_path / f"a{ending}", [(f"{number}.cif", CIF) for number in range(3)])
    whole = path.read_bytes()
    for data in (b"", b"junk" * 300, whole[: len(whole) // 3]):
        path.write_bytes(data)
        *_, last = read_files([path])
        assert isinstance(last, Rejected)
        assert last.source.startswith(str(path))


def test_crystals_in_front_of_damage_are_kept(tmp_path):
    path = write(tmp_path / "a.tar", [(f"{number}.cif", CIF) for number in range(3)])
    path.write_bytes(path.read_bytes()[: 2 * (512 + 512 * (len(CIF) // 512 + 1)) + 100])
    first, second, damage = read_files([path])
    assert (first.id, second.id) == ("0", "1")
    assert (damage.id, damage.source) == ("a.tar", str(path))
    assert "damaged or truncated" in damage.reason


@every_archive
def test_archives_without_crystals(tmp_path, ending):
    path = write(tmp_path / f"a{ending}", [("notes.txt", "x")])
    with pytest.raises(BadFileError, match="no file of a known format in this archive"):
        read_crystals(path)


def test_a_compressed_zip(tmp_path):
    path = tmp_path / "a.zip.gz"
    path.write_bytes(gzip.compress(b"PK"))
    with pytest.raises(BadFileError, match=r"compressed already: unpack the \.gz first"):
        read_crystals(path)


def test_names_that_are_not_utf_8(tmp_path):
    path = tmp_path / "a.tar"
    name = b"gr\xfcn.cif".decode("utf-8", "surrogateescape")
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as archive:
        entry = tarfile.TarInfo(name)
        entry.size = len(CIF.encode())
        archive.addfile(entry, io.BytesIO(CIF.encode()))
    (crystal,) = read_files([path])
    assert crystal.id == r"gr\udcfcn"
    crystal.source.encode()


def test_large_members_are_read_in_parts(tmp_path, monkeypatch):
    monkeypatch.setattr("dtnn_fast.formats.text_files.WHOLE_BYTES", 0)
    monkeypatch.setattr("dtnn_fast.formats.compressed.CHUNK_BYTES", 99)
    members = [("a.xyz", EXTXYZ * 3), ("b.json", f"[{JSON}, {JSON}]"), ("c.jsonl", f"{ROW}\n{ROW}\n"), ("d.cif", CIF)]
    for ending in (".zip", ".tar.gz"):
        path = write(tmp_path / f"a{ending}", members)
        assert [item.id for item in read_crystals(path)] == ["a:1", "a:2", "a:3", "b:1", "b:2", "mp-1", "mp-1", "d"]


def test_every_text_is_the_same_in_an_archive(tmp_path):
    for number, text in enumerate(CONTENTS.values()):
        name = ["a.cif", "a.vasp", "a.xyz", "a.json", "a.jsonl"][number]
        (tmp_path / name).write_text(text)
        expected = read_crystals(tmp_path / name)
        actual = read_crystals(write(tmp_path / "a.zip", [(name, text)]))
        assert [item.positions.tolist() for item in actual] == [item.positions.tolist() for item in expected]
        assert Path(actual[0].source).parent.name == "a.zip"
