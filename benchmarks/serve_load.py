# SPDX-License-Identifier: MIT
"""Load on ``dtnn-fast serve``: requests a second, latencies, lost requests, memory and who took which processor time.

    python -m benchmarks.serve_load --requests 10000 --clients 50

starts a server on a free port, and sends it crystals of 8 atoms from this process, one in each request. Each answer is
compared with the formula of its crystal. ``--url`` loads a server that runs already; its processor time and memory are
then unknown.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit

import numpy as np


class Sample(NamedTuple):
    """A request, and what its answer must have.

    Args:
        request: all bytes of the request.
        name: name of the crystal.
        formula: its formula.
    """

    request: bytes
    name: str
    formula: str


def make_samples(number: int, num_atoms: int, host: str) -> list[Sample]:
    """Make requests from bundled crystals, as CIF without symmetry.

    Args:
        number: of crystals.
        num_atoms: of each crystal.
        host: for the header.
    """
    from dtnn_fast.crystals.elements import SYMBOLS
    from dtnn_fast.datasets.bundled import load_screening

    samples = []
    for crystal in [crystal for crystal in load_screening() if crystal.num_atoms == num_atoms][:number]:
        lengths = np.linalg.norm(crystal.cell, axis=1)
        unit = crystal.cell / lengths[:, None]
        angles = [np.degrees(np.arccos(np.dot(unit[i], unit[j]))) for i, j in ((1, 2), (0, 2), (0, 1))]
        lines = [f"data_{crystal.id}"]
        lines += [f"_cell_length_{name} {value:.10f}" for name, value in zip("abc", lengths, strict=True)]
        names = ("alpha", "beta", "gamma")
        lines += [f"_cell_angle_{name} {value:.10f}" for name, value in zip(names, angles, strict=True)]
        lines += ["loop_", "_atom_site_label", *(f"_atom_site_fract_{name}" for name in "xyz")]
        fractional = crystal.positions @ np.linalg.inv(crystal.cell)
        for z, place in zip(crystal.atomic_numbers.tolist(), fractional, strict=True):
            lines.append(f"{SYMBOLS[z]} " + " ".join(f"{value:.10f}" for value in place))
        content = {"crystals": [{"name": f"{crystal.id}.cif", "text": "\n".join(lines) + "\n"}]}
        body = json.dumps(content).encode()
        headers = f"Host: {host}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
        head = f"POST /v1/predict HTTP/1.1\r\n{headers}\r\n\r\n"
        samples.append(Sample(head.encode() + body, f"{crystal.id}.cif", crystal.formula))
    return samples


async def run_client(
    place: SplitResult, samples: Sequence[Sample], numbers: Iterator[int], outcomes: Counter[str]
) -> list[float]:
    """Send requests on one connection until the numbers end, and return the latencies in seconds."""
    latencies = []
    reader, writer = await asyncio.open_connection(place.hostname, place.port)
    for number in numbers:
        sample = samples[number % len(samples)]
        start = time.perf_counter()
        try:
            writer.write(sample.request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
            body = await reader.readexactly(int(length[1]) if length else 0)
        except (OSError, EOFError) as error:
            outcomes[f"lost: {type(error).__name__}"] += 1
            reader, writer = await asyncio.open_connection(place.hostname, place.port)
            continue
        latencies.append(time.perf_counter() - start)
        outcomes[_judge(head, body, sample)] += 1
    writer.close()
    return latencies


def _judge(head: bytes, body: bytes, sample: Sample) -> str:
    if b" 200 " not in head[:16]:
        return head[:40].decode("latin-1").partition("\r")[0]
    (result,) = json.loads(body)["results"]
    if result["name"] != sample.name:
        return "answer of another request"
    if result["status"] != "predicted":
        return f"rejected: {result['reason']}"
    return "right" if result["formula"] == sample.formula else "wrong formula"


def processor_seconds(pid: int) -> np.ndarray:
    """Return the processor time of a process, and of its living children together. [2], s"""

    def of_one(pid: int) -> int:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    return np.array([of_one(pid), sum(map(of_one, children_of(pid)))]) / os.sysconf("SC_CLK_TCK")


def resident_bytes(pid: int) -> list[int]:
    """Return the resident memory of a process and of each of its children. bytes"""
    pages = [int(Path(f"/proc/{one}/statm").read_text(encoding="ascii").split()[1]) for one in (pid, *children_of(pid))]
    return [number * os.sysconf("SC_PAGE_SIZE") for number in pages]


def children_of(pid: int) -> list[int]:
    """List the children of a process."""
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]


async def load(
    url: str, samples: Sequence[Sample], requests: int, clients: int
) -> tuple[float, list[float], Counter[str]]:
    """Send requests on several connections at a time; returns seconds, latencies and outcomes."""
    numbers, outcomes = iter(range(requests)), Counter[str]()
    place = urlsplit(url)
    start = time.perf_counter()
    found = await asyncio.gather(*(run_client(place, samples, numbers, outcomes) for _ in range(clients)))
    return time.perf_counter() - start, [latency for one in found for latency in one], outcomes


def main() -> None:
    """Run the load of the command line, and print what is measured."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--url", help="address of a server that runs already")
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--atoms", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=1, help="the load is repeated, to see whether memory grows")
    parser.add_argument("options", nargs="*", help="further options of dtnn-fast serve, behind --")
    arguments = parser.parse_args()
    server = None
    url = arguments.url
    if url is None:
        command = [sys.executable, "-m", "dtnn_fast", "serve", "--port", "0", *arguments.options]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert server.stdout is not None
        url = re.search(r"http://\S+", server.stdout.readline())[0]  # type: ignore[index]
    try:
        samples = make_samples(200, arguments.atoms, urlsplit(url).netloc)
        asyncio.run(load(url, samples, 200, min(arguments.clients, 50)))  # to warm up
        for _ in range(arguments.rounds):
            _measure(url, samples, arguments, None if server is None else server.pid)
    finally:
        if server is not None:
            server.terminate()
            server.wait()


def _measure(url: str, samples: Sequence[Sample], arguments: argparse.Namespace, pid: int | None) -> None:
    mine, theirs = time.process_time(), np.zeros(2) if pid is None else processor_seconds(pid)
    number = arguments.requests
    seconds, latencies, outcomes = asyncio.run(load(url, samples, number, arguments.clients))
    mine = time.process_time() - mine
    at = np.percentile(1e3 * np.array(latencies), [50, 95, 99, 100])
    print(
        f"{number:,} requests, {arguments.clients} clients: {number / seconds:.0f} a second; latency median "
        f"{at[0]:.0f}, 95 % {at[1]:.0f}, 99 % {at[2]:.0f}, longest {at[3]:.0f} ms; "
        f"load average {os.getloadavg()[0]:.1f}"
    )
    print(f"  outcomes: {dict(outcomes)}")
    spent = f"client {1e3 * mine / number:.2f} ms"
    if pid is not None:
        main, readers = 1e3 * (processor_seconds(pid) - theirs) / number
        sizes = " + ".join(f"{size / 2**20:.1f}" for size in resident_bytes(pid))
        spent = f"server {main:.2f} ms, readers {readers:.2f} ms, {spent}; memory {sizes} MiB"
    print(f"  processor time for each request: {spent}", flush=True)


if __name__ == "__main__":
    main()
