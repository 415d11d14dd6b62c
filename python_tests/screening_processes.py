# SPDX-License-Identifier: MIT
"""Starts of `dtnn-fast screen` that are killed and limited, forked from one process, which has the slow imports."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from pyarrow import parquet

# `slow` is a pause before each batch, in seconds.
# `die_at` kills the process when it renames a file for the n-th time: before or after the renaming.
_SERVER = """
import json, os, resource, signal, sys, time, traceback
import torch
torch.set_num_threads(1)
import duckdb, matplotlib.pyplot, pymatgen.analysis.structure_matcher
import dtnn_fast.screening.finish, dtnn_fast.screening.ranking, dtnn_fast.screening.screening_plot
from dtnn_fast.cli.app import app
from dtnn_fast.model import load_predictor
from dtnn_fast.screening import engine

def run(request):
    log = os.open(request["log"], os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    for number in (1, 2):
        os.dup2(log, number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if request["file_bytes"]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (request["file_bytes"],) * 2)
    replace, count = os.replace, 0

    def dying_replace(*paths):
        nonlocal count
        count += 1
        if count == request["die_at"] and request["die_before"]:
            os.kill(os.getpid(), signal.SIGKILL)
        replace(*paths)
        if count == request["die_at"]:
            os.kill(os.getpid(), signal.SIGKILL)

    os.replace = dying_replace
    predict = engine._predict_batch

    def counting_predict(model, crystals, born_charges):
        print("batch", flush=True)
        time.sleep(request["slow"])
        return predict(model, crystals, born_charges)

    engine._predict_batch = counting_predict
    try:
        app(request["arguments"], prog_name="dtnn-fast")
    except SystemExit as exit:
        return exit.code or 0
    except BaseException:
        traceback.print_exc()
        return 99

for line in sys.stdin:
    request = json.loads(line)
    if "wait" in request:
        answer = os.waitstatus_to_exitcode(os.waitpid(request["wait"], 0)[1])
    else:
        answer = os.fork()
        if answer == 0:
            code = run(request)
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    print(answer, flush=True)
"""

# Read by every process at its start, also by those that read crystals.
_SITE = """
from dtnn_fast.screening import input_chunks
input_chunks.PIECE_CRYSTALS, input_chunks.FILES_TOGETHER = 7, 2
"""


class Start:
    """A start of the program in a process of its own."""

    def __init__(self, starter: Starter, pid: int, log: Path) -> None:
        self._starter, self.pid, self._log = starter, pid, log

    @property
    def output(self) -> str:
        """What it has printed until now, on stdout and stderr."""
        return self._log.read_text() if self._log.exists() else ""

    def send(self, number: signal.Signals) -> None:
        """Send a signal; the process has not been waited for, so its number is still its own."""
        os.kill(self.pid, number)

    def wait(self) -> int:
        """Wait for its end, and return the exit code, minus the number of the signal that killed it."""
        return self._starter.ask({"wait": self.pid})

    def wait_for(self, text: str, times: int = 1) -> None:
        """Wait until it has printed a text so many times; fails when it ends before."""
        for _ in range(6000):
            if self.output.count(text) >= times:
                return
            time.sleep(0.01)
        raise AssertionError(self.output)


class Starter:
    """The process from which starts are forked: with pieces of 7 crystals, and at most 2 files in a chunk."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._count = folder, 0
        (folder / "sitecustomize.py").write_text(_SITE)
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", _SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(folder), *sys.path])},
        )

    def ask(self, request: dict[str, Any]) -> int:
        """Send a request, and return the answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def start(
        self, *arguments: object, die_at: int = 0, die_before: bool = True, file_bytes: int = 0, slow: float = 0.0
    ) -> Start:
        """Start the program with arguments."""
        self._count += 1
        log = self._folder / f"start-{self._count}.log"
        texts = [str(argument) for argument in arguments]
        request = {"arguments": texts, "log": str(log), "die_at": die_at, "die_before": die_before}
        return Start(self, self.ask({**request, "file_bytes": file_bytes, "slow": slow}), log)

    def run(self, *arguments: object, **how: Any) -> tuple[int, str]:
        """Start the program, and wait for it; returns its exit code and what it printed."""
        start = self.start(*arguments, **how)
        return start.wait(), start.output

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def rows_of(folder: Path, kind: str = "part") -> list[dict[str, Any]]:
    """Read the rows of all parts, or of all files of rejected crystals, in the order of the input."""
    return [row for file in sorted(folder.glob(f"{kind}-*.parquet")) for row in parquet.read_table(file).to_pylist()]


def results_of(folder: Path) -> dict[str, Any]:
    """Read all that must not depend on how often a screening was stopped."""
    texts = {name: (folder / name).read_text() for name in ("ranking.csv", "unranked.csv", "rejected.csv")}
    names = sorted(file.name for file in folder.glob("*.parquet"))
    return {"rows": rows_of(folder), "rejected": rows_of(folder, "rejected"), "files": names, **texts}
