# SPDX-License-Identifier: MIT
"""The predictions of the members of an ensemble, side by side."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DTNNError
from .error_bars import FEWEST_CRYSTALS, LEVEL, coverage, error_scale
from .predictions import PREDICTIONS_FILE, Predictions, save_predictions
from .results import errors_of_parts
from .run_folder import MEMBERS_FOLDER, RESULTS_FILE, SETTINGS_FILE


@dataclass(frozen=True)
class Members:
    """Predictions of several models for the same crystals.

    The members may have been trained on different crystals, but for those of the test part.

    Args:
        ids: of the crystals. [n].
        parts: "train", "validation" or "test" for each crystal, as the first member had them. [n].
        tensors: by target. [members, n, 3, 3].
        expected: by target. [n, 3, 3].
        unseen: which members were not trained on a crystal. [members, n], bool.
    """

    ids: Sequence[str]
    parts: Sequence[str]
    tensors: Mapping[str, np.ndarray]
    expected: Mapping[str, np.ndarray]
    unseen: np.ndarray

    @classmethod
    def of(cls, predictions: Sequence[Predictions]) -> Members:
        """Put predictions side by side, in the order of the first.

        Raises:
            DTNNError: they are of different crystals, test crystals or targets.
        """
        first = predictions[0]
        places = {id: place for place, id in enumerate(first.ids)}
        tested = {id for id, part in zip(first.ids, first.parts, strict=True) if part == "test"}
        tensors: dict[str, list[np.ndarray]] = {target: [] for target in first.predicted}
        unseen = np.zeros((len(predictions), len(places)), dtype=bool)
        for member, those in enumerate(predictions):
            if those.predicted.keys() != tensors.keys():
                raise DTNNError(f"ensemble: expected members of the same targets, got {list(those.predicted)}")
            if places.keys() != set(those.ids) or tested != set(those.of_part("test").ids):
                raise DTNNError("ensemble: expected members with the same crystals and the same test crystals")
            order = np.argsort([places[id] for id in those.ids])
            unseen[member] = (np.asarray(those.parts) != "train")[order]
            for target, values in those.predicted.items():
                tensors[target].append(values[order])
        stacked = {target: np.stack(values) for target, values in tensors.items()}
        return cls(first.ids, first.parts, stacked, first.expected, unseen)

    def of_member(self, member: int) -> Predictions:
        """The predictions of one member, with its own parts, in the common order."""
        known = zip(self.parts, self.unseen[member], strict=True)
        parts = [part if part == "test" else "validation" if unseen else "train" for part, unseen in known]
        tensors = {target: values[member] for target, values in self.tensors.items()}
        return Predictions(self.ids, parts, tensors, self.expected)

    def mean(self) -> Predictions:
        """The mean for each crystal over the members that were not trained on it, or over all where there are none."""
        counted = np.where(self.unseen.any(0), self.unseen, True)
        weights = counted / counted.sum(0)
        means = {target: np.einsum("mb,mbij->bij", weights, values) for target, values in self.tensors.items()}
        return Predictions(self.ids, self.parts, means, self.expected)

    def error_bars(self) -> dict[str, dict[str, float]]:
        """Scale error bars on the crystals for validation, and judge them on the test crystals.

        Returns:
            For each target the level that was aimed at, the factor of the spread, and the share of test crystals
            covered; nothing if two members or more share fewer than `FEWEST_CRYSTALS` that none of them was trained on.

        Raises:
            DTNNError: the members do not differ.
        """
        test = np.asarray(self.parts) == "test"
        chosen = (self.unseen.sum(0) >= 2) & ~test
        if chosen.sum() < FEWEST_CRYSTALS:
            return {}
        bars = {}
        for target, tensors in self.tensors.items():
            expected = self.expected[target]
            try:
                scale = error_scale(tensors[:, chosen], expected[chosen], unseen=self.unseen[:, chosen])
            except ValueError as error:
                raise DTNNError(f"ensemble: {target}: {error}") from error
            covered = coverage(tensors[:, test], expected[test], scale)
            bars[target] = {"level": LEVEL, "scale": scale, "test_coverage": covered}
        return bars

    def write(
        self,
        folder: Path,
        bars: Mapping[str, Mapping[str, float]],
        systems: Mapping[str, str],
        record: Mapping[str, Any],
    ) -> dict[str, Any]:
        """Write predictions.npz and results.json of the mean, and predictions of members without a run of their own.

        Args:
            folder: of the run.
            bars: what `error_bars` gave.
            systems: the crystal system of each crystal by its id.
            record: what results.json says besides.

        Returns:
            What results.json holds.
        """
        for member in range(len(self.unseen)):
            place = folder / MEMBERS_FOLDER / str(member)
            if not (place / SETTINGS_FILE).exists():
                place.mkdir(parents=True, exist_ok=True)
                save_predictions(place / PREDICTIONS_FILE, self.of_member(member))
        mean = self.mean()
        save_predictions(folder / PREDICTIONS_FILE, mean)
        results = {
            **record,
            "members": len(self.unseen),
            "error_bars": bars,
            **errors_of_parts(mean, systems),
        }
        # Last, since this file says that the run is whole.
        (folder / RESULTS_FILE).write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
        return results
