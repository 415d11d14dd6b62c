# SPDX-License-Identifier: MIT
"""The progress of a screening moves within a large file, whatever its format."""

import gzip
import io
import json
import tarfile
import zipfile

import pytest
from ase.db import connect
from crystal_examples import to_ase, to_pymatgen
from pyarrow import parquet

from dtnn_fast.datasets.bundled import load_labelled
from dtnn_fast.formats import compressed, json_lines, text_files
from dtnn_fast.formats.crystal_shards import crystals_to_table
from dtnn_fast.screening import input_chunks
from dtnn_fast.screening.input_chunks import plan_files
from dtnn_fast.screening.preparation import Preparation
from dtnn_fast.screening.readers import prepared_pieces
from dtnn_fast.screening.screening_run import InputProgress

CRYSTALS = load_labelled()[:160]
LINES = "\n".join(json.dumps(json_lines.json_row(crystal)) for crystal in CRYSTALS) + "\n"
FILES = {f"folder/{number}.jsonl": line + "\n" for number, line in enumerate(LINES.splitlines())}


def write_zip(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in FILES.items():
            archive.writestr(name, text)


def write_tar(path):
    with tarfile.open(path, "w:gz") as archive:
        for name, text in FILES.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))


def write_database(path):
    with connect(path) as database:
        for crystal in CRYSTALS:
            database.write(to_ase(crystal))


def write_rows(path):
    table = crystals_to_table(CRYSTALS).select(
        ["id", "lattice_vectors", "species_at_sites", "cartesian_site_positions"]
    )
    parquet.write_table(table.replace_schema_metadata(None), path, row_group_size=30)


WRITERS = {
    "a.jsonl": lambda path: path.write_text(LINES),
    "a.jsonl.gz": lambda path: path.write_bytes(gzip.compress(LINES.encode())),
    "a.json": lambda path: path.write_text(json.dumps([to_pymatgen(crystal).as_dict() for crystal in CRYSTALS])),
    "a.zip": write_zip,
    "a.tar.gz": write_tar,
    "a.db": write_database,
    "a.parquet": write_rows,
}


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("readers", [0, 1])
def test_pieces_of_a_large_file_say_how_far_it_was_read(name, readers, tmp_path, monkeypatch):
    monkeypatch.setattr(compressed, "CHUNK_BYTES", 2048)
    monkeypatch.setattr(text_files, "WHOLE_BYTES", 4096)
    monkeypatch.setattr(input_chunks, "PIECE_CRYSTALS", 40)
    WRITERS[name](tmp_path / name)
    inputs = plan_files([tmp_path / name])
    (chunk,) = inputs.chunks
    stream = list(prepared_pieces(inputs, [0], {}, Preparation(describe=False), readers))
    assert sum(len(piece.crystals) for piece in stream) == len(CRYSTALS)
    found = [piece.size_read for piece in stream]
    assert found == sorted(found)
    assert found[-1] == chunk.size
    if not readers:  # readers have the true limits: one piece
        assert len(stream) == 4
        for number, size in enumerate(found[:-1], start=1):
            assert (0.25 * number - 0.2) * chunk.size < size < (0.25 * number + 0.2) * chunk.size


def test_progress_adds_up_for_chunks_that_come_mixed():
    progress = InputProgress()
    pieces = [(0, 10), (1, 5), (0, 30), (1, 5), (1, 20), (0, 25), (0, 40)]
    assert [progress.advance(*piece) for piece in pieces] == [10, 5, 20, 0, 15, 0, 10]
