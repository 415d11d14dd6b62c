# SPDX-License-Identifier: MIT
"""dtnn-fast pack: crystals from any files in shards that give the same predictions as the files."""

import hashlib
import json

import numpy as np
import pytest
from pyarrow import parquet

from dtnn_fast.formats.crystal_shards import packed_shards, read_shard
from dtnn_fast.formats.reading import read_crystals
from dtnn_fast.screening import input_chunks


@pytest.fixture
def folder(tmp_path, labelled, row_of):
    folder = tmp_path / "input"
    folder.mkdir()
    rows = [{**row_of(c), "band_gap": c.info["band_gap_ev"]} for c in labelled[:30]]
    (folder / "many.jsonl").write_text("\n".join(map(json.dumps, rows)))
    # One id and structure occur again, and one file is damaged.
    (folder / "again.jsonl").write_text(json.dumps(rows[3]) + "\n" + json.dumps(rows[5]))
    (folder / "broken.cif").write_text("data_x")
    return folder


def packed(folder):
    return [crystal for shard in packed_shards(folder) for crystal in read_shard(shard)]


def test_all_crystals_are_packed_once_in_order(program, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(input_chunks, "PIECE_CRYSTALS", 8)
    result = program("pack", folder, "-o", tmp_path / "out", "--readers", 0)
    assert result.exit_code == 3
    assert "32 crystals in 5 shards, 2 duplicates marked, 2 ids made unique" in " ".join(result.stdout.split())
    assert "1 rejected: see" in result.stderr
    expected = [c for name in ("again.jsonl", "many.jsonl") for c in read_crystals(folder / name)]
    found = packed(tmp_path / "out")
    assert [crystal.id.split("#")[0] for crystal in found] == [crystal.id for crystal in expected]
    assert len({crystal.id for crystal in found}) == 32
    for crystal, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(crystal.positions, other.positions)
        np.testing.assert_array_equal(crystal.cell, other.cell)
        np.testing.assert_array_equal(crystal.atomic_numbers, other.atomic_numbers)
        assert crystal.info["band_gap"] == other.info["band_gap"]
        assert crystal.info["prototype"]
    twice = {crystal.id: crystal.info["duplicate_of"] for crystal in found if "duplicate_of" in crystal.info}
    again = [crystal.id for crystal in expected[:2]]
    assert twice == {f"{name}#2": name for name in again}
    listing = json.loads((tmp_path / "out" / "packed.json").read_text())
    assert listing["crystals"] == 32
    for shard in listing["shards"]:
        content = (tmp_path / "out" / shard["name"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == shard["sha256"]


def test_screening_the_shards_equals_screening_the_files(program, folder, tiny_model, tmp_path):
    assert program("pack", folder, "-o", tmp_path / "packed", "--readers", 2).exit_code == 3
    options = ("--model", tiny_model, "--no-find-duplicates", "--top", 0)
    assert program("screen", folder, "-o", tmp_path / "a", *options).exit_code == 3
    assert program("screen", tmp_path / "packed", "-o", tmp_path / "b", *options).exit_code == 0
    a, b = (parquet.read_table(next((tmp_path / name).glob("part-*.parquet"))).to_pylist() for name in ("a", "b"))
    assert [row["id"] for row in a] == [row["id"] for row in b]
    for row, other in zip(a, b, strict=True):
        assert row.keys() - other.keys() <= {name for name in row if name.endswith("_published_mean")}
        for name in other.keys() - {"source", "duplicate_of"}:
            if isinstance(row[name], float):
                assert other[name] == pytest.approx(row[name], rel=1e-4, abs=1e-4), name
            elif name != "labelled" or row[name] is not None:
                assert other[name] == row[name], name


@pytest.mark.parametrize("readers", [0, 2])
def test_ids_of_a_table_without_a_crystal_are_counted(program, folder, tiny_model, tmp_path, readers):
    ids = [crystal.id for crystal in read_crystals(folder / "many.jsonl")]
    # The broken file is rejected; its row has a crystal all the same.
    rows = [*ids, "broken.cif", "mp-0", "mp-00"]
    (folder / "gaps.csv").write_text("material_id,gap\n" + "".join(f"{name},1.5\n" for name in rows))
    message = f"{folder / 'gaps.csv'}: 2 of 33 ids have no crystal, for example mp-0"
    packed = program("pack", folder, "-o", tmp_path / "packed", "--readers", readers)
    options = ("--model", tiny_model, "--readers", readers, "--top", 0)
    for result in (packed, program("screen", folder, "-o", tmp_path / "screened", *options)):
        assert result.exit_code == 3
        assert message in " ".join(result.stderr.split())
    # The same table, kept in memory, beside fewer crystals.
    fewer = program("screen", folder / "again.jsonl", folder / "gaps.csv", "-o", tmp_path / "fewer", *options)
    assert "31 of 33 ids have no crystal" in " ".join(fewer.stderr.split())
    summary = json.loads((tmp_path / "screened" / "summary.json").read_text())
    assert summary["ids_without_crystal"] == {str(folder / "gaps.csv"): 2}
    (folder / "gaps.csv").write_text("material_id,gap\n" + "".join(f"{name},1.5\n" for name in ids))
    assert "no crystal" not in program("screen", folder, "-o", tmp_path / "again", *options).stderr


def test_packing_goes_on_and_refuses_other_files(program, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(input_chunks, "PIECE_CRYSTALS", 8)
    arguments = ("pack", folder, "-o", tmp_path / "out", "--readers", 0)
    program(*arguments)
    shards = sorted((tmp_path / "out").glob("shard-*.parquet"))
    expected = [parquet.read_table(shard) for shard in shards]
    shards[2].unlink()
    shards[3].write_bytes(shards[3].read_bytes()[:100])
    result = program(*arguments)
    assert result.exit_code == 3
    assert "damaged, and computed again" in " ".join(result.stderr.split())
    assert [parquet.read_table(shard) for shard in shards] == expected
    (folder / "new.cif").write_text("data_y")
    result = program(*arguments)
    assert result.exit_code == 2
    assert "files that have changed" in result.stderr
    assert program(*arguments, "--fresh").exit_code == 3


def test_nothing_to_pack(program, folder, tmp_path):
    result = program("pack", folder / "broken.cif", "-o", tmp_path / "out")
    assert result.exit_code == 2
    assert "nothing could be packed" in result.stderr


def test_cells(program, folder, tmp_path):
    for cell in ("primitive", "conventional"):
        program("pack", folder, "-o", tmp_path / cell, "--cell", cell, "--readers", 0)
    pairs = list(zip(packed(tmp_path / "primitive"), packed(tmp_path / "conventional"), strict=True))
    assert all(a.num_atoms <= b.num_atoms and b.num_atoms % a.num_atoms == 0 for a, b in pairs)
    assert any(a.num_atoms < b.num_atoms for a, b in pairs)
