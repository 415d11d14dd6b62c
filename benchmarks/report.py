# SPDX-License-Identifier: MIT
"""Turn the JSON of `pytest benchmarks --benchmark-json=RESULT.json` into one Markdown page of ratios.

Usage: python -m benchmarks.report RESULT.json [RESULT.json ...] [--short | --kernels docs/kernels.md]
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NOT_MEASURED = "not measured"
REFERENCE_SIDES = ("eager", "compiled")
# Between these lines of docs/kernels.md stands the table of `floors`.
BEGIN, END = "<!-- floors: begin -->", "<!-- floors: end -->"
# The order of cases within an operation. docs/kernels.md shows the last three: the others are all overhead.
SIZES = ("1 crystal", "32 crystals", "1024 crystals", "large cell", "4e5 bonds")
SHOWN_SIZES = SIZES[2:]


@dataclass(frozen=True)
class Row:
    """One benchmark of the JSON.

    Args:
        info: its extra_info, written by benchmarks/test_*.py.
    """

    info: dict[str, Any]

    @property
    def seconds(self) -> float:
        """Median of the native side."""
        return self.info["median_s"]["native"]

    @property
    def fastest(self) -> float:
        """Seconds without the gaps between launches, where the call could be captured in a CUDA graph."""
        return self.info.get("captured_s") or self.seconds

    def ratio(self, side: str) -> float | None:
        """Ratio of a side's time to ours."""
        seconds = self.info["median_s"].get(side)
        return None if seconds is None else seconds / self.seconds

    def best_peer(self) -> tuple[str, float] | None:
        """The fastest side that is neither native nor a reference implementation."""
        peers = {name: s for name, s in self.info["median_s"].items() if name not in ("native", *REFERENCE_SIDES)}
        if not peers:
            return None
        name = min(peers, key=peers.__getitem__)
        return name, peers[name] / self.seconds

    def rate(self) -> float | None:
        """Bytes per second."""
        moved = self.info.get("bytes")
        return moved / self.fastest if moved else None

    def share_of_copy(self) -> float | None:
        """Share of the bytes a second that a large copy moves on the same device with the same threads."""
        rate, ceilings = self.rate(), self.info.get("ceilings")
        return rate / ceilings["bytes_per_second"] if rate and ceilings else None

    def floor(self) -> tuple[float, str] | None:
        """Shortest time on this machine in seconds, and whether bytes or flops set it."""
        ceilings = self.info.get("ceilings")
        if not ceilings or not self.info.get("bytes"):
            return None
        memory = self.info["bytes"] / ceilings["bytes_per_second"]
        arithmetic = self.info["flops"] / ceilings["flops_per_second"]
        return max((memory, "bytes"), (arithmetic, "flops"))


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the page, or put the table of floors into docs/kernels.md."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description=__doc__.splitlines()[0])
    parser.add_argument("results", nargs="+", type=Path, help="JSON files of pytest-benchmark")
    parser.add_argument("--short", action="store_true", help="print a narrow table of the larger cases only")
    parser.add_argument("--kernels", type=Path, help="replace the table of floors in this file instead of printing")
    options = parser.parse_args(arguments)
    documents = [json.loads(path.read_text(encoding="utf-8")) for path in options.results]
    # A kept list (test_skin_neighbor_list.py) is not one call of an operation, and prints its ratio itself.
    infos = [benchmark["extra_info"] for document in documents for benchmark in document["benchmarks"]]
    rows = [Row(info) for info in infos if "median_s" in info and "op" in info]
    if not rows:
        parser.error("no benchmark of dtnn_fast in these files")
    rows = in_order(rows)
    if options.kernels is not None:
        put_between_marks(options.kernels, f"{sources(documents)}\n\n{floors(rows)}")
    else:
        print(short(rows) if options.short else page(documents, rows))


def in_order(rows: list[Row]) -> list[Row]:
    """Sort by operation as first seen, then by size, then as measured."""
    ops = list(dict.fromkeys(row.info["op"] for row in rows))

    def place(row: Row) -> tuple[int, int]:
        sizes = (n for n, size in enumerate(SIZES) if row.info["case"].startswith(size))
        return ops.index(row.info["op"]), next(sizes, len(SIZES))

    return sorted(rows, key=place)


def page(documents: Iterable[dict[str, Any]], rows: list[Row]) -> str:
    """Return header, table of ratios, and what was not measured or not kept."""
    parts = ["# Benchmarks", "", sources(documents), "", INTRODUCTION, "", ratios(rows), "", *notes(rows)]
    return "\n".join(parts).rstrip()


INTRODUCTION = """
Medians of runs by turns. `eager` is the reference implementation in PyTorch, `compiled` the same under torch.compile,
the best peer the fastest other way; each as a multiple of our time. A pass includes those before it. GB/s counts each
input and output of each stage once (benchmarks/cases/traffic.py). The share is of a large copy on the same device with
the same threads; one above 100 % means that the data stayed in the cache.
""".strip()


