"""The journal of a labelling job: what a model has answered, in one SQLite file that survives any death of its writer.

Answers are appended and never changed; the last one for a key counts. A transaction is on the disk before `add` returns
(write-ahead log, ``synchronous=FULL``), so that an answer is lost neither with the process nor with the power, and counts itself,
so that a log which is lost shows (`llmclf.jobs.journal.commit_record`). The file is held by one process at a time, and the system
frees it when that process ends, however it ends.
"""

from __future__ import annotations

import json
import os
import secrets
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import chain, islice
from pathlib import Path
from typing import Any

from ...arrays import Floats
from ...atomic_files import refuse_address
from ...backends import RowScores
from ...backends.identity import agree, current_facts
from ...backends.model_names import ModelName
from ...errors import InputError, StoreError
from ...files.ownership import make_folder
from ...files.sqlite_transactions import CountedConnection, transaction
from .answer_codec import encode_answer
from .commit_record import CommitRecord, Promise
from .stored import (
    ACCEPTS,
    ANSWERED_BY,
    APPLICATION_ID,
    COMMITS,
    FORMAT,
    IS_OPEN,
    MODEL,
    OUTPUTS,
    as_text,
    checksum,
    damage,
    facts,
    journal_errors,
    meta,
    model_of,
    read_stored,
    refuse_foreign,
    runs,
)

