# SPDX-License-Identifier: MIT
"""The emulation of CUDA itself: right kernels pass, and each kind of mistake is reported."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from cuda_emulator import EMULATION, FLAGS, KERNELS, ORDERS, EmulationError, Emulator, build, compiler

THREADS = 128


def values(count: int) -> np.ndarray:
    return np.random.default_rng(count).normal(size=count).astype(np.float32)


def run_selftest(emulator: Emulator, name: str, count: int = THREADS, size: int | None = None) -> np.ndarray:
    """Output of a kernel of selftest/kernels.cpp for `count` random numbers."""
    out = np.zeros(count if size is None else size, np.float32)
    emulator.call(f"selftest_{name}", values(count), out, count)
    return out


@pytest.mark.parametrize("order", ORDERS)
def test_a_right_reduction_gives_the_sum(emulator: Emulator, order: str) -> None:
    emulator.configure(order)
    sums = run_selftest(emulator, "reduce", 10_000, size=4)
    first_block = values(10_000).reshape(-1)[np.arange(10_000) // THREADS % 4 == 0]
    np.testing.assert_allclose(sums[0], first_block.astype(np.float64).sum(), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(sums.sum(), values(10_000).astype(np.float64).sum(), rtol=1e-4, atol=1e-3)


def test_a_missing_barrier_shows_as_nan_in_some_order(emulator: Emulator) -> None:
    """The first warp reads what the others have not written; in the reverse order it happens to come last."""
    finite = []
    for order in ORDERS:
        emulator.configure(order)
        finite.append(bool(np.isfinite(run_selftest(emulator, "reduce_without_barrier", 10_000, size=4)).all()))
    assert not all(finite)


@pytest.mark.parametrize("order", ORDERS)
def test_every_function_does_what_cuda_does(emulator: Emulator, order: str) -> None:
    emulator.configure(order)
    np.testing.assert_array_equal(run_selftest(emulator, "all_functions"), 0)


def test_dynamic_shared_memory(emulator: Emulator) -> None:
    np.testing.assert_array_equal(run_selftest(emulator, "reverse", 100), values(100)[::-1])


def test_unwritten_static_shared_memory_is_nan(emulator: Emulator) -> None:
    out = run_selftest(emulator, "read_unwritten")
    np.testing.assert_array_equal(out[:-1], values(THREADS)[:-1])
    assert np.isnan(out[-1])


def test_asynchronous_copies(emulator: Emulator) -> None:
    """The first pack is told to become zeros; without the wait nothing that was copied can be read."""
    packs = values(THREADS).reshape(-1, 4).copy()
    packs[0] = 0
    np.testing.assert_array_equal(run_selftest(emulator, "reverse_packs"), packs[::-1].ravel())
    assert np.isnan(run_selftest(emulator, "reverse_packs_without_wait")).all()
    with pytest.raises(EmulationError, match="returns while asynchronous copies are under way"):
        run_selftest(emulator, "forgotten_copy")


def test_unwritten_dynamic_shared_memory_is_nan(emulator: Emulator) -> None:
    out = run_selftest(emulator, "read_unwritten_dynamic", 100)
    np.testing.assert_array_equal(out[:-1], values(100)[:-1])
    assert np.isnan(out[-1])


@pytest.mark.parametrize("order", ORDERS)
def test_shared_memory_does_not_outlive_a_block(emulator: Emulator, order: str) -> None:
    emulator.configure(order)
    out = run_selftest(emulator, "read_other_blocks_shared", 4)
    assert out[0] == values(4)[0]
    assert np.isnan(out[1:]).all()


def test_a_missing_syncwarp_shows_in_every_order(emulator: Emulator) -> None:
    expected = np.roll(values(THREADS).reshape(-1, 32), -1, axis=1).ravel()
    for order in ORDERS:
        emulator.configure(order)
        np.testing.assert_array_equal(run_selftest(emulator, "rotate_lanes"), expected)
        assert np.isnan(run_selftest(emulator, "rotate_lanes_without_syncwarp")).any()


def test_what_relies_on_the_order_of_blocks_shows(emulator: Emulator) -> None:
    results = []
    for order in ORDERS:
        emulator.configure(order)
        results.append(run_selftest(emulator, "chained_blocks", 8).tolist())
    assert results[0] != results[1]


def test_an_update_that_is_not_atomic_is_lost(emulator: Emulator) -> None:
    assert run_selftest(emulator, "lost_updates", 1)[0] == 1


def test_a_shuffle_from_an_absent_lane_is_nan(emulator: Emulator) -> None:
    assert np.isnan(run_selftest(emulator, "shuffle_from_absent")[:8]).all()


def test_lanes_that_have_returned_are_not_waited_for(emulator: Emulator) -> None:
    np.testing.assert_array_equal(run_selftest(emulator, "exited_lanes", 40), [32] * 32 + [8] * 8)


def test_a_three_dimensional_grid_visits_each_thread_once(emulator: Emulator) -> None:
    block, thread = np.divmod(np.arange(12 * 60), 60)
    for order in ORDERS:
        emulator.configure(order)
        np.testing.assert_array_equal(run_selftest(emulator, "places", 12 * 60), block * 1000 + thread)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(
    ("name", "count", "message"),
    [
        (
            "barrier_in_branches",
            64,
            r"divergent barrier: .*__syncthreads \(kernels.cpp:\d+\).*__syncthreads \(kernels.cpp:\d+\)",
        ),
        (
            "return_before_barrier",
            64,
            r"divergent barrier: thread .* waits at __syncthreads \(kernels.cpp:\d+\), .* has returned",
        ),
        ("divergent_shuffle", THREADS, r"deadlock: .*__shfl_xor_sync .*mask 0xffffffff.*__ballot_sync"),
        ("mixed_barriers", 64, r"divergent barrier: .*__syncthreads_(count|or) .*__syncthreads_(count|or) "),
        ("static_overrun", THREADS, r"a write outside of a shared array"),
        ("lost_lock", THREADS, r"deadlock, threads spin on an atomic"),
        ("reverse_overrun", 100, r"a write outside of a shared array"),
    ],
)
def test_mistakes_are_reported_and_the_process_lives_on(
    emulator: Emulator, order: str, name: str, count: int, message: str
) -> None:
    emulator.configure(order)
    with pytest.raises(EmulationError, match=r"kernel \(kernels.cpp:\d+\), block \(0, 0, 0\): " + message):
        run_selftest(emulator, name, count)
    np.testing.assert_array_equal(run_selftest(emulator, "all_functions"), 0)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("large_block", r"block \(32, 33, 1\) is empty or above"),
        ("empty_grid", r"grid \(0, 1, 1\) is empty or above"),
        ("large_grid", r"grid \(1, 65536, 1\) is empty or above"),
        ("large_shared", r"50176 bytes of dynamic shared memory, the limit is 49152"),
    ],
)
def test_impossible_launches_are_refused(emulator: Emulator, name: str, message: str) -> None:
    with pytest.raises(EmulationError, match=message):
        run_selftest(emulator, name)


def test_more_shared_memory_can_be_asked_for(emulator: Emulator) -> None:
    np.testing.assert_array_equal(run_selftest(emulator, "large_shared_allowed"), values(THREADS)[::-1])


def test_an_unknown_order_is_an_error(emulator: Emulator) -> None:
    with pytest.raises(EmulationError, match="expected order forward, reverse or shuffle:SEED"):
        emulator.configure("sideways")


def test_a_kernel_with_a_plain_shared_declaration_does_not_compile(tmp_path: Path) -> None:
    """It would not be poisoned nor guarded; gpu.h has macros for it."""
    source = tmp_path / "plain.cu"
    source.write_text('#include "gpu.h"\n__global__ void kernel() { __shared__ float tile[32]; tile[0] = 1; }\n')
    command = [compiler(), *FLAGS, "-x", "c++", "-fsyntax-only", str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "__shared__" in done.stderr


def run_cases(executable: Path, order: str, max_grid: int, *names: str) -> subprocess.CompletedProcess[str]:
    # The search for leaks needs ptrace, which containers often forbid; launchers allocate nothing.
    environment = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0", "UBSAN_OPTIONS": "print_stacktrace=1"}
    command = [str(executable), order, str(max_grid), *names]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=60)


def test_the_sanitizer_finds_an_overrun_of_shared_memory(sanitized_cases: Path) -> None:
    assert run_cases(sanitized_cases, "forward", 1000, "selftest_reverse").returncode == 0
    done = run_cases(sanitized_cases, "forward", 1000, "selftest_overrun")
    assert done.returncode != 0
    assert re.search(r"AddressSanitizer: heap-buffer-overflow", done.stderr)
    assert "kernels.cpp" in done.stderr


@pytest.mark.parametrize(
    ("name", "finding"),
    [
        ("static_overrun", "AddressSanitizer: heap-buffer-overflow"),
        ("global_overrun", "AddressSanitizer: heap-buffer-overflow"),
        ("misaligned", "misaligned address"),
    ],
)
def test_the_sanitizers_find(sanitized_cases: Path, name: str, finding: str) -> None:
    done = run_cases(sanitized_cases, "forward", 1000, f"selftest_{name}")
    assert done.returncode != 0
    assert finding in done.stderr
    assert "kernels.cpp" in done.stderr


def test_a_failed_launch_leaves_clean_stacks(sanitized_cases: Path) -> None:
    done = run_cases(sanitized_cases, "forward", 1000, "selftest_recovers")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_fallback_for_other_processors(tmp_path: Path) -> None:
    """Without the hand-written context switch, fibers are ucontext's."""
    sources = [
        *(EMULATION / "emulation").glob("*.cpp"),
        EMULATION / "selftest" / "kernels.cpp",
        EMULATION / "run_cases.cpp",
    ]
    build(tmp_path / "run_cases", ["-O1", "-DCUDA_EMULATION_UCONTEXT"], [], sources)
    done = run_cases(tmp_path / "run_cases", "shuffle:5", 1000, "selftest_reverse", "selftest_recovers")
    assert done.returncode == 0, done.stdout + done.stderr


def op_names() -> list[str]:
    return sorted(path.stem for path in (EMULATION / "ops").glob("*.cpp"))


@pytest.mark.parametrize("name", op_names())
@pytest.mark.parametrize(("order", "max_grid"), [("forward", 2**31 - 1), ("shuffle:3", 2)])
def test_kernels_under_sanitizers(sanitized_cases: Path, name: str, order: str, max_grid: int) -> None:
    done = run_cases(sanitized_cases, order, max_grid, name)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_kernel_file_has_its_cases() -> None:
    of_headers = {"divisor"}
    assert {path.name.removesuffix("_cuda.cu") for path in KERNELS.glob("*.cu")} == set(op_names()) - of_headers
