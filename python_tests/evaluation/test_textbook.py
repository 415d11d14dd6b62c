# SPDX-License-Identifier: MIT
"""The table of textbook crystals: right counts, honest marks, and the same tensor in every cell."""

import csv
from dataclasses import replace

import numpy as np
import pytest
import torch

from dtnn_fast.crystals.crystal import Crystal
from dtnn_fast.datasets.textbook_crystals import TextbookCrystal, load_textbook
from dtnn_fast.evaluation.error_table import to_markdown
from dtnn_fast.evaluation.textbook import (
    TextbookEvaluation,
    TextbookPrediction,
    evaluate_textbook,
    textbook_tables,
    write_textbook,
)
from dtnn_fast.model.dtnn import DTNN
from dtnn_fast.model.training_set import TrainingSet, mean_scalars

TARGETS = ("electronic", "ionic", "total")


@pytest.fixture(scope="module")
def model():
    return DTNN.from_pretrained("dielectric")


def known(id="MgO", electronic=None, ionic=None, measured=None, **more):
    """A textbook crystal with isotropic tensors."""
    targets = {"electronic": electronic, "ionic": ionic}
    targets = {name: value * np.eye(3) for name, value in targets.items() if value is not None}
    if len(targets) == 2:
        targets["total"] = targets["electronic"] + targets["ionic"]
    crystal = Crystal.from_fractional(id, [12, 8], [[0, 0, 0], [0.5] * 3], 4.2 * 0.5 * (1 - np.eye(3)), targets=targets)
    crystal.info["space_group"] = 225
    measured = {name: np.array(values, dtype=float) for name, values in (measured or {}).items()}
    fields = {"functional": "PBE" if targets else "", "theory": "a paper" if targets else "", "remark": ""}
    fields |= {"near_instability": False, "structure": "a book", "name": "magnesia"} | more
    return TextbookCrystal(crystal, measured=measured, measured_by=dict.fromkeys(measured, "a table, 1999"), **fields)


def prediction(entry, electronic, ionic, refined=None, trained_on=False):
    predicted = {"electronic": electronic, "ionic": ionic, "total": electronic + ionic}
    better = {} if refined is None else {"ionic": refined, "total": electronic + refined}
    return TextbookPrediction(entry, predicted, {"electronic": 0.5}, better, trained_on)


class TestCells:
    """One crystal in several cells."""

    @pytest.fixture(params=["Si", "C", "Ge"])
    def cells(self, request):
        """Primitive, conventional, sheared, 2x2x2, and rotated."""
        numbers = {"Si": 14, "C": 6, "Ge": 32}
        a = {"Si": 5.43, "C": 3.57, "Ge": 5.66}[request.param]
        z = numbers[request.param]
        fcc = 0.5 * a * (1 - np.eye(3))
        primitive = Crystal.from_fractional("primitive", [z, z], [[0, 0, 0], [0.25] * 3], fcc)
        corners = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
        atoms = np.concatenate([corners, corners + 0.25])
        conventional = Crystal.from_fractional("conventional", [z] * 8, atoms, a * np.eye(3))
        sheared = replace(primitive, id="sheared", cell=np.array([[1, 0, 0], [3, 1, 0], [-2, 4, 1]]) @ fcc)
        steps = np.stack(np.meshgrid(*[range(2)] * 3, indexing="ij"), -1).reshape(-1, 3) @ fcc
        positions = (primitive.positions[:, None] + steps).reshape(-1, 3)
        repeated = Crystal.make("2x2x2", [z] * 16, positions, 2 * fcc)
        large = Crystal.make("2x2x2 of 8", [z] * 64, _repeat(conventional), 2 * a * np.eye(3))
        return [primitive, conventional, sheared, repeated, large]

    def test_every_cell_has_the_same_tensor(self, model, cells):
        tensors = model.predict_targets(cells)["electronic"]
        assert np.abs(tensors - tensors[0]).max() < 1e-3
        assert np.abs(tensors[0] - tensors[0, 0, 0] * np.eye(3)).max() < 1e-3

    def test_the_ionic_part_is_exactly_zero_in_every_cell(self, model, cells):
        prediction = model.predict_targets(cells)
        assert (prediction["ionic"] == 0).all()
        assert (prediction["total"] == prediction["electronic"]).all()

    def test_the_tables_rows_agree(self, model, cells):
        entries = [replace(known(), crystal=replace(c, info={"space_group": 227})) for c in cells]
        rows = evaluate_textbook(model, crystals=entries).predictions
        assert all(row.predicted["ionic"] == 0 for row in rows)
        electronic = [row.predicted["electronic"] for row in rows]
        assert np.ptp(electronic) < 1e-3


