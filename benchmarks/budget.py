# SPDX-License-Identifier: MIT
"""Operations and bytes of every stage of the bundled model, and the shortest time that a machine could take.

    python benchmarks/budget.py [--threads N]

A stage is what one fused operation does. Its bytes are those that must move between memory and processor when nothing
inside of the stage is written: every input once, every result once, weights not counted (they stay in cache). Times are
the longer of operations over the rate of products and bytes over the rate of a copy, both measured here for the CPU.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from cases.crystals import batch, large_cell
from ceilings import Ceilings, ceilings

from dtnn_fast import DTNN
from dtnn_fast.nn.graph import CrystalGraph, build_graph
from dtnn_fast.nn.reduced_graph import build_reduced_graph
from dtnn_fast.symmetry import with_operations

FLOAT = 4
# Rates of an H200, measured (benchmarks/results/nvidia-h200.md): copy, products in float32.
H200 = Ceilings(4.245e12, 50.8e12)
# A backward multiplies by the transposed weights and forms the weights' gradients. Fused ones repeat the forward.
BACKWARD_PRODUCTS, REPEATED_FORWARD = 2, 1


@dataclass(frozen=True)
class Stage:
    """A fused operation: multiply-adds of its products, and numbers that it reads and writes."""

    name: str
    multiply_adds: float
    numbers: float


def stages(model: DTNN, graph: CrystalGraph) -> list[Stage]:
    """Count the stages of a forward of the native model."""
    encoder, decoder = model.config.encoder, model.config.decoder
    channels = encoder.channels
    s, v, t, r = channels.scalar, channels.vector, channels.rank2, channels.radial
    n = graph.num_atoms
    found = []
    for number, cutoff in enumerate(encoder.cutoffs, start=1):
        e = graph.tier(cutoff).num_bonds
        bonds = (s + 5 * v + r) * s + s * (s + 5 * v)
        # Bond latents in and out, geometry, both ends' indices; atoms are read once (their rows stay in cache).
        found.append(
            Stage(
                f"layer {number}: messages and sums",
                e * bonds,
                e * (2 * (s + 3 * v) + 4 + r + 4) + n * (3 * v + 6 * v + s + s + 3 * v + 6 * v),
            )
        )
        ends = 3 * v * v + 6 * t * v + s * s
        update = 3 * 2 * v * v + 6 * (t + v) * v + 6 * v * t + (2 * s + 4 * v) * s + s * (s + 4 * v)
        read = 0
        if encoder.readout:
            so, vo, to = encoder.readout
            read = s * s + s * (s + 2 * vo + 2 * to) + 2 * s * so + 3 * v * vo + 6 * t * to
            read += 3 * v * v + 6 * t * v + 3 * v * vo + 6 * v * to
        state = s + 3 * v + 6 * t
        found.append(Stage(f"layer {number}: atoms", n * (ends + update + read), n * (3 * state + 2 * s + 18 * v)))
    so, vo, to = encoder.readout or (s, v, t)
    layers, latent, members = len(decoder.layers), decoder.latent, model.config.members
    e = graph.tier(encoder.cutoffs[decoder.layer - 1]).num_bonds
    blocks = members * decoder.blocks
    if decoder.bonds:
        found.append(
            Stage(
                "decoders: bonds",
                e * blocks * (s * latent + latent * latent),
                e * (s + 3) + n * blocks * (latent + 1),
            )
        )
    first = layers * so * latent + 2 * latent**2 + 6 * layers * to * latent
    first += 3 * (layers * vo + (v if decoder.bonds else 0)) * latent
    later = 3 * latent**2 + 6 * latent**2 + 3 * latent**2
    every = 6 * latent**2 + 9 * latent**2 + (latent + 1) * latent
    readouts = 2 * (2 * (latent**2 + latent) + 9 * latent)
    per_member = first + (decoder.blocks - 1) * later + decoder.blocks * every + readouts
    found.append(
        Stage("decoders: atoms", n * members * per_member, n * (layers * (so + 3 * vo + 6 * to) + blocks * latent))
    )
    return found


def seconds(stage: Stage, rates: Ceilings, training: bool) -> float:
    """Return the floor of a stage."""
    times = 1 + (BACKWARD_PRODUCTS + REPEATED_FORWARD if training else 0)
    operations = 2 * stage.multiply_adds * times
    # A backward reads what the forward read, and reads and writes gradients of the same sizes.
    moved = FLOAT * stage.numbers * (3 if training else 1)
    return max(operations / rates.flops_per_second, moved / rates.bytes_per_second)


def table(model: DTNN, graph: CrystalGraph, cpu: Ceilings) -> str:
    """Write the table of one batch in Markdown."""
    lines = [
        "| stage | million multiply-adds | MB | CPU: forward | training step | H200: forward | training step |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    counted = stages(model, graph)
    total = Stage("all", sum(x.multiply_adds for x in counted), sum(x.numbers for x in counted))
    for stage in (*counted, total):
        parts = counted if stage is total else [stage]
        floors = [
            sum(seconds(part, rates, training) for part in parts) for rates in (cpu, H200) for training in (False, True)
        ]
        cells = [f"{stage.multiply_adds / 1e6:,.0f}", f"{FLOAT * stage.numbers / 1e6:.1f}"]
        cells += [f"{1e3 * floor:.1f} ms" for floor in floors[:2]] + [f"{1e3 * floor:.2f} ms" for floor in floors[2:]]
        lines.append(f"| {stage.name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Print the tables of small crystals, with all bonds and one of each orbit, and of a large cell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1, help="threads of the CPU's rates (1)")
    options = parser.parse_args()
    model = DTNN.from_pretrained("dielectric")
    cpu = ceilings("cpu", options.threads)
    rates = f"{cpu.bytes_per_second / 1e9:.1f} GB/s, {cpu.flops_per_second / 1e9:.0f} GFLOP/s"
    print(f"CPU, {options.threads} threads: {rates}")
    crystals, cutoffs = batch("1024 crystals").crystals, model.encoder.cutoffs
    graphs = {
        "1,024 labelled crystals": build_graph(crystals, cutoffs),
        "1,024 labelled crystals, one atom and one bond of each orbit": build_reduced_graph(
            with_operations(crystals), cutoffs
        ),
        "One large cell": build_graph(large_cell(0.5).crystals, cutoffs),
    }
    for name, graph in graphs.items():
        bonds = ", ".join(f"{tier.num_bonds:,} within {tier.cutoff:g}" for tier in graph.tiers)
        print(f"\n{name}: {graph.num_atoms:,} atoms, bonds: {bonds} Angstrom\n\n{table(model, graph, cpu)}")


if __name__ == "__main__":
    main()
