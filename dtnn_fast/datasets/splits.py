# SPDX-License-Identifier: MIT
"""The random splits into training, validation and test crystals that every reported figure uses."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

# Number of tenths that can be the validation set.
FOLDS = 9


class Split(NamedTuple):
    """Indices into the ids. [n // 10], [n // 10] and the rest, int64."""

    test: np.ndarray
    validation: np.ndarray
    train: np.ndarray


def split(ids: Sequence[str], seed: int, fold: int = 0) -> Split:
    """Split crystals by id: a tenth for testing, a tenth for validation, the rest for training.

    The ids are sorted as strings and permuted by ``numpy.random.RandomState(seed).permutation(n)``. So the split does
    not depend on the order in which the crystals were read, and NumPy guarantees never to change this stream.

    Args:
        ids: one unique name for each crystal. [n]
        seed: 0 to 4 for the five splits of the reported results.
        fold: index of the tenth for validation among the crystals that are not for testing, 0 to 8; the members of an
            ensemble may differ in it.

    Returns:
        Indices into `ids`, in the order of the permutation.

    Raises:
        ValueError: an id occurs twice, which could put a crystal into both test and training; or the fold is
            invalid.
    """
    order = np.array(sorted(range(len(ids)), key=lambda i: ids[i]), dtype=np.int64)
    for before, after in pairwise(order.tolist()):
        if ids[before] == ids[after]:
            raise ValueError(f"split: expected unique `ids`, got {ids[before]!r} at positions {before} and {after}")
    shuffled = order[np.random.RandomState(seed).permutation(len(ids))]
    if not 0 <= fold < FOLDS:
        raise ValueError(f"split: expected `fold` from 0 to {FOLDS - 1}, got {fold}")
    tenth = len(ids) // 10
    test, rest = shuffled[:tenth], shuffled[tenth:]
    start, end = fold * tenth, (fold + 1) * tenth
    return Split(test, rest[start:end], np.concatenate([rest[:start], rest[end:]]))
