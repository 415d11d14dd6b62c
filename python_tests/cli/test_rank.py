# SPDX-License-Identifier: MIT
"""dtnn-fast rank: other orders and conditions for crystals that were screened."""

import csv
import json

import pytest


@pytest.fixture(scope="module")
def screening(program, tiny_model, labelled, row_of, tmp_path_factory):
    folder = tmp_path_factory.mktemp("screening")
    rows = [
        {**row_of(c), "band_gap": c.info["band_gap_ev"], "e_above_hull": 0.01 * n} for n, c in enumerate(labelled[:30])
    ]
    (folder / "many.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert program("screen", folder / "many.jsonl", "--model", tiny_model, "-o", folder / "out").exit_code == 0
    return folder / "out"


def read(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_by_expression_and_condition(program, screening, tmp_path):
    arguments = ("--by", "band_gap / total_mean", "--where", "e_above_hull < 0.2 and nsites <= 12", "--rank-unreliable")
    result = program("rank", screening, *arguments, "-o", tmp_path / "new", "--top", 3)
    assert result.exit_code == 0, result.stderr
    rows = read(tmp_path / "new" / "ranking.csv")
    ratios = [float(row["band_gap"]) / float(row["total_mean"]) for row in rows]
    assert ratios == sorted(ratios, reverse=True)
    assert rows
    assert all(float(row["e_above_hull"]) < 0.2 and int(row["num_atoms"]) <= 12 for row in rows)
    assert "ranked by band_gap / total_mean, highest first" in " ".join(result.stdout.split())
    assert rows[0]["id"] in result.stdout
    assert not (tmp_path / "new" / "summary.json").exists()


def test_the_summary_says_how_the_ranking_was_made(program, screening):
    before = json.loads((screening / "summary.json").read_text())
    assert program("rank", screening, "--sort-by", "e3", "--lowest-first", "--rank-unreliable").exit_code == 0
    after = json.loads((screening / "summary.json").read_text())
    assert (after["sorted_by"], after["lowest_first"]) == ("total_e3", True)
    assert after["predicted"] == before["predicted"]
    values = [float(row["total_e3"]) for row in read(screening / "ranking.csv")]
    assert values == sorted(values)
    assert program("rank", screening).exit_code == 0


def test_columns(program, screening):
    lines = dict(line.split(maxsplit=1) for line in program("rank", screening, "--columns").stdout.splitlines())
    assert lines["total_mean"] == "DOUBLE"
    assert {"e_above_hull", "nsites", "figure_of_merit", "elements", "warning_codes"} <= lines.keys()
    assert "place" not in lines


@pytest.mark.parametrize(
    ("option", "text"), [("--by", "nothing"), ("--where", "total_mean >"), ("--elements", "Ti,Qq")]
)
def test_wrong_expressions(program, screening, option, text):
    result = program("rank", screening, option, text)
    assert result.exit_code == 2
    assert any(word in result.stderr for word in ("nothing", "syntax", "Qq"))


def test_a_condition_that_leaves_nothing_and_a_folder_without_parts(program, screening, tmp_path):
    result = program("rank", screening, "--where", "nsites > 1000", "-o", tmp_path / "none")
    assert result.exit_code == 0
    assert "no crystal is ranked" in result.stderr
    result = program("rank", tmp_path)
    assert result.exit_code == 2
    assert "no part files of a screening in it" in result.stderr
