# SPDX-License-Identifier: MIT
"""The kernels' division by a multiplication, for all numbers that a unit of a row can have."""

from __future__ import annotations

import numpy as np
from cuda_emulator import Emulator

LARGEST = 2**31 - 1


def test_quotients(emulator: Emulator) -> None:
    rng = np.random.default_rng(0)
    powers = 2 ** np.arange(31)
    some = np.concatenate([powers, powers - 1, powers + 1, rng.integers(1, LARGEST, 500), rng.integers(1, 5000, 500)])
    for divisor in np.unique(some[(some >= 1) & (some <= LARGEST)]):
        # A wrong factor shows first where the remainder is the largest, or 0.
        multiples = divisor * np.unique(rng.integers(0, LARGEST // divisor + 1, 50))
        numbers = np.concatenate([multiples, multiples - 1, multiples + divisor - 1, [0, LARGEST, LARGEST - 1]])
        numbers = numbers[(numbers >= 0) & (numbers <= LARGEST)]
        quotients = np.empty_like(numbers)
        emulator.call("divisor", numbers, len(numbers), int(divisor), quotients)
        np.testing.assert_array_equal(quotients, numbers // divisor, f"by {divisor}")
