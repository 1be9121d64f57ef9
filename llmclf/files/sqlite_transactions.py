"""Internal: transactions on SQLite connections in autocommit mode, for those who keep answers that were paid for."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def transaction(connection: sqlite3.Connection, *, immediate: bool) -> Iterator[sqlite3.Connection]:
    """All of what is done inside, or nothing of it.

    Parameters
    ----------
    connection : sqlite3.Connection
        In autocommit mode (``isolation_level=None``), and in no transaction.
    immediate : bool
        Whether to lock all attached databases for writing at once; otherwise each is locked when it is first written.

    Raises
    ------
    sqlite3.Error
        SQLite could not begin, do or commit what was asked for; then nothing of it is kept.

    Examples
    --------
    >>> connection = sqlite3.connect(":memory:", isolation_level=None)
    >>> with transaction(connection, immediate=True) as run:
    ...     cursor = run.execute("CREATE TABLE answers (value)")
    >>> with transaction(connection, immediate=False) as run:
    ...     cursor = run.execute("INSERT INTO answers VALUES (1)")
    ...     raise KeyError("the process has changed its mind")
    Traceback (most recent call last):
    ...
    KeyError: 'the process has changed its mind'
    >>> connection.execute("SELECT count(*) FROM answers").fetchone()
    (0,)
    """
    connection.execute("BEGIN IMMEDIATE" if immediate else "BEGIN")
    try:
        yield connection
        connection.execute("COMMIT")
    except BaseException:
        # SQLite undoes some failures by itself, but leaves a failed commit open.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
