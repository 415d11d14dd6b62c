# SPDX-License-Identifier: MIT
"""From structures to tensors with error bars: what a model and an ensemble of models have in common."""

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
from ..nn.graph import batches_of_atoms
from ..nn.symmetric_tensors import COLUMNS, ROWS
from ..symmetry import find_symmetry, symmetrised


def spread(members: np.ndarray) -> np.ndarray:
    """The root mean square, over the six unique elements, of the members' standard deviation.

    Args:
        members: tensors of each member. [members, B, 3, 3].

    Returns:
        [B], 0 for a single member.
    """
    unique = members[:, :, ROWS, COLUMNS]
    result: np.ndarray = np.sqrt(np.square(unique - unique.mean(0)).mean((0, 2)))
    return result


class Predictor(nn.Module):
    """Something that predicts the dielectric tensors of crystals, alone or as the mean of members."""

    @property
    @abstractmethod
    def targets(self) -> tuple[str, ...]:
        """Names of the tensors that are predicted."""

    @property
    @abstractmethod
    def elements(self) -> tuple[int, ...]:
        """Atomic numbers that are known; others are refused. Empty means all."""

    @property
    @abstractmethod
    def error_scales(self) -> tuple[float, ...]:
        """For each target, the factor that makes an error bar of the members' spread; empty for none."""

    @abstractmethod
    def predict_members(self, crystals: Sequence[Crystal]) -> dict[str, np.ndarray]:
        """The tensors of each member for crystals that passed `check_crystal`, all in one batch.

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
            target: which tensor; may be left out when the model has one.
            batch_atoms: about how many atoms are treated together.
            symmetrise: average each tensor over the point group of its crystal, which moyopy finds within 0.1 Angstrom.
                The model's tensors have this symmetry up to rounding where the crystal has it perfectly; then what it
                forbids is exactly zero. Crystals of more than 800 atoms are not searched.

        Returns:
            Relative permittivity, symmetric, in the frame of each structure's cell. [B, 3, 3], float64.

        Raises:
            BadCrystalError: a structure cannot be used; the message says which one and why.
            ValueError: `target` is not one of the model's, or left out where there are several.
            MissingPackageError: `symmetrise` without moyopy.
        """
        tensors = self.predict_targets(structures, batch_atoms)[self._one_target(target)]
        if symmetrise:
            for place, crystal in enumerate(to_crystals(structures)):
                symmetry = find_symmetry(crystal)
                if symmetry is not None:
                    tensors[place] = symmetrised(tensors[place], symmetry.rotations)
        return tensors

    def predict_targets(self, structures: Any, batch_atoms: int = 1024) -> dict[str, np.ndarray]:
        """Predict the tensors of all targets of the model at once; see `predict`."""
        crystals = self._checked(structures)
        results = {target: np.empty((len(crystals), 3, 3)) for target in self.targets}
        with self.evaluating():
            for batch in batches_of_atoms(crystals, batch_atoms):
                for target, tensors in self.predict_batch([crystals[index] for index in batch]).items():
                    results[target][batch] = tensors
        return results

    def predict_with_errors(
        self, structures: Any, target: str | None = None, batch_atoms: int = 1024
    ) -> tuple[np.ndarray, np.ndarray]:
        """Predict tensors and how far off they may be, with an ensemble whose error bars were calibrated.

        Args:
            structures: see `predict`.
            target: see `predict`.
            batch_atoms: see `predict`.

        Returns:
            The tensors [B, 3, 3], and for each an error bar [B]: the mean absolute error over its six elements is
            expected below it for nine crystals of ten. float64.

        Raises:
            ValueError: the model is no ensemble with calibrated error bars; or see `predict`.
            BadCrystalError: see `predict`.
        """
        if not self.error_scales:
            raise ValueError(
                "predict_with_errors: expected an ensemble with calibrated error bars, got a model without"
            )
        chosen = self._one_target(target)
        crystals = self._checked(structures)
        tensors, errors = np.empty((len(crystals), 3, 3)), np.empty(len(crystals))
        with self.evaluating():
            for batch in batches_of_atoms(crystals, batch_atoms):
                values, bars = self.predict_batch_with_errors([crystals[index] for index in batch])
                tensors[batch], errors[batch] = values[chosen], bars[chosen]
        return tensors, errors

    def _one_target(self, target: str | None) -> str:
        if target is None and len(self.targets) == 1:
            return self.targets[0]
        if target is None or target not in self.targets:
            raise ValueError(f"predict: expected `target` to be one of {', '.join(self.targets)}, got {target!r}")
        return target

    def _checked(self, structures: Any) -> list[Crystal]:
        crystals = to_crystals(structures)
        known = frozenset(self.elements) or None
        for crystal in crystals:
            check_crystal(crystal, known)
        return crystals

    def predict_batch(self, crystals: Sequence[Crystal]) -> dict[str, np.ndarray]:
        """Predict the tensors of crystals that passed `check_crystal`, all in one graph and in the mode of the model.

        Args:
            crystals: at least one.

        Returns:
            [B, 3, 3] for each target, float64.
        """
        return self.predict_batch_with_errors(crystals)[0]

    def predict_batch_with_errors(
        self, crystals: Sequence[Crystal]
    ) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """As `predict_batch`, and the error bars of `predict_with_errors`, none without an ensemble.

        Args:
            crystals: at least one.

        Returns:
            [B, 3, 3] for each target, float64; and [B] for each target, or an empty dictionary.
        """
        members = self.predict_members(crystals)
        scales = zip(self.targets, self.error_scales, strict=False)
        errors = {target: scale * spread(members[target]) for target, scale in scales}
        return {target: values.mean(0) for target, values in members.items()}, errors

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Run the block in evaluation mode; afterwards each module has the mode that it had."""
        modes = [(module, module.training) for module in self.modules()]
        self.eval()
        try:
            yield
        finally:
            for module, training in modes:
                module.training = training
