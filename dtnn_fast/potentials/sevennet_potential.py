# SPDX-License-Identifier: MIT
"""SevenNet as a potential, with the weights of the package sevenn."""

from __future__ import annotations

import torch
from torch import Tensor

from ..encoders.pretrained import DirectedBonds, pretrained_encoder
from .bond_potential import BondPotential

# Larger batches save no time on the CPU.
_BATCH_ATOMS = 64


class SevenNetPotential(BondPotential):
    """SevenNet-0 or SevenNet-l3i5.

    Args:
        name: "sevennet-0" or "sevennet-l3i5".
        device: device to compute on.
        batch_atoms: number of atoms that are computed together, except for one larger crystal.
        dtype: dtype to compute in.

    Raises:
        ValueError: there is no such potential.
        MissingPackageError: the package sevenn is not installed.
        BadFileError: its weights are missing, damaged, or of another version.
    """

    def __init__(
        self,
        name: str = "sevennet-0",
        device: torch.device | str = "cpu",
        batch_atoms: int = _BATCH_ATOMS,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        self._encoder = pretrained_encoder(name).to(device=device, dtype=dtype)
        super().__init__(name, self._encoder.elements, self._encoder.cutoffs[0], batch_atoms, device, dtype)

    def atom_energies(self, atomic_numbers: Tensor, bonds: DirectedBonds) -> Tensor:
        """See `BondPotential.atom_energies`."""
        return self._encoder.atom_energies(atomic_numbers, bonds)
