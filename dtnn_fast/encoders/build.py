# SPDX-License-Identifier: MIT
"""Any encoder from its settings."""

from __future__ import annotations

from typing import Any

from ..typed_settings import from_plain
from .native import NativeEncoder, NativeEncoderConfig
from .pretrained import PRETRAINED, PretrainedEncoder, PretrainedEncoderConfig, pretrained_encoder

EncoderConfig = NativeEncoderConfig | PretrainedEncoderConfig
Encoder = NativeEncoder | PretrainedEncoder
KINDS = ("native", *PRETRAINED)


def encoder_config(values: Any) -> EncoderConfig:
    """Settings of an encoder from what their `to_json` gave.

    Raises:
        ValueError: the kind is unknown, or a setting is missing, unknown, or of another type or range.
    """
    if not isinstance(values, dict):
        raise ValueError(f"expected `encoder` to be an object, got {values!r}")
    kind = values.get("kind")
    if isinstance(kind, str) and kind in PRETRAINED:
        return from_plain(PretrainedEncoderConfig, values, "encoder")
    if kind != "native":
        raise ValueError(f"expected an encoder of the `kind` {', '.join(KINDS)}, got {kind!r}")
    return from_plain(NativeEncoderConfig, {key: value for key, value in values.items() if key != "kind"}, "encoder")


def build_encoder(config: EncoderConfig, num_layers: int | None = None) -> Encoder:
    """The encoder of these settings: a native one with random weights, or a pretrained one with its own.

    Args:
        config: settings.
        num_layers: how many of the layers to build, from the first; None for all.

    Raises:
        MissingPackageError, BadFileError: see `pretrained_encoder`.
    """
    if isinstance(config, PretrainedEncoderConfig):
        return pretrained_encoder(config.kind, num_layers)
    return NativeEncoder(config, num_layers)
