"""PostgreSQL, whose columns come back as they went in: their types, and the texts that it writes of their values itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import pandas as pd

from ....errors import InputError
from .databases import PATIENCE_S, NativeType, Piece, TableName, WritableDatabase
from .values import CellRules, plain_column

if TYPE_CHECKING:
    import sqlalchemy as sa

_EXACT = frozenset({"bool", "int2", "int4", "int8", "text", "varchar", "bpchar", "bytea", "uuid"})
"""Types whose values Python's own hold all. Of others PostgreSQL's text is kept besides: of a NaN, an endless time, a JSON number
with many digits, an array that does not begin with 1."""

_COLUMNS = """
SELECT a.attname, format_type(a.atttypid, a.atttypmod), t.oid, t.typname, CASE WHEN t.typcategory = 'A' THEN t.typelem END,
    (SELECT array_agg(e.enumlabel::text ORDER BY e.enumsortorder) FROM pg_enum AS e
        WHERE e.enumtypid = CASE WHEN t.typcategory = 'A' THEN t.typelem ELSE t.oid END)
FROM pg_attribute AS a JOIN pg_type AS t ON t.oid = a.atttypid
WHERE a.attrelid = %s AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
"""
_KNOWN = """
SELECT t.typtype, (SELECT array_agg(e.enumlabel::text ORDER BY e.enumsortorder) FROM pg_enum AS e
    WHERE e.enumtypid = CASE WHEN t.typcategory = 'A' THEN t.typelem ELSE t.oid END)
