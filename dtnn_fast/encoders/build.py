# SPDX-License-Identifier: MIT
"""Any encoder from its settings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..errors import BadFileError
from ..nn.saved_folder import load_weights, put_weights, save_weights
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


FORMAT = "dtnn_fast encoder 1"
CONFIG_FILE, WEIGHTS_FILE = "config.json", "model.safetensors"


def save_encoder(encoder: NativeEncoder, folder: str | Path, teacher: dict[str, Any] | None = None) -> None:
    """Write config.json and model.safetensors into a folder, which is made when absent.

    Args:
        encoder: with all its layers.
        folder: where to.
        teacher: what the encoder learned from, as plain values for the record.
    """
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    config = {"format": FORMAT, "encoder": encoder.config.to_json(), "teacher": teacher or {}}
    (target / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    save_weights(encoder, target / WEIGHTS_FILE, FORMAT)


def load_encoder(folder: str | Path, num_layers: int | None = None) -> NativeEncoder:
    """Load a saved encoder.

    Args:
        folder: what `save_encoder` wrote.
        num_layers: how many of its layers to build, from the first; None for all.

    Returns:
        The encoder in evaluation mode.

    Raises:
        BadFileError: a file is missing or damaged, or the two do not fit together.
        ValueError: the encoder has fewer layers.

    Example:
        >>> encoder = load_encoder("runs/distilled/encoder", num_layers=4)
    """
    place = Path(folder)
    config, _ = read_encoder_config(place / CONFIG_FILE)
    if num_layers is not None and not 1 <= num_layers <= len(config.cutoffs):
        raise ValueError(f"load_encoder: expected `num_layers` from 1 to {len(config.cutoffs)}, got {num_layers}")
    try:
        encoder = NativeEncoder(config, num_layers)
    except ValueError as error:
        raise BadFileError(f"{place / CONFIG_FILE}: {error}") from error
    weights = place / WEIGHTS_FILE
    state = load_weights(weights)
    above = range(encoder.num_layers, len(config.cutoffs))
    left_out = tuple(f"{part}.{layer}." for part in ("layers", "readouts") for layer in above)
    put_weights(encoder, {name: value for name, value in state.items() if not name.startswith(left_out)}, weights)
    return encoder.eval()


def read_encoder_config(path: Path) -> tuple[NativeEncoderConfig, dict[str, Any]]:
    """Read the settings of a saved encoder, and the record of what it learned from.

    Raises:
        BadFileError: the file is missing, no JSON, of another format, or has a wrong setting.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BadFileError(f"{path}: missing: not the folder of a saved encoder") from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise BadFileError(f"{path}: not an encoder's settings: {error}") from error
    found = values.get("format") if isinstance(values, dict) else None
    if found != FORMAT:
        raise BadFileError(f"{path}: expected the format {FORMAT!r}, got {found!r}")
    encoder, teacher = values.get("encoder"), values.get("teacher")
    if not isinstance(encoder, dict) or encoder.get("kind") != "native" or not isinstance(teacher, dict):
        raise BadFileError(f"{path}: expected `encoder` of the kind native and `teacher`, got {encoder!r}, {teacher!r}")
    try:
        settings = {name: value for name, value in encoder.items() if name != "kind"}
        return from_plain(NativeEncoderConfig, settings, "encoder"), teacher
    except ValueError as error:
        raise BadFileError(f"{path}: {error}") from error
