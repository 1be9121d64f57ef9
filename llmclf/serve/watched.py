"""What `llmclf watch` would say of the decisions so far, again and again in the background, for whoever fetches the metrics."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping

from ..errors import LlmclfError
from ..monitoring import Watch
from .event_log import EventLog

_LAST_LOOK = 2.0  # seconds that a look under way is given at the end
EVERY = 30.0
"""Seconds between two looks."""


class WatchedLogs:
    """Looks at logs of decisions whose classifiers have a certificate; only the rows since the last look are read.

    Parameters
    ----------
    watches : mapping of name to Watch
    log : EventLog
        Learns of a look that failed, and of each new kind of alarm.
    every : float
        Seconds between two looks.
    """

    def __init__(self, watches: Mapping[str, Watch], log: EventLog, every: float = EVERY) -> None:
        self._watches, self._events, self._every = dict(watches), log, every
        self._gauges: dict[str, dict[str, float]] = {}
        self._alarms: set[tuple[str, str]] = set()
        self._is_over = threading.Event()
        self._looking = threading.Thread(target=self._look_on, name="llmclf-watch", daemon=True)
        if self._watches:
            self._looking.start()

    def gauges(self) -> Iterator[tuple[str, str, Mapping[str, str], float]]:
        """What the last look found, by model."""
        for name, values in self._gauges.items():
            for gauge, value in values.items():
                yield gauge, "See llmclf watch.", {"model": name}, value

    def look(self) -> None:
        """Look at all logs once."""
        for name, one in self._watches.items():
            try:
                report = one.report()
            except (LlmclfError, OSError) as error:
                self._events.event("watch_failed", model=name, kind=type(error).__name__)
                continue
            self._gauges[name] = report.gauges()
            for alarm in report.alarms:
                if (name, alarm["kind"]) not in self._alarms:
                    self._alarms.add((name, alarm["kind"]))
                    self._events.event("alarm", model=name, kind=alarm["kind"], text=alarm["text"])

    def close(self) -> None:
        """Look no more; a look that takes longer is not waited for."""
        self._is_over.set()
        if self._watches:
            self._looking.join(_LAST_LOOK)

    def _look_on(self) -> None:
        while not self._is_over.wait(self._every):
            self.look()
