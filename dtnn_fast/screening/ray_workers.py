# SPDX-License-Identifier: MIT
"""What runs in the processes of Ray during a screening: tasks that read chunks, actors that predict pieces.

Values pass between them pickled, in Arrow tables of one row: Ray moves and stores such tables without a copy.
"""

from __future__ import annotations

import os
import pickle
import socket
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import DTNNError, optional_import
from .input_chunks import Chunk, ScreeningInput
from .parts import Parts
from .readers import PreparedPiece, prepared_pieces

if TYPE_CHECKING:
    from ..crystals.crystal import Crystal
    from ..model.predictor import Predictor
    from ..nn.batch_limit import BatchLimit
    from .preparation import Preparation
    from .screening_run import ScreeningOptions

# Ray repeats without end what a lost process leaves undone. A piece that kills its processes is left out after these.
_MOST_ATTEMPTS = 4


def import_ray() -> ModuleType:
    """Import Ray Data.

    Raises:
        MissingPackageError: it is not installed.
    """
    # Nothing is reported to the authors of Ray, unless the user has switched that on.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    optional_import("ray.data", extra="ray", purpose="screen with --engine ray")
    return optional_import("ray", extra="ray", purpose="screen with --engine ray")


class Work(NamedTuple):
    """A chunk to read: its number, the pieces to leave out, and its crystals where they are not in files."""

    number: int
    chunk: Chunk
    done: Mapping[int, str]
    in_memory: Sequence[Crystal]


class Reading(NamedTuple):
    """What a task has read: a piece, or the reason why nothing can be read at all."""

    piece: PreparedPiece | None
    messages: list[str]
    error: str = ""


class Outcome(NamedTuple):
    """What became of a piece; an error ends the screening, at once unless `others_go_on`; see `PreparedPiece`."""

    chunk: int = 0
    predicted: int = 0
    rejected: int = 0
    failures: Mapping[str, str] = {}
    messages: Sequence[str] = ()
    error: str = ""
    others_go_on: bool = False
    size_read: int = 0


class Place(NamedTuple):
    """Where the screening was started: absolute paths, which every node must see, and the name of the node."""

    working_folder: str
    folder: str
    node: str


def read_chunks(table: Any, preparation: Preparation, place: Place) -> Iterator[Any]:
    """Read and prepare chunks, as a task of Ray.

    Args:
        table: pickled `Work`, a `pyarrow.Table`.
        preparation: what is done with each crystal.
        place: where the screening runs.

    Returns:
        Tables of one pickled `Reading`.
    """
    for work in unpickled(table):
        messages: list[str] = []
        try:
            enter(place)
            is_elsewhere = socket.gethostname() != place.node
            if is_elsewhere and work.chunk.files and not any(map(os.path.lexists, work.chunk.files)):
                raise DTNNError(
                    f"{work.chunk.files[0]}: not found on the node {socket.gethostname()}: all nodes of a Ray cluster "
                    "must see the input under the same path"
                )
            inputs = ScreeningInput([work.chunk], work.in_memory)
            # A reader of its own survives files that kill it, as without Ray.
            for piece in prepared_pieces(inputs, [0], {0: work.done}, preparation, 1, messages.append):
                yield pickled(Reading(piece._replace(chunk=work.number), messages.copy()))
                messages.clear()
        except DTNNError as error:
            yield pickled(Reading(None, messages, str(error)))


