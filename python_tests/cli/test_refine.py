# SPDX-License-Identifier: MIT
"""`dtnn-fast refine`: table, JSON and CSV, the best of a ranking, and what it refuses."""

from __future__ import annotations

import csv
import json
import os
import signal
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from bonding_examples import magnesia_slab, rock_salt, scaled
from lattice_cases import random_lattice_model
from model_cases import rattled, small_crystals

from dtnn_fast.cli.refine import _load_potential
from dtnn_fast.crystals.crystal import Crystal
from dtnn_fast.formats import write_packed
from dtnn_fast.phonons import SOFTEST, ionic_tensor
from dtnn_fast.potentials import gamma_force_constants

CRYSTALS = small_crystals(4, skip=3)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("refine")
    random_lattice_model().save(folder / "lattice")
    write_packed(folder / "crystals.npz", CRYSTALS, {})
    copper = Crystal.from_fractional("Cu", [29], [[0, 0, 0]], 1.8 * np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]]))
    write_packed(folder / "mixed.npz", [CRYSTALS[0], copper, replace(CRYSTALS[1], id="second")], {})
    (folder / "broken.cif").write_text("data_x\n_cell_length_a nonsense\n")
    return folder


@pytest.fixture
def refine(program, tiny_model, files):
    def run(*arguments):
        return program("refine", *arguments, "--model", tiny_model, "--lattice", files / "lattice", "--threads", 1)

    return run


def test_json_holds_tensors_that_fit_each_other(refine, files):
    result = refine(files / "crystals.npz", "--json", "-o", files / "out.json")
    assert result.exit_code == 0, result.stderr
    content = json.loads(result.stdout)
    assert json.loads((files / "out.json").read_text()) == content
    assert [entry["id"] for entry in content["crystals"]] == [crystal.id for crystal in CRYSTALS]
    for crystal, entry in zip(CRYSTALS, content["crystals"], strict=True):
        charges = np.array(entry["born_charges"])
        assert charges.shape == (crystal.num_atoms, 3, 3)
        np.testing.assert_allclose(charges.sum(0), 0, atol=1e-9)
        assert len(entry["frequencies_thz"]) == 3 * crystal.num_atoms - 3
        np.testing.assert_allclose(np.add(entry["electronic"], entry["ionic"]), entry["total"], atol=1e-12)
        assert entry["ionic_mean"] == pytest.approx(np.trace(entry["ionic"]) / 3)
        assert entry["ionic"] == entry["ionic_lattice"]  # no join for these models
        assert entry["ionic_mean_error"] is None


def test_the_table_and_csv(refine, files):
    result = refine(files / "mixed.npz", files / "broken.cif", "-o", files / "out.csv")
    assert result.exit_code == 3
    assert "lattice dynamics alone" in result.stdout
    assert "metals only" in result.stderr
    assert "broken.cif" in result.stderr
    rows = list(csv.DictReader((files / "out.csv").open()))
    assert [row["id"] for row in rows] == [CRYSTALS[0].id, "second"]
    for row in rows:
        assert row["id"] in result.stdout
        total = float(row["electronic_mean"]) + float(row["ionic_mean"])
        assert float(row["total_mean"]) == pytest.approx(total, abs=2e-4)
        assert row["unstable"] in ("true", "false")


def test_the_best_of_a_ranking(refine, files):
    ranked = [CRYSTALS[2].id, "lost", CRYSTALS[0].id, CRYSTALS[1].id]
    folder = files / "screening"
    folder.mkdir(exist_ok=True)
    lines = ["rank,id", *(f"{place},{id}" for place, id in enumerate(ranked, start=1))]
    (folder / "ranking.csv").write_text("\n".join(lines) + "\n")
    result = refine(files / "crystals.npz", "--ranking", folder, "--best", 3, "--json")
    assert result.exit_code == 3
    content = json.loads(result.stdout)
    assert [entry["id"] for entry in content["crystals"]] == [CRYSTALS[2].id, CRYSTALS[0].id]
    assert [entry["id"] for entry in content["rejected"]] == ["lost"]


