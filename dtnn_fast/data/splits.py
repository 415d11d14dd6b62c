# SPDX-License-Identifier: MIT
"""The random splits into training, validation and test crystals that every reported figure uses."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np


class Split(NamedTuple):
    """Indices into the ids that were given. [n // 10], [n // 10] and the rest, int64."""

    test: np.ndarray
    validation: np.ndarray
    train: np.ndarray


def split(ids: Sequence[str], seed: int) -> Split:
    """Split crystals by id: a tenth for testing, a tenth for validation, the rest for training.

    The ids are sorted as strings and ``numpy.random.RandomState(seed).permutation(n)`` is taken of them; so the split
    does not depend on the order in which the crystals were read, and NumPy guarantees that stream for good.

    Args:
        ids: one unique name for each crystal. [n]
        seed: 0 to 4 for the five splits of the reported results.

    Returns:
        Indices into `ids`, in the order of the permutation.

    Raises:
        ValueError: an id occurs twice, which could put one crystal into both test and training.
    """
    order = np.array(sorted(range(len(ids)), key=lambda i: ids[i]), dtype=np.int64)
    for before, after in pairwise(order.tolist()):
        if ids[before] == ids[after]:
            raise ValueError(f"split: expected unique `ids`, got {ids[before]!r} at positions {before} and {after}")
    shuffled = order[np.random.RandomState(seed).permutation(len(ids))]
    tenth = len(ids) // 10
    return Split(shuffled[:tenth], shuffled[tenth : 2 * tenth], shuffled[2 * tenth :])
