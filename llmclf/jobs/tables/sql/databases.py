"""What kinds of SQL databases differ in: how each is read in one snapshot, and how a table is written whole or not at all."""

from __future__ import annotations

import re
import secrets
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import pandas as pd

from ....errors import InputError
from .values import CellRules, plain_column

if TYPE_CHECKING:
    import sqlalchemy as sa

PATIENCE_S = 60
"""How long another user of a table is waited for."""


@dataclass(frozen=True)
class TableName:
    """Where a table is in a database, and what messages call it."""

    schema: str | None
    table: str
    shown: str


@dataclass(frozen=True)
class NativeType:
    """The type of a column as its database writes it; of an enumeration also the values."""

    sql: str
    labels: tuple[str, ...] | None = None


@dataclass(frozen=True)
class NativeColumns:
    """What columns were in the database that they come from.

    Attributes
    ----------
    database : Database
    types : mapping of str -> NativeType
    text_columns : tuple of str
        Those whose values Python cannot all hold.
    texts : callable
        Begins again with the first row, and yields for each the texts of these columns.
    """

    database: Database
    types: Mapping[str, NativeType]
    text_columns: tuple[str, ...] = ()
    texts: Callable[[], Iterator[Sequence[str | None]]] = lambda: iter(())


class Piece(NamedTuple):
    """Some rows, and the database's own texts of the columns whose values Python cannot all hold."""

    frame: pd.DataFrame
    texts: dict[str, list[str | None]]


class Database:
    """A kind of database that is read and not written."""

    title: ClassVar[str] = "this database"
    driver: ClassVar[str | None] = None
    """The one driver that is used, where not every one will do."""

    def check_url(self, url: sa.URL, is_output: bool) -> None:
        """Refuse a URL that can mean no table that outlasts a connection."""

    def options(self, url: sa.URL) -> dict[str, Any]:
        """What its driver is told besides the URL."""
        return {}

    def prepare(self, engine: sa.Engine, is_output: bool) -> None:
        """Make an engine's transactions hold all that is done in them."""

    def begin_reading(self, connection: sa.Connection) -> None:
        """Have all that follows see one moment, and change nothing."""

    def schemas(self, inspector: sa.Inspector) -> list[str]:
        return list(inspector.get_schema_names())

    def native_types(self, connection: sa.Connection, name: TableName) -> dict[str, NativeType]:
        """The columns' types, where a table of the same kind of database can be given the same."""
        return {}

    def pieces(
        self, connection: sa.Connection, name: TableName, columns: Mapping[str, Any], keys: Sequence[str], size: int
    ) -> Iterator[Piece]:
        """All rows in the order of `keys`, at most `size` at a time.

        Parameters
        ----------
        connection : Connection
        name : TableName
        columns : mapping of str
            Their types as SQLAlchemy reports them.
        keys : sequence of str
        size : int
        """
        import sqlalchemy as sa

        # Columns without a type: values come as the driver gives them, and none is converted with a loss.
        table = sa.table(name.table, *map(sa.column, columns), schema=name.schema)
        query = sa.select(*self.selected(table, columns)).order_by(*(table.c[key] for key in keys))
        with connection.execution_options(yield_per=size).execute(query) as result:
            try:
                for rows in result.partitions():
                    values = dict(zip(columns, self.converted(list(zip(*rows, strict=True)), columns), strict=True))
                    yield Piece(pd.DataFrame(values, dtype=object), {})
            except sa.exc.DBAPIError:
                raise
            except BaseException:
                self.stop_reading(connection, result)
                raise

    def stop_reading(self, connection: sa.Connection, result: sa.CursorResult[Any]) -> None:
        """Called before a query is closed whose rows were not all read."""

    def selected(self, table: Any, columns: Mapping[str, Any]) -> list[Any]:
        """What is selected: the columns, and behind them what `converted` needs besides."""
        return list(table.c)

    def converted(self, values: Sequence[Sequence[Any]], columns: Mapping[str, Any]) -> list[list[Any]]:
        """Plain Python objects of the selected columns."""
        pairs = zip(columns.items(), values, strict=False)
        return [plain_column(own, self.meaning(declared), name) for (name, declared), own in pairs]

    def meaning(self, declared: Any) -> str:
        """What a column's values stand for where the driver gives less; see `plain_column`."""
        return ""


