# SPDX-License-Identifier: MIT
"""The rules for keeping each label of a crystal by itself: one wrong tensor does not cost the crystal its others.

`cleaning.select_crystals` keeps or drops whole crystals, by the paper's rule for the total tensor.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from enum import StrEnum
from typing import Any, NamedTuple

import numpy as np

from ..crystals.crystal import Crystal
from ..symmetry import crystal_system_of_group, find_symmetry, symmetry_violation
from .cleaning import LARGEST_VIOLATION, SelectedCrystals, check_row
from .sources.source import DroppedRow, DropReason


class LabelFault(StrEnum):
    """Reasons for dropping a label."""

    BELOW_VACUUM = "electronic or total tensor with a principal value below 1"
    TOO_LARGE = "tensor with an element above the largest that is kept"
    UNSTABLE = "ionic tensor with a negative principal value: the crystal is at no minimum of its energy"
    WRONG_SYMMETRY = "tensor without the symmetry of the crystal"
    WRONG_FRAME = "diagonal without the symmetry of the crystal: its mean is kept"
    SUM_RULE = "Born charges that do not sum to zero"


class DroppedLabel(NamedTuple):
    """A label that was dropped.

    Args:
        label: "electronic", "ionic", "total" or "born_charges".
        fault: the reason that it is counted under.
        explanation: what was found, in words.
    """

    label: str
    fault: LabelFault
    explanation: str


class LabelRules(NamedTuple):
    """Rules for keeping labels.

    Args:
        largest_electronic: largest element of an electronic tensor. More is a vanishing gap, where the k-points decide,
            or a failed calculation.
        largest_ionic: largest element of an ionic tensor. More is a phonon of nearly no frequency.
        largest_negative: how far below zero a principal value of an ionic tensor may be, for rounding.
        largest_violation: largest change of a tensor by its average over the point group, relative to its largest
            element.
        largest_sum: largest element of the sum of a crystal's Born charges, in e. What is left is subtracted.
    """

    largest_electronic: float = 60.0
    largest_ionic: float = 300.0
    largest_negative: float = 0.5
    largest_violation: float = LARGEST_VIOLATION
    largest_sum: float = 0.3

    def largest(self, label: str) -> float:
        """Give the largest element that is kept of a target's tensor."""
        parts = {"electronic": self.largest_electronic, "ionic": self.largest_ionic}
        return parts.get(label, sum(parts.values()))


def clean_labels(crystal: Crystal, rules: LabelRules | None = None) -> tuple[Crystal, list[DroppedLabel]]:
    """Drop the labels of a crystal that cannot be right.

    The total tensor is dropped with the electronic or the ionic one.

    Args:
        crystal: a crystal that passed `check_crystal`.
        rules: the rules; None for the defaults.

    Returns:
        The crystal with the labels that are kept, Born charges summing to zero, and space_group and crystal_system in
        `info` where they are found; and what was dropped.

    Raises:
        MissingPackageError: moyopy, which finds the symmetry, is not installed.
    """
    rules = rules or LabelRules()
    symmetry = find_symmetry(crystal)
    rotations = None if symmetry is None else symmetry.rotations
    info = dict(crystal.info)
    if symmetry is not None:
        info |= {
            "space_group": symmetry.space_group,
            "crystal_system": crystal_system_of_group(symmetry.space_group),
        }
    dropped: list[DroppedLabel] = []
    targets = dict(crystal.targets)
    for label in ("electronic", "ionic", "total"):
        fault = _tensor_fault(label, targets, rotations, rules)
        if fault is not None:
            dropped.append(fault)
            targets = {name: tensor for name, tensor in targets.items() if name not in (label, "total")}
    fields: dict[str, Any] = {"targets": targets, "info": info}
    fields |= _clean_diagonals(crystal.diagonals, crystal.means, rotations, rules, dropped)
    if crystal.born_charges is not None:
        total = np.abs(crystal.born_charges.sum(0)).max()
        if total > rules.largest_sum:
            explanation = f"their sum has an element of {total:.3g} e, at most {rules.largest_sum:g} is kept"
            dropped.append(DroppedLabel("born_charges", LabelFault.SUM_RULE, explanation))
            fields["born_charges"] = None
        else:
            fields["born_charges"] = crystal.born_charges - crystal.born_charges.mean(0)
    return replace(crystal, **fields), dropped


