# SPDX-License-Identifier: MIT
"""Columns of the source: names that do not depend on it, one type each, and nothing lost."""

import math
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dtnn_fast.crystals.crystal import Crystal
from dtnn_fast.screening.kept_columns import kept_columns
from dtnn_fast.screening.parts import Parts
from dtnn_fast.screening.predictions_file import arrow_table
from dtnn_fast.screening.ranking import RankingRules, open_ranking
from dtnn_fast.screening.store import ScreenedCrystals


@pytest.mark.parametrize(
    ("name", "column"),
    [
        *((name, "band_gap") for name in ("band_gap", "band_gap_ev", "band_gap_ind", "bandgap", "bandgap_pbe")),
        *(
            (name, "e_above_hull")
            for name in ("e_above_hull", "energy_above_hull", "e_above_hull_mp2020_corrected_ppd_mp")
        ),
        *((name, "e_above_hull") for name in ("_gnome_decomposition_energy_per_atom", "e_above_hull_ev_per_atom")),
        ("Decomposition Energy Per Atom", "e_above_hull"),
    ],
)
def test_names_of_sources(name, column):
    columns = kept_columns([{name: 1.5}, {}, {name: "0.25"}])
    assert columns[column] == [1.5, None, 0.25]
    other = {"band_gap", "e_above_hull"} - {column}
    assert columns[other.pop()] == [None] * 3


def test_there_are_always_gaps_and_hull_distances():
    assert kept_columns([]) == {"band_gap": [], "e_above_hull": []}
    assert kept_columns([{}]) == {"band_gap": [None], "e_above_hull": [None]}


def test_licences_have_one_name():
    assert kept_columns([{"licence": "CC BY 4.0"}, {"license": "CC0"}])["license"] == ["CC BY 4.0", "CC0"]


@pytest.mark.parametrize("value", ["unknown", "", "nan", "inf", math.nan, math.inf, 10**400, None, [1.0], {"a": 1}])
def test_a_gap_that_is_no_number_is_unknown(value):
    assert kept_columns([{"band_gap": value}])["band_gap"] == [None]


def test_a_second_name_stands_in_for_a_value_that_is_no_number():
    assert kept_columns([{"band_gap_ev": math.nan, "band_gap": 2.0}])["band_gap"] == [2.0]
    assert kept_columns([{"band_gap_ev": "none", "bandgap_pbe": "2.5"}])["band_gap"] == [2.5]


def test_what_a_truth_value_says_of_a_gap_is_nothing():
    assert kept_columns([{"band_gap": True}])["band_gap"] == [None]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, None, -3], [1, None, -3]),
        ([1, 2.5], [1.0, 2.5]),
        ([1.0, math.nan, math.inf], [1.0, None, None]),
        ([2**63, 1], [2.0**63, 1.0]),
        ([10**400, 1], [None, 1.0]),
        ([True, None, False], [True, None, False]),
        ([True, 2], ["True", "2"]),
        (["a", 1, None], ["a", "1", None]),
    ],
)
def test_a_column_has_one_type(values, expected):
    found = kept_columns([{} if value is None else {"x": value} for value in values])["x"]
    assert found == expected
    assert [type(value) for value in found] == [type(value) for value in expected]


def test_clashes_with_our_columns_are_renamed():
    columns = kept_columns([{"id": "x", "total_mean": 3.0}], taken=("id", "total_mean"))
    assert columns["source_id"] == ["x"]
    assert columns["source_total_mean"] == [3.0]
    assert "id" not in columns


def test_two_columns_that_would_get_one_name():
    """A source that has both ``id`` and ``source_id``, and names that DuckDB cannot tell apart."""
    infos = [{"id": "x", "source_id": "y", "Formation": 1.0, "formation": 2.0, "ID": "z"}]
    columns = kept_columns(infos, taken=("id",))
    values = sorted(str(value) for (value,) in columns.values() if value is not None)
    assert values == ["1.0", "2.0", "x", "y", "z"]
    assert columns["source_id"] == ["y"]
    assert len({name.lower() for name in [*columns, "id"]}) == len(columns) + 1


def test_numbers_of_numpy_are_kept():
    columns = kept_columns([{"a": np.float32(0.5), "b": np.int64(3), "c": np.bool_(True), "band_gap": np.float32(2)}])
    assert columns == {"band_gap": [2.0], "e_above_hull": [None], "a": [0.5], "b": [3], "c": [True]}


scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5))
names = st.one_of(
    st.text(max_size=4),
    st.sampled_from(["band_gap", "band_gap_ev", "ehull", "id", "source_id", "ID", "total_xx", "warnings", "nsites"]),
)


@given(st.lists(st.dictionaries(names, scalars, max_size=4), min_size=1, max_size=5))
def test_any_columns_become_a_table(infos):
    crystals = [Crystal.make(f"c{row}", [6], [[0, 0, 0]], 4 * np.eye(3), info=info) for row, info in enumerate(infos)]
    screened = ScreenedCrystals.of(crystals, {"total": np.tile(np.eye(3), (len(crystals), 1, 1))})
    table = arrow_table(screened, "m")
    assert table.num_rows == len(infos)
    lower = [name.lower() for name in table.column_names]
    assert len(set(lower)) == len(lower)
    assert table["id"].to_pylist() == [crystal.id for crystal in crystals]
    for name in ("band_gap", "e_above_hull"):
        assert table.schema.field(name).type == pa.float64()


def write_part(folder, chunk, info):
    crystal = Crystal.make(f"c{chunk}", [6], [[0, 0, 0]], 4 * np.eye(3), info=info)
    screened = ScreenedCrystals.of([crystal], {"total": np.eye(3)[None]})
    screened = replace(screened, structure_warnings=[[]])
    Parts(folder).write(chunk, 0, arrow_table(screened, "m"), [], True, True)


def ranked(folder, **rules):
    with open_ranking([folder], RankingRules(**rules)) as ranking:
        return ranking.top(9)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.dictionaries(names, scalars, max_size=3), min_size=2, max_size=2))
def test_parts_of_any_columns_can_be_ranked(tmp_path, infos):
    """A column that is a number in one part and a text in another one, or has no value in one."""
    for chunk, info in enumerate(infos):
        write_part(tmp_path, chunk, info)
    assert sorted(row["id"] for row in ranked(tmp_path, rank_unreliable=True)) == ["c0", "c1"]


@pytest.mark.parametrize("name", ["nsites", "elements", "figure_of_merit", "rank", "place", "electronic_mean", "best"])
def test_names_of_a_ranking_are_kept_apart(tmp_path, name):
    write_part(tmp_path, 0, {name: 7.5, "band_gap": 2.0})
    write_part(tmp_path, 1, {"band_gap": 3.0})
    rows = ranked(tmp_path, where=f"coalesce(source_{name}, 0) < 8 and nsites = 1 and list_contains(elements, 'C')")
    assert [(row["id"], row["figure_of_merit"], row["rank"]) for row in rows] == [("c1", 3.0, 1), ("c0", 2.0, 2)]


def test_halves_of_characters_are_written(tmp_path):
    write_part(tmp_path, 0, {"\ud800": "a\udfff", "": 1})
    assert kept_columns([{"x": "a\udfff"}])["x"] == ["a\\udfff"]
    assert len(ranked(tmp_path, rank_unreliable=True)) == 1
