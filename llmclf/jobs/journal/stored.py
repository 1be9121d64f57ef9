"""A journal as it lies on the disk: read without a change to it, and believed only if nothing of it is missing."""

from __future__ import annotations

import json
import os
import shlex
import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from ...atomic_files import refuse_address
from ...backends.model_names import ModelName
from ...errors import InputError, StoreError
from ...files.faults import file_fault
from ...files.ownership import SIDE_FILES, foreign_fault
from ...files.sqlite_faults import is_damage, sqlite_fault
from .commit_record import SUFFIX, read_record

APPLICATION_ID = 0x6C6C6D6A  # "llmj": tells a journal from any other SQLite file
FORMAT = 1
PLAN = "-plan"  # what a plan's file ends with, after the journal's name
COMMITS, IS_OPEN = "commits", "open"  # in the table meta: transactions so far, and whether a run has not ended in order

MODEL, ACCEPTS, OUTPUTS = "model", "accepts_model_change", "outputs"  # there, too
ANSWERED_BY = "answered_by"  # the server's own name for the model, in an identity


def refuse_foreign(path: Path) -> None:
    """Refuse a journal that another user could have written; see `llmclf.files.ownership`.

    Raises
    ------
    StoreError
    """
    fault = foreign_fault(path, side_files=(*SIDE_FILES, SUFFIX, PLAN))
    if fault is not None:
        raise StoreError(f"the journal {str(path)!r} {fault}; or give another path (--journal)")


def path_of_new(output: str | os.PathLike[str]) -> Path:
    """Where a journal is to be made of others.

    Raises
    ------
    InputError
        It is an address, or there is something already.
    """
    refuse_address(output)
    target = Path(output).expanduser()
    if target.exists() or target.is_symlink():
        raise InputError(f"{str(output)!r} exists already; give the path of a new journal (-o)")
    return target


@contextmanager
def journal_errors(path: Path) -> Iterator[None]:
    """Errors of SQLite as errors of the journal, with the cure."""
    try:
        yield
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_NOTADB:
            raise StoreError(
                f"{str(path)!r} is not a journal, or its beginning is damaged ({error}); give another path, or try: "
                f"{_salvage(path)}"
            ) from error
        if is_damage(error):
            raise damage(path, str(error)) from error
        raise StoreError(f"the journal {str(path)!r} {sqlite_fault(error)}") from error


def damage(path: Path, what: str) -> StoreError:
    """The error of a journal that does not hold what was written."""
    return StoreError(
        f"the journal {str(path)!r} is damaged ({what}); keep what can be read of it: {_salvage(path)}, and go on with NEW "
        "(--journal NEW --resume)"
    )


def _salvage(path: Path) -> str:
    return f"llmclf journal salvage {shlex.quote(str(path))} -o NEW"


def as_text(data: bytes) -> str:
    """A text of the journal; a damaged one does not stop the reading."""
    return data.decode("utf-8", "replace")


