# SPDX-License-Identifier: MIT
"""Whose run a folder holds: settings.json tells runs apart, and says what a run was computed on."""

from __future__ import annotations

import json
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from .. import __version__
from ..errors import BadFileError
from ..files import read_json_object
from .checkpoint import CHECKPOINT_FILE
from .hardware import hardware

SETTINGS_FILE, HISTORY_FILE, RESULTS_FILE = "settings.json", "history.csv", "results.json"
MODEL_FOLDER, MEMBERS_FOLDER = "model", "members"


def versions() -> dict[str, str]:
    """Versions of what a result depends on."""
    names = ("torch", "numpy", "safetensors")
    found = {"dtnn_fast": __version__, "python": platform.python_version(), "machine": platform.machine()}
    return found | {name: metadata.version(name) for name in names}


def is_new(folder: Path, identity: dict[str, Any]) -> bool:
    """Whether the folder holds no run yet; one that is there must be this one.

    Args:
        folder: of the run.
        identity: what tells runs apart, as it reads back from JSON.

    Raises:
        BadFileError: the folder holds a run with other settings or data, or a damaged one.
    """
    path = folder / SETTINGS_FILE
    if not path.exists():
        if (folder / CHECKPOINT_FILE).exists():
            raise BadFileError(f"{path}: missing beside a checkpoint; choose another folder or remove it")
        return True
    before = read_json_object(path)
    if {key: before.get(key) for key in identity} != identity:
        raise BadFileError(f"{folder}: holds a run with other settings or data; choose another folder or remove it")
    return False


def claim(folder: Path, identity: dict[str, Any], command: str, **more: Any) -> None:
    """Write settings.json: the command, the identity, and what the run is computed on.

    Args:
        folder: of the run; made when absent.
        identity: what tells runs apart.
        command: the command line, for the record.
        more: anything else for the record.
    """
    folder.mkdir(parents=True, exist_ok=True)
    surroundings = {"versions": versions(), "hardware": hardware(), "threads": torch.get_num_threads()}
    record = {"command": command, **more, **identity, **surroundings}
    (folder / SETTINGS_FILE).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
