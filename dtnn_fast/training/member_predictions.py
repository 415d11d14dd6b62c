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
from ..model.predictor import spread
from .metrics import crystal_errors
from .run_folder import (
    MEMBERS_FOLDER,
    PREDICTIONS_FILE,
    RESULTS_FILE,
    SETTINGS_FILE,
    RunPredictions,
    errors_of_parts,
    save_predictions,
)

LEVEL = 0.9
# Fewer crystals cannot show that this part of them is covered: ceil(level (n + 1)) of n would be more than all.
FEWEST_CRYSTALS = 9


def mean_and_spread(members: np.ndarray, unseen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean of the members that were not trained on a crystal, and the spread that all members would have.

    The variance of the m members that count, out of M, is multiplied by ``m (M - 1) / ((m - 1) M)``, which makes it
    what that of M members is expected to be.

    Args:
        members: tensors of each member. [M, B, 3, 3].
        unseen: which members were not trained on a crystal, at least two for each. [M, B], bool.

    Returns:
        [B, 3, 3] and [B].
    """
    count = unseen.sum(0)
    weights = unseen / count
    mean = np.einsum("mb,mbij->bij", weights, members)
    # Members that do not count are put where they add nothing.
    kept = np.where(unseen[:, :, None, None], members, mean)
    # A single member has no spread.
    return mean, spread(kept) * np.sqrt((len(members) - 1) / np.maximum(count - 1, 1))


def error_scale(
    members: np.ndarray, expected: np.ndarray, level: float = LEVEL, unseen: np.ndarray | None = None
) -> float:
    """The factor with which the spread of an ensemble covers its errors on a share of the crystals.

    The smallest c with |error| <= c spread for ceil(level (n + 1)) of the n crystals: split conformal prediction
    (A. N. Angelopoulos and S. Bates, arXiv 2107.07511), with a crystal's MAE_ten for its error. Where some members were
    trained on a crystal, the others stand for all, whose error is smaller: the factor is then on the safe side.

    Args:
        members: tensors of each member. [members, B, 3, 3].
        expected: [B, 3, 3].
        level: share of crystals to cover, between 0 and 1.
        unseen: which members were not trained on a crystal, at least two for each; None for all. [members, B], bool.

    Returns:
        The factor.

    Raises:
        ValueError: there are too few crystals for this level, or the members do not differ.
    """
    everywhere = np.ones(members.shape[:2], dtype=bool) if unseen is None else unseen
    mean, spreads = mean_and_spread(members, everywhere)
    errors = crystal_errors(mean, expected)["mae_ten"]
    place = int(np.ceil(level * (len(errors) + 1)))
    if place > len(errors):
        raise ValueError(f"error_scale: expected more crystals for a level of {level}, got {len(errors)}")
    if not (spreads > 0).all():
        raise ValueError("error_scale: expected members that differ on every crystal, got equal ones")
    return float(np.sort(errors / spreads)[place - 1])


def coverage(members: np.ndarray, expected: np.ndarray, scale: float) -> float:
    """The share of crystals whose error is within the error bar; see `error_scale`."""
    errors = crystal_errors(members.mean(0), expected)["mae_ten"]
    return float((errors <= scale * spread(members)).mean())


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
    def of(cls, predictions: Sequence[RunPredictions]) -> Members:
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
            if places.keys() != set(those.ids) or tested != set(those.select_part("test").ids):
                raise DTNNError("ensemble: expected members with the same crystals and the same test crystals")
            order = np.argsort([places[id] for id in those.ids])
            unseen[member] = (np.asarray(those.parts) != "train")[order]
            for target, values in those.predicted.items():
                tensors[target].append(values[order])
        stacked = {target: np.stack(values) for target, values in tensors.items()}
        return cls(first.ids, first.parts, stacked, first.expected, unseen)

    def of_member(self, member: int) -> RunPredictions:
        """The predictions of one member, with its own parts, in the common order."""
        known = zip(self.parts, self.unseen[member], strict=True)
        parts = [part if part == "test" else "validation" if unseen else "train" for part, unseen in known]
        tensors = {target: values[member] for target, values in self.tensors.items()}
        return RunPredictions(self.ids, parts, tensors, self.expected)

    def mean(self) -> RunPredictions:
        """The mean for each crystal over the members that were not trained on it, or over all where there are none."""
        counted = np.where(self.unseen.any(0), self.unseen, True)
        weights = counted / counted.sum(0)
        means = {target: np.einsum("mb,mbij->bij", weights, values) for target, values in self.tensors.items()}
        return RunPredictions(self.ids, self.parts, means, self.expected)

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
