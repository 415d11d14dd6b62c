# SPDX-License-Identifier: MIT
"""The content of a report against what its rows say, and folders that are incomplete or damaged."""

import json
import math
import shutil

import numpy as np
import pyarrow as pa
import pytest
import screening_parts
from pyarrow import parquet

from dtnn_fast.errors import BadFileError
from dtnn_fast.reporting.provenance import provenance_of
from dtnn_fast.reporting.screening_folder import ScreeningFolder
from dtnn_fast.reporting.screening_page import screening_content, write_screening_report


@pytest.fixture(scope="module")
def content(folder):
    with ScreeningFolder(folder) as screening:
        return screening_content(screening, 40, "dtnn-fast report screening")


def gap_of(row):
    gap = row["band_gap"]
    return None if gap is None or math.isnan(gap) else gap


def figure(content, name):
    return next(figure for figure in content["figures"] if figure["id"] == name)


def test_counts(content, rows, rejected, ranked):
    counts = content["counts"]
    assert counts["predicted"] == len(rows)
    assert counts["with_gap"] == sum(gap_of(row) is not None for row in rows)
    assert counts["labelled"] == sum(row["labelled"] for row in rows)
    assert counts["duplicates"] == sum(row["duplicate_of"] is not None for row in rows) > 0
    assert counts["warned"] == sum(bool(row["warnings"]) for row in rows) > 0
    assert (counts["rejected"], counts["ranked"], counts["training"]) == (len(rejected), len(ranked), 955)


def test_the_table_has_the_first_ranks(content, rows, ranked):
    entries = content["crystals"]
    assert [entry["id"] for entry in entries] == ranked[:40]
    assert [entry["rank"] for entry in entries] == list(range(1, 41))
    by_id = {row["id"]: row for row in rows}
    for entry in entries:
        row = by_id[entry["id"]]
        assert entry["tensors"].keys() == {"electronic", "ionic", "total"}
        tensor = entry["tensors"]["ionic"]
        assert tensor["mean"] == pytest.approx(row["ionic_mean"])
        assert (tensor["mean_error"], tensor["tensor_error"]) == (row["ionic_mean_error"], row["ionic_tensor_error"])
        assert tensor["tensor"][0][2] == pytest.approx(row["ionic_xz"], rel=1e-5)
        assert entry["structure"]["species"] == row["species_at_sites"]
        if gap_of(row) is None:
            assert entry["figure_of_merit"] is None
        else:
            assert entry["figure_of_merit"] == pytest.approx(row["band_gap"] * row["total_mean"])


def test_the_pareto_front_is_that_of_the_ranked_crystals(content, rows, ranked):
    known = [row for row in rows if row["id"] in set(ranked) and gap_of(row) is not None]
    front = {
        row["id"]
        for row in known
        if not any(
            other["total_mean"] >= row["total_mean"] and other["band_gap"] >= row["band_gap"] and other is not row
            for other in known
        )
    }
    traces = figure(content, "merit")["data"]
    drawn = next(trace for trace in traces if trace.get("name", "").startswith("Pareto"))
    expected = sorted(((row["total_mean"], row["band_gap"]) for row in known if row["id"] in front), reverse=True)
    assert np.allclose(np.array([drawn["x"], drawn["y"]]).T, expected, rtol=1e-4)
    points = next(trace for trace in traces if trace.get("name") == "crystals")
    assert sorted(points["customdata"]) == sorted(row["id"] for row in known)
    strip = next(trace for trace in traces if trace.get("name") == "gap unknown")
    assert len(strip["x"]) == len(ranked) - len(known)


def test_texts_of_figures_are_escaped(content):
    texts = next(trace for trace in figure(content, "merit")["data"] if trace.get("name") == "crystals")["text"]
    hostile = next(text for text in texts if "script" in text)
    assert "<script" not in hostile
    assert "&lt;b&gt;Ti&lt;/b&gt;O2" in hostile


@pytest.mark.parametrize("target", ["electronic", "ionic"])
def test_every_candidate_has_a_place_in_the_densities(content, rows, target):
    drawn = figure(content, f"density-{target}")
    candidates = [row for row in rows if not row["labelled"]]
    names = {trace["name"]: trace for trace in drawn["data"]}
    with_gap = next(name for name in names if name.startswith("candidates, predicted"))
    strip = next(trace for name, trace in names.items() if name.startswith("candidates without"))
    listed = int(with_gap.split("(")[1].strip(")").replace(",", "")) + sum(strip["y"])
    outside = [note for note in drawn["notes"] if "candidates lie outside" in note]
    left_out = int(outside[0].split()[0]) if outside else 0
    assert listed + left_out == len(candidates)
    assert sum(strip["y"]) == pytest.approx(sum(gap_of(row) is None for row in candidates), abs=left_out)
    assert left_out < 0.02 * len(candidates)


