# SPDX-License-Identifier: MIT
"""Calibrate the error bars of the bundled model's means on the validation crystals that its members have in common.

Nothing is trained. config.json gets the factors `mean_error_scales`, training.json the factors and the share of test
crystals that they cover. The error bars of the tensors must come out as they are recorded.

Usage: python tools/calibrate_error_bars.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from dtnn_fast import DTNN
from dtnn_fast.crystals import Crystal
from dtnn_fast.datasets import clean, load_labelled, split
from dtnn_fast.nn.graph import batches_of_atoms
from dtnn_fast.training.member_predictions import MemberPredictions
from dtnn_fast.training.run_folder import data_digest

BUNDLED_FOLDER = Path(__file__).parents[1] / "dtnn_fast" / "weights" / "dielectric"


def predict_parts(model: DTNN, record: dict[str, Any]) -> MemberPredictions:
    """Predict the test and validation crystals of the split that a model was trained on, by each member.

    Args:
        model: an ensemble whose members share a split of the bundled crystals.
        record: content of its training.json.

    Raises:
        ValueError: the bundled crystals are not those that the model was trained on.
    """
    crystals, _ = clean(load_labelled())
    if data_digest(crystals) != record["data"]["digest"]:
        raise ValueError("calibrate_error_bars: expected the crystals that the model was trained on, got others")
    parts = split([crystal.id for crystal in crystals], record["settings"]["seed"])
    chosen = [crystals[index] for index in (*parts.test, *parts.validation)]
    tensors = _predict_members(model, chosen)
    return MemberPredictions(
        ids=[crystal.id for crystal in chosen],
        parts=["test"] * len(parts.test) + ["validation"] * len(parts.validation),
        tensors=tensors,
        expected={target: np.array([crystal.targets[target] for crystal in chosen]) for target in tensors},
        unseen=np.ones((model.config.members, len(chosen)), dtype=bool),
    )


def _predict_members(model: DTNN, crystals: list[Crystal]) -> dict[str, np.ndarray]:
    tensors = {target: np.empty((model.config.members, len(crystals), 3, 3)) for target in model.targets}
    for batch in batches_of_atoms(crystals, 1024):
        for target, values in model.predict_members([crystals[index] for index in batch]).items():
            tensors[target][:, batch] = values
    return tensors


def _write(path: Path, content: dict[str, Any], indent: int) -> None:
    path.write_text(json.dumps(content, indent=indent) + "\n", encoding="utf-8")


def main() -> None:
    """Write the factors and their coverage into the bundled model's folder."""
    config = json.loads((BUNDLED_FOLDER / "config.json").read_text(encoding="utf-8"))
    record = json.loads((BUNDLED_FOLDER / "training.json").read_text(encoding="utf-8"))
    model = DTNN.from_pretrained("dielectric")
    bars = predict_parts(model, record).error_bars()
    for target, bar in bars.items():
        recorded = record["error_bars"][target]
        if not np.isclose(bar["scale"], recorded["scale"], rtol=1e-4):
            raise ValueError(f"{target}: expected the recorded factor {recorded['scale']}, got {bar['scale']}")
        recorded |= {name: bar[name] for name in ("mean_scale", "mean_test_coverage")}
        print(f"{target}: factor {bar['mean_scale']:.4g}, covers {100 * bar['mean_test_coverage']:.1f} % of the tests")
    config["mean_error_scales"] = [bars[target]["mean_scale"] for target in model.targets]
    _write(BUNDLED_FOLDER / "config.json", config, indent=2)
    _write(BUNDLED_FOLDER / "training.json", record, indent=1)


if __name__ == "__main__":
    main()
