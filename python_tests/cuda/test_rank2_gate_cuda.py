# SPDX-License-Identifier: MIT
"""The CUDA kernels of rank2_gate, forward and backward, run on the host, against the formulas in float64."""

from __future__ import annotations

import numpy as np
import pytest
from cuda_emulator import Emulator
from rank2_emulated import (
    BFLOAT16,
    SHAPES,
    SUFFIX,
    TF32,
    assert_near,
    assert_same_bits_in_any_order,
    assert_same_bits_with_less_shared_memory,
    formulas_gate,
    gate,
    gate_backward,
    random_case,
)

NAMES = ("out", "linear", "grad_x", "grad_gate", "grad_weight")
TOLERANCE = {np.float32: 5e-6, np.float64: 1e-14}


def forward_and_backward(emulator: Emulator, case, shift: bool = False) -> list[np.ndarray]:
    out, mixed = gate(emulator, case, shift=shift)
    return [out, mixed, *gate_backward(emulator, case, mixed, shift=shift)]


@pytest.mark.parametrize("dtype", SUFFIX)
@pytest.mark.parametrize("shape", SHAPES)
def test_equals_formulas(emulator: Emulator, shape, dtype) -> None:
    for shift in (False, True):
        case = random_case(shape, dtype, shift)
        expected = formulas_gate(case)
        assert_near(forward_and_backward(emulator, case, shift), expected, NAMES, TOLERANCE[dtype])
        without = gate(emulator, case, with_residual=False, shift=shift)
        assert_near(without, formulas_gate(case, with_residual=False), NAMES[:2], TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", SUFFIX)
@pytest.mark.parametrize("shape", [(70, 3, 32, 32), (400, 3, 40, 20), (33, 6, 150, 130)])
def test_bits_do_not_depend_on_the_order_of_threads_or_the_grid(emulator: Emulator, shape, dtype) -> None:
    case = random_case(shape, dtype)
    assert_same_bits_in_any_order(emulator, lambda: forward_and_backward(emulator, case))


@pytest.mark.parametrize("dtype", SUFFIX)
@pytest.mark.parametrize("shape", [(9, 6, 128, 128), (300, 1, 96, 128)])
def test_99_kib_of_shared_memory_are_enough(emulator: Emulator, shape, dtype) -> None:
    case = random_case(shape, dtype)
    assert_same_bits_with_less_shared_memory(emulator, lambda: forward_and_backward(emulator, case))


@pytest.mark.parametrize("components", [1, 3, 6])
def test_nan_stays_in_its_atom(emulator: Emulator, components: int) -> None:
    case = random_case((50, components, 20, 24), np.float32)
    clean = forward_and_backward(emulator, case)
    for array in (case.x, case.gate, case.residual, case.grad_y):
        array[17] = np.nan
    found = forward_and_backward_of_nan(emulator, case)
    others = np.arange(50) != 17
    for array, wanted in zip(found, clean[:4], strict=True):
        np.testing.assert_array_equal(array[others], wanted[others])
        assert np.isnan(array[17]).all()


def forward_and_backward_of_nan(emulator: Emulator, case) -> list[np.ndarray]:
    out, mixed = gate(emulator, case)
    return [out, mixed, *gate_backward(emulator, case, mixed)[:2]]


def test_large_gates_saturate(emulator: Emulator) -> None:
    """The exponential overflows on one side; the sigmoid does not."""
    case = random_case((2, 3, 4, 4), np.float32)
    case.gate[0], case.gate[1] = 200, -200
    out, mixed = gate(emulator, case, with_residual=False)
    np.testing.assert_array_equal(out[0], mixed[0])
    assert not out[1].any()
    assert not gate_backward(emulator, case, mixed)[1].any()


@pytest.mark.parametrize(("precision", "most"), [(TF32, 1e-3), (BFLOAT16, 1e-2)])
@pytest.mark.parametrize("shape", SHAPES)
def test_error_of_tensor_cores(emulator: Emulator, shape, precision: int, most: float) -> None:
    case = random_case(shape, np.float32)
    expected = formulas_gate(case)
    found = gate(emulator, case, precision)
    found += gate_backward(emulator, case, expected["linear"].astype(np.float32), precision)
    assert_near(found, expected, NAMES, most)


def test_the_cpu_operation_agrees(emulator: Emulator) -> None:
    torch = pytest.importorskip("torch")
    ops = pytest.importorskip("dtnn_fast.ops")
    case = random_case((60, 6, 32, 20), np.float64)
    leaves = [torch.from_numpy(a).requires_grad_() for a in (case.x, case.gate, case.weight)]
    out = ops.rank2_gate(*leaves, torch.from_numpy(case.residual))
    out.backward(torch.from_numpy(case.grad_y))
    found = forward_and_backward(emulator, case)
    expected = [t.detach().numpy() for t in (out, *(leaf.grad for leaf in leaves))]
    for array, wanted in zip([found[0], *found[2:]], expected, strict=True):
        np.testing.assert_allclose(array, wanted, rtol=1e-12, atol=1e-12)
