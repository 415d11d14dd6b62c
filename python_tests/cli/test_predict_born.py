# SPDX-License-Identifier: MIT
"""`dtnn-fast predict` with a model of Born charges: JSON and BORN files."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from model_cases import TINY, config, small_crystals

from dtnn_fast import DTNN
from dtnn_fast.formats import write_packed
from dtnn_fast.formats.born_file import read_born_file

CRYSTALS = small_crystals(3, skip=3)


@pytest.fixture
def files(tmp_path):
    settings = config(2, channels=TINY, latent=8, targets=("electronic", "ionic", "total"), joint=True)
    DTNN(replace(settings, born_charges=True)).save(tmp_path / "model")
    DTNN(settings).save(tmp_path / "plain")
    write_packed(tmp_path / "crystals.npz", CRYSTALS, {})
    return tmp_path


def test_json_and_born_files(program, files):
    pytest.importorskip("phonopy")
    crystals, model = files / "crystals.npz", files / "model"
    result = program("predict", crystals, "--model", model, "--json", "--born", files / "born")
    assert result.exit_code == 0, result.stderr
    entries = json.loads(result.stdout)["crystals"]
    for crystal, entry in zip(CRYSTALS, entries, strict=True):
        charges = np.array(entry["born_charges"])
        assert charges.shape == (crystal.num_atoms, 3, 3)
        np.testing.assert_allclose(charges.sum(0), 0, atol=1e-12)
        read, electronic = read_born_file(files / "born" / crystal.id / "BORN", crystal)
        np.testing.assert_allclose(read, charges, atol=2e-5)
        np.testing.assert_allclose(electronic, entry["tensors"]["electronic"]["tensor"], atol=2e-3)


def test_models_without_charges_are_refused(program, files):
    result = program("predict", files / "crystals.npz", "--model", files / "plain", "--born", files / "born")
    assert result.exit_code == 2
    assert "needs a model of electronic tensors and Born" in " ".join(result.stderr.replace("│", "").split())
    assert "born_charges" not in program("predict", files / "crystals.npz", "--model", files / "plain", "--json").stdout


def test_ids_do_not_leave_the_folder(program, files):
    pytest.importorskip("phonopy")
    write_packed(files / "crystals.npz", [replace(CRYSTALS[0], id="../../outside")], {})
    result = program("predict", files / "crystals.npz", "--model", files / "model", "--born", files / "a" / "born")
    assert result.exit_code == 0, result.stderr
    assert [path.name for path in (files / "a").rglob("BORN")] == ["BORN"]
    assert not (files / "outside").exists()
