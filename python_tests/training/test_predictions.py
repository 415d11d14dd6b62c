# SPDX-License-Identifier: MIT
"""Predictions files come back as they were written, and nothing else is taken for one."""

from __future__ import annotations

import numpy as np
import pytest

from dtnn_fast.errors import BadFileError
from dtnn_fast.training.run_folder import RunPredictions, load_predictions, save_predictions


def make(count: int = 4) -> RunPredictions:
    rng = np.random.default_rng(0)
    tensors = {name: rng.normal(size=(count, 3, 3)) for name in ("electronic", "total")}
    parts = ["train", "test", "validation", "test"][:count]
    return RunPredictions([f"mp-{k}" for k in range(count)], parts, tensors, {k: v + 1 for k, v in tensors.items()})


def test_what_is_saved_comes_back(tmp_path):
    made = make()
    save_predictions(tmp_path / "predictions.npz", made)
    read = load_predictions(tmp_path / "predictions.npz")
    assert (read.ids, read.parts) == (made.ids, made.parts)
    for target in ("electronic", "total"):
        np.testing.assert_array_equal(read.predicted[target], made.predicted[target])
        np.testing.assert_array_equal(read.expected[target], made.expected[target])


def test_one_part():
    test = make().select_part("test")
    assert test.ids == ["mp-1", "mp-3"]
    np.testing.assert_array_equal(test.predicted["total"], make().predicted["total"][[1, 3]])


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04broken", b"no archive"])
def test_other_files_are_refused(tmp_path, content):
    path = tmp_path / "predictions.npz"
    path.write_bytes(content)
    with pytest.raises(BadFileError, match="not the predictions of a run"):
        load_predictions(path)


def test_a_missing_array_is_named(tmp_path):
    np.savez(tmp_path / "predictions.npz", ids=np.array(["a"]))
    with pytest.raises(BadFileError, match="parts"):
        load_predictions(tmp_path / "predictions.npz")


def test_what_does_not_fit_is_refused():
    made = make()
    with pytest.raises(ValueError, match="parts"):
        RunPredictions(made.ids, ["train"] * 3, made.predicted, made.expected)
    with pytest.raises(ValueError, match="same targets"):
        RunPredictions(made.ids, made.parts, made.predicted, {"total": made.expected["total"]})
    bad = {**made.predicted, "total": np.full((4, 3, 3), np.nan)}
    with pytest.raises(ValueError, match="finite total tensors"):
        RunPredictions(made.ids, made.parts, bad, made.expected)
