# SPDX-License-Identifier: MIT
"""uvicorn's HTTP protocol on httptools with limits that it lacks: size of head and request, time without a head."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from .service_limits import Limits

_MOST_HEAD_BYTES = 1 << 16
_HEAD_SECONDS = 10.0


def bounded_protocol(limits: Limits) -> type[asyncio.Protocol]:
    """Make the protocol for a service.

    Args:
        limits: size of a body. Twice as many bytes are read of a request, since a body may come in small chunks.
    """
    most_bytes = 2 * limits.max_bytes + _MOST_HEAD_BYTES

    class BoundedProtocol(HttpToolsProtocol):
        """Closes connections whose request is too long or whose head does not come."""

        _is_in_head = True
        _num_bytes = 0
        _timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._wait_for_head()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_waiting()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            self._num_bytes += len(data)
            super().data_received(data)
            is_too_long = self._num_bytes > (_MOST_HEAD_BYTES if self._is_in_head else most_bytes)
            if is_too_long and not self.transport.is_closing():
                self._close()

        def on_message_begin(self) -> None:
            super().on_message_begin()
            self._is_in_head = True
            self._num_bytes = 0
            self._wait_for_head()

        def on_headers_complete(self) -> None:
            self._is_in_head = False
            self._stop_waiting()
            super().on_headers_complete()

        def _wait_for_head(self) -> None:
            self._stop_waiting()
            self._timer = self.loop.call_later(_HEAD_SECONDS, self._close)

        def _stop_waiting(self) -> None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

        def _close(self) -> None:
            if self.transport is not None and not self.transport.is_closing():
                self.transport.close()

    return BoundedProtocol
