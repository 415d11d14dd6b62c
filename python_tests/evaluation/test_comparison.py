# SPDX-License-Identifier: MIT
"""Tables against numbers worked out by hand."""

import json

import numpy as np
import pytest
from run_cases import CRYSTALS, DATA, made_up_crystals, off_by, write_model, write_run

from dtnn_fast.errors import DTNNError
from dtnn_fast.evaluation.comparison import PAPER_RATIOS, element_errors
from dtnn_fast.evaluation.error_table import to_markdown
from dtnn_fast.evaluation.evaluation import evaluate
from dtnn_fast.evaluation.figures import place_in_table
from dtnn_fast.evaluation.page import write_page
from dtnn_fast.evaluation.runs import DataSet, find_runs, read_runs
from dtnn_fast.evaluation.tables import (
    coverage_table,
    layer_table,
    metric_table,
    overview_table,
    ratio_table,
    system_table,
    tables_by_section,
)


def evaluation_of(*paths, data=DATA):
    folders, absent = find_runs(paths)
    runs, unread = read_runs(folders)
    return evaluate(runs, data, [*absent, *unread])


def rows(table):
    """Cells by the name of the row; the best ones with an asterisk in front."""
    return {row[0].text: [("*" if cell.best else "") + cell.text for cell in row[1:]] for row in table.rows}


def columns(table):
    """Cells below each heading, which ends before the count of crystals; the best ones with an asterisk in front."""
    return {
        heading.partition(" (")[0]: [("*" if row[place].best else "") + row[place].text for row in table.rows]
        for place, heading in enumerate(table.header)
    }


@pytest.fixture
def three_models(tmp_path):
    """Ours is off by 1, 2 and 3 on the diagonal in three splits, the baselines by 2, 3, 4 and by 9."""
    write_model(tmp_path / "ours", {0: 1.0, 1: 2.0, 2: 3.0})
    write_model(tmp_path / "near", {0: 2.0, 1: 3.0, 2: 4.0}, layer=None)
    write_model(tmp_path / "far", {0: 9.0, 1: 9.0, 2: 9.0}, layer=None)
    return evaluation_of(tmp_path / "far", tmp_path / "near", tmp_path / "ours")


def test_table_two(three_models):
    table = system_table(three_models.errors, "total")
    found = columns(table)
    assert found["model"] == ["ours", "far", "near", "training median"]
    assert "all (2.0)" in table.header
    # An error of d on the diagonal is one of 3 d / 6 over the six elements.
    assert found["all"][:-1] == ["*1.00 ± 0.50", "4.50 ± 0.00", "1.50 ± 0.50"]
    assert found["all, median"][:-1] == ["*1.00 ± 0.50", "4.50 ± 0.00", "1.50 ± 0.50"]
    # Each split counts for the systems among its two test crystals only.
    for system, first in (("cubic", 0), ("hexagonal", 1)):
        tests = {seed: [id for id in DATA.part_ids(seed, "test") if int(id[1:]) % 2 == first] for seed in (0, 1, 2)}
        errors = [0.5 * (seed + 1) for seed, ids in tests.items() if ids]
        assert errors
        spread = f"{np.mean(errors):.2f}" + (f" ± {np.std(errors, ddof=1):.2f}" if len(errors) > 1 else "")
        assert f"{system} ({sum(map(len, tests.values())) / 3:.1f})" in table.header
        assert found[system][0] == f"*{spread}"
    assert "trigonal" not in found


def test_the_median_of_the_training_tensors_is_beside_them(three_models):
    errors = []
    for seed in (0, 1, 2):
        median = np.median(DATA.tensors(DATA.part_ids(seed, "train"), "total"), axis=0)
        off = np.abs(DATA.tensors(DATA.part_ids(seed, "test"), "total") - median)
        errors.append(off[:, (0, 1, 2, 1, 0, 0), (0, 1, 2, 2, 2, 1)].mean())
    text = f"{np.mean(errors):.2f} ± {np.std(errors, ddof=1):.2f}"
    assert columns(system_table(three_models.errors, "total"))["all"][-1] == text
    assert rows(overview_table(three_models.errors, ["total"]))["training median"][0] == text


