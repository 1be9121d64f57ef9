"""Standard error as events, one JSON object a line and nothing else: for ``--log-format json``."""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from threading import Lock, Thread
from typing import Any

from ..errors import InputError, LlmclfError, LlmclfWarning
from ..files.orderly_end import Interrupted
from ..jobs.telemetry.state import SCHEMA, timestamp

_PATIENCE = 2.0  # seconds that the end waits for what others still write


@contextmanager
def json_log() -> Iterator[Callable[[dict[str, Any]], None]]:
    """A function that writes an event; whatever else is written to standard error in the block becomes an event as well.

    Warnings of llmclf are events. An error ends the block with an event ``end``, which is the last one in any case, and with the
    exit code of the command line.
    """
    lines = _Lines()
    before, code = warnings.showwarning, 0

    def show_warning(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
        if issubclass(category, LlmclfWarning):
            lines.event("warning", message=str(message), category=category.__name__)

    with ExitStack() as stack:
        stack.callback(lines.end)
        stack.enter_context(_redirected(lines))
        warnings.showwarning = show_warning
        try:
            yield lines.write
        except SystemExit as stop:
            if isinstance(stop, Interrupted):
                lines.event("end", outcome="interrupted", error=stop.cause, summary=None)
            raise
        except LlmclfError as error:
            lines.event("end", outcome="failed", error=str(error), summary=None)
            code = 2 if isinstance(error, InputError) else 1
        except Exception as error:  # a fault of ours: its trace belongs into the log, too
            lines.event("message", message=traceback.format_exc())
            lines.event("end", outcome="failed", error=f"{type(error).__name__}: {error}", summary=None)
            code = 1
        finally:
            warnings.showwarning = before
    if code:
        raise SystemExit(code)


class _Lines:
    """Writes events; the first ``end`` waits until no other can come."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._end: dict[str, Any] | None = None
        self._run = ""
        self.handle: int | None = None

    def write(self, event: dict[str, Any]) -> None:
        self._run = event.get("run", self._run)
        if event["event"] == "end":
            self._end = self._end or event
        else:
            self._put(event)

    def event(self, name: str, **values: Any) -> None:
        self.write({"schema": SCHEMA, "time": timestamp(time.time()), "event": name, "run": self._run, **values})

    def end(self) -> None:
        if self._end is not None:
            self._put(self._end)

    def _put(self, event: dict[str, Any]) -> None:
        line = json.dumps(event) + "\n"  # in ASCII: no text of others moves a terminal's cursor
        with self._lock, suppress(OSError, ValueError):
            if self.handle is None:
                sys.stderr.write(line)
                sys.stderr.flush()
            else:
                os.write(self.handle, line.encode())


@contextmanager
def _redirected(lines: _Lines) -> Iterator[None]:
    """What anybody writes to standard error becomes messages: libraries, their C code, and processes that they start."""
    try:
        is_real = sys.stderr.fileno() == 2
    except (AttributeError, OSError, ValueError):
        is_real = False
    if not is_real:
        yield
        return
    saved = os.dup(2)
    reading, writing = os.pipe()
    os.dup2(writing, 2)
    os.close(writing)
    lines.handle = saved
    reader = Thread(target=_read, args=(reading, lines), name="llmclf-stderr", daemon=True)
    reader.start()
    try:
        yield
    finally:
        with suppress(OSError, ValueError):
            sys.stderr.flush()
        os.dup2(saved, 2)  # which closes the pipe, unless a process that was started still has it
        reader.join(_PATIENCE)


def _read(handle: int, lines: _Lines) -> None:
    with os.fdopen(handle, encoding="utf-8", errors="replace") as stream:
        for line in stream:
            if line.strip():
                lines.event("message", message=line.rstrip("\n"))
