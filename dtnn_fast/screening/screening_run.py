# SPDX-License-Identifier: MIT
"""A screening into a folder, piece by piece; it can be stopped at any moment and continued."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch

from ..errors import DTNNError
from ..model.predictor import Predictor
from ..nn.batch_limit import BatchLimit
from .engine import SEARCH_TO_ATOMS, ScreeningStopped, batch_limit, screen_crystals, search_from_atoms
from .input_chunks import ScreeningInput
from .parts import Parts
from .predictions_file import arrow_table
from .preparation import Preparation
from .readers import PreparedPiece, prepared_pieces


class Shard(NamedTuple):
    """A share of a screening that several jobs do together: the chunks whose number, modulo `of`, is `number`.

    Args:
        number: from 0.
        of: number of shares.
    """

    number: int = 0
    of: int = 1

    def chunks(self, num_chunks: int) -> list[int]:
        """List the numbers of the chunks of this share."""
        return list(range(self.number, num_chunks, self.of))

    @property
    def name(self) -> str:
        """A name for the share's lock."""
        return "screening" if self.of == 1 else f"shard-{self.number + 1}-of-{self.of}"


@dataclass(frozen=True)
class ScreeningOptions:
    """Options of a screening; only `born_charges` changes its results.

    Args:
        batch_atoms: largest number of atoms in a batch, except for one larger crystal; None for what fits the device.
        born_charges: whether Born effective charges are predicted too.
        num_readers: processes that read and prepare crystals; 0 for none.
        shard: the share of this process.
    """

    batch_atoms: int | None = None
    born_charges: bool = False
    num_readers: int = 0
    shard: Shard = field(default_factory=Shard)


class ScreeningEvents(Protocol):
    """Events of a running screening."""

    def on_start(self, done: int, whole: int) -> None:
        """Report how much of the input an earlier start has done; both in `Chunk.size`."""
        return

    def on_crystals(self, number: int) -> None:
        """Count crystals that were predicted or rejected."""
        return

    def on_piece(self, size: float, num_rejected: int) -> None:
        """Count a piece that was written: its share of the input, and its rejected crystals."""
        return

    def on_message(self, message: str) -> None:
        """Show one line about a problem that was repaired."""
        return


class InputProgress:
    """Shares of the input that pieces stand for; the pieces of several chunks may come mixed."""

    def __init__(self) -> None:
        self._done: dict[int, int] = {}

    def advance(self, chunk: int, size_read: int) -> int:
        """Return what a piece adds to what the pieces of its chunk had read before it.

        Args:
            chunk: number of the chunk.
            size_read: of `PreparedPiece`.
        """
        before = self._done.get(chunk, 0)
        self._done[chunk] = max(before, size_read)
        return self._done[chunk] - before


class SilentEvents(ScreeningEvents):
    """Events that do nothing."""


class ScreeningCounts(NamedTuple):
    """Numbers of crystals that one start of a screening predicted and rejected.

    Args:
        predicted: number of crystals that it predicted.
        rejected: number of crystals that it rejected.
        stopped: whether Ctrl-C or SIGTERM ended it.
    """

    predicted: int
    rejected: int
    stopped: bool


def run_screening(
    model: Predictor,
    model_name: str,
    inputs: ScreeningInput,
    parts: Parts,
    options: ScreeningOptions,
    events: ScreeningEvents | None = None,
) -> ScreeningCounts:
    """Predict all crystals of an input that have no part in the folder yet, and write their parts.

    Args:
        model: the model.
        model_name: recorded in the parts.
        inputs: of `plan_files` and the like.
        parts: the folder; `Parts.begin` was called.
        options: how it runs.
        events: told what happens.

    Returns:
        What was done. On KeyboardInterrupt the crystals predicted until then are in a part that is marked incomplete.

    Raises:
        BadFileError: a part cannot be written.
    """
    events = events or SilentEvents()
    chunks, done = find_remaining(inputs, parts, options, events)
    counts = ScreeningCounts(0, 0, False)
    # Kept over all pieces: what ran out of memory once would again.
    limit = batch_limit(model, options.batch_atoms)
    preparation = preparation_for(model)
    stream = prepared_pieces(inputs, chunks, done, preparation, options.num_readers, events.on_message)
    progress = InputProgress()
    try:
        for piece in stream:
            predicted, rejected, stopped = predict_piece(model, model_name, piece, parts, options, limit, events)
            counts = ScreeningCounts(counts.predicted + predicted, counts.rejected + rejected, stopped)
            events.on_piece(progress.advance(piece.chunk, piece.size_read), rejected)
            if stopped:
                break
    except KeyboardInterrupt:
        return counts._replace(stopped=True)
    finally:
        stream.close()  # type: ignore[attr-defined]
    return counts


