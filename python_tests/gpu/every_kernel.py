# SPDX-License-Identifier: MIT
"""Every operation and its derivatives once, on small inputs: what compute-sanitizer watches.

Usage: compute-sanitizer --tool memcheck python every_kernel.py cuda
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))

import torch
from gpu_samples import MEDIUM, SMALL
from test_gpu_lists import labelled, large_cell, random_cells


def main(device: torch.device) -> None:
    """Odd sizes come from the small samples, several blocks from the others."""
    calls = 0
    for sample in [*SMALL, *MEDIUM]:
        if _has_kernel(sample.op, device):
            for dtype in (torch.float32, torch.float64):
                sample.on(device, dtype).derivatives()
                calls += 1
    if _has_kernel("neighbor_list", device):
        for batch in (labelled(50), random_cells(20, 0), large_cell(3000)):
            batch.on(device).list()
            calls += 1
    if device.type == "cuda":
        torch.cuda.synchronize()
    print(f"{calls} calls with their derivatives")


def _has_kernel(op: str, device: torch.device) -> bool:
    return torch._C._dispatch_has_kernel_for_dispatch_key(f"dtnn_fast::{op}", device.type.upper())


if __name__ == "__main__":
    main(torch.device(sys.argv[1]))
