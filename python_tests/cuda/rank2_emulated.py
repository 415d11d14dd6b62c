# SPDX-License-Identifier: MIT
"""The kernels of rank2_linear and rank2_gate on the host: arrays in, arrays out, with the outputs poisoned before."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from cuda_emulator import NO_GRID_LIMIT, ORDERS, SHARED_OF_OTHERS, Emulator

SUFFIX = {np.float32: "f32", np.float64: "f64"}
FLOAT32, TF32, BFLOAT16 = 0, 1, 2
EPS = 0.1
# N, K, C, D: channels that fill tiles exactly, with remainders, one, none; more than one tile and chunk of channels.
SHAPES = [(7, 1, 5, 3), (50, 3, 32, 32), (50, 6, 19, 37), (70, 6, 64, 1), (90, 3, 128, 48), (40, 3, 16, 16)]
SHAPES += [(1, 6, 1, 1), (301, 1, 24, 100), (9, 6, 128, 128), (20, 3, 150, 130), (4, 3, 0, 5)]


class Case(NamedTuple):
    """Random tensors of one shape: the arguments of both operations and the gradients of their outputs."""

    x: np.ndarray  # [N, K, C]
    weight: np.ndarray  # [D, C]
    gate: np.ndarray  # [N, D]
    residual: np.ndarray  # [N, K, D]
    grad_y: np.ndarray  # [N, K, D]
    grad_norm: np.ndarray  # [N, D]

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """N, K, C, D."""
        return (*self.x.shape, self.weight.shape[0])

    @property
    def suffix(self) -> str:
        """The ending of the C functions for this dtype."""
        return SUFFIX[self.x.dtype.type]


def unaligned(values: np.ndarray) -> np.ndarray:
    """The same values at an address that is no multiple of 16."""
    buffer = np.empty(values.size + 1, values.dtype)
    shifted = buffer[1:] if buffer.ctypes.data % 16 == 0 else buffer[:-1]
    assert values.size == 0 or shifted.ctypes.data % 16 != 0
    shifted[:] = values.ravel()
    return shifted.reshape(values.shape)


def random_case(shape: tuple[int, int, int, int], dtype: type, shift: bool = False) -> Case:
    """Normal random numbers; with `shift` at unaligned addresses."""
    n, k, c, d = shape
    rng = np.random.default_rng(n + k + c + d)
    sizes = ((n, k, c), (d, c), (n, d), (n, k, d), (n, k, d), (n, d))
    arrays = [rng.normal(size=size).astype(dtype) for size in sizes]
    return Case(*(unaligned(a) if shift else a for a in arrays))


def poisoned(shape: tuple[int, ...], dtype: np.dtype, shift: bool) -> np.ndarray:
    return unaligned(np.full(shape, np.nan, dtype)) if shift else np.full(shape, np.nan, dtype)


def linear(emulator: Emulator, case: Case, precision: int = FLOAT32, shift: bool = False) -> list[np.ndarray]:
    """y and norm."""
    n, k, _, d = case.sizes
    y, norm = (poisoned(size, case.x.dtype, shift) for size in ((n, k, d), (n, d)))
    eps = np.array([EPS], case.x.dtype)
    inputs = (case.x, None, None, None, case.weight)
    emulator.call(f"rank2_linear_{case.suffix}", *inputs, y, norm, eps, *case.sizes, 0, precision)
    return [y, norm]


def linear_backward(
    emulator: Emulator,
    case: Case,
    y: np.ndarray,
    norm: np.ndarray,
    precision: int = FLOAT32,
    with_grad_y: bool = True,
    shift: bool = False,
) -> list[np.ndarray]:
    """grad_x and grad_weight of y and norm."""
    n, k, c, d = case.sizes
    grad_x, grad_weight = (poisoned(size, case.x.dtype, shift) for size in ((n, k, c), (d, c)))
    eps = np.array([EPS], case.x.dtype)
    total = (case.grad_y if with_grad_y else None, y, case.grad_norm, norm)
    # Backward the rows have D channels and the result C.
    emulator.call(f"rank2_linear_{case.suffix}", *total, case.weight, grad_x, None, eps, n, k, d, c, 1, precision)
    emulator.call(f"rank2_weight_grad_{case.suffix}", *total, None, case.x, grad_weight, eps, *case.sizes, precision)
    return [grad_x, grad_weight]


def weight_grad(emulator: Emulator, case: Case, precision: int = FLOAT32) -> np.ndarray:
    """The sum of the products of grad_y and x."""
    grad_weight = np.full_like(case.weight, np.nan)
    eps = np.array([EPS], case.x.dtype)
    total = (case.grad_y, None, None, None, None)
    emulator.call(f"rank2_weight_grad_{case.suffix}", *total, case.x, grad_weight, eps, *case.sizes, precision)
    return grad_weight


def gate(
    emulator: Emulator, case: Case, precision: int = FLOAT32, with_residual: bool = True, shift: bool = False
) -> list[np.ndarray]:
    """out and linear."""
    n, k, _, d = case.sizes
    out, mixed = (poisoned((n, k, d), case.x.dtype, shift) for _ in range(2))
    inputs = (case.x, case.gate, case.weight, case.residual if with_residual else None)
    emulator.call(f"rank2_gate_{case.suffix}", *inputs, out, mixed, *case.sizes, precision)
    return [out, mixed]


def gate_backward(
    emulator: Emulator, case: Case, mixed: np.ndarray, precision: int = FLOAT32, shift: bool = False
) -> list[np.ndarray]:
    """grad_x, grad_gate, grad_weight."""
    n, k, c, d = case.sizes
    grads = [poisoned(size, case.x.dtype, shift) for size in ((n, k, c), (n, d), (d, c))]
    name, eps = f"rank2_gate_backward_{case.suffix}", np.array([1], case.x.dtype)
    emulator.call(name, case.grad_y, case.gate, case.weight, mixed, *grads[:2], *case.sizes, precision)
    alone = np.full_like(grads[1], np.nan)
    emulator.call(name, case.grad_y, case.gate, case.weight, mixed, None, alone, *case.sizes, precision)
    np.testing.assert_allclose(alone, grads[1], rtol=1e-5 if case.suffix == "f32" else 1e-13)
    without = poisoned((n, k, c), case.x.dtype, shift)
    emulator.call(name, case.grad_y, case.gate, case.weight, None, without, None, *case.sizes, precision)
    np.testing.assert_array_equal(without, grads[0])
    total = (case.grad_y, None, None, None, case.gate)
    emulator.call(f"rank2_weight_grad_{case.suffix}", *total, case.x, grads[2], eps, *case.sizes, precision)
    return grads


def formulas_linear(case: Case, with_grad_y: bool = True) -> dict[str, np.ndarray]:
    """y, norm, grad_x, grad_weight by the formulas of ops/rank2_linear.h in float64."""
    x, weight, _, _, grad_y, grad_norm = (a.astype(np.float64) for a in case)
    counts = np.array([1, 1, 1, 2, 2, 2.0])[: case.sizes[1], None]
    y = x @ weight.T
    length = np.sqrt((counts * y * y).sum(1) + EPS**2)
    total = (grad_norm / length)[:, None] * counts * y + (grad_y if with_grad_y else 0)
    grads = {"grad_x": total @ weight, "grad_weight": np.einsum("nkd,nkc->dc", total, x)}
    return {"y": y, "norm": length - EPS, **grads}


def formulas_gate(case: Case, with_residual: bool = True) -> dict[str, np.ndarray]:
    """out, linear and the gradients by the formulas of ops/rank2_gate.h in float64."""
    x, weight, gates, residual, grad_out, _ = (a.astype(np.float64) for a in case)
    scale = 1 / (1 + np.exp(-gates))
    mixed = x @ weight.T
    total = scale[:, None] * grad_out
    return {
        "out": scale[:, None] * mixed + (residual if with_residual else 0),
        "linear": mixed,
        "grad_x": total @ weight,
        "grad_gate": scale * (1 - scale) * (grad_out * mixed).sum(1),
        "grad_weight": np.einsum("nkd,nkc->dc", total, x),
    }


def assert_near(found: list[np.ndarray], expected: dict[str, np.ndarray], names: tuple[str, ...], tol: float) -> None:
    """Each array within `tol` of the expected one's largest number."""
    for array, name in zip(found, names, strict=True):
        scale = max(1.0, np.abs(expected[name]).max(initial=0))
        np.testing.assert_allclose(array, expected[name], rtol=0, atol=tol * scale, err_msg=name)


def assert_same_bits_with_less_shared_memory(emulator: Emulator, run: Callable[[], list[np.ndarray]]) -> None:
    """Run with the shared memory of GPUs for graphics: the arrays have the bits of the defaults."""
    expected = run()
    emulator.configure(max_shared=SHARED_OF_OTHERS)
    for found, wanted in zip(run(), expected, strict=True):
        np.testing.assert_array_equal(found, wanted)


def assert_same_bits_in_any_order(emulator: Emulator, run: Callable[[], list[np.ndarray]]) -> None:
    """Run in every order of threads, on small and large grids: the arrays have the bits of the defaults."""
    expected = run()
    for order in ORDERS:
        for max_grid in (1, 3, NO_GRID_LIMIT):
            emulator.configure(order, max_grid)
            for found, wanted in zip(run(), expected, strict=True):
                np.testing.assert_array_equal(found, wanted, f"{order}, {max_grid} blocks")
