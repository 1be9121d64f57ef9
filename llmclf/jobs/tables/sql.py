"""SQL tables as a job's input and output: read in one snapshot, written whole or not at all.

A table is named by a SQLAlchemy URL with the query parameter ``table`` and, if need be, ``schema``. Any database that SQLAlchemy
knows can be read. PostgreSQL and SQLite can be written: there, the making of a table is part of a transaction.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import pandas as pd

from ...errors import InputError
from .sql_urls import PATIENCE_S, SqlTable, is_sql_url, without_warnings
from .sql_values import Cells, plain_column

if TYPE_CHECKING:
    import sqlalchemy as sa

__all__ = ["SqlSink", "SqlSource", "is_sql_url"]

_BATCH = 5000
_LONGEST_NAME = 63  # bytes; PostgreSQL cuts a longer name off without an error


class SqlSource:
    """A table or a view to read.

    Parameters
    ----------
    url : str
        As in ``postgresql+psycopg://user@host/db?table=reviews``; may have ``&schema=``. Other query parameters go to the driver.

    Attributes
    ----------
    name : str
        For messages; holds no password.

    Raises
    ------
    InputError
        The URL does not name a table or a known driver.
    MissingDependencyError
        SQLAlchemy or the database's driver is not installed.

    Examples
    --------
    >>> import sqlite3, tempfile
    >>> from pathlib import Path
    >>> file = Path(tempfile.mkdtemp()) / "shop.db"
    >>> with closing(sqlite3.connect(file)) as database, database:
    ...     _ = database.execute("CREATE TABLE reviews (id INTEGER PRIMARY KEY, text TEXT)")
    ...     _ = database.execute("INSERT INTO reviews VALUES (7, 'A fine film.'), (8, NULL)")
    >>> source = SqlSource(f"sqlite:///{file}?table=reviews")
    >>> source.columns()
    ['id', 'text']
    >>> [piece.values.tolist() for piece in source.chunks(1)]
    [[[7, 'A fine film.']], [[8, None]]]
    """

    def __init__(self, url: str) -> None:
        self._table = SqlTable.at(url, is_output=False)
        self.name = self._table.name

    def __repr__(self) -> str:
        return f"SqlSource({self.name!r})"

    def columns(self) -> list[str]:
        """The names of the columns.

        Raises
        ------
        InputError
            The table does not exist.
        StoreError
            The database cannot be reached.
        """
        with self._table.errors_translated("read"), self._connect() as connection:
            return list(self._described(connection))

    def chunks(self, size: int) -> Iterator[pd.DataFrame]:
        """All rows as they are at one moment, at most `size` at a time.

        They come in the order of the primary key if there is one. The columns hold Python objects, None where there is no value;
        values without a Python type (UUIDs, network addresses, ranges) come as text. In SQLite, where a column may hold anything,
        booleans and dates are recognised by the column's declared type, and stay what they are if they do not fit it.

        Raises
        ------
        InputError, StoreError
            As `columns`.
        """
        import sqlalchemy as sa

        with self._table.errors_translated("read"), self._connect() as connection:
            types = self._described(connection)
            keys = self._table.keys(connection)
            # Columns without a type: values come as the driver gives them, and none is converted with a loss.
            table = sa.table(self._table.table, *map(sa.column, types), schema=self._table.schema)
            query = sa.select(*table.c).order_by(*(table.c[key] for key in keys))
            with connection.execution_options(yield_per=size).execute(query) as result:
                for rows in result.partitions():
                    described = zip(types.items(), zip(*rows, strict=True), strict=True)
                    plain = {name: plain_column(values, kind, name) for (name, kind), values in described}
                    yield pd.DataFrame(plain, dtype=object)

    @contextmanager
    def _connect(self) -> Iterator[sa.Connection]:
        engine = self._table.engine
        with engine.connect() as connection:
            if engine.dialect.name == "postgresql":
                connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            yield connection

    def _described(self, connection: sa.Connection) -> dict[str, str]:
        """The columns, and what their values have to be converted to."""
        import sqlalchemy as sa

        declared_types = self._table.described(connection)
        if connection.dialect.name != "sqlite":
            return dict.fromkeys(declared_types, "")
        kinds = ((sa.Boolean, "bool"), (sa.DateTime, "datetime"), (sa.Date, "date"))
        return {
            name: next((kind for base, kind in kinds if isinstance(declared, base)), "")
            for name, declared in declared_types.items()
        }


class SqlSink:
    """A table to write, whole or not at all.

    The rows go into a new table, which takes the name of the old one in the same transaction. So whoever reads meanwhile sees the
    old table, and a job that is killed leaves nothing. An old table's indexes and grants go with it.

    Parameters
    ----------
    url : str
        As `SqlSource` has it; of PostgreSQL or SQLite.

    Attributes
    ----------
    name : str
        For messages; holds no password.

    Raises
    ------
    InputError
        The URL does not name a table or a known driver, or it names a database of another kind.
    MissingDependencyError
        SQLAlchemy or the database's driver is not installed.

    Examples
    --------
    >>> import tempfile
    >>> url = f"sqlite:///{tempfile.mkdtemp()}/shop.db?table=labelled"
    >>> sink = SqlSink(url)
    >>> sink.write([pd.DataFrame({"id": [7, 8], "label": ["good", None]})], {"id": "int", "label": "str"})
    2
    >>> next(SqlSource(url).chunks(10)).values.tolist()
    [[7, 'good'], [8, None]]
    """

    def __init__(self, url: str) -> None:
        self._table = SqlTable.at(url, is_output=True)
        self.name = self._table.name

    def __repr__(self) -> str:
        return f"SqlSink({self.name!r})"

    def check(self, columns: Sequence[str], kinds: Mapping[str, str], frames: Iterable[pd.DataFrame] = ()) -> None:
        """Make the empty table, put it in place, and take all of it back.

        Parameters
        ----------
        columns : sequence of str
        kinds : mapping
            Column name -> one of `llmclf.jobs.tables.column_kinds.KINDS`.
        frames : iterable of DataFrame
            Rows, of some of the columns, whose values are to be checked, too.

        Raises
        ------
        InputError
            The schema does not exist, or the name belongs to a view, to a table with other columns, or is not allowed.
        StoreError
            The database cannot be reached or refuses to make a table, or a value cannot be stored.
        """
        with self._table.errors_translated("written"), self._table.engine.connect() as connection:
            self._replace(connection, self._new(connection, columns, kinds))
            connection.rollback()
        cells, n_rows = Cells(kinds, self._table.engine.dialect.name), 0
        for frame in frames:
            cells.rows(frame, n_rows, self.name)
            n_rows += len(frame)

    def write(self, frames: Iterable[pd.DataFrame], kinds: Mapping[str, str]) -> int:
        """Write all rows, missing values as NULL.

        Integers have 64 bits and timestamps microseconds; ``json`` becomes JSON text. In PostgreSQL a column of timestamps has a
        time zone if its values have one. SQLite lacks types for timestamps, dates and decimals: they are kept as exact text.

        Parameters
        ----------
        frames : iterable of DataFrame
            A column that one of them lacks is empty there.
        kinds : mapping
            As in `check`; its order is that of the columns.

        Returns
        -------
        int
            The number of rows.

        Raises
        ------
        InputError, StoreError
            As `check`; or a value cannot be stored, and the message names its row (counted from 0) and column.
        """
        import sqlalchemy as sa

        n_rows = 0
        # An error in `frames` is not the database's, so `frames` is advanced outside of `errors_translated`.
        errors_translated = self._table.errors_translated
        with self._connect() as connection:
            with errors_translated("written"):
                table = self._new(connection, list(kinds), kinds)
            cells = Cells(kinds, connection.dialect.name)
            for frame in frames:
                for start in range(0, len(frame), _BATCH):
                    part = frame.iloc[start : start + _BATCH]
                    rows = cells.rows(part, n_rows, self.name)
                    with errors_translated("written"):
                        for name in cells.newly_zoned():
                            _change_type(connection, table, name, sa.DateTime(timezone=True))
                        _insert(connection, table, rows)
                    n_rows += len(part)
            with errors_translated("written"):
                self._replace(connection, table)
                connection.commit()
        return n_rows

    @contextmanager
    def _connect(self) -> Iterator[sa.Connection]:
        with self._table.errors_translated("written"):
            connection = self._table.engine.connect()
        try:
            yield connection
        except BaseException:
            # Ends the transaction as well; to roll it back would be another error where the connection is lost.
            connection.invalidate()
            raise
        finally:
            connection.close()

    def _new(self, connection: sa.Connection, columns: Sequence[str], kinds: Mapping[str, str]) -> sa.Table:
        """Make an empty table beside the target; refuse a target that must not be replaced."""
        import sqlalchemy as sa

        self._check_names(connection, [self._table.table, *columns])
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{PATIENCE_S}s'")
        schema = self._table.schema or connection.dialect.default_schema_name
        suffix = f"_{secrets.token_hex(6)}"
        start = self._table.table.encode()[: _LONGEST_NAME - len(suffix)].decode(errors="ignore")
        types = _types(connection.dialect.name)
        # Keys, because a column's name may hold what has a meaning in a parameter's name.
        new = (sa.Column(name, types[kinds[name]], key=f"c{i}") for i, name in enumerate(columns))
        table = sa.Table(f"{start}{suffix}", sa.MetaData(), *new, schema=schema)
        self._old(connection, table)
        connection.execute(sa.schema.CreateTable(table))
        return table

    def _replace(self, connection: sa.Connection, table: sa.Table) -> None:
        import sqlalchemy as sa

        names = connection.dialect.identifier_preparer
        old = self._old(connection, table)
        if old is not None:
            connection.execute(sa.schema.DropTable(sa.Table(old, sa.MetaData(), schema=table.schema)))
        new = names.quote(self._table.table)
        connection.exec_driver_sql(f"ALTER TABLE {names.format_table(table)} RENAME TO {new}")

    def _old(self, connection: sa.Connection, table: sa.Table) -> str | None:
        """The name of the table that is to be replaced, if there is one and it may be."""
        import sqlalchemy as sa

        inspector = sa.inspect(connection)
        self._table.check_schema(inspector)
        names = {self._as_compared(name): name for name in inspector.get_table_names(table.schema)}
        old = names.get(self._as_compared(self._table.table))
        if old is None:
            if inspector.has_table(self._table.table, schema=table.schema):
                raise InputError(
                    f"{self.name} is not an ordinary table (it may be a view); give the output another table name"
                )
            return None
        if connection.dialect.name == "postgresql":
            whole = connection.dialect.identifier_preparer.format_table(
                sa.Table(old, sa.MetaData(), schema=table.schema)
            )
            query = "SELECT relkind = 'p' OR relispartition FROM pg_catalog.pg_class WHERE oid = to_regclass(:name)"
            if connection.execute(sa.text(query), {"name": whole}).scalar():
                raise InputError(
                    f"the table {self.name} is partitioned, or a partition; give the output another table name"
                )
        with without_warnings():
            columns = [column["name"] for column in inspector.get_columns(old, schema=table.schema)]
        existing = [column.name for column in table.columns]
        odd = [f"has a column {name!r}, which this job does not write" for name in columns if name not in existing]
        odd += [f"lacks the column {name!r}, which this job writes" for name in existing if name not in columns]
        if odd:
            raise InputError(
                f"the table {self.name} exists and {odd[0]}; give the output another table name, or drop that table"
            )
        return old

    def _as_compared(self, name: str) -> str:
        return name.lower() if self._table.engine.dialect.name == "sqlite" else name

    def _check_names(self, connection: sa.Connection, names: Sequence[str]) -> None:
        for name in names:
            if not name or "\0" in name:
                raise InputError(f"{self.name}: the name {name!r} is empty or holds a NUL character; rename it")
            if connection.dialect.name == "postgresql" and len(name.encode(errors="replace")) > _LONGEST_NAME:
                raise InputError(
                    f"{self.name}: the name {name!r} is longer than the {_LONGEST_NAME} bytes that PostgreSQL keeps of one; "
                    "shorten it"
                )


def _types(dialect: str) -> dict[str, Any]:
    """The type of a column of every kind."""
    import sqlalchemy as sa

    return {
        "bool": sa.Boolean(),
        "int": sa.BigInteger(),
        "float": sa.Double(),
        "str": sa.Text(),
        "datetime": sa.DateTime(),
        "date": sa.Date(),
        # SQLite would keep 15 digits of a NUMERIC.
        "decimal": sa.Text() if dialect == "sqlite" else sa.Numeric(),
        "bytes": sa.LargeBinary(),
        "json": sa.Text(),
    }


def _insert(connection: sa.Connection, table: sa.Table, rows: list[tuple[Any, ...]]) -> None:
    import sqlalchemy as sa

    if connection.dialect.name == "sqlite":
        name = connection.dialect.identifier_preparer.format_table(table)
        places = ", ".join("?" * len(table.c))
        connection.exec_driver_sql(f"INSERT INTO {name} VALUES ({places})", rows)
    elif connection.dialect.driver == "psycopg":
        from psycopg import sql

        # More than ten times as fast as INSERT.
        copying = sql.SQL("COPY {} FROM STDIN").format(sql.Identifier(*filter(None, (table.schema, table.name))))
        with closing(connection.connection.cursor()) as cursor, cursor.copy(copying) as copy:
            for row in rows:
                copy.write_row(row)
    else:
        # Without types, so that SQLAlchemy hands over what it is given.
        bare = sa.Table(
            table.name, sa.MetaData(), *(sa.Column(c.name, key=c.key) for c in table.c), schema=table.schema
        )
        keys = bare.c.keys()
        connection.execute(bare.insert(), [dict(zip(keys, row, strict=True)) for row in rows])


def _change_type(connection: sa.Connection, table: sa.Table, column: str, new: Any) -> None:
    names = connection.dialect.identifier_preparer
    compiled = new.compile(dialect=connection.dialect)
    connection.exec_driver_sql(
        f"ALTER TABLE {names.format_table(table)} ALTER COLUMN {names.quote(column)} TYPE {compiled}"
    )
