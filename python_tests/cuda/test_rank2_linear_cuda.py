# SPDX-License-Identifier: MIT
"""The CUDA kernels of rank2_linear, forward and backward, run on the host, against the formulas in float64."""

from __future__ import annotations

import numpy as np
import pytest
from cuda_emulator import ORDERS, Emulator
from rank2_emulated import (
    BFLOAT16,
    FLOAT32,
    SHAPES,
    SUFFIX,
    TF32,
    assert_near,
    assert_same_bits_in_any_order,
    assert_same_bits_with_less_shared_memory,
    formulas_linear,
    linear,
    linear_backward,
    random_case,
)

NAMES = ("y", "norm", "grad_x", "grad_weight")
TOLERANCE = {np.float32: 5e-6, np.float64: 1e-14}


def forward_and_backward(emulator: Emulator, case, shift: bool = False, **options) -> list[np.ndarray]:
    y, norm = linear(emulator, case, shift=shift)
    return [y, norm, *linear_backward(emulator, case, y, norm, shift=shift, **options)]


@pytest.mark.parametrize("dtype", SUFFIX)
@pytest.mark.parametrize("shape", SHAPES)
def test_equals_formulas(emulator: Emulator, shape, dtype) -> None:
    for shift in (False, True):
        case = random_case(shape, dtype, shift)
        for with_grad_y in (True, False):
            found = forward_and_backward(emulator, case, shift, with_grad_y=with_grad_y)
            assert_near(found, formulas_linear(case, with_grad_y), NAMES, TOLERANCE[dtype])


@pytest.mark.parametrize("shape", SHAPES)
def test_sums_ascend_over_channels(emulator: Emulator, shape) -> None:
    """To the bit, so that a row's result cannot depend on its place or its batch."""
    case = random_case(shape, np.float32)
    expected = np.zeros((*shape[:2], shape[3]), np.float32)
    for c in range(shape[2]):
        expected += case.x[:, :, c, None] * case.weight[None, None, :, c]
    np.testing.assert_array_equal(linear(emulator, case)[0], expected)


@pytest.mark.parametrize("dtype", SUFFIX)
@pytest.mark.parametrize("shape", [(70, 3, 32, 32), (400, 3, 40, 20), (33, 6, 150, 130)])
def test_bits_do_not_depend_on_the_order_of_threads_or_the_grid(emulator: Emulator, shape, dtype) -> None:
    case = random_case(shape, dtype)
    assert_same_bits_in_any_order(emulator, lambda: forward_and_backward(emulator, case))


# 128 x 128 through the norm took 112 KiB, and the weight must still stay; at 150 x 130 it comes in parts.
@pytest.mark.parametrize("precision", [FLOAT32, TF32, BFLOAT16])
@pytest.mark.parametrize("dtype", SUFFIX)
@pytest.mark.parametrize("shape", [(9, 6, 128, 128), (20, 3, 150, 130), (300, 1, 96, 128), (40, 1, 200, 96)])
def test_99_kib_of_shared_memory_are_enough(emulator: Emulator, shape, dtype, precision: int) -> None:
    case = random_case(shape, dtype)
    exact = [formulas_linear(case)[name].astype(dtype) for name in ("y", "norm")]
    assert_same_bits_with_less_shared_memory(
        emulator, lambda: [*linear(emulator, case, precision), *linear_backward(emulator, case, *exact, precision)]
    )


@pytest.mark.parametrize("components", [1, 3, 6])
def test_nan_stays_in_its_atom(emulator: Emulator, components: int) -> None:
    """Rows share tiles and shared memory, but nothing else."""
    case = random_case((50, components, 20, 24), np.float32)
    clean = forward_and_backward(emulator, case)
    for array in (case.x, case.grad_y, case.grad_norm):
        array[17] = np.nan
    found = forward_and_backward(emulator, case)
    others = np.arange(50) != 17
    for array, wanted in zip(found[:3], clean[:3], strict=True):
        np.testing.assert_array_equal(array[others], wanted[others])
        assert np.isnan(array[17]).all()
    assert np.isnan(found[3]).all(), "the gradient of the weight sums over all atoms"


# Largest error over the largest number of the result, of random normal factors: what docs/kernels states.
@pytest.mark.parametrize(("precision", "least", "most"), [(TF32, 1e-5, 1e-3), (BFLOAT16, 1e-4, 1e-2)])
@pytest.mark.parametrize("shape", SHAPES)
def test_error_of_tensor_cores(emulator: Emulator, shape, precision: int, least: float, most: float) -> None:
    for shift in (False, True):
        case = random_case(shape, np.float32, shift)
        y, norm = linear(emulator, case, precision, shift)
        expected = formulas_linear(case)
        exact = [expected[name].astype(np.float32) for name in ("y", "norm")]
        found = [y, norm, *linear_backward(emulator, case, *exact, precision, shift=shift)]
        assert_near(found, expected, NAMES, most)
        if min(shape) >= 3:  # rounded indeed
            assert np.abs(y - expected["y"]).max() > least * np.abs(expected["y"]).max()


@pytest.mark.parametrize("precision", [TF32, BFLOAT16])
def test_tensor_cores_give_the_same_bits_in_any_order(emulator: Emulator, precision: int) -> None:
    case = random_case((40, 3, 40, 36), np.float32)
    exact = [formulas_linear(case)[name].astype(np.float32) for name in ("y", "norm")]
    results = []
    for order in ORDERS:
        emulator.configure(order, 2)
        forward = linear(emulator, case, precision)
        results.append([*forward, *linear_backward(emulator, case, *exact, precision)])
    for other in results[1:]:
        for found, wanted in zip(other, results[0], strict=True):
            np.testing.assert_array_equal(found, wanted)


def test_the_cpu_operation_agrees(emulator: Emulator) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("dtnn_fast.ops")
    case = random_case((60, 6, 32, 20), np.float64)
    x, weight = (torch.from_numpy(a).requires_grad_() for a in (case.x, case.weight))
    outputs = torch.ops.dtnn_fast.rank2_linear_norm(x, weight, 0.1)
    torch.autograd.backward(outputs, [torch.from_numpy(case.grad_y), torch.from_numpy(case.grad_norm)])
    expected = [t.detach().numpy() for t in (*outputs, x.grad, weight.grad)]
    for found, wanted in zip(forward_and_backward(emulator, case), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-12)
