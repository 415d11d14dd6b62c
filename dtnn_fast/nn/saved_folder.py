# SPDX-License-Identifier: MIT
"""Modules saved as a folder: settings in config.json, weights in model.safetensors. Nothing is ever unpickled."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ..errors import BadFileError
from ..files import read_json_object

CONFIG_FILE, WEIGHTS_FILE = "config.json", "model.safetensors"

T = TypeVar("T")


def save_folder(module: nn.Module, folder: str | Path, file_format: str, settings: Mapping[str, Any]) -> None:
    """Write config.json and model.safetensors into a folder, which is created if missing.

    Args:
        module: its weights are written.
        folder: folder to write.
        file_format: name and version of the format, written into both files.
        settings: settings from which the module can be built again, as plain values.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_settings(folder / CONFIG_FILE, file_format, settings)
    state = {name: value.detach().cpu().contiguous() for name, value in module.state_dict().items()}
    save_file(state, folder / WEIGHTS_FILE, metadata={"format": file_format})


def write_settings(path: Path, file_format: str, settings: Mapping[str, Any]) -> None:
    """Write a JSON object with the name of its format."""
    path.write_text(json.dumps({"format": file_format, **settings}, indent=2) + "\n", encoding="utf-8")


def read_settings(path: Path, file_format: str, parse: Callable[[dict[str, Any]], T]) -> T:
    """Read what `write_settings` wrote.

    Args:
        path: the JSON file.
        file_format: the format that the file must have, "dtnn_fast <what is saved> <version>".
        parse: makes the result from the settings, or raises a ValueError that says what is wrong with them.

    Returns:
        The result of `parse`.

    Raises:
        BadFileError: the file is missing, damaged, of another format, or has a wrong setting.
    """
    _, saved_thing, _ = file_format.split()  # such as "dtnn_fast encoder 1"
    if not path.exists():
        raise BadFileError(f"{path}: missing: not the folder of a saved {saved_thing}{_hint(path)}")
    settings = read_json_object(path)
    actual_format = settings.pop("format", None)
    if actual_format != file_format:
        raise BadFileError(f"{path}: expected the format {file_format!r}, got {actual_format!r}")
    try:
        return parse(settings)
    except BadFileError:
        raise
    except ValueError as error:
        raise BadFileError(f"{path}: {error}") from error


def _hint(missing: Path) -> str:
    """Name the folder model/ where somebody gave the folder of the run around it."""
    for folder in (missing.parent, missing.parent.parent):
        inside = folder / "model"
        if (inside / missing.relative_to(folder)).exists():
            return f"; did you mean {inside}?"
    return ""


def load_weights(folder: Path) -> dict[str, Tensor]:
    """Read model.safetensors, which must hold finite weights of one floating-point dtype.

    Raises:
        BadFileError: the file is missing or damaged, or holds something else.
    """
    path = folder / WEIGHTS_FILE
    try:
        state = load_file(path)
    except FileNotFoundError as error:
        raise BadFileError(f"{path}: the model's weights are missing") from error
    except (SafetensorError, OSError) as error:
        raise BadFileError(f"{path}: not a whole safetensors file: {error}") from error
    dtypes = {value.dtype for value in state.values()}
    if len(dtypes) > 1 or not all(dtype.is_floating_point for dtype in dtypes):
        names = ", ".join(sorted(map(str, dtypes)))
        raise BadFileError(f"{path}: expected weights of one floating-point dtype, got {names}")
    if not all(torch.isfinite(value).all() for value in state.values()):
        raise BadFileError(f"{path}: damaged: holds values that are not finite")
    return state


def put_weights(module: nn.Module, state: Mapping[str, Tensor], folder: Path) -> None:
    """Put weights into a module, which takes over their dtype.

    Args:
        module: receives the weights.
        state: what `load_weights` gave.
        folder: folder that they were read from, for messages.

    Raises:
        BadFileError: the weights do not fit the module.
    """
    try:
        for dtype in {value.dtype for value in state.values()}:
            module.to(dtype)
        module.load_state_dict(state)
    except RuntimeError as error:
        raise BadFileError(f"{folder / WEIGHTS_FILE}: does not fit {CONFIG_FILE} beside it: {error}") from error
