"""What a journal has promised to be on the disk, noted beside it, so that a loss shows.

SQLite's write-ahead log (``-wal``) holds the latest answers of a run until they are copied into the journal itself. Replaying it,
SQLite ends silently at the first page that is not whole: what a cut, a flipped bit or a lost log took away looks like an earlier
state. So each transaction counts itself in the journal, and once it is on the disk the count is written here, a few bytes in one
place. A count here that is above the journal's says that transactions are missing. It is never below by more than the
transaction under way, but after a loss of power, which may take the last seconds of it.
"""

from __future__ import annotations

import os
import struct
import zlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ...errors import StoreError

SUFFIX = "-commits"
_MAGIC = b"llmclfj1"
_FIELDS, _SUM = struct.Struct("<8s16sQQ"), struct.Struct("<I")
_SIZE = _FIELDS.size + _SUM.size


@dataclass(frozen=True)
class Promise:
    """What was on the disk.

    Attributes
    ----------
    commits : int
        Transactions.
    answers : int
        The number of the last answer; they are numbered from 1.
    """

    commits: int = 0
    answers: int = 0


def record_path(journal: Path) -> Path:
    """Where the record of a journal is."""
    return journal.with_name(journal.name + SUFFIX)


def read_record(journal: Path, name: str) -> Promise | None:
    """What was promised in a journal of some name; None where the record is missing, damaged, or another journal's."""
    try:
        with record_path(journal).open("rb") as stream:
            data = stream.read(_SIZE + 1)
    except OSError:
        return None
    if len(data) != _SIZE or _SUM.unpack(data[_FIELDS.size :])[0] != zlib.crc32(data[: _FIELDS.size]):
        return None
    magic, whose, commits, answers = _FIELDS.unpack(data[: _FIELDS.size])
    return Promise(commits, answers) if magic == _MAGIC and whose == _name(name) else None


class CommitRecord:
    """The record of a journal that is written.

    Parameters
    ----------
    journal : path
    name : str
        The journal's random name: a record that was left behind by another one at the same path means nothing.
    promise : Promise
        What is on the disk already.

    Examples
    --------
    >>> import tempfile
    >>> journal = Path(tempfile.mkdtemp()) / "labels.journal"
    >>> record = CommitRecord(journal, "a1b2", Promise())
    >>> record.write(Promise(commits=1, answers=64))
    >>> read_record(journal, "a1b2")
    Promise(commits=1, answers=64)
    >>> record.close(remove=True)
    """

    def __init__(self, journal: Path, name: str, promise: Promise) -> None:
        self._name = _name(name)
        self.path = record_path(journal)
        try:
            self._file = os.open(self.path, os.O_CREAT | os.O_RDWR | getattr(os, "O_NOFOLLOW", 0), 0o600)
        except OSError as error:
            raise StoreError(f"{str(self.path)!r} cannot be written: {error}; remove it if it is not a file") from error
        self.write(promise)
        # From now on the journal says that there is a record.
        os.ftruncate(self._file, _SIZE)
        os.fsync(self._file)
        with suppress(OSError):  # not every system can
            folder = os.open(self.path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def write(self, promise: Promise) -> None:
        """Note what is on the disk now."""
        fields = _FIELDS.pack(_MAGIC, self._name, promise.commits, promise.answers)
        data = fields + _SUM.pack(zlib.crc32(fields))
        try:
            os.lseek(self._file, 0, os.SEEK_SET)
            os.write(self._file, data)
        except OSError as error:
            raise StoreError(f"{str(self.path)!r} cannot be written: {error}; make room on its disk") from error

    def close(self, *, remove: bool) -> None:
        """Nothing more is written; and the record goes where nothing is left to be lost."""
        os.close(self._file)
        if remove:
            with suppress(OSError):
                self.path.unlink()


def _name(name: str) -> bytes:
    return name.encode("ascii", "replace")[:16].ljust(16, b"\0")
