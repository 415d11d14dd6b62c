# SPDX-License-Identifier: MIT
"""nvcc compiles every kernel without a warning and without register spills; loads of packs are one instruction."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from cuda_emulator import KERNELS
from sass import find_nvcc

SOURCES = sorted(KERNELS.glob("*.cu"))
STRICT = ["-std=c++17", "-O3", "-Werror", "all-warnings", "-Xcompiler", "-Wall,-Wextra,-Werror"]
ARCHITECTURES = ("80", "90")


@pytest.fixture(scope="session")
def nvcc() -> str:
    return find_nvcc()


def compile_kernel(nvcc: str, source: Path, *flags: str) -> str:
    """Compile, fail on any warning, and return what ptxas reports."""
    done = subprocess.run([nvcc, *STRICT, *flags, str(source)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def spills(report: str) -> dict[str, int]:
    """Bytes that each kernel of a `ptxas -v` report spills to memory, by mangled name and architecture."""
    found = {}
    parts = re.split(r"Compiling entry function '(\S+)' for '(\S+)'", report)[1:]
    for name, architecture, text in zip(parts[0::3], parts[1::3], parts[2::3], strict=True):
        stores_and_loads = re.findall(r"(\d+) bytes spill (?:stores|loads)", text)
        assert len(stores_and_loads) == 2, text
        found[f"{name} {architecture}"] = sum(map(int, stores_and_loads))
    return found


def has_kernels(source: Path) -> bool:
    """Whether a file, or a header that it includes, defines a kernel."""
    text = source.read_text()
    headers = [source.parent / name for name in re.findall(r'#include "(.*)"', text)]
    return any("__global__" in part for part in (text, *(path.read_text() for path in headers if path.exists())))


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_kernels_compile_without_warnings_and_spills(nvcc: str, source: Path, tmp_path: Path) -> None:
    targets = [f"-gencode=arch=compute_{number},code=sm_{number}" for number in ARCHITECTURES]
    report = compile_kernel(nvcc, source, *targets, "-Xptxas", "-v", "-c", "-o", str(tmp_path / "kernel.o"))
    found = spills(report)
    for number in ARCHITECTURES:
        assert any(key.endswith(f"sm_{number}") for key in found) == has_kernels(source), report
    assert {key: spilled for key, spilled in found.items() if spilled > 0} == {}


def test_a_spill_is_seen(nvcc: str, tmp_path: Path) -> None:
    """The check above can fail: a kernel that keeps 64 numbers alive in the fewest registers spills."""
    source = tmp_path / "spill.cu"
    source.write_text(
        "__global__ void spill(float* x) {\n"
        "  float v[64];\n"
        "#pragma unroll\n"
        "  for (int i = 0; i < 64; ++i) v[i] = x[i * 32 + threadIdx.x];\n"
        "  __syncthreads();\n"
        "#pragma unroll\n"
        "  for (int i = 0; i < 64; ++i) x[threadIdx.x * 64 + i] = v[i] * v[63 - i] + v[(i * 7) % 64];\n"
        "}\n"
    )
    output = str(tmp_path / "spill.cubin")
    report = compile_kernel(nvcc, source, "-arch=sm_80", "-maxrregcount=24", "-Xptxas", "-v", "-cubin", "-o", output)
    assert sum(spills(report).values()) > 0


@pytest.mark.parametrize("stem", ["bond_to_atom_sum_cuda", "atom_to_bond_gather_cuda"])
def test_packs_are_loaded_and_stored_at_once(nvcc: str, stem: str, tmp_path: Path) -> None:
    """nvcc silently falls back to narrow loads when it cannot see the alignment; bandwidth is the limit here."""
    output = tmp_path / "kernel.ptx"
    compile_kernel(nvcc, KERNELS / f"{stem}.cu", "-arch=compute_80", "-ptx", "-o", str(output))
    instructions = set(re.findall(r"\b(?:ld|st)\.global\.(?:nc\.)?v\d\.\w+", output.read_text()))
    for kind in ("ld.global.", "st.global."):
        for vector in (r"v4\.[fb]32", r"v2\.[fb]64"):
            pattern = re.escape(kind) + r"(?:nc\.)?" + vector
            assert any(re.fullmatch(pattern, instruction) for instruction in instructions), (
                f"{pattern} not among {sorted(instructions)}"
            )


@pytest.mark.parametrize("stem", ["rank2_linear_cuda", "rank2_gate_cuda", "rank2_weight_grad_cuda"])
def test_products_use_wide_copies_and_tensor_cores(nvcc: str, stem: str, tmp_path: Path) -> None:
    """Asynchronous copies of 16 bytes, 16-byte reads of shared memory, and products in tf32 and bfloat16."""
    output = tmp_path / "kernel.ptx"
    compile_kernel(nvcc, KERNELS / f"{stem}.cu", "-arch=compute_80", "-ptx", "-o", str(output))
    text = output.read_text()
    assert re.search(r"cp\.async\.cg\.shared\.global \[[^]]+\], \[[^]]+\], 16,", text)
    assert re.search(r"ld\.shared\.v4\.[fb]32", text)
    assert "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32" in text
    assert "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32" in text


def test_the_criterion_for_bonds_is_not_fused(nvcc: str, tmp_path: Path) -> None:
    """Which bonds are shorter than the cutoff is fixed to the bit on all devices; a fused multiply-add rounds once."""
    output = tmp_path / "kernel.ptx"
    compile_kernel(nvcc, KERNELS / "bonds_within_cuda.cu", "-arch=compute_80", "-ptx", "-o", str(output))
    arithmetic = re.findall(r"\b(?:mul|add|sub|fma)[.\w]*\.f64", output.read_text())
    assert set(arithmetic) == {"mul.rn.f64", "add.rn.f64", "sub.rn.f64"}