def _repeat(crystal):
    steps = np.stack(np.meshgrid(*[range(2)] * 3, indexing="ij"), -1).reshape(-1, 3) @ crystal.cell
    return (crystal.positions[:, None] + steps).reshape(-1, 3)


class TestReference:
    """What a prediction is judged by."""

    def test_theory_comes_before_experiment(self):
        row = prediction(known(electronic=3.0, ionic=7.0, measured={"electronic": [2.0], "total": [9.0]}), 3.0, 6.0)
        assert row.reference("electronic") == (pytest.approx(3.0), "theory")
        assert row.reference("total") == (pytest.approx(10.0), "theory")
        assert row.ratio("total") == pytest.approx(0.9)

    def test_experiment_counts_where_there_is_no_theory(self):
        row = prediction(known(electronic=3.0, measured={"total": [6.0, 6.0, 9.0]}), 3.0, 4.0)
        assert row.reference("total") == (7.0, "experiment")
        assert row.ratio("total") == pytest.approx(1.0)
        assert row.reference("ionic") is None
        assert row.ratio("ionic") is None

    def test_a_refined_value_is_judged_instead(self):
        row = prediction(known(electronic=3.0, ionic=7.0), 3.0, 2.0, refined=6.5)
        assert row.best("ionic") == 6.5
        assert row.ratio("total") == pytest.approx(0.95)


def test_counts_by_hand():
    rows = [
        prediction(known("a", 4.0, 6.0), 4.5, 5.5),  # 1.125 and 1.0
        prediction(known("b", 4.0, 6.0), 4.7, 9.0, trained_on=True),  # 1.175 and 1.37
        prediction(known("c", measured={"total": [100.0]}, near_instability=True), 4.0, 6.0, trained_on=True),
        prediction(known("d", 4.0), 3.41, 6.0),  # 0.8525, and no reference
    ]
    found = {(c.target, c.crystals): (c.right, c.judged) for c in TextbookEvaluation("m", rows, []).counts()}
    assert found == {
        ("electronic", "all"): (2, 3),
        ("electronic", "not near an instability"): (2, 3),
        ("electronic", "trained on"): (0, 1),
        ("electronic", "not trained on"): (2, 2),
        ("total", "all"): (1, 3),
        ("total", "not near an instability"): (1, 2),
        ("total", "trained on"): (0, 2),
        ("total", "not trained on"): (1, 1),
    }


