# SPDX-License-Identifier: MIT
"""Labels of several functionals in one model: a learned shift of the latents for each functional but the first.

PBEsol's ionic tensors are some 8 % below PBE's for the same crystal, so a model that mixes the labels would be wrong
for both. The first functional has no shift: predictions for it need none of this.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..nn.latents import Latents


class FunctionalShifts(nn.Module):
    """Shifts of the scalars of atoms, by functional and layer; zero before training.

    Args:
        functionals: number of functionals, at least 2.
        layers: the encoder layers that are read, counted from 1.
        scalars: number of scalars of a layer.
    """

    def __init__(self, functionals: int, layers: Sequence[int], scalars: int) -> None:
        super().__init__()
        self.layers = tuple(layers)
        self.shifts = nn.Parameter(torch.zeros(functionals - 1, len(self.layers), scalars))

    def shift_all(self, latents: Sequence[Latents | None], functional: int) -> list[Latents | None]:
        """Shift the latents of all crystals to one functional.

        Args:
            latents: see `forward`.
            functional: index of the functional; 0 for the first, which has no shift.
        """
        shifted = list(latents)
        for place, layer in enumerate(self.layers) if functional else ():
            values = shifted[layer - 1]
            if values is not None:
                scalar = values.atom_scalar + self.shifts[functional - 1, place]
                shifted[layer - 1] = values._replace(atom_scalar=scalar)
        return shifted

    def forward(self, latents: Sequence[Latents | None], functional: Tensor, ptr: Tensor) -> list[Latents | None]:
        """Shift the latents.

        Args:
            latents: latents of the encoder's layers; None for layers that are not read.
            functional: index of each crystal's functional; 0 for the first, which has no shift. [B], int64.
            ptr: crystal b owns the atoms ``ptr[b]:ptr[b + 1]``. [B+1].

        Returns:
            The latents, with the scalars of the layers that are read shifted.
        """
        table = torch.cat([torch.zeros_like(self.shifts[:1]), self.shifts])
        shifted = list(latents)
        given = next(layer for layer in latents if layer is not None)
        of_atom = torch.repeat_interleave(functional, ptr.diff(), output_size=given.atom_scalar.shape[0])
        for place, layer in enumerate(self.layers):
            values = shifted[layer - 1]
            if values is not None:
                scalar = values.atom_scalar + table[:, place][of_atom]
                shifted[layer - 1] = values._replace(atom_scalar=scalar)
        return shifted


def check_functional(name: str, functionals: Sequence[str], model: str) -> None:
    """Check that a model knows a functional.

    Args:
        name: the functional that is wanted; empty for the main one, which any model has.
        functionals: the functionals that the model knows, its main one first; empty for labels of one functional.
        model: class of the model, for the message.

    Raises:
        ValueError: it does not.
    """
    if name and name not in functionals:
        known = f"one of {', '.join(functionals)}" if functionals else "none, since the model learned from one alone"
        raise ValueError(f"{model}: expected as `functional` {known}, got {name!r}")