def test_rejected_crystals_are_grouped_by_reason(content, rejected):
    listed = content["rejected"]
    assert listed["total"] == len(rejected)
    groups = [(group["reason"], group["count"]) for group in listed["groups"]]
    assert groups[0] == ("atoms … (…) and … (…) are … Angstrom apart", 30)
    assert groups[1] == ("element Xe is unknown to the model", 5)
    assert sum(count for _, count in groups) == len(rejected)
    assert {tuple(row[:3]) for row in listed["rows"]} == set(rejected)
    assert all(row[3] == 0 for row in listed["rows"] if row[0].startswith("r-"))


def test_reasons_for_not_being_ranked_are_counted(content, rows, ranked):
    left = [row for row in rows if row["id"] not in set(ranked)]
    metals = sum("metals_only" in row["warning_codes"] for row in left)
    duplicates = sum(row["duplicate_of"] is not None for row in left)
    assert metals > duplicates > 0
    assert content["not_ranked"] == [
        ["made of metals only", metals],
        ["same structure as an earlier crystal", duplicates],
    ]


def test_provenance_has_commands_and_checksums(content):
    listed = dict(content["provenance"])
    assert listed["screening"] == "dtnn-fast screen crystals -o screening"
    assert listed["report"] == "dtnn-fast report screening"
    assert "0" * 64 in listed["model"]
    assert "1" * 64 in listed["input"]
    assert "torch 2.13.0" in listed["versions"]
    assert "missing files" not in listed


def test_input_of_a_screening_of_the_bundled_crystals():
    manifest = {"source": {"paths": [], "sha256": "a"}, "model": {"name": "dielectric", "targets": ["total", "ionic"]}}
    listed = dict(provenance_of(manifest, {"settings": {}, "versions": {"torch": "2.13"}}, "dtnn-fast report x"))
    assert listed["input"] == "the crystals that come with dtnn-fast\nsha256 a"
    assert listed["model"] == "dielectric\ntargets total, ionic"
    assert listed["settings"] == "not recorded"
    assert listed["screening"] == "not recorded"


def test_an_unfinished_screening_is_ranked_by_the_figure_of_merit(folder, rows, tmp_path):
    copied = shutil.copytree(folder, tmp_path / "unfinished")
    for name in ("ranking.csv", "summary.json", "rejected-000000-0000.parquet"):
        (copied / name).unlink()
    with ScreeningFolder(copied) as screening:
        content = screening_content(screening, 40, "")
    usable = [row for row in rows if row["warning_codes"] == ""]
    known = [{**row, "warning_codes": "", "band_gap": gap_of(row)} for row in usable]
    assert [entry["id"] for entry in content["crystals"]] == screening_parts.merit_order(known)[:40]
    assert "no ranking.csv" in content["ranked_by"]
    assert dict(content["provenance"])["missing files"].startswith("summary.json")
    assert content["rejected"]["total"] == 0


def test_rejected_csv_is_complete_and_read_before_the_parts(folder, tmp_path):
    copied = shutil.copytree(folder, tmp_path / "complete")
    (copied / "rejected.csv").write_text('id,source,reason\na,b,"with, comma ""and"" quotes"\n', encoding="utf-8")
    with ScreeningFolder(copied) as screening:
        content = screening_content(screening, 5, "")
    assert content["rejected"]["rows"] == [["a", "b", 'with, comma "and" quotes', 0]]


def test_without_any_gap_the_parts_of_the_permittivity_are_drawn(rows, tmp_path):
    without = [{**row, "band_gap": None} for row in rows]
    without[5] |= {"ionic_mean": 0.0, "formula": "<i>Si</i>"}
    screening_parts.write_screening(tmp_path / "few", without)
    with ScreeningFolder(tmp_path / "few") as screening:
        content = screening_content(screening, 40, "")
    drawn = figure(content, "merit")
    assert drawn["title"] == "Ionic against electronic permittivity"
    assert drawn["notes"] == ["No ranked crystal has a known band gap. docs/screening.md says how to give gaps."]
    (points,) = drawn["data"]
    by_id = {row["id"]: row for row in without}
    assert sorted(points["customdata"]) == sorted(screening_parts.merit_order(without))
    for id, x, y, text in zip(*(points[name] for name in ("customdata", "x", "y", "text")), strict=True):
        assert x == pytest.approx(by_id[id]["electronic_mean"], rel=1e-4)
        assert y == pytest.approx(max(by_id[id]["ionic_mean"], 0.1), rel=1e-4)
        assert "<i>" not in text
    low, high = drawn["layout"]["yaxis"]["range"]
    assert low < np.log10(min(points["y"])) < np.log10(max(points["y"])) < high


