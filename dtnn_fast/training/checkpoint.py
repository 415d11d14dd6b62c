# SPDX-License-Identifier: MIT
"""Checkpoint of a run: a safetensors file with plain values as JSON in its metadata. Nothing is ever unpickled."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ..errors import BadFileError

CHECKPOINT_FILE = "checkpoint.safetensors"


def save_checkpoint(
    folder: Path,
    model: nn.Module,
    best: dict[str, Tensor],
    optimizer: torch.optim.Optimizer,
    progress: dict[str, Any],
    mean: nn.Module | None = None,
) -> None:
    """Write everything that a run needs to resume exactly; an older checkpoint is replaced in one step.

    Args:
        folder: the run's folder.
        model: current weights.
        best: the weights with the best validation error so far.
        optimizer: AdamW, whose moments are kept.
        progress: plain values: epoch, history, best error.
        mean: model with the running mean of the weights; None without.
    """
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    tensors |= {f"best.{name}": value for name, value in best.items()}
    tensors |= {f"mean.{name}": value for name, value in (mean.state_dict() if mean else {}).items()}
    for index, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": torch.as_tensor(value) for name, value in moments.items()}
    tensors["random_state"] = torch.get_rng_state()
    unfinished = folder / (CHECKPOINT_FILE + ".part")
    flat = {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}
    save_file(flat, unfinished, metadata={"progress": json.dumps(progress)})
    os.replace(unfinished, folder / CHECKPOINT_FILE)


def load_checkpoint(
    folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, mean: nn.Module | None = None
) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
    """Restore model, optimizer and torch's random state from the checkpoint of a run.

    Args:
        folder: the run's folder.
        model: receives the weights.
        optimizer: receives its moments.
        mean: receives the running mean of the weights; None without.

    Returns:
        The progress and the best weights; None when there is no checkpoint yet.

    Raises:
        BadFileError: the checkpoint is damaged, or belongs to a model with other settings.
    """
    path = folder / CHECKPOINT_FILE
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            progress = json.loads(file.metadata()["progress"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  not a dictionary
        random_state = tensors["random_state"]
    except (SafetensorError, OSError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise BadFileError(f"{path}: not a complete checkpoint: {error}") from error

    def tensors_of(name: str) -> dict[str, Tensor]:
        prefix = name + "."
        return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}

    try:
        model.load_state_dict(tensors_of("best"))  # only to check that they fit
        model.load_state_dict(tensors_of("model"))
        if mean is not None:
            mean.load_state_dict(tensors_of("mean"))
        moments = _moments(tensors_of("optimizer"), _parameters(optimizer))
        optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
        torch.set_rng_state(random_state)
    except (RuntimeError, ValueError, TypeError) as error:
        raise BadFileError(f"{path}: damaged, or belongs to a model with other settings: {error}") from error
    return progress, tensors_of("best")


def _parameters(optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    """List the parameters in the order of the optimizer's numbers."""
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _moments(tensors: dict[str, Tensor], parameters: list[nn.Parameter]) -> dict[int, dict[str, Tensor]]:
    """Collect the optimizer's state by parameter, and check its shapes, which the optimizer itself does not."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = value
    for number, values in state.items():
        shapes = {name: tuple(value.shape) for name, value in values.items()}
        shape = tuple(parameters[number].shape) if number < len(parameters) else None
        if shape is None or shapes != {"step": (), "exp_avg": shape, "exp_avg_sq": shape}:
            raise ValueError(f"the optimizer's state of parameter {number} does not fit")
    return state
