"""What can be read of a damaged journal, in a new one."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...backends.model_names import ModelName
from ...backends.openai.batches.store import BatchStore
from ...errors import InputError, StoreError
from .answer_codec import is_whole
from .commit_record import read_record
from .inspection import is_kept
from .journal import Journal, insert_rows
from .raw_pages import INDEX_LEAF, TABLE_LEAF, RawPages
from .stored import ACCEPTS, checksum, facts, meta, model_of, opened_to_read, path_of_new, refuse_foreign, runs

_FACTS = ("fingerprint", "identity")
_BATCHES = ("batch_facts", "batch_batches", "batch_requests", "batch_replies")


@dataclass(frozen=True)
class Salvaged:
    """What `salvage_journal` has kept.

    Attributes
    ----------
    output : str
        The new journal.
    answers : int
        Answers kept; each is whole by its own checksum.
    failed : int
        Errors kept, where the file's structure is sound. Elsewhere they have nothing that shows that they are whole; such rows
        are asked again.
    missing : int
        Answers that were in the journal, as far as that can be seen, and could not be read.
    cost : float or None
        Of the earlier runs, which the new journal goes on counting from; None where it could not be read.
    """

    output: str
    answers: int
    failed: int
    missing: int
    cost: float | None


def salvage_journal(path: str | os.PathLike[str], output: str | os.PathLike[str]) -> Salvaged:
    """Copy what can be read of a damaged journal into a new one, with which the job can go on (``resume=True``).

    Every page of the file, and of the log beside it, is looked at, whether SQLite still finds it or not. An answer is kept only
    if its checksum, which also covers the key of its row, is right: nothing is repaired or guessed. The damaged journal stays as
    it is.

    Parameters
    ----------
    path : path
    output : path
        Must not exist yet.

    Returns
    -------
    Salvaged

    Raises
    ------
    InputError
        There is no journal, or there is something at `output`.
    StoreError
        It could have been written by another user, or nothing tells which job its answers belong to.
    """
    source = Path(path).expanduser()
    if not source.is_file():
        raise InputError(f"{str(path)!r} is not a file; give the path of a job's journal (OUTPUT.journal)")
    target = path_of_new(output)
    refuse_foreign(source)
    with tempfile.TemporaryDirectory(prefix="llmclf-salvage-") as name:
        # What is read is a copy, so that neither SQLite nor a run that goes on changes what there is to be read.
        copy = Path(name) / source.name
        for suffix in ("", "-wal", "-commits"):
            with suppress(FileNotFoundError):
                shutil.copyfile(f"{source}{suffix}", f"{copy}{suffix}")
        return _salvage(copy, source, target)


def _salvage(copy: Path, source: Path, target: Path) -> Salvaged:
    pages = RawPages(copy, copy.with_name(copy.name + "-wal"))
    with closing(sqlite3.connect(copy.with_name("kept"), isolation_level=None)) as kept:
        kept.execute("PRAGMA synchronous = OFF")
        kept.execute("CREATE TABLE answers (n INTEGER PRIMARY KEY, key, value, error)")
        known = _Known(pages)
        kept.execute("BEGIN")
        kept.executemany("INSERT OR REPLACE INTO answers VALUES (?, ?, ?, NULL)", _whole_answers(pages))
        with suppress(StoreError), opened_to_read(copy) as connection:
            known.read(connection, copy, kept)
        kept.execute("COMMIT")
        if known.facts.get("fingerprint") is None:
            raise StoreError(
                f"nothing can be kept of {str(source)!r}: what says to which job its answers belong (the fingerprint) is "
                "damaged, or it is no journal; if there is another copy of it, try that"
            )
        n_answers, n_failed, last = kept.execute(
            "SELECT count(*) - count(error), count(error), max(n) FROM answers"
        ).fetchone()
        promise = None if known.name is None else read_record(copy, known.name)
        last = max(last or 0, known.last, 0 if promise is None else promise.answers)
        with Journal(target) as journal:
            journal.begin(known.facts["fingerprint"])
            if known.facts.get("identity") is not None:
                journal.meet(known.facts["identity"], known.model, accepts_change=known.names_models)
            journal.adopt(kept.execute("SELECT key, value, error FROM answers ORDER BY n"), known.runs or ())
            if any(known.batches.values()):
                BatchStore(journal.connection)  # makes the tables
                with journal.transaction():
                    for table, rows in known.batches.items():
                        insert_rows(journal.connection, table, rows)
    return Salvaged(
        output=str(target),
        answers=n_answers,
        failed=n_failed,
        missing=last - n_answers - n_failed,
        cost=None if known.runs is None else sum(cost for *_, cost in known.runs),
    )


class _Known:
    """What SQLite finds in a damaged journal, and what of the job can be read without it.

    Attributes
    ----------
    is_sound : bool
        The structure of the file is whole.
    name : str or None
    facts : dict
    last : int
        The largest number of an answer that SQLite still finds.
    model : ModelName or None
    names_models : bool
        What a server said of the model, and whether answers say which model gave them.
    runs : list or None
    batches : dict of str to list of tuples
        The rows of the tables of open batches.
    """

    def __init__(self, pages: RawPages) -> None:
        self.is_sound = False
        self.name: str | None = None
        self.facts: dict[str, dict[str, Any]] = {}
        self.last = 0
        self.model: ModelName | None = None
        self.runs: list[tuple[float, float | None, float]] | None = None
        self.batches: dict[str, list[tuple[Any, ...]]] = {}
        texts: dict[str, set[str]] = {}
        for _, values in pages.records(INDEX_LEAF):
            if len(values) == 2 and isinstance(values[0], bytes) and isinstance(values[1], bytes):
                texts.setdefault(_text(values[0]), set()).add(_text(values[1]))
        self.names_models = "true" in texts.get(ACCEPTS, ())
        for what in _FACTS:
            sums = texts.get(f"{what} checksum", set())
            whole = [text for text in texts.get(what, ()) if str(checksum(what, text)) in sums]
            if whole:
                self.facts[what] = json.loads(whole[0])

    def read(self, connection: sqlite3.Connection, path: Path, kept: sqlite3.Connection) -> None:
        """Read what SQLite can, each part by itself, and keep the answers that are whole."""
        with suppress(sqlite3.Error):
            self.is_sound = connection.execute("PRAGMA quick_check(1)").fetchone() == ("ok",)
        with suppress(StoreError):
            self.name = str(meta(connection, path, "name"))
        for what in _FACTS:
            with suppress(StoreError):
                found = facts(connection, path, what)
                if found is not None:
                    self.facts[what] = found
        with suppress(sqlite3.Error):
            for n, key, value, error in connection.execute("SELECT n, key, value, error FROM answers ORDER BY n"):
                self.last = max(self.last, n)
                if is_kept(key, value, error, is_sound=self.is_sound):
                    kept.execute("INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?)", (n, key, value, error))
        with suppress(StoreError):
            self.model = model_of(connection, path)
            self.names_models = bool(meta(connection, path, ACCEPTS))
        with suppress(StoreError):
            self.runs = runs(connection, path)
        # Nothing shows whether a row of these is whole but that all of the file is.
        for table in _BATCHES if self.is_sound else ():
            with suppress(sqlite3.Error):
                self.batches[table] = connection.execute(f"SELECT * FROM {table}").fetchall()


def _whole_answers(pages: RawPages) -> Iterator[tuple[int, bytes, bytes]]:
    for n, values in pages.records(TABLE_LEAF):
        if len(values) == 4 and values[0] is None and values[3] is None and is_whole(values[1], values[2]):
            yield n, values[1], values[2]


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")
