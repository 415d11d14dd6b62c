# SPDX-License-Identifier: MIT
"""Prediction of a stream of crystals in batches; a crystal that fails is rejected and never stops the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import torch

from ..crystals.checks import check_crystals
from ..crystals.convert import to_crystal
from ..crystals.crystal import Crystal, Rejected
from ..errors import BadCrystalError
from ..model.predictor import Predictor
from ..model.training_set import TrainingDistances
from ..nn.batch_limit import BatchLimit, is_out_of_memory
from ..symmetry import with_operations
from .crystal_warnings import CrystalWarning, structure_warnings
from .store import PredictedAtoms, ScreenedCrystals

# Number of crystals in memory; they are sorted by size together, so that the crystals of a batch are of similar size.
CHUNK_SIZE = 2048
# Number of crystals that are checked together, and rejected together.
CHECKED_TOGETHER = 64

# Sizes of crystals whose symmetry is searched for, on one thread. Search and prediction of the bundled crystals of 2 to
# 32 atoms, 40 of each size and weighted by how many there are: 18.0 s from 10 atoms on, 18.3 from 8, 18.4 from 12, 19.8
# from 16, 19.5 where all are searched, 24.2 where none is. More threads shorten the work, not the search. Large
# crystals are mostly supercells with displaced atoms, and can take long to search.
SEARCH_FROM_ATOMS, SEARCH_TO_ATOMS = 10, 200

ScreeningResult = tuple[ScreenedCrystals, list[Rejected]]


class ScreeningStopped(KeyboardInterrupt):
    """Exception for Ctrl-C during a screening; holds the crystals done until then.

    Args:
        screened: the crystals that were predicted.
        rejected: the crystals that were rejected.
    """

    def __init__(self, screened: ScreenedCrystals, rejected: list[Rejected]) -> None:
        super().__init__(f"stopped after {len(screened)} predictions")
        self.screened = screened
        self.rejected = rejected


def screen_crystals(
    model: Predictor,
    items: Iterable[Crystal | Rejected],
    batch_atoms: int | None = None,
    on_done: Callable[[int], None] = lambda number: None,
    born_charges: bool = False,
    are_prepared: bool = False,
    limit: BatchLimit | None = None,
) -> ScreeningResult:
    """Predict the tensors of all targets of a model for a stream of crystals.

    Args:
        model: the model.
        items: crystals; a `Rejected` for each crystal that could not be read is passed on.
        batch_atoms: maximum number of atoms in a batch, except for one larger crystal; None for
            `Predictor.default_batch_atoms`.
        on_done: called with the number of crystals finished since the last call.
        born_charges: whether Born effective charges are predicted too; see `PredictedAtoms`.
        are_prepared: whether the crystals come from `Preparation.prepare`, which has checked them and searched for
            their symmetry.
        limit: the size of batches, which is lowered where memory runs out; `batch_limit` makes one. It replaces
            `batch_atoms`, and can be kept for the next call. None for a new one.

    Returns:
        The predicted crystals in the order of the stream, and the rejected: crystals that could not be read, did not
        pass `check_crystal`, made the model fail, or whose prediction is not finite.

    Raises:
        ValueError: `born_charges` is set, and the model has no Born charges.
        ScreeningStopped: on KeyboardInterrupt, with the predictions until then.
    """
    if born_charges and not model.has_born_charges:
        raise ValueError("screen_crystals: expected a model with Born charges, got one without")
    known_elements = frozenset(model.elements) or None
    # It looks at all parameters, which takes longer than a small crystal.
    search_from = None if are_prepared else search_from_atoms(model)
    limit = limit or batch_limit(model, batch_atoms)
    stream = iter(items)
    # Finished chunks, then the current one, so that Ctrl-C loses nothing.
    chunks: list[_Chunk | ScreeningResult] = []
    try:
        with model.evaluating():
            while True:
                chunk = _Chunk(model, born_charges)
                chunks.append(chunk)
                if are_prepared:
                    chunk.crystals += (item for item in islice(stream, CHUNK_SIZE) if isinstance(item, Crystal))
                else:
                    chunk.fill(islice(stream, CHUNK_SIZE), known_elements, on_done, search_from)
                if not chunk.crystals and not chunk.rejected:
                    break
                for batch in limit.batches(chunk.crystals):
                    outcomes = _predict(model, [chunk.crystals[index] for index in batch], born_charges, limit)
                    chunk.outcomes.update(zip(batch, outcomes, strict=True))
                    on_done(len(batch))
                chunks[-1] = chunk.finish()
    except KeyboardInterrupt:
        raise ScreeningStopped(*_join(chunks)) from None
    return _join(chunks)


def crystal_warnings(structure: Any, model: Predictor) -> list[CrystalWarning]:
    """Predict a crystal, and return the warnings about its structure and prediction.

    Args:
        structure: a pymatgen Structure, an ASE Atoms or a `Crystal`.
        model: a loaded model.

    Returns:
        The warnings, which docs/screening.md lists; empty for an ordinary crystal.

    Raises:
        BadCrystalError: the structure cannot be predicted; see `check_crystal`.

    Example:
        >>> [warning.text for warning in crystal_warnings(structure, model)]
    """
    screened, rejected = screen_crystals(model, [to_crystal(structure)])
    if rejected:
        raise BadCrystalError(f"{rejected[0].id}: {rejected[0].reason}")
    return screened.warnings()[0]


class _Prediction(NamedTuple):
    """The tensors of a crystal by target, error bars if the model has them, warnings, distance, charges."""

    tensors: dict[str, np.ndarray]
    tensor_errors: dict[str, float]
    mean_errors: dict[str, float]
    warnings: list[CrystalWarning]
    training_distance: float | None
    born_charges: np.ndarray | None


class _Chunk:
    """Some crystals of the stream; `outcomes` has each one's prediction, or the reason of its failure, by index."""

    def __init__(self, model: Predictor, born_charges: bool) -> None:
        self.targets, self.born_charges = model.targets, born_charges
        self.tensor_error_targets = model.targets if model.tensor_calibrations else ()
        self.mean_error_targets = model.targets if model.mean_calibrations else ()
        self.crystals: list[Crystal] = []
        self.rejected: list[Rejected] = []
        self.outcomes: dict[int, _Prediction | str] = {}

    def fill(
        self,
        items: Iterable[Crystal | Rejected],
        known_elements: frozenset[int] | None,
        on_done: Callable[[int], None],
        search_from: int | None,
    ) -> None:
        """Take items, check the crystals among them, and search for operations from this number of atoms on."""
        group: list[Crystal | Rejected] = []
        try:
            for item in items:
                group.append(item)
                if len(group) == CHECKED_TOGETHER:
                    full, group = group, []
                    self._take(full, known_elements, on_done, search_from)
        finally:
            # Also after Ctrl-C while the next item is read.
            self._take(group, known_elements, on_done, search_from)

    def _take(
        self,
        group: Sequence[Crystal | Rejected],
        known_elements: frozenset[int] | None,
        on_done: Callable[[int], None],
        search_from: int | None,
    ) -> None:
        errors = iter(check_crystals([item for item in group if isinstance(item, Crystal)], known_elements))
        for item in group:
            if isinstance(item, Rejected):
                self._reject(item, on_done)
            elif error := next(errors):
                self._reject(Rejected.from_error(error, item.id, item.source), on_done)
            elif search_from is not None and search_from <= item.num_atoms <= SEARCH_TO_ATOMS:
                self.crystals += with_operations([item])
            else:
                self.crystals.append(item)

    def _reject(self, reject: Rejected, on_done: Callable[[int], None]) -> None:
        self.rejected.append(reject)
        on_done(1)

    def finish(self, find_systems: bool = True) -> ScreeningResult:
        """Return the predicted crystals in the order of the stream, and the rejected; unfinished ones are left out."""
        rejected = list(self.rejected)
        predicted: list[Crystal] = []
        predictions: list[_Prediction] = []
        for index in sorted(self.outcomes):
            crystal, outcome = self.crystals[index], self.outcomes[index]
            if isinstance(outcome, str):
                rejected.append(Rejected(crystal.id, crystal.source, outcome))
            else:
                predicted.append(crystal)
                predictions.append(outcome)
        tensors = {t: np.array([p.tensors[t] for p in predictions]).reshape(-1, 3, 3) for t in self.targets}
        tensor_errors = {t: np.array([p.tensor_errors[t] for p in predictions]) for t in self.tensor_error_targets}
        mean_errors = {t: np.array([p.mean_errors[t] for p in predictions]) for t in self.mean_error_targets}
        screened = ScreenedCrystals.of(predicted, tensors, tensor_errors, mean_errors, find_systems)
        charges = [p.born_charges for p in predictions if p.born_charges is not None]
        atoms = PredictedAtoms.of(predicted, charges) if self.born_charges else None
        distances = [p.training_distance for p in predictions]
        known = np.array(distances, dtype=np.float64) if distances and None not in distances else None
        warnings = [p.warnings for p in predictions]
        return replace(screened, structure_warnings=warnings, training_distances=known, atoms=atoms), rejected


