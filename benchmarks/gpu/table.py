# SPDX-License-Identifier: MIT
"""Tables of a run on a GPU, from its JSON lines and the CSV of ncu: all of it, or short for the end of a terminal.

Usage: python benchmarks/gpu/table.py RESULTS.jsonl [--ncu NCU.csv] [--short]
"""

from __future__ import annotations

import argparse
import csv
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

MARK = "spin_kernel"
SHORT_SIZES = ("1024 crystals", "large cell", "512 x")
# The longest kernels are in the short table, so many of them.
SHORT_KERNELS = 45
DRAM = ("dram__throughput.avg.pct_of_peak_sustained_elapsed", "gpu__dram_throughput.avg.pct_of_peak_sustained_elapsed")
ISSUE = "smsp__issue_active.avg.pct_of_peak_sustained_active"
OCCUPANCY = "sm__warps_active.avg.pct_of_peak_sustained_active"
STALLS = re.compile(r"smsp__average_warps_issue_stalled_(\w+?)_per_issue_active\.ratio")
UNITS = {"nsecond": 1e-9, "ns": 1e-9, "usecond": 1e-6, "us": 1e-6, "msecond": 1e-3, "ms": 1e-3}
UNITS |= {"Kbyte": 1e3, "Mbyte": 1e6, "Gbyte": 1e9}


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("results", type=Path)
    parser.add_argument("--ncu", type=Path)
    parser.add_argument("--short", action="store_true")
    options = parser.parse_args()
    lines = list(read(options.results))
    parts = [ceilings(lines)]
    if options.ncu is not None and options.ncu.exists():
        parts.append(kernels(options.ncu, lines, options.short))
    parts += [operations(lines, options.short), model(lines, options.short), errors(lines)]
    print("\n\n".join(part for part in parts if part))


def read(path: Path) -> Iterator[dict[str, Any]]:
    """JSON lines; one that was cut off is left out."""
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            yield json.loads(line)
        except json.JSONDecodeError:
            continue


def ceilings(lines: Iterable[dict[str, Any]]) -> str:
    """Rates of the machine."""
    found = [line for line in lines if line["kind"] == "ceilings" and "bytes_per_second" in line]
    if not found:
        return ""
    line = found[0]
    parts = [f"{line.get('gpu', line['device'])}, torch {line.get('torch', '?')}"]
    parts.append(
        f"copy {line['bytes_per_second'] / 1e9:.0f} GB/s, float32 {line['flops_per_second'] / 1e12:.1f} TFLOP/s"
    )
    parts += [
        f"{name} {line[f'{name}_flops_per_second'] / 1e12:.0f} TFLOP/s"
        for name in ("tf32", "bf16")
        if f"{name}_flops_per_second" in line
    ]
    return "; ".join(parts)


def operations(lines: list[dict[str, Any]], short: bool) -> str:
    """A row for each case and pass: microseconds in a CUDA graph, in the stream, on the host; floor; other sides."""
    rows: dict[tuple[str, str, str], dict[str, dict[str, Any]]] = defaultdict(dict)
    for line in lines:
        if line["kind"] == "op":
            name = line["side"] if line["build"] == "main" else line["build"]
            rows[line["op"], line["case"], line["pass"]][name] = line
    others = sorted({name for sides in rows.values() for name in sides} - {"native"})
    heads = ["graph us", "stream", "host", "floor", "of it", *others]
    text = [f"{'operation, case, pass':<70}" + "".join(f"{head:>9}" for head in heads)]
    for (op, case, pass_name), sides in rows.items():
        native = sides.get("native", {})
        if short and not case.startswith(SHORT_SIZES):
            continue
        if short and pass_name == "double backward":
            continue
        best = _best(native)
        cells = [_us(native.get(f"{name}_s")) for name in ("captured", "stream", "host", "floor")]
        cells.append(f"{native['floor_s'] / best:.0%}" if best and native.get("floor_s") else "-")
        for other in others:
            theirs = _best(sides.get(other, {}))
            cells.append(f"{theirs / best:.2f}x" if theirs and best else "-")
        passes = {"forward": "F", "forward+backward": "F+B", "double backward": "F+B+B"}
        text.append(f"{f'{op}, {case}, {passes[pass_name]}':<70}" + "".join(f"{cell:>9}" for cell in cells))
        text += [f"    {whose}: {_us(seconds)} us" for whose, seconds in native.get("published_s", {}).items()]
        if not short:
            text += [f"    not kept: {promise}" for promise in native.get("missed", ())]
            text += [f"    not captured: {native['not_captured']}"] if "not_captured" in native else []
            text += [f"    {name} differs: {side['differs']}" for name, side in sides.items() if "differs" in side]
    if short:
        count = sum(len(sides.get("native", {}).get("missed", ())) for sides in rows.values())
        text.append(f"{count} promises not kept (report.txt lists them)")
    return "\n".join(text) if len(text) > 1 + short else ""


def _best(line: dict[str, Any]) -> float | None:
    return line.get("captured_s") or line.get("stream_s")


def _us(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1e6:.1f}"