FROM pg_type AS t WHERE t.oid = to_regtype(%s)
"""


class _Column(NamedTuple):
    name: str
    native: NativeType
    oid: int
    type_name: str
    element: int | None


class PostgreSQL(WritableDatabase):
    """Read and written by COPY, which is several times as fast as SELECT and INSERT."""

    title = "PostgreSQL"
    driver = "psycopg"
    types: ClassVar = {
        "bool": "boolean",
        "int": "bigint",
        "float": "double precision",
        "str": "text",
        "datetime": "timestamp without time zone",
        "date": "date",
        "decimal": "numeric",
        "bytes": "bytea",
        "json": "text",
    }
    zoned = "timestamp with time zone"
    takes: ClassVar = {
        "bool": "boolean",
        "int": "smallint|integer|bigint|numeric",
        "float": "double precision",
        "str": r"text|character varying(\(\d+\))?",
        "datetime": "timestamp with(out)? time zone",
        "date": "date",
        "decimal": r"numeric(\(\d+,\d+\))?",
        "bytes": "bytea",
        "json": "text|jsonb?",
    }
    rules = CellRules(may_hold_nul=False)
    longest_name = 63
    unit = "bytes"
    keeps_all_types = True
    columns_ignore_case = False

    def length(self, name: str) -> int:
        return len(name.encode(errors="replace"))

    # --- reading ---------------------------------------------------------------------------------------------------------

    def begin_reading(self, connection: sa.Connection) -> None:
        connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        _write_texts_in_full(connection)

    def native_types(self, connection: sa.Connection, name: TableName) -> dict[str, NativeType]:
        return {column.name: column.native for column in self._columns(connection, name)}

    def pieces(
        self, connection: sa.Connection, name: TableName, columns: Mapping[str, Any], keys: Sequence[str], size: int
    ) -> Iterator[Piece]:
        from psycopg import sql

        described = self._columns(connection, name)
        driver: Any = connection.connection.driver_connection
        table = sql.Identifier(*filter(None, (name.schema, name.table)))
        listed = sql.SQL(", ").join(sql.Identifier(column.name) for column in described)
        ordered = sql.SQL(" ORDER BY {}").format(sql.SQL(", ").join(map(sql.Identifier, keys))) if keys else sql.SQL("")
        query = sql.SQL("SELECT {} FROM {}{}").format(listed, table, ordered)
        with closing(driver.cursor()) as cursor:
            oids = [part.type_code for part in cursor.execute(query + sql.SQL(" LIMIT 0")).description]
            loaders = {
                column.name: _loader(driver, column, oid)
                for column, oid in zip(described, oids, strict=True)
                if column.type_name not in _EXACT
            }
            with cursor.copy(sql.SQL("COPY ({}) TO STDOUT").format(query)) as copy:
                copy.set_types(["text" if column.name in loaders else column.oid for column in described])
                rows = copy.rows()
                while block := list(islice(rows, size)):
                    yield _piece(described, loaders, block)

    def _columns(self, connection: sa.Connection, name: TableName) -> list[_Column]:
        whole = self.quoted(connection, name.table, name.schema).replace("%%", "%")
        # So that the names of types are whole, whatever the search path is where they are read again.
        with connection.begin_nested() as savepoint:
            oid = connection.exec_driver_sql("SELECT to_regclass(%s)::oid", (whole,)).scalar()
            connection.exec_driver_sql("SET LOCAL search_path = pg_catalog")
            rows = connection.exec_driver_sql(_COLUMNS, (oid,)).fetchall()
            savepoint.rollback()
        return [
            _Column(column, NativeType(native, labels and tuple(labels)), type_oid, type_name, element)
            for column, native, type_oid, type_name, element, labels in rows
        ]

    # --- writing ---------------------------------------------------------------------------------------------------------

    def has_zone(self, native: str) -> bool | None:
        return native.endswith(" with time zone")

    def missing_types(self, connection: sa.Connection, types: Mapping[str, NativeType]) -> dict[str, str]:
        missing = {}
        for column, native in types.items():
            found = connection.exec_driver_sql(_KNOWN, (native.sql,)).first()
            if found is None or found[0] == "p":
                missing[column] = f"the type {native.sql} is not there"
            elif (labels := found[1] and tuple(found[1])) != native.labels:
                missing[column] = f"the type {native.sql} has other values there: {list(labels or ())!r}"
        return missing

    def begin_writing(self, connection: sa.Connection, name: TableName) -> None:
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{PATIENCE_S}s'")
        _write_texts_in_full(connection)

    def refuse(self, connection: sa.Connection, name: TableName) -> None:
        whole = self.quoted(connection, name.table, name.schema).replace("%%", "%")
        query = "SELECT relkind = 'p' OR relispartition FROM pg_catalog.pg_class WHERE oid = to_regclass(%s)"
        if connection.exec_driver_sql(query, (whole,)).scalar():
            raise InputError(
                f"the table {name.shown} is partitioned, or a partition; give the output another table name"
            )

    def insert(
        self,
        connection: sa.Connection,
        table: str,
        schema: str | None,
        kinds: Mapping[str, str],
        rows: list[tuple[Any, ...]],
    ) -> None:
        from psycopg import sql

        # More than ten times as fast as INSERT.
        copying = sql.SQL("COPY {} FROM STDIN").format(sql.Identifier(*filter(None, (schema, table))))
        driver: Any = connection.connection.driver_connection
        with closing(driver.cursor()) as cursor, cursor.copy(copying) as copy:
            for row in rows:
                copy.write_row(row)

    def lock(self, connection: sa.Connection, table: str) -> None:
        connection.exec_driver_sql(f"LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE")


def _write_texts_in_full(connection: sa.Connection) -> None:
    """Whatever a role or a database is set to."""
    for setting in ("datestyle = 'ISO, YMD'", "intervalstyle = 'postgres'", "extra_float_digits = 1"):
        connection.exec_driver_sql(f"SET LOCAL {setting}")


def _loader(driver: Any, column: _Column, oid: int) -> Callable[[str], Any]:
    """What makes a Python object of a text, or leaves a text that means none."""
    from psycopg import DataError, NotSupportedError
    from psycopg.pq import Format
    from psycopg.types import TypeInfo

    if column.element is not None and driver.adapters.get_loader(oid, Format.TEXT) is None:
        TypeInfo(column.type_name, column.element, oid).register(driver)
    loader_type = driver.adapters.get_loader(oid, Format.TEXT)
    if loader_type is None:
        return str
    load = loader_type(oid, driver).load

    def loaded(text: str) -> Any:
        try:
            return load(text.encode())
        except (DataError, NotSupportedError):  # no such date, or none of Python's: infinity, 44 BC
            return text

    def loaded_interval(text: str) -> Any:
        # A month has no length.
        return text if "mon" in text or "year" in text else loaded(text)

    return loaded_interval if column.type_name == "interval" else loaded


def _piece(
    described: Sequence[_Column], loaders: Mapping[str, Callable[[str], Any]], rows: list[tuple[Any, ...]]
) -> Piece:
    frame, texts = {}, {}
    for column, values in zip(described, zip(*rows, strict=True), strict=True):
        own = list(values)
        if column.name in loaders:
            texts[column.name] = own
            load = loaders[column.name]
            own = [None if text is None else load(text) for text in own]
        frame[column.name] = plain_column(own, "", column.name)
    return Piece(pd.DataFrame(frame, dtype=object), texts)
