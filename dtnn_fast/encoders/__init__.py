# SPDX-License-Identifier: MIT
"""Encoders: from crystals to latents of atoms and bonds."""

from .latents import Latents
from .native import NativeEncoder, NativeEncoderConfig
from .native_layer import Channels

__all__ = ["Channels", "Latents", "NativeEncoder", "NativeEncoderConfig"]
