# SPDX-License-Identifier: MIT
"""Builds the host emulation of CUDA, and calls the launchers of every kernel through it."""

from __future__ import annotations

import ctypes
import fcntl
import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
EMULATION = ROOT / "python_tests" / "cuda_emulation"
KERNELS = ROOT / "csrc" / "ops" / "cuda"
# Of the CPU: the lattices, and tile programs, which are compared with the kernel's.
_TILE_PROGRAMS = ("tile_steps", "tile_backward", "tile_program", "tile_nodes", "dual_tile_runner", "dual_tile_nodes")
_PRODUCTS = ("small_matmul", "bf16_matmul", "simd_level")
CORE = [ROOT / "csrc" / "core" / f"{stem}.cpp" for stem in ("lattice", *_TILE_PROGRAMS, *_PRODUCTS)]
# No contraction to fused multiply-adds: the results are to equal NumPy's to the bit.
FLAGS = ["-std=c++17", "-fPIC", "-ffp-contract=off", "-DDTNN_EMULATE_CUDA", "-Wall", "-Wextra", "-Werror"]
FLAGS += ["-Wno-unknown-pragmas", f"-I{EMULATION}", f"-I{KERNELS}", f"-I{ROOT / 'csrc'}"]
SANITIZE = ["-g1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"]
ORDERS = ("forward", "reverse", "shuffle:1", "shuffle:2")
NO_GRID_LIMIT = 2**31 - 1
# Bytes of shared memory that a block can have: data-center GPUs from sm_80 on at least, other GPUs.
SHARED_OF_A100, SHARED_OF_OTHERS = 163 * 1024, 99 * 1024


class EmulationError(RuntimeError):
    """Message that a launcher returned instead of null."""


def compiler() -> str:
    """Return the path of g++; skip the test where it is not installed."""
    path = shutil.which("g++")
    if path is None:
        pytest.skip("the emulation of CUDA needs g++, which is not installed")
    return path


def run(command: Sequence[str]) -> None:
    """Run a build step, and fail the test with its output when it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.fail(f"{' '.join(command)}\n{done.stdout}{done.stderr}", pytrace=False)


def build(output: Path, flags: Sequence[str], link: Sequence[str], sources: Sequence[Path] = ()) -> None:
    """Compile and link `sources`; by default the emulation, all kernels, their C functions and the parts of the CPU."""
    chosen = sources or [*sorted(EMULATION.rglob("*.cpp")), *sorted(KERNELS.glob("*.cu")), *CORE]
    objects = [str(output.parent / f"{output.stem}.{source.parent.name}.{source.name}.o") for source in chosen]
    command = [compiler(), *FLAGS, *flags, "-x", "c++", "-c"]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda pair: run([*command, str(pair[0]), "-o", pair[1]]), zip(chosen, objects, strict=True)))
    run([compiler(), *flags, *link, *objects, "-o", str(output)])


def built_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """Build a file with `make`, once for all workers of pytest-xdist."""
    folder = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    output = folder / name
    with (folder / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not output.exists():
            make(output)
    return output


class Emulator:
    """The kernels on the host: each launcher of python_tests/cuda_emulation/ops by its C name."""

    def __init__(self, library: Path) -> None:
        self._library = ctypes.CDLL(str(library))

    def configure(
        self, order: str = "forward", max_grid: int = NO_GRID_LIMIT, max_shared: int = SHARED_OF_A100
    ) -> None:
        """Set the order in which threads and blocks take turns, and what a launcher may use.

        Args:
            order: one of ORDERS.
            max_grid: number of blocks.
            max_shared: bytes of shared memory of a block.
        """
        self.call("configure", order.encode(), max_grid, max_shared)

    def call(self, name: str, *args: np.ndarray | int | bytes | None) -> None:
        """Call a launcher; arrays go as pointers, integers as int64, None as a null pointer.

        Raises:
            EmulationError: the launcher returned a message.
        """
        function = self._library[name]
        function.restype = ctypes.c_char_p
        message = function(*[self._convert(argument) for argument in args])
        if message is not None:
            raise EmulationError(message.decode())

    def take_error(self, device: int = 0) -> str | None:
        """Return and clear the index error that kernels have noted, as the next call of an operation would raise it."""
        function = self._library["device_errors_take"]
        function.restype = ctypes.c_char_p
        message = function(ctypes.c_int64(device))
        return None if message is None else message.decode()

    @staticmethod
    def _convert(argument: np.ndarray | int | bytes | None) -> object:
        if isinstance(argument, np.ndarray):
            assert argument.flags.c_contiguous, "kernels take contiguous arrays"
            return ctypes.c_void_p(argument.ctypes.data)
        if isinstance(argument, int):
            return ctypes.c_int64(argument)
        return argument
