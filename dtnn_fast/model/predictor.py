# SPDX-License-Identifier: MIT
"""Prediction of tensors, with error bars, from structures: the part that `DTNN` and `Ensemble` have in common."""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from ..crystals.checks import check_crystals
from ..crystals.convert import to_crystals
from ..crystals.crystal import Crystal
from ..nn.devices import batch_atoms_on
from ..nn.graph import crystal_batches
from ..nn.known_modules import KnownModules
from ..nn.symmetric_tensors import UNIQUE_COLUMNS, UNIQUE_ROWS
from ..symmetry import find_forbidden_ionic_responses, find_symmetry, symmetrised
from .error_calibration import ErrorCalibration
from .functionals import check_functional
from .training_set import TrainingSet


class BatchPrediction(NamedTuple):
    """Predictions for a batch of crystals, with error bars where the model has them.

    Args:
        tensors: predicted tensors by target. [B, 3, 3] each, float64.
        tensor_errors: error bar of each tensor by target; empty if the model has none. [B] each, float64.
        mean_errors: error bar of each mean (a third of the trace) by target; empty if the model has none. [B] each,
            float64.
        born_charges: Z[atom, field, displacement] of each crystal; None if they were not requested. [N, 3, 3] each,
            float64, e.
    """

    tensors: dict[str, np.ndarray]
    tensor_errors: dict[str, np.ndarray]
    mean_errors: dict[str, np.ndarray]
    born_charges: list[np.ndarray] | None = None


