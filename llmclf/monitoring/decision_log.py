"""The log of decisions: a folder of small SQLite files, to which threads and processes append.

All decisions of one classifier (its classes, certificate and model) make one sequence, whose files are numbered. A file takes
rows until it is full or old; that it is closed is written into the file itself, in a transaction, so nobody adds rows to it once
the next one has some, and the order of rows is the same for every reader. A decision's id is its key: one id is one row of a
file, so that an audited label means one decision.
"""

from __future__ import annotations

import json
import os
import re
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from ..checks import check_whole_number, is_finite_number
from ..errors import InputError, StoreError
from ..files.faults import address_fault, folder_fault
from ..files.ownership import SIDE_FILES, foreign_fault, make_folder
from ..files.sqlite_faults import sqlite_fault
from ..files.sqlite_transactions import transaction
from ..tables.values import plain
from .decisions import DecisionColumns, DecisionRecord, Stored, columns_of, joined, stored

_APPLICATION_ID = 0x6C6C6D64  # "llmd": tells a log from any other SQLite file
_FORMAT = 2
_NAME = re.compile(r"([0-9a-f]{12})-([0-9]{6,})\.sqlite")
_OLD = "clients chose the ids of its decisions, so that an audited label could mean several"
_BUSY_SECONDS = 30.0
_CHUNK = 4096  # rows read at once
_OTHER_COLUMNS = "time, label, probabilities, accepted, label_mass, undecided, error"
_COLUMNS = f"id, {_OTHER_COLUMNS}"
_MOST_MARKS = 500  # of a query
_TABLES = f"""
CREATE TABLE IF NOT EXISTS header (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS decisions (n INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, {_OTHER_COLUMNS});
"""


class LogPosition(NamedTuple):
    """How far a log has been read.

    Attributes
    ----------
    file : int
        The number of the file.
    row : int
        The number of the last row of it that was read.
    """

    file: int = 0
    row: int = 0