def model(lines: list[dict[str, Any]], short: bool) -> str:
    """A row for each measurement of the whole model, then the longest kernels of a forward pass."""
    rows = [line for line in lines if line["kind"] == "model" and "error" not in line and "skipped" not in line]
    text = ["the bundled model: ms"]
    for row in rows:
        times = {
            "wall": row.get("wall_s"),
            "host": row.get("host_s"),
            "graph": row.get("captured_s"),
            "kernels": row.get("kernel_s"),
            "ours": row.get("ours_s"),
            "build": row.get("build_s"),
            "copy": row.get("copy_s"),
        }
        parts = [f"{name} {seconds * 1e3:.2f}" for name, seconds in times.items() if seconds is not None]
        parts += [f"{row['launches']} launches ({row['our_launches']} ours)"] if "launches" in row else []
        parts += [f"peak {row['peak_bytes'] / 2**30:.1f} GiB"] if "peak_bytes" in row else []
        parts += [f"{row['atoms']} atoms, bonds {row['bonds']}"] if "atoms" in row else []
        parts += [f"{row['batches']} batches"] if "batches" in row else []
        text.append(f"{row['what']:<44} " + "  ".join(parts))
    for row in rows:
        if "top" in row and (not short or row["what"] == "forward, native, kernels"):
            text.append(f"longest of {row['what']}:")
            for name, seconds, count in row["top"][: 14 if short else None]:
                text.append(f"  {seconds * 1e3:8.3f} ms {count:5} x  {_kernel_name(name)[:100]}")
    return "\n".join(text) if rows else ""


def errors(lines: list[dict[str, Any]]) -> str:
    """What failed or was cut off."""
    text = []
    for line in lines:
        if "error" in line:
            named = [line.get(key) for key in ("what", "op", "case", "pass", "side", "build")]
            text.append(f"failed: {line['kind']} {', '.join(filter(None, named))}: {line['error']}")
        elif line["kind"] == "cut off":
            text.append(f"no time for the rest: {line['what']}")
    return "\n".join(text)


def kernels(path: Path, lines: list[dict[str, Any]], short: bool) -> str:
    """A row for each kernel that ncu measured, under the operation that launched it."""
    runs = {line["index"]: line for line in lines if line["kind"] == "profiled"}
    found, index = [], 0
    for row in ncu_rows(path):
        if MARK in row["Kernel Name"]:
            index += 1
            continue
        run = runs.get(index, {})
        label = ", ".join(filter(None, (run.get("op"), run.get("case"))))
        found.append((label, row, _number(row, "gpu__time_duration.sum") or 0.0))
    if short:
        longest = sorted(found, key=lambda item: -item[2])[:SHORT_KERNELS]
        found = [item for item in found if item in longest]
    heads = (
        f"{'us':>8} {'dram%':>6} {'MB':>7} {'issue%':>6} {'occ%':>5} {'regs':>4} {'grid':>7} {'bank ld/st':>11}  stalls"
    )
    text, before = [f"ncu (caches cold): {heads}"], None
    for label, row, seconds in found:
        if label != before:
            text.append(label)
            before = label
        moved = sum(_number(row, f"dram__bytes_{way}.sum") or 0.0 for way in ("read", "write"))
        banks = [
            _number(row, f"l1tex__data_bank_conflicts_pipe_lsu_mem_shared_op_{way}.sum") or 0 for way in ("ld", "st")
        ]
        stalls = sorted(
            ((_number(row, key) or 0.0, match[1]) for key in row if (match := STALLS.fullmatch(key))), reverse=True
        )[:3]
        cells = [f"{seconds * 1e6:8.1f}", f"{_shown(row, *DRAM):>6}", f"{moved / 1e6:7.1f}", f"{_shown(row, ISSUE):>6}"]
        cells += [f"{_shown(row, OCCUPANCY):>5}", f"{_shown(row, 'launch__registers_per_thread'):>4}"]
        cells += [f"{_shown(row, 'launch__grid_size'):>7}", f"{banks[0] / 1e3:5.0f}k{banks[1] / 1e3:4.0f}k "]
        cells += [f"{name} {value:.1f}" for value, name in stalls]
        text.append(f"  {_kernel_name(row['Kernel Name'])[:44]:<44} {' '.join(cells)}")
    return "\n".join(text) if found else f"ncu: no kernels in {path.name}"


def ncu_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Rows of `ncu --csv --page raw`, with numbers as floats: times in seconds, sizes in bytes."""
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        rows = list(csv.reader(line for line in file if line.startswith('"')))
    heads: list[str] = []
    units: list[str] = []
    for row in rows:
        if "Kernel Name" in row:
            heads, units = row, []
        elif heads and not units:
            units = row
        elif heads and len(row) == len(heads):
            yield {name: _converted(text, unit) for name, text, unit in zip(heads, row, units, strict=True)}


def _converted(text: str, unit: str) -> str | float:
    try:
        return float(text.replace(",", "")) * UNITS.get(unit, 1.0)
    except ValueError:
        return text


def _number(row: dict[str, Any], name: str) -> float | None:
    value = row.get(name)
    return value if isinstance(value, float) else None


def _shown(row: dict[str, Any], *names: str) -> str:
    values = [value for name in names if (value := _number(row, name)) is not None]
    return f"{values[0]:.0f}" if values else "-"


def _kernel_name(name: str) -> str:
    """Without namespaces, return type and arguments."""
    name = name.replace("(anonymous namespace)::", "").replace("<unnamed>::", "")
    name = re.sub(r"\((unsigned |long |int|bool|char|short)+\)", "", re.sub(r"^void ", "", name))
    name = re.sub(r"\bdtnn::(cuda::)?", "", name)
    name = re.sub(r"\bat::native::", "", name)
    return name.split("(")[0] if "<" not in name else re.sub(r"\(.*$", "", name) or name


if __name__ == "__main__":
    main()
