"""Several journals of one job as one: what machines have answered that had a part of the rows each."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...backends.identity import agree
from ...backends.model_names import ModelName
from ...errors import InputError
from .inspection import StoredAnswer, StoredJournal, is_kept, opened_journal
from .journal import Journal
from .stored import journal_errors, path_of_new, runs


@dataclass(frozen=True)
class Merged:
    """What `merge_journals` has made.

    Attributes
    ----------
    output : str
    questions : int
        Different questions that are answered in it, with an answer or with an error.
    equal : int
        Answers that were in several journals alike.
    replaced : int
        Answers for which a later journal had another one.
    damaged : int
        Answers left out because they are damaged; they are asked again.
    """

    output: str
    questions: int
    equal: int
    replaced: int
    damaged: int


def merge_journals(paths: Sequence[str | os.PathLike[str]], output: str | os.PathLike[str]) -> Merged:
    """Bring the answers of several journals of one job together; `label_table` with it and ``resume=True`` then writes the rows.

    Each question has one answer in it. Where journals have different answers to one (two machines asked about equal rows, and
    a server's numbers differ in the last digits), the journal that is named last counts; an answer counts more than an error.
    What the runs have cost is added up.

    Parameters
    ----------
    paths : sequence of paths
        Of the same job: model, prompt, labels and all else that answers depend on are the same. They are not changed.
    output : path
        Must not exist yet.

    Returns
    -------
    Merged

    Raises
    ------
    InputError
        They are of different jobs, or answered by different models, and the message names the difference; or one waits for
        batches of a provider.
    StoreError
        One is damaged, in use, or could have been written by another user.
    """
    target = path_of_new(output)
    if not paths:
        raise InputError("no journals are named; give the journals of the parts of a job")
    first: StoredJournal | None = None
    model: dict[str, Any] = {}
    name: ModelName | None = None
    names_models = False
    past: list[tuple[float, float | None, float]] = []
    with (
        tempfile.TemporaryDirectory(prefix="llmclf-merge-") as folder,
        closing(sqlite3.connect(Path(folder) / "answers", isolation_level=None)) as gathered,
    ):
        gathered.execute("PRAGMA synchronous = OFF")
        gathered.execute("CREATE TABLE answers (n INTEGER PRIMARY KEY, key UNIQUE, value, error)")
        counts = {"equal": 0, "replaced": 0, "damaged": 0}
        for path in paths:
            with opened_journal(path) as stored:
                if first is not None:
                    _check_same(first, stored, first.job, stored.job, "job", "its")
                if first is not None and model and stored.model:
                    _check_same(first, stored, model, stored.model, "model", "its model's")
                first = first or stored
                model = model or stored.model
                name = name or stored.first_model
                if not (name or ModelName()).is_same(stored.first_model or ModelName()):
                    raise InputError(
                        f"{str(stored.path)!r} is of another model than {str(first.path)!r}: {str(stored.first_model)!r} "
                        f"answered, and there {str(name)!r} did; merge journals of one job and one model"
                    )
                names_models = names_models or stored.names_models
                _check_no_batches(stored)
                past += runs(stored.connection, stored.path)
                gathered.execute("BEGIN")
                for answers in stored.answers():
                    _gather(gathered, answers, counts)
                gathered.execute("COMMIT")
        assert first is not None
        (n,) = gathered.execute("SELECT count(*) FROM answers").fetchone()
        if not n:
            raise InputError("none of the journals holds an answer; there is nothing to merge")
        with Journal(target) as journal:
            journal.begin(first.job)
            if model:
                journal.meet(model, name, accepts_change=names_models)
            journal.adopt(gathered.execute("SELECT key, value, error FROM answers ORDER BY n"), past)
    return Merged(output=str(target), questions=n, **counts)


def _gather(gathered: sqlite3.Connection, answers: Iterable[StoredAnswer], counts: dict[str, int]) -> None:
    for key, value, error in answers:
        if not is_kept(key, value, error):
            counts["damaged"] += 1
            continue
        before = gathered.execute("SELECT value, error FROM answers WHERE key = ?", (key,)).fetchone()
        if before is None:
            gathered.execute("INSERT INTO answers (key, value, error) VALUES (?, ?, ?)", (key, value, error))
        elif before == (value, error):
            counts["equal"] += 1
        elif error is None or before[1] is not None:
            gathered.execute("UPDATE answers SET value = ?, error = ? WHERE key = ?", (value, error, key))
            counts["replaced"] += before[1] is None


def _check_same(
    first: StoredJournal, other: StoredJournal, then: Mapping[str, Any], now: Mapping[str, Any], what: str, whose: str
) -> None:
    for name in sorted({*then, *now}):
        if not agree(name, then.get(name), now.get(name)):
            raise InputError(
                f"{str(other.path)!r} is of another {what} than {str(first.path)!r}: {whose} {name} is "
                f"{_shown(now.get(name))}, and there it is {_shown(then.get(name))}; merge journals of one job and one model"
            )


def _check_no_batches(stored: StoredJournal) -> None:
    with journal_errors(stored.path):
        is_there = stored.connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'batch_batches'").fetchone()
        open_batches = (
            is_there
            and stored.connection.execute(
                "SELECT 1 FROM batch_batches WHERE status IN ('uploading', 'creating', 'open') LIMIT 1"
            ).fetchone()
        )
    if open_batches:
        raise InputError(
            f"{str(stored.path)!r} waits for batches of a provider, which would be lost; let its job end first (--resume)"
        )


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."
