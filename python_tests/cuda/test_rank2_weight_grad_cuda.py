# SPDX-License-Identifier: MIT
"""The CUDA kernel of rank2_weight_grad, run on the host, where its sum is long; rank2_linear's tests do the rest."""

from __future__ import annotations

import numpy as np
import pytest
from cuda_emulator import NO_GRID_LIMIT, ORDERS, Emulator
from rank2_emulated import BFLOAT16, SUFFIX, TF32, random_case, weight_grad


# Many chunks of rows, a last chunk that is not full, several tiles.
@pytest.mark.parametrize("dtype", SUFFIX)
@pytest.mark.parametrize("shape", [(5000, 1, 3, 2), (1001, 6, 32, 32), (700, 3, 64, 40), (300, 3, 130, 140)])
def test_long_sums(emulator: Emulator, shape, dtype) -> None:
    case = random_case(shape, dtype)
    expected = np.einsum("nkd,nkc->dc", case.grad_y.astype(np.float64), case.x.astype(np.float64))
    results = []
    for order, max_grid in zip(ORDERS, (NO_GRID_LIMIT, 1, 5, NO_GRID_LIMIT), strict=True):
        emulator.configure(order, max_grid)
        results.append(weight_grad(emulator, case))
    tolerance = 1e-5 if dtype == np.float32 else 1e-14
    np.testing.assert_allclose(results[0], expected, rtol=0, atol=tolerance * np.abs(expected).max())
    for other in results[1:]:
        np.testing.assert_array_equal(other, results[0])


@pytest.mark.parametrize(("precision", "most"), [(TF32, 1e-3), (BFLOAT16, 1e-2)])
def test_error_of_tensor_cores(emulator: Emulator, precision: int, most: float) -> None:
    case = random_case((700, 3, 64, 40), np.float32)
    expected = np.einsum("nkd,nkc->dc", case.grad_y.astype(np.float64), case.x.astype(np.float64))
    error = np.abs(weight_grad(emulator, case, precision) - expected).max() / np.abs(expected).max()
    assert most / 100 < error < most


def test_no_atoms_give_zeros(emulator: Emulator) -> None:
    assert not weight_grad(emulator, random_case((0, 3, 4, 5), np.float32)).any()