class Predictor(nn.Module):
    """A model that predicts the dielectric tensors of crystals, as the mean of one or more members.

    `dtnn_fast.Ensemble` explains what a member is.
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
    def functionals(self) -> tuple[str, ...]:
        """Functionals of density functional theory that the model can predict for, the main one first.

        Empty if it learned from labels of one functional, or of one that is not stated.
        """
        return ()

    @property
    def functional(self) -> str:
        """The one of `functionals` that predictions are for; empty without them."""
        return self.functionals[0] if self.functionals else ""

    def with_functional(self, name: str) -> Predictor:
        """Make a model that predicts for another functional, and shares the parameters of this model.

        Args:
            name: one of `functionals`; empty for the first.

        Raises:
            ValueError: the model does not know the functional.

        Example:
            >>> model = DTNN.from_pretrained("dielectric").with_functional("PBEsol")
        """
        check_functional(name, self.functionals, type(self).__name__)
        return self

    @property
    def error_scales(self) -> tuple[float, ...]:
        """For each target, a plain factor from `spread` to the error bar of a tensor, as models of 0.1.0 have it."""
        return ()

    @property
    def mean_error_scales(self) -> tuple[float, ...]:
        """For each target, a plain factor from `mean_spread` to the error bar of a mean; see `error_scales`."""
        return ()

    @property
    def tensor_calibrations(self) -> tuple[ErrorCalibration, ...]:
        """For each target, how `spread` and mean give the error bar of a tensor; empty for no error bars."""
        return tuple(map(ErrorCalibration.plain, self.error_scales))

    @property
    def mean_calibrations(self) -> tuple[ErrorCalibration, ...]:
        """For each target, how `mean_spread` and mean give the error bar of a mean; empty for no such error bars."""
        return tuple(map(ErrorCalibration.plain, self.mean_error_scales))

    @property
    def bond_cutoff(self) -> float | None:
        """Longest distance at which the model sees two atoms as bonded, Angstrom; None where unknown."""
        return None

    @property
    def uses_operations(self) -> bool:
        """Whether predictions take less work for crystals whose `operations` are known."""
        return False

    def encoders_with_training_sets(self) -> list[tuple[nn.Module, TrainingSet]]:
        """List the encoders whose training crystals are known, each with its training set."""
        return []

    def default_batch_atoms(self) -> int:
        """Choose the number of atoms of a batch for the device of the model; see `batch_atoms_on`."""
        parameter = next(self.parameters(), None)
        return batch_atoms_on(torch.device("cpu") if parameter is None else parameter.device)

    @abstractmethod
    def predict_members(self, crystals: Sequence[Crystal]) -> dict[str, np.ndarray]:
        """Predict the tensors of each member for crystals that passed `check_crystal`, all in one batch.

        Args:
            crystals: at least one.

        Returns:
            [members, B, 3, 3] for each target, float64.
        """

    @property
    def has_born_charges(self) -> bool:
        """Whether the model predicts Born effective charges."""
        return False

    def predict_batch_charges(self, crystals: Sequence[Crystal]) -> list[np.ndarray]:
        """Predict the Born charges of crystals that passed `check_crystal`, all in one batch, in the current mode.

        Args:
            crystals: at least one.

        Returns:
            Z[atom, field, displacement] of each crystal, which sum to zero. [N, 3, 3] each, float64, e.

        Raises:
            ValueError: the model has no Born charges.
        """
        raise ValueError(f"{type(self).__name__}: expected a model with Born charges, got one without")

    def predict_members_and_charges(
        self, crystals: Sequence[Crystal]
    ) -> tuple[dict[str, np.ndarray], list[np.ndarray]]:
        """Predict what `predict_members` and `predict_batch_charges` do, with each encoder run once."""
        return self.predict_members(crystals), self.predict_batch_charges(crystals)

    def predict(
        self, structures: Any, target: str | None = None, batch_atoms: int | None = None, symmetrise: bool = False
    ) -> np.ndarray:
        """Predict dielectric tensors.

        Args:
            structures: a pymatgen Structure, an ASE Atoms, a `Crystal`, or a list of them.
            target: the tensor to predict, "electronic", "ionic" or "total"; may be left out if the model has only one.
            batch_atoms: maximum number of atoms in a batch (a larger crystal is a batch by itself); None for 1024 on
                the CPU, and on a GPU as many as its free memory allows.
            symmetrise: average each tensor over the point group of its crystal, which moyopy finds within 0.1 Angstrom.
                Elements that the symmetry forbids are then exactly zero. Without it, they are zero up to rounding only
                if the crystal is perfectly symmetric. Symmetry is not searched for crystals of more than 800 atoms.

        Returns:
            Relative permittivity, symmetric, in the frame of each structure's cell. [B, 3, 3], float64.

        Raises:
            BadCrystalError: a structure cannot be used; the message names it and says why.
            ValueError: `target` is not a target of the model, or is left out although the model has several.
            MissingPackageError: `symmetrise` is set, and moyopy is not installed.
        """
        tensors = self.predict_targets(structures, batch_atoms)[self._choose_target(target)]
        if symmetrise:
            for index, crystal in enumerate(to_crystals(structures)):
                symmetry = find_symmetry(crystal)
                if symmetry is not None:
                    tensors[index] = symmetrised(tensors[index], symmetry.rotations)
        return tensors

    def predict_targets(self, structures: Any, batch_atoms: int | None = None) -> dict[str, np.ndarray]:
        """Predict the tensors of all targets at once; see `predict`. [B, 3, 3] for each target."""
        return self._predict_in_batches(structures, batch_atoms, with_errors=False).tensors

    def predict_with_errors(
        self, structures: Any, target: str | None = None, batch_atoms: int | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Predict tensors with error bars; needs an ensemble with calibrated error bars.

        The error bars are for whole tensors; `predict_mean_with_errors` gives error bars of means.

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
        if not self.tensor_calibrations:
            raise ValueError(
                "predict_with_errors: expected an ensemble with calibrated error bars, got a model without error bars"
            )
        chosen = self._choose_target(target)
        prediction = self._predict_in_batches(structures, batch_atoms)
        return prediction.tensors[chosen], prediction.tensor_errors[chosen]

    def predict_mean_with_errors(
        self, structures: Any, target: str | None = None, batch_atoms: int | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Predict mean permittivities (a third of the trace) with error bars; needs a calibrated ensemble.

        Args:
            structures: see `predict`.
            target: see `predict`.
            batch_atoms: see `predict`.

        Returns:
            The means [B] and an error bar for each [B]. The error of a mean is expected to be below its error bar for
            nine of ten crystals. float64.

        Raises:
            ValueError: the model has no calibrated error bars of means, such as models of version 0.1.0; or see
                `predict`.
            BadCrystalError: see `predict`.
        """
        if not self.mean_calibrations:
            raise ValueError(
                "predict_mean_with_errors: expected an ensemble with calibrated error bars of means, got a model "
                "without error bars of means"
            )
        chosen = self._choose_target(target)
        prediction = self._predict_in_batches(structures, batch_atoms)
        return mean_permittivity(prediction.tensors[chosen]), prediction.mean_errors[chosen]

    def predict_born_charges(self, structures: Any, batch_atoms: int | None = None) -> list[np.ndarray]:
        """Predict Born effective charges of structures.

        Args:
            structures: see `predict`.
            batch_atoms: see `predict`.

        Returns:
            Z[atom, field, displacement] of each structure, in the frame of its cell. [N, 3, 3] each, float64, e. They
            sum to zero over the atoms of a structure.

        Raises:
            ValueError: the model has no Born charges.
            BadCrystalError: a structure cannot be used; the message names it and says why.
        """
        crystals = self._to_checked_crystals(structures)
        charges: list[np.ndarray] = [np.empty(0)] * len(crystals)
        with self.evaluating():
            for batch in crystal_batches(crystals, batch_atoms or self.default_batch_atoms()):
                predicted = self.predict_batch_charges([crystals[index] for index in batch])
                for index, of_crystal in zip(batch, predicted, strict=True):
                    charges[index] = of_crystal
        return charges

    def _predict_in_batches(
        self, structures: Any, batch_atoms: int | None, with_errors: bool = True
    ) -> BatchPrediction:
        """Predict all targets, and their error bars where wanted, in the order of the structures."""
        crystals = self._to_checked_crystals(structures)
        tensors = {target: np.empty((len(crystals), 3, 3)) for target in self.targets}
        tensor_errors = {
            target: np.empty(len(crystals)) for target in self.targets if with_errors and self.tensor_calibrations
        }
        wants_mean_errors = with_errors and self.mean_calibrations
        mean_errors = {target: np.empty(len(crystals)) for target in self.targets if wants_mean_errors}
        predict = self.predict_batch_with_errors if with_errors else self._predict_batch_without_errors
        with self.evaluating():
            for batch in crystal_batches(crystals, batch_atoms or self.default_batch_atoms()):
                prediction = predict([crystals[index] for index in batch])
                for target in self.targets:
                    tensors[target][batch] = prediction.tensors[target]
                for errors, batch_errors in (
                    (tensor_errors, prediction.tensor_errors),
                    (mean_errors, prediction.mean_errors),
                ):
                    for target in errors:
                        errors[target][batch] = batch_errors[target]
        return BatchPrediction(tensors, tensor_errors, mean_errors)

    def _choose_target(self, target: str | None) -> str:
        if target is None and len(self.targets) == 1:
            return self.targets[0]
        if target is None or target not in self.targets:
            raise ValueError(f"predict: expected `target` to be one of {', '.join(self.targets)}, got {target!r}")
        return target

    def _to_checked_crystals(self, structures: Any) -> list[Crystal]:
        crystals = to_crystals(structures)
        known = frozenset(self.elements) or None
        for error in check_crystals(crystals, known):
            if error is not None:
                raise error
        return crystals

    def predict_batch(self, crystals: Sequence[Crystal]) -> dict[str, np.ndarray]:
        """Predict the tensors of crystals that passed `check_crystal`, all in one batch, in the current mode.

        Args:
            crystals: at least one.

        Returns:
            [B, 3, 3] for each target, float64.
        """
        return self._predict_batch_without_errors(crystals).tensors

    def _predict_batch_without_errors(self, crystals: Sequence[Crystal]) -> BatchPrediction:
        members = without_forbidden_ionic_parts(crystals, self.predict_members(crystals))
        return BatchPrediction({target: values.mean(0) for target, values in members.items()}, {}, {})

    def predict_batch_with_errors(self, crystals: Sequence[Crystal]) -> BatchPrediction:
        """Predict as `predict_batch` does, with the error bars of tensors and means where the model has them.

        If symmetry forbids an ionic part (`dtnn_fast.symmetry.forbids_ionic_response`: Si, diamond), the ionic part of
        every member is set to exactly zero, and its total tensor to the electronic part.

        Args:
            crystals: at least one.
        """
        return self._with_errors(crystals, self.predict_members(crystals))

    def predict_batch_with_charges(self, crystals: Sequence[Crystal]) -> BatchPrediction:
        """Predict as `predict_batch_with_errors` does, and the Born charges of the same encoder run.

        Args:
            crystals: at least one.

        Raises:
            ValueError: the model has no Born charges.
        """
        members, charges = self.predict_members_and_charges(crystals)
        return self._with_errors(crystals, members)._replace(born_charges=charges)

    def _with_errors(self, crystals: Sequence[Crystal], members: dict[str, np.ndarray]) -> BatchPrediction:
        members = without_forbidden_ionic_parts(crystals, members)
        tensors = {target: values.mean(0) for target, values in members.items()}
        of_tensors = zip(self.targets, self.tensor_calibrations, strict=False)
        of_means = zip(self.targets, self.mean_calibrations, strict=False)
        means = {target: mean_permittivity(values) for target, values in tensors.items()}
        return BatchPrediction(
            tensors,
            {target: calibration.bars(spread(members[target]), means[target]) for target, calibration in of_tensors},
            {target: calibration.bars(mean_spread(members[target]), means[target]) for target, calibration in of_means},
        )

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Run the block in evaluation mode; afterwards each module is back in its own mode.

        Several threads may be in such blocks at the same time, with models that share modules: a module gets its mode
        back when the last of the threads has left.
        """
        with _EVALUATED_LOCK:
            # Usually there is nothing to change: setting the mode of hundreds of modules takes longer than a crystal.
            known = self.__dict__.setdefault("_known_modules", KnownModules())
            known.update((self,))
            modules = list(known.modules) if _EVALUATED or known.any_training() else []
            for module in modules:
                mode, blocks = _EVALUATED.get(module, (module.training, 0))
                _EVALUATED[module] = mode, blocks + 1
            if modules:
                self.eval()
        try:
            yield
        finally:
            with _EVALUATED_LOCK:
                for module in modules:
                    mode, blocks = _EVALUATED.pop(module)
                    if blocks > 1:
                        _EVALUATED[module] = mode, blocks - 1
                    else:
                        module.training = mode


# The modules in blocks of `Predictor.evaluating`: their mode before, and the number of blocks.
_EVALUATED: dict[nn.Module, tuple[bool, int]] = {}
_EVALUATED_LOCK = threading.Lock()


def without_forbidden_ionic_parts(crystals: Sequence[Crystal], members: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Set ionic parts that symmetry forbids to zero, and the total to the electronic part there.

    Args:
        crystals: crystals that passed `check_crystal`, at least one.
        members: what `Predictor.predict_members` gave. [members, B, 3, 3] for each target.
    """
    exact: dict[str, np.ndarray | float] = {}
    if "ionic" in members:
        exact["ionic"] = 0.0
    if {"electronic", "total"} <= members.keys():
        exact["total"] = members["electronic"]
    if not exact:
        return members
    forbidden = find_forbidden_ionic_responses(crystals)[:, None, None]
    return members | {target: np.where(forbidden, value, members[target]) for target, value in exact.items()}


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


def mean_permittivity(tensors: np.ndarray) -> np.ndarray:
    """Compute the mean permittivity, a third of the trace. [..., 3, 3] -> [...]."""
    means: np.ndarray = np.trace(tensors, axis1=-2, axis2=-1) / 3.0
    return means


def mean_spread(members: np.ndarray) -> np.ndarray:
    """Compute the spread of the members' mean permittivities: their standard deviation.

    Args:
        members: tensors of each member. [members, B, 3, 3].

    Returns:
        [B], 0 for a single member.
    """
    result: np.ndarray = mean_permittivity(members).std(0)
    return result
