# SPDX-License-Identifier: MIT
"""BORN files: what phonopy writes for our charges, it reads back for all atoms."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from model_cases import VARIANTS, asymmetric_crystals, randomised, small_crystals

from dtnn_fast.errors import BadFileError, MissingPackageError
from dtnn_fast.formats.born_file import read_born_file, write_born_file

pytest.importorskip("phonopy")


@pytest.fixture(scope="module")
def model():
    return randomised(replace(VARIANTS["several-layers"], born_charges=True))


def test_round_trip(tmp_path, model):
    for crystal in [*small_crystals(8, skip=2), *asymmetric_crystals()[2:]]:
        (charges,) = model.predict_born_charges(crystal)
        path = tmp_path / "BORN"
        electronic = 3.0 * np.eye(3)
        write_born_file(path, crystal, charges, electronic)
        read, tensor = read_born_file(path, crystal)
        np.testing.assert_allclose(read, charges, atol=2e-5)  # positions have six decimals, symmetry only so much
        np.testing.assert_allclose(tensor, electronic, atol=1e-8)


def test_one_line_for_each_independent_atom(tmp_path, model):
    crystal = next(c for c in small_crystals(30) if c.formula == "Rb2Te")
    write_born_file(tmp_path / "BORN", crystal, model.predict_born_charges(crystal)[0], np.eye(3))
    lines = (tmp_path / "BORN").read_text().splitlines()
    assert len(lines) == 2 + 2
    assert lines[0].startswith("#")


@pytest.mark.parametrize("text", ["", "# nothing\n", "# one tensor\n" + "1 0 0 0 1 0 0 0 1\n", "# words\na b c\n"])
def test_files_that_do_not_fit_are_named(tmp_path, text):
    path = tmp_path / "BORN"
    path.write_text(text)
    with pytest.raises(BadFileError, match="BORN"):
        read_born_file(path, small_crystals(1, skip=3)[0])
    with pytest.raises(BadFileError, match="BORN"):
        read_born_file(tmp_path / "missing" / "BORN", small_crystals(1)[0])


def test_without_phonopy_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "phonopy.file_IO", None)
    with pytest.raises(MissingPackageError, match=r"dtnn-fast\[phonopy\]"):
        write_born_file(tmp_path / "BORN", small_crystals(1)[0], np.zeros((3, 3, 3)), np.eye(3))
