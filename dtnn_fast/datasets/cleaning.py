# SPDX-License-Identifier: MIT
"""The rules for keeping a labelled crystal: tensor range (the paper's rule), known elements and symmetry.

`clean` applies the paper's rule alone; `select_crystals` applies all rules to the rows of a data source.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from ..crystals.checks import check_crystal
from ..crystals.crystal import Crystal, Rejected
from ..crystals.elements import MAX_ATOMIC_NUMBER, symbol
from ..errors import BadCrystalError, MissingPackageError
from ..symmetry import crystal_system_of_group, find_symmetry, from_ieee_frame, symmetry_violation
from .sources.source import FRAME_KEY, DroppedRow, DropReason, TensorFrame

# Larger elements come from nearly unstable phonons or vanishing gaps, strongly negative ones from failed calculations.
TENSOR_RANGE = (-10.0, 100.0)


def clean(
    crystals: Iterable[Crystal], tensor_range: tuple[float, float] = TENSOR_RANGE
) -> tuple[list[Crystal], list[Rejected]]:
    """Keep the crystals whose total tensor has all elements within a range, limits included (paper, section on data).

    Where the total tensor is unknown, all known tensors must be in the range.

    Args:
        crystals: labelled crystals; a crystal without any tensor is rejected.
        tensor_range: smallest and largest element that is kept.

    Returns:
        The crystals that are kept, in order, and the rejected ones with the reason.
    """
    low, high = tensor_range
    kept: list[Crystal] = []
    rejected: list[Rejected] = []
    for crystal in crystals:
        tensors = {"total": crystal.targets["total"]} if "total" in crystal.targets else crystal.targets
        outside = [name for name, tensor in tensors.items() if not np.all((tensor >= low) & (tensor <= high))]
        if not tensors:
            rejected.append(Rejected(crystal.id, crystal.source, 'no "total" dielectric tensor, and no other'))
        elif not outside:
            kept.append(crystal)
        else:
            tensor = tensors[outside[0]]
            reason = (
                f"{outside[0]} dielectric tensor has elements from {tensor.min():g} to {tensor.max():g}, "
                f"outside [{low:g}, {high:g}]"
            )
            rejected.append(Rejected(crystal.id, crystal.source, reason))
    return kept, rejected


# SevenNet-0 and SevenNet-l3i5 were trained on MPtrj, the relaxations of the Materials Project (B. Deng et al., Nature
# Machine Intelligence 5, 1031, 2023): hydrogen to bismuth and actinium to plutonium, 89 elements. The tables in their
# checkpoints, in the package sevenn 0.13, say the same; a test compares them.
_MPTRJ_ELEMENTS = frozenset(range(1, 84)) | frozenset(range(89, 95))

ENCODER_ELEMENTS: dict[str, frozenset[int]] = {
    "native": frozenset(range(1, MAX_ATOMIC_NUMBER + 1)),
    "sevennet-0": _MPTRJ_ELEMENTS,
    "sevennet-l3i5": _MPTRJ_ELEMENTS,
}


def unknown_elements(atomic_numbers: list[int], encoder: str) -> list[str]:
    """Return the symbols of the elements that an encoder does not know, by atomic number.

    Args:
        atomic_numbers: 1 to 118.
        encoder: a key of `ENCODER_ELEMENTS`.
    """
    return [symbol(z) for z in sorted(set(atomic_numbers) - ENCODER_ELEMENTS[encoder])]


# The bundled tensors are in the frame of the cell, and none of the 955 violates its symmetry by more than 0.05.
LARGEST_VIOLATION = 0.1


class SelectionRules(NamedTuple):
    """Rules for keeping the crystals of a data source.

    Args:
        encoder: a key of `ENCODER_ELEMENTS`; crystals with an element that it does not know are dropped.
        frame: the frame of the source's tensors where a row does not say its own (`FRAME_KEY`); kept tensors are always
            in the frame of the cell.
        tensor_range: smallest and largest element of the total tensor that is kept, or None for all.
        check_symmetry: whether tensors that lack the symmetry of their crystal are dropped; needs moyopy.
    """

    encoder: str = "native"
    frame: TensorFrame = TensorFrame.cell
    tensor_range: tuple[float, float] | None = TENSOR_RANGE
    check_symmetry: bool = True


class SelectedCrystals(NamedTuple):
    """The crystals that are kept, in order, and the rows that are dropped."""

    kept: list[Crystal]
    dropped: list[DroppedRow]


def select_crystals(rows: Iterable[Crystal | DroppedRow], rules: SelectionRules) -> SelectedCrystals:
    """Choose the crystals of a data source that can be trained on.

    Args:
        rows: the rows of a source.
        rules: the rules.

    Returns:
        The kept crystals, with tensors in the frame of the cell and, with `check_symmetry`, space_group and
        crystal_system in `info`; and every other row with the first rule that it breaks.

    Raises:
        MissingPackageError: a rule needs an optional package.
    """
    kept: list[Crystal] = []
    dropped: list[DroppedRow] = []
    known_ids: set[str] = set()
    for row in rows:
        result = row if isinstance(row, DroppedRow) else _apply_rules(row, rules, known_ids)
        if isinstance(result, DroppedRow):
            dropped.append(result)
        else:
            kept.append(result)
            known_ids.add(result.id)
    return SelectedCrystals(kept, dropped)


def check_row(crystal: Crystal, encoder: str, known_ids: Container[str]) -> DroppedRow | None:
    """Check what every source asks of a crystal: a new id, a sound structure, and elements that the encoder knows.

    Args:
        crystal: the crystal.
        encoder: a key of `ENCODER_ELEMENTS`.
        known_ids: ids of the crystals that were kept before.

    Returns:
        The dropped row, or None for a crystal that can be kept.
    """
    if crystal.id in known_ids:
        explanation = (
            "its id occurs more than once, so the crystal could be in both training and test; the first one is kept"
        )
        return DroppedRow.make(DropReason.DUPLICATE_ID, crystal.id, crystal.source, explanation)
    try:
        check_crystal(crystal)
    except BadCrystalError as error:
        return DroppedRow(Rejected.from_error(error, crystal.id, crystal.source), DropReason.UNUSABLE_CRYSTAL)
    unknown = unknown_elements(crystal.atomic_numbers.tolist(), encoder)
    if unknown:
        explanation = f"the encoder {encoder} does not know {', '.join(unknown)}"
        return DroppedRow.make(DropReason.UNKNOWN_ELEMENT, crystal.id, crystal.source, explanation)
    return None


def _apply_rules(crystal: Crystal, rules: SelectionRules, known_ids: set[str]) -> Crystal | DroppedRow:
    def drop(drop_reason: DropReason, explanation: str) -> DroppedRow:
        return DroppedRow.make(drop_reason, crystal.id, crystal.source, explanation)

    fault = check_row(crystal, rules.encoder, known_ids)
    if fault is not None:
        return fault
    if crystal.info.get(FRAME_KEY, rules.frame) == TensorFrame.ieee:
        try:
            crystal = replace(crystal, targets=from_ieee_frame(crystal, crystal.targets))
        except MissingPackageError:
            raise
        # Where pymatgen finds no symmetry, it fails with one of these errors.
        except (ValueError, TypeError, AttributeError, IndexError, StopIteration) as error:
            return drop(DropReason.WRONG_SYMMETRY, f"no IEEE frame can be found for the crystal: {error}")
    if rules.tensor_range is not None:
        outside = clean([crystal], rules.tensor_range)[1]
        if outside:
            return DroppedRow(outside[0], DropReason.OUTSIDE_RANGE)
    return _check_symmetry(crystal) if rules.check_symmetry else crystal


def _check_symmetry(crystal: Crystal) -> Crystal | DroppedRow:
    """Return the crystal with its symmetry in `info`, or drop it where its tensor lacks this symmetry."""

    def drop(explanation: str) -> DroppedRow:
        return DroppedRow.make(DropReason.WRONG_SYMMETRY, crystal.id, crystal.source, explanation)

    symmetry = find_symmetry(crystal)
    if symmetry is None:
        return drop("moyopy finds no symmetry to compare the tensor with")
    violation = symmetry_violation(crystal.targets["total"], symmetry.rotations)
    if violation > LARGEST_VIOLATION:
        return drop(
            f"the total tensor violates the point group of space group {symmetry.space_group} by {violation:.2g} of "
            f"its largest element (at most {LARGEST_VIOLATION:g} is kept): its frame may not be that of the structure"
        )
    system = crystal_system_of_group(symmetry.space_group)
    return replace(crystal, info=crystal.info | {"space_group": symmetry.space_group, "crystal_system": system})
