"""What happens in a job as events, each a dictionary of JSON values: the lines of ``--log-format json``."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from ...backends.http.client import REQUESTS_LOG
from .state import SCHEMA, JobState, timestamp

Log = Callable[[dict[str, Any]], None]
_LONGEST = 500  # characters of a reason


class Events:
    """Calls a function with each event; many of a kind within a moment become one, with their number.

    ``start``, ``plan``, ``progress`` (every few seconds), ``retry``, ``failure``, ``message`` and ``end``; all have ``schema``,
    ``time``, ``event`` and ``run``.

    Parameters
    ----------
    log : callable
    every : float
        Seconds between two ``progress`` events.
    """

    def __init__(self, log: Log, every: float) -> None:
        self._log = log
        self._every = every
        self._shown = 0.0
        self._run = ""
        self._retries = _Retries()
        self._failures: list[str] = []

    def open(self, state: JobState) -> None:
        self._run = state.run
        self._shown = time.monotonic()
        self._retries.attach()

    def show(self, state: JobState) -> None:
        self._show_many()
        if state.stage != "starting" and time.monotonic() - self._shown >= self._every:
            self._shown = time.monotonic()
            self.emit("progress", state.progress())

    def close(self, state: JobState) -> None:
        self._retries.detach()
        self._show_many()

    def failed(self, reasons: list[str]) -> None:
        """Questions were answered with errors."""
        self._failures += reasons

    def emit(self, event: str, values: Mapping[str, Any]) -> None:
        """Pass an event on."""
        self._log({"schema": SCHEMA, "time": timestamp(time.time()), "event": event, "run": self._run, **values})

    def _show_many(self) -> None:
        for event, reasons in (("retry", self._retries.taken()), ("failure", self._taken_failures())):
            if reasons:
                self.emit(event, {"count": len(reasons), "reason": reasons[-1][:_LONGEST]})

    def _taken_failures(self) -> list[str]:
        taken, self._failures = self._failures, []
        return taken


class _Retries(logging.Handler):
    """Notes why requests are repeated."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self._reasons: list[str] = []
        self._level = logging.NOTSET

    def attach(self) -> None:
        self._level = REQUESTS_LOG.level
        REQUESTS_LOG.addHandler(self)
        REQUESTS_LOG.setLevel(logging.INFO)

    def detach(self) -> None:
        REQUESTS_LOG.removeHandler(self)
        REQUESTS_LOG.setLevel(self._level)

    def emit(self, record: logging.LogRecord) -> None:
        self._reasons.append(record.getMessage())

    def taken(self) -> list[str]:
        """The reasons since the last call."""
        taken, self._reasons = self._reasons, []
        return taken
