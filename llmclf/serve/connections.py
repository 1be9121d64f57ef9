"""Connections: a client that does not send the head of a request in time is not waited for; and the server that has them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

_LATE = (
    b"HTTP/1.1 408 Request Timeout\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: 95\r\n\r\n"
    b'{"error":{"type":"request_timeout","message":"the head of the request did not arrive in time"}}'
)


class TimedConnection(H11Protocol):
    """HTTP/1.1 with a limit on how long a request's head may take; the body's time is the application's.

    Attributes
    ----------
    head_seconds : float
        From the connection, or from the first byte of a later request.
    """

    head_seconds = 20.0

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait_for_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if not self._is_waiting():
            self._stop_waiting()
        elif self._late is None:
            self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def _is_waiting(self) -> bool:
        """Whether no request is under way."""
        return self.cycle is None or self.cycle.response_complete

    def _wait_for_head(self) -> None:
        self._late = self.loop.call_later(self.head_seconds, self._give_up)

    def _stop_waiting(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _give_up(self) -> None:
        self._late = None
        if self._is_waiting() and not self.transport.is_closing():
            self.transport.write(_LATE)
            self.transport.close()


def timed(seconds: float) -> type[TimedConnection]:
    """The class of connections with this limit."""
    return type("TimedConnection", (TimedConnection,), {"head_seconds": seconds})


class QuietServer(uvicorn.Server):
    """uvicorn's server without handlers of signals: whoever runs it has its own."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
