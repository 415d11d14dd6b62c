# SPDX-License-Identifier: MIT
"""`dtnn-fast candidates`: output, exit codes, and what it refuses."""

import json

import numpy as np
import pytest

from dtnn_fast.crystals.crystal import Crystal
from dtnn_fast.datasets.bundled import load_labelled
from dtnn_fast.formats import write_packed
from dtnn_fast.formats.reading import read_crystals

FACES = np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]]) / 2


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("candidates")
    write_packed(folder / "crystals.npz", [c for c in load_labelled() if c.num_atoms <= 8][:20], {})
    copper = Crystal.from_fractional("Cu", [29], [[0, 0, 0]], 3.6 * FACES)
    salt = Crystal.from_fractional("NaCl", [11, 17], [[0, 0, 0], [0.5] * 3], 5.64 * FACES)
    write_packed(folder / "copper.npz", [copper], {})
    write_packed(folder / "salt.npz", [salt], {})
    (folder / "broken.cif").write_text("data_x\n_cell_length_a nonsense\n")
    return folder


def test_crystals_of_given_files(program, files, tmp_path):
    output = tmp_path / "new.jsonl"
    result = program("candidates", "--from", files / "crystals.npz", "-n", 30, "-o", output, "--exclude", "Pb Cd,Hg")
    assert result.exit_code == 0, result.stderr
    assert "30 crystals in" in result.stdout
    assert "parents in" in result.stderr
    crystals = read_crystals(output)
    assert len({crystal.id for crystal in crystals}) == 30
    assert not {82, 48, 80} & {z for crystal in crystals for z in crystal.atomic_numbers.tolist()}
    assert all(json.dumps(crystal.info) for crystal in crystals)
    again = tmp_path / "again.jsonl"
    program("candidates", "--from", files / "crystals.npz", "-n", 30, "-o", again, "--exclude", "Pb,Cd,Hg")
    assert again.read_bytes() == output.read_bytes()


def test_a_folder_of_bundled_substitutions(program, tmp_path):
    pq = pytest.importorskip("pyarrow.parquet")
    result = program("candidates", "-n", 50, "-o", tmp_path / "new", "--max-atoms", 5, "--elements", "O,Ti,Zr,Ba,Sr,Ca")
    assert result.exit_code in (0, 3)
    rows = pq.read_table(tmp_path / "new").to_pylist()
    assert rows
    assert {name for row in rows for name in row["species_at_sites"]} <= {"O", "Ti", "Zr", "Ba", "Sr", "Ca"}
    assert all(row["nsites"] <= 5 for row in rows)


def test_fewer_than_asked_for_and_unreadable_files_give_code_3(program, files, tmp_path):
    few = program(
        *("candidates", "--from", files / "salt.npz", "-n", 1000, "-o", tmp_path / "a.jsonl"),
        *("--elements", "Li,K,F,Br", "--probability", "1e-4"),
    )
    assert few.exit_code == 3
    assert "fewer than the 1,000" in few.stderr
    mixed = program(
        *("candidates", "--from", files / "salt.npz", "--from", files / "broken.cif"),
        *("-n", 3, "-o", tmp_path / "b.jsonl"),
    )
    assert mixed.exit_code == 3
    assert "rejected: " in mixed.stderr
    assert len(read_crystals(tmp_path / "b.jsonl")) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--elements", "Xx"), "'Xx' is not the symbol of an element"),
        (("--exclude", ","), "expected symbols"),
        (("--probability", "1.5"), "between 0 and 1"),
        (("--from", "copper.npz"), "can be replaced"),
        (("--from", "broken.cif"), "no crystal could be read"),
        (("--from", "missing.cif"), "no crystal could be read"),
        (("--elements", "He"), "can be replaced"),
    ],
)
def test_what_cannot_be_done_is_an_error(program, files, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(files)
    result = program("candidates", "-n", 5, "-o", tmp_path / "x.jsonl", *arguments)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.replace("│", " ").split())
    assert not (tmp_path / "x.jsonl").exists()


def test_a_full_folder_is_refused_before_anything_is_made(program, files):
    result = program("candidates", "-o", files)
    assert result.exit_code == 2
    assert "missing or empty folder" in result.stderr
