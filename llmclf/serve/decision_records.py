"""What was decided goes into the log that `llmclf watch` reads: written in the background, so that no answer waits for a disk.

While the log cannot be written, as when its disk is full, answers go out all the same. Their decisions wait in memory, up to a
limit, and are written once that works again.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from ..errors import LlmclfError, StoreError
from ..monitoring import DecisionLog, DecisionRecord
from .event_log import EventLog
from .questions import Answer
from .served import ServedClassifier

_MOST_WAITING = 100_000  # rows between an answer and the disk; beyond them some are left out, and counted
_MOST_TOGETHER = 4096  # rows of a transaction
RETRY = 1.0
"""Seconds between two attempts at a log that cannot be written."""


class DecisionRecords:
    """Appends the decisions of served classifiers to one folder; what clients bring labels for is no classifier's decision.

    Parameters
    ----------
    folder : path
    classifiers : iterable of ServedClassifier
    log : EventLog
        Learns that the log cannot be written, that it can again, and how many decisions it lacks.
    most_waiting : int
        Decisions that may wait in memory for the disk.

    Attributes
    ----------
    logs : dict of name to DecisionLog
    left_out : int
        Decisions that were not written, since the disk did not keep up or failed.

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
                folder, classes=one.classes, certificate=one.promise.id, model=f"{one.name}@{one.version}"
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
        self.left_out = 0
        self._waiting: dict[str, deque[DecisionRecord]] = {name: deque() for name in self.logs}
        self._failing: set[str] = set()
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
            room = max(0, self._most_waiting - self._n_waiting)
            self._waiting[name].extend(records[:room])
            self.left_out += len(records[room:])
            self._changed.notify()

    def gauges(self) -> Iterator[tuple[str, str, Mapping[str, str], float]]:
        """For Prometheus: what the log lacks, what waits for the disk, and whether each model's log can be written."""
        yield "llmclf_serve_decisions_left_out", "Decisions that the log lacks.", {}, self.left_out
        yield "llmclf_serve_decisions_waiting", "Decisions that wait for the disk.", {}, self._n_waiting
        for name in self.logs:
            text = "1 while the log of decisions cannot be written."
            yield "llmclf_serve_decision_log_failing", text, {"model": name}, float(name in self._failing)

    def close(self) -> None:
        """Write what still waits; what cannot be written now is lost."""
        with self._changed:
            self._is_over = True
            self._changed.notify()
        self._writer.join()
        self._close_logs()

    def _close_logs(self) -> None:
        for own in self.logs.values():
            own.close()

    @property
    def _n_waiting(self) -> int:
        return sum(map(len, self._waiting.values()))

    def _write(self) -> None:
        is_last = False
        while not is_last:
            with self._changed:
                self._changed.wait_for(lambda: self._is_over or self._n_waiting)
                is_last = self._is_over
            written = [self._write_waiting(name) for name in self.logs]
            if not all(written):
                with self._changed:
                    self._changed.wait_for(lambda: self._is_over, RETRY)
        for name, rows in self._waiting.items():
            self._lost(name, len(rows), StoreError.__name__)

    def _write_waiting(self, name: str) -> bool:
        """Whether no decision of a model waits any longer."""
        while records := self._next(name):
            if not self._append(name, records):
                return False
            for _ in records:
                self._waiting[name].popleft()
        return True

    def _next(self, name: str) -> list[DecisionRecord]:
        with self._changed:
            return list(islice(self._waiting[name], _MOST_TOGETHER))

    def _append(self, name: str, records: Sequence[DecisionRecord]) -> bool:
        """Whether these need not wait any longer."""
        try:
            self.logs[name].append(records)
        except (StoreError, OSError) as error:
            if name not in self._failing:
                self._failing.add(name)
                self._events.event("decision_log_fails", model=name, kind=type(error).__name__, reason=str(error))
            return False
        except LlmclfError as error:  # they cannot be kept at any time
            self._lost(name, len(records), type(error).__name__)
        else:
            if name in self._failing:
                self._failing.discard(name)
                self._events.event("decision_log_works", model=name, left_out=self.left_out)
        return True

    def _lost(self, name: str, rows: int, kind: str) -> None:
        if rows:
            with self._changed:
                self.left_out += rows
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
