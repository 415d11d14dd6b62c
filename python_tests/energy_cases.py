# SPDX-License-Identifier: MIT
"""A small energy model with random weights, whose energies depend on every bond."""

import torch

from dtnn_fast.encoders import Channels, NativeEncoder, NativeEncoderConfig
from dtnn_fast.potentials.energy_model import EnergyHead, EnergyModel

ELEMENTS = (8, 12, 14, 22, 26, 38)


def energy_model(seed: int = 0, dtype: torch.dtype = torch.float64) -> EnergyModel:
    torch.manual_seed(seed)
    encoder = NativeEncoder(NativeEncoderConfig(channels=Channels(scalar=8, vector=4, rank2=4, radial=4))).to(dtype)
    weight, constants = torch.randn(8, dtype=torch.float64), torch.randn(119, dtype=torch.float64)
    return EnergyModel(encoder, EnergyHead(weight, constants, ELEMENTS)).eval()
