# SPDX-License-Identifier: MIT
"""The backward of tile programs on emulated CUDA: gradients as on the CPU, in any order of threads, for any chunks.

Programs 0 and 1 are a perceptron and one of every kind of step; other numbers are seeds of random programs
(python_tests/cuda_emulation/tile_cases.h). The first input is one for all members.
"""

from __future__ import annotations

import numpy as np
import pytest
from cuda_emulator import EmulationError, Emulator
from rank2_emulated import SUFFIX, assert_same_bits_in_any_order, assert_same_bits_with_less_shared_memory

PERCEPTRON, ALL_STEPS = 0, 1
# What a case does: gradients of inputs and weights; every other output without a gradient; gradients of outputs made
# for each chunk, from the values; a NaN in the first input.
INPUTS, WEIGHTS, SOME_OUTPUTS, MADE_FOR_CHUNKS, SPOILED = 1, 2, 4, 8, 16
BOTH = INPUTS | WEIGHTS
TOLERANCE = {np.float32: 2e-5, np.float64: 1e-12}
# Scalars, vectors, tensors, hidden channels: one, remainders of packs, whole packs, several tiles of weights.
WIDTHS = [(1, 1, 1, 1), (7, 3, 5, 6), (16, 8, 4, 32), (40, 12, 20, 68)]
SMALLEST_CHUNKS = 16  # rows


def run(
    emulator: Emulator,
    program: int,
    widths: tuple[int, ...],
    rows: int,
    members: int,
    dtype: type = np.float64,
    shift: int = 0,
    chunk: int = 0,
    flags: int = BOTH,
) -> tuple[np.ndarray, np.ndarray]:
    """Gradients on CUDA and on the CPU: of the inputs one after the other, then of the weights."""
    numbers, sizes = np.zeros(1, np.int64), np.array(widths, np.int64)
    emulator.call("tile_backward_numbers", program, sizes, rows, members, flags, numbers)
    found = np.full(int(numbers[0]), np.nan, dtype)
    expected = found.copy()
    name = f"tile_backward_{SUFFIX[dtype]}"
    emulator.call(name, program, sizes, rows, members, shift, chunk, flags, found, expected)
    return found, expected


def assert_close(results: tuple[np.ndarray, np.ndarray]) -> None:
    found, expected = results
    scale = np.maximum(1, np.abs(expected).max(initial=0))
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE[found.dtype.type] * scale)


@pytest.mark.parametrize("dtype", SUFFIX)
@pytest.mark.parametrize("widths", WIDTHS)
@pytest.mark.parametrize("program", [PERCEPTRON, ALL_STEPS])
def test_the_cpu_agrees(emulator: Emulator, program: int, widths, dtype) -> None:
    for rows, members, shift in ((1, 1, 0), (17, 3, 0), (40, 1, 1)):
        assert_close(run(emulator, program, widths, rows, members, dtype, shift))


@pytest.mark.parametrize("seed", range(2, 42))
def test_random_programs(emulator: Emulator, seed: int) -> None:
    """Values that are an input twice, gradients that stop, all kinds of steps; small chunks and large ones."""
    for widths, rows, members in (((7, 3, 5, 6), 37, 2), ((8, 4, 4, 16), 16, 1)):
        assert_close(run(emulator, seed, widths, rows, members, chunk=SMALLEST_CHUNKS))
        assert_close(run(emulator, seed, widths, 5, members, flags=INPUTS | SOME_OUTPUTS))
        assert_close(run(emulator, seed, widths, 20, members, shift=1, flags=WEIGHTS | MADE_FOR_CHUNKS))


@pytest.mark.parametrize("dtype", SUFFIX)
def test_many_rows_in_groups_and_chunks(emulator: Emulator, dtype) -> None:
    for chunk in (0, SMALLEST_CHUNKS, 200):
        assert_close(run(emulator, PERCEPTRON, (9, 1, 1, 20), 700, 2, dtype, chunk=chunk, flags=BOTH | MADE_FOR_CHUNKS))
    assert_close(run(emulator, ALL_STEPS, (4, 3, 2, 8), 300, 1, dtype))


