"""The plan of a job: which row wants which answer, and what is still to be asked. Kept on disk, so that no table is too large.

The plan is derived from the table anew in every run and thrown away with it; what is worth keeping is in the journal.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from typing import Any

from ...errors import InputError, StoreError
from ...files.orderly_end import side_files
from ...files.sqlite_faults import sqlite_fault
from ..questions import Question
from .answer_codec import AnswerBlock, decode_block
from .inspection import DAMAGED
from .journal import Journal, insert_rows
from .stored import PLAN, journal_errors

_SCHEMA = """
CREATE TABLE plan.rows (place INTEGER PRIMARY KEY, id TEXT, key BLOB, record BLOB, problem TEXT);
CREATE TABLE plan.known (key BLOB PRIMARY KEY, n INTEGER NOT NULL, failed INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE plan.pieces (place INTEGER PRIMARY KEY, digest BLOB NOT NULL);
CREATE TABLE plan.extra (key BLOB PRIMARY KEY, record BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE plan.todo (n INTEGER PRIMARY KEY, place INTEGER NOT NULL)
"""
_CHUNK = 500  # questions that are read from the disk together


@dataclass(frozen=True)
class Counts:
    """How many rows a table has, and what of them is to be asked.

    Attributes
    ----------
    rows : int
    unaskable : int
        Rows that cannot be asked about: an empty text, say.
    questions : int
        Different questions of the others; equal rows ask one.
    answered, failed : int
        Questions that the journal holds an answer to, and those whose last answer is an error.
    todo : int
        Questions to be asked in this run.
    """

    rows: int
    unaskable: int
    questions: int
    answered: int
    failed: int
    todo: int


def read_questions(connection: sqlite3.Connection, start: int, size: int) -> list[tuple[int, bytes, bytes]]:
    """Number, key and record of the questions numbered from ``start + 1`` to ``start + size`` in a plan's own file."""
    return connection.execute(
        "SELECT t.n, r.key, r.record FROM todo t JOIN rows r ON r.place = t.place WHERE t.n > ? AND t.n <= ? ORDER BY t.n",
        (start, start + size),
    ).fetchall()


class Plan:
    """Rows and questions of one run, in a file beside the journal.

    Parameters
    ----------
    journal : Journal
        Holds the answers; the plan's file is attached to its connection.
    n_completions : int
        Completions of each question.
    n_heads : int
        Numbers that the heads of a pool make of each row.

    Attributes
    ----------
    counts : Counts
        Once it is finished.
    damaged : list of bytes
        Keys of answers that were found damaged.
    """

    def __init__(self, journal: Journal, n_completions: int, n_heads: int = 0) -> None:
        self.journal = journal
        self._n_heads = n_heads
        self._n_completions = n_completions
        self.path = journal.path.with_name(journal.path.name + PLAN)
        self._connection = journal.connection
        self._n_rows = 0
        self.counts = Counts(0, 0, 0, 0, 0, 0)
        self.damaged: list[bytes] = []
        self._remove()
        self._removed_at_the_end = ExitStack()
        self._removed_at_the_end.enter_context(side_files(self.path))
        try:
            os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
            self._connection.execute("ATTACH ? AS plan", (str(self.path),))
            # Nothing of it outlives the run, so it need not survive a crash.
            self._connection.execute("PRAGMA plan.journal_mode = OFF")
            self._connection.execute("PRAGMA plan.synchronous = OFF")
            self._connection.execute("PRAGMA plan.cache_size = -65536")
            for statement in _SCHEMA.split(";"):
                self._connection.execute(statement)
        except OSError as error:
            raise StoreError(f"the plan of the job {str(self.path)!r} cannot be written: {error}") from error
        except sqlite3.Error as error:
            raise StoreError(f"the plan of the job {str(self.path)!r} {sqlite_fault(error)}") from error

    def __enter__(self) -> Plan:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Throw the plan away."""
        with suppress(sqlite3.Error):
            self._connection.execute("DETACH plan")
        self._removed_at_the_end.close()

    def add(self, questions: Sequence[Question], ids: Sequence[str] | None, digest: bytes) -> None:
        """Note the next rows of the table, and a hash by which they will be known again."""
        start, stop = self._n_rows, self._n_rows + len(questions)
        names: Sequence[str | None] = ids if ids is not None else [None] * len(questions)
        rows = zip(range(start, stop), names, *zip(*questions, strict=True), strict=True)
        with self._writing():
            insert_rows(self._connection, "plan.rows", rows)
            self._connection.execute("INSERT INTO plan.pieces VALUES (?, ?)", (start, digest))
        self._n_rows = stop

    def add_extra(self, questions: Iterable[Question]) -> None:
        """Note questions that are asked besides the rows', each once."""
        rows = [(question.key, question.record) for question in questions]
        if rows:
            with self._writing():
                self._connection.executemany("INSERT OR IGNORE INTO plan.extra VALUES (?, ?)", rows)

    def finish(self, *, has_ids: bool, finds_ids: bool, retry_failed: bool, in_order: bool) -> None:
        """All rows are noted: find out what is to be asked.

        Parameters
        ----------
        has_ids : bool
            Rows have ids, each of which must stand once.
        finds_ids : bool
            `known_ids` will be asked.
        retry_failed : bool
            Ask again what was answered with an error.
        in_order : bool
            Ask in the table's order; else in the order of the records, so that those come together that begin alike.

        Raises
        ------
        InputError
            An id stands twice.
        """
        with self._writing():
            if has_ids:
                self._check_ids()
                if not finds_ids:
                    self._connection.execute("DROP INDEX plan.rows_by_id")
            self._know()
            self._connection.execute("CREATE INDEX plan.rows_by_key ON rows (key) WHERE key IS NOT NULL")
            # What is asked besides the rows comes before the first of them.
            self._connection.execute(
                "INSERT INTO plan.rows (place, key, record) SELECT -row_number() OVER (), key, record FROM plan.extra"
            )
            answered = "SELECT key FROM plan.known" + (" WHERE NOT failed" if retry_failed else "")
            firsts = f"SELECT min(place) FROM plan.rows WHERE key IS NOT NULL AND key NOT IN ({answered}) GROUP BY key"
            self._connection.execute(
                f"INSERT INTO plan.todo (place) {firsts} ORDER BY 1"
                if in_order
                else f"INSERT INTO plan.todo (place) SELECT place FROM plan.rows WHERE place IN ({firsts}) ORDER BY record"
            )
        with self._reading():
            self.counts = self._count()

    def todo(self) -> Iterator[tuple[bytes, bytes]]:
        """Key and record of every question to be asked, in order; may be read from another thread."""
        start = 0
        # A connection of its own: the journal is written meanwhile.
        with (
            self._reading(),
            closing(sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)) as connection,
        ):
            while chunk := read_questions(connection, start, _CHUNK):
                start = chunk[-1][0]
                for _, key, record in chunk:
                    yield key, record

    def digest(self, place: int) -> bytes | None:
        """The hash of the piece of the table that began at a place."""
        with self._reading():
            row = self._connection.execute("SELECT digest FROM plan.pieces WHERE place = ?", (place,)).fetchone()
        return None if row is None else bytes(row[0])

    def known_ids(self, ids: Sequence[str]) -> set[str]:
        """Those of some ids that are a row's of the table."""
        found: set[str] = set()
        with self._reading():
            for start in range(0, len(ids), _CHUNK):
                some = ids[start : start + _CHUNK]
                query = f"SELECT id FROM plan.rows WHERE id IN ({', '.join('?' * len(some))})"
                found.update(id for (id,) in self._connection.execute(query, some))
        return found

    def learn(self) -> None:
        """Copy this run's answers from the journal, before rows are read with them."""
        with self._writing():
            self._know()

    def block(self, start: int, stop: int) -> tuple[list[bytes | None], AnswerBlock]:
        """Records and answers of some rows, by their places in the table."""
        with self._reading():
            rows = self._connection.execute(
                "SELECT r.key, r.record, r.problem, a.value, a.error FROM plan.rows r "
                "LEFT JOIN plan.known k ON k.key = r.key LEFT JOIN main.answers a ON a.n = k.n "
                "WHERE r.place >= ? AND r.place < ? ORDER BY r.place",
                (start, stop),
            ).fetchall()
        errors = [problem if problem is not None else error for _, _, problem, _, error in rows]
        keys = [row[0] for row in rows]
        return [row[1] for row in rows], self._decoded(keys, [row[3] for row in rows], errors, self._n_heads)

    def answers(self, keys: Sequence[bytes | None]) -> AnswerBlock:
        """The answers to some questions besides the rows'; None stands for one that could not be asked."""
        known: dict[bytes | None, tuple[Any, Any]] = {None: (None, "the row could not be asked")}
        query = "SELECT a.value, a.error FROM plan.known k JOIN main.answers a ON a.n = k.n WHERE k.key = ?"
        with self._reading():
            for key in dict.fromkeys(keys):
                if key is not None:
                    known[key] = self._connection.execute(query, (key,)).fetchone() or (None, None)
        return self._decoded(keys, [known[key][0] for key in keys], [known[key][1] for key in keys])

    def records(self, keys: Sequence[bytes]) -> list[bytes]:
        """The record of each of some questions."""
        query = "SELECT record FROM plan.rows WHERE key = ? LIMIT 1"
        with self._reading():
            return [self._connection.execute(query, (key,)).fetchone()[0] for key in keys]

    def _decoded(
        self, keys: Sequence[bytes | None], values: Sequence[Any], errors: Sequence[Any], n_heads: int = 0
    ) -> AnswerBlock:
        block = decode_block(keys, values, errors, self._n_completions, DAMAGED, n_heads)
        self.damaged += [
            key for key, error in zip(keys, block.errors, strict=True) if error is DAMAGED and key is not None
        ]
        return block

    def _know(self) -> None:
        # In this order the last answer stays, and keys come as the table holds them.
        self._connection.execute(
            "INSERT OR REPLACE INTO plan.known SELECT key, n, error IS NOT NULL FROM main.answers "
            "WHERE n > (SELECT coalesce(max(n), 0) FROM plan.known) ORDER BY key, n"
        )

    def _check_ids(self) -> None:
        try:
            self._connection.execute("CREATE UNIQUE INDEX plan.rows_by_id ON rows (id)")
        except sqlite3.IntegrityError:
            id, first, last, n = self._connection.execute(
                "SELECT id, min(place), max(place), count(*) FROM plan.rows GROUP BY id HAVING count(*) > 1 "
                "ORDER BY min(place) LIMIT 1"
            ).fetchone()
            raise InputError(
                f"the id {id!r} stands in {n} rows (rows {first} and {last}, counted from 0); give a column whose values are "
                "all different, or none"
            ) from None

    def _count(self) -> Counts:
        def one(query: str) -> int:
            return int(self._connection.execute(query).fetchone()[0])

        known = "SELECT count(*) FROM plan.known k WHERE EXISTS (SELECT 1 FROM plan.rows r WHERE r.key = k.key AND +r.place >= 0)"
        return Counts(
            rows=self._n_rows,
            unaskable=one("SELECT count(*) FROM plan.rows WHERE key IS NULL"),
            questions=one("SELECT count(DISTINCT key) FROM plan.rows WHERE key IS NOT NULL AND +place >= 0"),
            answered=one(f"{known} AND NOT failed"),
            failed=one(f"{known} AND failed"),
            todo=one("SELECT count(*) FROM plan.todo"),
        )

    def first_problem(self) -> str | None:
        """Why the first of the rows that cannot be asked cannot be."""
        with self._reading():
            row = self._connection.execute(
                "SELECT place, problem FROM plan.rows WHERE problem IS NOT NULL ORDER BY place LIMIT 1"
            ).fetchone()
        return None if row is None else f"row {row[0]}: {row[1]}"

    def _writing(self) -> Any:
        # A plan is thrown away with its run, so nothing of it is promised.
        return self.journal.transaction(is_counted=False)

    def _reading(self) -> Any:
        return journal_errors(self.journal.path)

    def _remove(self) -> None:
        with suppress(FileNotFoundError):
            self.path.unlink()
