"""Follows a job for all who watch it from outside, and says how it ended, however it did."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread
from types import TracebackType
from typing import Any

from ... import __version__
from ...atomic_files import check_file, write_text
from ...checks import is_number
from ...errors import InputError, LlmclfError
from ...files.orderly_end import Interrupted
from ...progress import Silent
from ..summary import Summary
from .events import Events, Log
from .heartbeat import Heartbeat
from .metrics import Metrics
from .state import JobState, Outlet

_BEAT = 2.0  # seconds between two looks at the state


class Telemetry(Silent):
    """A monitor that keeps the state of a job and shows it in all that was asked for.

    Parameters
    ----------
    summary, heartbeat : path, optional
    metrics_port : int or str, optional
    log : callable, optional
        Called with each event.
    log_every : float
        Seconds between two events of progress.

    Attributes
    ----------
    state : JobState
    finished : Summary or None
        That of the job, once it has come to its end.
    summary_of : callable
        Makes the summary of a job that has not, from outcome and reason.
    """

    def __init__(
        self,
        *,
        summary: str | os.PathLike[str] | None = None,
        heartbeat: str | os.PathLike[str] | None = None,
        metrics_port: int | str | None = None,
        log: Log | None = None,
        log_every: float = 10.0,
    ) -> None:
        if not is_number(log_every) or not 0 < log_every < float("inf"):
            raise InputError(f"log_every={log_every!r}: expected a positive number of seconds")
        self.state = JobState()
        self._events = None if log is None else Events(log, log_every)
        self._summary = None if summary is None else Path(summary).expanduser()
        self._outlets: list[Outlet] = [] if self._events is None else [self._events]
        if heartbeat is not None:
            self._outlets.append(Heartbeat(Path(heartbeat).expanduser()))
        if metrics_port is not None:
            self._outlets.append(Metrics(metrics_port))
        self._beat = min(_BEAT, log_every)
        self._opened: list[Outlet] = []
        self._ended = Event()
        self._thread: Thread | None = None
        self.summary_of: Callable[[str, str | None], Summary] = lambda outcome, error: Summary.unfinished(
            outcome, error
        )
        self.finished: Summary | None = None

    def __enter__(self) -> Telemetry:
        self.state.facts["version"] = __version__
        try:
            if self._summary is not None:
                check_file(self._summary)
            for outlet in self._outlets:
                outlet.open(self.state)
                self._opened.append(outlet)
        except BaseException as error:
            self.__exit__(type(error), error, None)
            raise
        if self._outlets:
            self._thread = Thread(target=self._follow, name="llmclf-telemetry", daemon=True)
            self._thread.start()
        return self

    def __exit__(self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
        outcome, reason = _outcome(error)
        self.state.outcome, self.state.stage = outcome, "ended"
        summary = self.finished if self.finished is not None and error is None else self.summary_of(outcome, reason)
        self.summary_of = Summary.unfinished  # lets go of the job, and of its connection, which hold this monitor
        for outlet in self._opened:
            outlet.close(self.state)
        try:
            if self._summary is not None and (error is None or self._opened == self._outlets):
                write_text(summary.to_json(), self._summary)
        except LlmclfError:
            if error is None:
                raise
        finally:
            if self._events is not None:
                self._events.emit("end", {"outcome": outcome, "error": reason, "summary": summary.to_dict()})

    def _follow(self) -> None:
        while not self._ended.wait(self._beat):
            for outlet in self._opened:
                with suppress(Exception):  # nobody who looks on may stop the work
                    outlet.show(self.state)

    # --- what a monitor is told -----------------------------------------------------------------------------------------

    def start(self, facts: Mapping[str, Any]) -> None:
        """The job has been opened."""
        self.state.facts.update(facts)
        self.state.stage = "reading"
        if self._events is not None:
            self._events.emit("start", {**self.state.facts, "pid": os.getpid()})

    def say(self, line: str) -> None:
        if self._events is not None:
            self._events.emit("message", {"message": line})

    def plan(self, counts: Mapping[str, int]) -> None:
        state = self.state
        state.rows, state.questions, state.to_ask = counts["rows"], counts["questions"], counts["todo"]
        state.progressed = time.time()
        if self._events is not None:
            self._events.emit("plan", counts)

    def begin(self, total: int, what: str) -> None:
        self.state.stage, self.state.done, self.state.total = what, 0, total

    def advance(self, n: int, failed: int = 0, cost: float | None = None) -> None:
        state = self.state
        state.done += n
        state.progressed = time.time()
        if state.stage == "writing":
            state.written += n
        else:
            state.answered, state.failed = state.answered + n, state.failed + failed

    def failed(self, reasons: Sequence[str]) -> None:
        if self._events is not None and reasons:
            self._events.failed(list(reasons))

    def used(self, usage: Mapping[str, Any]) -> None:
        self.state.usage = dict(usage)


def _outcome(error: BaseException | None) -> tuple[str, str | None]:
    if error is None:
        return "finished", None
    if isinstance(error, Interrupted):
        return "interrupted", error.cause
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", "interrupted"
    return "failed", str(error) if isinstance(error, LlmclfError) else f"{type(error).__name__}: {error}"