def test_the_table_shows_each_value_at_its_place(tmp_path):
    entry = known("a", 4.0, 6.0, {"electronic": [3.0], "total": [20.0, 20.0, 50.0]}, near_instability=True)
    evaluation = TextbookEvaluation("m", [prediction(entry, 5.0, 11.0, refined=120.0, trained_on=True)], [])
    crystals, counts = textbook_tables(evaluation)
    cells = dict(zip(crystals.header, (cell.text for cell in crystals.rows[0]), strict=True))
    assert cells == {
        "crystal": "a",
        "electronic, model": "5.00 ± 0.50",
        "electronic, theory": "4.00",
        "electronic, experiment": "3.00",
        "electronic, ratio": "1.25 !",
        "ionic, model": "11.0",
        "ionic, refined": "120",
        "ionic, theory": "6.00",
        "total, model": "16.0",
        "total, refined": "125",
        "total, theory": "10.0",
        "total, experiment": "30.0",
        "total, ratio": "12.50 !",
        "remarks": "PBE, trained on, near an instability",
    }
    assert [cell.text for cell in counts.rows[0]] == ["all", "0 of 1", "0 of 1"]
    assert to_markdown(crystals).count("12.50 !") == 1
    write_textbook(tmp_path / "a.csv", evaluation)
    with (tmp_path / "a.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert row["trained_on"] == row["near_instability"] == "True"
    columns = {"model": 16, "refined": 125, "theory": 10, "experiment": 30, "ratio": 12.5}
    assert {name: float(row[f"total_{name}"]) for name in columns} == columns
    assert (row["total_reference"], row["experiment_total"]) == ("theory", "a table, 1999")
    assert row["ionic_error_bar"] == ""


def test_all_thirty_are_predicted_with_bars_and_marks(model):
    evaluation = evaluate_textbook(model)
    assert [row.known.crystal.id for row in evaluation.predictions] == [e.crystal.id for e in load_textbook()]
    assert not evaluation.rejected
    assert all(row.error_bars.keys() == set(TARGETS) for row in evaluation.predictions)
    assert all(row.trained_on is not None for row in evaluation.predictions)
    tensor = model.predict([load_textbook()[3].crystal], "electronic")[0]
    assert evaluation.predictions[3].predicted["electronic"] == pytest.approx(np.trace(tensor) / 3, rel=1e-4)


def test_crystals_that_the_model_was_trained_on_are_marked(model):
    learned = [entry.crystal for entry in load_textbook() if entry.crystal.id in ("SiC", "HfO2", "Si")]
    marked = model.with_targets(TARGETS)
    with torch.no_grad():
        graph = model.graph(learned)
        marked.training_set = TrainingSet.of(learned, mean_scalars(model.encoder(graph), graph.ptr))
    rows = evaluate_textbook(marked).predictions
    assert {row.known.crystal.id for row in rows if row.trained_on} == {"SiC", "HfO2", "Si"}
    marked.training_set = None
    assert {row.trained_on for row in evaluate_textbook(marked).predictions} == {None}
    assert "does not say" in textbook_tables(evaluate_textbook(marked))[0].notes[-1]


def test_refined_tensors_replace_the_ionic_part(model):
    refined = {"MgO": np.diag([7.0, 7.0, 10.0])}
    rows = {row.known.crystal.id: row for row in evaluate_textbook(model, refined=refined).predictions}
    assert rows["MgO"].refined["ionic"] == pytest.approx(8.0)
    assert rows["MgO"].refined["total"] == pytest.approx(rows["MgO"].predicted["electronic"] + 8.0)
    assert not rows["CaO"].refined


@pytest.mark.parametrize(
    ("refined", "message"),
    [
        ({"Xx": np.eye(3)}, "got 'Xx'"),
        ({"Si": np.ones(3)}, r"finite `refined` tensors \[3, 3\], got Si"),
        ({"Si": np.nan * np.eye(3)}, "got Si"),
    ],
)
def test_bad_refined_tensors(model, refined, message):
    with pytest.raises(ValueError, match=message):
        evaluate_textbook(model, refined=refined)


def test_a_model_of_one_target_has_no_other_values(model):
    total = evaluate_textbook(model.with_targets(["total"]), crystals=load_textbook()[:4])
    assert {count.target for count in total.counts()} == {"total"}
    assert "-" in [cell.text for cell in textbook_tables(total)[0].rows[0]]


def test_unknown_elements_are_rejected_and_do_not_stop_the_rest(model):
    strange = replace(known(), crystal=replace(known().crystal, id="strange", atomic_numbers=np.array([94, 8])))
    evaluation = evaluate_textbook(model, crystals=[strange, known()])
    assert [row.known.crystal.id for row in evaluation.predictions] == ["MgO"]
    assert "Pu" in evaluation.rejected[0].reason
