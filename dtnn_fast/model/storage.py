# SPDX-License-Identifier: MIT
"""Saved models: a folder with config.json and model.safetensors. Nothing is ever unpickled."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

from ..encoders.native import NativeEncoder
from ..errors import BadFileError
from ..nn.saved_folder import load_weights, put_weights, save_weights
from .dtnn import DTNN, TARGETS, DTNNConfig

FORMAT = "dtnn_fast model 1"
CONFIG_FILE, WEIGHTS_FILE = "config.json", "model.safetensors"
# What a folder has instead that holds several models; see `mixed_storage`.
ENSEMBLE_FILE = "ensemble.json"
# The bundled folder holds the three targets on one encoder; a name picks all of them or one.
BUNDLED = {"dielectric": TARGETS, **{f"dielectric-{target}": (target,) for target in TARGETS}}


def bundled_folder() -> Path:
    """The folder of the model that comes with the package."""
    return Path(str(resources.files("dtnn_fast"))) / "weights" / "dielectric"


def save_model(model: DTNN, folder: str | Path) -> None:
    """Write config.json and model.safetensors into a folder; see `DTNN.save`."""
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    config = {"format": FORMAT, **model.config.to_json()}
    (target / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    save_weights(model, target / WEIGHTS_FILE, FORMAT)


def load_model(name: str | Path) -> DTNN:
    """Load a bundled or saved model; see `DTNN.from_pretrained`."""
    if str(name) in BUNDLED:
        return _load_folder(bundled_folder()).with_targets(BUNDLED[str(name)]).eval()
    folder = Path(name)
    if not folder.is_dir():
        raise BadFileError(
            f"from_pretrained: expected one of {', '.join(BUNDLED)} or the folder of a saved model, got {str(name)!r}"
        )
    if (folder / ENSEMBLE_FILE).is_file():
        raise BadFileError(
            f"{folder}: holds an ensemble of several models: load it with dtnn_fast.MixedEnsemble.from_pretrained"
        )
    return _load_folder(folder).eval()


def bundled_encoder(num_layers: int | None = None) -> NativeEncoder:
    """The encoder of the model that comes with the package, distilled from a pretrained potential.

    Args:
        num_layers: how many of its layers to take, from the first; None for all that the model reads.

    Raises:
        ValueError: it has fewer layers.
    """
    whole = _load_folder(bundled_folder()).encoder
    if not isinstance(whole, NativeEncoder):
        raise BadFileError(f"{bundled_folder()}: expected a native encoder")
    wanted = whole.num_layers if num_layers is None else num_layers
    if not 1 <= wanted <= whole.num_layers:
        raise ValueError(f"the bundled encoder has {whole.num_layers} layers, got {num_layers}")
    return whole.first_layers(wanted).eval()


def _load_folder(folder: Path) -> DTNN:
    config = read_config(folder / CONFIG_FILE)
    try:
        model = DTNN(config)
    except ValueError as error:
        raise BadFileError(f"{folder / CONFIG_FILE}: {error}") from error
    weights = folder / WEIGHTS_FILE
    put_weights(model, load_weights(weights), weights)
    return model


def read_config(path: Path) -> DTNNConfig:
    """Read the settings of a saved model.

    Raises:
        BadFileError: the file is missing, no JSON, of another format, or has a wrong setting.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BadFileError(f"{path}: missing: not the folder of a saved model") from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise BadFileError(f"{path}: not a model's settings: {error}") from error
    found = values.get("format") if isinstance(values, dict) else None
    if found != FORMAT:
        raise BadFileError(f"{path}: expected the format {FORMAT!r}, got {found!r}")
    try:
        return DTNNConfig.from_json({name: value for name, value in values.items() if name != "format"})
    except ValueError as error:
        raise BadFileError(f"{path}: {error}") from error
