# SPDX-License-Identifier: MIT
"""Random calls of all operations, valid and spoiled: ``python python_tests/fuzz --seconds 60 --seed 0``.

Every call is drawn from its own seed, so ``--seed S --calls 1`` repeats one. It is meant for a build with
AddressSanitizer and UndefinedBehaviorSanitizer (see .ci/fuzz). Worker processes make the calls, so that a crash is
reported with its seed, too.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

MAX_FAILURES = 5


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="seconds to run (60)")
    parser.add_argument("--calls", type=int, help="stop after this many calls")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first call (0)")
    parser.add_argument("--processes", type=int, default=1, help="number of processes, which share the seeds (1)")
    parser.add_argument("--least", type=float, default=0.0, help="fail below this many calls a minute")
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def work(options: argparse.Namespace) -> int:
    """Make a worker's calls, every seed of its residue class, and write their outcomes; return 1 after a failure."""
    from fuzzing.judge import run_call

    counts: collections.Counter[str] = collections.Counter()
    current = os.open(seed_file(options.folder, options.worker), os.O_WRONLY | os.O_CREAT)
    start = time.monotonic()
    call, seed = options.worker, options.seed
    while time.monotonic() - start < options.seconds and (options.calls is None or call < options.calls):
        seed = options.seed + call
        os.pwrite(current, b"%20d" % seed, 0)
        try:
            counts[run_call(seed)] += 1
        except Exception:
            counts["failed"] += 1
            print(f"FAILED, seed {seed}:\n{traceback.format_exc()}", flush=True)
            if counts["failed"] == MAX_FAILURES:
                break
        call += options.processes
    outcome = {"seconds": time.monotonic() - start, "counts": counts, "last": seed}
    outcome_file(options.folder, options.worker).write_text(json.dumps(outcome))
    return int(counts["failed"] > 0)


def seed_file(folder: Path, worker: int) -> Path:
    """The file with the seed of the call that a worker is making."""
    return folder / f"seed-{worker}"


def outcome_file(folder: Path, worker: int) -> Path:
    """The file that a worker writes at its end."""
    return folder / f"outcome-{worker}.json"


def main() -> int:
    options = arguments()
    if options.worker is not None:
        return work(options)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        command = [sys.executable, *sys.argv, "--folder", name, "--worker"]
        workers = [subprocess.Popen([*command, str(number)]) for number in range(options.processes)]
        statuses = [worker.wait() for worker in workers]
        for number, status in enumerate(statuses):
            if status not in (0, 1):
                file = seed_file(folder, number)
                seed = (file.read_text().strip() if file.exists() else "") or "none"
                print(
                    f"fuzz: the process died with status {status} in the call of seed {seed}: "
                    f"repeat it with --seed {seed} --calls 1"
                )
        files = [outcome_file(folder, number) for number in range(options.processes)]
        outcomes = [json.loads(file.read_text()) for file in files if file.exists()]
    return report(outcomes, options) | int(any(statuses))


def report(outcomes: list[dict[str, Any]], options: argparse.Namespace) -> int:
    """Print what the workers did together; return 1 if they were too slow."""
    counts: collections.Counter[str] = collections.Counter()
    per_minute = 0.0
    for outcome in outcomes:
        counts.update(outcome["counts"])
        per_minute += 60 * sum(outcome["counts"].values()) / outcome["seconds"]
    made = counts.total()
    by_name = ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
    last = max((outcome["last"] for outcome in outcomes), default=options.seed)
    print(f"fuzz: {made} calls, {per_minute:.0f} a minute, seeds {options.seed} to {last}: {by_name}", flush=True)
    if per_minute < options.least:
        print(f"fuzz: expected {options.least:.0f} calls a minute or more")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