def test_the_structures_of_a_ranking_come_from_its_screening(program, tiny_model, refine, files):
    screened = files / "with_parts"
    result = program("screen", files / "crystals.npz", "--model", tiny_model, "-o", screened, "--rank-unreliable")
    assert result.exit_code == 0, result.stderr
    alone = json.loads(refine("--ranking", screened, "--json").stdout)
    given = json.loads(refine(files / "crystals.npz", "--ranking", screened, "--json").stdout)
    assert len(alone["crystals"]) == len(CRYSTALS)
    for found, expected in zip(alone["crystals"], given["crystals"], strict=True):
        assert found["id"] == expected["id"]
        np.testing.assert_allclose(found["ionic"], expected["ionic"], rtol=1e-4, atol=1e-5)


def test_a_ranking_of_other_crystals_with_the_same_ids_is_noticed(refine, files):
    first, second = CRYSTALS[:2]
    text = f"rank,id,formula\n1,{first.id},Xx99\n2,{second.id},{second.formula}\n"
    (files / "elsewhere.csv").write_text(text, encoding="utf-8-sig")  # as spreadsheets do
    result = refine(files / "crystals.npz", "--ranking", files / "elsewhere.csv", "--json")
    assert result.exit_code == 3
    content = json.loads(result.stdout)
    assert [entry["id"] for entry in content["crystals"]] == [second.id]
    assert "Xx99" in content["rejected"][0]["reason"]


@pytest.mark.parametrize(("text", "message"), [("rank,id\n", "lists no crystal"), ("rank,id\n1\n", "line 2 has no id")])
def test_rankings_without_ids_are_refused(refine, files, text, message):
    (files / "empty.csv").write_text(text)
    result = refine(files / "crystals.npz", "--ranking", files / "empty.csv")
    assert result.exit_code == 2
    assert "empty.csv" in result.stderr
    assert message in result.stderr


def test_files_that_are_no_ranking_are_refused(refine, files):
    (files / "other.csv").write_text("a,b\n1,2\n")
    result = refine(files / "crystals.npz", "--ranking", files / "other.csv")
    assert result.exit_code == 2
    assert "expected ranking.csv" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "files or folders of crystals, or --ranking"),
        (["X", "-o", "out.txt"], ".json or .csv"),
        (["X", "-o", "nowhere/out.json"], "there is no folder nowhere"),
        (["X", "--relax"], "--potential"),
        (["X", "--best", "3"], "needs --ranking with the folder of a screening"),
        (["X", "--potential", "unheard"], "file of Nequix"),
        (["X", "--potential", "missing.nqx"], "missing.nqx"),
    ],
)
def test_wrong_arguments(refine, files, arguments, message):
    paths = [files / "crystals.npz" if argument == "X" else argument for argument in arguments]
    result = refine(*paths)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.replace("│", " ").split())


def test_warnings_about_the_structure(refine, files):
    slab, bohr = replace(magnesia_slab(), id="slab"), replace(scaled(rock_salt(), 1.8897), id="bohr")
    write_packed(files / "doubtful.npz", [slab, bohr, CRYSTALS[0]], {})
    result = refine(files / "doubtful.npz", "-o", files / "doubtful.csv")
    assert result.exit_code == 0, result.stderr
    assert "! slab: warning: layers or a slab" in result.stdout
    assert "! bohr: warning: bonds are about" in result.stdout
    rows = {row["id"]: row for row in csv.DictReader((files / "doubtful.csv").open())}
    assert "gap" in rows["slab"]["warning_codes"].split()
    assert "bohr" in rows["bohr"]["warning_codes"].split()
    assert "lengths in Bohr?" in rows["bohr"]["warnings"]
    content = json.loads(refine(files / "doubtful.npz", "--json").stdout)
    for entry in content["crystals"]:
        assert "; ".join(entry["warnings"]) == rows[entry["id"]]["warnings"]
        assert " ".join(entry["warning_codes"]) == rows[entry["id"]]["warning_codes"]


def test_nothing_refined_is_an_empty_result(refine, files):
    copper = Crystal.from_fractional("Cu", [29], [[0, 0, 0]], 1.8 * np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]]))
    write_packed(files / "metal.npz", [copper], {})
    result = refine(files / "metal.npz", files / "broken.cif", "--json", "-o", files / "nothing.json")
    assert result.exit_code == 2
    assert "nothing could be refined" in result.stderr
    content = json.loads(result.stdout)
    assert content["crystals"] == []
    assert {entry["id"] for entry in content["rejected"]} >= {"Cu"}
    assert len(content["rejected"]) == 2
    assert json.loads((files / "nothing.json").read_text()) == content


