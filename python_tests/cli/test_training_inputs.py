# SPDX-License-Identifier: MIT
"""Labelled crystals of a folder: what is skipped is said, and tables of properties are joined."""

import json

from dtnn_fast.cli.training_inputs import load_partial_data, load_training_data


def test_skipped_files_are_named_and_tables_joined(few_crystals, tmp_path, capsys):
    rows = [json.loads(line) for line in few_crystals.read_text().splitlines()]
    (tmp_path / "data.jsonl").write_text(few_crystals.read_text())
    (tmp_path / "notes.md").write_text("no crystal")
    (tmp_path / "gaps.csv").write_text("material_id,gap_pbe\n" + "".join(f"{row['id']},1.5\n" for row in rows))
    for load in (lambda paths: load_training_data(paths, ("total",), False), load_partial_data):
        crystals, rejected = load([tmp_path])
        assert rejected == []
        assert len(crystals) == len(rows)
        assert all(crystal.info["gap_pbe"] == 1.5 for crystal in crystals)
        notice = " ".join(capsys.readouterr().err.split())
        assert f"skipped 1 file of unknown format, such as {tmp_path / 'notes.md'}" in notice


def test_electronic_tensors_alone_are_enough_to_learn_them(few_crystals, tmp_path):
    rows = [json.loads(line) for line in few_crystals.read_text().splitlines()]
    own = [{key: value for key, value in row.items() if key not in ("eps_total", "eps_ionic")} for row in rows]
    (tmp_path / "own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in own))
    crystals, rejected = load_training_data([tmp_path / "own.jsonl"], ("electronic",), True)
    assert (len(crystals), rejected) == (len(rows), [])
    assert all(set(crystal.targets) == {"electronic"} for crystal in crystals)
