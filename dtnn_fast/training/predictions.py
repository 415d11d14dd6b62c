# SPDX-License-Identifier: MIT
"""The predictions of a run beside the tensors that they should have been, in one file that any model can write."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import BadFileError

PREDICTIONS_FILE = "predictions.npz"


@dataclass(frozen=True)
class Predictions:
    """Predicted and expected tensors of the crystals of a split.

    Args:
        ids: of the crystals. [n].
        parts: "train", "validation" or "test" for each crystal. [n].
        predicted: [n, 3, 3] for each target.
        expected: [n, 3, 3] for each target.

    Raises:
        ValueError: the lengths differ, a part is unknown, or a tensor is not finite.
    """

    ids: Sequence[str]
    parts: Sequence[str]
    predicted: Mapping[str, np.ndarray]
    expected: Mapping[str, np.ndarray]

    def __post_init__(self) -> None:
        count = len(self.ids)
        unknown = set(self.parts) - {"train", "validation", "test"}
        if len(self.parts) != count or unknown:
            raise ValueError(f"Predictions: expected `parts` of train, validation or test for {count} crystals")
        if not self.predicted or self.predicted.keys() != self.expected.keys():
            raise ValueError("Predictions: expected the same targets in `predicted` and `expected`, at least one")
        for name, tensors in (*self.predicted.items(), *self.expected.items()):
            if tensors.shape != (count, 3, 3) or not np.isfinite(tensors).all():
                raise ValueError(f"Predictions: expected finite {name} tensors of shape [{count}, 3, 3]")

    def of_part(self, part: str) -> Predictions:
        """Those of the crystals of one part of the split, in the same order."""
        chosen = np.flatnonzero(np.asarray(self.parts) == part).tolist()
        return Predictions(
            [self.ids[index] for index in chosen],
            [part] * len(chosen),
            {target: tensors[chosen] for target, tensors in self.predicted.items()},
            {target: tensors[chosen] for target, tensors in self.expected.items()},
        )


def save_predictions(path: Path, predictions: Predictions) -> None:
    """Write an .npz with the arrays ids, parts, predicted_<target> and expected_<target>."""
    arrays: dict[str, Any] = {f"predicted_{target}": tensors for target, tensors in predictions.predicted.items()}
    arrays |= {f"expected_{target}": tensors for target, tensors in predictions.expected.items()}
    np.savez_compressed(path, ids=np.array(predictions.ids), parts=np.array(predictions.parts), **arrays)


def load_predictions(path: Path) -> Predictions:
    """Read what `save_predictions` wrote.

    Raises:
        BadFileError: the file is missing, damaged, or not of this form.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        targets = [name.removeprefix("predicted_") for name in arrays if name.startswith("predicted_")]
        return Predictions(
            arrays["ids"].tolist(),
            arrays["parts"].tolist(),
            {target: arrays[f"predicted_{target}"] for target in targets},
            {target: arrays[f"expected_{target}"] for target in targets},
        )
    except (OSError, EOFError, ValueError, KeyError, AttributeError, zipfile.BadZipFile) as error:
        raise BadFileError(f"{path}: not the predictions of a run: {error}") from error
