# SPDX-License-Identifier: MIT
"""What is checked of every request before any of it is used, and the headers of every answer.

The host must be one that the service is known by: a page of strangers whose name is changed to our address (DNS
rebinding) sends its own. A browser tells the origin of a page that posts: pages of other origins are refused. The body
is counted while it comes, whatever its headers say.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import re
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from .service_limits import Limits

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

# Scripts and styles of our page are added by it. No answer can be framed, or load anything.
STRICT_POLICY = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "content-security-policy": STRICT_POLICY,
    "cache-control": "no-store",
}
_HOST = re.compile(r"[\w.:\[\]-]+", re.ASCII)
_READING = ("GET", "HEAD", "OPTIONS")


class RequestRefusedError(Exception):
    """A request that is refused as a whole.

    Args:
        status: code of HTTP.
        code: short name of the reason.
        message: what is wrong, in words for the user.
        retry_after: seconds after which another try makes sense; None where it does not.
    """

    def __init__(self, status: int, code: str, message: str, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.retry_after = status, code, message, retry_after

    def body(self) -> bytes:
        """Return the answer; see `schemas.ErrorResponse`."""
        return json.dumps({"error": {"code": self.code, "message": self.message}}).encode()

    def headers(self) -> dict[str, str]:
        """Return the headers of the answer that are not those of every answer."""
        headers = {"content-type": "application/json"}
        return headers if self.retry_after is None else headers | {"retry-after": str(self.retry_after)}


class Guard:
    """An ASGI application in front of another one.

    Args:
        application: the application.
        limits: sizes of bodies.
        hosts: names that the service is known by, without port, beside localhost and addresses in numbers.
        origins: origins of other sites whose pages may use the service, such as ``https://example.org``.
    """

    def __init__(
        self, application: Application, limits: Limits, hosts: Collection[str] = (), origins: Collection[str] = ()
    ) -> None:
        self._application, self._limits = application, limits
        self._hosts = {host.lower() for host in hosts} | {"localhost"}
        self._origins = frozenset(origin.lower().rstrip("/") for origin in origins)
        self._held_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] != "http":
            # There are no web sockets; the server closes them.
            if scope["type"] == "lifespan":
                await self._application(scope, receive, send)
            return
        body = _Body(self, receive)
        answer = _Answer(send)
        try:
            self._check(scope)
            await self._application(scope, body.receive, answer.send)
        except RequestRefusedError as error:
            if answer.is_started:
                raise
            await _refuse(error, answer.send)
        finally:
            self._held_bytes -= body.num_bytes

    def take_bytes(self, body: _Body, size: int) -> None:
        """Count bytes of a body.

        Raises:
            RequestRefusedError: they are too many, of this body or of all bodies together.
        """
        body.num_bytes += size
        self._held_bytes += size
        if body.num_bytes > self._limits.max_bytes:
            raise self._too_large()
        if self._held_bytes > self._limits.max_held_bytes:
            raise RequestRefusedError(503, "busy", "the service is busy with other requests: try again later", 1)

    def _too_large(self) -> RequestRefusedError:
        message = f"the request is too large: at most {self._limits.max_bytes:,} bytes are taken; split it"
        return RequestRefusedError(413, "too_large", message)

    def _check(self, scope: Scope) -> None:
        headers: dict[bytes, bytes] = {}
        for name, value in scope["headers"]:
            if name in (b"host", b"origin") and headers.get(name, value) != value:
                raise RequestRefusedError(400, "bad_header", f"the request has two headers {name.decode()}")
            headers[name] = value
        host = headers.get(b"host", b"").decode("latin-1").lower()
        if not self._is_known(host):
            message = "the service is not known by this host name; dtnn-fast serve --allow-host NAME adds one"
            raise RequestRefusedError(421, "unknown_host", message)
        if scope["method"] not in _READING:
            self._check_origin(headers, host)
        if headers.get(b"content-encoding", b"identity").lower() != b"identity":
            raise RequestRefusedError(415, "compressed", "compressed requests are not taken: send it as it is")
        length = headers.get(b"content-length", b"0")
        if not length.isdigit():
            raise RequestRefusedError(400, "bad_header", "the header content-length is not a number")
        # Leading zeros aside, a number of many digits is too large, and slow to parse.
        if len(length.lstrip(b"0")) > 18 or int(length) > self._limits.max_bytes:
            raise self._too_large()

    def _is_known(self, host: str) -> bool:
        if not _HOST.fullmatch(host):
            return False
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        if name in self._hosts:
            return True
        # A browser that asks for an address in numbers was not misled by a name.
        with contextlib.suppress(ValueError):
            ipaddress.ip_address(name)
            return True
        return False

    def _check_origin(self, headers: dict[bytes, bytes], host: str) -> None:
        origin = headers.get(b"origin")
        if origin is None:
            # Not a browser, or an old one; browsers without Origin tell the site.
            if headers.get(b"sec-fetch-site", b"none") in (b"none", b"same-origin"):
                return
        else:
            text = origin.decode("latin-1").lower()
            if text in self._origins or text.partition("://")[2] == host:
                return
        message = "pages of other sites may not use the service; dtnn-fast serve --allow-origin ORIGIN allows one"
        raise RequestRefusedError(403, "foreign_origin", message)


class _Body:
    """The body of a request, which is counted while it comes."""

    def __init__(self, guard: Guard, receive: Receive) -> None:
        self._guard, self._receive = guard, receive
        self.num_bytes = 0

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._guard.take_bytes(self, len(message.get("body", b"")))
        return message


class _Answer:
    """The answer, which gets the headers of every answer."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.is_started = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.is_started = True
            given = {name.lower() for name, _ in message["headers"]}
            added = [(name.encode(), value.encode()) for name, value in HEADERS.items() if name.encode() not in given]
            message = {**message, "headers": [*message["headers"], *added]}
        await self._send(message)


async def _refuse(error: RequestRefusedError, send: Send) -> None:
    body = error.body()
    headers = error.headers() | {"content-length": str(len(body))}
    listed = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": error.status, "headers": listed})
    await send({"type": "http.response.body", "body": body})