class DecisionLog:
    """Decisions of one classifier, kept in a folder that threads and processes may append to at once.

    What `append` has returned for outlives the process, however it ends; a loss of power may take the last moments, and damages
    nothing. Several classifiers may share a folder: each has files of its own.

    Parameters
    ----------
    folder : path
        Made when missing, readable by its owner alone.
    classes : sequence
        In the order of the probabilities: str, int, float or bool.
    certificate : str or None
        The id of the certificate under which the decisions are made.
    model : str
        What names the model that answers, such as the hash of its identity.
    max_rows : int
        A file takes no more rows than this, but for the last batch, which is not torn apart.
    max_age : float or None
        Seconds after which a file takes no more rows.
    max_files : int or None
        The oldest files go when there are more. None keeps all, as tests with audited labels need the audited rows.
    busy_seconds : float
        For which a lock of another process is waited for, before a write fails.

    Raises
    ------
    InputError
        An argument cannot be used.
    StoreError
        The folder cannot be written, or another user could have written its files, see `llmclf.files.ownership`.

    Examples
    --------
    >>> import tempfile
    >>> log = DecisionLog(tempfile.mkdtemp(), classes=["praise", "complaint"], certificate="4f1c", model="smollm2")
    >>> log.append([DecisionRecord("r1:0", 1.7e9, "praise", (0.9, 0.1), accepted=True)])
    >>> log.read().probabilities.tolist()
    [[0.9, 0.1]]
    >>> log.close()
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        classes: Sequence[Any],
        certificate: str | None,
        model: str,
        max_rows: int = 100_000,
        max_age: float | None = None,
        max_files: int | None = None,
        busy_seconds: float = _BUSY_SECONDS,
    ) -> None:
        self.folder = _checked_folder(folder)
        self.classes = tuple(plain(one, "the class") for one in classes)
        self.certificate = certificate
        self.model = model
        self.max_rows = check_whole_number("max_rows", max_rows, 1)
        self.max_files = None if max_files is None else check_whole_number("max_files", max_files, 1)
        if max_age is not None and (not is_finite_number(max_age) or max_age <= 0):
            raise InputError(f"max_age={max_age!r}; expected a positive number of seconds, or None")
        if not is_finite_number(busy_seconds) or busy_seconds < 0:
            raise InputError(f"busy_seconds={busy_seconds!r}; expected a number of seconds, at least 0")
        self.max_age = max_age
        self.busy_seconds = busy_seconds
        for name, value in (("certificate", certificate), ("model", model)):
            if not isinstance(value, str) and not (value is None and name == "certificate"):
                raise InputError(f"{name}={value!r}; expected a text")
        self._places = {one: column for column, one in enumerate(self.classes)}
        if len(self._places) != len(self.classes) or len(self.classes) < 2:
            raise InputError(f"classes={list(classes)!r}; expected at least two different classes")
        self._header = json.dumps({"classes": self.classes, "certificate": certificate, "model": model}, sort_keys=True)
        self.stream = sha256(self._header.encode()).hexdigest()[:12]
        """Begins the names of this classifier's files."""
        # By process: what is open in a parent is never touched by its child.
        self._open_files: dict[int, _OpenFile] = {}
        try:
            make_folder(self.folder)
        except OSError as error:
            raise StoreError(
                f"the decision log {str(self.folder)!r} cannot be made ({error}); give another path"
            ) from error

    def __repr__(self) -> str:
        return f"DecisionLog({str(self.folder)!r}, certificate={self.certificate!r}, model={self.model!r})"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open_files": {}}

    def __enter__(self) -> DecisionLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def append(self, records: Iterable[DecisionRecord]) -> None:
        """Add decisions in one transaction: all of them, or none if the process dies meanwhile.

        Raises
        ------
        InputError
            One of them cannot be kept, or has the id of another one in the same file; then none is.
        StoreError
            The log cannot be written; then none is, and they may be appended again.
        """
        rows = [stored(record, self._places) for record in records]
        if not rows:
            return
        open_file = self._open_files.setdefault(os.getpid(), _OpenFile())
        with open_file.lock:
            while not self._append_to(open_file, rows):
                pass

    def open(self) -> None:
        """Open the file that takes the next rows, and make it if there is none, so that readers find a log without rows.

        Raises
        ------
        StoreError
            The log cannot be written.
        """
        open_file = self._open_files.setdefault(os.getpid(), _OpenFile())
        with open_file.lock:
            if open_file.connection is None:
                self._open_last(open_file)

    def read(self, since: float | None = None) -> DecisionColumns:
        """All decisions, or those made at or after a time in seconds since 1970, in the order in which they were logged."""
        parts = [part if since is None else part.take(part.times >= since) for part, _ in self.chunks()]
        return joined(parts, len(self.classes))

    def chunks(self, after: LogPosition | None = None) -> Iterator[tuple[DecisionColumns, LogPosition]]:
        """Decisions in blocks of some thousand rows, each with the position after it, so that a reader can go on from there."""
        first, last_row = after or LogPosition()
        files = self.files()
        if files and files[-1][0] < first:
            first, last_row = 0, 0  # somebody has removed all files, and the log has begun anew
        for number, path in files:
            if number < first:
                continue
            row = last_row if number == first else 0
            while True:
                with self._reading(path) as connection:
                    rows = connection.execute(
                        f"SELECT {_COLUMNS}, n FROM decisions WHERE n > ? ORDER BY n LIMIT ?", [row, _CHUNK]
                    ).fetchall()
                if not rows:
                    break
                row = rows[-1][-1]
                yield columns_of([line[:-1] for line in rows], len(self.classes)), LogPosition(number, row)

    def find(self, ids: Sequence[str]) -> DecisionColumns:
        """The decisions of some ids, in the order in which they were logged: none or one of each id in each file."""
        parts = []
        for _, path in self.files():
            with self._reading(path) as connection:
                rows = _rows_of(connection, ids, f"{_COLUMNS}, n")
            rows.sort(key=lambda line: line[-1])
            parts.append(columns_of([line[:-1] for line in rows], len(self.classes)))
        return joined(parts, len(self.classes))

    def n_rows(self) -> int:
        """How many decisions the log has."""
        total = 0
        for _, path in self.files():
            with self._reading(path) as connection:
                total += connection.execute("SELECT coalesce(max(n), 0) FROM decisions").fetchone()[0]
        return total

    def files(self) -> list[tuple[int, Path]]:
        """The number and the path of each file of this classifier, in order."""
        return [(number, path) for stream, number, path in _files_of(self.folder) if stream == self.stream]

    def close(self) -> None:
        """Nothing of it stays open in this process; appending again opens it again."""
        open_file = self._open_files.pop(os.getpid(), None)
        if open_file is not None:
            with open_file.lock:
                open_file.close()

    def _append_to(self, open_file: _OpenFile, rows: Sequence[Stored]) -> bool:
        """Add rows to the file that is open; False if it takes no more, and the next one was opened."""
        if open_file.connection is None:
            self._open_last(open_file)
        path = self._path(open_file.number)
        with _faults(path):
            connection = open_file.connection
            assert connection is not None
            try:
                with transaction(connection, immediate=True) as run:
                    is_closed = self._is_closed(run)
                    if not is_closed:
                        run.executemany(f"INSERT INTO decisions ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
            except sqlite3.IntegrityError:
                raise _repeated(connection, [row[0] for row in rows], path) from None
            if not is_closed and path.exists():
                return True
        # The file takes no more rows; or somebody has removed it under us: what was written went with it, and goes into a new
        # one, which has another number, so that readers of the removed one notice it. The number is raised first: it counts even
        # if the new file cannot be made now.
        open_file.number += 1
        self._open(open_file, open_file.number)
        self._drop_oldest()
        return False

    def _open_last(self, open_file: _OpenFile) -> None:
        known = self.files()
        self._open(open_file, max(known[-1][0] if known else 1, open_file.number))

    def _is_closed(self, run: sqlite3.Connection) -> bool:
        """Whether a file takes no more rows; if it is full or old, it is closed for all from now on."""
        header = dict(run.execute("SELECT key, value FROM header WHERE key IN ('closed', 'created')"))
        if "closed" in header:
            return True
        (n_rows,) = run.execute("SELECT coalesce(max(n), 0) FROM decisions").fetchone()
        is_old = self.max_age is not None and n_rows and time.time() - float(header["created"]) > self.max_age
        if n_rows < self.max_rows and not is_old:
            return False
        run.execute("INSERT INTO header VALUES ('closed', ?)", [repr(time.time())])
        return True

    def _open(self, open_file: _OpenFile, number: int) -> None:
        open_file.close()
        path = self._path(number)
        _refuse_foreign(path)
        try:
            # Made here, not by SQLite, so that at no time others may read it.
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        except OSError as error:
            raise StoreError(
                f"the decision log {str(self.folder)!r} cannot be written ({error}); give another folder"
            ) from error
        with _faults(path):
            # The lock of this process orders its threads.
            connection = sqlite3.connect(path, timeout=self.busy_seconds, isolation_level=None, check_same_thread=False)
            try:
                self._prepare(connection, path)
            except BaseException:
                connection.close()
                raise
        open_file.connection, open_file.number = connection, number

    def _prepare(self, connection: sqlite3.Connection, path: Path) -> None:
        # Write-ahead logging lets readers continue while another process writes. While others are at work in the file it cannot
        # be switched on; then the next process does it.
        with suppress(sqlite3.OperationalError):
            connection.execute("PRAGMA journal_mode=WAL")
        (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
        # With write-ahead logging a loss of power takes the last commits at most; without, it could damage the file.
        connection.execute(f"PRAGMA synchronous={'NORMAL' if mode == 'wal' else 'FULL'}")
        # One transaction: of several processes that find a new file, one makes it and the others see it whole.
        with transaction(connection, immediate=True) as run:
            if not run.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                for statement in filter(str.strip, _TABLES.split(";")):
                    run.execute(statement)
                run.execute(f"PRAGMA application_id={_APPLICATION_ID}")
                run.execute(f"PRAGMA user_version={_FORMAT}")
                run.executemany(
                    "INSERT INTO header VALUES (?, ?)", [("header", self._header), ("created", repr(time.time()))]
                )
        _check_header(connection, path, self._header)

    def _drop_oldest(self) -> None:
        if self.max_files is None:
            return
        for _, path in self.files()[: -self.max_files]:
            for suffix in ("", *SIDE_FILES):
                with suppress(OSError):
                    path.with_name(path.name + suffix).unlink()

    @contextmanager
    def _reading(self, path: Path) -> Iterator[sqlite3.Connection]:
        _refuse_foreign(path)
        with _faults(path):
            connection = _connected(path)
            try:
                # A damaged text does not stop the work.
                connection.text_factory = lambda value: value.decode("utf-8", "replace")
                if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                    _check_header(connection, path, self._header)
                else:
                    # Its maker has not come to write anything, or it is gone.
                    connection.execute(f"CREATE TEMP TABLE decisions (n INTEGER PRIMARY KEY, {_COLUMNS})")
                yield connection
            finally:
                connection.close()

    def _path(self, number: int) -> Path:
        return self.folder / f"{self.stream}-{number:06d}.sqlite"


def logs_in(folder: str | os.PathLike[str]) -> list[DecisionLog]:
    """The logs of a folder: one per classifier, in the order of their first files; none where the folder is empty.

    Raises
    ------
    InputError
        There is no such folder, or it has files and none of them is a log's.
    StoreError
        A file of it is damaged.
    """
    path = _checked_folder(folder)
    fault = folder_fault(path)
    if fault is not None:
        raise InputError(f"the decision log {str(path)!r} {fault}")
    first: dict[str, Mapping[str, Any]] = {}
    created: dict[str, float] = {}
    files = _files_of(path)
    if not files and any(path.iterdir()):
        raise InputError(
            f"{str(path)!r} holds no decision log; give the folder that llmclf serve --log writes, or a table of llmclf label"
        )
    for stream, _, file in files:
        if stream in first:
            continue
        _refuse_foreign(file)
        with _faults(file):
            connection = _connected(file)
            try:
                if not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                    continue
                header = _check_header(connection, file, None)
            finally:
                connection.close()
        first[stream], created[stream] = header["header"], header["created"]
    order = sorted(first, key=created.__getitem__)
    logs = [DecisionLog(path, **first[stream]) for stream in order]
    for stream, log in zip(order, logs, strict=True):
        if stream != log.stream:
            raise StoreError(f"a file {stream}-*.sqlite in {str(path)!r} is damaged, or was renamed")
    return logs


class _OpenFile:
    """The file to which a process appends."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.connection: sqlite3.Connection | None = None
        self.number = 0

    def close(self) -> None:
        if self.connection is not None:
            self.connection.close()
        self.connection = None


def _checked_folder(folder: Any) -> Path:
    if not isinstance(folder, (str, os.PathLike)) or not os.fspath(folder):
        raise InputError(f"folder={folder!r}; expected the path of a folder for the decision log")
    fault = address_fault(folder)
    if fault is not None:
        raise InputError(f"the decision log {os.fspath(folder)!r} {fault}")
    path = Path(folder).expanduser()
    if path.exists() and not path.is_dir():
        raise InputError(f"the decision log {str(path)!r} is a file; give the path of a folder")
    return path


def _connected(path: Path) -> sqlite3.Connection:
    """A file to be read; if somebody has removed it, an empty one in its place, and not on the disk, as SQLite would make it."""
    try:
        return sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=_BUSY_SECONDS, isolation_level=None
        )
    except sqlite3.OperationalError:
        if path.exists():
            raise
        return sqlite3.connect(":memory:", isolation_level=None)


def _rows_of(connection: sqlite3.Connection, ids: Sequence[str], columns: str) -> list[Any]:
    """Some columns of the rows of a file that have one of these ids."""
    rows: list[Any] = []
    for start in range(0, len(ids), _MOST_MARKS):
        part = list(ids[start : start + _MOST_MARKS])
        marks = ",".join("?" * len(part))
        rows += connection.execute(f"SELECT {columns} FROM decisions WHERE id IN ({marks})", part).fetchall()
    return rows


def _repeated(connection: sqlite3.Connection, ids: Sequence[str], path: Path) -> InputError:
    """That one of these ids is there already, or twice among them."""
    known = {row[0] for row in _rows_of(connection, ids, "id")}
    one = next((one for one in ids if one in known), None) or Counter(ids).most_common(1)[0][0]
    return InputError(
        f"id={one!r} is that of another decision in {str(path)!r}; give each decision an id of its own, as audited labels name "
        "it by that"
    )


def _files_of(folder: Path) -> list[tuple[str, int, Path]]:
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    matches = [(match, folder / match[0]) for match in map(_NAME.fullmatch, names) if match is not None]
    return sorted((match[1], int(match[2]), path) for match, path in matches)


def _check_header(connection: sqlite3.Connection, path: Path, expected: str | None) -> dict[str, Any]:
    """What a file says of itself.

    Raises
    ------
    StoreError
        It is another program's, of another format, or of another classifier.
    """
    (owner,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if owner != _APPLICATION_ID:
        raise StoreError(
            f"{str(path)!r} is a database of another program; move it out of the folder of the decision log"
        )
    if version != _FORMAT:
        cure = "update llmclf" if version > _FORMAT else f"{_OLD}; move it away, or give another folder"
        raise StoreError(
            f"the decision log {str(path)!r} has format {version}, and this version reads {_FORMAT}: {cure}"
        )
    values = dict(connection.execute("SELECT key, value FROM header"))
    try:
        header, created = json.loads(values["header"]), float(values["created"])
        if set(header) != {"classes", "certificate", "model"} or not isinstance(header["classes"], list):
            raise ValueError("other keys")
    except (KeyError, TypeError, ValueError, RecursionError):
        raise StoreError(
            f"the decision log {str(path)!r} is damaged: its header cannot be read; move the file away"
        ) from None
    if expected is not None and values["header"] != expected:
        raise StoreError(f"the decision log {str(path)!r} belongs to another classifier; move the file away")
    return {"header": header, "created": created}


def _refuse_foreign(path: Path) -> None:
    fault = foreign_fault(path)
    if fault is not None:
        raise StoreError(f"the decision log {str(path)!r} {fault}")


@contextmanager
def _faults(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise StoreError(f"the decision log {str(path)!r} {sqlite_fault(error)}") from error
