# SPDX-License-Identifier: MIT
"""Every operation and its derivatives once, on small inputs: what compute-sanitizer watches.

Usage: compute-sanitizer --tool memcheck python every_kernel.py cuda [SECONDS]

After SECONDS it ends with what it has done, so that a slow tool still writes its report.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))

import torch
from gpu_samples import MEDIUM, SMALL
from test_gpu_lists import CUTOFF, labelled, large_cell, random_cells

from dtnn_fast import ops


def main(device: torch.device, seconds: float) -> None:
    """Odd sizes come from the small samples, several blocks from the others."""
    started = time.monotonic()
    calls = _lists(device) if _has_kernel("neighbor_list", device) else 0
    samples = [(sample, dtype) for sample in [*SMALL, *MEDIUM] for dtype in (torch.float32, torch.float64)]
    samples = [(sample, dtype) for sample, dtype in samples if _has_kernel(sample.op, device)]
    for done, (sample, dtype) in enumerate(samples):
        if time.monotonic() - started > seconds:
            print(f"time is over: {len(samples) - done} of {len(samples)} samples left, from {sample.name} on")
            break
        sample.on(device, dtype).derivatives()
        calls += 1
    if device.type == "cuda":
        torch.cuda.synchronize()
    print(f"{calls} calls with their derivatives")


def _lists(device: torch.device) -> int:
    """Neighbor lists of small crystals, random cells and one large cell, and what is made of them."""
    calls = 0
    for batch in (labelled(50), random_cells(20, 0), large_cell(3000)):
        here = batch.on(device)
        bonds = here.list()
        ops.bond_reverses(*bonds)
        ops.bonds_within(here.positions, here.cell, *bonds, 4.0, here.ptr)
        for capacity in (bonds.pairs.shape[1] + 100, 100):
            ops.neighbor_list_fixed(here.positions, here.cell, here.pbc, CUTOFF, capacity, here.ptr, self_pairs=True)
        calls += 5
    return calls


def _has_kernel(op: str, device: torch.device) -> bool:
    return torch._C._dispatch_has_kernel_for_dispatch_key(f"dtnn_fast::{op}", device.type.upper())


if __name__ == "__main__":
    main(torch.device(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else float("inf"))
