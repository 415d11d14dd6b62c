# SPDX-License-Identifier: MIT
"""`tools/compare_readers.py` lists each file on which readers differ, and why a file is refused."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dtnn_fast.crystals.crystal import Crystal

TOOL = Path(__file__).parents[1] / "tools" / "compare_readers.py"
POSCAR = "MgO\n1.0\n4.2 0 0\n0 4.2 0\n0 0 4.2\nMg O\n1 1\nDirect\n0 0 0\n0.5 0.5 0.5\n"
MGO_CIF = """data_MgO
_cell_length_a 4.2
_cell_length_b 4.2
_cell_length_c 4.2
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_space_group_name_H-M_alt 'F m -3 m'
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
Mg1 Mg 0 0 0
O1 O 0.5 0.5 0.5
"""


@pytest.fixture(scope="module")
def tool():
    for package in ("ase", "gemmi", "pymatgen", "moyopy"):
        pytest.importorskip(package)
    spec = importlib.util.spec_from_file_location("compare_readers", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_table_of_a_folder(tool, tmp_path, monkeypatch, capsys):
    (tmp_path / "deeper").mkdir()
    (tmp_path / "deeper" / "MgO.cif").write_text(MGO_CIF)
    (tmp_path / "MgO.vasp").write_text(POSCAR)
    half = MGO_CIF.replace("fract_z\n", "fract_z\n_atom_site_occupancy\n")
    half = half.replace("Mg1 Mg 0 0 0", "Mg1 Mg 0 0 0 0.5").replace("0.5 0.5 0.5\n", "0.5 0.5 0.5 1\n")
    (tmp_path / "half.cif").write_text(half)
    (tmp_path / "broken.cif").write_text("data_x\nloop_\n_a\n_b\n1\n")
    monkeypatch.setattr("sys.argv", ["compare_readers.py", str(tmp_path)])
    tool.main()
    text = capsys.readouterr().out
    assert text.startswith("4 files; ")
    assert "same: 2" in text
    rows = [line for line in text.splitlines() if line.startswith(("| half", "| broken"))]
    assert len(rows) == 2
    assert any("partial occupancy" in row for row in rows)
    # A table is read on other machines.
    assert str(tmp_path) not in text


def crystal(positions, numbers=(12, 8), edge=4.2):
    return Crystal.from_fractional("x", list(numbers), positions, edge * np.eye(3))


def test_agreement_does_not_depend_on_order_and_frame(tool):
    first = crystal([[0, 0, 0], [0.5, 0.5, 0.5]])
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    turned = replace(first, positions=(first.positions + 1.0) @ rotation, cell=first.cell @ rotation)
    assert tool.agree(first, turned)
    assert tool.agree(first, crystal([[0.5, 0.5, 0.5], [0, 0, 0]], (8, 12)))


@pytest.mark.parametrize(
    "other",
    [
        crystal([[0, 0, 0], [0.5, 0.5, 0.5]], (12, 16)),
        crystal([[0, 0, 0], [0.5, 0.5, 0.5]], edge=4.3),
        crystal([[0, 0, 0], [0.5, 0.5, 0.45]]),
        crystal([[0, 0, 0], [0.5, 0.5, 0.0]]),
    ],
    ids=["element", "volume", "position", "space-group"],
)
def test_differences(tool, other):
    assert not tool.agree(crystal([[0, 0, 0], [0.5, 0.5, 0.5]]), other)
