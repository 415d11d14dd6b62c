# SPDX-License-Identifier: MIT
"""Saved ensembles of models on different encoders: ensemble.json, and a folder for each model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import cast

from ..errors import BadFileError
from ..files import read_json_object
from .dtnn import DTNN
from .ensemble import MixedEnsemble
from .predictor import Predictor
from .storage import ENSEMBLE_FILE, load_model

FORMAT = "dtnn_fast ensemble 1"


def load_predictor(name: str | Path) -> Predictor:
    """Load what was saved under a name: a bundled model, a model, or an ensemble of models.

    Args:
        name: as for `DTNN.from_pretrained`, or the folder of a `MixedEnsemble`.

    Raises:
        BadFileError: there is nothing that can be loaded.
    """
    folder = Path(name)
    return load_mixed(folder) if (folder / ENSEMBLE_FILE).is_file() else load_model(name)


def save_mixed(ensemble: MixedEnsemble, folder: Path) -> None:
    """See `MixedEnsemble.save`."""
    folder.mkdir(parents=True, exist_ok=True)
    for place, model in enumerate(ensemble.models):
        cast(DTNN, model).save(folder / str(place))
    record = {
        "format": FORMAT,
        "models": len(ensemble.models),
        "error_scales": dict(zip(ensemble.targets, ensemble.error_scales, strict=False)),
    }
    # Last, since this file says that the ensemble is whole.
    (folder / ENSEMBLE_FILE).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def load_mixed(folder: Path) -> MixedEnsemble:
    """See `MixedEnsemble.from_pretrained`."""
    path = folder / ENSEMBLE_FILE
    record = read_json_object(path)
    found = record.get("format")
    if found != FORMAT:
        raise BadFileError(f"{path}: expected the format {FORMAT!r}, got {found!r}")
    count, scales = record.get("models"), record.get("error_scales")
    if not isinstance(count, int) or not isinstance(scales, dict):
        raise BadFileError(f"{path}: expected a number of `models` and an object `error_scales`")
    if not all(isinstance(scale, int | float) for scale in scales.values()):
        raise BadFileError(f"{path}: expected numbers as `error_scales`, got {scales}")
    models = [load_model(folder / str(place)) for place in range(count)]
    try:
        return MixedEnsemble(models, scales).eval()
    except ValueError as error:
        raise BadFileError(f"{path}: {error}") from error
