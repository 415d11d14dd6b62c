# SPDX-License-Identifier: MIT
"""Prediction of tensors, with error bars, from structures: the part that `DTNN` and `Ensemble` have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from torch import nn

from ..crystals.checks import check_crystal
from ..crystals.convert import to_crystals
from ..crystals.crystal import Crystal
from ..nn.graph import crystal_batches
from ..nn.symmetric_tensors import UNIQUE_COLUMNS, UNIQUE_ROWS
from ..symmetry import find_symmetry, symmetrised


class Predictor(nn.Module):
    """A model that predicts the dielectric tensors of crystals, as the mean of one or more members.

    `dtnn_fast.Ensemble` says what a member is.
    """

    @property
    @abstractmethod
    def targets(self) -> tuple[str, ...]:
        """Names of the tensors that are predicted."""

    @property
    @abstractmethod
    def elements(self) -> tuple[int, ...]:
        """Atomic numbers that the model knows; crystals with other elements are rejected. Empty means all."""

    @property
    @abstractmethod
    def error_scales(self) -> tuple[float, ...]:
        """For each target, the factor from the members' spread to an error bar; empty for no error bars."""

    @abstractmethod
    def predict_members(self, crystals: Sequence[Crystal]) -> dict[str, np.ndarray]:
        """Predict the tensors of each member for crystals that passed `check_crystal`, all in one batch.

        Args:
            crystals: at least one.

        Returns:
            [members, B, 3, 3] for each target, float64.
        """

    def predict(
        self, structures: Any, target: str | None = None, batch_atoms: int = 1024, symmetrise: bool = False
    ) -> np.ndarray:
        """Predict dielectric tensors.

        Args:
            structures: a pymatgen Structure, an ASE Atoms, a `Crystal`, or a list of them.
            target: which tensor; may be left out when the model has only one.
            batch_atoms: number of atoms in a batch, at most (a larger crystal is a batch by itself).
            symmetrise: average each tensor over the point group of its crystal, found by spglib within 0.1 Angstrom.
                Elements that the symmetry forbids are then exactly zero. Without it, they are zero up to rounding
                where the crystal has the symmetry perfectly.

        Returns:
            Relative permittivity, symmetric, in the frame of each structure's cell. [B, 3, 3], float64.

        Raises:
            BadCrystalError: a structure cannot be used; the message names it and says why.
            ValueError: `target` is not a target of the model, or is left out where there are several.
            MissingPackageError: `symmetrise` is set, and spglib is not installed.
        """
        tensors = self.predict_targets(structures, batch_atoms)[self._choose_target(target)]
        if symmetrise:
            for index, crystal in enumerate(to_crystals(structures)):
                symmetry = find_symmetry(crystal)
                if symmetry is not None:
                    tensors[index] = symmetrised(tensors[index], symmetry.rotations)
        return tensors

    def predict_targets(self, structures: Any, batch_atoms: int = 1024) -> dict[str, np.ndarray]:
        """Predict the tensors of all targets at once; see `predict`. [B, 3, 3] for each target."""
        crystals = self._to_checked_crystals(structures)
        results = {target: np.empty((len(crystals), 3, 3)) for target in self.targets}
        with self.evaluating():
            for batch in crystal_batches(crystals, batch_atoms):
                for target, tensors in self.predict_batch([crystals[index] for index in batch]).items():
                    results[target][batch] = tensors
        return results

    def predict_with_errors(
        self, structures: Any, target: str | None = None, batch_atoms: int = 1024
    ) -> tuple[np.ndarray, np.ndarray]:
        """Predict tensors with error bars, by an ensemble whose error bars were calibrated.

        Args:
            structures: see `predict`.
            target: see `predict`.
            batch_atoms: see `predict`.

        Returns:
            The tensors [B, 3, 3] and an error bar for each [B]. The mean absolute error over a tensor's six elements
            is expected to be below its error bar for nine of ten crystals. float64.

        Raises:
            ValueError: the model has no calibrated error bars; or see `predict`.
            BadCrystalError: see `predict`.
        """
        if not self.error_scales:
            raise ValueError(
                "predict_with_errors: expected an ensemble with calibrated error bars, got a model without"
            )
        chosen = self._choose_target(target)
        crystals = self._to_checked_crystals(structures)
        tensors, errors = np.empty((len(crystals), 3, 3)), np.empty(len(crystals))
        with self.evaluating():
            for batch in crystal_batches(crystals, batch_atoms):
                values, bars = self.predict_batch_with_errors([crystals[index] for index in batch])
                tensors[batch], errors[batch] = values[chosen], bars[chosen]
        return tensors, errors

    def _choose_target(self, target: str | None) -> str:
        if target is None and len(self.targets) == 1:
            return self.targets[0]
        if target is None or target not in self.targets:
            raise ValueError(f"predict: expected `target` to be one of {', '.join(self.targets)}, got {target!r}")
        return target

    def _to_checked_crystals(self, structures: Any) -> list[Crystal]:
        crystals = to_crystals(structures)
        known = frozenset(self.elements) or None
        for crystal in crystals:
            check_crystal(crystal, known)
        return crystals

    def predict_batch(self, crystals: Sequence[Crystal]) -> dict[str, np.ndarray]:
        """Predict the tensors of crystals that passed `check_crystal`, all in one batch, in the current mode.

        Args:
            crystals: at least one.

        Returns:
            [B, 3, 3] for each target, float64.
        """
        return self.predict_batch_with_errors(crystals)[0]

    def predict_batch_with_errors(
        self, crystals: Sequence[Crystal]
    ) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Predict as `predict_batch` does, with the error bars of `predict_with_errors` where the model has them.

        Args:
            crystals: at least one.

        Returns:
            [B, 3, 3] for each target, and error bars [B] for each target or an empty dictionary. float64.
        """
        members = self.predict_members(crystals)
        scales = zip(self.targets, self.error_scales, strict=False)
        errors = {target: scale * spread(members[target]) for target, scale in scales}
        return {target: values.mean(0) for target, values in members.items()}, errors

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Run the block in evaluation mode; afterwards each module is back in its own mode."""
        modes = [(module, module.training) for module in self.modules()]
        self.eval()
        try:
            yield
        finally:
            for module, training in modes:
                module.training = training


def spread(members: np.ndarray) -> np.ndarray:
    """Compute the spread of the members' tensors: their standard deviation, as RMS over the six unique elements.

    Args:
        members: tensors of each member. [members, B, 3, 3].

    Returns:
        [B], 0 for a single member.
    """
    unique = members[:, :, UNIQUE_ROWS, UNIQUE_COLUMNS]
    result: np.ndarray = np.sqrt(np.square(unique - unique.mean(0)).mean((0, 2)))
    return result
