"""What was decided goes into the log that `llmclf watch` reads: written in the background, so that no answer waits for a disk.

While a log cannot be written, as when its disk is full, answers go out all the same. Their decisions wait in memory, up to a
limit for each classifier, and are written once that works again.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from ..errors import LlmclfError, StoreError
from ..monitoring import DecisionLog, DecisionRecord
from .event_log import EventLog
from .questions import Answer
from .served import ServedClassifier

_MOST_WAITING = 100_000  # rows of a classifier between an answer and the disk; what is beyond is left out, and counted
_MOST_TOGETHER = 4096  # rows of a transaction
_BUSY_SECONDS = 2.0  # that an attempt waits for a lock: the next attempt follows, and the logs of others wait meanwhile
RETRY = 1.0
"""Seconds between two attempts at a log that cannot be written."""


class DecisionRecords:
    """Appends the decisions of served classifiers to one folder; what clients bring labels for is no classifier's decision.

    Parameters
    ----------
    folder : path
    classifiers : iterable of ServedClassifier
    log : EventLog
        Learns that a log cannot be written, that it can again, and how many decisions it lacks.
    most_waiting : int
        Decisions of a classifier that may wait in memory for the disk.

    Attributes
    ----------
    logs : dict of name to DecisionLog
    left_out : Counter of name to int
        Decisions that were not written: the disk did not keep up or failed, or they cannot be kept.

    Raises
    ------
    LlmclfError
        The folder cannot be written, or has a log of another version.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        classifiers: Iterable[ServedClassifier],
        log: EventLog,
        most_waiting: int = _MOST_WAITING,
    ) -> None:
        self.logs = {
            one.name: DecisionLog(
                folder,
                classes=one.classes,
                certificate=one.promise.id,
                model=f"{one.name}@{one.version}",
                busy_seconds=_BUSY_SECONDS,
            )
            for one in classifiers
        }
        try:
            for own in self.logs.values():
                own.open()
        except LlmclfError:
            self._close_logs()
            raise
        self._labels = {name: own.classes for name, own in self.logs.items()}
        self._events = log
        self._most_waiting = most_waiting
        self.left_out: Counter[str] = Counter()
        self._waiting: dict[str, deque[DecisionRecord]] = {name: deque() for name in self.logs}
        self._failing: set[str] = set()
        self._full: set[str] = set()
        self._changed = threading.Condition()
        self._is_over = False
        self._writer = threading.Thread(target=self._write, name="llmclf-decisions", daemon=True)
        self._writer.start()

    def note(self, name: str, answers: Sequence[Answer]) -> None:
        """Keep what was answered to the rows of a request."""
        if name not in self.logs:
            return
        now, labels = time.time(), self._labels[name]
        records = [_record(now, labels, answer) for answer in answers]
        with self._changed:
            waiting = self._waiting[name]
            room = max(0, self._most_waiting - len(waiting))
            waiting.extend(records[:room])
            beyond = len(records[room:])
            is_first = beyond > 0 and name not in self._full
            if beyond:
                self.left_out[name] += beyond
                self._full.add(name)
            self._changed.notify()
        if is_first:
            self._events.event("decisions_left_out", model=name, rows=beyond, limit=self._most_waiting)

    def gauges(self) -> Iterator[tuple[str, str, Mapping[str, str], float]]:
        """For Prometheus: what each model's log lacks, what waits for the disk, and whether the log can be written."""
        for name in self.logs:
            of = {"model": name}
            yield "llmclf_serve_decisions_left_out", "Decisions that the log lacks.", of, self.left_out[name]
            yield "llmclf_serve_decisions_waiting", "Decisions that wait for the disk.", of, len(self._waiting[name])
            text = "1 while the log of decisions cannot be written."
            yield "llmclf_serve_decision_log_failing", text, of, float(name in self._failing)

    def close(self, seconds: float) -> None:
        """Write what still waits, for so many seconds at most; what cannot be written in them is lost, counted and said."""
        with self._changed:
            self._is_over = True
            self._changed.notify()
        self._writer.join(seconds)
        with self._changed:  # a writer that still waits for a disk finds nothing more to do, and ends with the process
            lost = {name: len(rows) for name, rows in self._waiting.items() if rows}
            self._waiting = {name: deque() for name in self.logs}
        for name, rows in lost.items():
            self._lost(name, rows, (StoreError if name in self._failing else TimeoutError).__name__)

    def _close_logs(self) -> None:
        for own in self.logs.values():
            own.close()

    def _write(self) -> None:
        is_last = False
        while not is_last:
            with self._changed:
                self._changed.wait_for(lambda: self._is_over or any(self._waiting.values()))
                is_last = self._is_over
            # Those that fail come last: an attempt may take its time.
            written = [self._write_waiting(name) for name in sorted(self.logs, key=self._failing.__contains__)]
            if not all(written):
                with self._changed:
                    self._changed.wait_for(lambda: self._is_over, RETRY)
        self._close_logs()

    def _write_waiting(self, name: str) -> bool:
        """Whether no decision of a model waits any longer."""
        while records := self._next(name):
            unfit: Counter[str] = Counter()
            n_done = self._append(name, records, unfit)
            with self._changed:
                waiting = self._waiting[name]
                for _ in range(min(n_done, len(waiting))):
                    waiting.popleft()
            for kind, rows in unfit.items():
                self._lost(name, rows, kind)
            if n_done < len(records):
                return False
        self._full.discard(name)  # the next rows beyond the limit are said again
        return True

    def _next(self, name: str) -> list[DecisionRecord]:
        with self._changed:
            return list(islice(self._waiting[name], _MOST_TOGETHER))

    def _append(self, name: str, records: Sequence[DecisionRecord], unfit: Counter[str]) -> int:
        """How many of these, from the first on, need not wait any longer; counts those that cannot be kept at any time."""
        try:
            self.logs[name].append(records)
        except (StoreError, OSError) as error:
            if name not in self._failing:
                self._failing.add(name)
                self._events.event("decision_log_fails", model=name, kind=type(error).__name__, reason=str(error))
            return 0
        except LlmclfError as error:
            if len(records) == 1:
                unfit[type(error).__name__] += 1
                return 1
            half = len(records) // 2  # the others are not lost with the one
            n_done = self._append(name, records[:half], unfit)
            return n_done if n_done < half else half + self._append(name, records[half:], unfit)
        if name in self._failing:
            self._failing.discard(name)
            self._events.event("decision_log_works", model=name, left_out=self.left_out[name])
        return len(records)

    def _lost(self, name: str, rows: int, kind: str) -> None:
        with self._changed:
            self.left_out[name] += rows
        self._events.event("decisions_lost", model=name, rows=rows, kind=kind)


def _record(now: float, labels: Sequence[Any], answer: Answer) -> DecisionRecord:
    if answer.kind:
        return DecisionRecord(answer.id, now, error=answer.kind)
    best = max(range(len(labels)), key=answer.probabilities.__getitem__)
    return DecisionRecord(
        answer.id,
        now,
        labels[best],
        answer.probabilities,
        accepted=answer.accepted,
        label_mass=answer.label_mass,
        undecided=answer.undecided,
    )
