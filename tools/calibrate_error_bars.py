# SPDX-License-Identifier: MIT
"""Calibrate the error bars of a model on chemical systems that a model trained in the same way never saw.

python tools/calibrate_error_bars.py runs/direct held_out.npz --sister runs/sister/model

A training calibrates error bars on its validation crystals: few, and most of them with relatives among the training
crystals. A screening meets others. --sister is a model of the same settings whose training left out the chemical
systems of held_out.npz. Its errors there set the bars of the model of the run, which learned these crystals. Labels
outside the range of training labels are left out.

The run's model/config.json and the `error_bars` of its results.json are changed. There, `held_out_coverage` is the
share of the held-out crystals within a bar that was calibrated on crystals of other chemical systems.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from fit_join import FOLDS, coverage, folds_by_system

from dtnn_fast.crystals.crystal import Crystal
from dtnn_fast.datasets.cleaning import TENSOR_RANGE
from dtnn_fast.evaluation.labelled import label_functional
from dtnn_fast.formats import read_packed
from dtnn_fast.model.decoder import BOUNDS
from dtnn_fast.model.error_calibration import ErrorCalibration
from dtnn_fast.model.load_predictor import load_predictor
from dtnn_fast.model.predictor import Predictor, mean_permittivity
from dtnn_fast.training.error_bars import Quantity, calibrate, mean_and_spread
from dtnn_fast.training.member_predictions import ErrorBars, MemberPredictions
from dtnn_fast.training.metrics import crystal_errors
from dtnn_fast.training.run_folder import MEMBERS_FOLDER, MODEL_FOLDER, PREDICTIONS_FILE, RESULTS_FILE, load_predictions

_BATCH = 64
_ERROR = {Quantity.tensor: "mae_ten", Quantity.mean: "mae_mean_diag"}


def predict_members(sister: Predictor, crystals: Sequence[Crystal]) -> tuple[list[Crystal], dict[str, np.ndarray]]:
    """Predict crystals by each member, for the functional of their labels.

    Returns:
        The crystals in the order of the predictions, and the tensors by target. [members, n, 3, 3].
    """
    groups: dict[str, list[Crystal]] = {}
    for crystal in crystals:
        groups.setdefault(label_functional(crystal, sister), []).append(crystal)
    ordered: list[Crystal] = []
    parts: dict[str, list[np.ndarray]] = {target: [] for target in sister.targets}
    for functional, group in groups.items():
        model = sister.with_functional(functional)
        ordered += group
        for start in range(0, len(group), _BATCH):
            for target, tensors in model.predict_members(group[start : start + _BATCH]).items():
                parts[target].append(tensors)
    return ordered, {target: np.concatenate(tensors, axis=1) for target, tensors in parts.items()}


def calibrate_target(
    members: np.ndarray, expected: np.ndarray, folds: np.ndarray, quantity: Quantity, vacuum: float
) -> tuple[ErrorCalibration, list[float]]:
    """Calibrate one kind of bars.

    Returns:
        The calibration by all crystals, and the shares of them that are within bars calibrated on the other folds: of
        all, and of each third by predicted mean.
    """
    average, spreads = mean_and_spread(members, np.ones(members.shape[:2], dtype=bool), quantity)
    means = mean_permittivity(average)
    bars = np.zeros(len(means))
    for fold in range(FOLDS):
        inside = folds == fold
        made = calibrate(members[:, ~inside], expected[~inside], quantity=quantity, vacuum=vacuum)
        bars[inside] = made.bars(spreads[inside], means[inside])
    shares = coverage(crystal_errors(average, expected)[_ERROR[quantity]], bars, means)
    return calibrate(members, expected, quantity=quantity, vacuum=vacuum), shares


def calibrate_run(run: Path, sister: Predictor, crystals: Sequence[Crystal]) -> dict[str, Any]:
    """Calibrate the model of a run; returns the `error_bars` of its results.json."""
    config_path, results_path = run / MODEL_FOLDER / "config.json", run / RESULTS_FILE
    config, results = (json.loads(path.read_text(encoding="utf-8")) for path in (config_path, results_path))
    if config["targets"] != list(sister.targets):
        raise SystemExit(f"{run}: expected a model of {list(sister.targets)}, as the sister, got {config['targets']}")
    known = set(sister.elements)  # empty for all
    readable = [one for one in crystals if not known or known.issuperset(one.atomic_numbers.tolist())]
    usable = [one for one in readable if one.targets]
    if not usable:
        raise SystemExit("expected held-out crystals with tensors, of elements that the sister knows, got none")
    ordered, tensors = predict_members(sister, usable)
    folds = folds_by_system(ordered)
    low, high = TENSOR_RANGE
    bars: dict[str, ErrorBars] = {}
    held_out: dict[str, dict[str, Any]] = {}
    for target, members in tensors.items():
        labels = [crystal.targets.get(target) for crystal in ordered]
        rows = [row for row, one in enumerate(labels) if one is not None and low <= one.min() and one.max() <= high]
        expected = np.array([labels[row] for row in rows])
        made = {}
        held_out[target] = {"calibrated_on": len(rows)}
        for quantity, prefix in ((Quantity.tensor, ""), (Quantity.mean, "mean_")):
            made[quantity], shares = calibrate_target(members[:, rows], expected, folds[rows], quantity, BOUNDS[target])
            held_out[target][f"{prefix}held_out_coverage"] = shares[0]
            held_out[target][f"{prefix}held_out_coverage_by_third"] = shares[1:]
        bars[target] = ErrorBars(made[Quantity.tensor], made[Quantity.mean])
    own = sorted((run / MEMBERS_FOLDER).glob(f"*/{PREDICTIONS_FILE}"), key=lambda path: int(path.parent.name))
    judged = MemberPredictions.stack([load_predictions(path) for path in own]).judge(bars)
    error_bars = {target: {**judged[target], **held_out[target]} for target in judged}
    results["error_bars"] = error_bars
    config["tensor_calibrations"] = [bars[target].tensor.to_json() for target in config["targets"]]
    config["mean_calibrations"] = [bars[target].mean.to_json() for target in config["targets"]]
    for path, content in ((config_path, config), (results_path, results)):
        path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return error_bars


def main() -> None:
    """Read, calibrate, write, and tell the coverage."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="folder of a training, whose model gets the bars")
    parser.add_argument("held_out", type=Path, help="packed set of labelled crystals that the sister never saw")
    parser.add_argument("--sister", required=True, help="model of the same training without these chemical systems")
    given = parser.parse_args()
    crystals = [one for one in read_packed(given.held_out).items if isinstance(one, Crystal)]
    for target, bars in calibrate_run(given.run, load_predictor(given.sister), crystals).items():
        for prefix, name in (("mean_", "mean"), ("", "tensor")):
            share, thirds = (bars[f"{prefix}held_out_coverage{end}"] for end in ("", "_by_third"))
            parts = ", ".join(f"{part:.0%}" for part in thirds)
            print(
                f"{target}, {name}: {share:.0%} of {bars['calibrated_on']} held-out crystals within the bar ({parts}), "
                f"{bars[f'{prefix}test_coverage']:.0%} of the test crystals"
            )


if __name__ == "__main__":
    main()
