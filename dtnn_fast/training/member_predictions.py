# SPDX-License-Identifier: MIT
"""Predictions of the members of an ensemble, side by side: their mean, their spread, and error bars made of it."""

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
    RUN_RECORD_FILE,
    RunPredictions,
    errors_of_parts,
    save_predictions,
)

# Share of crystals whose error the error bars shall cover.
LEVEL = 0.9
# With fewer crystals, ceil(level (n + 1)) would be more than all of them, so error bars could not be scaled.
FEWEST_CRYSTALS = 9


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

    def error_bars(self) -> dict[str, dict[str, float]]:
        """Scale error bars on crystals that at least two members were not trained on; judge them on the test crystals.

        Returns:
            For each target the intended share of covered crystals "level", the factor from spread to error bar "scale",
            and the share of covered test crystals "test_coverage". Empty with fewer than `FEWEST_CRYSTALS` such
            crystals.

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
            "error_bars": bars,
            **errors_of_parts(mean, systems),
        }
        # Last, since this file says that the run is whole.
        (folder / RESULTS_FILE).write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
        return results


def mean_and_spread(members: np.ndarray, unseen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Average the members that were not trained on a crystal, and estimate the spread that all members would have.

    The variance of the m members that count, out of M, is multiplied by ``m (M - 1) / ((m - 1) M)``, which gives the
    variance that is expected of M members.

    Args:
        members: tensors of each member. [M, B, 3, 3].
        unseen: whether a member was not trained on a crystal; at least two members for each crystal. [M, B], bool.

    Returns:
        The mean [B, 3, 3] and the spread [B].
    """
    count = unseen.sum(0)
    weights = unseen / count
    mean = np.einsum("mb,mbij->bij", weights, members)
    # Members that do not count are replaced by the mean, which adds nothing to the variance.
    kept = np.where(unseen[:, :, None, None], members, mean)
    # A single member has no spread.
    return mean, spread(kept) * np.sqrt((len(members) - 1) / np.maximum(count - 1, 1))


def error_scale(
    members: np.ndarray, expected: np.ndarray, level: float = LEVEL, unseen: np.ndarray | None = None
) -> float:
    """Compute the factor by which the spread of an ensemble covers its errors on a share of the crystals.

    It is the smallest c with |error| <= c spread for ceil(level (n + 1)) of the n crystals: split conformal prediction
    (A. N. Angelopoulos and S. Bates, arXiv 2107.07511), where the error is the MAE_ten of a crystal. For a crystal that
    some members were trained on, only the other members are averaged. Their error is larger than that of all members,
    so the factor is on the safe side.

    Args:
        members: tensors of each member. [members, B, 3, 3].
        expected: [B, 3, 3].
        level: share of crystals to cover, between 0 and 1.
        unseen: whether a member was not trained on a crystal, at least two members for each crystal; None where no
            member was trained on any. [members, B], bool.

    Returns:
        The factor.

    Raises:
        ValueError: there are too few crystals for this level, or the members do not differ.
    """
    if unseen is None:
        unseen = np.ones(members.shape[:2], dtype=bool)
    mean, spreads = mean_and_spread(members, unseen)
    errors = crystal_errors(mean, expected)["mae_ten"]
    num_covered = int(np.ceil(level * (len(errors) + 1)))
    if num_covered > len(errors):
        raise ValueError(f"error_scale: expected more crystals for a level of {level}, got {len(errors)}")
    if not (spreads > 0).all():
        raise ValueError("error_scale: expected members that differ on every crystal, got equal ones")
    return float(np.sort(errors / spreads)[num_covered - 1])


def coverage(members: np.ndarray, expected: np.ndarray, scale: float) -> float:
    """Compute the share of crystals whose error is within the error bar; see `error_scale`."""
    errors = crystal_errors(members.mean(0), expected)["mae_ten"]
    return float((errors <= scale * spread(members)).mean())
