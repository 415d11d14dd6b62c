# SPDX-License-Identifier: MIT
"""Random calls of all operations, valid and spoiled: ``python python_tests/fuzz --seconds 60 --seed 0``.

Every call is drawn from its own seed, so ``--seed S --calls 1`` repeats one. It is meant for a build with
AddressSanitizer and UndefinedBehaviorSanitizer (see .ci/fuzz). A worker process makes the calls, so that a crash is
reported with its seed, too.
"""

from __future__ import annotations

import argparse
import collections
import os
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

MAX_FAILURES = 5


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="seconds to run (60)")
    parser.add_argument("--calls", type=int, help="stop after this many calls")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first call (0)")
    parser.add_argument("--least", type=float, default=0.0, help="fail below this many calls a minute")
    parser.add_argument("--status", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def work(options: argparse.Namespace) -> int:
    """Make the calls and print the outcomes; return 1 after a failure."""
    from fuzzing.judge import run_call

    counts: collections.Counter[str] = collections.Counter()
    status = os.open(options.status, os.O_WRONLY)
    start = time.monotonic()
    seed = options.seed
    while time.monotonic() - start < options.seconds and (options.calls is None or seed - options.seed < options.calls):
        os.pwrite(status, b"%20d" % seed, 0)
        try:
            counts[run_call(seed)] += 1
        except Exception:
            counts["failed"] += 1
            print(f"FAILED, seed {seed}:\n{traceback.format_exc()}", flush=True)
            if counts["failed"] == MAX_FAILURES:
                break
        seed += 1
    made = seed - options.seed
    per_minute = 60 * made / (time.monotonic() - start)
    outcome = ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
    print(f"fuzz: {made} calls, {per_minute:.0f} a minute, seeds {options.seed} to {seed - 1}: {outcome}", flush=True)
    if per_minute < options.least:
        print(f"fuzz: expected {options.least:.0f} calls a minute or more")
        return 1
    return int(counts["failed"] > 0)


def main() -> int:
    options = arguments()
    if options.status is not None:
        return work(options)
    with tempfile.TemporaryDirectory() as folder:
        status = Path(folder) / "seed"
        status.touch()
        worker = subprocess.run([sys.executable, *sys.argv, "--status", str(status)], check=False)
        if worker.returncode not in (0, 1):
            seed = status.read_text().strip() or "none"
            print(
                f"fuzz: the process died with status {worker.returncode} in the call of seed {seed}: "
                f"repeat it with --seed {seed} --calls 1"
            )
        return int(worker.returncode != 0)


if __name__ == "__main__":
    raise SystemExit(main())
