# SPDX-License-Identifier: MIT
"""Symmetry operations of a crystal, as integers."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class SymmetryOperations(NamedTuple):
    """The operations of a space group in the cell of a crystal, modulo its lattice translations.

    An operation takes fractional positions f (columns) to W f + w. Its translation w follows from the atom that it
    takes the first atom to, so that all is integer and small. Whoever changes the cell or the order of the atoms drops
    the operations.

    Args:
        rotations: the matrices W. [G, 3, 3], int32
        images: atom that the first atom goes to. [G], int64
    """

    rotations: np.ndarray
    images: np.ndarray

    def __len__(self) -> int:
        """Number of operations, the identity included."""
        return len(self.images)

    @classmethod
    def identity(cls) -> SymmetryOperations:
        """Return the operations of a crystal without symmetry."""
        return cls(np.eye(3, dtype=np.int32)[None], np.zeros(1, dtype=np.int64))
