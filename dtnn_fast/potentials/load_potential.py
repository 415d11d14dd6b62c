# SPDX-License-Identifier: MIT
"""A potential by name or file."""

from __future__ import annotations

from pathlib import Path

import torch

from ..encoders.pretrained import PRETRAINED
from ..errors import DTNNError
from .energy_model import BUNDLED_POTENTIAL, load_energy_model
from .energy_potential import EnergyPotential
from .potential import Potential

NEQUIX_SUFFIX = ".nqx"


def load_potential(
    name: str | Path,
    *,
    trust: bool = False,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float64,
) -> Potential:
    """Load a potential.

    Args:
        name: "native" for the bundled one, "sevennet-0" or "sevennet-l3i5", the path of a file of Nequix, which ends
            in ".nqx", or the folder of an `EnergyModel`, as ``dtnn-fast train-potential`` writes it.
        trust: whether a file of Nequix is read whose SHA-256 is not known.
        device: device to compute on.
        dtype: dtype to compute in; see `BondPotential`.

    Returns:
        The potential.

    Raises:
        DTNNError: there is no such potential.
        BadFileError: its weights are missing, damaged, of another version, or not known.
        MissingPackageError: its package is not installed.

    Example:
        >>> potential = load_potential("nequix-oam-1.nqx")
        >>> for found in gamma_force_constants(crystals, potential):
        ...     print(found)
    """
    if str(name) in PRETRAINED:
        from .sevennet_potential import SevenNetPotential

        return SevenNetPotential(str(name), device, dtype=dtype)
    if Path(name).suffix.lower() == NEQUIX_SUFFIX:
        from .nequix_potential import NequixPotential

        return NequixPotential(name, trust, device, dtype=dtype)
    if str(name) == BUNDLED_POTENTIAL or Path(name).is_dir():
        model = load_energy_model(name)
        model.encoder.to(dtype)  # its readout stays in float64
        return EnergyPotential(model.to(device), name=str(name))
    raise DTNNError(
        f"load_potential: expected {BUNDLED_POTENTIAL}, {', '.join(PRETRAINED)}, a file of Nequix (*{NEQUIX_SUFFIX}), "
        f"or the folder of a trained potential, got {str(name)!r}"
    )
