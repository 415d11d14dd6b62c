# SPDX-License-Identifier: MIT
"""The report on recorded results of `pytest benchmarks`: a run on two shared cores, cut down to four cases."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RECORDED = Path(__file__).parent / "recorded.json"


def report(*arguments: object) -> str:
    command = [sys.executable, "-m", "benchmarks.report", *map(str, arguments)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout


def table(page: str) -> dict[tuple[str, str, str], dict[str, str]]:
    """The rows by operation, case and pass with device."""
    lines = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line.startswith("|")
    ]
    heads, _, *rows = lines
    named = [dict(zip(heads, row, strict=True)) for row in rows]
    return {(row["op"], row["pass"], row["device"]): row for row in named}


@pytest.fixture
def on_gpu(tmp_path) -> Path:
    """The recorded sum as if measured on a GPU: 100 MB in 50 us as a graph, where a copy moves 4 TB/s."""
    document = json.loads(RECORDED.read_text())
    document["machine_info"] |= {"gpu": "GPU of this test", "cuda": "13.0", "commit": "abcdef0123"}
    (benchmark,) = (b for b in document["benchmarks"] if b["extra_info"]["op"] == "bond_to_atom_sum")
    benchmark = copy.deepcopy(benchmark)
    benchmark["extra_info"] |= {
        "device": "cuda",
        "median_s": {"native": 1e-4, "eager": 6e-4},
        "captured_s": 5e-5,
        "bytes": 1e8,
        "flops": 1e6,
        "ceilings": {"bytes_per_second": 4e12, "flops_per_second": 5e13},
    }
    document["benchmarks"] = [benchmark]
    path = tmp_path / "gpu.json"
    path.write_text(json.dumps(document))
    return path


def test_ratios_come_from_the_medians():
    rows = table(report(RECORDED))
    assert len(rows) == 4
    lists = rows["neighbor_list", "forward", "cpu"]
    assert lists["ours ms"] == "4.941"
    assert lists["best peer"] == "pymatgen 13.07x"  # 64.59 ms, before nvalchemi's 65.56
    assert lists["compiled"] == "not measured"
    linear = rows["rank2_linear", "double backward", "cpu"]
    assert (linear["eager"], linear["compiled"]) == ("2.18x", "1.32x")
    info = next(
        b["extra_info"] for b in json.loads(RECORDED.read_text())["benchmarks"] if "bond_to_atom_sum" in b["name"]
    )
    rate = info["bytes"] / info["median_s"]["native"]
    sums = rows["bond_to_atom_sum", "forward+backward", "cpu"]
    assert sums["GB/s"] == f"{rate / 1e9:.1f}"
    assert sums["of copy"] == f"{rate / info['ceilings']['bytes_per_second']:.0%}"


def test_header_and_notes():
    page = report(RECORDED)
    assert "AMD EPYC, 2 cores; torch 2.13.0+cpu; Python 3.11.7; commit 0d0a21f with changes; 2026-11-22" in page
    assert "cpu, 1 thread: copy 33.3 GB/s (read and written), float32 product 185 GFLOP/s" in page
    assert "- on cuda: everything" in page
    assert "- tonari of neighbor_list: not installed" in page
    assert "rank2_gate, 1024 crystals, N x 3 x 32, forward+backward, cpu: eager takes 1.31x as long" in page
    assert "A quick run" not in page


def test_several_files_are_one_table(on_gpu):
    page = report(RECORDED, on_gpu)
    rows = table(page)
    assert len(rows) == 5
    gpu = rows["bond_to_atom_sum", "forward+backward", "cuda"]
    assert gpu["ours ms"] == "0.100 (0.050 as a graph)"
    assert (gpu["eager"], gpu["best peer"]) == ("6.00x", "not measured")
    assert (gpu["GB/s"], gpu["of copy"]) == ("2000.0", "50%")  # of the replayed time
    assert "GPU of this test (CUDA 13.0)" in page
    assert "commit abcdef0" in page
    assert "- on cuda: neighbor_list, rank2_gate, rank2_linear" in page


def test_floors_into_a_document(on_gpu, tmp_path):
    document = tmp_path / "kernels.md"
    document.write_text("Before.\n<!-- floors: begin -->\nold\n<!-- floors: end -->\nAfter.\n")
    for _ in range(2):  # again over its own table
        report(on_gpu, "--kernels", document)
    text = document.read_text()
    assert text.startswith("Before.\n<!-- floors: begin -->\n- ")
    assert text.endswith("<!-- floors: end -->\nAfter.\n")
    assert "old" not in text
    (row,) = table(text).values()
    assert (row["MB"], row["floor ms"], row["set by"]) == ("100.0", "0.025", "bytes")
    assert (row["reached ms"], row["of the floor"]) == ("0.050", "50%")


def test_no_marks_is_an_error(tmp_path):
    document = tmp_path / "kernels.md"
    document.write_text("no marks\n")
    command = [sys.executable, "-m", "benchmarks.report", str(RECORDED), "--kernels", str(document)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode != 0
    assert "floors: begin" in run.stderr
    assert document.read_text() == "no marks\n"


def test_files_of_others_are_an_error(tmp_path):
    other = tmp_path / "other.json"
    other.write_text(json.dumps({"benchmarks": [{"extra_info": {}}]}))
    command = [sys.executable, "-m", "benchmarks.report", str(other)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 2
    assert "no benchmark of dtnn_fast" in run.stderr
