# SPDX-License-Identifier: MIT
"""A screening on Ray Data: tasks read and prepare chunks, actors with a copy of the model predict and write the parts.

Ray decides where and when each of them runs, and repeats what a lost process or node leaves undone. All nodes see the
input and the folder of the parts under the same paths.
"""

from __future__ import annotations

import logging
import os
import pickle
import signal
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ..errors import DTNNError, optional_import
from .input_chunks import ScreeningInput
from .parts import Parts
from .ray_workers import Attempts, Outcome, Place, PredictingActor, Work, import_ray, read_chunks, unpickled

if TYPE_CHECKING:
    from ..model.predictor import Predictor
    from .screening_run import ScreeningCounts, ScreeningEvents, ScreeningOptions

# Processes that read end after this many chunks, so that no memory that libraries lose adds up.
_CHUNKS_PER_PROCESS = 64
_GOES_ON = "What has been written is kept: run the same command again to continue"


@dataclass(frozen=True)
class RayOptions:
    """Where and how a screening runs on Ray.

    Args:
        address: of a running cluster, such as "auto" or "ray-head:6379"; None starts Ray on this machine, for the time
            of the screening.
        device: "cpu", or "cuda" for one GPU for each actor.
        threads: threads, and so cores, of each actor.
        num_actors: number of actors; None for as many as the cluster has room for.
    """

    address: str | None = None
    device: str = "cpu"
    threads: int = 1
    num_actors: int | None = None


def run_screening_on_ray(
    model: Predictor,
    model_name: str,
    inputs: ScreeningInput,
    parts: Parts,
    options: ScreeningOptions,
    ray_options: RayOptions,
    events: ScreeningEvents | None = None,
) -> ScreeningCounts:
    """Predict on Ray all crystals of an input that have no part in the folder yet; see `run_screening`.

    Args:
        model: the model, on the CPU.
        model_name: recorded in the parts.
        inputs: of `plan_files` and the like.
        parts: the folder; `Parts.begin` was called.
        options: how it runs; of `num_readers` Ray decides.
        ray_options: where it runs.
        events: told what happens.

    Returns:
        What was done. On KeyboardInterrupt pieces that are not finished are left to the next start.

    Raises:
        DTNNError: a part cannot be written, a node lacks the files, or Ray fails; what is written stays.
    """
    import torch

    from ..nn.reduced_graph import report_failures
    from .screening_run import InputProgress, ScreeningCounts, SilentEvents, find_remaining, preparation_for

    events = events or SilentEvents()
    ray = import_ray()
    chunks, done = find_remaining(inputs, parts, options, events)
    counts, progress = ScreeningCounts(0, 0, False), InputProgress()
    left_out: list[str] = []
    if not chunks:
        return counts
    preparation = preparation_for(model)
    if ray_options.device != "cpu":
        # As `search_from_atoms` decides for a model on a GPU.
        preparation = replace(preparation, search_operations=None)
    place = Place(os.getcwd(), str(parts.folder.absolute()), socket.gethostname())
    try:
        with _started(ray, ray_options):
            _check_gpus(ray, ray_options, events)
            stream = _outcomes(
                ray,
                [_work(inputs, number, done.get(number, {})) for number in chunks],
                {"preparation": preparation, "place": place},
                {
                    "model": ray.put(model),
                    "attempts": _start_counting(ray),
                    "model_name": model_name,
                    "options": options,
                    "place": place,
                    "matmul_precision": torch.get_float32_matmul_precision(),
                },
                ray_options,
            )
            for outcome in stream:
                for message in outcome.messages:
                    events.on_message(message)
                if outcome.error:
                    left_out.append(outcome.error)
                    if outcome.others_go_on:
                        continue
                    raise DTNNError(outcome.error)
                report_failures(outcome.failures)
                counts = counts._replace(
                    predicted=counts.predicted + outcome.predicted, rejected=counts.rejected + outcome.rejected
                )
                events.on_crystals(outcome.predicted + outcome.rejected)
                events.on_piece(progress.advance(outcome.chunk, outcome.size_read), outcome.rejected)
    except KeyboardInterrupt:
        return counts._replace(stopped=True)
    except (ray.exceptions.RayError, ConnectionError) as error:
        raise DTNNError(f"Ray ended the screening: {_last_line(error)}\n{_GOES_ON}") from error
    # Of actors that died, whose pieces others have written.
    parts.remove_unfinished(frozenset(chunks))
    if left_out:
        more = f"\n(and {len(left_out) - 1} more pieces)" if len(left_out) > 1 else ""
        raise DTNNError(f"{left_out[0]}{more}\nAll other pieces are written: run the same command again to retry these")
    return counts