def select_partially_labelled(
    rows: Iterable[Crystal | DroppedRow], encoder: str = "native", rules: LabelRules | None = None
) -> SelectedCrystals:
    """Choose the crystals and labels of a data source that can be trained on.

    Args:
        rows: the rows of a source; any label is enough.
        encoder: a key of `ENCODER_ELEMENTS`; crystals with an element that it does not know are dropped.
        rules: the rules for labels; None for the defaults.

    Returns:
        The crystals with at least one label that is kept, with space_group and crystal_system in `info` where they are
        found; and the dropped rows, with one for each label that a kept crystal lost.

    Raises:
        MissingPackageError: moyopy, which finds the symmetry, is not installed.
    """
    kept: list[Crystal] = []
    dropped: list[DroppedRow] = []
    known_ids: set[str] = set()
    for row in rows:
        if isinstance(row, DroppedRow):
            dropped.append(row)
            continue
        fault = check_row(row, encoder, known_ids)
        if fault is not None:
            dropped.append(fault)
            continue
        crystal, lost = clean_labels(row, rules)
        why = DropReason.BAD_LABEL if crystal.has_label else DropReason.NO_TENSOR
        for label in lost:
            explanation = f"{label.label}: {label.fault.value}: {label.explanation}"
            dropped.append(DroppedRow.make(why, crystal.id, crystal.source, explanation))
        if crystal.has_label:
            known_ids.add(crystal.id)
            kept.append(crystal)
        elif not lost:
            dropped.append(DroppedRow.make(why, crystal.id, crystal.source, "no label is given"))
    return SelectedCrystals(kept, dropped)


def _tensor_fault(
    label: str, targets: Mapping[str, np.ndarray], rotations: np.ndarray | None, rules: LabelRules
) -> DroppedLabel | None:
    tensor = targets.get(label)
    if tensor is None:
        return None
    lowest, largest = float(np.linalg.eigvalsh(tensor)[0]), float(np.abs(tensor).max())
    if label != "ionic" and lowest < 1.0:
        return DroppedLabel(label, LabelFault.BELOW_VACUUM, f"its lowest principal value is {lowest:.4g}")
    if label == "ionic" and lowest < -rules.largest_negative:
        return DroppedLabel(label, LabelFault.UNSTABLE, f"its lowest principal value is {lowest:.4g}")
    limit = rules.largest(label)
    if largest > limit:
        return DroppedLabel(label, LabelFault.TOO_LARGE, f"its largest element is {largest:.4g}, above {limit:g}")
    violation = 0.0 if rotations is None else symmetry_violation(tensor, rotations)
    if violation > rules.largest_violation:
        explanation = f"the point group changes it by {violation:.2g} of its largest element"
        return DroppedLabel(label, LabelFault.WRONG_SYMMETRY, explanation)
    return None


def _clean_diagonals(
    diagonals: Mapping[str, np.ndarray],
    means: Mapping[str, float],
    rotations: np.ndarray | None,
    rules: LabelRules,
    dropped: list[DroppedLabel],
) -> dict[str, Any]:
    """Return the diagonals and means that are kept; a diagonal in a wrong frame gives its mean."""
    kept, kept_means = {}, dict(means)
    for label, diagonal in diagonals.items():
        limit = rules.largest(label)
        lowest = -rules.largest_negative if label == "ionic" else 1.0
        if diagonal.min() < lowest:
            fault = LabelFault.UNSTABLE if label == "ionic" else LabelFault.BELOW_VACUUM
            dropped.append(DroppedLabel(label, fault, f"its diagonal has an element of {diagonal.min():.4g}"))
        elif diagonal.max() > limit:
            explanation = f"its diagonal has an element of {diagonal.max():.4g}, above {limit:g}"
            dropped.append(DroppedLabel(label, LabelFault.TOO_LARGE, explanation))
        elif rotations is not None and _diagonal_violation(diagonal, rotations) > _DIAGONAL_VIOLATION:
            kept_means[label] = float(diagonal.mean())
            explanation = "the point group changes the diagonal, so it is in another frame"
            dropped.append(DroppedLabel(label, LabelFault.WRONG_FRAME, explanation))
        else:
            kept[label] = diagonal
    return {"diagonals": kept, "means": kept_means}


# Published diagonals have no off-diagonal elements to compare with: a frame that differs shows in the diagonal alone.
_DIAGONAL_VIOLATION = 0.02


def _diagonal_violation(diagonal: np.ndarray, rotations: np.ndarray) -> float:
    """Change of a diagonal by the average over a point group, relative to its largest element."""
    return float(symmetry_violation(np.diag(diagonal), rotations))
