# SPDX-License-Identifier: MIT
"""uvicorn's HTTP protocol on httptools with limits that it lacks: size of head and request, time without a head."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from .service_limits import Limits

_MOST_HEAD_BYTES = 1 << 16
_HEAD_SECONDS = 10.0
# What still comes of a refused body is read and dropped up to this multiple of the limit: a client that does not read
# while it sends would else see a broken connection instead of the answer.
_DROPPED = 4


def bounded_protocol(limits: Limits) -> type[asyncio.Protocol]:
    """Make the protocol for a service.

    Args:
        limits: size of a body, and time of a request.
    """
    most_bytes = _DROPPED * limits.max_bytes + _MOST_HEAD_BYTES
    # Later than the answer that it did not come in time.
    body_seconds = limits.request_seconds + 1.0

    class BoundedProtocol(HttpToolsProtocol):
        """Closes connections whose request is too long, or does not come to its end."""

        _is_in_head = True
        _num_bytes = 0
        _timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._close_after(_HEAD_SECONDS)

        def connection_lost(self, exc: Exception | None) -> None:
            self._close_after(None)
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            self._num_bytes += len(data)
            super().data_received(data)
            if self._num_bytes > (_MOST_HEAD_BYTES if self._is_in_head else most_bytes):
                self._close()

        def on_message_begin(self) -> None:
            super().on_message_begin()
            self._is_in_head = True
            self._num_bytes = 0
            self._close_after(_HEAD_SECONDS)

        def on_headers_complete(self) -> None:
            self._is_in_head = False
            self._close_after(body_seconds)
            super().on_headers_complete()

        def on_message_complete(self) -> None:
            self._close_after(None)
            super().on_message_complete()

        def _close_after(self, seconds: float | None) -> None:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = None if seconds is None else self.loop.call_later(seconds, self._close)

        def _close(self) -> None:
            if self.transport is not None and not self.transport.is_closing():
                self.transport.close()

    return BoundedProtocol
