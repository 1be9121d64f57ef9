"""What a labelling job by batches needs after a restart: the open batches, their requests and their answers.

The tables live in a database that belongs to another module, such as a job's journal. Every step is committed before the next
begins, so that whatever kills the process, the next one finds

- a batch that is being uploaded: it has cost nothing yet, and its requests are free again;
- a batch that is being created: the server may have it or not. Its list of batches tells, by the input file and by a random mark
  in the batch's metadata;
- an open batch, by its id: its answers are fetched however often the process dies;
- answers: they are kept until the rows that need them are handled.

One risk remains: if the process dies after a batch was created and before that was confirmed, and the server lists no batches or
lists them late, that one batch is paid for twice. Nothing here is secret, nothing is unpickled, and an unreadable answer counts
as missing.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from ....errors import InputError, StoreError
from ....files.sqlite_faults import sqlite_fault
from ....files.sqlite_transactions import transaction

UPLOADING, CREATING, OPEN = "uploading", "creating", "open"

_SCHEMA = """
CREATE TABLE IF NOT EXISTS batch_facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS batch_batches (
    n INTEGER PRIMARY KEY, mark TEXT NOT NULL, path TEXT NOT NULL, status TEXT NOT NULL, file_id TEXT, batch_id TEXT,
    created REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS batch_requests (
    custom_id TEXT PRIMARY KEY, n INTEGER, attempts INTEGER NOT NULL, reason TEXT, tokens_in INTEGER NOT NULL,
    tokens_out INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS batch_requests_n ON batch_requests (n);
CREATE TABLE IF NOT EXISTS batch_replies (custom_id TEXT PRIMARY KEY, value BLOB NOT NULL, checksum BLOB NOT NULL)
"""
_MAX_IDS = 500  # ids in one query
_USAGE = "usage"

Tokens = tuple[int, int]
"""Tokens that a request may read and write, at most."""


@dataclass(frozen=True)
class BatchRecord:
    """A batch that is not finished.

    Attributes
    ----------
    n : int
        Its number in this store.
    mark : str
        The random word in its metadata.
    path : str
        The endpoint that answers its requests, such as ``"/completions"``.
    status : {"uploading", "creating", "open"}
    file_id, batch_id : str
        Empty as long as they are unknown.
    """

    n: int
    mark: str
    path: str
    status: str = UPLOADING
    file_id: str = ""
    batch_id: str = ""


@dataclass(frozen=True)
class Reply:
    """The outcome of a request: the body of its answer, or the reason of a refusal.

    Attributes
    ----------
    body : Any
    error : str or None
    status : int or None
        The HTTP status; None where no reply came.
    """

    body: Any = None
    error: str | None = None
    status: int | None = 200


@dataclass(frozen=True)
class RequestState:
    """The state of a request.

    Attributes
    ----------
    is_answered : bool
    n : int or None
        The number of the batch that it waits for.
    attempts : int
        How many batches it was in.
    reason : str
        Why the last of them gave no answer.
    """

    is_answered: bool = False
    n: int | None = None
    attempts: int = 0
    reason: str = ""


class BatchStore:
    """Batches, their requests and their answers in tables whose names begin with ``batch_``.

    Parameters
    ----------
    connection : sqlite3.Connection
        In autocommit mode (``isolation_level=None``), and usable from any thread (``check_same_thread=False``). It is used only
        while a caller waits for answers.

    Raises
    ------
    StoreError
        From every method: the database cannot be read or written.

    Examples
    --------
    >>> connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    >>> store = BatchStore(connection)
    >>> record = store.begin("/completions", {"a1": (10, 1)})
    >>> store.created(record.n, "batch_1")
    >>> store.add({"a1": Reply({"choices": []})}, {})
    >>> store.close(record.n, "completed", {})
    >>> BatchStore(connection).replies(["a1", "a2"])
    {'a1': Reply(body={'choices': []}, error=None, status=200)}
    >>> connection.close()
    """

    _name = "the job's database"

    def __init__(self, connection: sqlite3.Connection) -> None:
        if connection.isolation_level is not None:
            raise InputError(
                f"the connection's isolation_level is {connection.isolation_level!r}; expected None (autocommit mode)"
            )
        self._connection = connection
        with suppress(sqlite3.Error):
            file = connection.execute("SELECT file FROM pragma_database_list WHERE name = 'main'").fetchone()[0]
            self._name = f"the job's database {file!r}" if file else self._name
        with self._transaction():
            for statement in _SCHEMA.split(";"):
                connection.execute(statement)

    # --- batches -------------------------------------------------------------------------------------------------------

    def begin(self, path: str, requests: Mapping[str, Tokens]) -> BatchRecord:
        """Record that a batch of these requests will be uploaded."""
        mark = secrets.token_hex(16)
        with self._transaction() as run:
            cursor = run.execute(
                "INSERT INTO batch_batches (mark, path, status, created) VALUES (?, ?, ?, ?)",
                (mark, path, UPLOADING, time.time()),
            )
            n = cursor.lastrowid
            assert n is not None
            run.executemany(
                "INSERT INTO batch_requests VALUES (?, ?, 0, NULL, ?, ?) ON CONFLICT (custom_id) DO UPDATE SET "
                "n = excluded.n, tokens_in = excluded.tokens_in, tokens_out = excluded.tokens_out",
                [(custom_id, n, *tokens) for custom_id, tokens in requests.items()],
            )
        return BatchRecord(n, mark, path)

    def uploaded(self, n: int, file_id: str) -> None:
        """Record that the request file is on the server; the next step costs money."""
        with self._transaction() as run:
            run.execute("UPDATE batch_batches SET status = ?, file_id = ? WHERE n = ?", (CREATING, file_id, n))

    def created(self, n: int, batch_id: str) -> None:
        """Record that the server has accepted the batch."""
        with self._transaction() as run:
            run.execute("UPDATE batch_batches SET status = ?, batch_id = ? WHERE n = ?", (OPEN, batch_id, n))
            run.execute("UPDATE batch_requests SET attempts = attempts + 1 WHERE n = ?", (n,))

    def close(self, n: int, status: str, reasons: Mapping[str, str], *, is_attempt: bool = True) -> None:
        """Finish a batch; its requests may be asked again.

        Parameters
        ----------
        reasons : mapping
            Why requests were not answered, by their custom_id.
        is_attempt : bool
            Whether it counts among the attempts of its requests.
        """
        with self._transaction() as run:
            run.execute("UPDATE batch_batches SET status = ? WHERE n = ?", (status, n))
            run.execute(
                "UPDATE batch_requests SET n = NULL, attempts = attempts - ? WHERE n = ?", (int(not is_attempt), n)
            )
            run.executemany(
                "UPDATE batch_requests SET reason = ? WHERE custom_id = ?",
                [(reason, custom_id) for custom_id, reason in reasons.items()],
            )

    def release(self, n: int) -> None:
        """Delete a batch that was never created."""
        with self._transaction() as run:
            run.execute("DELETE FROM batch_batches WHERE n = ?", (n,))
            run.execute("UPDATE batch_requests SET n = NULL WHERE n = ?", (n,))

    def unfinished(self) -> list[BatchRecord]:
        """The batches that are not finished, oldest first."""
        query = (
            "SELECT n, mark, path, status, coalesce(file_id, ''), coalesce(batch_id, '') FROM batch_batches "
            "WHERE status IN (?, ?, ?) ORDER BY n"
        )
        return [BatchRecord(*row) for row in self._all(query, (UPLOADING, CREATING, OPEN))]

    def requests(self, n: int) -> dict[str, Tokens]:
        """The requests of a batch."""
        query = "SELECT custom_id, tokens_in, tokens_out FROM batch_requests WHERE n = ?"
        return {custom_id: (n_in, n_out) for custom_id, n_in, n_out in self._all(query, (n,))}

    # --- requests and answers ------------------------------------------------------------------------------------------

    def request_states(self, custom_ids: Sequence[str]) -> dict[str, RequestState]:
        """The states of requests, including those that were never asked."""
        states = dict.fromkeys(custom_ids, RequestState())
        for part in _chunks(custom_ids):
            marks = ",".join("?" * len(part))
            query = (
                f"SELECT custom_id, n, attempts, coalesce(reason, '') FROM batch_requests WHERE custom_id IN ({marks})"
            )
            for custom_id, n, attempts, reason in self._all(query, part):
                states[custom_id] = RequestState(False, n, attempts, reason)
            query = f"SELECT custom_id FROM batch_replies WHERE custom_id IN ({marks})"
            for (custom_id,) in self._all(query, part):
                states[custom_id] = RequestState(True)
        return states

    def replies(self, custom_ids: Sequence[str]) -> dict[str, Reply]:
        """The answers that are stored and undamaged."""
        replies: dict[str, Reply] = {}
        for part in _chunks(custom_ids):
            query = (
                f"SELECT custom_id, value, checksum FROM batch_replies WHERE custom_id IN ({','.join('?' * len(part))})"
            )
            for custom_id, value, checksum in self._all(query, part):
                reply = _decoded(custom_id, value, checksum)
                if reply is not None:
                    replies[custom_id] = reply
        return replies

    def add(self, replies: Mapping[str, Reply], usage: Mapping[str, float]) -> None:
        """Keep answers, and what they cost until the caller has recorded that (`forget`)."""
        rows = [(custom_id, *_encoded(custom_id, reply)) for custom_id, reply in replies.items()]
        with self._transaction() as run:
            run.executemany("INSERT OR IGNORE INTO batch_replies VALUES (?, ?, ?)", rows)
            before = self.usage()
            total = {name: before.get(name, 0) + usage.get(name, 0) for name in {*before, *usage}}
            run.execute("INSERT OR REPLACE INTO batch_facts VALUES (?, ?)", (_USAGE, json.dumps(total)))

    def drop(self, reasons: Mapping[str, str]) -> None:
        """Delete answers that cannot be used, and keep the reason."""
        with self._transaction() as run:
            run.executemany("DELETE FROM batch_replies WHERE custom_id = ?", [(name,) for name in reasons])
            run.executemany(
                "UPDATE batch_requests SET reason = ? WHERE custom_id = ?",
                [(reason, custom_id) for custom_id, reason in reasons.items()],
            )

    def forget(self, custom_ids: Iterable[str]) -> None:
        """Delete answers whose rows are already handled, and the usage, which the caller has recorded with them."""
        names = [(custom_id,) for custom_id in custom_ids]
        with self._transaction() as run:
            run.executemany("DELETE FROM batch_replies WHERE custom_id = ?", names)
            run.executemany("DELETE FROM batch_requests WHERE custom_id = ? AND n IS NULL", names)
            run.execute("DELETE FROM batch_facts WHERE name = ?", (_USAGE,))

    def usage(self) -> dict[str, float]:
        """What the answers cost that were added since the last call of `forget`, by this process or an earlier one."""
        usage = self.kept(_USAGE)
        return dict(usage) if isinstance(usage, dict) else {}

    # --- facts ---------------------------------------------------------------------------------------------------------

    def keep(self, name: str, value: Any) -> None:
        """Keep a choice that requests depend on, so that the next process makes the same; the first one counts."""
        with self._transaction() as run:
            run.execute("INSERT OR IGNORE INTO batch_facts VALUES (?, ?)", (name, json.dumps(value)))

    def kept(self, name: str) -> Any:
        """The choice that was kept under a name; None if there is none."""
        rows = self._all("SELECT value FROM batch_facts WHERE name = ?", (name,))
        try:
            return json.loads(rows[0][0]) if rows else None
        except (TypeError, ValueError) as error:
            raise StoreError(f"{self._name} is damaged (its {name} cannot be read)") from error

    def _all(self, query: str, values: Sequence[Any]) -> list[Any]:
        with self._errors():
            return self._connection.execute(query, values).fetchall()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._errors(), transaction(self._connection, immediate=True) as run:
            yield run

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise StoreError(f"{self._name} {sqlite_fault(error)}") from error


def _chunks(custom_ids: Sequence[str]) -> Iterator[Sequence[str]]:
    return (custom_ids[start : start + _MAX_IDS] for start in range(0, len(custom_ids), _MAX_IDS))


def _encoded(custom_id: str, reply: Reply) -> tuple[bytes, bytes]:
    """An answer as compressed JSON, and a checksum. Compression saves five sixths of the space of many log-probabilities."""
    values = {"body": reply.body} if reply.error is None else {"error": reply.error, "status": reply.status}
    value = zlib.compress(json.dumps(values, separators=(",", ":")).encode())
    return value, _checksum(custom_id, value)


def _decoded(custom_id: str, value: Any, checksum: Any) -> Reply | None:
    if not isinstance(value, bytes) or checksum != _checksum(custom_id, value):
        return None
    values = json.loads(zlib.decompress(value))
    return Reply(**values)


def _checksum(custom_id: str, value: bytes) -> bytes:
    return sha256(custom_id.encode() + b"\n" + value).digest()[:16]