def sources(documents: Iterable[dict[str, Any]]) -> str:
    """List machine, torch, commit and ceilings of each file."""
    lines = []
    for document in documents:
        machine, commit = document["machine_info"], document["commit_info"]
        cpu = machine.get("cpu", {})
        parts = [f"{cpu.get('brand_raw', 'unknown processor')}, {cpu.get('count', '?')} cores"]
        parts += [f"{machine['gpu']} (CUDA {machine['cuda']})"] if "gpu" in machine else []
        parts += [f"torch {machine.get('torch', 'unknown')}", f"Python {machine['python_version']}"]
        changed = " with changes" if commit.get("dirty") else ""
        name = machine.get("commit") or commit.get("id") or "unknown"
        parts += [f"commit {name[:7]}{changed}", document["datetime"][:10]]
        rates = {
            (b["extra_info"]["device"], b["extra_info"]["threads"]): b["extra_info"]["ceilings"]
            for b in document["benchmarks"]
            if b["extra_info"].get("ceilings")
        }
        for (device, threads), ceilings in sorted(rates.items()):
            where = device if device == "cuda" else f"{device}, {threads} thread{'s' * (threads > 1)}"
            parts.append(
                f"{where}: copy {ceilings['bytes_per_second'] / 1e9:.1f} GB/s (read and written), "
                f"float32 product {ceilings['flops_per_second'] / 1e9:.0f} GFLOP/s"
            )
        lines.append("- " + "; ".join(parts))
    return "\n".join(lines)


def ratios(rows: Iterable[Row]) -> str:
    """Return the table with a row for each operation, pass and case."""
    heads = ("op", "case", "pass", "ours ms", "eager", "compiled", "best peer", "threads", "device", "GB/s", "of copy")
    lines = [_line(heads), _line(["---"] * 3 + ["---:"] * 3 + ["---", "---:", "---"] + ["---:"] * 2)]
    for row in rows:
        info, peer, rate = row.info, row.best_peer(), row.rate()
        ours = f"{row.seconds * 1e3:.3f}"
        if info.get("captured_s"):
            ours += f" ({info['captured_s'] * 1e3:.3f} as a graph)"
        cells = [info["op"], info["case"], info["pass"], ours]
        cells += [_times(row.ratio(side)) for side in REFERENCE_SIDES]
        cells += [NOT_MEASURED if peer is None else f"{peer[0]} {_times(peer[1])}"]
        cells += [str(info["threads"]), info["device"], NOT_MEASURED if rate is None else f"{rate / 1e9:.1f}"]
        lines.append(_line([*cells, _percent(row.share_of_copy())]))
    return "\n".join(lines)


def short(rows: Iterable[Row]) -> str:
    """Return the larger cases in aligned columns, for a terminal."""
    lines = [f"{'op, case, pass, device':<78} {'ours ms':>9} {'eager':>7} {'compiled':>8} {'of copy':>7}"]
    for row in rows:
        info, share = row.info, row.share_of_copy()
        if info["case"].startswith(SHOWN_SIZES):
            name = f"{info['op']}, {info['case']}, {info['pass']}, {info['device']}"
            cells = ["-" if ratio is None else f"{ratio:.1f}x" for ratio in map(row.ratio, REFERENCE_SIDES)]
            cells.append("-" if share is None else f"{share:.0%}")
            lines.append(f"{name:<78} {row.fastest * 1e3:9.3f} {cells[0]:>7} {cells[1]:>8} {cells[2]:>7}")
    return "\n".join(lines)


def floors(rows: Iterable[Row]) -> str:
    """Return the table of docs/kernels.md: bytes, operations, the floor they set, and the time reached."""
    heads = ("op", "case", "pass", "device", "MB", "Mflop", "floor ms", "set by", "reached ms", "of the floor")
    lines = [_line(heads), _line(["---"] * 4 + ["---:"] * 3 + ["---"] + ["---:"] * 2)]
    for row in rows:
        info, floor = row.info, row.floor()
        if floor is None or not info["case"].startswith(SHOWN_SIZES):
            continue
        cells = [info["op"], info["case"], info["pass"], info["device"]]
        cells += [f"{info['bytes'] / 1e6:.1f}", f"{info['flops'] / 1e6:.1f}", f"{floor[0] * 1e3:.3f}", floor[1]]
        lines.append(_line([*cells, f"{row.fastest * 1e3:.3f}", _percent(floor[0] / row.fastest)]))
    return "\n".join(lines)


def notes(rows: Iterable[Row]) -> list[str]:
    """List what was not measured and why, and the promises that were not kept."""
    absent: dict[tuple[str, str], set[str]] = defaultdict(set)
    missed, devices = [], defaultdict(set)
    for row in rows:
        info = row.info
        devices[info["device"]].add(info["op"])
        for side, reason in info.get("absent", {}).items():
            absent[side, reason].add(info["op"])
        where = f"{info['op']}, {info['case']}, {info['pass']}, {info['device']}"
        missed += [f"- {where}: {promise}" for promise in info.get("missed", ())]
    lines = ["Not measured:", ""]
    lines += [f"- {side} of {', '.join(sorted(found))}: {reason}" for (side, reason), found in absent.items()]
    all_ops = set().union(*devices.values())
    for device in ("cpu", "cuda"):
        left = all_ops - devices[device]
        if left:
            lines.append(f"- on {device}: {'everything' if left == all_ops else ', '.join(sorted(left))}")
    lines += ["", "Promises not kept in this run:", "", *(missed or ["- none"])]
    if any(row.info["once"] for row in rows):
        lines += ["", "**A quick run: each call was made once, so these figures mean nothing.**"]
    return lines


def put_between_marks(path: Path, text: str) -> None:
    """Replace the text between the two marks of the file.

    Raises:
        ValueError: a mark is missing.
    """
    before, begin, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{path}: expected the lines {BEGIN} and {END}")
    path.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _times(ratio: float | None) -> str:
    return NOT_MEASURED if ratio is None else f"{ratio:.2f}x"


def _percent(share: float | None) -> str:
    return NOT_MEASURED if share is None else f"{share:.0%}"


if __name__ == "__main__":
    main()