def test_a_row_that_does_not_fit_into_shared_memory(emulator: Emulator) -> None:
    assert_close(run(emulator, ALL_STEPS, (3, 2, 2, 620), 18, 1))


def test_nothing_to_compute(emulator: Emulator) -> None:
    """Without rows or members the gradients of what there is are zeros; without hidden channels too."""
    for rows, members in ((0, 2), (3, 0), (0, 0)):
        found, _ = run(emulator, ALL_STEPS, (7, 3, 5, 6), rows, members)
        assert not found.any()
    assert_close(run(emulator, PERCEPTRON, (6, 1, 1, 0), 5, 2))


def test_nan_spreads_as_on_the_cpu(emulator: Emulator) -> None:
    found, expected = run(emulator, ALL_STEPS, (7, 3, 5, 6), 37, 2, flags=BOTH | SPOILED)
    assert 0.1 < np.isnan(expected).mean() < 0.9
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))


@pytest.mark.parametrize("dtype", SUFFIX)
def test_bits_do_not_depend_on_the_order_of_threads_or_the_grid(emulator: Emulator, dtype) -> None:
    for program, widths in ((ALL_STEPS, (7, 3, 5, 6)), (ALL_STEPS, (16, 4, 4, 36)), (PERCEPTRON, (30, 1, 1, 12))):
        for chunk in (0, SMALLEST_CHUNKS):
            call = (program, widths, 35, 2, dtype, 0, chunk)
            assert_same_bits_in_any_order(emulator, lambda call=call: list(run(emulator, *call)[:1]))


@pytest.mark.parametrize("dtype", SUFFIX)
def test_99_kib_of_shared_memory_are_enough(emulator: Emulator, dtype) -> None:
    def largest_tile() -> list[np.ndarray]:
        return list(run(emulator, ALL_STEPS, (8, 8, 8, 64), 20, 1, dtype)[:1])

    assert_same_bits_with_less_shared_memory(emulator, largest_tile)


@pytest.mark.parametrize("dtype", SUFFIX)
@pytest.mark.parametrize(("depth", "channels"), [(0, 5), (1, 1), (64, 64), (70, 130)])
def test_products_for_weights(emulator: Emulator, depth: int, channels: int, dtype) -> None:
    rng, first, rows, members = np.random.default_rng(depth), 2, 75, 3
    x = rng.integers(-4, 5, (first + rows, depth)).astype(dtype)
    grad = rng.integers(-4, 5, (members, rows, channels)).astype(dtype)
    for groups in (1, 4):
        sums = np.full((members, (depth + 1) * channels), np.nan, dtype)
        name = f"tile_weight_grads_{SUFFIX[dtype]}"
        emulator.call(name, x, grad, sums, first, rows, depth, channels, members, groups)
        weights, bias = sums[:, : depth * channels], sums[:, depth * channels :]
        # The kernel runs twice and adds; sums of small integers are exact.
        np.testing.assert_array_equal(weights, 2 * np.einsum("rd,mrc->mdc", x[first:], grad).reshape(members, -1))
        np.testing.assert_array_equal(bias, 2 * grad.sum(1))


@pytest.mark.parametrize(
    ("first", "second", "is_refused"),
    [
        ((0, 0, 4, 6), (0, 0, 4, 6), True),
        ((0, 0, 4, 3), (0, 3, 4, 3), False),
        ((0, 0, 4, 3), (0, 2, 4, 3), True),
        ((0, 0, 2, 6), (2, 0, 2, 6), False),
        ((0, 0, 3, 6), (2, 0, 2, 6), True),
        ((0, 0, 2, 3), (2, 3, 2, 3), False),
        ((0, 0, 4, 0), (0, 0, 4, 0), False),
    ],
)
def test_two_products_with_one_part_of_a_matrix_are_refused(emulator: Emulator, first, second, is_refused) -> None:
    """Two blocks would add to the same gradients at a time."""
    parts = np.array(first, np.int64), np.array(second, np.int64)
    if not is_refused:
        emulator.call("tile_backward_of_parts", *parts)
        return
    with pytest.raises(EmulationError, match="a part of a matrix is used by two products"):
        emulator.call("tile_backward_of_parts", *parts)
