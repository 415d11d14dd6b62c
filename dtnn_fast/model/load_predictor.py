# SPDX-License-Identifier: MIT
"""Load any model by its name or folder: a bundled model, a saved `DTNN`, or an `Ensemble`."""

from __future__ import annotations

from pathlib import Path

from .dtnn import DTNN, ENSEMBLE_FILE
from .ensemble_model import Ensemble
from .predictor import Predictor


def load_predictor(name: str | Path) -> Predictor:
    """Load a bundled model, a saved model, or an ensemble.

    Args:
        name: as for `DTNN.from_pretrained`, or the folder of an `Ensemble`.

    Raises:
        BadFileError: there is no such model, or its files are damaged.
    """
    if (Path(name) / ENSEMBLE_FILE).is_file():
        return Ensemble.from_pretrained(name)
    return DTNN.from_pretrained(name)