_SCHEMA = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE answers (n INTEGER PRIMARY KEY, key BLOB NOT NULL, value BLOB, error TEXT);
CREATE TABLE runs (
    run INTEGER PRIMARY KEY, started REAL NOT NULL, ended REAL, usage TEXT NOT NULL DEFAULT '{}'
);
"""
_ROWS = 64
_ACCEPT = "go on with --accept-model-change (accept_model_change=True)"
HEADS = "heads"  # what a fingerprint calls the heads of a pool


class Journal:
    """What a job has been answered so far.

    Parameters
    ----------
    path : path
        Made when missing, readable by its owner alone.
    resume : bool
        Whether to continue an existing journal; otherwise it is refused.

    Attributes
    ----------
    path : Path
    connection : CountedConnection
        In autocommit mode.
    name : str
        A random name of this journal, the same in every run.

    Raises
    ------
    StoreError
        Another process holds the journal, or the file is none.
    InputError
        There is a journal, and `resume` was not asked for.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "labels.journal"
    >>> with Journal(path) as journal:
    ...     journal.begin({"prompt": "Review:"})
    ...     journal.add([(b"k" * 16, RowScores(((-0.5,),)))])
    >>> with Journal(path, resume=True) as journal:
    ...     journal.begin({"prompt": "Film review:"})  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    llmclf.errors.InputError: the journal ... belongs to another job: its prompt is 'Review:', and this job's is ...
    """

    def __init__(self, path: str | os.PathLike[str], *, resume: bool = False) -> None:
        refuse_address(path)
        self.path = Path(path).expanduser()
        self._run: int | None = None
        self._promise = Promise()
        self._record: CommitRecord | None = None
        self._first = self._now = ""  # the model that answered first, and the one of this run
        try:
            self._is_new = not self.path.exists() or (self.path.is_file() and not self.path.stat().st_size)
        except (OSError, ValueError) as error:
            raise StoreError(f"the journal {str(path)!r} cannot be opened: {error}; give another path") from error
        refuse_foreign(self.path)
        if not self._is_new and not resume:
            raise InputError(
                f"{str(self.path)!r} is the journal of an earlier run; continue it with resume (--resume), give another path "
                "(--journal), or remove the file if nothing in it is worth keeping"
            )
        if not self._is_new:
            # Before anything is written: what a damaged journal still holds must stay as it is.
            with read_stored(self.path):
                pass
        try:
            make_folder(self.path.parent)
            if self._is_new:
                # Made here, not by SQLite, so that at no time others may read it. Nobody else opens it: to close a second
                # handle would free the lock that SQLite holds.
                os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
        except OSError as error:
            raise StoreError(f"the journal {str(self.path)!r} cannot be opened: {error}; give another path") from error
        if self._is_new:
            refuse_foreign(self.path)  # some file systems do not keep what was asked for
        with journal_errors(self.path):
            self.connection = sqlite3.connect(
                self.path, timeout=0, isolation_level=None, check_same_thread=False, factory=CountedConnection
            )
            self.connection.text_factory = as_text
            try:
                self._open()
                self.name = str(self._meta("name"))
            except BaseException:
                self.connection.close()
                raise

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the run and free the file; a journal without any answer is removed, if this run or none has made it."""
        is_removable = self._is_new or self._run is not None
        try:
            self._end_run()
        finally:
            is_empty = False
            with suppress(sqlite3.Error):
                is_empty = is_removable and not any(self._holds(table) for table in ("answers", "batch_batches"))
            if is_empty:
                with suppress(OSError, sqlite3.Error):
                    # The log goes first, and by SQLite's hand: after the file another process may make new ones of both names.
                    self.connection.execute("PRAGMA main.journal_mode = DELETE")
                    self.path.unlink()
            self.connection.close()
            if self._record is not None:
                record, self._record = self._record, None
                # Where the log is still there, the disk had no room for what it holds.
                record.close(remove=not self.path.with_name(self.path.name + "-wal").exists())

    def _end_run(self) -> None:
        if self._run is None:
            return
        run, self._run = self._run, None
        self.connection.before_commit = self.connection.after_commit = None
        with self.transaction():
            self.connection.execute("UPDATE runs SET ended = ? WHERE run = ?", (time.time(), run))
            self.connection.execute("DELETE FROM meta WHERE name = ?", (IS_OPEN,))

    def begin(self, fingerprint: Mapping[str, Any]) -> None:
        """Start a run of the job that a fingerprint describes.

        Parameters
        ----------
        fingerprint : mapping
            Everything that answers depend on and that is known before a model is opened, as JSON values.

        Raises
        ------
        InputError
            The journal belongs to another job; the message names what differs.
        """
        self._agree("fingerprint", fingerprint, "this job's")
        self._promise_to_keep()
        with self.transaction():
            cursor = self.connection.execute("INSERT INTO runs (started) VALUES (?)", (time.time(),))
            self._run = cursor.lastrowid

    def _promise_to_keep(self) -> None:
        """From now on, let each transaction count itself, here and in the record beside the journal."""
        if self._record is not None:
            return
        commits = self._meta(COMMITS) or 0
        if not isinstance(commits, int):
            raise damage(self.path, f"its number of commits is {commits!r}")
        self._promise = Promise(commits, self.n_answers())
        # In this order: whoever finds the mark can rely on the record, wherever this process ends.
        self._record = CommitRecord(self.path, self.name, self._promise)
        with self.transaction():
            self.connection.execute("INSERT OR REPLACE INTO meta VALUES (?, 'true')", (IS_OPEN,))
        with journal_errors(self.path):
            # The mark lies in the file itself, so that it is there without the log.
            (is_busy, *_) = self.connection.execute("PRAGMA main.wal_checkpoint(TRUNCATE)").fetchone()
        if is_busy:
            raise StoreError(f"the journal {str(self.path)!r} is in use by another process; wait until it ends")
        self.connection.before_commit, self.connection.after_commit = self._count, self._note

    def _count(self) -> None:
        self._counted = Promise(self._promise.commits + 1, self.n_answers())
        self.connection.execute(
            "INSERT OR REPLACE INTO meta VALUES (?, ?)", (COMMITS, json.dumps(self._counted.commits))
        )

    def _note(self) -> None:
        self._promise = self._counted
        if self._record is not None:
            self._record.write(self._promise)

    def n_answers(self) -> int:
        """How many answers are kept; they are numbered from 1."""
        with journal_errors(self.path):
            return int(self.connection.execute("SELECT coalesce(max(n), 0) FROM answers").fetchone()[0])

    def meet(
        self, identity: Mapping[str, Any], model: ModelName | None = None, *, accepts_change: bool = False
    ) -> None:
        """Note which model answers, or refuse another than the one that has answered before.

        Parameters
        ----------
        identity : mapping
        model : ModelName, optional
            What the server says of the model.
        accepts_change : bool
            Whether the server may let another model answer. Then each answer keeps which one did.

        Raises
        ------
        InputError
            It is another.
        """
        self._agree("identity", identity, "the model's", accepts_change=accepts_change)
        now = model or ModelName()
        # A server may have other names for a model on other routes, so that the identity's is compared with itself alone.
        is_known = self._meta(MODEL) is not None or (self.identity or {}).get(ANSWERED_BY) != identity.get(ANSWERED_BY)
        first = (self.first_model if is_known else None) or now
        if first.is_same(now):
            first = first.known_with(now)
        elif not accepts_change:
            raise InputError(
                f"the journal {str(self.path)!r} holds answers of {str(first)!r}, and {str(now)!r} answers now; give another "
                f"path (--journal), or {_ACCEPT}"
            )
        if model is not None or accepts_change:
            with self.transaction():
                row = (MODEL, json.dumps([first.model, first.fingerprint]))
                self.connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", row)
                if accepts_change:
                    self.connection.execute("INSERT OR REPLACE INTO meta VALUES (?, 'true')", (ACCEPTS,))
        self._first = str(first)
        self._now = str(now)

    @property
    def first_model(self) -> ModelName | None:
        """What the server said of the model that answered first; None where nothing is known."""
        return model_of(self.connection, self.path)

    @property
    def names_models(self) -> bool:
        """Whether several models may have answered, each answer with its own."""
        return bool(self._meta(ACCEPTS))

    @property
    def identity(self) -> dict[str, Any] | None:
        """The model that has answered; None while none has."""
        return facts(self.connection, self.path, "identity")

    @property
    def outputs(self) -> dict[str, str | None]:
        """Where the job has written its rows, each with a mark of what was written there; None where there is none."""
        noted = self._meta(OUTPUTS) or {}
        if not isinstance(noted, dict) or not all(isinstance(mark, str | None) for mark in noted.values()):
            raise damage(self.path, "what it says of outputs cannot be read")
        return noted

    def note_output(self, place: str, mark: str | None) -> None:
        """Note that the job writes, or has written, an output."""
        noted = json.dumps({**self.outputs, place: mark}, ensure_ascii=True)
        with self.transaction():
            self.connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (OUTPUTS, noted))

    def add(
        self,
        answers: Iterable[tuple[bytes, RowScores]],
        usage: Mapping[str, Any] | None = None,
        heads: Mapping[bytes, Floats] | None = None,
    ) -> None:
        """Keep answers, and what this run has used so far, in one transaction that is on the disk when this returns.

        Parameters
        ----------
        answers : iterable of (key, RowScores)
            Hidden states are not kept.
        usage : mapping, optional
        heads : mapping of key to ndarray (H * K,), optional
            What the heads of a pool make of the features of those rows.
        """
        logits = heads or {}
        rows = (
            (
                key,
                None
                if scores.error is not None
                else encode_answer(key, scores, logits.get(key), self._other_model(scores)),
                scores.error,
            )
            for key, scores in answers
        )
        with self.transaction():
            insert_rows(self.connection, "answers (key, value, error)", rows)
            if usage is not None:
                self.connection.execute("UPDATE runs SET usage = ? WHERE run = ?", (json.dumps(usage), self._run))

    def _other_model(self, scores: RowScores) -> str | None:
        """The model that gave an answer, where it is not the journal's."""
        name = scores.model or self._now
        return name if name and name != self._first else None

    def adopt(self, answers: Iterable[tuple[Any, Any, Any]], runs: Iterable[tuple[float, float | None, float]]) -> None:
        """Keep what other journals hold: answers as key, value and error, and when runs began, ended, and what they have cost."""
        past = ((began, ended, json.dumps({"cost": cost})) for began, ended, cost in runs)
        with self.transaction():
            insert_rows(self.connection, "answers (key, value, error)", answers)
            insert_rows(self.connection, "runs (started, ended, usage)", past)

    def spent(self) -> float:
        """The cost of all runs so far, in the unit of their price tables; runs without one count nothing."""
        return sum(cost for _, _, cost in runs(self.connection, self.path))

    @contextmanager
    def transaction(self, *, is_counted: bool = True) -> Iterator[None]:
        """All of what is done inside, or nothing of it; what need not outlive this process does not count."""
        with (
            journal_errors(self.path),
            # Not immediate, which would also lock the plan, attached to this connection: its questions are read meanwhile by
            # another, and whichever came second would be refused. The journal itself is locked since it was opened.
            transaction(self.connection, immediate=False, is_counted=is_counted),
        ):
            yield

    def _open(self) -> None:
        connection = self.connection
        connection.execute("PRAGMA main.locking_mode = EXCLUSIVE")
        connection.execute("PRAGMA main.journal_mode = WAL")
        connection.execute("PRAGMA main.synchronous = FULL")
        connection.execute("BEGIN IMMEDIATE")
        if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
            for statement in filter(str.strip, _SCHEMA.split(";")):
                connection.execute(statement)
            values = [("name", json.dumps(secrets.token_hex(8))), ("format", json.dumps(FORMAT))]
            connection.executemany("INSERT INTO meta VALUES (?, ?)", values)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute("COMMIT")
        # A lock that is held alone needs no index on the disk; what is there was left by a reader that was killed.
        self.path.with_name(f"{self.path.name}-shm").unlink(missing_ok=True)

    def _holds(self, table: str) -> bool:
        """Whether a table is there and has a row; providers' batches have tables of their own."""
        is_there = self.connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (table,)).fetchone()
        return bool(is_there and self.connection.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone())

    def _meta(self, name: str) -> Any:
        return meta(self.connection, self.path, name)

    def _agree(self, what: str, now: Mapping[str, Any], whose: str, *, accepts_change: bool = False) -> None:
        text = json.dumps(now, sort_keys=True)
        then, now = facts(self.connection, self.path, what), current_facts(json.loads(text))
        if then is None:
            rows = [(what, text), (f"{what} checksum", json.dumps(checksum(what, text)))]
            with self.transaction():
                self.connection.executemany("INSERT INTO meta VALUES (?, ?)", rows)
            return
        then = current_facts(then)
        for name in sorted({*then, *now}):
            if name == HEADS and now.get(name) is None:
                continue  # what heads made of rows is there, and not needed
            if name == ANSWERED_BY and accepts_change:
                continue
            if not agree(name, then.get(name), now.get(name)):
                if name == HEADS:
                    raise InputError(self._other_heads(then.get(name) is None))
                cure = _ACCEPT if name == ANSWERED_BY else "make them agree"
                raise InputError(
                    f"the journal {str(self.path)!r} belongs to another job: its {name} is {_shown(then.get(name))}, and "
                    f"{whose} is {_shown(now.get(name))}; give another path (--journal), or {cure}"
                )

    def _other_heads(self, is_without: bool) -> str:
        kept = (
            "keeps nothing of features, and this job's classifier has learned from some (features=)"
            if is_without
            else "keeps what the features of its rows mean to another fit (its heads) than this job's classifier"
        )
        return (
            f"the journal {str(self.path)!r} {kept}; features are not kept, so go on with the classifier that it was begun with, "
            "or give another path (--journal) to ask again"
        )


def insert_rows(connection: sqlite3.Connection, table: str, rows: Iterable[tuple[Any, ...]]) -> None:
    """Insert rows, many with each statement: to step through a statement costs about as much as a small row."""
    left = iter(rows)
    while part := list(islice(left, _ROWS)):
        holes = f"({', '.join('?' * len(part[0]))})"
        connection.execute(
            f"INSERT INTO {table} VALUES {', '.join([holes] * len(part))}", list(chain.from_iterable(part))
        )


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."
