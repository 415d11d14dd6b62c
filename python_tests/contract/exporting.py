# SPDX-License-Identifier: MIT
"""What the tests of torch.export and AOTInductor share: an operation as a module, and a small model."""

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


class Calling(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *arguments: Tensor) -> Any:
        return self.function(*arguments)


def exported(case: Case) -> ExportedProgram:
    """The program of a public function for batches of any size."""
    arguments, others = case.arguments(batch(10)), case.arguments(batch(7))
    # What differs between two batches may differ.
    shapes = [
        {d: Dim.DYNAMIC for d in range(x.dim()) if x.shape[d] != y.shape[d]}
        for x, y in zip(arguments, others, strict=True)
    ]
    with torch.fx.experimental._config.patch(backed_size_oblivious=True):
        return torch.export.export(Calling(case.call), arguments, dynamic_shapes=(tuple(shapes),))


@cache
def small_model(layers: int = 2) -> DTNN:
    """A model with a list of bonds inside of another one, of so few layers that it compiles in seconds."""
    encoder = NativeEncoderConfig(cutoffs=(3.0, 4.0)[-layers:], mean_bonds=(7.0, 16.0)[-layers:], channels=TINY)
    return randomised(DTNNConfig(encoder, DecoderConfig(layer=layers, latent=4, blocks=1)))


def crystals_without_bonds() -> list[Crystal]:
    """One atom alone in a large box."""
    return [Crystal.make("alone", [3], [[0.0, 0.0, 0.0]], 30.0 * torch.eye(3).double().numpy())]


# One crystal, none of whose lists has bonds; one; and several.
BATCHES = {
    "five": small_crystals(5, max_atoms=4),
    "one": small_crystals(1, skip=3),
    "twelve": small_crystals(12, max_atoms=3),
    "no bonds": crystals_without_bonds(),
    "without symmetry": asymmetric_crystals(),
}
