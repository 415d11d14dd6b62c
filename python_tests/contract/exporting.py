# SPDX-License-Identifier: MIT
"""Operations as exported programs, and a small model, for the tests of torch.export and AOTInductor."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from model_cases import TINY, asymmetric_crystals, randomised, small_crystals
from op_cases import Case, batch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from dtnn_fast.crystals.crystal import Crystal
from dtnn_fast.encoders import NativeEncoderConfig
from dtnn_fast.model.decoder import DecoderConfig
from dtnn_fast.model.dtnn import DTNN, DTNNConfig


class FunctionModule(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *arguments: Tensor) -> Any:
        return self.function(*arguments)


def exported(case: Case) -> ExportedProgram:
    """Export a public function for batches of any size."""
    arguments, others = case.arguments(batch(10)), case.arguments(batch(7))
    # Dimensions that differ between two batches are dynamic.
    shapes = [
        {d: Dim.DYNAMIC for d in range(x.dim()) if x.shape[d] != y.shape[d]}
        for x, y in zip(arguments, others, strict=True)
    ]
    with torch.fx.experimental._config.patch(backed_size_oblivious=True):
        return torch.export.export(FunctionModule(case.call), arguments, dynamic_shapes=(tuple(shapes),))


@cache
def small_model(layers: int = 2) -> DTNN:
    """Make a model with nested lists of bonds, and few layers, so that it compiles in seconds."""
    encoder = NativeEncoderConfig(cutoffs=(3.0, 4.0)[-layers:], mean_bonds=(7.0, 16.0)[-layers:], channels=TINY)
    return randomised(DTNNConfig(encoder, DecoderConfig(layer=layers, latent=4, blocks=1)))


def crystals_without_bonds() -> list[Crystal]:
    """Return one atom in a large box."""
    return [Crystal.make("alone", [3], [[0.0, 0.0, 0.0]], 30.0 * torch.eye(3).double().numpy())]


# One crystal without bonds, one with bonds, and several.
BATCHES = {
    "five": small_crystals(5, max_atoms=4),
    "one": small_crystals(1, skip=3),
    "twelve": small_crystals(12, max_atoms=3),
    "no bonds": crystals_without_bonds(),
    "without symmetry": asymmetric_crystals(),
}
