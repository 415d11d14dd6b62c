# SPDX-License-Identifier: MIT
"""Peak memory of a training step of the bundled model: native operations, reduced graphs, reference implementations.

Each side runs in its own process. Its figure is the growth of resident memory in the step, after a step on another
small batch has loaded and started everything:

    python benchmarks/step_memory.py 64
    python benchmarks/step_memory.py 64 --forces  (a step on energies and forces)
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SIDES = ("native", "reduced", "eager")
FORCES = "--forces"


def peak_growth(side: str, num_crystals: int, with_forces: bool) -> float:
    """Measure the growth of this process's resident memory in one training step. MB."""
    import torch
    from force_step import force_step

    from dtnn_fast import DTNN, use_backend
    from dtnn_fast.datasets.bundled import load_labelled
    from dtnn_fast.nn.graph import CrystalGraph
    from dtnn_fast.symmetry import with_operations

    torch.set_num_threads(1)
    model = DTNN.from_pretrained("dielectric")
    crystals = load_labelled()
    chosen = with_operations(crystals[:: max(1, len(crystals) // num_crystals)][:num_crystals])
    make = model.inference_graph if side == "reduced" else model.graph
    small, graph = make(chosen[:2]), make(chosen)

    def step(given: CrystalGraph) -> None:
        if with_forces:
            force_step(model.encoder, given)()  # type: ignore[arg-type]
            return
        model.zero_grad()
        sum(tensors.square().mean() for tensors in model(given).values()).backward()  # type: ignore[union-attr]

    with use_backend("reference" if side == "eager" else "native"):
        step(small)
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
        before = _status("VmRSS")
        step(graph)
    return (_status("VmHWM") - before) / 1000.0


def _status(name: str) -> int:
    """Read a line of Linux' report on this process, in kB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1])


def measure(num_crystals: int, with_forces: bool = False) -> dict[str, float]:
    """Measure the sides, each in a process of its own. MB."""
    command = [sys.executable, __file__, str(num_crystals), *[FORCES] * with_forces]
    # Forces of one atom of each orbit are not those of the crystal.
    sides = [side for side in SIDES if not (with_forces and side == "reduced")]
    return {side: float(subprocess.check_output([*command, side], text=True)) for side in sides}


def main() -> None:
    arguments = [argument for argument in sys.argv[1:] if argument != FORCES]
    with_forces = len(arguments) < len(sys.argv) - 1
    count = int(arguments[0]) if arguments else 64
    if len(arguments) > 1:  # a process of `measure`
        print(peak_growth(arguments[1], count, with_forces))
        return
    found = measure(count, with_forces)
    for side, megabytes in found.items():
        print(f"{count} crystals  {side:8} {megabytes:8.1f} MB  {megabytes / found['eager']:.2f} of eager")


if __name__ == "__main__":
    main()
