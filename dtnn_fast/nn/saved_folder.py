# SPDX-License-Identifier: MIT
"""Weights of a module in a safetensors file. Nothing is ever unpickled."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ..errors import BadFileError


def save_weights(module: nn.Module, path: Path, file_format: str) -> None:
    """Write the weights of a module, with the name of the format in the file's metadata."""
    state = {name: value.detach().cpu().contiguous() for name, value in module.state_dict().items()}
    save_file(state, path, metadata={"format": file_format})


def load_weights(path: Path) -> dict[str, Tensor]:
    """Read weights of one floating-point dtype.

    Raises:
        BadFileError: the file is missing or damaged, or holds something else.
    """
    try:
        state = load_file(path)
    except FileNotFoundError as error:
        raise BadFileError(f"{path}: the model's weights are missing") from error
    except (SafetensorError, OSError) as error:
        raise BadFileError(f"{path}: not a whole safetensors file: {error}") from error
    dtypes = {value.dtype for value in state.values()}
    if len(dtypes) > 1 or not all(dtype.is_floating_point for dtype in dtypes):
        found = ", ".join(sorted(map(str, dtypes)))
        raise BadFileError(f"{path}: expected weights of one floating-point dtype, got {found}")
    if not all(torch.isfinite(value).all() for value in state.values()):
        raise BadFileError(f"{path}: damaged: holds values that are not finite")
    return state


def put_weights(module: nn.Module, state: dict[str, Tensor], path: Path) -> None:
    """Put weights into a module, which takes over their dtype.

    Args:
        module: receives the weights.
        state: what `load_weights` gave.
        path: where they are from, for messages.

    Raises:
        BadFileError: they do not fit the module.
    """
    try:
        for dtype in {value.dtype for value in state.values()}:
            module.to(dtype)
        module.load_state_dict(state)
    except RuntimeError as error:
        raise BadFileError(f"{path}: does not fit config.json beside it: {error}") from error
