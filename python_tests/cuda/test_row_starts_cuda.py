# SPDX-License-Identifier: MIT
"""The CUDA kernel that makes row pointers of sorted keys, run on the host, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from cuda_emulator import ORDERS, Emulator


@pytest.mark.parametrize(("num_keys", "num_rows"), [(0, 0), (0, 5), (1, 1), (1000, 37), (50, 2000), (700, 700)])
def test_row_starts(emulator: Emulator, num_keys: int, num_rows: int) -> None:
    keys = np.sort(np.random.default_rng(0).integers(0, max(num_rows, 1), num_keys))
    for order in ORDERS:
        for max_grid in (1, 2**31 - 1):
            emulator.configure(order, max_grid)
            row_ptr = np.full(num_rows + 2, -7)
            emulator.call("row_starts", keys, num_keys, row_ptr, num_rows)
            np.testing.assert_array_equal(row_ptr[:-1], np.searchsorted(keys, np.arange(num_rows + 1)))
            assert row_ptr[-1] == -7


def test_keys_out_of_range_write_no_row_that_is_not_there(emulator: Emulator) -> None:
    for bad in (2**63 - 1, -(2**63), 6, -1):
        row_ptr = np.full(10, -7)
        emulator.call("row_starts", np.array([0, bad, 3, bad]), 4, row_ptr[2:8], 5)
        assert (row_ptr[[0, 1, 8, 9]] == -7).all()
