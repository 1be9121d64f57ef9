"""The journal of a labelling job: what a model has answered, in one SQLite file that survives any death of its writer.

Answers are appended and never changed; the last one for a key counts. A transaction is on the disk before `add` returns
(write-ahead log, ``synchronous=FULL``), so that an answer is lost neither with the process nor with the power. The file is held
by one process at a time, and the system frees it when that process ends, however it ends.
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
from ...backends import RowScores
from ...backends.identity import agree, current_facts
from ...errors import InputError, StoreError
from ...files.faults import file_fault
from ...files.sqlite_transactions import transaction
from .answer_codec import encode_answer

_SCHEMA = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE answers (n INTEGER PRIMARY KEY, key BLOB NOT NULL, value BLOB, error TEXT);
CREATE TABLE runs (
    run INTEGER PRIMARY KEY, started REAL NOT NULL, ended REAL, usage TEXT NOT NULL DEFAULT '{}'
);
"""
_APPLICATION_ID = 0x6C6C6D6A  # "llmj": tells a journal from any other SQLite file
_FORMAT = 1
_ROWS = 64
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
    connection : sqlite3.Connection
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
        self.path = Path(path).expanduser()
        self._run: int | None = None
        fault = file_fault(self.path) if self.path.exists() else None
        is_new = not self.path.exists() or (self.path.is_file() and not self.path.stat().st_size)
        if fault is not None and not is_new:
            raise StoreError(f"the journal {str(self.path)!r} {fault}; or give another path (--journal)")
        if not is_new and not resume:
            raise InputError(
                f"{str(self.path)!r} is the journal of an earlier run; continue it with resume (--resume), give another path "
                "(--journal), or remove the file if nothing in it is worth keeping"
            )
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if is_new:
                # Made here, not by SQLite, so that at no time others may read it. Nobody else opens it: to close a second
                # handle would free the lock that SQLite holds.
                os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
            self.connection = sqlite3.connect(self.path, timeout=0, isolation_level=None, check_same_thread=False)
        except (OSError, sqlite3.Error) as error:
            raise StoreError(f"the journal {str(self.path)!r} cannot be opened: {error}") from error
        try:
            self._open()
        except BaseException:
            self.connection.close()
            raise
        self.name = str(self._meta("name"))

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the run and free the file; a journal without any answer is removed."""
        is_empty = False
        if self._run is not None:
            with self.transaction():
                self.connection.execute("UPDATE runs SET ended = ? WHERE run = ?", (time.time(), self._run))
            self._run = None
        with suppress(sqlite3.Error):
            is_empty = not any(self._holds(table) for table in ("answers", "batch_batches"))
        if is_empty:
            with suppress(OSError, sqlite3.Error):
                # The log goes first, and by SQLite's hand: after the file another process may make new ones of both names.
                self.connection.execute("PRAGMA main.journal_mode = DELETE")
                self.path.unlink()
        self.connection.close()

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
        with self.transaction():
            cursor = self.connection.execute("INSERT INTO runs (started) VALUES (?)", (time.time(),))
            self._run = cursor.lastrowid

    def meet(self, identity: Mapping[str, Any]) -> None:
        """Note which model answers, or refuse another than the one that has answered before.

        Raises
        ------
        InputError
            It is another.
        """
        self._agree("identity", identity, "the model's")

    @property
    def identity(self) -> dict[str, Any] | None:
        """The model that has answered; None while none has."""
        identity: dict[str, Any] | None = self._meta("identity")
        return identity

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
            (key, None if scores.error is not None else encode_answer(key, scores, logits.get(key)), scores.error)
            for key, scores in answers
        )
        with self.transaction():
            insert_rows(self.connection, "answers (key, value, error)", rows)
            if usage is not None:
                self.connection.execute("UPDATE runs SET usage = ? WHERE run = ?", (json.dumps(usage), self._run))

    def spent(self) -> float:
        """The cost of all runs so far, in the unit of their price tables; runs without one count nothing."""
        usages = [json.loads(usage) for (usage,) in self.connection.execute("SELECT usage FROM runs")]
        return sum(usage.get("cost") or 0.0 for usage in usages)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All of what is done inside, or nothing of it."""
        try:
            # Not immediate, which would also lock the plan, attached to this connection: its questions are read meanwhile by
            # another, and whichever came second would be refused. The journal itself is locked since it was opened.
            with transaction(self.connection, immediate=False):
                yield
        except sqlite3.Error as error:
            raise StoreError(f"the journal {str(self.path)!r} cannot be written: {error}") from error

    def _open(self) -> None:
        connection = self.connection
        try:
            connection.execute("PRAGMA main.locking_mode = EXCLUSIVE")
            connection.execute("PRAGMA main.journal_mode = WAL")
            connection.execute("PRAGMA main.synchronous = FULL")
            connection.execute("BEGIN IMMEDIATE")
            (owner,) = connection.execute("PRAGMA application_id").fetchone()
            (n_tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            if owner != _APPLICATION_ID:
                if n_tables:
                    raise StoreError(f"{str(self.path)!r} is a database of another program; give another path")
                for statement in filter(str.strip, _SCHEMA.split(";")):
                    connection.execute(statement)
                values = [("name", json.dumps(secrets.token_hex(8))), ("format", json.dumps(_FORMAT))]
                connection.executemany("INSERT INTO meta VALUES (?, ?)", values)
                connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            connection.execute("COMMIT")
        except sqlite3.OperationalError as error:
            if "locked" in str(error) or "busy" in str(error):
                raise StoreError(
                    f"the journal {str(self.path)!r} is in use by another process; wait until it ends, or give another path"
                ) from error
            raise StoreError(f"the journal {str(self.path)!r} cannot be opened: {error}") from error
        except sqlite3.DatabaseError as error:
            raise StoreError(f"{str(self.path)!r} is not a journal ({error}); give another path") from error
        if self._meta("format") != _FORMAT:
            raise StoreError(f"the journal {str(self.path)!r} was written by another version of llmclf; remove it")

    def _holds(self, table: str) -> bool:
        """Whether a table is there and has a row; providers' batches have tables of their own."""
        is_there = self.connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (table,)).fetchone()
        return bool(is_there and self.connection.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone())

    def _meta(self, name: str) -> Any:
        row = self.connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return None if row is None else json.loads(row[0])

    def _agree(self, what: str, now: Mapping[str, Any], whose: str) -> None:
        text = json.dumps(now, sort_keys=True)
        then, now = self._meta(what), current_facts(json.loads(text))
        if then is None:
            with self.transaction():
                self.connection.execute("INSERT INTO meta VALUES (?, ?)", (what, text))
            return
        then = current_facts(then)
        for name in sorted({*then, *now}):
            if name == HEADS and now.get(name) is None:
                continue  # what heads made of rows is there, and not needed
            if not agree(name, then.get(name), now.get(name)):
                if name == HEADS:
                    raise InputError(self._other_heads(then.get(name) is None))
                raise InputError(
                    f"the journal {str(self.path)!r} belongs to another job: its {name} is {_shown(then.get(name))}, and "
                    f"{whose} is {_shown(now.get(name))}; give another path (--journal), or make them agree"
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