def find_remaining(
    inputs: ScreeningInput, parts: Parts, options: ScreeningOptions, events: ScreeningEvents
) -> tuple[list[int], dict[int, dict[int, str]]]:
    """Find the pieces that earlier starts left to do, and report how much of the input is done.

    Args:
        inputs: of `plan_files` and the like.
        parts: the folder.
        options: which share is screened.
        events: told of the start, and of damaged parts.

    Returns:
        Numbers of the chunks that are not finished, and what `Parts.done` gives.
    """
    share = options.shard.chunks(len(inputs.chunks))
    parts.remove_unfinished(share if options.shard.of > 1 else None)
    done = parts.done(lambda path, reason: events.on_message(f"{path}: damaged, and computed again: {reason}"))
    finished = parts.finished_chunks()
    chunks = [number for number in share if number not in finished]
    whole, remaining = (sum(inputs.chunks[number].size for number in numbers) for numbers in (share, chunks))
    events.on_start(whole - remaining, whole)
    return chunks, done


def preparation_for(model: Predictor) -> Preparation:
    """Choose how crystals are prepared for a model on its present device.

    All small crystals are searched for operations, whatever the number of threads and readers is, so that these do not
    change the results. A crystal with operations takes a third of the model's time.

    Args:
        model: the model that will predict them.
    """
    pays = search_from_atoms(model) is not None
    return Preparation(tuple(sorted(model.elements)), (1, SEARCH_TO_ATOMS) if pays else None)


def predict_piece(
    model: Predictor,
    model_name: str,
    piece: PreparedPiece,
    parts: Parts,
    options: ScreeningOptions,
    limit: BatchLimit,
    events: ScreeningEvents,
) -> ScreeningCounts:
    """Predict a piece and write its part; see `run_screening`."""
    events.on_crystals(len(piece.rejected))
    try:
        screened, failed = screen_crystals(
            *(model, piece.crystals, options.batch_atoms, events.on_crystals, options.born_charges),
            are_prepared=True,
            limit=limit,
        )
        stopped = False
    except ScreeningStopped as stop:
        screened, failed, stopped = stop.screened, stop.rejected, True
    rejected = [*piece.rejected, *failed]
    if not stopped or screened or rejected:
        table = arrow_table(screened, model_name)
        parts.write(
            piece.chunk, piece.piece, table, rejected, is_complete=not stopped, is_last=piece.is_last, key=piece.key
        )
    return ScreeningCounts(len(screened), len(rejected), stopped)


def model_sha256(model: Predictor) -> str:
    """Compute a checksum of a model's weights, targets, elements, and functional if it is not the main one.

    Args:
        model: a loaded model.
    """
    digest = hashlib.sha256(f"{model.targets} {model.elements}{_other_functional(model)}".encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _other_functional(model: Predictor) -> str:
    """Return the functional that a model predicts for; empty if it is its main one."""
    return "" if model.functional in model.functionals[:1] else model.functional


def make_manifest(
    model: Predictor, model_name: str, inputs: ScreeningInput, paths: list[str], options: ScreeningOptions, command: str
) -> dict[str, Any]:
    """Make the manifest of a screening; see `Parts.begin`."""
    return {
        "model": {
            "name": model_name,
            "targets": list(model.targets),
            # Screenings of earlier versions, which knew the main one alone, can go on.
            **({"functional": other} if (other := _other_functional(model)) else {}),
            "sha256": model_sha256(model),
        },
        "source": {"paths": paths, "num_chunks": len(inputs.chunks), "sha256": inputs.sha256},
        "settings": {"born_charges": options.born_charges, **_matmul_precision()},
        "command": command,
    }


def _matmul_precision() -> dict[str, str]:
    """State torch's setting where it is not the default, which screenings of earlier versions do not state."""
    setting = torch.get_float32_matmul_precision()
    return {} if setting == "highest" else {"matmul_precision": setting}


def parse_shard(text: str) -> Shard:
    """Read a share such as "3/8", the third of eight.

    Raises:
        DTNNError: it has another form.
    """
    number, _, of = text.partition("/")
    if not (number.isdecimal() and of.isdecimal() and 1 <= int(number) <= int(of)):
        raise DTNNError(f"expected a share such as 3/8, the third of eight, got {text!r}")
    return Shard(int(number) - 1, int(of))


def output_parts(folder: Path) -> Parts:
    """Create the folder of a screening if it is missing, and open it.

    Raises:
        DTNNError: it cannot be created.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DTNNError(f"{folder}: cannot be created: {error.strerror or error}") from error
    return Parts(folder)
