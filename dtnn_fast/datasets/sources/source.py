# SPDX-License-Identifier: MIT
"""What all sources of labelled crystals share: their description, their rows, and why a row is dropped.

A source yields one `Crystal` or `DroppedRow` for each row that it publishes; `labelled_crystal` makes either.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ...crystals.convert import to_crystal
from ...crystals.crystal import Crystal, Rejected, dielectric_targets
from ...errors import BadCrystalError
from ...files import replacing
from ...formats.json_structures import read_document


class TensorFrame(StrEnum):
    """The Cartesian frame of tensors: the frame of the crystal's cell, or the IEEE standard frame."""

    cell = "cell"
    ieee = "ieee"


# Key of `Crystal.info` where a source knows the frame of a row's own tensors; the frame of other rows is the source's.
FRAME_KEY = "tensor_frame"


class DataSource(NamedTuple):
    """A public source of labelled crystals.

    Args:
        name: as on the command line.
        title: title for people.
        frame: the frame of its tensors.
        licence: the licence that it is published under.
        cite: what to cite when its data are used.
    """

    name: str
    title: str
    frame: TensorFrame
    licence: str
    cite: tuple[str, ...]


class DropReason(StrEnum):
    """Reasons for dropping a row, in the order in which they are checked.

    Files hold the values, so they never change: the column "why" of the dropped rows, the counts of a packed set.
    """

    UNREADABLE_ROW = "row cannot be read"
    NO_TENSOR = "no tensor"
    BAD_TENSOR = "tensor not of 3x3 finite numbers, or parts that do not add up"
    BAD_STRUCTURE = "structure cannot be read"
    DUPLICATE_ID = "id occurs twice"
    UNUSABLE_CRYSTAL = "structure is not a crystal that can be computed"
    UNKNOWN_ELEMENT = "element unknown to the encoder"
    OUTSIDE_RANGE = "total tensor outside of the range"
    WRONG_SYMMETRY = "tensor without the symmetry of the crystal"
    BAD_LABEL = "a label of a crystal, whose other labels are kept"


class DroppedRow(NamedTuple):
    """A dropped row.

    Args:
        rejected: its name, its source and an explanation.
        drop_reason: the reason that it is counted under.
    """

    rejected: Rejected
    drop_reason: DropReason

    @classmethod
    def make(cls, drop_reason: DropReason, id: str, source: str, explanation: str) -> DroppedRow:
        """Build a dropped row whose `rejected` has this id, source and explanation."""
        return cls(Rejected(id, source, explanation), drop_reason)


def count_dropped(dropped: Iterable[DroppedRow]) -> dict[str, int]:
    """Count the rows for each reason, in the order of `DropReason`; reasons with no rows are left out."""
    counts = Counter(row.drop_reason for row in dropped)
    return {reason.value: counts[reason] for reason in DropReason if counts[reason]}


def write_dropped(path: Path, dropped: Iterable[DroppedRow]) -> None:
    """Write a CSV file with the columns id, source, why and reason; only the header when nothing was dropped."""
    with replacing(path) as unfinished, unfinished.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "source", "why", "reason"])
        for rejected, drop_reason in dropped:
            writer.writerow([rejected.id, rejected.source, drop_reason.value, " ".join(rejected.reason.split())])


class SourceRows(NamedTuple):
    """The rows of a source, and where they came from.

    Args:
        rows: for each row a crystal with its tensors in the source's frame, or that of `FRAME_KEY`; or the dropped row.
        provenance: version, query, and file or address.
    """

    rows: Iterable[Crystal | DroppedRow]
    provenance: dict[str, Any]


class PublishedTensors(NamedTuple):
    """The dielectric tensors of a row as published; None where missing. [3, 3] each"""

    electronic: Any = None
    ionic: Any = None
    total: Any = None


# Published tensors are rounded; a larger mismatch, relative to the largest element, is another calculation.
_LARGEST_MISMATCH = 0.01


def labelled_crystal(
    id: str, source: str, structure: Any, tensors: PublishedTensors, info: Mapping[str, Any] | None = None
) -> Crystal | DroppedRow:
    """Build a crystal with the three tensors, symmetrised.

    Args:
        id: a name that is unique in the data set.
        source: the data set, for messages.
        structure: a Crystal, a pymatgen Structure, or the dict of one.
        tensors: the total tensor, or two of the three.
        info: what else is known; values that are None are left out.

    Returns:
        The crystal, or the dropped row.
    """
    try:
        targets = _complete_targets(tensors)
    except BadCrystalError as error:
        return DroppedRow.make(DropReason.BAD_TENSOR, id, source, str(error))
    if "total" not in targets:
        return DroppedRow.make(DropReason.NO_TENSOR, id, source, _explain_missing(tensors))
    crystal = _read_structure(id, source, structure)
    if isinstance(crystal, Rejected):
        return DroppedRow(crystal, DropReason.BAD_STRUCTURE)
    known = {key: value for key, value in (info or {}).items() if value is not None}
    return replace(crystal, id=id, source=source, targets=targets, info=known)


def _complete_targets(tensors: PublishedTensors) -> dict[str, np.ndarray]:
    """Return all three tensors where at least two are given, checked by `dielectric_targets`."""
    electronic, ionic, total = tensors
    targets = dielectric_targets(electronic, total)
    if ionic is None:
        return targets
    given_ionic = _ionic_target(ionic)
    if electronic is None and total is None:
        return {"ionic": given_ionic}
    if total is None:
        return targets | {"ionic": given_ionic, "total": targets["electronic"] + given_ionic}
    if electronic is None:
        return targets | {"ionic": given_ionic, "electronic": targets["total"] - given_ionic}
    mismatch = np.abs(targets["ionic"] - given_ionic).max()
    if mismatch > _LARGEST_MISMATCH * np.abs(targets["total"]).max():
        raise BadCrystalError(
            f"the total tensor is not the electronic plus the ionic one: they differ by {mismatch:.3g}"
        )
    return targets


def _ionic_target(tensor: Any) -> np.ndarray:
    try:
        return dielectric_targets(total=tensor)["total"]
    except BadCrystalError as error:
        raise BadCrystalError(str(error).replace("total tensor", "ionic tensor")) from None


def _explain_missing(tensors: PublishedTensors) -> str:
    given = [name for name, tensor in zip(tensors._fields, tensors, strict=True) if tensor is not None]
    return f"only the {given[0]} tensor is given" if given else "no dielectric tensor is given"


def _read_structure(id: str, source: str, structure: Any) -> Crystal | Rejected:
    if structure is None:
        return Rejected(id, source, "no structure is given")
    if isinstance(structure, Mapping):
        return read_document(structure, id, source)
    try:
        return to_crystal(structure, id)
    except (BadCrystalError, TypeError) as error:
        return Rejected.from_error(error, id, source)
