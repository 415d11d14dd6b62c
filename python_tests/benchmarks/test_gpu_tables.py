# SPDX-License-Identifier: MIT
"""The tables of a run on a GPU, from JSON lines and a CSV as ncu writes it, and the sides that fail."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import torch
from cases import CASES, FORWARD
from sides import other_sides

CPU = torch.device("cpu")
ROOT = Path(__file__).parents[2]
COLUMNS = {
    "ID": "",
    "Kernel Name": "",
    "dram__bytes_read.sum": "Mbyte",
    "gpu__time_duration.sum": "ns",
    "launch__registers_per_thread": "register/thread",
    "smsp__average_warps_issue_stalled_barrier_per_issue_active.ratio": "inst",
    "smsp__average_warps_issue_stalled_long_scoreboard_per_issue_active.ratio": "inst",
}
KERNELS = [
    ("at::cuda::<unnamed>::spin_kernel(long)", "0", "2,000", "16", "0", "0"),
    ("void dtnn::cuda::<unnamed>::sum_rows<float, (int)4>(long const *)", "250", "1,012,345", "63", "0.5", "7.25"),
    ("at::cuda::<unnamed>::spin_kernel(long)", "0", "2,000", "16", "0", "0"),
    ("dtnn::cuda::(anonymous namespace)::fill(float *)", "1", "1,300", "20", "0.5", "0.25"),
]
OP = {"kind": "op", "build": "main", "device": "cuda", "op": "bond_to_atom_sum", "pass": "forward"}


def quoted(cells) -> str:
    return ",".join(f'"{cell}"' for cell in cells)


def table(tmp_path: Path, lines: list[dict], *arguments: str) -> str:
    results, ncu = tmp_path / "results.jsonl", tmp_path / "ncu.csv"
    # The last line was cut off.
    results.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"kind": "op", "o')
    rows = [quoted([k, *kernel]) for k, kernel in enumerate(KERNELS)]
    ncu.write_text("\n".join(["==PROF== Connected", quoted(COLUMNS), quoted(COLUMNS.values()), *rows]))
    command = [sys.executable, "benchmarks/gpu/table.py", str(results), "--ncu", str(ncu), *arguments]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_kernels_stand_under_the_operation_that_launched_them(tmp_path):
    runs = [{"kind": "profiled", "index": k + 1, "op": op, "case": "1024 crystals"} for k, op in enumerate("AB")]
    lines = table(tmp_path, runs).splitlines()
    first, second = (next(n for n, line in enumerate(lines) if line == f"{op}, 1024 crystals") for op in "AB")
    assert lines[first + 1].split()[:3] == ["sum_rows<float,", "4>", "1012.3"]
    assert "250.0" in lines[first + 1]
    assert "long_scoreboard 7.2 barrier 0.5" in lines[first + 1]
    assert lines[second + 1].split()[:2] == ["fill", "1.3"]
    assert "barrier 0.5 long_scoreboard 0.2" in lines[second + 1]


def test_ratios_are_of_times_in_graphs(tmp_path):
    case = OP | {"case": "1024 crystals, E x 3 x 32, center"}
    native = case | {"side": "native", "captured_s": 50e-6, "stream_s": 60e-6, "host_s": 12e-6, "floor_s": 40e-6}
    eager = case | {"side": "eager", "captured_s": 150e-6, "stream_s": 500e-6, "host_s": 1e-6}
    other = native | {"build": "other", "captured_s": 100e-6}
    page = table(tmp_path, [native | {"missed": ["reaches nothing"]}, eager, other])
    (row,) = (line for line in page.splitlines() if line.startswith("bond_to_atom_sum"))
    assert row.split()[-7:] == ["50.0", "60.0", "12.0", "40.0", "80%", "3.00x", "2.00x"]
    assert "not kept: reaches nothing" in page
    assert "1 promises not kept" in table(tmp_path, [native | {"missed": ["reaches nothing"]}], "--short")


def test_errors_are_listed(tmp_path):
    page = table(tmp_path, [OP | {"case": "c", "side": "eager", "error": "RuntimeError: no memory"}])
    assert "failed: op bond_to_atom_sum, c, forward, eager, main: RuntimeError: no memory" in page


def test_a_side_that_fails_is_named():
    case = next(case for case in CASES if case.label == "bond_vectors, 1 crystal")

    def fails(*_):
        raise RuntimeError("of this test")

    sides, absent = other_sides(dataclasses.replace(case, reference=fails), FORWARD, [case.inputs(CPU, 0)], "cpu")
    assert sides == {}
    assert absent["eager"] == "RuntimeError: of this test"
    assert set(absent) == {"eager", "compiled"}