def batch_limit(model: Predictor, batch_atoms: int | None = None) -> BatchLimit:
    """Make the limit of batches for a model on its device.

    Args:
        model: the model.
        batch_atoms: see `screen_crystals`.
    """
    return BatchLimit(batch_atoms or model.default_batch_atoms(), model.bond_cutoff)


def search_from_atoms(model: Predictor) -> int | None:
    """Return the number of atoms from which a search for operations pays; None where it never does.

    Args:
        model: the model that will predict the crystals.
    """
    is_on_gpu = any(parameter.is_cuda for parameter in model.parameters())
    return None if is_on_gpu or not model.uses_operations else SEARCH_FROM_ATOMS * torch.get_num_threads()


def _join(chunks: Sequence[_Chunk | ScreeningResult]) -> ScreeningResult:
    # An unfinished chunk was interrupted, and the search for crystal systems can take longer than users wait.
    finished = [chunk.finish(find_systems=False) if isinstance(chunk, _Chunk) else chunk for chunk in chunks]
    tables = [table for table, _ in finished]
    return ScreenedCrystals.join(tables), [reject for _, rejected in finished for reject in rejected]


def _predict(
    model: Predictor, crystals: Sequence[Crystal], born_charges: bool, limit: BatchLimit
) -> list[_Prediction | str]:
    """Predict each crystal, or give the reason of its failure; a failing batch is halved until the culprit is alone."""
    outcomes = _predict_batch(model, crystals, born_charges)
    if isinstance(outcomes, list):
        return outcomes
    # Here the error is gone, and with it the tensors of the batch that failed.
    if outcomes.out_of_memory:
        limit.lower(crystals)
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()
    if len(crystals) == 1:
        return [f"the model failed: {outcomes.reason}"]
    half = len(crystals) // 2
    halves = range(half), range(half, len(crystals))
    by_index: dict[int, _Prediction | str] = {}
    for part in limit.batches(crystals) if outcomes.out_of_memory else halves:
        predicted = _predict(model, [crystals[index] for index in part], born_charges, limit)
        by_index.update(zip(part, predicted, strict=True))
    return [by_index[index] for index in range(len(crystals))]


