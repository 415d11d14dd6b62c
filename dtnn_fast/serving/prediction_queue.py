# SPDX-License-Identifier: MIT
"""Crystals of all requests that wait for the model: predicted in batches, in the order in which they come."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np

from ..crystals.crystal import Crystal, Rejected
from ..model.predictor import Predictor
from ..refinement.refinement_json import refinement_to_json
from ..refinement.refiner import Refinement, Refiner
from ..reporting.crystal_entries import tensor_entry
from ..screening.engine import batch_limit, screen_crystals
from ..screening.prediction_json import predictions_to_json
from ..screening.store import ScreenedCrystals
from .crystal_messages import Refusal, RefusalCode
from .labelled_neighbors import LabelledNeighbors
from .schemas import Part, Refined
from .turns import Turns

# Number of labelled crystals that are listed beside a prediction.
NUM_NEIGHBORS = 5

Outcome = dict[str, Any] | Refusal


@dataclass
class _Waiting:
    """A crystal that waits, what is asked of it, and where its outcome goes."""

    crystal: Crystal
    parts: frozenset[Part]
    outcome: asyncio.Future[Outcome] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class PredictionQueue:
    """Waiting crystals, and the thread that predicts them.

    While the model computes, crystals of further requests come together for the next batch, 8 to 10 with 50 clients. A
    batch does not wait for more: batches of 16, by waits of up to 10 ms, saved 5 % of the processor time of a request.

    Args:
        model: a loaded model.
        neighbors: labelled crystals.
        refiner: computes ionic tensors by lattice dynamics; None without.
    """

    def __init__(self, model: Predictor, neighbors: LabelledNeighbors, refiner: Refiner | None = None) -> None:
        self._model, self._neighbors, self._refiner = model, neighbors, refiner
        self._limit = batch_limit(model)
        self._waiting: Turns[_Waiting] = Turns()
        self._arrived = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, "model")
        self._loop: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start to predict what comes."""
        self._loop = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Stop; crystals that still wait are never predicted."""
        if self._loop is not None:
            self._loop.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._loop
        await asyncio.to_thread(self._thread.shutdown)

    @property
    def bond_cutoff(self) -> float | None:
        """See `Predictor.bond_cutoff`."""
        return self._model.bond_cutoff

    @property
    def is_running(self) -> bool:
        """Whether crystals that come will be predicted."""
        return self._loop is not None and not self._loop.done()

    async def predict(self, crystal: Crystal, parts: frozenset[Part], request: Hashable) -> Outcome:
        """Predict a crystal with others that wait.

        Args:
            crystal: of `Preparation.prepare`.
            parts: what the prediction shall have beside the tensors.
            request: whom it belongs to; requests take turns.
        """
        waiting = _Waiting(crystal, parts)
        self._waiting.add(request, waiting)
        self._arrived.set()
        return await waiting.outcome

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._arrived.wait()
            batch = self._take()
            if not batch:
                self._arrived.clear()
                continue
            crystals = [replace(waiting.crystal, id=str(place)) for place, waiting in enumerate(batch)]
            parts = [waiting.parts for waiting in batch]
            try:
                outcomes = await loop.run_in_executor(self._thread, self._predict, crystals, parts)
            except Exception as error:  # a bug; the queue goes on
                reason = f"the model failed: {type(error).__name__}: {error}"
                outcomes = [Refusal("", RefusalCode.MODEL_FAILED, reason) for _ in batch]
            for waiting, outcome in zip(batch, outcomes, strict=True):
                if not waiting.outcome.done():
                    waiting.outcome.set_result(_named(outcome, waiting.crystal.id))

    def _take(self) -> list[_Waiting]:
        """Take as many crystals as go into one batch; those whose request has ended are dropped."""
        batch: list[_Waiting] = []
        size = 0.0
        while (first := self._waiting.next()) is not None:
            if first.outcome.done():
                self._waiting.take()
                continue
            size += self._limit.size(first.crystal)
            with_charges = Part.BORN_CHARGES in first.parts
            if batch and (size > self._limit.largest or with_charges != (Part.BORN_CHARGES in batch[0].parts)):
                break
            batch.append(self._waiting.take())
        return batch

    def _predict(self, crystals: Sequence[Crystal], parts: Sequence[frozenset[Part]]) -> list[Outcome]:
        """Predict a batch in the thread of the model; the id of a crystal is its place."""
        with_charges = Part.BORN_CHARGES in parts[0] and self._model.has_born_charges
        screened, rejected = screen_crystals(
            self._model, crystals, born_charges=with_charges, are_prepared=True, limit=self._limit
        )
        outcomes: dict[int, Outcome] = {
            int(item.id): Refusal("", RefusalCode.MODEL_FAILED, item.reason) for item in rejected
        }
        for row, predicted in enumerate(predictions_to_json(screened)):
            place = int(predicted["id"])
            outcomes[place] = predicted | _more(screened, row)
            _add_parts(outcomes[place], screened.crystals[row], parts[place])
        for part, compute in ((Part.NEIGHBORS, self._find_neighbors), (Part.REFINED, self._refine)):
            wanting = [k for k in range(len(crystals)) if part in parts[k] and isinstance(outcomes[k], dict)]
            for place, more in zip(wanting, compute([crystals[k] for k in wanting]), strict=True):
                outcomes[place] = cast("dict[str, Any]", outcomes[place]) | more
        return [outcomes[place] for place in range(len(crystals))]

    def _find_neighbors(self, crystals: Sequence[Crystal]) -> list[dict[str, Any]]:
        return [{"neighbors": found} for found in self._neighbors.nearest(crystals, NUM_NEIGHBORS)]

    def _refine(self, crystals: Sequence[Crystal]) -> list[dict[str, Any]]:
        if self._refiner is None:
            return [{"not_refined": "this model has no lattice dynamics"} for _ in crystals]
        try:
            return [_describe_refined(result) for result in self._refiner.refine(crystals)]
        except Exception as error:  # cells of extreme shapes, which must not take others with them
            if len(crystals) > 1:
                return [self._refine([crystal])[0] for crystal in crystals]
            return [{"not_refined": f"lattice dynamics failed: {type(error).__name__}"}]


def _describe_refined(result: Refinement | Rejected) -> dict[str, Any]:
    if isinstance(result, Rejected):
        return {"not_refined": result.reason}
    known = refinement_to_json(result)
    return {"refined": {name: known[name] for name in Refined.model_fields}}


def _named(outcome: Outcome, name: str) -> Outcome:
    return outcome._replace(id=name) if isinstance(outcome, Refusal) else outcome | {"id": name}


def _more(screened: ScreenedCrystals, row: int) -> dict[str, Any]:
    """Return what the service tells of a crystal beyond ``predict --json``."""
    electronic = screened.tensors.get("electronic")
    index = None if electronic is None else float(np.sqrt(max(np.trace(electronic[row]) / 3.0, 0.0)))
    distances = screened.training_distances
    return {
        "space_group": screened.crystals[row].info.get("space_group"),
        "refractive_index": index,
        "training_distance": None if distances is None else float(distances[row]),
        "labelled": bool(screened.labelled[row]),
    }


def _add_parts(predicted: Any, crystal: Crystal, parts: frozenset[Part]) -> None:
    if Part.STRUCTURE in parts or Part.BORN_CHARGES in parts:
        predicted["atomic_numbers"] = crystal.atomic_numbers.tolist()
        predicted["positions"] = crystal.positions.tolist()
    if Part.AXES in parts:
        for values in predicted["tensors"].values():
            values["principal_axes"] = tensor_entry(np.array(values["tensor"]))["axes"]
