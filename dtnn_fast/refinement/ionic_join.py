# SPDX-License-Identifier: MIT
"""A small model that joins two ionic tensors of a crystal: the direct prediction, and that of lattice dynamics."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from ..errors import BadFileError
from ..files import read_json_object
from ..model.error_calibration import ErrorCalibration
from ..model.predictor import mean_permittivity
from ..nn.saved_folder import write_settings
from ..nn.symmetric_tensors import UNIQUE_COLUMNS, UNIQUE_ROWS
from ..training.error_bars import Quantity, calibrate
from ..typed_settings import from_plain

JOIN_FILE = "join.json"
FORMAT = "dtnn_fast join 1"
# Means below this count as this in logarithms.
_LEAST_MEAN = 0.1
# Stiffness is compared within this range. eV/Angstrom^2
_SOFTEST, _STIFFEST = 0.05, 20.0
_NUM_FEATURES = 2
_FEWEST = 8
# Penalty on the square of the slope: soft modes are few, and a fit to them alone holds for no others.
_SLOPE_PENALTY = 1e-2
# Steps of the fit, after which its weights change no more.
_STEPS = 300


class IonicEstimates(NamedTuple):
    """Two estimates of the ionic tensors of crystals, and their softest polar mode.

    Args:
        direct: by a model that predicts the tensor itself. [B, 3, 3].
        lattice: by Born charges and force constants. [B, 3, 3].
        softest: stiffness of the softest polar mode. [B], eV/Angstrom^2.
    """

    direct: np.ndarray
    lattice: np.ndarray
    softest: np.ndarray


@dataclass(frozen=True)
class IonicJoin:
    """Weight of the lattice's tensor, a common factor, and error bars.

    T = (1 - w) direct + w lattice,  w = sigmoid(weights . (1, ln(k)))
    joined = scale direct_mean^(1 - w) lattice_mean^w / T_mean  T

    with the stiffness k of the softest polar mode: the mean (a third of the trace) is the weighted geometric mean of
    both means, and the shape of the tensor is that of their weighted sum. Means below 0.1 count as 0.1.

    The disagreement |lattice - direct| / 2 takes the place of an ensemble's spread in the error bars.

    Args:
        weights: two numbers.
        scale: factor, positive.
        tensor_calibration: error bars of tensors; None without.
        mean_calibration: error bars of means; None without.

    Raises:
        ValueError: a number is out of its range.
    """

    weights: tuple[float, ...] = (0.0,) * _NUM_FEATURES
    scale: float = 1.0
    tensor_calibration: ErrorCalibration | None = None
    mean_calibration: ErrorCalibration | None = None

    def __post_init__(self) -> None:
        if len(self.weights) != _NUM_FEATURES or not all(map(isfinite, self.weights)):
            raise ValueError(f"IonicJoin: expected {_NUM_FEATURES} finite `weights`, got {list(self.weights)}")
        if not 0 < self.scale < float("inf"):
            raise ValueError(f"IonicJoin: expected a positive `scale`, got {self.scale}")

    def join(self, estimates: IonicEstimates) -> np.ndarray:
        """Compute the joined tensors. [B, 3, 3]."""
        share = _sigmoid(_features(estimates) @ np.array(self.weights))
        direct, lattice = (np.maximum(mean_permittivity(tensors), _LEAST_MEAN) for tensors in estimates[:2])
        of_tensors = share[:, None, None]
        summed = (1.0 - of_tensors) * estimates.direct + of_tensors * estimates.lattice
        target = np.exp((1.0 - share) * np.log(direct) + share * np.log(lattice))
        ratio = target / np.maximum(mean_permittivity(summed), _LEAST_MEAN)
        joined: np.ndarray = self.scale * ratio[:, None, None] * summed
        return joined

    def error_bars(self, estimates: IonicEstimates) -> tuple[np.ndarray, np.ndarray] | None:
        """Compute the error bars of the joined tensors and of their means; None where they were not calibrated."""
        if self.tensor_calibration is None or self.mean_calibration is None:
            return None
        joined = self.join(estimates)
        half = 0.5 * (estimates.lattice - estimates.direct)
        means = mean_permittivity(joined)
        tensor_spread = np.sqrt(np.square(half[:, UNIQUE_ROWS, UNIQUE_COLUMNS]).mean(1))
        mean_spread = np.abs(mean_permittivity(half))
        return self.tensor_calibration.bars(tensor_spread, means), self.mean_calibration.bars(mean_spread, means)

    def save(self, folder: Path, potential: str = "") -> None:
        """Write join.json, or join-POTENTIAL.json."""
        settings: dict[str, Any] = {"weights": list(self.weights), "scale": self.scale}
        for name in ("tensor_calibration", "mean_calibration"):
            calibration: ErrorCalibration | None = getattr(self, name)
            settings[name] = None if calibration is None else calibration.to_json()
        write_settings(folder / join_file(potential), FORMAT, settings)

    @classmethod
    def load(cls, folder: Path, potential: str = "") -> IonicJoin | None:
        """Read the join of a folder; None where there is none.

        Args:
            folder: of a lattice model.
            potential: name of the potential that gives the force constants; empty for those of the lattice model.

        Raises:
            BadFileError: it is damaged.
        """
        path = folder / join_file(potential)
        if not path.exists():
            return None
        values = read_json_object(path)
        if values.pop("format", None) != FORMAT:
            raise BadFileError(f"{path}: expected the format {FORMAT!r}")
        try:
            for name in ("tensor_calibration", "mean_calibration"):
                if values.get(name) is not None:
                    values[name] = from_plain(ErrorCalibration, values[name], name)
            return from_plain(cls, values)
        except ValueError as error:
            raise BadFileError(f"{path}: {error}") from error


def join_file(potential: str = "") -> str:
    """Return the name of the file of a join: with the name of the potential that gives the force constants, if any."""
    return f"join-{potential}.json" if potential else JOIN_FILE


def fit_join(estimates: IonicEstimates, expected: np.ndarray, with_bars: bool = True) -> IonicJoin:
    """Fit the join to published tensors.

    The loss is the mean of |ln(joined / label)| of the means, so that a few huge tensors do not rule; a small penalty
    keeps the weight from depending on the stiffness where the data do not say.

    Args:
        estimates: of crystals that neither model has learned from.
        expected: published ionic tensors. [B, 3, 3].
        with_bars: whether the error bars are calibrated too, on the same crystals.

    Returns:
        The join.

    Raises:
        ValueError: there are too few crystals.
    """
    if len(expected) < _FEWEST:
        raise ValueError(f"fit_join: expected at least {_FEWEST} crystals, got {len(expected)}")
    features = torch.from_numpy(_features(estimates))
    direct, lattice, labels = (
        torch.from_numpy(np.log(np.maximum(mean_permittivity(tensors), _LEAST_MEAN)))
        for tensors in (estimates.direct, estimates.lattice, expected)
    )
    weights = torch.zeros(_NUM_FEATURES, dtype=torch.float64, requires_grad=True)
    log_scale = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([weights, log_scale], lr=0.05)
    for step in range(_STEPS):
        for group in optimizer.param_groups:
            group["lr"] = 0.05 * (1.0 - step / _STEPS)
        share = torch.sigmoid(features @ weights)
        joined = log_scale + (1.0 - share) * direct + share * lattice
        loss = (joined - labels).abs().mean() + _SLOPE_PENALTY * weights[1:].square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    made = IonicJoin(tuple(weights.detach().tolist()), float(log_scale.detach().exp()))
    if not with_bars:
        return made
    half = 0.5 * (estimates.lattice - estimates.direct)
    joined_tensors = made.join(estimates)
    pair = np.stack([joined_tensors + half, joined_tensors - half])
    tensor, mean = (calibrate(pair, expected, quantity=quantity) for quantity in (Quantity.tensor, Quantity.mean))
    return IonicJoin(made.weights, made.scale, tensor, mean)


def _features(estimates: IonicEstimates) -> np.ndarray:
    """[B, 2]."""
    stiffness = np.clip(estimates.softest, _SOFTEST, _STIFFEST)
    return np.stack([np.ones(len(stiffness)), np.log(stiffness)], axis=1)


def _sigmoid(values: np.ndarray) -> np.ndarray:
    result: np.ndarray = 1.0 / (1.0 + np.exp(-values))
    return result
