# SPDX-License-Identifier: MIT
"""The CUDA kernels of decode, bond_perceptron_sum, atom_update, atom_readout and bond_geometry, run on the host.

Values are compared with the reference implementations by the tests of the operations in python_tests/ops, which
`.ci/emulated` runs on these kernels. Here are what only the emulator shows, and programs of every kind of step.
"""

from __future__ import annotations

import numpy as np
import pytest
from cuda_emulator import Emulator
from rank2_emulated import (
    SUFFIX,
    assert_same_bits_in_any_order,
    assert_same_bits_with_less_shared_memory,
)

PERCEPTRON, ALL_STEPS = 0, 1
TOLERANCE = {np.float32: 2e-5, np.float64: 1e-12}
# Scalars, vectors, tensors, hidden channels: one, remainders of packs, whole packs, several passes of columns.
WIDTHS = [(1, 1, 1, 1), (7, 3, 5, 6), (16, 8, 4, 32), (40, 12, 20, 64), (21, 9, 10, 70)]


def run(
    emulator: Emulator, program: int, widths: tuple[int, ...], rows: int, members: int, dtype: type, shift: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """The results on CUDA and on the CPU."""
    numbers, sizes = np.zeros(1, np.int64), np.array(widths, np.int64)
    emulator.call(f"tile_program_numbers_{SUFFIX[dtype]}", program, sizes, numbers)
    found = np.full((members, rows * int(numbers[0])), np.nan, dtype)
    expected = found.copy()
    emulator.call(f"tile_program_{SUFFIX[dtype]}", program, sizes, rows, members, shift, found, expected)
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


@pytest.mark.parametrize("rows", [16, 32, 33, 60, 96, 97])
def test_rows_that_lanes_share(emulator: Emulator, rows: int) -> None:
    """So many members that tiles do not become smaller: a lane has 1, 2, 3 or 6 rows, in one pass or more."""
    for widths in ((9, 1, 1, 20), (4, 1, 1, 66)):
        assert_close(run(emulator, PERCEPTRON, widths, rows, 280, np.float32))


def test_a_row_that_does_not_fit_into_shared_memory(emulator: Emulator) -> None:
    assert_close(run(emulator, ALL_STEPS, (3, 2, 2, 620), 18, 1, np.float64))


@pytest.mark.parametrize("dtype", SUFFIX)
def test_bits_do_not_depend_on_the_order_of_threads_or_the_grid(emulator: Emulator, dtype) -> None:
    for program, widths in ((ALL_STEPS, (7, 3, 5, 6)), (ALL_STEPS, (16, 4, 4, 36)), (PERCEPTRON, (30, 1, 1, 12))):
        call = (program, widths, 35, 2, dtype)
        assert_same_bits_in_any_order(emulator, lambda call=call: list(run(emulator, *call)[:1]))


def test_a_row_does_not_depend_on_the_others(emulator: Emulator) -> None:
    """Inputs are drawn row by row, so shorter ones are the beginning of longer ones."""
    widths, hidden = (12, 1, 1, 8), 8
    many, few = (run(emulator, PERCEPTRON, widths, rows, 1, np.float32)[0] for rows in (50, 19))
    np.testing.assert_array_equal(many.reshape(50, hidden)[:19], few.reshape(19, hidden))


@pytest.mark.parametrize("dtype", SUFFIX)
def test_99_kib_of_shared_memory_are_enough(emulator: Emulator, dtype) -> None:
    def largest_tile() -> list[np.ndarray]:
        return list(run(emulator, ALL_STEPS, (8, 8, 8, 64), 20, 1, dtype)[:1])

    assert_same_bits_with_less_shared_memory(emulator, largest_tile)


@pytest.mark.parametrize("dtype", SUFFIX)
@pytest.mark.parametrize("counts", [[1, 2, 30], [700], [1] * 70, [400, 1, 260]])
@pytest.mark.parametrize("shared", [False, True])
def test_tensors_of_crystals(emulator: Emulator, counts: list[int], shared: bool, dtype) -> None:
    rng, atoms, readouts = np.random.default_rng(len(counts)), sum(counts), 3
    tensors = rng.normal(size=(readouts, atoms, 6)).astype(dtype)
    share = rng.normal(size=atoms).astype(dtype) if shared else None
    ptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)

    def sums() -> list[np.ndarray]:
        out = np.full((readouts, len(counts), 3, 3), np.nan, dtype)
        sizes = (readouts, atoms, len(counts))
        emulator.call(f"crystal_tensors_{SUFFIX[dtype]}", tensors, share, ptr, out, *sizes)
        return [out]

    weights = np.repeat(1 / np.array(counts), counts) if share is None else share.astype(np.float64)
    six = np.add.reduceat(weights[:, None] * tensors.astype(np.float64), ptr[:-1], axis=1)
    expected = six[..., [0, 5, 4, 5, 1, 3, 4, 3, 2]].reshape(readouts, len(counts), 3, 3)
    np.testing.assert_allclose(sums()[0], expected, rtol=0, atol=20 * TOLERANCE[dtype])
    assert_same_bits_in_any_order(emulator, sums)