def test_the_four_errors_differ(tmp_path):
    """Off by 3, 0, 0 on the diagonal and by 6 in xy."""
    error = np.array([[3.0, 6.0, 0.0], [6.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    write_run(tmp_path / "a" / "split-0", 0, lambda id, part: error)
    found = columns(metric_table(evaluation_of(tmp_path).errors, "total"))
    values = {name: cells[0] for name, cells in found.items()}
    assert values == {
        "model": "a",
        "MAE_ten": "1.50",
        "MAE_mean-diag": "1.00",
        "MAE_diag": "1.00",
        "MAE_off-diag": "2.00",
    }


def test_the_median_error_forgives_one_bad_crystal(tmp_path):
    data = DataSet(made_up_crystals(30))
    bad = data.part_ids(0, "test")[0]
    write_run(tmp_path / "a" / "split-0", 0, lambda id, part: (90.0 if id == bad else 4.0) * np.eye(3), data=data)
    found = columns(system_table(evaluation_of(tmp_path, data=data).errors, "total"))
    assert found["all"][0] == f"{(45.0 + 2.0 + 2.0) / 3:.2f}"
    assert found["all, median"][0] == "2.00"


def test_ratios_are_to_the_best_baseline(three_models):
    (ratio,) = three_models.ratios
    assert (ratio.name, ratio.target, ratio.baseline, ratio.paper) == ("ours", "total", "near", 0.87)
    assert ratio.value == pytest.approx(1.0 / 1.5)
    found = rows(ratio_table(three_models.ratios))
    assert found == {"ours": ["*0.67 (near)"], "DTNN in arXiv 2405.09052": ["0.87"]}
    assert PAPER_RATIOS == {"electronic": 0.75, "ionic": 0.90, "total": 0.87}


def test_a_model_that_lacks_splits_is_listed_but_neither_best_nor_compared(tmp_path):
    write_model(tmp_path / "ours", {0: 2.0, 1: 2.0})
    write_model(tmp_path / "near", {0: 3.0, 1: 3.0}, layer=None)
    write_model(tmp_path / "partial", {1: 0.1}, layer=None)
    evaluation = evaluation_of(tmp_path)
    table = system_table(evaluation.errors, "total")
    assert columns(table)["all"][:-1] == ["*1.00 ± 0.00", "1.50 ± 0.00", "0.05"]
    assert columns(table)["model"][-2] == "partial*"
    assert table.notes[1:] == ["* partial has 1 of 2 splits for total: not compared"]
    assert [ratio.baseline for ratio in evaluation.ratios] == ["near"]
    assert [left.source for left in evaluation.rejected] == ["partial (total)"]


def test_what_reads_the_same_is_equally_good(tmp_path):
    write_model(tmp_path / "a", {0: 2.000, 1: 2.000})
    write_model(tmp_path / "b", {0: 2.001, 1: 2.001}, layer=None)
    assert columns(system_table(evaluation_of(tmp_path).errors, "total"))["all"][:2] == ["*1.00 ± 0.00"] * 2


def test_the_layer_is_chosen_on_validation_crystals(tmp_path):
    """Layer 2 is the best on test crystals and layer 3 on validation crystals."""
    sizes = {1: (5.0, 5.0), 2: (0.5, 4.0), 3: (2.0, 1.0)}
    for layer, (test, validation) in sizes.items():
        for seed in (0, 1):

            def error(id, part, test=test, validation=validation):
                return (validation if part == "validation" else test) * np.eye(3)

            write_run(tmp_path / "m" / f"layer-{layer}" / f"split-{seed}", seed, error, layer=layer)
    write_run(tmp_path / "m" / "layer-1" / "split-2", 2, off_by(5.0), layer=1)
    evaluation = evaluation_of(tmp_path)
    assert [(errors.name, errors.layer) for errors in evaluation.errors if errors.role == "ours"] == [("m", 1)]
    # Layer 1 alone has all three splits; on those that all layers have, the validation error decides.
    table = layer_table("m", evaluation.ablations["m"])
    assert rows(table) == {
        "1": ["2.50 ± 0.00", "2.50 ± 0.00"],
        "2": ["2.00 ± 0.00", "0.25 ± 0.00"],
        "3": ["*0.50 ± 0.00", "1.00 ± 0.00"],
    }
    for layer in (2, 3):
        write_run(tmp_path / "m" / f"layer-{layer}" / "split-2", 2, off_by(sizes[layer][1]), layer=layer)
    assert [e.layer for e in evaluation_of(tmp_path).errors if e.role == "ours"] == [3]


def test_three_targets_of_one_run_and_of_three(tmp_path):
    write_model(tmp_path / "joint", {0: 1.0, 1: 1.0}, targets=("electronic", "ionic", "total"))
    for target in ("electronic", "ionic"):
        write_model(tmp_path / "single" / target, {0: 2.0, 1: 2.0}, targets=(target,), layer=None)
    evaluation = evaluation_of(tmp_path)
    assert evaluation.targets == ["electronic", "ionic", "total"]
    found = rows(overview_table(evaluation.errors, evaluation.targets))
    assert found["joint"] == ["*0.50 ± 0.00", "*0.50 ± 0.00", "0.50 ± 0.00"] * 2
    assert found["single"] == ["1.00 ± 0.00", "1.00 ± 0.00", "-"] * 2
    assert [ratio.target for ratio in evaluation.ratios] == ["electronic", "ionic"]


def test_errors_of_elements(tmp_path):
    """NaCl is off by 1, MgO by 3."""
    for seed in (0, 1):
        folder = tmp_path / "m" / f"split-{seed}"
        write_run(folder, seed, lambda id, part: (1.0 if int(id[1:]) % 2 == 0 else 3.0) * np.eye(3))
    evaluation = evaluation_of(tmp_path)
    found = {e.atomic_number: e for e in element_errors(evaluation.models[0], DATA)}
    tested = [id for seed in (0, 1) for id in DATA.part_ids(seed, "test")]
    even = sum(int(id[1:]) % 2 == 0 for id in tested)
    for z, count, error in ((11, even, 0.5), (17, even, 0.5), (12, 4 - even, 1.5), (8, 4 - even, 1.5)):
        if count:
            assert (found[z].crystals, found[z].tested, found[z].mae_ten) == (10, count, pytest.approx(error))
        else:
            assert z not in found


def test_figures_show_ours_with_the_lowest_validation_error(tmp_path):
    write_model(tmp_path / "worse", {0: 2.0})
    write_model(tmp_path / "better", {0: 1.0})
    write_model(tmp_path / "baseline", {0: 0.1}, layer=None)
    evaluation = evaluation_of(tmp_path)
    assert [errors.name for errors in evaluation.models_in_detail()] == ["better"]
    assert [errors.name for errors in evaluation.models_in_detail("baseline")] == ["baseline"]
    with pytest.raises(DTNNError, match="one of baseline, better, worse, got 'x'"):
        evaluation.models_in_detail("x")


def test_nothing_to_compare_says_why(tmp_path):
    write_run(tmp_path / "a", 0, off_by(1.0))
    (tmp_path / "a" / "results.json").unlink()
    with pytest.raises(DTNNError, match=r"no run can be used: .*a: results\.json is missing"):
        evaluation_of(tmp_path)


def test_coverage_of_error_bars(tmp_path):
    """Means over the splits; what a run does not record is missing, and a model without error bars has no row."""
    write_model(tmp_path / "ours", {0: 1.0, 1: 1.0})
    write_model(tmp_path / "version 0.1.0", {0: 2.0, 1: 2.0})
    write_model(tmp_path / "without", {0: 2.0, 1: 2.0})
    write_model(tmp_path / "damaged", {0: 2.0, 1: 2.0})
    write_model(tmp_path / "baseline", {0: 3.0, 1: 3.0}, layer=None)
    shares = {
        "test_coverage": 0.9,
        "test_coverage_by_third": [1.0, 0.9, 0.8],
        "mean_test_coverage": 0.5,
        "mean_test_coverage_by_third": [0.25, None, 0.75],
    }
    lower = {"test_coverage": 0.8, "test_coverage_by_third": [0.7, 0.8, 0.9], "mean_test_coverage": 0.5}

    def record(name, seed, bars):
        path = tmp_path / name / f"split-{seed}" / "results.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "error_bars": bars}))

    record("ours", 0, {"total": shares})
    record("ours", 1, {"total": lower})
    record("version 0.1.0", 0, {"total": {"test_coverage": 0.86}})
    record("without", 0, {})
    for seed, bars in enumerate(([], {"total": {"test_coverage": "x", "test_coverage_by_third": {"a": 1}}})):
        record("damaged", seed, bars)
    evaluation = evaluation_of(tmp_path)
    table = coverage_table(evaluation, "total")
    assert rows(table) == {
        "ours": ["85 ± 7", "85 ± 21", "85 ± 7", "85 ± 7", "50 ± 0", "25", "-", "75"],
        "version 0.1.0": ["86", *["-"] * 7],
    }
    assert table.header[1:5] == ["tensor, all", "tensor, smallest", "tensor, middle", "tensor, largest"]
    assert tables_by_section(evaluation)["Error bars"] == [table]


def test_without_error_bars_there_is_no_table_of_them(three_models):
    assert "Error bars" not in tables_by_section(three_models)


def test_markdown(three_models):
    text = to_markdown(metric_table(three_models.errors, "total"))
    lines = text.splitlines()
    assert lines[0] == "### total: the four errors on all test crystals"
    assert lines[3] == "| --- | ---: | ---: | ---: | ---: |"
    assert lines[4].startswith("| ours | **1.00 ± 0.50** | ")
    assert lines[5].startswith("| far | 4.50 ± 0.00 | ")


def test_the_page_says_everything(three_models, tmp_path):
    path = tmp_path / "docs" / "results.md"
    pictures = [("A picture", tmp_path / "images" / "a.png")]
    notes = tmp_path / "docs" / "results_notes.md"
    write_page(path, three_models, pictures, "dtnn-fast evaluate runs", notes)
    text = path.read_text()
    assert "over 3 random splits of 20 labelled crystals" in text
    assert text.startswith("# Results\n\nHow settings were chosen, and what the figures mean: ")
    assert text.count("[results_notes.md](results_notes.md).") == 1
    assert "![A picture](../images/a.png)" in text
    assert "train --seed 0\ntrain --seed 1\ntrain --seed 2" in text
    row = "| ours | total | 4 | 0, 1, 2 | decoder 1,234 | 2 min | a processor, 2 cores | 1 |"
    assert row in text
    assert "Versions: dtnn_fast 0.1.0." in text
    assert "```bash\ndtnn-fast evaluate runs\n```" in text
    assert "Left out" not in text
    for tables in tables_by_section(three_models).values():
        for table in tables:
            assert to_markdown(table) in text


def test_records_of_others_may_be_poor(tmp_path):
    folder = write_run(tmp_path / "b" / "split-0", 0, off_by(1.0), layer=None)
    record = json.loads((folder / "settings.json").read_text())
    (folder / "settings.json").write_text(json.dumps({"settings": {"seed": 0}, "data": record["data"]}))
    (folder / "results.json").write_text("{}")
    write_page(tmp_path / "page.md", evaluation_of(tmp_path), [], "dtnn-fast evaluate")
    text = (tmp_path / "page.md").read_text()
    assert text.startswith("# Results\n\nErrors on test crystals")
    assert "| b | total | - | 0 | not recorded | not recorded | not recorded | not recorded |" in text


@pytest.mark.parametrize(
    ("z", "place"),
    [
        (1, (1, 1)),
        (2, (18, 1)),
        (5, (13, 2)),
        (26, (8, 4)),
        (57, (3, 8.5)),
        (71, (17, 8.5)),
        (72, (4, 6)),
        (92, (6, 9.5)),
        (118, (18, 7)),
    ],
)
def test_places_in_the_periodic_table(z, place):
    assert place_in_table(z) == place


def test_no_two_elements_share_a_place():
    assert len({place_in_table(z) for z in range(1, 119)}) == 118


def test_the_crystals_are_what_these_tests_think():
    assert len(CRYSTALS) == 20
    assert all(len(DATA.part_ids(seed, "test")) == 2 for seed in (0, 1, 2))


def charge_errors(**by_element):
    """An entry of results.json, of (atoms, error, size) for each element."""
    rows = {
        element: {"crystals": 2, "atoms": atoms, "mae": error, "mean_size": size}
        for element, (atoms, error, size) in by_element.items()
    }
    atoms = sum(row["atoms"] for row in rows.values())
    means = {name: sum(row["atoms"] * row[name] for row in rows.values()) / atoms for name in ("mae", "mean_size")}
    return {"born_charges": {"test": {"crystals": 3, "atoms": atoms, **means, "by_element": rows}}}


def add_results(folder, entry):
    path = folder / "results.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | entry))


def test_born_charges_by_element_are_means_over_the_atoms_of_all_splits(tmp_path):
    write_run(tmp_path / "a" / "split-0", 0, off_by(1.0), "ours")
    write_run(tmp_path / "a" / "split-1", 1, off_by(1.0), "ours")
    write_run(tmp_path / "b" / "split-0", 0, off_by(2.0), "without")
    write_run(tmp_path / "b" / "split-1", 1, off_by(2.0), "without")
    assert "Born effective charges" not in tables_by_section(evaluation_of(tmp_path))
    add_results(tmp_path / "a" / "split-0", charge_errors(O=(3, 0.1, 0.8), H=(1, 0.5, 0.0)))
    add_results(tmp_path / "a" / "split-1", charge_errors(O=(1, 0.5, 0.4), Mg=(2, 0.25, 0.6)))
    add_results(tmp_path / "b" / "split-1", {"born_charges": {}})
    (table,) = tables_by_section(evaluation_of(tmp_path))["Born effective charges"]
    assert table.title.startswith("ours: ")
    assert [[cell.text for cell in row] for row in table.rows] == [
        ["all", "7", "0.257", "0.571", "0.45"],
        ["H", "1", "0.500", "0.000", "-"],
        ["O", "4", "0.200", "0.700", "0.29"],
        ["Mg", "2", "0.250", "0.600", "0.42"],
    ]
    assert "6 labelled crystals of 2 splits" in table.notes[0]
    assert "| O | 4 | 0.200 | 0.700 | 0.29 |" in to_markdown(table)


@pytest.mark.parametrize(
    "entry",
    [
        3,
        {"test": 3},
        {"test": {"crystals": 1, "atoms": 0, "mae": 1.0, "mean_size": 1.0, "by_element": {}}},
        {"test": {"crystals": 1, "atoms": 2, "mae": 1.0, "mean_size": 1.0, "by_element": {"O": {"atoms": 2}}}},
        charge_errors(Xx=(1, 1.0, 1.0))["born_charges"],
    ],
)
def test_born_charges_of_another_form_are_named(tmp_path, entry):
    folder = write_run(tmp_path / "split-0", 0, off_by(1.0))
    add_results(folder, {"born_charges": entry})
    runs, rejected = read_runs([folder])
    assert not runs
    assert "results.json: expected" in rejected[0].reason
    assert "born_charges" in rejected[0].reason