@contextmanager
def _started(ray: ModuleType, options: RayOptions) -> Iterator[None]:
    """Start Ray on this machine, or join a cluster; a Ray that the caller has started is used and left running."""
    if ray.is_initialized():
        yield
        return
    handler = _handler_of_sigterm()
    settings: dict[str, Any] = {"address": options.address, "log_to_driver": False, "logging_level": logging.ERROR}
    if options.address is None:
        # One core more than an actor takes, or there were none to read with.
        cores = max(len(os.sched_getaffinity(0)), options.threads + 1)
        settings.update(address="local", num_cpus=cores, include_dashboard=False)
    try:
        ray.init(**settings)
        # Ray would end the process at once.
        if handler is not None:
            signal.signal(signal.SIGTERM, handler)
        yield
    finally:
        ray.shutdown()


def _handler_of_sigterm() -> Any:
    try:
        signal.signal(signal.SIGTERM, handler := signal.getsignal(signal.SIGTERM))
    except (ValueError, TypeError):  # not in the main thread, or set by other code than Python's
        return None
    return handler


def _check_gpus(ray: ModuleType, options: RayOptions, events: ScreeningEvents) -> None:
    if options.device == "cpu" or ray.cluster_resources().get("GPU", 0) >= 1:
        return
    if options.address is None:
        raise DTNNError(f"--engine ray: the device {options.device!r} needs a GPU; Ray finds none on this machine")
    events.on_message("the Ray cluster has no GPU yet: the screening waits for one")


def _start_counting(ray: ModuleType) -> Any:
    """Start an `Attempts` on the node of this process, which it shares its fate with, not on one that may be lost."""
    strategies = optional_import("ray.util.scheduling_strategies", extra="ray", purpose="screen with --engine ray")
    here = strategies.NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(num_cpus=0, scheduling_strategy=here)(Attempts).remote()


def _work(inputs: ScreeningInput, number: int, done: Mapping[int, str]) -> Work:
    chunk = inputs.chunks[number]
    if chunk.files:
        return Work(number, chunk, done, ())
    crystals = inputs.in_memory[chunk.start : chunk.stop]
    return Work(number, replace(chunk, start=0, stop=len(crystals)), done, crystals)


def _outcomes(
    ray: ModuleType,
    works: Sequence[Work],
    for_reading: Mapping[str, Any],
    for_prediction: Mapping[str, Any],
    options: RayOptions,
) -> Iterator[Outcome]:
    context = ray.data.DataContext.get_current().copy()
    context.enable_progress_bars = False
    # Each piece goes to an actor as soon as it is read; by default Ray gathers 128 MB.
    context.target_max_block_size = 1
    size = {} if options.num_actors is None else {"size": options.num_actors}
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    with ray.data.DataContext.current(context):
        rows = [{"pickled": pickle.dumps(work)} for work in works]
        data = ray.data.from_items(rows, override_num_blocks=len(rows))
        # `max_calls` also keeps Ray from reading in the actors: it joins stages of equal arguments.
        read = data.map_batches(
            read_chunks,
            batch_size=1,
            batch_format="pyarrow",
            fn_kwargs=dict(for_reading),
            num_cpus=1,
            max_calls=_CHUNKS_PER_PROCESS,
        )
        predicted = read.map_batches(
            PredictingActor,
            batch_size=1,
            batch_format="pyarrow",
            fn_constructor_kwargs={**for_prediction, "device": options.device, "threads": options.threads},
            compute=ray.data.ActorPoolStrategy(**size),
            num_cpus=options.threads,
            num_gpus=0 if options.device == "cpu" else 1,
        )
        for table in predicted.iter_batches(batch_size=None, batch_format="pyarrow"):
            yield from unpickled(table)


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
