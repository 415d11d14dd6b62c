# SPDX-License-Identifier: MIT
"""Small lattice models with weights far from zero."""

from __future__ import annotations

import torch
from model_cases import SMALL

from dtnn_fast.encoders import NativeEncoderConfig
from dtnn_fast.model.decoder import DecoderConfig
from dtnn_fast.model.lattice_model import LatticeModel, LatticeModelConfig


def random_lattice_model(**settings) -> LatticeModel:
    """Make a float64 model in evaluation mode with random weights."""
    decoder = DecoderConfig(layer=3, more_layers=(1,), latent=16)
    encoder = NativeEncoderConfig((3.0, 4.0, 4.0), (7.0, 16.0, 16.0), SMALL)
    model = LatticeModel(LatticeModelConfig(encoder, decoder, 5.0, **settings)).double().eval()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            spread = 0.9 / parameter.shape[-1] ** 0.5 if parameter.dim() > 1 else 0.5
            parameter.copy_(spread * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return model
