# SPDX-License-Identifier: MIT
"""The element table that atom scalars start from: half the occupation of each subshell, so a row sums to Z / 2."""

from __future__ import annotations

import torch
from torch import Tensor

NUM_ELEMENTS = 118
# Subshells in the order in which Madelung's rule fills them, and how many electrons each holds.
SUBSHELLS = (
    *("1s", "2s", "2p", "3s", "3p", "4s", "3d", "4p", "5s", "4d", "5p"),
    *("6s", "4f", "5d", "6p", "7s", "5f", "6d", "7p"),
)
_CAPACITY = {"s": 2, "p": 6, "d": 10, "f": 14}


def subshell_table(dtype: torch.dtype = torch.float32) -> Tensor:
    """Half the occupations of the subshells by Madelung's rule, one row per atomic number (row 0 is empty).

    The rule's exceptions (Cr, Cu and others move one or two electrons) are left out: the table tells elements apart
    and places them in their group and period, which is all that the encoder needs of it.

    Returns:
        The table; the entries for element Z sum to Z / 2. [119, 19].
    """
    table = torch.zeros(NUM_ELEMENTS + 1, len(SUBSHELLS), dtype=dtype)
    for number in range(1, NUM_ELEMENTS + 1):
        left = number
        for column, name in enumerate(SUBSHELLS):
            filled = min(left, _CAPACITY[name[-1]])
            table[number, column] = 0.5 * filled
            left -= filled
    return table
