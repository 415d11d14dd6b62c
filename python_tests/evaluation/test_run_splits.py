# SPDX-License-Identifier: MIT
"""Runs whose splits keep structures or chemical systems together are compared with their own kind."""

import json
from dataclasses import replace

import numpy as np
import pytest
from run_cases import made_up_crystals, off_by, write_model, write_run

from dtnn_fast.datasets.splits import split_crystals
from dtnn_fast.errors import BadFileError, DTNNError
from dtnn_fast.evaluation.comparison import compare, group_runs
from dtnn_fast.evaluation.evaluation import evaluate
from dtnn_fast.evaluation.page import write_page
from dtnn_fast.evaluation.runs import DataSet, check_run, find_runs, read_run, read_runs, usual_split
from dtnn_fast.evaluation.tables import ranking_table, write_ranking


def many_systems():
    """Sixty crystals of twenty chemical systems."""
    crystals = made_up_crystals(60)
    return [
        replace(crystal, atomic_numbers=np.array([11 + index % 20, 8]), info={"crystal_system": "cubic"})
        for index, crystal in enumerate(crystals)
    ]


CRYSTALS = many_systems()
BY_SYSTEM = DataSet(CRYSTALS, "systems")
AT_RANDOM = DataSet(CRYSTALS)


def read(*paths):
    folders, _ = find_runs(paths)
    return read_runs(folders)[0]


@pytest.mark.parametrize("split_by", ["crystals", "structures", "systems"])
def test_parts_are_those_of_the_training_run(split_by):
    data = DataSet(CRYSTALS, split_by)
    for seed in (0, 1):
        parts = split_crystals(CRYSTALS, split_by, seed)
        for name, part in parts._asdict().items():
            assert data.part_ids(seed, name) == [CRYSTALS[index].id for index in part]


def test_runs_by_system_are_compared(tmp_path):
    write_model(tmp_path / "m", {0: 1.0, 1: 2.0}, data=BY_SYSTEM)
    evaluation = evaluate(read(tmp_path), BY_SYSTEM)
    assert not evaluation.rejected
    errors = evaluation.errors[0].errors["all"]["mae_ten"]
    assert (errors.mean, errors.splits) == (pytest.approx(0.75), 2)
    write_page(tmp_path / "page.md", evaluation, [], "dtnn-fast evaluate")
    text = (tmp_path / "page.md").read_text()
    assert "crystals of a chemical system stay in one part" in text
    assert "RandomState" not in text


def test_runs_of_another_kind_of_split_are_rejected_by_name(tmp_path):
    write_model(tmp_path / "random", {0: 1.0, 1: 1.0}, data=AT_RANDOM)
    write_run(tmp_path / "system" / "split-0", 0, off_by(1.0), data=BY_SYSTEM)
    runs = read(tmp_path)
    assert usual_split(runs) == "crystals"
    assert usual_split([run for run in runs if run.split_by == "systems"]) == "systems"
    assert usual_split([]) == "crystals"
    evaluation = evaluate(runs, AT_RANDOM)
    assert [reject.source for reject in evaluation.rejected] == [str(tmp_path / "system" / "split-0")]
    assert "evaluate it with --split-by systems" in evaluation.rejected[0].reason
    assert [run.model for run in evaluate(runs, BY_SYSTEM).runs] == ["system"]


def test_a_run_that_says_systems_but_was_split_at_random_is_rejected(tmp_path):
    folder = write_run(tmp_path, 0, off_by(1.0), data=AT_RANDOM)
    record = json.loads((folder / "settings.json").read_text())
    record["settings"]["split_by"] = "systems"
    (folder / "settings.json").write_text(json.dumps(record))
    with pytest.raises(BadFileError, match="test crystals are not those of the split"):
        check_run(read_run(folder), BY_SYSTEM)


def test_ensembles_of_different_models_have_the_split_of_their_models(tmp_path):
    models = [{"model": {}, "split_by": "systems"}, {"model": {"decoder": {}}, "split_by": "systems"}]
    folder = write_run(tmp_path, 0, off_by(1.0), data=BY_SYSTEM, settings={"seed": 0, "models": models})
    assert read_run(folder).split_by == "systems"
    check_run(read_run(folder), BY_SYSTEM)


def test_too_few_systems_are_an_error_with_the_reason():
    with pytest.raises(DTNNError, match=r"cannot be split by systems: .*at least 10 different"):
        DataSet(made_up_crystals(20), "systems").part_ids(0, "test")


def test_ranking_by_hand(tmp_path):
    """One model keeps the order of all means, the other reverses it."""
    write_model(tmp_path / "right", {0: 3.0}, data=AT_RANDOM)
    means = {crystal.id: np.trace(crystal.targets["total"]) / 3 for crystal in CRYSTALS}
    write_run(tmp_path / "wrong", 0, lambda id, part: (60.0 - 2 * means[id]) * np.eye(3), data=AT_RANDOM)
    models, _ = group_runs(read(tmp_path))
    errors = compare(models, AT_RANDOM)
    tested = AT_RANDOM.part_ids(0, "test")
    high = [id for id in tested if means[id] > 30]
    assert 0 < len(high) < len(tested)
    right, wrong = (error.ranking for error in errors)
    assert right["spearman"].mean == pytest.approx(1.0)
    assert wrong["spearman"].mean == pytest.approx(-1.0)
    assert right["recall_high"].mean == right["recall_top_tenth"].mean == 1.0
    assert wrong["recall_high"].mean == 0.0
    expected = np.mean([abs(np.log((means[id] + 3) / means[id])) for id in tested])
    assert right["log_error"].mean == pytest.approx(expected)
    assert right["high"].mean == len(high)
    table = ranking_table(errors, "total")
    assert f"above 30 per split: {len(high)}.0" in "; ".join(table.notes)
    cells = [[("*" if cell.best else "") + cell.text for cell in row] for row in table.rows]
    assert cells[0][2:5] == ["*1.00", "*1.00", "*1.00"]
    assert cells[1][2:5] == ["-1.00", "0.00", "0.00"]
    write_ranking(tmp_path / "a.csv", errors)
    assert "total,wrong,4,spearman,-1,0,1" in (tmp_path / "a.csv").read_text()
