# SPDX-License-Identifier: MIT
"""Files of candidates hold the same crystals as the generator."""

import json

import numpy as np
import pytest

from dtnn_fast.candidates import Candidates, CandidateSettings, candidates_file
from dtnn_fast.candidates.candidates_file import write_candidates
from dtnn_fast.crystals.elements import atomic_number
from dtnn_fast.datasets.bundled import load_labelled
from dtnn_fast.errors import BadFileError
from dtnn_fast.formats.reading import read_crystals

pq = pytest.importorskip("pyarrow.parquet")


@pytest.fixture(scope="module")
def made():
    parents = [crystal for crystal in load_labelled() if crystal.num_atoms <= 12][:40]
    return list(Candidates(CandidateSettings(count=25, seed=3), parents))


def read_folder(path):
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return [row for file in files for row in pq.read_table(file).to_pylist()]


@pytest.mark.parametrize("name", ["folder", "one.parquet"])
def test_parquet_has_the_names_of_optimade(made, tmp_path, monkeypatch, name):
    monkeypatch.setattr(candidates_file, "SHARD_ROWS", 10)
    monkeypatch.setattr(candidates_file, "_GROUP_ROWS", 4)
    path = tmp_path / name
    steps = list(write_candidates(path, made, {"seed": 3}))
    assert steps == sorted(steps)
    assert steps[-1] == len(made)
    if path.is_dir():
        assert [file.name for file in sorted(path.iterdir())] == [f"part-00000{n}.parquet" for n in range(3)]
    rows = read_folder(path)
    assert [row["id"] for row in rows] == [crystal.id for crystal in made]
    for row, crystal in zip(rows, made, strict=True):
        assert row["formula"] == crystal.formula
        assert row["nsites"] == crystal.num_atoms
        assert row["lattice_vectors"] == crystal.cell.tolist()
        assert row["cartesian_site_positions"] == crystal.positions.tolist()
        assert [atomic_number(name) for name in row["species_at_sites"]] == crystal.atomic_numbers.tolist()
        assert row["dimension_types"] == [1, 1, 1]
        assert {key: row[key] for key in crystal.info} == crystal.info
    first = path if path.is_file() else path / "part-000000.parquet"
    metadata = pq.read_schema(first).metadata
    assert json.loads(metadata[b"dtnn_fast candidates 1"]) == {"seed": 3}


@pytest.mark.parametrize("name", ["some.jsonl", "some.cif"])
def test_texts_are_read_back(made, tmp_path, name):
    assert list(write_candidates(tmp_path / name, made, {}))[-1] == len(made)
    again = read_crystals(tmp_path / name)
    assert len(again) == len(made)
    for one, crystal in zip(again, made, strict=True):
        assert one.id.removeprefix("some:") == crystal.id  # blocks of a CIF have the name of the file in front
        assert sorted(one.atomic_numbers.tolist()) == sorted(crystal.atomic_numbers.tolist())
        np.testing.assert_allclose(one.cell @ one.cell.T, crystal.cell @ crystal.cell.T, rtol=1e-6, atol=1e-5)
        if name.endswith("jsonl"):
            np.testing.assert_allclose(one.positions, crystal.positions, atol=1e-8)
            assert one.info == crystal.info


def test_a_failure_leaves_no_incomplete_file(made, tmp_path):
    def broken():
        yield from made[:3]
        raise RuntimeError("stopped")

    for name in ("a.parquet", "a.jsonl", "a.cif"):
        with pytest.raises(RuntimeError, match="stopped"):
            list(write_candidates(tmp_path / name, broken(), {}))
    assert list(tmp_path.iterdir()) == []


def test_places_that_cannot_be_written(made, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "note").write_text("")
    (tmp_path / "file").write_text("")
    (tmp_path / "x.cif").mkdir()
    for name, message in (
        ("full", "missing or empty folder"),
        ("file", "missing or empty folder"),
        ("x.cif", "is a folder"),
        ("no/where.jsonl", "there is no folder"),
    ):
        with pytest.raises(BadFileError, match=message):
            list(write_candidates(tmp_path / name, made, {}))


def test_an_empty_sequence_gives_an_empty_file(tmp_path):
    assert list(write_candidates(tmp_path / "none.jsonl", [], {})) == [0]
    list(write_candidates(tmp_path / "none.parquet", [], {}))
    assert pq.read_table(tmp_path / "none.parquet").num_rows == 0
