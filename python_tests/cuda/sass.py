# SPDX-License-Identifier: MIT
"""Compiles kernels to the machine code of a GPU (SASS) and reads it: what ptxas makes of the source, without a GPU."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from cuda_emulator import KERNELS, run


@cache
def find_nvcc() -> str:
    """Return the path of nvcc; skip the test where it is not installed."""
    found = shutil.which("nvcc") or shutil.which("nvcc", path="/usr/local/cuda/bin")
    if found is None:
        pytest.skip("compiling for the GPU needs nvcc, which is not installed")
    return found


@cache
def find_nvdisasm() -> str:
    """Return the path of nvdisasm (of the toolkit or of PyPI's nvidia-cuda-nvdisasm); skip the test without it."""
    found = shutil.which("nvdisasm") or shutil.which("nvdisasm", path="/usr/local/cuda/bin")
    spec = None if found else importlib.util.find_spec("nvidia")
    for folder in spec.submodule_search_locations or () if spec else ():
        found = found or next((str(path) for path in sorted(Path(folder).glob("*/bin/nvdisasm"))), None)
    if found is None:
        pytest.skip("reading machine code needs nvdisasm, which is not installed (pip install nvidia-cuda-nvdisasm)")
    return found


@dataclass(frozen=True)
class Instruction:
    """One instruction: its address, and its text with operands but without the guarding predicate."""

    address: int
    text: str

    @property
    def opcode(self) -> str:
        """Name with modifiers, such as LDG.E.128."""
        return self.text.split()[0]


class Kernel:
    """The instructions of one kernel, in order."""

    def __init__(self, name: str, listing: str) -> None:
        self.name = name
        self.instructions: list[Instruction] = []
        labels: dict[str, int] = {}
        waiting: list[str] = []
        for line in listing.splitlines():
            if label := re.match(r"\s*(\.L\w+):", line):
                waiting.append(label[1])
            elif found := re.match(r"\s*/\*([0-9a-f]{4,})\*/\s+(?:@!?U?P\w+\s+)?(.*?)\s*;", line):
                self.instructions.append(Instruction(int(found[1], 16), found[2]))
                labels |= dict.fromkeys(waiting, len(self.instructions) - 1)
                waiting = []
        self._labels = labels

    def loops(self) -> list[list[Instruction]]:
        """Return the body of each loop, shortest first: what lies between a backward branch and its target."""
        bodies = []
        for end, instruction in enumerate(self.instructions):
            target = re.search(r"`\((\.L\w+)\)", instruction.text) if instruction.opcode.startswith("BRA") else None
            begin = self._labels.get(target[1], end) if target else end
            if begin < end:
                bodies.append(self.instructions[begin : end + 1])
        return sorted(bodies, key=len)


def loads_before_use(instructions: list[Instruction], load: str, use: str) -> list[int]:
    """Return how many `load` come between two runs of `use`; both are patterns of opcodes.

    Loads that do not wait for each other are issued together, so the first number is how many are in flight when the
    arithmetic starts to wait for them.
    """
    runs = [0]
    used = False
    for instruction in instructions:
        if re.match(load, instruction.opcode):
            if used:
                runs.append(0)
                used = False
            runs[-1] += 1
        elif re.match(use, instruction.opcode):
            used = runs[-1] > 0
    return runs


@cache
def kernels_of(stem: str, architecture: str) -> dict[str, Kernel]:
    """Compile csrc/ops/cuda/<stem>.cu for sm_<architecture>; return its kernels by mangled name."""
    nvcc, nvdisasm = find_nvcc(), find_nvdisasm()
    source = KERNELS / f"{stem}.cu"
    with TemporaryDirectory() as folder:
        cubin = str(Path(folder) / "kernel.cubin")
        run([nvcc, "-std=c++17", "-O3", f"-arch=sm_{architecture}", "-cubin", "-o", cubin, str(source)])
        listing = subprocess.run([nvdisasm, "-c", cubin], capture_output=True, text=True, check=True).stdout
    parts = re.split(r"^\s*\.section\s+\.text\.([^,\s]+),.*$", listing, flags=re.MULTILINE)[1:]
    return {name: Kernel(name, listing) for name, listing in zip(parts[0::2], parts[1::2], strict=True)}


def kernel(stem: str, name: str, architecture: str = "90", argument: str = "") -> Kernel:
    """Return the one kernel of a file whose mangled name contains `name` and `argument`, such as gather_rowsIfLi4E."""
    found = [value for key, value in kernels_of(stem, architecture).items() if name in key and argument in key]
    assert len(found) == 1, f"{name} in {list(kernels_of(stem, architecture))}"
    return found[0]
