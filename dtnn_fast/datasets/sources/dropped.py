# SPDX-License-Identifier: MIT
"""The record of a row that did not make it into a packed set."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from ...crystals.rejected import Rejected
from ...replacing import replacing


class Why(StrEnum):
    """The kinds of reasons, in the order in which rows are judged."""

    ROW = "row cannot be read"
    NO_TENSOR = "no tensor"
    BAD_TENSOR = "tensor not of 3x3 finite numbers, or parts that do not add up"
    BAD_STRUCTURE = "structure cannot be read"
    DUPLICATE = "id occurs twice"
    UNUSABLE = "structure is not a crystal that can be computed"
    ELEMENT = "element unknown to the encoder"
    OUTSIDE = "total tensor outside of the range"
    SYMMETRY = "tensor without the symmetry of the crystal"


class Dropped(NamedTuple):
    """A row that was left out, and which kind of reason it was."""

    rejected: Rejected
    why: Why

    @classmethod
    def of(cls, why: Why, id: str, source: str, reason: str) -> Dropped:
        """Make the record from its parts; see `Rejected`."""
        return cls(Rejected(id, source, reason), why)


def count_dropped(dropped: Iterable[Dropped]) -> dict[str, int]:
    """How many rows were left out for each kind of reason, in the order of `Why`, without those of none."""
    counts = Counter(item.why for item in dropped)
    return {why.value: counts[why] for why in Why if counts[why]}


def write_dropped(path: Path, dropped: Iterable[Dropped]) -> None:
    """Write a CSV file with the columns id, source, why and reason; only these names when nothing was left out."""
    with replacing(path) as unfinished, unfinished.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "source", "why", "reason"])
        for rejected, why in dropped:
            writer.writerow([rejected.id, rejected.source, why.value, " ".join(rejected.reason.split())])
