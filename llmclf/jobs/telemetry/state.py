"""Where a job stands: the counts that all who watch it from outside read."""

from __future__ import annotations

import os
import secrets
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

SCHEMA = 1
"""The number of the form of events and heartbeats; new keys may come without a new number."""


@dataclass
class JobState:
    """Counts of one run, as far as they are known.

    Attributes
    ----------
    run : str
        A random name of this run.
    outcome : {"running", "finished", "failed", "interrupted"}
    stage : str
        ``"starting"``, ``"reading"``, ``"labelling"``, ``"writing"`` or ``"ended"``.
    rows, questions, to_ask : int or None
        None before the table was read.
    done, total : int
        Steps of the stage.
    answered, failed, written : int
        Questions that were answered in this run and those of them that failed, and rows that were written.
    usage : dict
        Requests, retries, tokens and cost of this run, where the model is a server's.
    started, progressed : float
        Seconds since the epoch: when the run began, and when something was last done.
    facts : dict of str
        Version, input, output, journal, model.
    """

    run: str = field(default_factory=lambda: secrets.token_hex(4))
    outcome: str = "running"
    stage: str = "starting"
    rows: int | None = None
    questions: int | None = None
    to_ask: int | None = None
    done: int = 0
    total: int = 0
    answered: int = 0
    failed: int = 0
    written: int = 0
    usage: dict[str, Any] = field(default_factory=dict)
    started: float = field(default_factory=time.time)
    progressed: float = field(default_factory=time.time)
    facts: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, as a heartbeat has them."""
        return {
            "schema": SCHEMA,
            "time": timestamp(time.time()),
            "run": self.run,
            "pid": os.getpid(),
            "outcome": self.outcome,
            **self.progress(),
            "rows": self.rows,
            "questions": self.questions,
            "to_ask": self.to_ask,
            "started": timestamp(self.started),
        }

    def progress(self) -> dict[str, Any]:
        """What of it changes all the time."""
        return {
            "stage": self.stage,
            "done": self.done,
            "total": self.total,
            "answered": self.answered,
            "failed": self.failed,
            "written": self.written,
            "usage": {name: value for name, value in self.usage.items() if name != "features"},
            "progressed": timestamp(self.progressed),
        }


def timestamp(seconds: float) -> str:
    """A time as ISO 8601 has it, in UTC.

    Examples
    --------
    >>> timestamp(0)
    '1970-01-01T00:00:00.000Z'
    """
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Outlet(Protocol):
    """Where a job's state is shown."""

    def open(self, state: JobState) -> None:
        """Begin.

        Raises
        ------
        LlmclfError
            It cannot be shown there; the job has not begun.
        """
        ...

    def show(self, state: JobState) -> None:
        """Show it, at least every few seconds; from a thread of its own. Whatever is wrong must not stop the job."""
        ...

    def close(self, state: JobState) -> None:
        """Show it for the last time."""
        ...
