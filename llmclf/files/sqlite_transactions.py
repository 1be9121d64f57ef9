"""Internal: transactions on SQLite connections in autocommit mode, for those who keep answers that were paid for."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class CountedConnection(sqlite3.Connection):
    """A connection whose transactions are counted, so that a loss of some shows; made by ``sqlite3.connect(factory=...)``.

    Attributes
    ----------
    before_commit, after_commit : callable or None
        What `transaction` does at the end of each: the first inside of it, the second once it is on the disk.
    """

    before_commit: Callable[[], None] | None = None
    after_commit: Callable[[], None] | None = None


@contextmanager
def transaction(
    connection: sqlite3.Connection, *, immediate: bool, is_counted: bool = True
) -> Iterator[sqlite3.Connection]:
    """All of what is done inside, or nothing of it.

    Parameters
    ----------
    connection : sqlite3.Connection
        In autocommit mode (``isolation_level=None``), and in no transaction.
    immediate : bool
        Whether to lock all attached databases for writing at once; otherwise each is locked when it is first written.
    is_counted : bool
        Whether it counts on a `CountedConnection`; not if nothing of it needs to outlive the process.

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
    counted = connection if is_counted and isinstance(connection, CountedConnection) else None
    connection.execute("BEGIN IMMEDIATE" if immediate else "BEGIN")
    try:
        yield connection
        if counted is not None and counted.before_commit is not None:
            counted.before_commit()
        connection.execute("COMMIT")
    except BaseException:
        # SQLite undoes some failures by itself, but leaves a failed commit open.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    if counted is not None and counted.after_commit is not None:
        counted.after_commit()
