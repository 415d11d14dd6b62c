# SPDX-License-Identifier: MIT
"""A training step on energies and forces: the encoder with a linear readout, differentiated twice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from dtnn_fast.encoders.native import NativeEncoder
from dtnn_fast.nn.graph import CrystalGraph
from dtnn_fast.potentials.energy_model import EnergyHead, EnergyModel


def force_step(encoder: NativeEncoder, graph: CrystalGraph) -> Callable[[], None]:
    """Make the step: forward, backward to the positions, and backward of both losses to the parameters."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(encoder.channels.scalar, generator=generator, dtype=torch.float64)
    head = EnergyHead(weight, torch.zeros(119, dtype=torch.float64), ())
    model = EnergyModel(encoder, head).to(graph.positions.device)
    graph = replace(graph, positions=graph.positions.detach().requires_grad_())

    def step() -> None:
        model.zero_grad()
        energies = model(graph)
        (forces,) = torch.autograd.grad(energies.sum(), graph.positions, create_graph=True)
        (energies.square().mean() + forces.square().mean()).backward(inputs=list(encoder.parameters()))

    return step
