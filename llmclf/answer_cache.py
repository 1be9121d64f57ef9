"""Answers of models, kept in SQLite so that nothing is asked twice: what the score cache and the cache of embeddings share.

A key is the SHA-256 of the canonical JSON of everything an answer depends on. A value has a checksum. Nothing is ever unpickled,
and a row that cannot be read is asked again. Each kind of answer has a table of its own, so one file may hold several kinds.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from .errors import InputError, StoreError
from .files.faults import address_fault, file_fault
from .files.ownership import foreign_fault, make_folder
from .files.sqlite_faults import is_damage, sqlite_fault

V = TypeVar("V")

_APPLICATION_ID = 0x6C6C6D63  # "llmc": tells a cache from any other SQLite file
_MAGIC = b"SQLite format 3\0"
_BUSY_SECONDS = 30.0


def key_of(parts: Mapping[str, Any]) -> str:
    """The key of an answer: every part keeps its type and its place, and strings are kept code point by code point.

    Examples
    --------
    >>> key_of({"text": "1"}) == key_of({"text": 1})
    False
    """
    return sha256(json.dumps(parts, sort_keys=True, ensure_ascii=True, separators=(",", ":")).encode()).hexdigest()


class AnswerCache(ABC, Generic[V]):
    """A file of answers that several threads and processes may use at once.

    A kind of answer is a subclass with a table and two methods, `pack` and `unpack`.

    Parameters
    ----------
    path : path
        Made when missing, readable by its owner alone.

    Attributes
    ----------
    table : str
        Where the answers of this kind are.
    kind : str
        What messages call such a file.

    Raises
    ------
    StoreError
        The file cannot be opened, or is something else than a cache; or another user could have written it, see
        `llmclf.files.ownership`.
    """

    table: ClassVar[str]
    kind: ClassVar[str]

    def __init__(self, path: str | os.PathLike[str]) -> None:
        fault = address_fault(path)
        if fault is not None:
            raise InputError(f"the {self.kind} {os.fspath(path)!r} {fault}")
        self.path = Path(path).expanduser()
        if self.path.exists() and (not self.path.is_file() or self.path.stat().st_size):
            fault = file_fault(self.path)
            if fault is not None:
                raise StoreError(
                    f"the {self.kind} {str(self.path)!r} cannot be opened (it {fault}); give cache= another path"
                )
        self._refuse_foreign()
        try:
            make_folder(self.path.parent)
            # Made here, not by SQLite, so that at no time others may read it.
            os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
            with self.path.open("rb") as stream:
                start = stream.read(len(_MAGIC))
        except OSError as error:
            raise StoreError(
                f"the {self.kind} {str(self.path)!r} cannot be opened ({error}); give cache= another path"
            ) from error
        # Some file systems do not keep what was asked for.
        self._refuse_foreign()
        if start not in (b"", _MAGIC):
            raise StoreError(f"{str(self.path)!r} is not {_a(self.kind)}; give cache= another path")
        with self._connect() as connection:
            self._prepare(connection)

    @abstractmethod
    def pack(self, answer: V) -> str | bytes:
        """An answer as it is stored.

        Raises
        ------
        InputError
            It cannot be stored.
        """

    @abstractmethod
    def unpack(self, value: Any) -> V | None:
        """The inverse of `pack`; None where the value is not an answer of this kind."""

    def get(self, keys: Sequence[str]) -> dict[str, V]:
        """The answers that are known for some keys; a damaged row counts as unknown."""
        known: dict[str, V] = {}
        with self._connect() as connection:
            for start in range(0, len(keys), 500):
                part = list(keys[start : start + 500])
                marks = ",".join("?" * len(part))
                query = f"SELECT key, value, checksum FROM {self.table} WHERE key IN ({marks})"
                for key, value, checksum in connection.execute(query, part):
                    if not isinstance(value, str | bytes) or checksum != checksum_of(key, value):
                        continue
                    answer = self.unpack(value)
                    if answer is not None:
                        known[key] = answer
        return known

    def put(self, items: Iterable[tuple[str, V]]) -> None:
        """Store answers in one transaction: all of them, or none if the process dies meanwhile.

        Raises
        ------
        InputError
            One of them cannot be stored; then none is.
        """
        now = time.time()
        packed = [(key, self.pack(answer)) for key, answer in items]
        rows = [(key, value, checksum_of(key, value), now) for key, value in packed]
        with self._connect() as connection:
            connection.executemany(f"INSERT OR REPLACE INTO {self.table} VALUES (?, ?, ?, ?)", rows)

    def info(self) -> dict[str, Any]:
        """Path, number of rows, bytes on disk, and times of the oldest and newest row (seconds since 1970, or None)."""
        with self._connect() as connection:
            n_rows, oldest, newest = connection.execute(
                f"SELECT count(*), min(created), max(created) FROM {self.table}"
            ).fetchone()
        return {
            "path": str(self.path),
            "rows": n_rows,
            "bytes": self.path.stat().st_size,
            "oldest": oldest,
            "newest": newest,
        }

    def clear(self) -> int:
        """Forget all answers of this kind and give the space back; returns how many there were."""
        with self._connect() as connection:
            removed = connection.execute(f"DELETE FROM {self.table}").rowcount
        with self._connect() as connection:
            connection.execute("VACUUM")
        return int(removed)

    @contextmanager
    def _connect(self) -> Iterator[sqlite3.Connection]:
        """A connection for one operation: threads and forked processes never share one."""
        try:
            with closing(sqlite3.connect(self.path, timeout=_BUSY_SECONDS)) as connection, connection:
                # A damaged string does not stop the work: its checksum shows the damage.
                connection.text_factory = lambda value: value.decode("utf-8", "replace")
                yield connection
        except sqlite3.Error as error:
            cure = "; remove the file: it holds nothing that the model cannot answer again" if is_damage(error) else ""
            raise StoreError(f"the {self.kind} {str(self.path)!r} {sqlite_fault(error)}{cure}") from error

    def _refuse_foreign(self) -> None:
        fault = foreign_fault(self.path)
        if fault is not None:
            raise StoreError(f"the {self.kind} {str(self.path)!r} {fault}; or give cache= another path")

    def _prepare(self, connection: sqlite3.Connection) -> None:
        if not self._is_prepared(connection):
            # One transaction: of several processes that find a new file, one makes it and the others see it whole.
            connection.execute("BEGIN IMMEDIATE")
            (owner,) = connection.execute("PRAGMA application_id").fetchone()
            (n_tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            if owner != _APPLICATION_ID and n_tables:
                raise StoreError(f"{str(self.path)!r} is a database of another program; give cache= another path")
            connection.execute(f"PRAGMA application_id={_APPLICATION_ID}")
            connection.execute(
                f"CREATE TABLE IF NOT EXISTS {self.table} (key TEXT PRIMARY KEY, value NOT NULL, checksum TEXT NOT NULL, "
                "created REAL NOT NULL) WITHOUT ROWID"
            )
            connection.commit()
        # Write-ahead logging lets readers continue while another process writes. It stays switched on in the file, but cannot be
        # switched on while others are at work in it; then the next process does it.
        with suppress(sqlite3.OperationalError):
            connection.execute("PRAGMA journal_mode=WAL")

    def _is_prepared(self, connection: sqlite3.Connection) -> bool:
        (owner,) = connection.execute("PRAGMA application_id").fetchone()
        query = "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = ?"
        return bool(owner == _APPLICATION_ID and connection.execute(query, [self.table]).fetchone()[0])


def checksum_of(key: str, value: str | bytes) -> str:
    """What shows that a stored value is whole, and belongs to its key."""
    content = value.encode() if isinstance(value, str) else value
    return sha256(key.encode() + b"\n" + content).hexdigest()[:16]


def _a(kind: str) -> str:
    return f"{'an' if kind[0] in 'aeio' else 'a'} {kind}"
