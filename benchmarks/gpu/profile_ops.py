# SPDX-License-Identifier: MIT
"""Run each operation forward and backward once, between marks: what ncu watches.

    ncu --profile-from-start off --kernel-name regex:"dtnn|spin_kernel" ... python profile_ops.py --output RESULTS.jsonl

A `spin_kernel` of torch stands before the kernels of each run; the runs are listed in the JSON lines in the same order.
"""

from __future__ import annotations

import torch
from results import Results, parser, synchronize

# isort: split
from cases import BACKWARD, CASES, Case, bind
from sides import has_kernels

SIZES = ("1024 crystals", "large cell", "512 x")


def main() -> None:
    """Run until the time is over."""
    options = parser(__doc__).parse_args()
    results, device = Results(options), torch.device(options.device)
    sizes = ("1 crystal",) if options.small else SIZES
    count = 0
    for size in sizes:
        for case in CASES:
            if not case.name.startswith(size) or not has_kernels(case, device.type):
                continue
            if results.time_is_over():
                results.add("cut off", what="profiles")
                return
            # A backward pass has the kernels of the forward pass in front.
            pass_name = BACKWARD if BACKWARD in case.passes else case.passes[0]
            count += 1
            results.attempt(
                "profiled",
                lambda c=case, p=pass_name: _run(c, p, device),
                index=count,
                op=case.op,
                case=case.name,
                **{"pass": pass_name},
            )


def _run(case: Case, pass_name: str, device: torch.device) -> dict[str, object]:
    call = bind(pass_name, case.native, case.inputs(device, 0))
    synchronize(device)
    if device.type == "cuda":
        torch.cuda.cudart().cudaProfilerStart()
        torch.cuda._sleep(1000)
    try:
        call()
        synchronize(device)
    finally:
        if device.type == "cuda":
            torch.cuda.cudart().cudaProfilerStop()
    return {}


if __name__ == "__main__":
    main()
