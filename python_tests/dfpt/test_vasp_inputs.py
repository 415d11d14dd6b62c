# SPDX-License-Identifier: MIT
"""Inputs of VASP: settings, structures, and the file for atomate2."""

import ast
import json
from dataclasses import replace

import numpy as np
import pytest

from dtnn_fast.crystals.crystal import Crystal
from dtnn_fast.datasets.bundled import load_labelled
from dtnn_fast.dfpt import PredictedCrystal, write_inputs
from dtnn_fast.dfpt.frames import find_rotation
from dtnn_fast.dfpt.predicted import read_plan
from dtnn_fast.dfpt.vasp_inputs import flow_text
from dtnn_fast.errors import BadFileError
from dtnn_fast.formats.reading import read_crystals

CRYSTALS = [next(c for c in load_labelled() if c.formula == name and c.num_atoms < 10) for name in ("BaTiO3", "NiF2")]


def predicted(crystal):
    tensors = {name: np.diag([1.0, 2.0, 3.0]) * k for k, name in enumerate(("electronic", "ionic", "total"), start=1)}
    return PredictedCrystal(crystal, tensors, {"total": 1.5})


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dfpt") / "calc"
    left_handed = replace(CRYSTALS[0], id="left/handed *", cell=CRYSTALS[0].cell[[1, 0, 2]])
    folders, rejected = write_inputs(folder, [predicted(c) for c in (*CRYSTALS, left_handed)])
    assert not rejected
    return folder, folders, [*CRYSTALS, left_handed]


def incar(path):
    return {key.strip(): value.strip() for key, _, value in (line.partition("=") for line in path.open()) if value}


def test_settings_are_those_of_the_materials_project(written):
    _, folders, _ = written
    dielectric = incar(folders[CRYSTALS[1].id] / "dielectric" / "INCAR")
    expected = {"LEPSILON": "True", "IBRION": "8", "NSW": "1", "ENCUT": "520.0", "PREC": "Accurate", "EDIFF": "1e-07"}
    assert {key: dielectric[key] for key in expected} == expected
    assert dielectric["LDAUU"] == "6.2 0"
    relax = incar(folders[CRYSTALS[1].id] / "relax" / "INCAR")
    assert (relax["IBRION"], relax["ISIF"], relax["EDIFFG"], relax["LREAL"]) == ("2", "3", "-0.001", "False")
    assert "LEPSILON" not in relax
    assert "LDAUU" not in incar(folders[CRYSTALS[0].id] / "dielectric" / "INCAR") or "Ti" not in dielectric


def test_structures_are_those_of_the_crystals_with_right_handed_cells(written):
    _, folders, crystals = written
    assert folders["left/handed *"].name == "left_handed__"
    for crystal in crystals:
        for step in ("relax", "dielectric"):
            folder = folders[crystal.id] / step
            (again,) = read_crystals(folder / "POSCAR")
            assert isinstance(again, Crystal)
            assert np.linalg.det(again.cell) > 0
            assert sorted(again.atomic_numbers) == sorted(crystal.atomic_numbers)
            rotation = find_rotation(crystal, again)
            np.testing.assert_allclose(rotation @ np.diag([1, 2, 3]) @ rotation.T, np.diag([1, 2, 3]), atol=1e-9)
            assert (folder / "KPOINTS").read_text().count("\n") >= 4
            assert (folder / "POTCAR").exists() != (folder / "POTCAR.spec").exists()


def test_the_plan_is_read_back(written):
    folder, folders, crystals = written
    plan = read_plan(folder)
    assert [folder / name for name in plan] == list(folders.values())
    for one, crystal in zip(plan.values(), crystals, strict=True):
        np.testing.assert_array_equal(one.crystal.positions, crystal.positions)
        np.testing.assert_array_equal(one.tensors["total"], 3 * np.diag([1.0, 2.0, 3.0]))
        assert one.mean_errors == {"total": 1.5}


def test_damaged_plans_are_named(written, tmp_path):
    folder, _, _ = written
    with pytest.raises(BadFileError, match=r"dfpt\.json: missing"):
        read_plan(tmp_path)
    content = json.loads((folder / "dfpt.json").read_text())
    for change, message in (({"format": "other"}, "expected the format"), ({"crystals": [{"id": "a"}]}, "damaged")):
        (tmp_path / "dfpt.json").write_text(json.dumps({**content, **change}))
        with pytest.raises(BadFileError, match=message):
            read_plan(tmp_path)


def test_a_full_folder_is_refused(written):
    with pytest.raises(BadFileError, match="missing or empty"):
        write_inputs(written[0], [predicted(CRYSTALS[0])])


def test_ids_that_become_the_same_name_have_their_own_folders(tmp_path):
    crystals = [replace(CRYSTALS[0], id=name) for name in ("a/b", "a_b", "..", "a b")]
    folders, _ = write_inputs(tmp_path / "calc", [predicted(crystal) for crystal in crystals])
    assert [path.name for path in folders.values()] == ["a_b", "a_b_2", "crystal", "a_b_3"]


def test_the_flow_builds_the_jobs_of_each_crystal(written, monkeypatch):
    """By atomate2 where it is installed; otherwise only the grammar of the file is checked."""
    folder, _, _ = written
    text = (folder / "dfpt_flow.py").read_text()
    assert text == flow_text()
    tree = ast.parse(text)
    assert {node.name for node in tree.body if isinstance(node, ast.FunctionDef)} == {"make_flow", "make_flows"}
    if not _has_atomate2():
        return
    names = {"__file__": str(folder / "dfpt_flow.py"), "__name__": "dfpt_flow"}
    exec(compile(text, "dfpt_flow.py", "exec"), names)
    flows = names["make_flows"]()
    assert len(flows) == 3
    for flow in flows.values():
        assert [job.name for job, _ in flow.iterflow()] == ["MP GGA relax 1", "MP GGA relax 2", "dielectric"]


def _has_atomate2():
    try:
        import atomate2  # noqa: F401
    except ImportError:
        return False
    return True
