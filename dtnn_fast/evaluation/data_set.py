# SPDX-License-Identifier: MIT
"""The data set that all compared runs must have used, and the check that a run did."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from ..crystals.crystal import Crystal
from ..crystals.rejected import Rejected
from ..datasets.splits import split
from ..errors import BadFileError
from ..training.train_run import PARTS, data_digest
from .runs import Run

# Predictions files may hold the expected tensors in single precision.
TENSOR_TOLERANCE = 1e-3


class DataSet:
    """Labelled crystals with what the tables need to know of them.

    Args:
        crystals: that runs are trained and tested on, cleaned, each with "crystal_system" in `info`.
    """

    def __init__(self, crystals: Sequence[Crystal]) -> None:
        self.crystals = {crystal.id: crystal for crystal in crystals}
        self.digest = data_digest(crystals)
        self._ids = list(self.crystals)
        self._parts: dict[int, dict[str, list[str]]] = {}

    def __len__(self) -> int:
        return len(self.crystals)

    def part(self, seed: int, part: str) -> list[str]:
        """The ids of the crystals of one part of a split."""
        if seed not in self._parts:
            indices = split(self._ids, seed)
            self._parts[seed] = {name: [self._ids[index] for index in getattr(indices, name)] for name in PARTS}
        return self._parts[seed][part]

    def tensors(self, ids: Sequence[str], target: str) -> np.ndarray:
        """The expected tensors of some crystals. [n, 3, 3]."""
        return np.array([self.crystals[id].targets[target] for id in ids]).reshape(-1, 3, 3)

    def systems(self, ids: Sequence[str]) -> list[str]:
        """Their crystal systems."""
        return [str(self.crystals[id].info.get("crystal_system") or "unknown") for id in ids]

    def elements(self, id: str) -> frozenset[int]:
        """The atomic numbers of a crystal."""
        return frozenset(self.crystals[id].atomic_numbers.tolist())

    def element_counts(self) -> Counter[int]:
        """How many crystals contain each element."""
        return Counter(z for id in self.crystals for z in self.elements(id))


def check_run(run: Run, data: DataSet) -> None:
    """See that a run was trained and tested on the crystals of its split, and on the tensors of the data set.

    Raises:
        BadFileError: it was not.
    """
    if run.digest != data.digest:
        raise BadFileError(
            f"{run.folder}: of another data set: its digest is {run.digest}, that of the {len(data)} crystals compared "
            f"here {data.digest}"
        )
    for part in PARTS:
        found, expected = run.predictions.of_part(part).ids, data.part(run.seed, part)
        if sorted(found) != sorted(expected):
            missing, more = len(set(expected) - set(found)), len(set(found) - set(expected))
            raise BadFileError(
                f"{run.folder}: its {part} crystals are not those of the split of seed {run.seed}: "
                f"{missing} are missing, {more} are others, of {len(expected)}"
            )
    ids = run.predictions.ids
    for target, tensors in run.predictions.expected.items():
        known = data.tensors(ids, target)
        same = np.isclose(tensors, known, rtol=TENSOR_TOLERANCE, atol=TENSOR_TOLERANCE).all((1, 2))
        if not same.all():
            first = ids[int(np.argmin(same))]
            raise BadFileError(f"{run.folder}: the {target} tensor that it expects of {first} is not the data set's")


def check_runs(runs: Sequence[Run], data: DataSet) -> tuple[list[Run], list[Rejected]]:
    """Keep the runs that pass `check_run`."""
    good, rejected = [], []
    for run in runs:
        try:
            check_run(run, data)
        except BadFileError as error:
            rejected.append(Rejected.because(error, run.folder.name, str(run.folder)))
        else:
            good.append(run)
    return good, rejected