class Attempts:
    """An actor of Ray that counts how often each piece was begun: it survives the processes that predict."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[int, int]] = Counter()

    def begin(self, chunk: int, piece: int) -> int:
        """Count, and return the number of this attempt, from 1.

        Args:
            chunk: number of the chunk.
            piece: number of the piece in it.
        """
        self._counts[chunk, piece] += 1
        return self._counts[chunk, piece]


class PredictingActor:
    """An actor of Ray that holds the model, predicts pieces and writes their parts.

    Args:
        model: a reference of Ray to the model.
        attempts: an actor `Attempts`.
        model_name: recorded in the parts.
        options: how the screening runs.
        place: where it runs.
        device: "cpu" or "cuda".
        threads: number of threads on the CPU.
        matmul_precision: for ``torch.set_float32_matmul_precision``.
    """

    def __init__(
        self,
        model: Any,
        attempts: Any,
        model_name: str,
        options: ScreeningOptions,
        place: Place,
        device: str,
        threads: int,
        matmul_precision: str = "highest",
    ) -> None:
        import torch

        torch.set_num_threads(threads)
        torch.set_float32_matmul_precision(matmul_precision)
        self._reference, self._attempts, self._device = model, attempts, device
        self._model: Predictor | None = None
        self._limit: BatchLimit | None = None
        self._model_name, self._options, self._place = model_name, options, place

    def __call__(self, table: Any) -> Iterator[Any]:
        """Predict pieces; what the user can mend comes back as an outcome with an error, not as a failure of Ray.

        Args:
            table: pickled `Reading`, a `pyarrow.Table`.

        Returns:
            Tables of one pickled `Outcome`.
        """
        for reading in unpickled(table):
            try:
                yield pickled(self._predict(reading))
            except DTNNError as error:
                yield pickled(Outcome(messages=reading.messages, error=str(error)))

    def _predict(self, reading: Reading) -> Outcome:
        from ..nn.reduced_graph import collected_failures
        from .engine import batch_limit
        from .screening_run import SilentEvents, predict_piece

        if reading.piece is None:
            return Outcome(messages=reading.messages, error=reading.error)
        enter(self._place)
        ray, piece, parts = import_ray(), reading.piece, Parts(Path(self._place.folder))
        if ray.get(self._attempts.begin.remote(piece.chunk, piece.piece)) > _MOST_ATTEMPTS:
            return Outcome(
                messages=reading.messages,
                error=f"piece {piece.piece} of chunk {piece.chunk}: {_MOST_ATTEMPTS} processes ended while they "
                f"predicted its crystals ({_ends(piece.crystals)}): they may need more memory",
                others_go_on=True,
            )
        if self._model is None:
            self._model = self._load(ray)
            self._limit = batch_limit(self._model, self._options.batch_atoms)
        assert self._limit is not None
        about = self._model, self._model_name, piece, parts, self._options, self._limit, SilentEvents()
        with collected_failures() as failures:
            counts = predict_piece(*about)
        outcome = Outcome(piece.chunk, counts.predicted, counts.rejected, dict(failures), reading.messages)
        return outcome._replace(size_read=piece.size_read)

    def _load(self, ray: ModuleType) -> Predictor:
        from ..nn.devices import find_device

        model: Predictor = ray.get(self._reference)
        return model.to(find_device(self._device, "screen"))


def enter(place: Place) -> None:
    """Go where the screening was started, since paths may be relative.

    Raises:
        DTNNError: this node does not see the same files.
    """
    node = socket.gethostname()
    for folder in (place.working_folder, place.folder):
        if not os.path.isdir(folder):
            raise DTNNError(
                f"{folder}: not found on the node {node}: all nodes of a Ray cluster must see the working folder and "
                "--output under the same paths"
            )
    if Parts(Path(place.folder)).manifest() is None:
        raise DTNNError(f"{place.folder}: has no manifest on the node {node}: --output must be shared by all nodes")
    os.chdir(place.working_folder)


def pickled(value: Any) -> Any:
    pa = optional_import("pyarrow", extra="ray", purpose="pass crystals to Ray")
    return pa.table({"pickled": pa.array([pickle.dumps(value, pickle.HIGHEST_PROTOCOL)], pa.large_binary())})


def unpickled(table: Any) -> Iterator[Any]:
    for value in table["pickled"]:
        yield pickle.loads(value.as_py())


def _ends(crystals: Sequence[Crystal]) -> str:
    return f"{crystals[0].id} to {crystals[-1].id}" if crystals else "none"