@contextmanager
def opened_to_read(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection that changes nothing: what a killed run has left in the log beside the journal is read, and stays there.

    Raises
    ------
    StoreError
        Another process is at work in the journal, or it cannot be opened.
    """
    log, index = (path.with_name(path.name + suffix) for suffix in ("-wal", "-shm"))
    had_index = index.exists()
    # Without a log there is nothing to be read but the file itself, and SQLite would make one.
    mode = "mode=ro" if log.exists() else "mode=ro&immutable=1"
    try:
        with (
            journal_errors(path),
            closing(
                sqlite3.connect(
                    f"{path.absolute().as_uri()}?{mode}",
                    uri=True,
                    timeout=0,
                    isolation_level=None,
                    check_same_thread=False,
                )
            ) as connection,
        ):
            connection.text_factory = as_text
            yield connection
    finally:
        if not had_index:
            with suppress(OSError):
                index.unlink()


@contextmanager
def read_stored(path: Path) -> Iterator[sqlite3.Connection | None]:
    """A connection to a journal that is whole; None where nothing was written yet.

    Raises
    ------
    StoreError
        The file is something else, could have been written by another user, is in use or damaged, or answers are missing that
        were on the disk.
    """
    refuse_foreign(path)
    fault = file_fault(path) if not path.is_file() or path.stat().st_size else None
    if fault is not None:
        raise StoreError(f"the journal {str(path)!r} {fault}; or give another path (--journal)")
    if not path.stat().st_size:
        yield None
        return
    with opened_to_read(path) as connection:
        yield connection if _is_whole(connection, path) else None


def _is_whole(connection: sqlite3.Connection, path: Path) -> bool:
    """Whether there is a journal in a file, all of it."""
    (owner,) = connection.execute("PRAGMA application_id").fetchone()
    (n_tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if owner != APPLICATION_ID:
        if n_tables:
            raise StoreError(f"{str(path)!r} is a database of another program; give another path")
        return False
    written_by = meta(connection, path, "format")
    if written_by != FORMAT:
        raise StoreError(
            f"the journal {str(path)!r} is of format {written_by!r}, and this version of llmclf reads {FORMAT}; go on with the "
            "version that wrote it, or give another path (--journal)"
        )
    (state,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if state != "ok":
        raise damage(path, " ".join(str(state).split())[:200])
    _check_promise(connection, path)
    return True


def _check_promise(connection: sqlite3.Connection, path: Path) -> None:
    """Refuse a journal that lacks what was on the disk."""
    promise = read_record(path, str(meta(connection, path, "name")))
    if promise is None:
        if meta(connection, path, IS_OPEN):
            raise damage(
                path,
                f"its last run did not end in order, and {path.name}{SUFFIX}, which says how much was answered, is missing or "
                f"damaged: if you have moved the journal, move {path.name}-wal and {path.name}{SUFFIX} along with it",
            )
        return
    commits = meta(connection, path, COMMITS) or 0
    if not isinstance(commits, int) or commits < promise.commits:
        (last,) = connection.execute("SELECT coalesce(max(n), 0) FROM answers").fetchone()
        raise damage(
            path,
            f"{max(promise.answers - last, 0)} answers that were on the disk are missing, since {path.name}-wal was removed, cut "
            "or changed: put it back if you have it",
        )


def meta(connection: sqlite3.Connection, path: Path, name: str) -> Any:
    """A value of the table meta; None where there is none.

    Raises
    ------
    StoreError
        It is damaged.
    """
    text = _text_of(connection, path, name)
    try:
        return None if text is None else json.loads(text)
    except (ValueError, RecursionError) as error:
        raise damage(path, f"its {name} cannot be read") from error


def runs(connection: sqlite3.Connection, path: Path) -> list[tuple[float, float | None, float]]:
    """When each run began and ended (seconds since 1970; None for one that was killed, or is under way), and its cost."""
    with journal_errors(path):
        rows = connection.execute("SELECT started, ended, usage FROM runs ORDER BY run").fetchall()
    read = []
    for started, ended, usage in rows:
        try:
            cost = json.loads(usage).get("cost") or 0.0
            read.append((float(started), None if ended is None else float(ended), float(cost)))
        except (AttributeError, TypeError, ValueError, RecursionError) as error:
            raise damage(path, "what its runs have used cannot be read") from error
    return read


def facts(connection: sqlite3.Connection, path: Path, what: str) -> dict[str, Any] | None:
    """What a journal says of its job (``"fingerprint"``) or of the model (``"identity"``), checked; None where it does not say.

    Raises
    ------
    StoreError
        It is damaged.
    """
    text = _text_of(connection, path, what)
    if text is None:
        return None
    stated = meta(connection, path, f"{what} checksum")  # absent in journals of earlier versions
    values = meta(connection, path, what)
    if not isinstance(values, dict) or stated not in (None, checksum(what, text)):
        raise damage(path, f"its {what} cannot be read")
    return values


def model_of(connection: sqlite3.Connection, path: Path) -> ModelName | None:
    """What the server said of the model that answered first; None where nothing is known."""
    stored = meta(connection, path, MODEL)
    if stored is None:
        answered_by = (facts(connection, path, "identity") or {}).get(ANSWERED_BY)
        return ModelName(answered_by) if isinstance(answered_by, str) and answered_by else None
    if not (isinstance(stored, list) and len(stored) == 2 and all(isinstance(one, str | None) for one in stored)):
        raise damage(path, "what it says of the model cannot be read")
    return ModelName(*stored)


def checksum(what: str, text: str) -> int:
    """What shows that facts are whole; see `facts`."""
    return zlib.crc32(f"{what}\n{text}".encode("utf-8", "replace"))


def _text_of(connection: sqlite3.Connection, path: Path, name: str) -> str | None:
    with journal_errors(path):
        row = connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
    return None if row is None else str(row[0])
