# SPDX-License-Identifier: MIT
"""Encoders, which turn crystals into latents of atoms and bonds: the native encoder and pretrained potentials."""

from ..nn.latents import Channels, Latents
from .native import NativeEncoder, NativeEncoderConfig
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
