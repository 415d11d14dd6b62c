# SPDX-License-Identifier: MIT
"""The commands data fetch and data info, with recorded answers, up to training and screening."""

import csv
import json
import os
from pathlib import Path

import pytest

from dtnn_fast.cli.data import EncoderName, FrameName, SourceName
from dtnn_fast.cli.training_inputs import load_training_data
from dtnn_fast.datasets.cleaning import ENCODER_ELEMENTS
from dtnn_fast.datasets.fetch import DATA_SOURCES
from dtnn_fast.datasets.sources.source import TensorFrame
from dtnn_fast.formats.packed_set import read_packed
from dtnn_fast.formats.reading import read_crystals

RECORDED = Path(__file__).parents[1] / "datasets" / "recorded"


@pytest.fixture
def table(tmp_path):
    """matminer's file with additional rows, one for each of four drop reasons."""
    content = json.loads((RECORDED / "dielectric_constant.json").read_text())
    column = {name: place for place, name in enumerate(content["columns"])}

    def row(**changes):
        values = list(content["data"][0])
        for name, value in changes.items():
            values[column[name]] = value
        return values

    content["data"] += [
        row(),
        row(material_id="mp-1", e_total=None),
        row(material_id="mp-2", e_total=[[500.0, 0, 0], [0, 500.0, 0], [0, 0, 500.0]]),
        row(material_id="mp-3", e_total=[[5.0, 0, 0, 0]] * 3),
    ]
    path = tmp_path / "table.json"
    path.write_text(json.dumps(content))
    return path


def test_fetch_then_train_and_screen(program, tmp_path, table, tiny_model):
    target = tmp_path / "new" / "set.npz"
    result = program("data", "fetch", "matminer", "--file", table, "--encoder", "sevennet-0", "-o", target)
    assert result.exit_code == 0
    for text in ("kept", "dropped: id occurs twice", "dropped: no tensor", "outside of the range", str(target)):
        assert text in result.stdout
    assert sorted(os.listdir(target.parent)) == ["set.dropped.csv", "set.npz"]
    with target.with_suffix(".dropped.csv").open(newline="") as file:
        assert [line["id"] for line in csv.DictReader(file)] == ["mp-1087", "mp-1", "mp-2", "mp-3"]

    items, provenance = read_packed(target)
    assert len(items) == 4
    assert provenance["encoder"] == "sevennet-0"
    assert provenance["dropped"]["no tensor"] == 1
    assert str(tmp_path) not in json.dumps(provenance)

    crystals, rejected = load_training_data([target], ["electronic", "ionic", "total"], True)
    assert [c.id for c in crystals] == [item.id for item in items]
    assert rejected == []
    output = tmp_path / "screening"
    screened = program("screen", target, "--model", tiny_model, "-o", output, "--threads", 1)
    assert screened.exit_code == 0, screened.stderr
    assert len((output / "ranking.csv").read_text().splitlines()) == 5


def test_choices_equal_the_names_in_the_package():
    """The names are written twice, because importing the package would make --help slow."""
    assert [*SourceName] == [*DATA_SOURCES]
    assert [*FrameName] == [*TensorFrame]
    assert [*EncoderName] == [*ENCODER_ELEMENTS]


def test_info(program, tmp_path):
    target = tmp_path / "paper.npz"
    assert program("data", "fetch", "paper", "--file", RECORDED / "paper.json", "-o", target).exit_code == 0
    text = program("data", "info", target).stdout
    for part in ("paper.json", "s41524-024-01450-z", "4 of 9 elements", "total, mean"):
        assert part in text
    bad = program("data", "info", RECORDED / "paper.json")
    assert bad.exit_code == 2
    assert bad.stderr.startswith("error: ")


def test_missing_key_is_one_line_and_leaves_nothing(program, tmp_path, monkeypatch):
    monkeypatch.delenv("MP_API_KEY", raising=False)
    result = program("data", "fetch", "mp", "-o", tmp_path / "mp.npz")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: the Materials Project needs an API key")
    assert result.stderr.count("\n") == 1
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["mp", "--file", "a.json"], "takes no file"),
        (["paper"], "needs a file"),
        (["paper", "--file", "absent.json"], "there is no such file"),
        (["jarvis", "--file", RECORDED / "paper.json"], "not dft_3d"),
    ],
)
def test_errors_are_one_line(program, tmp_path, monkeypatch, arguments, reason):
    monkeypatch.setenv("MP_API_KEY", "k" * 32)
    result = program("data", "fetch", *arguments, "-o", tmp_path / "a.npz")
    assert result.exit_code == 2
    assert reason in result.stderr
    assert result.stderr.count("\n") == 1
    assert os.listdir(tmp_path) == []


def test_output_must_be_an_npz(program, tmp_path):
    result = program("data", "fetch", "matminer", "-o", tmp_path / "a.json")
    assert result.exit_code == 2
    assert "ends in .npz" in result.stderr


def test_output_that_cannot_be_written(program, tmp_path):
    (tmp_path / "folder.npz").mkdir()
    assert "got an existing folder" in program("data", "fetch", "matminer", "-o", tmp_path / "folder.npz").stderr
    (tmp_path / "file").write_text("")
    result = program("data", "fetch", "matminer", "-o", tmp_path / "file" / "a.npz")
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1


def test_stopped(program, tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("dtnn_fast.datasets.fetch.fetch_set", stop)
    result = program("data", "fetch", "matminer", "-o", tmp_path / "a.npz")
    assert result.exit_code == 130
    assert os.listdir(tmp_path) == []


def test_no_crystal_left(program, tmp_path, table):
    content = json.loads(table.read_text())
    content["data"] = content["data"][5:]
    table.write_text(json.dumps(content))
    target = tmp_path / "none.npz"
    result = program("data", "fetch", "matminer", "--file", table, "-o", target)
    assert result.exit_code == 2
    assert "no crystal is left: 3 rows dropped" in result.stderr
    assert not target.exists()
    assert target.with_suffix(".dropped.csv").exists()


def test_without_rules_all_crystals_are_kept(program, tmp_path, table):
    target = tmp_path / "all.npz"
    program("data", "fetch", "matminer", "--file", table, "-o", target, "--no-clean", "--no-check-symmetry")
    assert len(read_crystals(target)) == 5


def test_wrong_frame_is_reported(program, tmp_path):
    entries = json.loads((RECORDED / "mp_summary.json").read_text())["data"]
    tensors = json.loads((RECORDED / "mp_dielectric.json").read_text())["data"]
    ids = {entry["material_id"]: entry for entry in tensors}
    content = {
        e["material_id"]: {"structure": e["structure"], "total": ids[e["material_id"]]["total"]} for e in entries
    }
    path = tmp_path / "a.json"
    path.write_text(json.dumps(content))
    result = program("data", "fetch", "paper", "--file", path, "-o", tmp_path / "a.npz")
    assert "try --frame ieee" in result.stderr
    result = program("data", "fetch", "paper", "--file", path, "-o", tmp_path / "b.npz", "--frame", "ieee")
    assert "try --frame" not in result.stderr
    assert len(read_crystals(tmp_path / "b.npz")) == 6
