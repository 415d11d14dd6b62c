# SPDX-License-Identifier: MIT
"""Finished runs: compared in one frame, made labels, or rejected with the reason."""

import csv
import gzip
from dataclasses import replace

import numpy as np
import pytest
from vasp_examples import outcar, poscar, vasprun

from dtnn_fast.crystals.crystal import Crystal
from dtnn_fast.datasets.bundled import load_labelled
from dtnn_fast.dfpt import PredictedCrystal, collect_runs
from dtnn_fast.dfpt.collect import write_comparison, write_labels
from dtnn_fast.dfpt.predicted import write_plan
from dtnn_fast.formats.reading import read_crystals

CRYSTAL = next(c for c in load_labelled() if c.info["crystal_system"] == "orthorhombic" and c.num_atoms <= 12)
ELECTRONIC, IONIC, TOTAL = (CRYSTAL.targets[name] for name in ("electronic", "ionic", "total"))


@pytest.fixture
def folder(tmp_path):
    write_plan(tmp_path, {"a": PredictedCrystal(CRYSTAL, {"electronic": ELECTRONIC + 0.1, "total": TOTAL + 1}, {})})
    return tmp_path


def put(folder, text, step="dielectric", name="vasprun.xml"):
    (folder / "a" / step).mkdir(parents=True, exist_ok=True)
    data = text.encode() if isinstance(text, str) else text
    (folder / "a" / step / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)


def rotated():
    """The crystal and its tensors in another frame."""
    rotation, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))
    crystal = replace(CRYSTAL, cell=1.01 * CRYSTAL.cell @ rotation, positions=1.01 * CRYSTAL.positions @ rotation)
    return crystal, rotation.T @ ELECTRONIC @ rotation, rotation.T @ IONIC @ rotation


def charges():
    z = np.linspace(1, 2, CRYSTAL.num_atoms)[:, None, None] * np.eye(3)
    return z - z.mean(axis=0)


@pytest.mark.parametrize("name", ["vasprun.xml", "vasprun.xml.gz"])
def test_a_run_in_another_frame_is_compared_and_becomes_a_label(folder, name):
    crystal, electronic, ionic = rotated()
    put(folder, vasprun(crystal, electronic, ionic, charges()), name=name)
    put(folder, vasprun(CRYSTAL, tags={"NSW": 99, "IBRION": 2}, calculations=5), "relax")
    collected = collect_runs(folder)
    assert not collected.rejected
    (one,) = collected.comparisons
    np.testing.assert_allclose(one.computed["total"], TOTAL, atol=1e-5)
    np.testing.assert_allclose(one.label.targets["total"], electronic + ionic, atol=1e-5)
    assert one.volume_change == pytest.approx(1.01**3 - 1, abs=1e-6)
    assert one.tensor_error("total") == pytest.approx(1.0, abs=1e-5)
    assert one.tensor_error("ionic") is None
    assert one.means("electronic") == pytest.approx((np.trace(ELECTRONIC) / 3 + 0.1, np.trace(ELECTRONIC) / 3))
    assert one.remarks == ()

    write_labels(folder / "labels.jsonl", collected.comparisons)
    (label,) = read_crystals(folder / "labels.jsonl")
    assert isinstance(label, Crystal)
    assert label.id == CRYSTAL.id
    np.testing.assert_allclose(label.targets["ionic"], ionic, atol=1e-5)
    np.testing.assert_allclose(label.born_charges, charges(), atol=1e-7)
    np.testing.assert_allclose(label.positions, crystal.positions, atol=1e-6)
    write_comparison(folder / "comparison.csv", collected.comparisons)
    (row,) = csv.DictReader((folder / "comparison.csv").open())
    assert float(row["total_xx_computed"]) == pytest.approx(TOTAL[0, 0], abs=1e-5)
    assert float(row["total_xx_predicted"]) == pytest.approx(TOTAL[0, 0] + 1)
    assert row["ionic_xx_predicted"] == ""


def test_an_outcar_serves_where_there_is_no_vasprun(folder):
    pytest.importorskip("pymatgen.io.vasp.outputs")
    put(folder, outcar(ELECTRONIC, IONIC), name="OUTCAR")
    put(folder, poscar(CRYSTAL), name="CONTCAR")
    (one,) = collect_runs(folder).comparisons
    np.testing.assert_allclose(one.computed["total"], TOTAL, atol=1e-5)
    put(folder, outcar(ELECTRONIC, IONIC, ended=False), name="OUTCAR")
    (rejected,) = collect_runs(folder).rejected
    assert "not ended" in rejected.reason


DIELECTRIC = vasprun(CRYSTAL, ELECTRONIC, IONIC)


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({}, "not calculated yet"),
        ({"relax": vasprun(CRYSTAL)}, "no run has a dielectric tensor yet"),
        ({"dielectric": DIELECTRIC[: len(DIELECTRIC) // 2]}, "damaged or truncated"),
        ({"dielectric": vasprun(CRYSTAL, ELECTRONIC, IONIC, steps=100)}, "electrons did not converge in 100 steps"),
        (
            {
                "relax": vasprun(CRYSTAL, tags={"NSW": 9, "IBRION": 2}, calculations=9),
                "dielectric": DIELECTRIC,
            },
            "relaxation did not converge in 9 steps",
        ),
        ({"dielectric": vasprun(CRYSTAL, np.eye(3) * 0.2)}, "principal value"),
        ({"dielectric": vasprun(replace(CRYSTAL, atomic_numbers=CRYSTAL.atomic_numbers + 1), ELECTRONIC)}, "a run of"),
        ({"dielectric": vasprun(CRYSTAL, ELECTRONIC * np.nan)}, "NaN"),
        ({"dielectric": "<html>not found</html>"}, "vasprun.xml"),
    ],
)
def test_runs_that_cannot_be_used_are_rejected_with_the_reason(folder, files, reason):
    for step, text in files.items():
        put(folder, text, step)
    collected = collect_runs(folder)
    assert not collected.comparisons
    (rejected,) = collected.rejected
    assert rejected.id == CRYSTAL.id
    assert reason in rejected.reason


def test_an_unstable_crystal_keeps_its_electronic_tensor_and_a_remark(folder):
    put(folder, vasprun(CRYSTAL, ELECTRONIC, np.diag([-30.0, 2, 3])))
    (one,) = collect_runs(folder).comparisons
    assert set(one.label.targets) == {"electronic"}
    assert any("ionic" in remark for remark in one.remarks)


def test_a_structure_that_changed_too_much_is_compared_by_means(folder):
    squeezed = np.diag([1.4, 1, 0.8])
    crystal = replace(CRYSTAL, cell=CRYSTAL.cell @ squeezed, positions=CRYSTAL.positions @ squeezed)
    put(folder, vasprun(crystal, ELECTRONIC, IONIC))
    (one,) = collect_runs(folder).comparisons
    assert one.computed == {}
    assert one.means("total")[1] == pytest.approx(np.trace(TOTAL) / 3, abs=1e-5)
    assert any("no common frame" in remark for remark in one.remarks)


def test_runs_of_atomate2_are_found_at_any_depth(folder):
    put(folder, vasprun(CRYSTAL, tags={"NSW": 99, "IBRION": 2}, calculations=99), "atomate2/job_1", "vasprun.xml.gz")
    put(folder, DIELECTRIC, "atomate2/job_2", "vasprun.xml.gz")
    assert len(collect_runs(folder).comparisons) == 1
