# SPDX-License-Identifier: MIT
"""The emulated CUDA kernels, built once per session."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cuda_emulator import SANITIZE, Emulator, build, built_once, compiler


@pytest.fixture(scope="session")
def emulator_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The path of the shared library with all kernels."""
    return built_once(tmp_path_factory, "emulated_kernels.so", lambda output: build(output, ["-O2"], ["-shared"]))


@pytest.fixture
def emulator(emulator_library: Path) -> Iterator[Emulator]:
    """The emulator with default settings; a test that causes index errors must call `take_error`."""
    emulator = Emulator(emulator_library)
    emulator.configure()
    yield emulator
    assert emulator.take_error() is None


@pytest.fixture(scope="session")
def sanitized_cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The executable that runs cases under AddressSanitizer and UndefinedBehaviorSanitizer."""
    probe = tmp_path_factory.mktemp("probe") / "probe"
    command = [compiler(), *SANITIZE, "-x", "c++", "-", "-o", str(probe)]
    if subprocess.run(command, input="int main() {}", text=True, capture_output=True, check=False).returncode != 0:
        pytest.skip("this g++ cannot link -fsanitize=address,undefined")
    return built_once(tmp_path_factory, "sanitized_cases", lambda output: build(output, ["-O1", *SANITIZE], []))
