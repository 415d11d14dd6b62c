# SPDX-License-Identifier: MIT
"""The load of benchmarks/serve_load.py: it counts right answers, and tells wrong and lost ones."""

import asyncio
import sys
from collections import Counter
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
from serve_load import load, make_samples, processor_seconds, resident_bytes

pytestmark = pytest.mark.slow


def test_answers_are_judged(server):
    samples = make_samples(10, 8, f"127.0.0.1:{server.port}")
    assert len(samples) == 10
    _, latencies, outcomes = asyncio.run(load(server.url, samples, 40, 8))
    assert outcomes == Counter({"right": 40})
    assert len(latencies) == 40
    assert min(latencies) > 0
    first, second = samples[:2]
    swapped = [first._replace(name=second.name), first._replace(formula="X")]
    swapped.append(first._replace(request=b"GET /x HTTP/1.1\r\n\r\n"))
    _, _, outcomes = asyncio.run(load(server.url, swapped, 3, 1))
    assert outcomes["answer of another request"] == 1
    assert outcomes["wrong formula"] == 1
    assert outcomes["HTTP/1.1 421 Misdirected Request"] == 1
    main, readers = processor_seconds(server.process.pid)
    assert main > 0
    assert readers > 0
    assert len(resident_bytes(server.process.pid)) == 1 + len(server.readers())
