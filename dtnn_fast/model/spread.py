# SPDX-License-Identifier: MIT
"""How far the members of an ensemble lie apart."""

from __future__ import annotations

import numpy as np

# The six unique elements of a symmetric tensor, in the order xx yy zz yz xz xy.
ROWS, COLUMNS = (0, 1, 2, 1, 0, 0), (0, 1, 2, 2, 2, 1)


def spread(members: np.ndarray) -> np.ndarray:
    """The root mean square, over the six unique elements, of the members' standard deviation.

    Args:
        members: tensors of each member. [members, B, 3, 3].

    Returns:
        [B], 0 for a single member.
    """
    unique = members[:, :, ROWS, COLUMNS]
    result: np.ndarray = np.sqrt(np.square(unique - unique.mean(0)).mean((0, 2)))
    return result
