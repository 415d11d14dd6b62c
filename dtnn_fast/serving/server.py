# SPDX-License-Identifier: MIT
"""Run the service until it is stopped."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import uvicorn

from .. import __version__
from ..crystals.elements import SYMBOLS
from ..errors import DTNNError
from ..model.predictor import Predictor
from ..refinement.bundled_refiner import BUNDLED_DIRECT_MODEL, load_refiner
from ..screening.engine import SEARCH_TO_ATOMS
from ..screening.screening_run import model_sha256
from .application import Service, build_application
from .guards import Guard
from .http_protocol import bounded_protocol
from .labelled_neighbors import LabelledNeighbors
from .prediction_queue import PredictionQueue
from .reading_pool import ReadingPool
from .reading_process import ReaderSettings
from .schemas import ModelDescription, ServiceLimits
from .serve_page import ServePage
from .service_limits import Limits

# Smallest crystals whose operations are searched for: readers search anyway for the crystal system.
_SEARCH_FROM_ATOMS = 2
# Fewer than the files that a process may usually open.
_MOST_CONNECTIONS = 512
# Lattice dynamics takes 0.1 s for so many atoms, and much more for more.
_MOST_REFINED_ATOMS = 100
_UNIT = "relative permittivity, in the Cartesian frame of the lattice vectors, which are in Angstrom"


@dataclass(frozen=True)
class ServeSettings:
    """How the service runs.

    Args:
        host: address to listen on.
        port: port to listen on; 0 for any that is free.
        limits: sizes and times.
        readers: number of reading processes.
        hosts: names that the service is known by, beside localhost and addresses in numbers.
        origins: origins of other sites whose pages may use the service.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    limits: Limits = field(default_factory=Limits)
    readers: int = 2
    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()


def serve(
    model: Predictor, name: str, settings: ServeSettings, on_started: Callable[[str], None] = lambda url: None
) -> None:
    """Serve predictions until SIGTERM or Ctrl-C; requests that have come are answered first.

    Args:
        model: a loaded model on its device.
        name: its name.
        settings: how to run.
        on_started: called with the address of the page, when requests are answered.

    Raises:
        DTNNError: the address cannot be listened on, or a reading process does not start.
    """
    listener = _listen(settings.host, settings.port)
    with listener:
        _Server(_configure(model, name, settings), on_started).run_until_stopped(listener)


def _configure(model: Predictor, name: str, settings: ServeSettings) -> uvicorn.Config:
    limits = settings.limits
    is_on_gpu = any(parameter.is_cuda for parameter in model.parameters())
    search = (_SEARCH_FROM_ATOMS, SEARCH_TO_ATOMS) if model.uses_operations and not is_on_gpu else None
    readers = ReadingPool(
        settings.readers,
        ReaderSettings(model.elements, search, limits.max_atoms, limits.max_crystals, limits.reader_bytes),
        limits.reading_seconds,
    )
    # The lattice model belongs to the bundled one, and runs on the CPU.
    refiner = None
    if name == BUNDLED_DIRECT_MODEL and not is_on_gpu:
        refiner = load_refiner(model, name, max_atoms=min(_MOST_REFINED_ATOMS, limits.max_atoms))
    queue = PredictionQueue(model, LabelledNeighbors(model), refiner)
    description = describe_model(model, name, limits, refiner is not None)
    application: Any = build_application(
        Service(description, limits, readers, queue), ServePage(description), settings.origins
    )
    return uvicorn.Config(
        Guard(application, limits, (*settings.hosts, settings.host), settings.origins),
        http=bounded_protocol(limits),
        ws="none",
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=_MOST_CONNECTIONS,
        timeout_graceful_shutdown=int(limits.request_seconds) + 1,
    )


def describe_model(model: Predictor, name: str, limits: Limits, can_refine: bool) -> ModelDescription:
    """Describe a model and the limits for clients.

    Args:
        model: a loaded model.
        name: its name.
        limits: of the service.
        can_refine: whether it computes ionic tensors by lattice dynamics.
    """
    shown = {key: getattr(limits, key) for key in ServiceLimits.model_fields}
    return ModelDescription(
        name=name,
        sha256=model_sha256(model),
        dtnn_fast_version=__version__,
        targets=list(model.targets),
        elements=[SYMBOLS[z] for z in model.elements],
        has_error_bars=bool(model.mean_calibrations),
        has_born_charges=model.has_born_charges,
        can_refine=can_refine,
        unit=_UNIT,
        limits=ServiceLimits(**shown),
    )


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, on_started: Callable[[str], None]) -> None:
        super().__init__(config)
        self._on_started = on_started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started and sockets:
            self._on_started(_url(sockets[0]))

    def run_until_stopped(self, listener: socket.socket) -> None:
        # uvicorn raises the signal again when it has stopped; here, this is the regular end.
        handled = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            self.run([listener])
        finally:
            for number, handler in handled.items():
                signal.signal(number, handler)
        if not self.started:
            raise DTNNError("serve: the service does not start; the reason is above")


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise DTNNError(f"serve: cannot listen on {host!r}: {error.strerror or error}") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except (OSError, OverflowError) as error:
        listener.close()
        raise DTNNError(f"serve: cannot listen on {host}, port {port}: {error}; --port 0 takes a free one") from error
    return listener


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def default_readers() -> int:
    """Choose the number of reading processes: one more than hangs on a single slow file."""
    return max(2, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
