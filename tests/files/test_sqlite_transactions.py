"""Transactions on SQLite: all or nothing, whatever ends them."""

from __future__ import annotations

import sqlite3

import pytest

from llmclf.files.sqlite_transactions import transaction


@pytest.fixture
def connection():
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("CREATE TABLE parents (id INTEGER PRIMARY KEY)")
    connection.execute("CREATE TABLE rows (parent INTEGER REFERENCES parents DEFERRABLE INITIALLY DEFERRED)")
    yield connection
    connection.close()


@pytest.mark.parametrize("immediate", [False, True])
@pytest.mark.parametrize(
    ("statement", "error"),
    [
        ("INSERT INTO parents VALUES (1)", KeyboardInterrupt),
        ("INSERT INTO nowhere VALUES (1)", sqlite3.OperationalError),
        ("INSERT INTO rows VALUES (7)", sqlite3.IntegrityError),  # fails at the commit, which SQLite leaves open
        ("INSERT OR ROLLBACK INTO parents VALUES (2)", sqlite3.IntegrityError),  # SQLite undoes this one by itself
    ],
)
def test_nothing_is_kept_of_what_fails(connection, immediate, statement, error):
    """The error comes through, no transaction stays open, and the next one works."""

    def work():
        with transaction(connection, immediate=immediate) as run:
            run.execute("INSERT INTO parents VALUES (2)")
            run.execute(statement)
            if error is KeyboardInterrupt:
                raise KeyboardInterrupt

    with pytest.raises(error):
        work()
    assert not connection.in_transaction
    assert connection.execute("SELECT count(*) FROM parents").fetchone() == (0,)
    with transaction(connection, immediate=immediate) as run:
        run.execute("INSERT INTO parents VALUES (7)")
        run.execute("INSERT INTO rows VALUES (7)")
    assert not connection.in_transaction
    assert connection.execute("SELECT parent FROM rows").fetchall() == [(7,)]


def test_only_an_immediate_transaction_locks_at_once(tmp_path):
    """Two connections: while one holds an immediate transaction, the other cannot begin one; a plain one does not lock."""
    first, second = (sqlite3.connect(tmp_path / "x.sqlite", isolation_level=None, timeout=0) for _ in range(2))
    with transaction(first, immediate=False), transaction(second, immediate=True):
        pass
    locked = pytest.raises(sqlite3.OperationalError, match="locked")
    with transaction(first, immediate=True), locked, transaction(second, immediate=True):
        raise AssertionError("unreachable")
    first.close()
    second.close()
