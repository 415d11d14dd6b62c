# SPDX-License-Identifier: MIT
"""Options of `pytest benchmarks`, and the ratios of all cases at its end."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import torch
from timing import LINES

STARTED = time.monotonic()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("dtnn_fast benchmarks")
    group.addoption("--quick", action="store_true", help="run everything once on small inputs; assert no ratio")
    group.addoption(
        "--device", choices=("cpu", "cuda", "all"), default="all", help="cpu, cuda, or all: both where there is a GPU"
    )
    group.addoption("--threads", type=int, default=1, help="torch's threads on the CPU (default 1)")
    group.addoption(
        "--budget", type=float, default=float("inf"), help="skip the remaining benchmarks after this many seconds"
    )


def pytest_configure(config: pytest.Config) -> None:
    """End at SIGTERM as at the end of the session, so that pytest-benchmark writes what was measured."""
    signal.signal(signal.SIGTERM, lambda *_: pytest.exit("SIGTERM: writing what was measured", returncode=1))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "device" in metafunc.fixturenames:
        wanted = metafunc.config.getoption("--device")
        devices = ["cpu", "cuda"] if wanted == "all" else [wanted]
        if wanted == "all" and not torch.cuda.is_available():
            devices.remove("cuda")
        metafunc.parametrize("device", devices)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With a budget, run last what matters least: small batches, which are all overhead, and second derivatives."""

    def rank(item: pytest.Item) -> tuple[bool, bool]:
        return any(size in item.name for size in ("-1_crystal-", "-32_crystals-")), "double_backward" in item.name

    if config.getoption("--budget") < float("inf"):
        items.sort(key=rank)


@pytest.fixture
def quick(request: pytest.FixtureRequest) -> bool:
    """Run once, on small inputs, without asserting ratios."""
    return request.config.getoption("--quick")


@pytest.fixture
def threads(request: pytest.FixtureRequest) -> int:
    """Threads on the CPU."""
    return request.config.getoption("--threads")


@pytest.fixture(autouse=True)
def _within_budget(request: pytest.FixtureRequest) -> None:
    if time.monotonic() - STARTED > request.config.getoption("--budget"):
        pytest.skip("the time of --budget is over")


def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: dict) -> None:
    """Record what the report says about the machine."""
    machine_info["torch"] = torch.__version__
    # Where the sources were copied without their history.
    machine_info["commit"] = os.environ.get("DTNN_COMMIT", "")
    machine_info["cpu_capability"] = torch.backends.cpu.get_cpu_capability()
    if torch.cuda.is_available():
        machine_info["gpu"] = torch.cuda.get_device_name()
        machine_info["cuda"] = torch.version.cuda


def pytest_terminal_summary(terminalreporter) -> None:  # type: ignore[no-untyped-def]
    if LINES:
        terminalreporter.section("medians of runs by turns; how many times as long the others take")
        for line in LINES:
            terminalreporter.write_line(line)