class _Failure(NamedTuple):
    """Why a batch failed."""

    reason: str
    out_of_memory: bool


def _predict_batch(
    model: Predictor, crystals: Sequence[Crystal], born_charges: bool
) -> list[_Prediction | str] | _Failure:
    try:
        with TrainingDistances(model.encoders_with_training_sets()) as distances:
            predict = model.predict_batch_with_charges if born_charges else model.predict_batch_with_errors
            batch = predict(crystals)
        training_distances = distances.relative()
        warnings = structure_warnings(crystals, model, training_distances)
    except Exception as error:
        return _Failure(str(error) or type(error).__name__, is_out_of_memory(error))
    outcomes: list[_Prediction | str] = []
    for index in range(len(crystals)):
        prediction = _Prediction(
            {target: values[index] for target, values in batch.tensors.items()},
            {target: float(values[index]) for target, values in batch.tensor_errors.items()},
            {target: float(values[index]) for target, values in batch.mean_errors.items()},
            warnings[index],
            None if training_distances is None else float(training_distances[index]),
            None if batch.born_charges is None else batch.born_charges[index],
        )
        outcomes.append(_find_infinite(prediction) or prediction)
    return outcomes


def _find_infinite(prediction: _Prediction) -> str | None:
    """Say which predicted numbers are not finite; None where all are."""
    for target, tensor in prediction.tensors.items():
        if not np.isfinite(tensor).all():
            return f"the predicted {target} tensor is not finite"
    if prediction.born_charges is not None and not np.isfinite(prediction.born_charges).all():
        return "the predicted Born charges are not finite"
    return None