@pytest.mark.parametrize("dtype", SUFFIX)
@pytest.mark.parametrize("outputs", [1, 5, 16])
def test_sums_of_bond_values_have_the_same_bits_in_any_order(emulator: Emulator, outputs: int, dtype) -> None:
    rng, atoms, bonds, members = np.random.default_rng(outputs), 30, 200, 2
    pairs = rng.integers(0, atoms, (2, bonds))
    pairs[0].sort()
    order = np.argsort(pairs[1], kind="stable")
    starts = [np.searchsorted(keys, np.arange(atoms + 1)) for keys in (pairs[0], pairs[1][order])]
    indices = [np.ascontiguousarray(x, np.int64) for x in (pairs, starts[0], order, starts[1])]
    values, envelope, factors = (
        rng.normal(size=size).astype(dtype) for size in ((members, bonds, outputs), bonds, (2, bonds))
    )

    def sums() -> list[np.ndarray]:
        out = [np.full(size, np.nan, dtype) for size in ((members, atoms, outputs), atoms)]
        addresses = np.array([x.ctypes.data for x in indices], np.int64)
        sizes = (members, atoms, bonds, outputs)
        emulator.call(f"bond_value_sums_{SUFFIX[dtype]}", values, envelope, factors, addresses, *out, *sizes)
        return out

    expected = np.zeros((members, atoms, outputs))
    for side in range(2):
        shares = (envelope * factors[side]).astype(np.float64)
        np.add.at(expected, (slice(None), pairs[side]), shares[:, None] * values)
    np.testing.assert_allclose(sums()[0], expected, rtol=0, atol=20 * TOLERANCE[dtype])
    assert_same_bits_in_any_order(emulator, sums)


@pytest.mark.parametrize("dtype", SUFFIX)
def test_geometry_of_bonds_by_the_cpu_operation(emulator: Emulator, dtype) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("dtnn_fast.ops")
    rng, bonds, radial, cutoff = np.random.default_rng(0), 300, 7, 2.0
    vectors = rng.normal(size=(bonds, 3)).astype(dtype)
    out = [np.full(size, np.nan, dtype) for size in (bonds, (bonds, 3), bonds, (bonds, radial))]
    grads = [rng.normal(size=x.shape).astype(dtype) for x in out]
    grad = np.full_like(vectors, np.nan)

    def addresses(arrays: list[np.ndarray]) -> np.ndarray:
        return np.array([x.ctypes.data for x in arrays], np.int64)

    limit, suffix = np.array([cutoff]), SUFFIX[dtype]
    emulator.call(f"bond_geometry_{suffix}", vectors, limit, addresses(out), bonds, radial)
    emulator.call(f"bond_geometry_backward_{suffix}", vectors, limit, addresses(grads), grad, bonds, radial)
    exact = torch.from_numpy(vectors.astype(np.float64))
    results = torch.ops.dtnn_fast.bond_geometry(exact, cutoff, radial)
    given = [torch.from_numpy(g.astype(np.float64)) for g in grads]
    grad_exact = torch.ops.dtnn_fast.bond_geometry_backward(*given, exact, cutoff, radial)
    for found, expected in zip((*out, grad), (*results, grad_exact), strict=True):
        scale = max(1.0, expected.abs().max().item())
        np.testing.assert_allclose(found, expected.numpy(), rtol=0, atol=50 * TOLERANCE[dtype] * scale)
