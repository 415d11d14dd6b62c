# SPDX-License-Identifier: MIT
"""The crystals of a request, from its JSON or from the files of a form."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from fastapi import Request
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from .guards import RequestRefusedError
from .schemas import Part, PredictRequest, TextFormat
from .service_limits import Limits

# Errors of a request that are listed.
_MOST_ERRORS = 5


class TextInput(NamedTuple):
    """A text to read crystals from.

    Args:
        name: as the client gives it; for messages, and for the format.
        data: the text.
        file_format: see `iter_crystals_of_bytes`.
    """

    name: str
    data: bytes
    file_format: str | None


async def read_request(request: Request, limits: Limits) -> tuple[list[TextInput], frozenset[Part]]:
    """Read the crystals of a request, and what else is asked for.

    Args:
        request: with a body of JSON (`PredictRequest`) or of a form with files (``files``, ``include``, ``format``).
        limits: number of crystals.

    Raises:
        RequestRefusedError: the body is of another type or form, or has too many crystals.
    """
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type == "application/json":
        inputs, parts = _read_json(await request.body())
    elif content_type == "multipart/form-data":
        inputs, parts = await _read_form(request, limits)
    else:
        message = f"expected a body of application/json or multipart/form-data, got {content_type or 'no type'!r}"
        raise RequestRefusedError(415, "content_type", message)
    if len(inputs) > limits.max_crystals:
        message = f"{len(inputs):,} crystals: at most {limits.max_crystals:,} are taken in one request; split it"
        raise RequestRefusedError(413, "too_many", message)
    return inputs, parts


def _read_json(body: bytes) -> tuple[list[TextInput], frozenset[Part]]:
    try:
        parsed = PredictRequest.model_validate_json(body)
    except ValidationError as error:
        raise RequestRefusedError(422, "invalid", _describe(error)) from error
    inputs = []
    for place, crystal in enumerate(parsed.crystals):
        name = _printable(crystal.name) or f"crystal-{place + 1}"
        if crystal.structure is None:
            inputs.append(TextInput(name, (crystal.text or "").encode(), crystal.format))
        else:
            inputs.append(TextInput(name, json.dumps(crystal.structure).encode(), TextFormat.JSON))
    return inputs, frozenset(parsed.include)


async def _read_form(request: Request, limits: Limits) -> tuple[list[TextInput], frozenset[Part]]:
    try:
        # One more, so that too many are told from a damaged form.
        form = await request.form(max_files=limits.max_crystals + 1, max_fields=16)
    except HTTPException as error:
        is_many = "many files" in str(error.detail).lower()
        if is_many:
            message = f"at most {limits.max_crystals:,} files are taken in one request; split it"
            raise RequestRefusedError(413, "too_many", message) from error
        raise RequestRefusedError(422, "invalid", f"not a valid form: {error.detail}") from error
    try:
        return await _read_fields(form.multi_items())
    finally:
        await form.close()


async def _read_fields(fields: Sequence[tuple[str, Any]]) -> tuple[list[TextInput], frozenset[Part]]:
    formats = [value for name, value in fields if name == "format" and value]
    try:
        file_format = TextFormat(formats[0]) if formats else None
        parts = frozenset(Part(value) for name, value in fields if name == "include")
    except ValueError as error:
        raise RequestRefusedError(422, "invalid", f"not a valid form: {error}") from error
    inputs: list[TextInput] = []
    for name, value in fields:
        if name == "files" and not isinstance(value, str):
            shown = _printable(value.filename) or f"crystal-{len(inputs) + 1}"
            inputs.append(TextInput(shown, await value.read(), file_format))
        elif name not in ("include", "format"):
            message = f"not a valid form: expected the files `files` and fields `include` and `format`, got {name!r}"
            raise RequestRefusedError(422, "invalid", message[:300])
    if not inputs:
        raise RequestRefusedError(422, "invalid", "not a valid form: it has no file `files`")
    return inputs, parts


def _printable(name: str | None) -> str:
    """Shorten a name to its last part and to 120 characters, without control characters."""
    last = (name or "").replace("\\", "/").rsplit("/", 1)[-1]
    kept = "".join(character for character in last if character.isprintable()).strip()
    return kept if len(kept) <= 120 else f"{kept[:60]}…{kept[-59:]}"


def _describe(error: ValidationError) -> str:
    """Say what is wrong with a request, without repeating what it holds."""
    errors = error.errors(include_url=False, include_context=False, include_input=False)
    lines = [f"{'.'.join(map(str, item['loc'])) or 'body'}: {item['msg']}" for item in errors[:_MOST_ERRORS]]
    more = f" (and {len(errors) - _MOST_ERRORS} more)" if len(errors) > _MOST_ERRORS else ""
    return "; ".join(line[:300] for line in lines) + more
