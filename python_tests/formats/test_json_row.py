# SPDX-License-Identifier: MIT
"""A crystal as a JSON line: all its labels come back."""

import json
from dataclasses import replace

import numpy as np

from dtnn_fast.datasets.bundled import load_labelled
from dtnn_fast.formats.json_lines import json_row
from dtnn_fast.formats.reading import read_crystals


def test_all_labels_come_back(tmp_path):
    rng = np.random.default_rng(0)
    crystal = load_labelled()[5]
    n = crystal.num_atoms
    full = replace(
        crystal,
        born_charges=rng.normal(size=(n, 3, 3)),
        force_constants=rng.normal(size=(3 * n, 3 * n)),
        info={"band_gap": 1.5, "functional": "PBE", "id": "another"},
    )
    tensor = crystal.targets["electronic"]
    partial = replace(
        crystal, id="b", targets={}, diagonals={"electronic": np.diag(tensor)}, means={"ionic": 3.5}, info={}
    )
    path = tmp_path / "some.jsonl"
    path.write_text("".join(json.dumps(json_row(one)) + "\n" for one in (full, partial)))
    first, second = read_crystals(path)
    assert first.id == crystal.id
    assert first.info == {"band_gap": 1.5, "functional": "PBE"}
    np.testing.assert_allclose(first.positions, crystal.positions, atol=1e-12)
    np.testing.assert_array_equal(first.cell, crystal.cell)
    for name in ("electronic", "total"):
        np.testing.assert_array_equal(first.targets[name], crystal.targets[name])
    np.testing.assert_array_equal(first.born_charges, full.born_charges)
    np.testing.assert_array_equal(first.force_constants, full.force_constants)
    assert second.targets == {}
    np.testing.assert_array_equal(second.diagonals["electronic"], np.diag(tensor))
    assert second.means == {"ionic": 3.5}
