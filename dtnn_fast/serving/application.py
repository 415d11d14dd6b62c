# SPDX-License-Identifier: MIT
"""The routes of the service."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections.abc import AsyncIterator, Sequence
from typing import Any

from fastapi import FastAPI, Request, Response
from pydantic_core import to_json
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect

from .. import __version__
from ..crystals.crystal import Crystal
from ..nn.batch_limit import estimate_bonds
from .api_page import render_api_page
from .crystal_messages import Refusal, RefusalCode
from .guards import RequestRefusedError
from .prediction_queue import Outcome, PredictionQueue
from .reading_pool import ReadingPool
from .request_forms import TextInput, read_request
from .schemas import ErrorResponse, Health, ModelDescription, Part, PredictRequest, PredictResponse
from .serve_page import ServePage
from .service_limits import Limits

_DESCRIPTION = """Static dielectric tensors of inorganic crystals: electronic, ionic and total.

Tensors are relative permittivities in the Cartesian frame of the lattice vectors."""
_LOGGER = logging.getLogger("dtnn_fast.serving")
# What each status means, for OpenAPI.
_ERRORS = {
    400: "A header is not valid.",
    403: "A page of another site asks.",
    408: "The request did not arrive in time.",
    413: "Too large, or too many crystals.",
    415: "The body is of another type, or compressed.",
    421: "The service is not known by this host name.",
    422: "The request is not valid.",
    503: "The service is busy; Retry-After says when to try again.",
    504: "Nothing was done in time.",
}


class Service:
    """What answers the requests.

    Args:
        model: description of the model.
        limits: sizes and times.
        readers: processes that read texts.
        queue: crystals that wait for the model.
    """

    def __init__(self, model: ModelDescription, limits: Limits, readers: ReadingPool, queue: PredictionQueue) -> None:
        self.model, self.limits = model, limits
        self.readers, self.queue = readers, queue
        self._num_waiting = 0

    async def predict(self, request: Request) -> dict[str, Any]:
        """Answer a request for predictions; see `PredictResponse`.

        Raises:
            RequestRefusedError: it is refused as a whole.
        """
        tasks: list[asyncio.Task[list[Outcome]]] = []
        inputs: list[TextInput] = []
        try:
            async with asyncio.timeout(self.limits.request_seconds):
                inputs, parts = await read_request(request, self.limits)
                with self._admitted(len(inputs)):
                    share = _Share(self.limits.max_crystals - len(inputs), self.readers.num_readers)
                    tasks += [asyncio.create_task(self._predict_text(text, parts, share)) for text in inputs]
                    await asyncio.wait(tasks)
        except TimeoutError:
            seconds = f"{self.limits.request_seconds:g} seconds"
            if not inputs:
                raise RequestRefusedError(408, "timeout", f"the request did not arrive within {seconds}") from None
            if not any(task.done() for task in tasks):
                message = f"nothing was done within {seconds}: try again with less"
                raise RequestRefusedError(504, "timeout", message, 1) from None
        finally:
            for task in tasks:
                task.cancel()
        results = [
            _result(number, text.name, outcome)
            for number, (text, task) in enumerate(zip(inputs, tasks, strict=True))
            for outcome in self._outcomes(text, task)
        ]
        predicted = sum(result["status"] == "predicted" for result in results)
        return {
            "model": self.model.name,
            "predicted": predicted,
            "rejected": len(results) - predicted,
            "results": results,
        }

    @contextlib.contextmanager
    def _admitted(self, count: int) -> Any:
        """Count the crystals of a request while it is served.

        Raises:
            RequestRefusedError: the service has too many.
        """
        if self._num_waiting + count > self.limits.max_waiting:
            raise RequestRefusedError(503, "busy", "the service is busy with other requests: try again later", 1)
        self._num_waiting += count
        try:
            yield
        finally:
            self._num_waiting -= count

    async def _predict_text(self, text: TextInput, parts: frozenset[Part], share: _Share) -> list[Outcome]:
        async with share.readers:
            items = await self.readers.read(text.name, text.data, text.file_format)
        kept = items[: 1 + share.take(len(items) - 1)]
        if len(kept) < len(items):
            reason = f"more than {self.limits.max_crystals:,} crystals in a request: the others are left out"
            kept.append(Refusal(text.name, RefusalCode.TOO_MANY, reason))
        extra = max(0, len(kept) - 1)
        self._num_waiting += extra
        try:
            return list(await asyncio.gather(*(self._predict_item(item, parts, share) for item in kept)))
        finally:
            self._num_waiting -= extra

    async def _predict_item(self, item: Crystal | Refusal, parts: frozenset[Part], share: _Share) -> Outcome:
        if isinstance(item, Refusal):
            return item
        cutoff = self.queue.bond_cutoff
        if cutoff is not None and (bonds := estimate_bonds(item, cutoff)) > self.limits.max_bonds:
            reason = f"about {bonds:,.0f} bonds within {cutoff:g} Angstrom: at most {self.limits.max_bonds:,} are taken"
            return Refusal(item.id, RefusalCode.TOO_LARGE, f"{reason} here; is the cell too small?")
        return await self.queue.predict(item, parts, share)

    def _outcomes(self, text: TextInput, task: asyncio.Task[list[Outcome]]) -> Sequence[Outcome]:
        if not task.done():
            reason = f"not done within {self.limits.request_seconds:g} seconds, the time for a request"
            return [Refusal(text.name, RefusalCode.TIMEOUT, reason)]
        error = task.exception()
        if error is not None:
            _LOGGER.error("an error of the service", exc_info=error)
            return [Refusal(text.name, RefusalCode.UNREADABLE, "an error of the service, which its log has")]
        return task.result() or [Refusal(text.name, RefusalCode.UNREADABLE, "holds no crystal")]


class _Share:
    """What a request may take: crystals in its files beyond one each, and as many places among those who wait for
    readers as there are readers, so that other requests come in between.
    """

    def __init__(self, number: int, num_readers: int) -> None:
        self._number = number
        self.readers = asyncio.Semaphore(num_readers)

    def take(self, wanted: int) -> int:
        taken = min(max(wanted, 0), self._number)
        self._number -= taken
        return taken


def _result(number: int, name: str, outcome: Outcome) -> dict[str, Any]:
    if isinstance(outcome, Refusal):
        return {"status": "rejected", "input": number, "name": name, **outcome._asdict()}
    return {"status": "predicted", "input": number, "name": name} | {
        key: value for key, value in outcome.items() if key != "source"
    }


def build_application(service: Service, page: ServePage, origins: Sequence[str] = ()) -> FastAPI:
    """Make the application; `Guard` belongs in front of it.

    Args:
        service: what answers requests for predictions.
        page: the web page.
        origins: see `Guard`.
    """

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        try:
            await service.readers.start()
            service.queue.start()
            yield
        finally:
            await service.queue.close()
            await service.readers.close()

    application = FastAPI(
        title="dtnn-fast",
        version=__version__,
        description=_DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
    )

    if origins:
        application.add_middleware(CORSMiddleware, allow_origins=list(origins), allow_methods=["GET", "POST"])

    @application.exception_handler(ClientDisconnect)
    async def give_up(_: Request, error: ClientDisconnect) -> Response:
        return Response(status_code=499)  # nobody reads it

    @application.exception_handler(RequestRefusedError)
    async def refuse(_: Request, error: RequestRefusedError) -> Response:
        return Response(error.body(), error.status, error.headers())

    @application.exception_handler(HTTPException)
    async def explain(_: Request, error: HTTPException) -> Response:
        refused = RequestRefusedError(error.status_code, "http", str(error.detail))
        return Response(
            refused.body(), error.status_code, {**(error.headers or {}), "content-type": "application/json"}
        )

    @application.exception_handler(Exception)
    async def apologise(_: Request, error: Exception) -> Response:
        refused = RequestRefusedError(500, "internal", "an error of the service, which its log has")
        return Response(refused.body(), 500, refused.headers())

    @application.post(
        "/v1/predict",
        response_model=PredictResponse,
        responses={code: {"description": text, "model": ErrorResponse} for code, text in _ERRORS.items()},
        summary="Predict the tensors of crystals",
    )
    async def predict(request: Request) -> Response:
        answer = await service.predict(request)
        # Not Python's json, which takes a second for the largest answers.
        return Response(to_json(answer, inf_nan_mode="null"), media_type="application/json")

    @application.get("/v1/model", summary="Describe the model and the limits of the service")
    async def model() -> ModelDescription:
        return service.model

    @application.get(
        "/health",
        summary="Tell whether the service works",
        responses={503: {"description": "It does not.", "model": ErrorResponse}},
    )
    async def health() -> Health:
        if not (service.queue.is_running and service.readers.is_running):
            raise RequestRefusedError(503, "stopped", "the model or the processes that read files do not run", 1)
        return Health(status="ok")

    @application.get("/", include_in_schema=False)
    async def start(request: Request) -> Response:
        return page.answer(request.headers.get("accept-encoding", ""))

    @functools.cache
    def description() -> dict[str, Any]:
        return _with_request_body(application.openapi())

    @application.get("/openapi.json", include_in_schema=False)
    async def openapi() -> dict[str, Any]:
        return description()

    @application.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return render_api_page(description())

    return application


def _with_request_body(description: dict[str, Any]) -> dict[str, Any]:
    """Add the body of predictions to the description, which FastAPI does not know: `read_request` validates it."""
    schema = PredictRequest.model_json_schema(ref_template="#/components/schemas/{model}")
    description["components"]["schemas"] |= schema.pop("$defs") | {"PredictRequest": schema}
    file = {"type": "string", "format": "binary"}
    files = {"type": "array", "items": file, "minItems": 1, "description": "Files of crystals."}
    parts = {"type": "array", "items": {"$ref": "#/components/schemas/Part"}}
    properties = {"files": files, "include": parts, "format": {"$ref": "#/components/schemas/TextFormat"}}
    form = {"type": "object", "required": ["files"], "properties": properties, "additionalProperties": False}
    description["paths"]["/v1/predict"]["post"]["requestBody"] = {
        "required": True,
        "content": {
            "application/json": {"schema": {"$ref": "#/components/schemas/PredictRequest"}},
            "multipart/form-data": {"schema": form},
        },
    }
    return description
