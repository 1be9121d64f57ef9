"""SQLite: a file, whose transactions hold the making of tables if they are begun by hand."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ....errors import InputError
from .databases import PATIENCE_S, NativeType, TableName, WritableDatabase
from .values import CellRules

if TYPE_CHECKING:
    import sqlalchemy as sa


class SQLite(WritableDatabase):
    """Timestamps, dates and decimals are kept as exact text, for which SQLite has no types."""

    title = "SQLite"
    # SQLite would keep 15 digits of a NUMERIC.
    types: ClassVar = {
        "bool": "BOOLEAN",
        "int": "BIGINT",
        "float": "DOUBLE",
        "str": "TEXT",
        "datetime": "DATETIME",
        "date": "DATE",
        "decimal": "TEXT",
        "bytes": "BLOB",
        "json": "TEXT",
    }
    # Where a column has another affinity, SQLite makes numbers of texts that look like some.
    takes: ClassVar = {
        "bool": "bool(ean)?|",
        "int": r"\w*int(eger)?|",
        "float": "double( precision)?|real|float|",
        "str": r"text|(var|n|nvar)?char(acter)?( varying)?(\(\d+\))?|clob|",
        "datetime": "datetime|timestamp|text|",
        "date": "date|text|",
        "decimal": "text|",
        "bytes": "blob|",
        "json": "text|",
    }
    rules = CellRules(times_as_text=True, decimals_as_text=True)
    ignores_case = True

    def check_url(self, url: sa.URL, is_output: bool) -> None:
        if url.database in (None, "", ":memory:"):
            raise InputError(
                "a SQLite database in memory is gone when its connection ends; give a file, as in sqlite:///file.db"
            )
        if not (is_output or url.host or "uri" in url.query) and not Path(str(url.database)).is_file():
            raise InputError(
                f"{url.database!r} is not a file; give the path of a SQLite database (sqlite:////absolute/path.db)"
            )

    def options(self, url: sa.URL) -> dict[str, Any]:
        return {} if "timeout" in url.query else {"timeout": PATIENCE_S}

    def prepare(self, engine: sa.Engine, is_output: bool) -> None:
        """Begin transactions ourselves: the driver leaves the making of tables, and reading, outside of them."""
        import sqlalchemy as sa

        def connect(connection: Any, _: Any) -> None:
            connection.isolation_level = None
            # Else renaming would fail over a view of the table that is replaced.
            connection.execute("PRAGMA legacy_alter_table = ON" if is_output else "PRAGMA query_only = ON")

        def begin(connection: sa.Connection) -> None:
            connection.exec_driver_sql("BEGIN IMMEDIATE" if is_output else "BEGIN")

        sa.event.listen(engine, "connect", connect)
        sa.event.listen(engine, "begin", begin)

    def meaning(self, declared: Any) -> str:
        import sqlalchemy as sa

        kinds = ((sa.Boolean, "bool"), (sa.DateTime, "datetime"), (sa.Date, "date"))
        return next((kind for base, kind in kinds if isinstance(declared, base)), "")

    def native_types(self, connection: sa.Connection, name: TableName) -> dict[str, NativeType]:
        query = "SELECT name, type FROM pragma_table_xinfo(?, ?) WHERE hidden <> 1 ORDER BY cid"
        rows = connection.exec_driver_sql(query, (name.table, name.schema or "main"))
        return {column: NativeType(declared) for column, declared in rows}

    def has_zone(self, native: str) -> bool | None:
        return None

    def same(self, left: str, right: str) -> str:
        return f"{left} = {right} COLLATE BINARY"

    def exact(self, key: str) -> str:
        return f"{key} COLLATE BINARY"
