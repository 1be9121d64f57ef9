"""What a journal holds: answers read a few thousand at a time, and counted for a person."""

from __future__ import annotations

import os
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...backends.identity import current_facts
from ...backends.model_names import ModelName
from ...errors import InputError
from .answer_codec import AnswerBlock, decode_block, is_whole
from .stored import ACCEPTS, IS_OPEN, facts, journal_errors, meta, model_of, read_stored, runs

DAMAGED = "its answer in the journal is missing or damaged; ask again (--retry-failed)"
_TOGETHER = 5000  # answers that are read at once

StoredAnswer = tuple[Any, Any, Any]
"""Key, value and error of an answer, as they are kept; in a damaged journal of any type."""


def is_kept(key: Any, value: Any, error: Any, *, is_sound: bool = True) -> bool:
    """Whether an answer can be used as it is.

    Parameters
    ----------
    key, value, error : as they are kept
    is_sound : bool
        Whether the structure of the file is whole, which is all that shows that an error is.
    """
    if error is None:
        return is_whole(key, value)
    return is_sound and isinstance(key, bytes) and isinstance(error, str) and error != DAMAGED


@dataclass(frozen=True)
class JournalReport:
    """What `check_journal` has found in a journal that can be read.

    Attributes
    ----------
    path : str
    questions : int
        Different questions that were answered; the last answer to each counts.
    answered, failed, damaged : int
        Those with an answer, those with an error, and those whose answer is damaged, so that they are asked again with
        `retry_failed`.
    runs : int
    last : float or None
        When the last run ended, or began if it did not end in order; seconds since 1970.
    is_open : bool
        The last run did not end in order: it was killed.
    cost : float
        Of all runs, in the unit of their prices.
    job : dict
        All that the answers depend on, the prompt and the labels among it.
    model : dict
        The model that has answered.
    models : dict of str to int
        Answers by other models, where a change of model was accepted.
    """

    path: str
    questions: int
    answered: int
    failed: int
    damaged: int
    runs: int
    last: float | None
    is_open: bool
    cost: float
    job: Mapping[str, Any]
    model: Mapping[str, Any]
    models: Mapping[str, int]

    @property
    def is_sound(self) -> bool:
        """Whether every answer can be used."""
        return not self.damaged


@dataclass(frozen=True)
class StoredJournal:
    """A journal that is whole, opened to be read.

    Attributes
    ----------
    path : Path
    connection : sqlite3.Connection
    job, model : dict
    """

    path: Path
    connection: sqlite3.Connection
    job: dict[str, Any]
    model: dict[str, Any]

    @property
    def first_model(self) -> ModelName | None:
        """What the server said of the model that answered first."""
        return model_of(self.connection, self.path)

    @property
    def names_models(self) -> bool:
        """Whether several models may have answered."""
        return bool(meta(self.connection, self.path, ACCEPTS))

    @property
    def classes(self) -> list[str]:
        """The classes by name."""
        return [str(name) for name, _ in self._labels]

    @property
    def class_of(self) -> list[int]:
        """The class of each completion."""
        return [k for k, (_, words) in enumerate(self._labels) for _ in words]

    @property
    def _labels(self) -> Sequence[tuple[Any, Sequence[str]]]:
        labels: Sequence[tuple[Any, Sequence[str]]] = self.job.get("labels") or []
        return labels

    def answers(self) -> Iterator[list[StoredAnswer]]:
        """The last answer to each question, in the order in which they came."""
        query = "SELECT key, value, error FROM answers WHERE n IN (SELECT max(n) FROM answers GROUP BY key) ORDER BY n"
        with journal_errors(self.path):
            cursor = self.connection.execute(query)
            while part := cursor.fetchmany(_TOGETHER):
                yield part

    def number_questions(self) -> None:
        """Prepare `find`; takes room in a temporary file."""
        with journal_errors(self.path):
            self.connection.execute("CREATE TEMP TABLE last (key PRIMARY KEY, n) WITHOUT ROWID")
            self.connection.execute(
                "INSERT INTO last SELECT key, max(n) FROM answers WHERE key IS NOT NULL GROUP BY key"
            )

    def find(self, key: bytes) -> StoredAnswer | None:
        """The last answer to a question; None if there is none."""
        query = "SELECT a.key, a.value, a.error FROM last l JOIN answers a ON a.n = l.n WHERE l.key = ?"
        with journal_errors(self.path):
            answer: StoredAnswer | None = self.connection.execute(query, (key,)).fetchone()
        return answer

    def decoded(self, answers: Sequence[StoredAnswer]) -> AnswerBlock:
        """Answers as arrays."""
        keys, values, errors = zip(*answers, strict=True)
        return decode_block(keys, values, errors, len(self.class_of), DAMAGED)


@contextmanager
def opened_journal(path: str | os.PathLike[str]) -> Iterator[StoredJournal]:
    """A journal that is whole and has been begun.

    Raises
    ------
    InputError
        There is none, or nothing in it.
    StoreError
        It cannot be read, is in use or damaged; see `llmclf.jobs.journal.stored.read_stored`.
    """
    file = Path(path).expanduser()
    if not file.exists():
        raise InputError(f"{str(path)!r} does not exist; give the path of a job's journal (OUTPUT.journal)")
    with read_stored(file) as connection:
        job = None if connection is None else facts(connection, file, "fingerprint")
        if connection is None or job is None:
            raise InputError(f"the journal {str(path)!r} is empty: no run of a job has begun in it")
        yield StoredJournal(
            file, connection, current_facts(job), current_facts(facts(connection, file, "identity") or {})
        )


def check_journal(path: str | os.PathLike[str]) -> JournalReport:
    """What a journal holds, and whether it is sound. Nothing of it is changed.

    Parameters
    ----------
    path : path

    Returns
    -------
    JournalReport

    Raises
    ------
    InputError
        There is no journal.
    StoreError
        It is damaged, in use, or could have been written by another user.
    """
    answered = failed = damaged = 0
    models: Counter[str] = Counter()
    with opened_journal(path) as stored:
        for answers in stored.answers():
            whole = [answer for answer in answers if is_kept(*answer)]
            failed += sum(error is not None for _, _, error in whole)
            answered += sum(error is None for _, _, error in whole)
            damaged += len(answers) - len(whole)
            models.update(name for name in stored.decoded(answers).models if name is not None)
        past = runs(stored.connection, stored.path)
        return JournalReport(
            path=str(stored.path),
            questions=answered + failed + damaged,
            answered=answered,
            failed=failed,
            damaged=damaged,
            runs=len(past),
            last=max((began if ended is None else ended for began, ended, _ in past), default=None),
            is_open=bool(meta(stored.connection, stored.path, IS_OPEN)),
            cost=sum(cost for *_, cost in past),
            job=stored.job,
            model=stored.model,
            models=dict(models),
        )
