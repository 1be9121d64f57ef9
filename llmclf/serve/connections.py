"""Connections: a client that does not send the head of a request in time is not waited for; and the server that has them."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from ..errors import InputError
from .bodies import BROKEN_BODY
from .limits import Limits
from .protocols.classify import Classify
from .refusals import RefusalError, retry_after

_LATE = RefusalError(408, "request_timeout", "the head of the request did not arrive in time")
_NO_HTTP = RefusalError(400, "invalid_http", "this is no request of HTTP/1.1, or its head has more than 64 kB")
_FULL = RefusalError(
    503, "too_many_connections", "far too many connections are open; ask again later", headers=retry_after(5.0)
)
_MOST = 2  # times the limit, beyond which a connection is refused before it says anything
_LINGERING = 2.0  # seconds that a client which was refused is given to read that
_SPARE_FILES = 256  # besides connections: logs, pipes, what a backend opens


def _reply(refusal: RefusalError) -> bytes:
    """A reply to what never became a request, in the plain protocol's form."""
    status, body = Classify().refuse(refusal, uuid.uuid4().hex)
    content = json.dumps(body).encode()
    headers = {
        "content-type": "application/json",
        "connection": "close",
        "content-length": len(content),
        **refusal.headers,
    }
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode() + content


class LimitedConnection(H11Protocol):
    """HTTP/1.1 with limits on how long a request's head, and the reading of an answer, may take.

    The body's time is the application's, and so is the refusal of requests on more connections than there should be. Only where
    there are `most` is one refused before it says anything.

    Attributes
    ----------
    head_seconds : float
        From the connection, or from the first byte of a later request.
    unread_seconds : float
        For which a client may leave what it is sent unread, before it is hung up on.
    most : int
        Connections that are kept at all.
    on_refused : callable
        Gets the kind of each refusal of what never became a request.
    """

    head_seconds = 20.0
    unread_seconds = 60.0
    most = 2048
    on_refused: Callable[[str], None]

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._late: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None
        self._is_refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.most:
            self.on_refused(_FULL.kind)
            transport.write(_reply(_FULL))
            transport.close()
        else:
            self._wait_for_head()

    def data_received(self, data: bytes) -> None:
        if self._is_refused:
            return
        super().data_received(data)
        if not self._is_waiting():
            self._stop_waiting()
        elif self._late is None and not self._is_refused:
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
        if self._is_waiting():
            self._refuse(_NO_HTTP)
        else:  # the application has a request whose body is broken, and refuses it in its protocol's form
            self.scope["state"][BROKEN_BODY] = True
            self.cycle.message_event.set()

    def _refuse(self, refusal: RefusalError) -> None:
        """Say so, and end the connection once the client has read it: to close it while something arrives is to reset it."""
        if self._is_refused:
            return
        self._is_refused = True
        self._stop_waiting()
        self.on_refused(refusal.kind)
        self.transport.write(_reply(refusal))
        self.transport.write_eof()
        self.loop.call_later(_LINGERING, self.transport.close)

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
            self._refuse(_LATE)

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


def limited(limits: Limits, on_refused: Callable[[str], None]) -> type[LimitedConnection]:
    """The class of connections with these limits; the callable gets the kind of each refusal before a request."""
    values = {
        "head_seconds": limits.body_seconds,
        "unread_seconds": limits.answer_seconds,
        "most": _MOST * limits.connections,
        "on_refused": staticmethod(on_refused),
    }
    return type("LimitedConnection", (LimitedConnection,), values)


def allow_files(limits: Limits) -> None:
    """Let this process open as many files as its connections need: it may have few unless it asks for more.

    Raises
    ------
    InputError
        It may not have that many.
    """
    needed = _MOST * limits.connections + _SPARE_FILES
    try:
        import resource
    except ImportError:  # where there is no such limit
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise InputError(
            f"--max-connections {limits.connections} needs {needed:,} open files, and this process may have {hard:,} "
            f"(ulimit -Hn); expected at most {max(1, (hard - _SPARE_FILES) // _MOST):,}"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


class QuietServer(uvicorn.Server):
    """uvicorn's server without handlers of signals: whoever runs it has its own."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
