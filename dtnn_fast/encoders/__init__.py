# SPDX-License-Identifier: MIT
"""Encoders: from crystals to latents of atoms and bonds."""

from ..nn.latents import Latents
from .native import NativeEncoder, NativeEncoderConfig
from .native_layer import Channels
from .pretrained import PRETRAINED, PretrainedEncoder, PretrainedEncoderConfig, pretrained_encoder

__all__ = [
    "PRETRAINED",
    "Channels",
    "Latents",
    "NativeEncoder",
    "NativeEncoderConfig",
    "PretrainedEncoder",
    "PretrainedEncoderConfig",
    "pretrained_encoder",
]
