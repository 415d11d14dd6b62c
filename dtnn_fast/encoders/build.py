# SPDX-License-Identifier: MIT
"""Encoders made from their settings, and native encoders saved as folders and loaded from them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import BadFileError
from ..nn.saved_folder import CONFIG_FILE, load_weights, put_weights, read_settings, save_folder
from ..typed_settings import from_plain
from .native import NativeEncoder, NativeEncoderConfig
from .pretrained import PRETRAINED, PretrainedEncoder, PretrainedEncoderConfig, pretrained_encoder

Encoder = NativeEncoder | PretrainedEncoder
EncoderConfig = NativeEncoderConfig | PretrainedEncoderConfig
ENCODER_NAMES = ("native", *PRETRAINED)
FORMAT = "dtnn_fast encoder 1"


def encoder_config(values: Any) -> EncoderConfig:
    """Make the settings of an encoder from what their `to_json` gave.

    Raises:
        ValueError: the kind is unknown, or a setting is missing, unknown, or of another type or range.
    """
    if not isinstance(values, dict):
        raise ValueError(f"expected `encoder` to be an object, got {values!r}")
    name = values.get("kind")
    if isinstance(name, str) and name in PRETRAINED:
        return from_plain(PretrainedEncoderConfig, values, "encoder")
    if name != "native":
        raise ValueError(f"expected an encoder of the `kind` {', '.join(ENCODER_NAMES)}, got {name!r}")
    return _native_config(values)


def build_encoder(config: EncoderConfig, num_layers: int | None = None) -> Encoder:
    """Build a native encoder with random weights, or load a pretrained encoder.

    Args:
        config: settings.
        num_layers: number of layers to build, from the first; None for all.

    Raises:
        MissingPackageError, BadFileError: see `pretrained_encoder`.
    """
    if isinstance(config, PretrainedEncoderConfig):
        return pretrained_encoder(config.kind, num_layers)
    return NativeEncoder(config, num_layers)


def save_encoder(encoder: NativeEncoder, folder: str | Path, teacher: dict[str, Any] | None = None) -> None:
    """Write config.json and model.safetensors into a folder, which is created if missing.

    Args:
        encoder: encoder with all its layers.
        folder: folder to write.
        teacher: record of the model that the encoder was distilled from, as plain values.
    """
    save_folder(encoder, folder, FORMAT, {"encoder": encoder.config.to_json(), "teacher": teacher or {}})


def load_encoder(folder: str | Path, num_layers: int | None = None) -> NativeEncoder:
    """Load a saved encoder, in evaluation mode.

    Args:
        folder: what `save_encoder` wrote.
        num_layers: number of layers to build, from the first; None for all.

    Returns:
        The encoder.

    Raises:
        BadFileError: a file is missing or damaged, or the two do not fit together.
        ValueError: the encoder has fewer layers.

    Example:
        >>> encoder = load_encoder("runs/distilled/encoder", num_layers=4)
    """
    folder = Path(folder)
    config, _ = read_encoder_config(folder / CONFIG_FILE)
    if num_layers is not None and not 1 <= num_layers <= len(config.cutoffs):
        raise ValueError(f"load_encoder: expected `num_layers` from 1 to {len(config.cutoffs)}, got {num_layers}")
    try:
        encoder = NativeEncoder(config, num_layers)
    except ValueError as error:
        raise BadFileError(f"{folder / CONFIG_FILE}: {error}") from error
    above = range(encoder.num_layers, len(config.cutoffs))
    left_out = tuple(f"{modules}.{layer}." for modules in ("layers", "readouts") for layer in above)
    state = {name: value for name, value in load_weights(folder).items() if not name.startswith(left_out)}
    put_weights(encoder, state, folder)
    return encoder.eval()


def read_encoder_config(path: Path) -> tuple[NativeEncoderConfig, dict[str, Any]]:
    """Read the settings of a saved encoder.

    Args:
        path: config.json in its folder.

    Returns:
        The settings, and the record of the model that the encoder was distilled from.

    Raises:
        BadFileError: the file is missing, damaged, of another format, or has a wrong setting.
    """
    return read_settings(path, FORMAT, _encoder_and_teacher)


def _encoder_and_teacher(values: dict[str, Any]) -> tuple[NativeEncoderConfig, dict[str, Any]]:
    encoder, teacher = values.get("encoder"), values.get("teacher")
    if not isinstance(encoder, dict) or encoder.get("kind") != "native" or not isinstance(teacher, dict):
        raise ValueError(f"expected `encoder` of the kind native and `teacher`, got {encoder!r}, {teacher!r}")
    return _native_config(encoder), teacher


def _native_config(values: dict[str, Any]) -> NativeEncoderConfig:
    return from_plain(NativeEncoderConfig, {key: value for key, value in values.items() if key != "kind"}, "encoder")
