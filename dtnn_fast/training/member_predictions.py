# SPDX-License-Identifier: MIT
"""Predictions of the members of an ensemble, side by side: their mean, and the error bars that they give."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..errors import DTNNError
from ..model.decoder import BOUNDS
from ..model.error_calibration import ErrorCalibration
from .error_bars import FEWEST_CRYSTALS, LEVEL, Quantity, calibrate, coverage
from .run_folder import (
    MEMBERS_FOLDER,
    PREDICTIONS_FILE,
    RESULTS_FILE,
    RUN_RECORD_FILE,
    RunPredictions,
    errors_of_parts,
    save_predictions,
)


class ErrorBars(NamedTuple):
    """How the error bars of a target are made: that of the tensor and that of its mean."""

    tensor: ErrorCalibration
    mean: ErrorCalibration


@dataclass(frozen=True)
class MemberPredictions:
    """Predictions of the members of an ensemble for the same crystals.

    Members may have been trained on different crystals, but all have the same test crystals.

    Args:
        ids: ids of the crystals. [n].
        parts: "train", "validation" or "test" for each crystal, as in the split of the first member. [n].
        tensors: predicted tensors by target. [members, n, 3, 3].
        expected: known tensors by target. [n, 3, 3].
        unseen: whether a member was not trained on a crystal. [members, n], bool.
    """

    ids: Sequence[str]
    parts: Sequence[str]
    tensors: Mapping[str, np.ndarray]
    expected: Mapping[str, np.ndarray]
    unseen: np.ndarray

    @classmethod
    def stack(cls, predictions: Sequence[RunPredictions]) -> MemberPredictions:
        """Put the predictions of members side by side, with the crystals in the order of the first member.

        Raises:
            DTNNError: the predictions are of different crystals, test crystals or targets.
        """
        first = predictions[0]
        places = {id: place for place, id in enumerate(first.ids)}
        tested = {id for id, part in zip(first.ids, first.parts, strict=True) if part == "test"}
        tensors: dict[str, list[np.ndarray]] = {target: [] for target in first.predicted}
        unseen = np.zeros((len(predictions), len(places)), dtype=bool)
        for member, own in enumerate(predictions):
            if own.predicted.keys() != tensors.keys():
                raise DTNNError(f"ensemble: expected members of the same targets, got {list(own.predicted)}")
            if places.keys() != set(own.ids) or tested != set(own.select_part("test").ids):
                raise DTNNError("ensemble: expected members with the same crystals and the same test crystals")
            order = np.argsort([places[id] for id in own.ids])
            unseen[member] = (np.asarray(own.parts) != "train")[order]
            for target, values in own.predicted.items():
                tensors[target].append(values[order])
        stacked = {target: np.stack(values) for target, values in tensors.items()}
        return cls(first.ids, first.parts, stacked, first.expected, unseen)

    def of_member(self, member: int) -> RunPredictions:
        """Return the predictions of one member, with the parts of its own split, in the common order."""
        pairs = zip(self.parts, self.unseen[member], strict=True)
        parts = [part if part == "test" else "validation" if unseen else "train" for part, unseen in pairs]
        tensors = {target: values[member] for target, values in self.tensors.items()}
        return RunPredictions(self.ids, parts, tensors, self.expected)

    def mean(self) -> RunPredictions:
        """Average for each crystal the members that were not trained on it, or all members where all were."""
        counted = np.where(self.unseen.any(0), self.unseen, True)
        weights = counted / counted.sum(0)
        means = {target: np.einsum("mb,mbij->bij", weights, values) for target, values in self.tensors.items()}
        return RunPredictions(self.ids, self.parts, means, self.expected)

    def error_bars(self) -> dict[str, ErrorBars]:
        """Calibrate error bars on crystals that at least two members were not trained on.

        Returns:
            The error bars of each target; empty with fewer than `FEWEST_CRYSTALS` such crystals, or that many whose
            prediction is not exactly zero.

        Raises:
            DTNNError: the members do not differ.
        """
        test = np.asarray(self.parts) == "test"
        chosen = (self.unseen.sum(0) >= 2) & ~test
        counts = [(values[:, chosen] != 0).any((0, 2, 3)).sum() for values in self.tensors.values()]
        if min(counts) < FEWEST_CRYSTALS:
            return {}
        bars = {}
        for target, tensors in self.tensors.items():
            try:
                bars[target] = ErrorBars(
                    *(
                        calibrate(
                            tensors[:, chosen],
                            self.expected[target][chosen],
                            unseen=self.unseen[:, chosen],
                            quantity=quantity,
                            vacuum=BOUNDS[target],
                        )
                        for quantity in (Quantity.tensor, Quantity.mean)
                    )
                )
            except ValueError as error:
                raise DTNNError(f"ensemble: {target}: {error}") from error
        return bars

    def judge(self, bars: Mapping[str, ErrorBars]) -> dict[str, dict[str, Any]]:
        """Compute what results.json says about error bars: how they are made, and what they cover on the test crystals.

        Returns:
            For each target the intended share of covered crystals "level"; of the tensor the "calibration", the share
            of test crystals that its error bar covers "test_coverage", and that of each third by predicted mean
            "test_coverage_by_third"; of the mean the same names with "mean_" before.
        """
        test = np.asarray(self.parts) == "test"
        judged: dict[str, dict[str, Any]] = {}
        for target, own in bars.items():
            judged[target] = {"level": LEVEL}
            for quantity, prefix in ((Quantity.tensor, ""), (Quantity.mean, "mean_")):
                calibration: ErrorCalibration = getattr(own, quantity)
                covered = coverage(self.tensors[target][:, test], self.expected[target][test], calibration, quantity)
                judged[target][f"{prefix}calibration"] = calibration.to_json()
                judged[target][f"{prefix}test_coverage"] = covered.share
                judged[target][f"{prefix}test_coverage_by_third"] = list(covered.by_third)
        return judged

    def write(
        self,
        folder: Path,
        bars: Mapping[str, ErrorBars],
        systems: Mapping[str, str],
        record: Mapping[str, Any],
    ) -> dict[str, Any]:
        """Write predictions.npz and results.json of the mean, and predictions.npz of members without their own run.

        Args:
            folder: folder of the run.
            bars: what `error_bars` gave.
            systems: the crystal system of each crystal by its id.
            record: further entries of results.json.

        Returns:
            The content of results.json.
        """
        for member in range(len(self.unseen)):
            place = folder / MEMBERS_FOLDER / str(member)
            if not (place / RUN_RECORD_FILE).exists():
                place.mkdir(parents=True, exist_ok=True)
                save_predictions(place / PREDICTIONS_FILE, self.of_member(member))
        mean = self.mean()
        save_predictions(folder / PREDICTIONS_FILE, mean)
        results = {
            **record,
            "members": len(self.unseen),
            "error_bars": self.judge(bars),
            **errors_of_parts(mean, systems),
        }
        # Last, since this file says that the run is whole.
        (folder / RESULTS_FILE).write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
        return results