def test_values_that_are_no_numbers_are_not_drawn(rows, tmp_path):
    without = [{**row, "band_gap": None, "ionic_mean": float("nan")} for row in rows]
    for number, drawn in ((1, "Ionic against electronic permittivity"), (0, "Band gap against permittivity")):
        for row in without[:number]:
            row["ionic_mean"] = 5.0
        for row in without[number:]:
            row["ionic_mean"] = float("nan")
        screening_parts.write_screening(tmp_path / str(number), without)
        with ScreeningFolder(tmp_path / str(number)) as screening:
            content = screening_content(screening, 40, "")
        found = figure(content, "merit")
        assert found["title"] == drawn
        assert "NaN" not in json.dumps(found)


def test_a_model_of_one_target_without_gaps_and_structures(tmp_path):
    crystal = screening_parts.Crystal("a", np.array([14]), np.zeros((1, 3)), 4 * np.eye(3))
    row = screening_parts.part_row(crystal, {"total": 5 * np.eye(3)})
    names = ("band_gap", "e_above_hull", "species_at_sites", "cartesian_site_positions", "duplicate_of", "labelled")
    row = {name: value for name, value in row.items() if name not in names}
    (tmp_path / "few").mkdir()
    screening_parts.write_part(tmp_path / "few" / "part-000000-0000.parquet", [row])
    with ScreeningFolder(tmp_path / "few") as screening:
        content = screening_content(screening, 5, "")
    assert [figure["id"] for figure in content["figures"]] == ["merit"]
    assert content["crystals"][0]["no_structure"]
    assert write_screening_report(tmp_path / "page.html", tmp_path / "few", 5, "") == 0


def test_what_cannot_be_read_is_named(folder, tmp_path):
    with pytest.raises(BadFileError, match=r"expected files part-\*\.parquet"):
        ScreeningFolder(tmp_path)
    truncated = shutil.copytree(folder, tmp_path / "truncated")
    part = truncated / "part-000000-0001.parquet"
    part.write_bytes(part.read_bytes()[:-100])
    with pytest.raises(BadFileError, match=r"part-000000-0001\.parquet"):
        ScreeningFolder(truncated)
    other = tmp_path / "other"
    other.mkdir()
    parquet.write_table(pa.table({"x": [1.0]}), other / "part-000000-0000.parquet")
    with pytest.raises(BadFileError, match=r"with the column id, formula"):
        ScreeningFolder(other)
    shutil.copy(folder / "part-000000-0000.parquet", other)
    (other / "manifest.json").write_text("{", encoding="utf-8")
    with pytest.raises(BadFileError, match=r"manifest\.json: cannot be read"):
        ScreeningFolder(other)
    (other / "manifest.json").unlink()
    (other / "ranking.csv").write_text("rank,id\none,a\n", encoding="utf-8")
    with pytest.raises(BadFileError, match="one"):
        ScreeningFolder(other)
    (other / "ranking.csv").write_text("rank,id\n1,lost\n", encoding="utf-8")
    with pytest.raises(BadFileError, match=r"ranking\.csv: ranks lost, which no part has"):
        ScreeningFolder(other)
    (other / "ranking.csv").unlink()
    (other / "rejected-000000-0000.parquet").write_bytes(b"PAR1")
    with pytest.raises(BadFileError, match=r"rejected-000000-0000\.parquet"):
        ScreeningFolder(other)


def test_pages_of_large_screenings_stay_small(tmp_path):
    count = 120_000
    rng = np.random.default_rng(0)
    columns = {"id": [f"made-{k}" for k in range(count)], "formula": ["SrTiO3"] * count}
    for target in ("electronic", "ionic", "total"):
        values = np.exp(rng.normal(2.0, 0.7, count))
        columns |= {f"{target}_{name}": values for name in ("xx", "yy", "zz", "mean")}
        columns |= {f"{target}_{name}": np.zeros(count) for name in ("yz", "xz", "xy")}
    columns["band_gap"] = np.where(rng.random(count) < 0.5, rng.gamma(2.0, 1.0, count), np.nan)
    columns["species_at_sites"] = [["Sr", "Ti", "O", "O", "O"]] * count
    folder = tmp_path / "large"
    folder.mkdir()
    parquet.write_table(pa.table(columns), folder / "part-000000-0000.parquet")
    reasons = [f"atoms {k} and {k + 1} are {k}e-7 Angstrom apart: {'x' * 500}" for k in range(20_000)]
    names = [f"r{k}" for k in range(len(reasons))]
    table = pa.table({"id": names, "source": names, "reason": reasons})
    parquet.write_table(table, folder / "rejected-000000-0000.parquet")
    write_screening_report(tmp_path / "page.html", folder, 1000, "")
    assert (tmp_path / "page.html").stat().st_size < 8e6
    with ScreeningFolder(folder) as screening:
        content = screening_content(screening, 100, "")
    assert len(content["rejected"]["groups"]) == 1
    merit = figure(content, "merit")
    assert "3,0" in merit["notes"][0]
    assert "a sample of 600 is drawn" in merit["notes"][1]
