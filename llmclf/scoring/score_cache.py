"""The score cache: answers of a model, kept in SQLite, so that no text is asked twice.

A key is the SHA-256 of the canonical JSON of everything the answer depends on: the version of the scores, the model's
identity, the prompt piece by piece, what a chat template writes around it, the completions, the terminator and what is done to
the logits. A value is the JSON of the token log-probabilities with a checksum. Nothing is ever unpickled, and a row that cannot
be read is asked again.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

from ..backends.base import SCORE_VERSION, Request, RowScores
from ..errors import InputError, StoreError
from ..files.faults import file_fault
from ..prompts.rendered import RenderedPrompt

_SCHEMA = """
CREATE TABLE IF NOT EXISTS scores (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL,
    checksum TEXT NOT NULL,
    created REAL NOT NULL
) WITHOUT ROWID
"""
_APPLICATION_ID = 0x6C6C6D63  # "llmc": tells a score cache from any other SQLite file
_MAGIC = b"SQLite format 3\0"
_BUSY_SECONDS = 30.0


def request_key(identity: Mapping[str, Any], request: Request, frame: str | None = None) -> str:
    """The cache key of one request to one model.

    `frame` is what the model's chat template writes around the turns; None for plain text.

    Strings are kept code point by code point, and every part keeps its type and its place: ``("a|b", "c")`` and
    ``("a", "b|c")``, composed and decomposed accents, ``1`` and ``"1"`` all give different keys.
    """
    parts = {
        "version": SCORE_VERSION,
        "identity": identity,
        "turns": _turns(request.prompt),
        # Which part of a long prompt is shortened is not a part of its text.
        "text": [request.prompt.text_field, request.prompt.text_length],
        "completions": request.completions,
        "terminator": request.terminator,
    }
    if frame is not None:
        parts["frame"] = frame
    if request.processing is not None:
        without_row = request.processing.unconditional
        parts["processing"] = [request.processing.to_dict(), None if without_row is None else _turns(without_row)]
    return sha256(json.dumps(parts, sort_keys=True, ensure_ascii=True, separators=(",", ":")).encode()).hexdigest()


def _turns(prompt: RenderedPrompt) -> list[Any]:
    return [[turn.role, [[span.text, span.is_data] for span in turn.spans]] for turn in prompt.turns]


class ScoreCache:
    """A file of scores that several threads and processes may use at once.

    Parameters
    ----------
    path : path
        Made when missing, readable by its owner alone.

    Raises
    ------
    StoreError
        The file cannot be opened, or is something else than a score cache.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> cache = ScoreCache(pathlib.Path(tempfile.mkdtemp()) / "scores.sqlite")
    >>> cache.put([("key", RowScores(((-0.5,),)))])
    >>> cache.get(["key", "other"])["key"].sums
    (-0.5,)
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).expanduser()
        if self.path.exists() and (not self.path.is_file() or self.path.stat().st_size):
            fault = file_fault(self.path)
            if fault is not None:
                raise StoreError(
                    f"the score cache {str(self.path)!r} cannot be opened (it {fault}); give cache= another path"
                )
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # Made here, not by SQLite, so that at no time others may read it.
            os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
        except OSError as error:
            raise StoreError(
                f"the score cache {str(self.path)!r} cannot be opened ({error}); give cache= another path"
            ) from error
        with self.path.open("rb") as stream:
            start = stream.read(len(_MAGIC))
        if start not in (b"", _MAGIC):
            raise StoreError(f"{str(self.path)!r} is not a score cache; give cache= another path")
        with self._connect() as connection:
            self._prepare(connection)

    def get(self, keys: Sequence[str]) -> dict[str, RowScores]:
        """The scores that are known for some keys; a damaged row counts as unknown."""
        known: dict[str, RowScores] = {}
        with self._connect() as connection:
            for start in range(0, len(keys), 500):
                part = list(keys[start : start + 500])
                marks = ",".join("?" * len(part))
                query = f"SELECT key, value, checksum FROM scores WHERE key IN ({marks})"
                for key, value, checksum in connection.execute(query, part):
                    scores = _read(key, value, checksum)
                    if scores is not None:
                        known[key] = scores
        return known

    def put(self, items: Iterable[tuple[str, RowScores]]) -> None:
        """Store scores in one transaction: all of them, or none if the process dies meanwhile.

        Raises
        ------
        InputError
            A score is NaN or infinite; then nothing is stored.
        """
        now = time.time()
        rows = []
        for key, scores in items:
            try:
                value = json.dumps(scores.to_json(), separators=(",", ":"), allow_nan=False)
            except ValueError as error:
                raise InputError(f"{scores!r} cannot be kept: expected finite log-probabilities") from error
            rows.append((key, value, _checksum(key, value), now))
        with self._connect() as connection:
            connection.executemany("INSERT OR REPLACE INTO scores VALUES (?, ?, ?, ?)", rows)

    def info(self) -> dict[str, Any]:
        """Path, number of rows, bytes on disk, and times of the oldest and newest row (seconds since 1970, or None)."""
        with self._connect() as connection:
            n_rows, oldest, newest = connection.execute(
                "SELECT count(*), min(created), max(created) FROM scores"
            ).fetchone()
        return {
            "path": str(self.path),
            "rows": n_rows,
            "bytes": self.path.stat().st_size,
            "oldest": oldest,
            "newest": newest,
        }

    def clear(self) -> int:
        """Forget all scores and give the space back; returns how many there were."""
        with self._connect() as connection:
            removed = connection.execute("DELETE FROM scores").rowcount
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
            raise StoreError(
                f"the score cache {str(self.path)!r} cannot be used ({error}); if it is damaged, remove the file: "
                "it holds nothing that the model cannot answer again"
            ) from error

    def _prepare(self, connection: sqlite3.Connection) -> None:
        (owner,) = connection.execute("PRAGMA application_id").fetchone()
        if owner != _APPLICATION_ID:
            # One transaction: of several processes that find a new file, one makes it and the others see it whole.
            connection.execute("BEGIN IMMEDIATE")
            (owner,) = connection.execute("PRAGMA application_id").fetchone()
            (n_tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            if owner != _APPLICATION_ID and n_tables:
                raise StoreError(f"{str(self.path)!r} is a database of another program; give cache= another path")
            connection.execute(f"PRAGMA application_id={_APPLICATION_ID}")
            connection.execute(_SCHEMA)
            connection.commit()
        # Write-ahead logging lets readers continue while another process writes. It stays switched on in the file, but cannot be
        # switched on while others are at work in it; then the next process does it.
        with suppress(sqlite3.OperationalError):
            connection.execute("PRAGMA journal_mode=WAL")


def _checksum(key: str, value: str) -> str:
    return sha256(f"{key}\n{value}".encode()).hexdigest()[:16]


def _read(key: str, value: Any, checksum: Any) -> RowScores | None:
    if not isinstance(value, str) or checksum != _checksum(key, value):
        return None
    try:
        return RowScores.from_json(json.loads(value))
    except (ValueError, OverflowError, RecursionError):
        return None
