"""DuckDB: a file of columns, whose transactions hold the making of tables."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ....errors import InputError, MissingDependencyError
from ..column_kinds import arrow_type
from .databases import NativeType, TableName, WritableDatabase
from .values import CellRules, plain_column

if TYPE_CHECKING:
    import sqlalchemy as sa

_ROWS = "llmclf_rows"
_MEMORY = (None, "", ":memory:")


class DuckDB(WritableDatabase):
    """One process at a time may write a file, and none may read it meanwhile."""

    title = "DuckDB"
    types: ClassVar = {
        "bool": "BOOLEAN",
        "int": "BIGINT",
        "float": "DOUBLE",
        "str": "VARCHAR",
        "datetime": "TIMESTAMP",
        "date": "DATE",
        "decimal": "DECIMAL(38,18)",
        "bytes": "BLOB",
        "json": "VARCHAR",
    }
    zoned = "TIMESTAMP WITH TIME ZONE"
    takes: ClassVar = {
        "bool": "boolean",
        "int": "u?(tiny|small|big|huge)?int(eger)?",
        "float": "double",
        "str": "varchar",
        "datetime": "timestamp( with time zone)?",
        "date": "date",
        "decimal": r"decimal\(\d+,\d+\)",
        "bytes": "blob",
        "json": "varchar|json",
    }
    rules = CellRules()
    ignores_case = True

    def check_url(self, url: sa.URL, is_output: bool) -> None:
        if url.database in _MEMORY:
            raise InputError(
                "a DuckDB database in memory is gone when its connection ends; give a file, as in duckdb:///file.duckdb"
            )
        file = str(url.database)
        if not (is_output or file.startswith(("md:", "motherduck:"))) and not Path(file).is_file():
            raise InputError(
                f"{file!r} is not a file; give the path of a DuckDB database (duckdb:////absolute/path.duckdb)"
            )

    def prepare(self, engine: sa.Engine, is_output: bool) -> None:
        """Read a file so that other processes can read it, too; unless this process has it open to write it."""
        if is_output:
            return
        import duckdb
        import sqlalchemy as sa

        def connect(dialect: Any, _: Any, arguments: Any, options: dict[str, Any]) -> Any:
            try:
                return dialect.connect(*arguments, **{**options, "read_only": True})
            except duckdb.ConnectionException:
                return None  # then it is opened as it is open already

        sa.event.listen(engine, "do_connect", connect)

    def schemas(self, inspector: sa.Inspector) -> list[str]:
        query = "SELECT schema_name FROM duckdb_schemas() WHERE database_name = current_database() ORDER BY 1"
        return [name for (name,) in inspector.bind.exec_driver_sql(query)]  # type: ignore[union-attr]

    def native_types(self, connection: sa.Connection, name: TableName) -> dict[str, NativeType]:
        query = (
            "SELECT column_name, data_type FROM duckdb_columns() WHERE database_name = current_database() AND "
            "schema_name = $1 AND lower(table_name) = lower($2) ORDER BY column_index"
        )
        rows = connection.exec_driver_sql(query, (name.schema or "main", name.table))
        return {column: NativeType(data_type) for column, data_type in rows}

    def selected(self, table: Any, columns: Mapping[str, Any]) -> list[Any]:
        """Besides the columns, which of their dates are infinite: the driver makes ordinary dates of them."""
        import sqlalchemy as sa

        return [*table.c, *(sa.func.isinf(table.c[name]) for name in _dates(columns))]

    def converted(self, values: Sequence[Sequence[Any]], columns: Mapping[str, Any]) -> list[list[Any]]:
        infinite = dict(zip(_dates(columns), values[len(columns) :], strict=True))
        plain = []
        for (name, declared), own in zip(columns.items(), values, strict=False):
            finite = own
            if any(infinite.get(name, ())):
                pairs = zip(own, infinite[name], strict=True)
                finite = [_infinity(value) if is_infinite else value for value, is_infinite in pairs]
            plain.append(plain_column(finite, self.meaning(declared), name))
        return plain

    def meaning(self, declared: Any) -> str:
        import sqlalchemy as sa

        return "json" if isinstance(declared, sa.JSON) else ""

    def has_zone(self, native: str) -> bool | None:
        return native.upper() == self.zoned

    def refuse(self, connection: sa.Connection, name: TableName) -> None:
        _arrow()

    def insert(
        self,
        connection: sa.Connection,
        table: str,
        schema: str | None,
        kinds: Mapping[str, str],
        rows: list[tuple[Any, ...]],
    ) -> None:
        pa = _arrow()
        columns = []
        for kind, values in zip(kinds.values(), zip(*rows, strict=True), strict=True):
            column_type = arrow_type(kind)
            if kind == "decimal":
                exponents = [int(value.as_tuple().exponent) for value in values if value is not None]
                column_type = pa.decimal128(38, -min(exponents, default=0) if min(exponents, default=0) < 0 else 0)
            elif kind == "datetime" and any(value is not None and value.utcoffset() is not None for value in values):
                column_type = pa.timestamp("us", "UTC")
            columns.append(pa.array(values, column_type))
        # Names of their own: Arrow's may not be alike in any case.
        frame = pa.table(columns, names=[f"c{i}" for i in range(len(columns))])
        driver: Any = connection.connection.driver_connection
        driver.register(_ROWS, frame)
        try:
            connection.exec_driver_sql(f"INSERT INTO {self.quoted(connection, table, schema)} SELECT * FROM {_ROWS}")
        finally:
            driver.unregister(_ROWS)

    def index(self, connection: sa.Connection, table: str, key: str) -> None:
        """DuckDB joins by hashing."""


def _dates(columns: Mapping[str, Any]) -> list[str]:
    import sqlalchemy as sa

    return [name for name, declared in columns.items() if isinstance(declared, (sa.Date, sa.DateTime))]


def _infinity(value: datetime.date) -> str:
    return "-infinity" if value.year < 5000 else "infinity"


def _arrow() -> Any:
    try:
        import pyarrow
    except ImportError as error:
        raise MissingDependencyError(
            "DuckDB tables need pyarrow to be written; run: pip install 'llmclf[parquet]'"
        ) from error
    return pyarrow
