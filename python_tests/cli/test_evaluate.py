# SPDX-License-Identifier: MIT
"""dtnn-fast evaluate: real runs of train beside a baseline, broken folders, figures and the page."""

import csv
import json
import shutil
import sys

import numpy as np
import pytest
from lattice_cases import random_lattice_model

from dtnn_fast.training.run_folder import RunPredictions, load_predictions, save_predictions

SMALL = ["--set", "encoder.channels=8,4,4", "--set", "decoder.latent=8", "--epochs", "1"]
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def finished(program, few_crystals, tmp_path_factory):
    """Two layers of our model on two splits, and a baseline that is ours with an error of 1 more in xx."""
    tmp_path = tmp_path_factory.mktemp("finished")
    for layer in (3, 4):
        place = tmp_path / "runs" / f"layer-{layer}"
        arguments = ["--layer", layer, "--splits", "0-1", "--label", "DTNN", "--output", place, "--target", "all"]
        assert program("train", few_crystals, *arguments, *SMALL).exit_code == 0
    for seed in (0, 1):
        ours = tmp_path / "runs" / "layer-4" / f"split-{seed}"
        record = json.loads((ours / "settings.json").read_text())
        before = load_predictions(ours / "predictions.npz")
        for target in ("electronic", "ionic", "total"):
            folder = tmp_path / "runs" / "painn" / target / f"split-{seed}"
            folder.mkdir(parents=True)
            off = before.predicted[target] + np.diag([1.0, 0.0, 0.0])
            changed = RunPredictions(before.ids, before.parts, {target: off}, {target: before.expected[target]})
            save_predictions(folder / "predictions.npz", changed)
            settings = {"settings": {"seed": seed, "target": target}, "data": record["data"], "command": "train painn"}
            (folder / "settings.json").write_text(json.dumps(settings))
            (folder / "results.json").write_text("{}")
    return tmp_path / "runs"


@pytest.fixture
def runs(finished, tmp_path):
    """A copy that a test may spoil."""
    return shutil.copytree(finished, tmp_path / "runs")