def test_skipped_files_are_named(refine, tmp_path):
    write_packed(tmp_path / "crystals.npz", CRYSTALS[:1], {})
    (tmp_path / "notes.txt").write_text("no crystal")
    result = refine(tmp_path)
    assert result.exit_code == 0, result.stderr
    assert f"skipped 1 file of unknown format, such as {tmp_path / 'notes.txt'}" in result.stderr
    assert "1 crystal in" in result.stderr


def test_the_bundled_crystals_of_a_ranking_are_not_announced_as_a_screening(refine, tmp_path):
    (tmp_path / "ranking.csv").write_text("rank,id\n1,mp-34293\n")
    result = refine("--ranking", tmp_path)
    assert "screening" not in result.stderr


def test_models_without_the_ionic_tensor_are_refused(program, files):
    result = program("refine", files / "crystals.npz", "--model", "dielectric-total", "--lattice", files / "lattice")
    assert result.exit_code == 2
    assert "electronic and ionic" in " ".join(result.stderr.replace("│", " ").split())


def test_a_potential_takes_the_place_of_the_force_constants(refine, files, monkeypatch):
    from dtnn_fast import potentials
    from dtnn_fast.crystals.crystal import Rejected
    from dtnn_fast.phonons import ForceConstants

    class Stiff:
        name = "stiff"

    def constants(crystals, potential, **_):
        assert isinstance(potential, Stiff)
        for crystal in crystals:
            if crystal.id == CRYSTALS[1].id:
                yield Rejected(crystal.id, "", "stiff: does not know it")
            else:
                yield ForceConstants(3.0 * np.eye(3 * crystal.num_atoms), 0.0, 0.0, 1)

    monkeypatch.setattr(potentials, "load_potential", lambda name, **_: Stiff())
    monkeypatch.setattr(potentials, "gamma_force_constants", constants)
    result = refine(files / "crystals.npz", "--potential", "stiff", "--softening", 2, "--json")
    assert result.exit_code == 3
    content = json.loads(result.stdout)
    assert [entry["id"] for entry in content["rejected"]] == [CRYSTALS[1].id]
    crystal, entry = CRYSTALS[0], content["crystals"][0]
    matrix, volume = 6.0 * np.eye(3 * crystal.num_atoms), abs(np.linalg.det(crystal.cell))
    expected = ionic_tensor(matrix, np.array(entry["born_charges"]), volume, SOFTEST)
    np.testing.assert_allclose(entry["ionic"], expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("refined", [0, 2])
def test_ctrl_c_loses_no_refined_crystal(refine, files, monkeypatch, tmp_path, refined):
    from dtnn_fast import potentials
    from dtnn_fast.phonons import ForceConstants

    def constants(crystals, potential, **_):
        for crystal in crystals:
            if crystal.id == CRYSTALS[refined].id:
                os.kill(os.getpid(), signal.SIGTERM)  # as queue systems do
                time.sleep(60)
            yield ForceConstants(3.0 * np.eye(3 * crystal.num_atoms), 0.0, 0.0, 1)

    monkeypatch.setattr(potentials, "load_potential", lambda name, **_: SimpleNamespace(name="stiff"))
    monkeypatch.setattr(potentials, "gamma_force_constants", constants)
    monkeypatch.setattr("dtnn_fast.cli.refine._PART_ATOMS", 1)
    table = tmp_path / "table.csv"
    result = refine(files / "crystals.npz", "--potential", "stiff", "--json", "-o", table)
    assert result.exit_code == 130
    assert f"stopped: {refined} of 4 crystals done" in result.stderr
    done = [crystal.id for crystal in CRYSTALS[:refined]]
    assert [entry["id"] for entry in json.loads(result.stdout)["crystals"]] == done
    assert table.exists() == bool(done)
    if done:
        with table.open(newline="", encoding="utf-8") as file:
            assert [row["id"] for row in csv.DictReader(file)] == done


def test_energy_models_compute_force_constants_in_float32():
    """Their displacements are long, so that rounding does not matter; relaxations go on in float64."""
    potential, exact = (_load_potential("native", False, "cpu", relax) for relax in (False, True))
    assert [next(p.model.encoder.parameters()).dtype for p in (potential, exact)] == [torch.float32, torch.float64]
    crystals = [CRYSTALS[0], rattled(CRYSTALS[1])]
    for one, other in zip(*(gamma_force_constants(crystals, p) for p in (potential, exact)), strict=True):
        np.testing.assert_allclose(one.matrix, other.matrix, atol=1e-4 * np.abs(other.matrix).max())


def test_only_crystals_that_can_be_refined_are_relaxed(refine, files, monkeypatch):
    from dtnn_fast import potentials
    from dtnn_fast.phonons import ForceConstants

    relaxed = []

    def relax(crystal, potential):
        relaxed.append(crystal.id)
        return SimpleNamespace(crystal=crystal)

    def constants(crystals, potential, **_):
        return (ForceConstants(3.0 * np.eye(3 * crystal.num_atoms), 0.0, 0.0, 1) for crystal in crystals)

    monkeypatch.setattr(potentials, "load_potential", lambda name, **_: SimpleNamespace(name="stiff"))
    monkeypatch.setattr(potentials, "relax", relax)
    monkeypatch.setattr(potentials, "gamma_force_constants", constants)
    result = refine(files / "mixed.npz", "--potential", "stiff", "--relax", "--json")
    assert result.exit_code == 3
    assert relaxed == [CRYSTALS[0].id, "second"]  # not copper


def test_a_relaxed_insulator_of_metals_is_refined(program, files, monkeypatch):
    pytest.importorskip("ase")
    from dtnn_fast import potentials

    gold = Crystal.from_fractional("CsAu", [55, 79], [[0, 0, 0], [0.5] * 3], 4.2 * np.eye(3))
    crystals = [replace(gold, id="metal"), replace(gold, id="insulator", targets={"total": np.eye(3)})]
    write_packed(files / "gold.npz", crystals, {})

    class Still(potentials.Potential):
        """A potential without forces anywhere, so that a relaxation ends at once."""

        def evaluate(self, crystals):
            still = [np.zeros((crystal.num_atoms, 3)) for crystal in crystals]
            return [potentials.PotentialResult(0.0, forces, np.zeros((3, 3))) for forces in still]

    monkeypatch.setattr(potentials, "load_potential", lambda name, **_: Still("still", None))
    result = program("refine", files / "gold.npz", "--potential", "still", "--relax", "--json", "--threads", 1)
    assert result.exit_code == 3, result.stderr
    content = json.loads(result.stdout)
    assert [entry["id"] for entry in content["crystals"]] == ["insulator"]
    assert [entry["id"] for entry in content["rejected"]] == ["metal"]


def test_a_join_is_for_its_potential_alone(refine, program, files, monkeypatch):
    """Known potentials have joins of their own, with error bars; changed force constants have none."""
    from dtnn_fast import potentials
    from dtnn_fast.model.bundled_model import bundled_lattice_folder
    from dtnn_fast.phonons import ForceConstants
    from dtnn_fast.refinement.ionic_join import IonicJoin

    def constants(crystals, potential, **_):
        return (ForceConstants(3.0 * np.eye(3 * crystal.num_atoms), 0.0, 0.0, 1) for crystal in crystals)

    monkeypatch.setattr(potentials, "gamma_force_constants", constants)
    monkeypatch.setattr(potentials, "load_potential", lambda name, **_: SimpleNamespace(name=name))
    monkeypatch.setattr(potentials, "relax", lambda crystal, potential: SimpleNamespace(crystal=crystal))
    write_packed(files / "one.npz", CRYSTALS[:1], {})

    def bar(potential, *options):
        result = program("refine", files / "one.npz", "--potential", potential, "--json", *options)
        assert result.exit_code == 0, result.stderr
        (entry,) = json.loads(result.stdout)["crystals"]
        if entry["ionic_mean_error"] is None:
            assert entry["ionic"] == entry["ionic_lattice"]
        return entry["ionic_mean_error"]

    for name in ("native", "nequix-oam-1", "sevennet-0"):
        assert IonicJoin.load(bundled_lattice_folder(), name) is not None
        assert bar(name) > 0
        assert bar(name, "--relax") is None
        assert bar(name, "--softening", 2) is None
        assert bar(name, "--lattice-share", 0.3) is None
        assert bar(name, "--lattice", files / "lattice") is None
    assert bar("sevennet-0", "--softening", 1.23) == bar("sevennet-0")
    assert bar("native", "--lattice-share", 0.5) == bar("native")
    assert bar("another") is None
