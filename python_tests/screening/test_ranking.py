# SPDX-License-Identifier: MIT
"""Ranking of parts on disk: order, conditions, what is left out and why."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dtnn_fast.crystals import Crystal
from dtnn_fast.errors import BadFileError, DTNNError
from dtnn_fast.screening.crystal_warnings import CrystalWarning, WarningCode
from dtnn_fast.screening.parts import Parts
from dtnn_fast.screening.predictions_file import arrow_table
from dtnn_fast.screening.ranking import RankingRules, check_expressions, complete_column, open_ranking
from dtnn_fast.screening.store import ScreenedCrystals


def write_part(folder, rows, chunk=0):
    """Write a part of crystals with a mean, a gap, and more facts each."""
    crystals, tensors, warnings = [], [], []
    for number, row in enumerate(rows):
        info = {"prototype": row.get("prototype", f"P{number}"), **row.get("info", {})}
        if row.get("gap") is not None:
            info["band_gap"] = row["gap"]
        crystals.append(
            Crystal.make(
                row["id"], row.get("numbers", [12, 8]), [[0, 0, 0], [2.1, 2.1, 2.1]], 4.2 * np.eye(3), info=info
            )
        )
        tensors.append(row["mean"] * np.eye(3) + np.diag([0, 0, row.get("anisotropy", 0.0)]))
        warnings.append([CrystalWarning(code, "a text") for code in row.get("codes", [])])
    screened = ScreenedCrystals.of(crystals, {"total": np.array(tensors)})
    screened = dataclasses.replace(screened, structure_warnings=warnings)
    Parts(folder).write(chunk, 0, arrow_table(screened, "test"), [], True, True)


def ranked(folder, **rules):
    with open_ranking([folder], RankingRules(**rules)) as ranking:
        return [row["id"] for row in ranking.top(100)]


@pytest.fixture
def folder(tmp_path):
    rows = [
        {"id": "a", "mean": 5.0, "gap": 6.0},
        {"id": "b", "mean": 90.0, "gap": 0.0},
        {"id": "c", "mean": 20.0, "gap": 2.0},
        {"id": "d", "mean": 40.0},
        {"id": "e", "mean": 30.0, "codes": [WarningCode.METALS_ONLY, WarningCode.SINGLE_ELEMENT]},
        {"id": "f", "mean": 50.0, "codes": [WarningCode.FEW_TRAINING_CRYSTALS]},
    ]
    write_part(tmp_path, rows[:4])
    write_part(tmp_path, rows[4:], chunk=1)
    return tmp_path


def test_figure_of_merit_first_then_means_of_unknown_gaps(folder):
    assert ranked(folder) == ["c", "a", "f", "d"]
    assert ranked(folder, lowest_first=True) == ["a", "c", "d", "f"]


def test_what_is_left_out_is_listed_with_the_reason(folder, tmp_path):
    with open_ranking([folder], RankingRules()) as ranking:
        assert ranking.reasons() == {"metals_only": 1, "no_band_gap": 1, "single_element": 1}
        assert (ranking.count(), ranking.count_unranked(), ranking.count_all()) == (4, 2, 6)
        ranking.write(tmp_path / "ranking.csv", tmp_path / "unranked.csv")
    lines = (tmp_path / "unranked.csv").read_text().splitlines()
    assert [line.split(",")[:2] for line in lines[1:]] == [["no_band_gap", "b"], ["metals_only single_element", "e"]]
    lines = (tmp_path / "ranking.csv").read_text().splitlines()
    assert lines[0].startswith(
        "rank,id,formula,crystal_system,space_group,num_atoms,labelled,figure_of_merit,total_mean"
    )
    assert [line.split(",")[:2] for line in lines[1:]] == [["1", "c"], ["2", "a"], ["3", "f"], ["4", "d"]]


def test_unreliable_crystals_are_ranked_where_asked_for(folder):
    assert ranked(folder, by="total_mean", rank_unreliable=True) == ["b", "f", "d", "e", "c", "a"]
    assert ranked(folder, by="mean", rank_unreliable=True, lowest_first=True) == ["a", "c", "e", "d", "f", "b"]


def test_expressions_and_conditions(folder):
    assert ranked(folder, by="-total_mean", where="band_gap >= 2") == ["a", "c"]
    assert ranked(folder, where="nsites > 2") == []
    assert ranked(folder, where="band_gap > 1 or id = 'd'") == ["c", "a", "d"]


@pytest.mark.parametrize("rules", [{"by": "price"}, {"where": "total_mean >"}, {"by": "id + 1"}, {"elements": ("Xx",)}])
def test_wrong_expressions_are_named(folder, rules):
    with pytest.raises(DTNNError, match=r"price|syntax|\+|Xx|convert"), open_ranking([folder], RankingRules(**rules)):
        pass


def test_expressions_are_checked_before_there_are_parts():
    check_expressions(RankingRules(by="a_column_of_the_source", where="x < 2"), ("total",))
    for rules in (RankingRules(by="total_price"), RankingRules(where="x <"), RankingRules(elements=("Q",))):
        with pytest.raises(DTNNError):
            check_expressions(rules, ("total",))
    assert complete_column("anisotropy", ("electronic", "total")) == "total_anisotropy"
    assert complete_column("e1", ("electronic",)) == "electronic_e1"


def test_elements(tmp_path):
    write_part(tmp_path, [{"id": "MgO", "mean": 9.0}, {"id": "NaCl", "mean": 5.0, "numbers": [11, 17]}])
    assert ranked(tmp_path, elements=("O",)) == ["MgO"]
    assert ranked(tmp_path, without_elements=("O", "K")) == ["NaCl"]
    assert ranked(tmp_path, elements=("O", "Na")) == []


def test_duplicates_and_prototypes(tmp_path):
    rows = [
        {"id": name, "mean": mean, "prototype": name[0]} for name, mean in (("a1", 3), ("a2", 5), ("b1", 4), ("a3", 9))
    ]
    rows[3]["info"] = {"duplicate_of": "a1"}
    write_part(tmp_path, rows)
    assert ranked(tmp_path) == ["a2", "b1", "a1"]
    assert ranked(tmp_path, rank_duplicates=True) == ["a3", "a2", "b1", "a1"]
    assert ranked(tmp_path, most_of_prototype=1) == ["a2", "b1"]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 8), st.integers(1, 8)), min_size=1, max_size=12), st.booleans())
def test_pareto_front_has_what_no_other_exceeds_in_both(tmp_path_factory, pairs, lowest_first):
    folder = tmp_path_factory.mktemp("pareto")
    write_part(folder, [{"id": str(n), "mean": float(m), "gap": float(g)} for n, (g, m) in enumerate(pairs)])
    sign = -1 if lowest_first else 1
    found = {pairs[int(name)] for name in ranked(folder, by="total_mean", pareto=True, lowest_first=lowest_first)}
    front = {
        (g, m)
        for g, m in pairs
        if not any((g2 >= g and sign * m2 >= sign * m) and (g2, m2) != (g, m) for g2, m2 in pairs)
    }
    assert found == front


def test_screenings_are_ranked_together_and_empty_folders_refused(folder, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    with pytest.raises(BadFileError, match="no part files of a screening"), open_ranking([other], RankingRules()):
        pass
    write_part(other, [{"id": "x", "mean": 45.0}])
    with open_ranking([folder, other], RankingRules(by="total_mean")) as ranking:
        assert [row["id"] for row in ranking.top(3)] == ["f", "x", "d"]
