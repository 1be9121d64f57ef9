"""An SQL table as it is read, and as it is written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Literal

import pandas as pd

from ....errors import InputError
from .databases import NativeColumns, NativeType, Piece, WritableDatabase
from .outputs import AddedRows, TableOutput, existing_table
from .urls import SqlTable

if TYPE_CHECKING:
    import sqlalchemy as sa

IfExists = Literal["replace", "append", "merge-on-id"]
IF_EXISTS: tuple[IfExists, ...] = ("replace", "append", "merge-on-id")
"""What a sink can do with a table that is there."""

_BATCH = 5000
_AGAIN = (
    "nothing was changed; once the database answers, start the job again with --resume (resume=True), since its journal has the "
    "answers"
)
_UNKNOWN = (
    "it was not confirmed that the rows were added; once the database answers, look whether they are there before you start the "
    "job again with --resume (resume=True)"
)


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
    native_types : dict of str -> NativeType
        The columns' types as the database writes them, once rows were read.

    Raises
    ------
    InputError
        The URL does not name a table or a known driver.
    MissingDependencyError
        SQLAlchemy or the database's driver is not installed.

    Examples
    --------
    >>> import sqlite3, tempfile
    >>> from contextlib import closing
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
        self.native_types: dict[str, NativeType] = {}

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
        with self._table.errors_translated("read"), self._table.engine.connect() as connection:
            self._table.database.begin_reading(connection)
            return list(self._table.described(connection))

    def chunks(self, size: int) -> Iterator[pd.DataFrame]:
        """All rows as they are at one moment, at most `size` at a time.

        They come in the order of the primary key if there is one. The columns hold Python objects, None where there is no value;
        values without a Python type (UUIDs, network addresses, ranges) come as text, and so do dates that Python does not have
        (infinity, 44 BC) and intervals with months. In SQLite, where a column may hold anything, booleans and dates are
        recognised by the column's declared type, and stay what they are if they do not fit it. MySQL's ``tinyint(1)`` are
        booleans, its TIMESTAMPs have the time zone UTC.

        Raises
        ------
        InputError, StoreError
            As `columns`.
        """
        for piece in self.pieces(size):
            yield piece.frame

    def pieces(self, size: int) -> Iterator[Piece]:
        """As `chunks`, and besides the database's own texts of the columns whose values Python cannot all hold."""
        with (
            self._table.errors_translated("read"),
            self._table.engine.connect() as connection,
            self._table.errors_translated("read", connection, "start again once the database answers"),
        ):
            database, place = self._table.database, self._table.place
            database.begin_reading(connection)
            columns = self._table.described(connection)
            self.native_types = database.native_types(connection, place)
            keys = self._table.keys(connection)
            yield from database.pieces(connection, place, columns, keys, size)

    def native_columns(
        self, text_columns: Sequence[str], texts: Callable[[], Iterator[Sequence[str | None]]]
    ) -> NativeColumns:
        """What the columns were in the database, once all pieces were read.

        Parameters
        ----------
        text_columns : sequence of str
            Those that came with texts.
        texts : callable
            Yields these texts row by row.
        """
        return NativeColumns(self._table.database, self.native_types, tuple(text_columns), texts)


