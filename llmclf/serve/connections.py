"""Connections: a client that does not send the head of a request in time is not waited for; and the server that has them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol


def _refusal(status: bytes, kind: bytes, message: bytes) -> bytes:
    """A reply to what never became a request."""
    content = b'{"error":{"type":"%b","message":"%b"}}' % (kind, message)
    head = b"HTTP/1.1 %b\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n"
    return head % (status, len(content)) + content


_LATE = _refusal(b"408 Request Timeout", b"request_timeout", b"the head of the request did not arrive in time")
_NO_HTTP = _refusal(
    b"400 Bad Request", b"invalid_http", b"this is no request of HTTP/1.1, or its head has more than 64 kB"
)


class TimedConnection(H11Protocol):
    """HTTP/1.1 with limits on how long a request's head, and the reading of an answer, may take.

    The body's time is the application's.

    Attributes
    ----------
    head_seconds : float
        From the connection, or from the first byte of a later request.
    unread_seconds : float
        For which a client may leave what it is sent unread, before it is hung up on.
    """

    head_seconds = 20.0
    unread_seconds = 60.0

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._late: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None

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
        self._is_read()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._expect_reading()

    def resume_writing(self) -> None:
        self._is_read()
        super().resume_writing()

    def on_response_complete(self) -> None:
        if self.transport.get_write_buffer_size():
            self._expect_reading()
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        self.transport.write(_NO_HTTP)
        self.transport.close()

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

    def _expect_reading(self) -> None:
        if self._unread is None:
            self._unread = self.loop.call_later(self.unread_seconds, self._hang_up)

    def _is_read(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _hang_up(self) -> None:
        self._unread = None
        if self.transport.get_write_buffer_size():
            self.transport.abort()  # closing would wait for the client to read


def timed(head_seconds: float, unread_seconds: float) -> type[TimedConnection]:
    """The class of connections with these limits."""
    return type("TimedConnection", (TimedConnection,), {"head_seconds": head_seconds, "unread_seconds": unread_seconds})


class QuietServer(uvicorn.Server):
    """uvicorn's server without handlers of signals: whoever runs it has its own."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
