# SPDX-License-Identifier: MIT
"""Files compressed by gzip, bzip2 and xz; decompression bombs; large files in chunks."""

import bz2
import gzip
import io
import lzma
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_bad_files import CONTENTS, NAMES

from dtnn_fast.errors import BadFileError
from dtnn_fast.formats import text_files
from dtnn_fast.formats.compressed import MAX_RATIO, RATIO_FREE_BYTES
from dtnn_fast.formats.file_ids import default_id
from dtnn_fast.formats.find_files import find_files
from dtnn_fast.formats.reading import read_crystals
from dtnn_fast.formats.text_files import TextFile, lines_of, read_text, split_lines

COMPRESS = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}
PROGRAMS = {".gz": "gzip", ".bz2": "bzip2", ".xz": "xz"}
endings = pytest.mark.parametrize("ending", COMPRESS)


@endings
@pytest.mark.parametrize("name", NAMES)
def test_every_text_format(tmp_path, name, ending):
    plain = tmp_path / NAMES[name]
    plain.write_text(CONTENTS[name])
    packed = tmp_path / "packed" / f"{NAMES[name]}{ending}"
    packed.parent.mkdir()
    packed.write_bytes(COMPRESS[ending](CONTENTS[name].encode()))
    expected, actual = read_crystals(plain), read_crystals(packed)
    assert [item.id for item in actual] == [item.id for item in expected]
    for first, second in zip(actual, expected, strict=True):
        assert first.positions.tolist() == second.positions.tolist()
    assert find_files([tmp_path / "packed"]).files == [packed]


@endings
def test_ids_have_no_ending(ending):
    assert default_id(Path(f"a/b.cif{ending}")) == "b"
    assert default_id(Path(f"/a/POSCAR{ending.upper()}")).endswith(f"a/POSCAR{ending.upper()}")


@endings
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data[:-12], "truncated: its {} data ends too early"),
        (lambda data: data[: len(data) // 2] + bytes(40), "its {} data is damaged|truncated"),
        (lambda data: b"data_x\n", "not compressed by {}"),
    ],
)
def test_damaged_data(tmp_path, ending, change, message):
    path = tmp_path / f"a.cif{ending}"
    path.write_bytes(change(COMPRESS[ending](CONTENTS["CIF"].encode())))
    with pytest.raises(BadFileError, match=message.format(PROGRAMS[ending])) as caught:
        read_crystals(path)
    assert str(caught.value).startswith(f"{path}: ")


@endings
def test_names_without_the_ending(tmp_path, ending):
    path = tmp_path / "a.cif"
    path.write_bytes(COMPRESS[ending](CONTENTS["CIF"].encode()))
    with pytest.raises(BadFileError, match=rf"compressed by {PROGRAMS[ending]}, so its name must end in \{ending}"):
        read_crystals(path)


def test_data_compressed_twice(tmp_path):
    path = tmp_path / "a.cif.gz"
    path.write_bytes(gzip.compress(bz2.compress(CONTENTS["CIF"].encode())))
    with pytest.raises(BadFileError, match="compressed by bzip2 twice"):
        read_crystals(path)


@endings
@pytest.mark.parametrize("name", ["a.cif", "a.jsonl", "a.json", "a.xyz"])
def test_a_bomb_is_refused_before_it_fills_the_memory(tmp_path, name, ending):
    path = tmp_path / f"{name}{ending}"
    data = COMPRESS[ending](b"[" + b" " * (RATIO_FREE_BYTES * 6))
    assert len(data) * MAX_RATIO < RATIO_FREE_BYTES * 6
    path.write_bytes(data)
    tracemalloc.start()
    try:
        with pytest.raises(BadFileError, match=r"looks like a decompression bomb: [\d,]+ bytes expand to more than"):
            read_crystals(path)
        assert tracemalloc.get_traced_memory()[1] < 5 * RATIO_FREE_BYTES
    finally:
        tracemalloc.stop()


def test_a_text_above_the_limit_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "a.cif"
    path.write_text(CONTENTS["CIF"])
    monkeypatch.setattr(text_files, "MAX_TEXT_BYTES", 100)
    with pytest.raises(BadFileError, match="more than 100 bytes of text: split it"):
        read_text(path)


@given(st.lists(st.text("ab\r\n\u2028", max_size=5), max_size=8))
def test_lines_do_not_depend_on_the_chunks(chunks):
    text = "".join(chunks)
    lines = list(lines_of(Path("x"), chunks))
    assert [line for line, _ in lines] == split_lines(text)
    assert all(has_end for _, has_end in lines[:-1])
    if lines:
        assert lines[-1][1] == text.endswith(("\n", "\r"))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "latin-1"])
def test_chunks_of_a_large_file_make_its_text(monkeypatch, encoding):
    text = "größe Å\n" * 50
    file = io.BytesIO(text.encode(encoding))
    monkeypatch.setattr(text_files, "WHOLE_BYTES", 7)
    monkeypatch.setattr("dtnn_fast.formats.compressed.CHUNK_BYTES", 3)
    chunks = list(TextFile(Path("x"), file).chunks())
    assert len(chunks) > 100
    assert "".join(chunks) == text


def test_damage_in_a_later_chunk(monkeypatch):
    monkeypatch.setattr(text_files, "WHOLE_BYTES", 7)
    monkeypatch.setattr("dtnn_fast.formats.compressed.CHUNK_BYTES", 3)
    for data, message in [
        ("a\n".encode("utf-16") * 9 + b"\xd8", "begins like UTF-16, but it is damaged"),
        (b"a\n" * 20 + b"\0", "not a text file"),
    ]:
        with pytest.raises(BadFileError, match=message):
            list(TextFile(Path("x"), io.BytesIO(data)).chunks())


def test_a_line_above_the_limit_is_refused(monkeypatch):
    monkeypatch.setattr(text_files, "MAX_LINE", 10)
    with pytest.raises(BadFileError, match="a line is longer than 10 characters"):
        list(lines_of(Path("x"), ["a\n", *["b" * 6] * 3]))
