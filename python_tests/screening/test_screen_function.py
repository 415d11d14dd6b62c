# SPDX-License-Identifier: MIT
"""dtnn_fast.screen: the table of the command, from files and from structures in memory."""

import json

import numpy as np
import pytest
import torch
from ase.build import bulk
from pyarrow import parquet

import dtnn_fast
from dtnn_fast import DTNN
from dtnn_fast.datasets.bundled import load_labelled
from dtnn_fast.encoders import Channels, NativeEncoderConfig
from dtnn_fast.errors import DTNNError
from dtnn_fast.model.decoder import DecoderConfig
from dtnn_fast.model.dtnn import TARGETS, DTNNConfig


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return DTNN(
        DTNNConfig(NativeEncoderConfig(channels=Channels(8, 4, 4)), decoder=DecoderConfig(latent=8), targets=TARGETS)
    )


def test_structures_in_memory(model):
    crystals = load_labelled()[:40]
    table = dtnn_fast.screen(crystals, model, by="total_mean")
    rows = {row["id"]: row for row in table.to_pylist()}
    expected = model.predict(crystals, "total")
    for crystal, tensor in zip(crystals, expected, strict=True):
        if crystal.id in rows:
            assert rows[crystal.id]["total_mean"] == pytest.approx(np.trace(tensor) / 3, abs=1e-3)
            assert rows[crystal.id]["band_gap"] == crystal.info["band_gap_ev"]
    values = table["total_mean"].to_pylist()
    assert values == sorted(values, reverse=True)
    assert table["rank"].to_pylist() == list(range(1, len(rows) + 1))
    assert len(rows) + int(table.schema.metadata[b"not_ranked"]) == 40


def test_one_structure_and_equal_names(model):
    assert dtnn_fast.screen(bulk("MgO", "rocksalt", 4.2), model)["formula"].to_pylist() == ["MgO"]
    twice = dtnn_fast.screen([bulk("MgO", "rocksalt", a) for a in (4.2, 4.6)], model)
    assert len(set(twice["id"].to_pylist())) == 2


def test_files_and_a_kept_folder(model, tmp_path):
    rows = [
        {
            "id": f"c{n}",
            "lattice_angstrom": (4.1 * np.eye(3)).tolist(),
            "atomic_numbers": [55, z],
            "frac_coords": [[0, 0, 0], [0.5, 0.5, 0.5]],
            "e_above_hull": 0.01 * n,
        }
        for n, z in enumerate((9, 17, 35))
    ]
    file = tmp_path / "many.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    table = dtnn_fast.screen(file, model, output=tmp_path / "out", where="e_above_hull < 0.015")
    assert set(table["id"].to_pylist()) == {"c0", "c1"}
    assert len(parquet.read_table(tmp_path / "out" / "part-000000-0000.parquet")) == 3
    again = dtnn_fast.screen([str(file)], model, output=tmp_path / "out")
    assert set(again["id"].to_pylist()) == {"c0", "c1", "c2"}


def test_nothing_usable(model, tmp_path):
    (tmp_path / "empty.cif").write_text("")
    with pytest.raises(DTNNError, match=r"empty\.cif: the file is empty"):
        dtnn_fast.screen(tmp_path / "empty.cif", model)
    with pytest.raises(DTNNError, match="no such file"):
        dtnn_fast.screen(str(tmp_path / "absent.cif"), model)
