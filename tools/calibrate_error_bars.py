# SPDX-License-Identifier: MIT
"""Calibrate the error bars of the bundled model by size, on the validation crystals that its members have in common.

Nothing is trained. Prints the share of test crystals that the error bars cover, of all and of each third by predicted
mean: as the model is; newly calibrated; and over random halves of test and validation crystals together, of which one
half calibrates and the other is covered, by one factor for all crystals and by size. With --write, config.json gets the
new calibrations and training.json what they cover. `dtnn-fast train` and `dtnn-fast ensemble` calibrate by size
themselves: only a model from earlier needs this.

Usage: python tools/calibrate_error_bars.py [--write]
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from dtnn_fast import DTNN
from dtnn_fast.crystals import Crystal
from dtnn_fast.datasets import clean, load_labelled, split
from dtnn_fast.model.decoder import BOUNDS
from dtnn_fast.model.dtnn import FORMAT
from dtnn_fast.model.error_calibration import ErrorCalibration
from dtnn_fast.model.predictor import without_forbidden_ionic_parts
from dtnn_fast.nn.graph import crystal_batches
from dtnn_fast.nn.saved_folder import CONFIG_FILE, write_settings
from dtnn_fast.training.error_bars import LEVEL, Quantity, calibrate, coverage, mean_and_spread
from dtnn_fast.training.member_predictions import ErrorBars, MemberPredictions
from dtnn_fast.training.metrics import crystal_errors
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
    for batch in crystal_batches(crystals, 1024):
        chosen = [crystals[index] for index in batch]
        for target, values in without_forbidden_ionic_parts(chosen, model.predict_members(chosen)).items():
            tensors[target][:, batch] = values
    return tensors


def _print(title: str, judged: dict[str, dict[str, Any]]) -> None:
    for target, bars in judged.items():
        for name, prefix in (("tensor", ""), ("mean", "mean_")):
            thirds = ", ".join(f"{100 * share:.0f}" for share in bars[f"{prefix}test_coverage_by_third"])
            print(f"{title}: {target} {name}: {100 * bars[f'{prefix}test_coverage']:.0f} %, thirds {thirds} %")


def _print_halves(predictions: MemberPredictions, repeats: int = 200) -> None:
    numbers = np.random.default_rng(0)
    for target, tensors in predictions.tensors.items():
        expected = predictions.expected[target]
        for quantity in Quantity:
            shares: dict[str, list[list[float]]] = {"one factor": [], "by size": []}
            for _ in range(repeats):
                order = numbers.permutation(len(expected))
                first, second = np.array_split(order, 2)
                known = tensors[:, first], expected[first]
                made = calibrate(*known, quantity=quantity, vacuum=BOUNDS[target])
                for title, calibration in (("one factor", _one_factor(*known, quantity)), ("by size", made)):
                    covered = coverage(tensors[:, second], expected[second], calibration, quantity)
                    shares[title].append([100 * (share or 0.0) for share in (covered.share, *covered.by_third)])
            for title, rows in shares.items():
                share, *thirds = (f"{value:.0f}" for value in np.mean(rows, 0))
                print(f"{title}, {repeats} halves: {target} {quantity}: {share} %, thirds {', '.join(thirds)} %")


def _one_factor(members: np.ndarray, expected: np.ndarray, quantity: Quantity) -> ErrorCalibration:
    """Calibrate the spread by one factor for all crystals, as version 0.1.0 did."""
    average, spreads = mean_and_spread(members, np.ones(members.shape[:2], dtype=bool), quantity)
    metric = {Quantity.tensor: "mae_ten", Quantity.mean: "mae_mean_diag"}[quantity]
    ratios = np.sort(crystal_errors(average, expected)[metric] / spreads)
    return ErrorCalibration.plain(float(ratios[int(np.ceil(LEVEL * (len(ratios) + 1))) - 1]))


def main() -> None:
    """Print the coverage, and write the calibrations into the bundled model's folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="change config.json and training.json")
    arguments = parser.parse_args()
    record = json.loads((BUNDLED_FOLDER / "training.json").read_text(encoding="utf-8"))
    model = DTNN.from_pretrained("dielectric")
    predictions = predict_parts(model, record)
    as_it_is = zip(model.targets, model.tensor_calibrations, model.mean_calibrations, strict=True)
    _print("as it is", predictions.judge({target: ErrorBars(tensor, mean) for target, tensor, mean in as_it_is}))
    bars = predictions.error_bars()
    judged = predictions.judge(bars)
    _print("by size", judged)
    _print_halves(predictions)
    if arguments.write:
        config = replace(
            model.config,
            error_scales=(),
            mean_error_scales=(),
            tensor_calibrations=tuple(bars[target].tensor for target in model.targets),
            mean_calibrations=tuple(bars[target].mean for target in model.targets),
        )
        write_settings(BUNDLED_FOLDER / CONFIG_FILE, FORMAT, config.to_json())
        record["error_bars"] = judged
        (BUNDLED_FOLDER / "training.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
