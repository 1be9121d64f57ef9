"""What an error of SQLite means to whoever gave the file, and the cure."""

from __future__ import annotations

import sqlite3

_LOCKED = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_READ_ONLY = (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM)
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_CODE = 0xFF  # the part of SQLite's codes that says what kind of failure it is


def sqlite_fault(error: sqlite3.Error) -> str:
    """An error in words, to be said after the file's name.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "labels.journal"
    >>> _ = path.write_text("no database, but as long as one " * 20)
    >>> try:
    ...     sqlite3.connect(path).execute("SELECT 1 FROM answers")
    ... except sqlite3.Error as error:
    ...     print(path.name, sqlite_fault(error))
    labels.journal is damaged, or was written by another program (file is not a database)
    """
    # Errors of the module itself, such as text that is not UTF-8, have no code.
    code = (getattr(error, "sqlite_errorcode", None) or 0) & _CODE
    if code in _LOCKED:
        return "is in use by another process; wait until it ends, or give another path"
    if code in _READ_ONLY:
        return f"cannot be written by this user ({error}); change its permissions and its folder's, or work on a copy"
    if code == sqlite3.SQLITE_FULL:
        return f"cannot be written: {error}; make room on the disk of its folder, and go on"
    if code == sqlite3.SQLITE_CANTOPEN:
        return f"cannot be opened ({error}); check the path, and that files may be made in its folder"
    if code == sqlite3.SQLITE_IOERR:
        return f"cannot be read or written ({error}); check the disk, and that it is not full"
    if code == sqlite3.SQLITE_NOTADB:
        return f"is damaged, or was written by another program ({error})"
    return f"is damaged ({error})" if is_damage(error) else f"cannot be read or written: {error}"


def is_damage(error: sqlite3.Error) -> bool:
    """Whether an error says that the file does not hold what was written."""
    code = (getattr(error, "sqlite_errorcode", None) or 0) & _CODE
    return code in _DAMAGED or (not code and isinstance(error, sqlite3.DatabaseError) and "decode" in str(error))