class SqlSink:
    """A table to write, whole or not at all.

    Whoever reads meanwhile sees the table as it was, and a job that is killed leaves it so. What a killed job may leave beside it
    in MySQL and MariaDB is a table whose name begins with ``llmclf_``; the next job that writes the same table removes it.

    Parameters
    ----------
    url : str
        As `SqlSource` has it; of PostgreSQL, SQLite, DuckDB, MySQL or MariaDB.
    if_exists : "replace", "append" or "merge-on-id"
        What is done with a table that is there, which must have the columns of the job, in any order. Without one, all of them
        make a new table.

        - ``"replace"``: a new table takes its place. Indexes and grants go with the old one.
        - ``"append"``: the rows are added in one transaction. With `id_column`, ids that are in the table are refused, so that no
          row is added twice.
        - ``"merge-on-id"``: in one transaction, rows whose id is in the table are replaced and others are added.
    id_column : str, optional
        The column of the ids; needed by ``"merge-on-id"``.

    Attributes
    ----------
    name : str
        For messages; holds no password.

    Raises
    ------
    InputError
        The URL does not name a table or a known driver, or a database of another kind; or the options do not go together.
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
    >>> merging = SqlSink(url, if_exists="merge-on-id", id_column="id")
    >>> merging.write([pd.DataFrame({"id": [8, 9], "label": ["bad", "good"]})], {"id": "int", "label": "str"})
    2
    >>> next(SqlSource(url).chunks(10)).values.tolist()
    [[7, 'good'], [8, 'bad'], [9, 'good']]
    """

    def __init__(self, url: str, if_exists: IfExists = "replace", id_column: str | None = None) -> None:
        if if_exists not in IF_EXISTS:
            raise InputError(f"if_exists={if_exists!r} is not known; expected one of {', '.join(map(repr, IF_EXISTS))}")
        if if_exists == "merge-on-id" and id_column is None:
            raise InputError('if_exists="merge-on-id" needs to know the column of the ids; give id_column')
        self._table = SqlTable.at(url, is_output=True)
        self._if_exists = if_exists
        self._id_column = id_column
        self.name = self._table.name

    def __repr__(self) -> str:
        return f"SqlSink({self.name!r})"

    def exists(self) -> bool:
        """Whether there is a table, or a view, of this name.

        Raises
        ------
        InputError
            The schema does not exist.
        StoreError
            The database cannot be reached.
        """
        import sqlalchemy as sa

        with self._table.errors_translated("read"), self._table.engine.connect() as connection:
            inspector = sa.inspect(connection)
            self._table.check_schema(inspector)
            place = self._table.place
            return bool(inspector.has_table(place.table, schema=place.schema))

    def check(
        self,
        columns: Sequence[str],
        kinds: Mapping[str, str],
        frames: Iterable[pd.DataFrame] = (),
        native: NativeColumns | None = None,
    ) -> None:
        """Do all that `write` will do but show the rows to others, and take it back.

        Parameters
        ----------
        columns : sequence of str
        kinds : mapping
            Column name -> one of `llmclf.jobs.tables.column_kinds.KINDS`.
        frames : iterable of DataFrame
            Rows, of some of the columns, whose values are to be checked, too.
        native : NativeColumns, optional
            What the columns are in the table that they come from.

        Raises
        ------
        InputError
            The schema does not exist, or the name belongs to a view, to a table with other columns, or is not allowed; or rows
            cannot be added to the table that is there.
        StoreError
            The database cannot be reached or refuses to make a table, or a value cannot be stored.

        Warns
        -----
        ColumnTypeWarning
            The type of a column is not in the database, and text is written instead.
        """
        errors_translated = self._table.errors_translated
        with self._connect() as connection:
            with errors_translated("written", connection, _AGAIN):
                output = self._output(connection, {name: kinds[name] for name in columns}, native)
                if not isinstance(output, AddedRows):
                    output.rehearse(connection)
            output.say_what_is_missing()
            cells, n_rows = output.cells(), 0
            for frame in frames:
                if isinstance(output, AddedRows):
                    with errors_translated("written", connection, _AGAIN):
                        output.add(connection, frame, cells, n_rows)
                else:
                    output.rows(frame, cells, n_rows)
                n_rows += len(frame)
            if isinstance(output, AddedRows):
                with errors_translated("written", connection, _AGAIN):
                    output.rehearse(connection)

    def write(
        self, frames: Iterable[pd.DataFrame], kinds: Mapping[str, str], native: NativeColumns | None = None
    ) -> int:
        """Write all rows, missing values as NULL.

        Integers have 64 bits and timestamps microseconds; ``json`` becomes JSON text. A column of timestamps has a time zone if
        its values have one; in MySQL it is then a TIMESTAMP, from 1970 to 2038. SQLite lacks types for timestamps, dates and
        decimals: they are kept as exact text. DuckDB's decimals have 20 digits before the point and 18 behind it, MySQL's 35 and
        30.

        Parameters
        ----------
        frames : iterable of DataFrame
            A column that one of them lacks is empty there.
        kinds : mapping
            As in `check`; its order is that of the columns.
        native : NativeColumns, optional
            What the columns are in the table that they come from, row for row: columns of the same kind of database get their
            types again.

        Returns
        -------
        int
            The number of rows.

        Raises
        ------
        InputError, StoreError
            As `check`; or a value cannot be stored, and the message names its row (counted from 0) and column; or the connection
            is lost.
        """
        n_rows = 0
        # An error in `frames` is not the database's, so `frames` is advanced outside of `errors_translated`.
        errors_translated = self._table.errors_translated
        with self._connect() as connection:
            with errors_translated("written", connection, _AGAIN):
                output = self._output(connection, kinds, native)
            try:
                cells = output.cells()
                for frame in frames:
                    for start in range(0, len(frame), _BATCH):
                        part = frame.iloc[start : start + _BATCH]
                        with errors_translated("written", connection, _AGAIN):
                            output.add(connection, part, cells, n_rows)
                        n_rows += len(part)
                may_double = isinstance(output, AddedRows) and self._id_column is None
                with errors_translated("written", connection, _UNKNOWN if may_double else _AGAIN):
                    output.finish(connection)
            except BaseException:
                with suppress(Exception):
                    output.abandon(connection)
                raise
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

    def _output(self, connection: sa.Connection, kinds: Mapping[str, str], native: NativeColumns | None) -> TableOutput:
        import sqlalchemy as sa

        self._table.check_schema(sa.inspect(connection))
        if self._id_column is not None and self._id_column not in kinds:
            raise InputError(f"{self.name}: this job does not write the id column {self._id_column!r}")
        database, place = self._table.database, self._table.place
        assert isinstance(database, WritableDatabase)
        if self._if_exists == "replace" or existing_table(connection, database, place) is None:
            return TableOutput(connection, self._table, kinds, native)
        replaces = self._if_exists == "merge-on-id"
        return AddedRows(connection, self._table, kinds, native, self._id_column, replaces)
