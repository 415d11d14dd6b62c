# SPDX-License-Identifier: MIT
"""The cleaning rule for labelled crystals (paper, section on data)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from ..crystals.checks import check_crystal
from ..crystals.crystal import Crystal, Rejected
from ..crystals.elements import MAX_ATOMIC_NUMBER, symbol
from ..errors import BadCrystalError, MissingPackageError
from ..symmetry import crystal_system_of_group, find_symmetry, from_ieee_frame, symmetry_violation
from .sources.source import Dropped, Frame, Why

# Larger elements come from nearly unstable phonons or vanishing gaps, strongly negative ones from failed calculations.
TENSOR_RANGE = (-10.0, 100.0)


def clean(
    crystals: Iterable[Crystal], tensor_range: tuple[float, float] = TENSOR_RANGE
) -> tuple[list[Crystal], list[Rejected]]:
    """Keep the crystals whose total tensor lies within the range, element by element, limits included.

    Args:
        crystals: labelled crystals; those without a "total" target are rejected.
        tensor_range: smallest and largest element that is kept.

    Returns:
        The crystals that are kept, in order, and those that are not, with the reason.
    """
    low, high = tensor_range
    kept: list[Crystal] = []
    rejected: list[Rejected] = []
    for crystal in crystals:
        total = crystal.targets.get("total")
        if total is None:
            rejected.append(Rejected(crystal.id, crystal.source, 'no "total" dielectric tensor'))
        elif np.all((total >= low) & (total <= high)):
            kept.append(crystal)
        else:
            reason = (
                f"total dielectric tensor has elements from {total.min():g} to {total.max():g}, "
                f"outside [{low:g}, {high:g}]"
            )
            rejected.append(Rejected(crystal.id, crystal.source, reason))
    return kept, rejected


# SevenNet-0 and SevenNet-l3i5 were trained on MPtrj, the relaxations of the Materials Project (B. Deng et al., Nature
# Machine Intelligence 5, 1031, 2023): hydrogen to bismuth and actinium to plutonium, 89 elements. The tables in their
# checkpoints, in the package sevenn 0.13, say the same; a test compares them.
_MPTRJ = frozenset(range(1, 84)) | frozenset(range(89, 95))

ENCODER_ELEMENTS: dict[str, frozenset[int]] = {
    "native": frozenset(range(1, MAX_ATOMIC_NUMBER + 1)),
    "sevennet-0": _MPTRJ,
    "sevennet-l3i5": _MPTRJ,
}


def unknown_elements(atomic_numbers: list[int], encoder: str) -> list[str]:
    """Give the symbols of the elements that an encoder does not know, by atomic number.

    Args:
        atomic_numbers: 1 to 118.
        encoder: a key of `ENCODER_ELEMENTS`.
    """
    return [symbol(z) for z in sorted(set(atomic_numbers) - ENCODER_ELEMENTS[encoder])]


# One of the 955 bundled crystals, whose tensors are in the frame of the cell, violates its symmetry by more.
LARGEST_VIOLATION = 0.1


class Selection(NamedTuple):
    """How crystals are chosen.

    Args:
        encoder: a key of `encoder_elements.ENCODER_ELEMENTS`.
        frame: the frame of the tensors as the source gives them; those that are kept are in the frame of the cell.
        tensor_range: smallest and largest element of the total tensor that is kept, or None for all.
        check_symmetry: whether tensors that lack the symmetry of their crystal are dropped; needs spglib.
    """

    encoder: str = "native"
    frame: Frame = Frame.cell
    tensor_range: tuple[float, float] | None = TENSOR_RANGE
    check_symmetry: bool = True


class Selected(NamedTuple):
    """The crystals that are kept, in order, and the rows that are not."""

    kept: list[Crystal]
    dropped: list[Dropped]


def select(rows: Iterable[Crystal | Dropped], selection: Selection) -> Selected:
    """Choose the crystals of a packed set.

    Args:
        rows: what a source gave.
        selection: the rules.

    Returns:
        What is kept, with tensors in the frame of the cell and, with `check_symmetry`, space_group and crystal_system
        in `info`; and every other row with the first rule that it breaks.

    Raises:
        MissingPackageError: a rule needs an optional package.
    """
    kept: list[Crystal] = []
    dropped: list[Dropped] = []
    ids: set[str] = set()
    for row in rows:
        result = row if isinstance(row, Dropped) else _judge(row, selection, ids)
        if isinstance(result, Dropped):
            dropped.append(result)
        else:
            kept.append(result)
            ids.add(result.id)
    return Selected(kept, dropped)


def _judge(crystal: Crystal, selection: Selection, ids: set[str]) -> Crystal | Dropped:
    def drop(why: Why, reason: str) -> Dropped:
        return Dropped.of(why, crystal.id, crystal.source, reason)

    if crystal.id in ids:
        return drop(Why.DUPLICATE, "its id occurs twice, so it could be in training and test; the first one is kept")
    try:
        check_crystal(crystal)
    except BadCrystalError as error:
        return Dropped(Rejected.from_error(error, crystal.id, crystal.source), Why.UNUSABLE)
    unknown = unknown_elements(crystal.atomic_numbers.tolist(), selection.encoder)
    if unknown:
        return drop(Why.ELEMENT, f"the encoder {selection.encoder} does not know {', '.join(unknown)}")
    if selection.frame is Frame.ieee:
        try:
            crystal = replace(crystal, targets=from_ieee_frame(crystal, crystal.targets))
        except MissingPackageError:
            raise
        # spglib finds no symmetry, which pymatgen does not expect and so fails in one of these ways.
        except (ValueError, TypeError, AttributeError, IndexError, StopIteration) as error:
            return drop(Why.SYMMETRY, f"no IEEE frame can be found for the crystal: {error}")
    if selection.tensor_range is not None:
        outside = clean([crystal], selection.tensor_range)[1]
        if outside:
            return Dropped(outside[0], Why.OUTSIDE)
    return _with_symmetry(crystal) if selection.check_symmetry else crystal


def _with_symmetry(crystal: Crystal) -> Crystal | Dropped:
    symmetry = find_symmetry(crystal)
    if symmetry is None:
        return Dropped.of(
            Why.SYMMETRY, crystal.id, crystal.source, "spglib finds no symmetry to compare the tensor with"
        )
    violation = symmetry_violation(crystal.targets["total"], symmetry.rotations)
    if violation > LARGEST_VIOLATION:
        reason = (
            f"the total tensor violates the point group of space group {symmetry.space_group} by {violation:.2g} of "
            f"its largest element (kept up to {LARGEST_VIOLATION:g}): its frame may be another one than the structure's"
        )
        return Dropped.of(Why.SYMMETRY, crystal.id, crystal.source, reason)
    system = crystal_system_of_group(symmetry.space_group)
    return replace(crystal, info=crystal.info | {"space_group": symmetry.space_group, "crystal_system": system})