def table(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_everything_is_written(program, few_crystals, runs, tmp_path):
    output, page, notes = tmp_path / "out", tmp_path / "page.md", tmp_path / "text" / "notes.md"
    notes.parent.mkdir()
    notes.write_text("Settings were not chosen at all.")
    result = program("evaluate", runs, "--data", few_crystals, "-o", output, "--markdown", page, "--notes", notes)
    assert result.exit_code == 0, result.stderr
    assert "10 runs compared on 30 crystals" in result.stderr
    assert "total: MAE_ten by crystal system" in result.stdout
    assert "DTNN: MAE_ten by encoder layer" in result.stdout
    names = {path.name for path in output.iterdir()}
    pictures = {"layers.png", "elements.png", "systems.png", "data.png"}
    numbers = {"layers.csv", "elements.csv", "systems.csv", "data_elements.csv", "data_crystals.csv"}
    assert names == {*pictures, *numbers, "errors.csv", "ranking.csv", "rejected.csv"}
    assert "total: ranking of the means" in result.stdout
    for name in pictures:
        content = (output / name).read_bytes()
        assert content.startswith(PNG)
        assert len(content) > 10_000
    text = page.read_text()
    assert "[notes.md](text/notes.md)" in text
    assert "Settings were not chosen at all." not in text
    assert notes.read_text() == "Settings were not chosen at all."
    assert "](out/systems.png)" in text
    assert "| painn | total | - | 0, 1 |" in text

    rows = table(output / "errors.csv")
    assert {row["model"] for row in rows} == {"DTNN", "painn", "training median"}
    for target in ("electronic", "ionic", "total"):
        (chosen,) = {row["layer"] for row in rows if (row["model"], row["target"]) == ("DTNN", target)}
        results = [
            json.loads((runs / f"layer-{chosen}" / f"split-{seed}" / "results.json").read_text())["errors"][target]
            for seed in (0, 1)
        ]
        kept = {
            row["error"]: row
            for row in rows
            if (row["model"], row["target"], row["crystals"]) == ("DTNN", target, "all")
        }
        for metric, row in kept.items():
            assert float(row["mean"]) == pytest.approx(np.mean([r["test"]["all"][metric] for r in results]), rel=1e-5)
        # The layer was chosen on validation crystals.
        ranking = {
            row["measure"]: float(row["mean"])
            for row in table(output / "ranking.csv")
            if (row["model"], row["target"]) == ("DTNN", target)
        }
        assert {"log_error", "spearman", "recall_top_tenth"} <= ranking.keys()
        # The means over the splits of what the runs recorded; a run without high permittivities has no recall of them.
        recorded = [
            json.loads((runs / f"layer-{chosen}" / f"split-{seed}" / "results.json").read_text())["ranking"][target]
            for seed in (0, 1)
        ]
        for measure, mean in ranking.items():
            values = [quality["test"][measure] for quality in recorded if quality["test"][measure] is not None]
            assert mean == pytest.approx(np.mean(values), rel=1e-5)
        means = {
            row["layer"]: float(row["validation_mean"])
            for row in table(output / "layers.csv")
            if row["target"] == target
        }
        assert chosen == min(means, key=means.get)


def test_broken_runs_do_not_stop_the_rest(program, few_crystals, runs, tmp_path):
    (runs / "layer-3" / "split-1" / "predictions.npz").write_bytes(b"PK\x03\x04")
    (runs / "painn" / "ionic" / "split-0" / "results.json").unlink()
    result = program("evaluate", runs, tmp_path / "absent", "--data", few_crystals, "-o", tmp_path / "out")
    assert result.exit_code == 3
    assert "8 runs compared" in result.stderr
    found = {row["source"]: row["reason"] for row in table(tmp_path / "out" / "rejected.csv")}
    assert "no such folder" in found[str(tmp_path / "absent")]
    assert "not the predictions of a run" in found[str(runs / "layer-3" / "split-1")]
    assert "not finished" in found[str(runs / "painn" / "ionic" / "split-0")]
    assert {"painn (ionic)", "DTNN (total, layer 3)"} <= found.keys()
    assert "painn has 1 of 2 splits for ionic" in result.stdout


def test_runs_on_other_data_are_told_so(program, runs, tmp_path):
    result = program("evaluate", runs, "-o", tmp_path / "out")
    assert result.exit_code == 2
    assert "of another data set: its digest is" in result.stderr
    assert "that of the 940 crystals" in result.stderr
    assert result.stderr.count("\n") == 1


def test_no_runs_at_all(program, tmp_path):
    result = program("evaluate", tmp_path, "-o", tmp_path / "out")
    assert result.exit_code == 2
    assert "found no runs" in result.stderr


def test_an_unknown_model_to_show(program, few_crystals, runs, tmp_path):
    result = program("evaluate", runs, "--data", few_crystals, "-o", tmp_path / "out", "--show", "matten")
    assert result.exit_code == 2
    assert "one of DTNN, painn, got 'matten'" in result.stderr


def test_without_matplotlib_it_says_what_to_install(program, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = program("evaluate", tmp_path, "-o", tmp_path / "out")
    assert result.exit_code == 2
    assert 'pip install "dtnn-fast[cli]"' in result.stderr


def test_runs_by_structure_and_by_system(program, few_crystals, tmp_path):
    for kind in ("structures", "systems"):
        arguments = ["--set", f"data.split_by={kind}", "--target", "all", "-o", tmp_path / "runs" / kind]
        assert program("train", few_crystals, *arguments, *SMALL).exit_code == 0
    output = tmp_path / "out"
    for kind, other in (("structures", "systems"), ("systems", "structures")):
        result = program("evaluate", tmp_path / "runs", "--data", few_crystals, "--split-by", kind, "-o", output)
        assert result.exit_code == 3
        assert "1 run compared on 30 crystals" in result.stderr
        (left,) = table(output / "rejected.csv")
        assert left["source"] == str(tmp_path / "runs" / other)
        assert f"evaluate it with --split-by {other}" in left["reason"]
    # Of one kind alone, nothing has to be said.
    result = program("evaluate", tmp_path / "runs" / "systems", "--data", few_crystals, "-o", output)
    assert result.exit_code == 0, result.stderr


class TestModels:
    """Models evaluated without runs."""

    def test_textbook(self, program, tmp_path):
        page = tmp_path / "docs" / "page.md"
        result = program("evaluate", "--textbook", "-o", tmp_path / "out", "--markdown", page, "--threads", 1)
        assert result.exit_code == 0, result.stderr
        assert "Textbook crystals within the tolerance" in result.stdout
        rows = table(tmp_path / "out" / "textbook.csv")
        assert len(rows) == 30
        assert {row["ionic_model"] for row in rows if row["id"] in ("Si", "C", "Ge")} == {"0"}
        assert table(tmp_path / "out" / "rejected.csv") == []
        text = page.read_text()
        assert text.startswith("# Textbook crystals\n\n## Textbook crystals, dielectric\n")
        assert text.count("\n| ") >= 30 + 4

    def test_a_model_by_its_folder(self, program, tiny_model, tmp_path):
        result = program("evaluate", "--textbook", "--model", tiny_model, "-o", tmp_path / "out")
        assert result.exit_code == 0, result.stderr
        assert "the model does not say what it was trained on" in result.stdout

    def test_another_lattice_model(self, program, tiny_model, tmp_path):
        random_lattice_model().save(tmp_path / "lattice")

        def refined(*arguments):
            result = program("evaluate", "--textbook", *arguments, "-o", tmp_path / "out", "--threads", 1)
            assert result.exit_code == 0, result.stderr
            return result, {row["id"]: row["ionic_refined"] for row in table(tmp_path / "out" / "textbook.csv")}

        _, by_bundled = refined()
        result, by_other = refined("--lattice", tmp_path / "lattice")
        assert f"dielectric, refined by {tmp_path / 'lattice'}" in result.stdout
        assert by_other["Si"] == by_bundled["Si"] == "0"
        assert by_other["MgO"] != by_bundled["MgO"]
        _, of_tiny = refined("--model", tiny_model, "--lattice", tmp_path / "lattice")
        # Lattice dynamics alone does not depend on the direct model.
        assert float(of_tiny["MgO"]) == pytest.approx(float(by_other["MgO"]), rel=1e-4)
        _, without = refined("--model", tiny_model)
        assert set(without.values()) == {""}

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["runs", "--lattice", "lattice"], "needs --textbook or --labelled, got run folders"),
            (["--textbook", "--lattice", "nowhere"], "nowhere"),
            (["--textbook", "--model", "dielectric-total", "--lattice", "lattice"], "electronic and ionic"),
        ],
    )
    def test_wrong_lattice_models(self, program, arguments, message, tmp_path):
        result = program("evaluate", *arguments, "-o", tmp_path / "out")
        assert result.exit_code == 2
        assert message in " ".join(result.stderr.replace("│", " ").split())
        assert not (tmp_path / "out").exists()

    def test_labelled(self, program, few_crystals, tmp_path):
        result = program(
            "evaluate", "--labelled", few_crystals, "-o", tmp_path / "out", "--markdown", tmp_path / "a.md"
        )
        assert result.exit_code == 0, result.stderr
        assert "30 labelled crystals predicted" in result.stderr
        for target in ("electronic", "ionic", "total"):
            assert f"{target}: errors of dielectric" in result.stdout
            assert f"## {target}: errors of dielectric" in (tmp_path / "a.md").read_text()
        assert len(table(tmp_path / "out" / "labelled.csv")) == 30

    def test_each_label_is_compared_with_a_prediction_for_its_functional(self, program, few_crystals, tmp_path):
        rows = [json.loads(line) for line in few_crystals.read_text().splitlines()[:6]]
        named = [row | {"functional": name} for row, name in zip(rows, ["PBE", "PBEsol", "LDA"] * 2, strict=True)]
        path = tmp_path / "named.jsonl"
        path.write_text("\n".join(map(json.dumps, named)))
        result = program("evaluate", "--labelled", path, "--lattice", "lattice", "-o", tmp_path / "out")
        assert result.exit_code == 0, result.stderr
        direct, refined = (
            {row["id"]: row for row in table(tmp_path / "out" / name)} for name in ("labelled.csv", "refined.csv")
        )
        for functional, same in (("PBE", ("PBE", "LDA")), ("PBEsol", ("PBEsol",))):  # the model does not know LDA
            arguments = "--functional", functional, "--json", "--threads", 1
            predicted = json.loads(program("predict", path, "--no-refine", *arguments).stdout)
            assert predicted["functional"] == functional
            expected = {entry["id"]: entry["tensors"]["ionic"]["mean"] for entry in predicted["crystals"]}
            content = json.loads(program("refine", path, *arguments).stdout)
            assert content["functional"] == functional
            by_lattice = {entry["id"]: entry["ionic_mean"] for entry in content["crystals"]}
            for row in named:
                is_same = row["functional"] in same
                for found, wanted in ((direct, expected), (refined, by_lattice)):
                    close = abs(float(found[row["id"]]["ionic_mean"]) - wanted[row["id"]]) < 2e-4 * wanted[row["id"]]
                    assert close == is_same, (row["id"], functional)

    def test_labels_that_cannot_be_right_and_rows_without_structure(self, program, few_crystals, tmp_path):
        lines = few_crystals.read_text().splitlines()[:5]
        wrong = {**json.loads(lines[0]), "id": "wrong", "eps_electronic": (0.5 * np.eye(3)).tolist()}
        extra = [json.dumps(wrong), json.dumps({"id": "bare", "eps_total": [[1, 0, 0], [0, 1, 0], [0, 0, 1]]})]
        path = tmp_path / "more.jsonl"
        path.write_text("\n".join([*lines, *extra]))
        for flag, labels in (("--clean", "5"), ("--no-clean", "6")):
            result = program("evaluate", "--labelled", path, "-o", tmp_path / "out", flag)
            assert result.exit_code == 3
            rejected = {
                (row["id"], row["reason"].partition(":")[0]) for row in table(tmp_path / "out" / "rejected.csv")
            }
            assert ("bare", "missing atomic_numbers, lattice_angstrom, frac_coords") in rejected
            assert (("wrong", "electronic label dropped") in rejected) == (flag == "--clean")
            rows = table(tmp_path / "out" / "labelled.csv")
            assert str(sum(bool(row["electronic_label"]) for row in rows)) == labels

    def test_labelled_crystals_are_refined(self, program, few_crystals, tmp_path):
        lines = few_crystals.read_text().splitlines()[:8]
        row = json.loads(lines[0])
        large = row | {
            "id": "large",
            "atomic_numbers": row["atomic_numbers"] * 300,
            "frac_coords": [
                [x / 300 + n / 300, y, z] for n in range(300) for x, y, z in (c for c in row["frac_coords"])
            ],
            "lattice_angstrom": [[300 * x for x in row["lattice_angstrom"][0]], *row["lattice_angstrom"][1:]],
        }
        (tmp_path / "crystals.jsonl").write_text("\n".join([*lines, json.dumps(large)]))
        (tmp_path / "notes.txt").write_text("no crystal")
        result = program("evaluate", "--labelled", tmp_path, "--lattice", "lattice", "-o", tmp_path / "out")
        assert result.exit_code == 3, result.stderr
        assert "skipped 1 file" in result.stderr
        assert "ionic: errors of dielectric, refined by lattice" in result.stdout
        refused = {row["id"]: row["reason"] for row in table(tmp_path / "out" / "rejected.csv")}
        assert refused["large"].startswith("not refined: too large")
        direct = {row["id"]: row for row in table(tmp_path / "out" / "labelled.csv")}
        refined = {row["id"]: row for row in table(tmp_path / "out" / "refined.csv")}
        assert direct.keys() - refined.keys() == {"large"}
        results = json.loads(program("refine", tmp_path / "crystals.jsonl", "--json", "--threads", 1).stdout)
        for entry in results["crystals"]:
            row = refined[entry["id"]]
            assert float(row["ionic_mean"]) == pytest.approx(entry["ionic_mean"], rel=1e-3, abs=1e-3)
            assert float(row["total_error_bar"]) == pytest.approx(entry["total_mean_error"], rel=1e-3, abs=1e-3)
            assert row["ionic_label"] == direct[entry["id"]]["ionic_label"]

    def test_crystals_without_labels_are_an_error(self, program, few_crystals, tmp_path):
        row = json.loads(few_crystals.read_text().splitlines()[0])
        path = tmp_path / "bare.jsonl"
        path.write_text(json.dumps({key: value for key, value in row.items() if not key.startswith("eps")}) + "\n")
        result = program("evaluate", "--labelled", path, "-o", tmp_path / "out")
        assert result.exit_code == 2
        assert "no label: no electronic or ionic or total tensor" in result.stderr
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize("arguments", [[], ["runs", "--textbook"], ["--textbook", "--labelled", "a.jsonl"]])
    def test_one_thing_at_a_time(self, program, arguments):
        result = program("evaluate", *arguments)
        assert result.exit_code == 2
        assert "either run folders, --textbook or" in result.stderr
