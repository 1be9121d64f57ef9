"""What was decided goes into the log that `llmclf watch` reads: written in the background, so that no answer waits for a disk."""

from __future__ import annotations

import os
import queue
import tempfile
import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ..errors import LlmclfError, StoreError
from ..monitoring import DecisionLog, DecisionRecord
from .event_log import EventLog
from .questions import Answer
from .served import ServedClassifier

_MOST_WAITING = 100_000  # rows between an answer and the disk; beyond them some are left out, and counted
_MOST_TOGETHER = 4096  # rows of a transaction


class DecisionRecords:
    """Appends the decisions of served classifiers to one folder; what clients bring labels for is no classifier's decision.

    Parameters
    ----------
    folder : path
    classifiers : iterable of ServedClassifier
    log : EventLog
        Learns what could not be written.

    Attributes
    ----------
    logs : dict of name to DecisionLog
    left_out : int
        Decisions that were not written, since the disk did not keep up or failed.

    Raises
    ------
    LlmclfError
        The folder cannot be written.
    """

    def __init__(self, folder: str | os.PathLike[str], classifiers: Iterable[ServedClassifier], log: EventLog) -> None:
        self.logs = {
            one.name: DecisionLog(
                folder, classes=one.classes, certificate=one.promise.id, model=f"{one.name}@{one.version}"
            )
            for one in classifiers
        }
        _check_writable(folder)
        self._labels = {name: own.classes for name, own in self.logs.items()}
        self._events = log
        self.left_out = 0
        self._waiting: queue.Queue[tuple[str, DecisionRecord] | None] = queue.Queue(_MOST_WAITING)
        self._writer = threading.Thread(target=self._write, name="llmclf-decisions", daemon=True)
        self._writer.start()

    def note(self, name: str, request_id: str, answers: Sequence[Answer]) -> None:
        """Keep what was answered to the rows of a request."""
        if name not in self.logs:
            return
        now, labels = time.time(), self._labels[name]
        for place, answer in enumerate(answers):
            try:
                self._waiting.put_nowait((name, _record(f"{request_id}:{place}", now, labels, answer)))
            except queue.Full:
                self.left_out += 1

    def close(self) -> None:
        """Write what still waits."""
        self._waiting.put(None)
        self._writer.join()
        for own in self.logs.values():
            own.close()

    def _write(self) -> None:
        is_over = False
        while not is_over:
            together = [self._waiting.get()]
            while len(together) < _MOST_TOGETHER:
                try:
                    together.append(self._waiting.get_nowait())
                except queue.Empty:
                    break
            is_over = None in together
            by_name: dict[str, list[DecisionRecord]] = {}
            for one in together:
                if one is not None:
                    by_name.setdefault(one[0], []).append(one[1])
            for name, records in by_name.items():
                try:
                    self.logs[name].append(records)
                except (LlmclfError, OSError) as error:
                    self.left_out += len(records)
                    self._events.event("decisions_lost", model=name, rows=len(records), kind=type(error).__name__)


def _check_writable(folder: str | os.PathLike[str]) -> None:
    """Notice at the start, and not with the first decision, that there is no place for any.

    Raises
    ------
    StoreError
    """
    path = Path(folder).expanduser()
    try:
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise StoreError(
            f"the decision log {str(path)!r} cannot be written ({error.strerror}); give another path, or change who may write it"
        ) from error


def _record(row_id: str, now: float, labels: Sequence[Any], answer: Answer) -> DecisionRecord:
    if answer.kind:
        return DecisionRecord(row_id, now, error=answer.kind)
    best = max(range(len(labels)), key=answer.probabilities.__getitem__)
    return DecisionRecord(
        row_id,
        now,
        labels[best],
        answer.probabilities,
        accepted=answer.accepted,
        label_mass=answer.label_mass,
        undecided=answer.undecided,
    )