class WritableDatabase(Database, ABC):
    """A kind of database that is also written.

    Attributes
    ----------
    types : mapping
        The type of a new column for every one of `llmclf.jobs.tables.column_kinds.KINDS`.
    zoned : str or None
        The type of a column of timestamps with a time zone, where it is another.
    takes : mapping
        For every kind, a pattern of the types whose columns hold all its values as they are, or refuse them.
    rules : CellRules
    longest_name : int or None
    unit : str
        What the length of a name is counted in.
    keeps_all_types : bool
        Whether the values of a column of any type go back into such a column as they were.
    ignores_case, columns_ignore_case : bool
        Whether names of tables, or of columns, that differ in case alone are the same.
    parameter : str
        How the driver writes a value's place in a statement.
    column_end, table_end : str
        What follows the type of each column of a new table, and its columns.
    """

    types: ClassVar[Mapping[str, str]]
    zoned: ClassVar[str | None] = None
    takes: ClassVar[Mapping[str, str]]
    rules: ClassVar[CellRules]
    longest_name: ClassVar[int | None] = None
    unit: ClassVar[str] = "characters"
    ignores_case: ClassVar[bool] = False
    columns_ignore_case: ClassVar[bool] = True
    keeps_all_types: ClassVar[bool] = False
    parameter: ClassVar[str] = "?"
    column_end: ClassVar[str] = ""
    table_end: ClassVar[str] = ""

    # --- names -----------------------------------------------------------------------------------------------------------

    def check_names(self, table: str, columns: Sequence[str], where: str) -> None:
        """Refuse names that would be changed, or taken for one another."""
        for name in (table, *columns):
            self._check_name(name, where)
        if not self.columns_ignore_case:
            return
        known: dict[str, str] = {}
        for name in columns:
            other = known.setdefault(name.lower(), name)
            if other != name:
                raise InputError(
                    f"{where}: the columns {other!r} and {name!r} differ in case alone, and {self.title} takes them for one; "
                    "rename one of them"
                )

    def _check_name(self, name: str, where: str) -> None:
        if not name or "\0" in name:
            raise InputError(f"{where}: the name {name!r} is empty or holds a NUL character; rename it")
        if self.longest_name is not None and self.length(name) > self.longest_name:
            raise InputError(
                f"{where}: the name {name!r} is longer than the {self.longest_name} {self.unit} that {self.title} keeps of one; "
                "shorten it"
            )

    def length(self, name: str) -> int:
        return len(name)

    def as_compared(self, name: str) -> str:
        return name.lower() if self.ignores_case else name

    def quoted(self, connection: sa.Connection, name: str, schema: str | None = None) -> str:
        """A name as a statement has it."""
        quote = connection.dialect.identifier_preparer.quote_identifier
        return quote(name) if schema is None else f"{quote(schema)}.{quote(name)}"

    def new_name(self, name: TableName) -> str:
        """What a table is called before it takes the place of the one that it is to be."""
        suffix = f"_{secrets.token_hex(6)}"
        start = name.table
        while self.longest_name is not None and self.length(start + suffix) > self.longest_name:
            start = start[:-1]
        return f"{start}{suffix}"

    # --- types -----------------------------------------------------------------------------------------------------------

    def fits(self, kind: str, native: str) -> bool:
        """Whether a column of a type holds all values of a kind as they are, or refuses them."""
        return re.fullmatch(self.takes[kind], native, re.IGNORECASE) is not None

    @abstractmethod
    def has_zone(self, native: str) -> bool | None:
        """Whether the timestamps of a type have a time zone; None where each may or may not."""

    def digits(self, native: str) -> tuple[int, int] | None:
        """The most digits before and after the point that a type of decimals holds; None where it holds any."""
        match = re.search(r"\((\d+)(?:,\s*(\d+))?\)", native)
        if match is None:
            return None
        scale = int(match[2] or 0)
        return int(match[1]) - scale, scale

    def missing_types(self, connection: sa.Connection, types: Mapping[str, NativeType]) -> dict[str, str]:
        """Those of some columns' types that are not there, or are others, and why."""
        return {}

    # --- writing ---------------------------------------------------------------------------------------------------------

    def begin_writing(self, connection: sa.Connection, name: TableName) -> None:
        """Begin to write a table, if no other job is writing it; remove what a killed job left."""

    def refuse(self, connection: sa.Connection, name: TableName) -> None:
        """Refuse a table that another cannot take the place of."""

    def create(
        self,
        connection: sa.Connection,
        table: str,
        schema: str | None,
        columns: Mapping[str, str],
        *,
        is_temporary: bool = False,
    ) -> None:
        """Make an empty table."""
        described = ", ".join(
            f"{self.quoted(connection, column)} {kind}{self.column_end}" for column, kind in columns.items()
        )
        what = "TEMPORARY TABLE" if is_temporary else "TABLE"
        whole = self.quoted(connection, table, schema)
        connection.exec_driver_sql(f"CREATE {what} {whole} ({described}){self.table_end}")

    def make_zoned(self, connection: sa.Connection, table: str, schema: str | None, column: str) -> None:
        """Give a column of missing timestamps a time zone."""
        if self.zoned is not None:
            whole, quoted = self.quoted(connection, table, schema), self.quoted(connection, column)
            connection.exec_driver_sql(f"ALTER TABLE {whole} ALTER COLUMN {quoted} TYPE {self.zoned}")

    def insert(
        self,
        connection: sa.Connection,
        table: str,
        schema: str | None,
        kinds: Mapping[str, str],
        rows: list[tuple[Any, ...]],
    ) -> None:
        """Add rows to a table with columns of these kinds."""
        places = ", ".join([self.parameter] * len(kinds))
        connection.exec_driver_sql(f"INSERT INTO {self.quoted(connection, table, schema)} VALUES ({places})", rows)

    def kept(self, connection: sa.Connection) -> None:
        """Called when some rows are in a table that is not in its place yet."""

    def put(self, connection: sa.Connection, new: str, schema: str | None, name: str, old: str | None) -> None:
        """Give a new table the name of the old one, which goes."""
        if old is not None:
            connection.exec_driver_sql(f"DROP TABLE {self.quoted(connection, old, schema)}")
        whole = self.quoted(connection, new, schema)
        connection.exec_driver_sql(f"ALTER TABLE {whole} RENAME TO {self.quoted(connection, name)}")

    def rehearse(self, connection: sa.Connection, new: str, schema: str | None, name: str, old: str | None) -> None:
        """Try `put`, and take all back."""
        self.put(connection, new, schema, name, old)
        connection.rollback()

    def abandon(self, connection: sa.Connection, new: str, schema: str | None) -> None:
        """Remove a new table that will not be whole; where its making is part of a transaction, that is enough."""

    # --- adding to a table -----------------------------------------------------------------------------------------------

    def refuse_addition(self, connection: sa.Connection, name: TableName) -> None:
        """Refuse a table whose changes are not all or nothing."""

    def index(self, connection: sa.Connection, table: str, key: str) -> None:
        """Make a temporary table fast to find in by a column."""
        connection.exec_driver_sql(
            f"CREATE INDEX {self.quoted(connection, 'k_' + secrets.token_hex(6))} ON {table} ({key})"
        )

    def lock(self, connection: sa.Connection, table: str) -> None:
        """Begin to change a table: others can read it, and not write it, until the end of the transaction."""

    def same(self, left: str, right: str) -> str:
        """Whether two ids are the same to the last bit."""
        return f"{left} = {right}"

    def exact(self, key: str) -> str:
        """An id, to be grouped by to the last bit."""
        return key

    def update(self, table: str, staged: str, key: str, columns: Sequence[str]) -> str | None:
        """The statement that gives the rows of a table the values of those that are staged."""
        if not columns:
            return None
        assigned = ", ".join(f"{column} = s.{column}" for column in columns)
        return f"UPDATE {table} AS t SET {assigned} FROM {staged} AS s WHERE {self.same(f't.{key}', f's.{key}')}"


@contextmanager
def without_warnings() -> Iterator[None]:
    """SQLAlchemy warns of types that it does not know; none is asked of it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
