"""MySQL and MariaDB, where the making of a table is no part of a transaction: a new one takes the old one's name in one step."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar

from ....errors import InputError, StoreError
from .databases import PATIENCE_S, NativeType, TableName, WritableDatabase
from .values import CellRules

if TYPE_CHECKING:
    import sqlalchemy as sa

_WRITTEN = "written by llmclf"
"""The comment of every table that is made here: a table that a killed job left has it, and a name that only such tables have."""


class MySQL(WritableDatabase):
    """Timestamps with a time zone are TIMESTAMPs, which are moments; those without are DATETIMEs."""

    title = "MySQL"
    driver = "pymysql"
    types: ClassVar = {
        "bool": "tinyint(1)",
        "int": "bigint",
        "float": "double",
        "str": "longtext",
        "datetime": "datetime(6)",
        "date": "date",
        "decimal": "decimal(65,30)",
        "bytes": "longblob",
        "json": "longtext",
    }
    zoned = "timestamp(6)"
    takes: ClassVar = {
        "bool": r"tinyint\(1\)",
        "int": r"(tiny|small|medium|big)?int(\(\d+\))?( unsigned)?",
        "float": "double",
        "str": r"(tiny|medium|long)?text|varchar\(\d+\)",
        "datetime": r"(datetime|timestamp)\(6\)",
        "date": "date",
        "decimal": r"decimal\(\d+,\d+\)( unsigned)?",
        "bytes": r"(tiny|medium|long)?blob|varbinary\(\d+\)",
        "json": r"(tiny|medium|long)?text|json",
    }
    rules = CellRules(
        infinite_floats=False,
        moments=(datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC), datetime(2038, 1, 19, 3, 14, 7, tzinfo=UTC)),
    )
    longest_name = 64
    parameter = "%s"  # the driver makes few and long statements of many rows
    column_end = " NULL"
    table_end = f" ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COMMENT = '{_WRITTEN}'"

    def options(self, url: sa.URL) -> dict[str, Any]:
        """A session that cuts nothing off, shows moments in UTC, and waits as long as others do here."""
        waits = f"lock_wait_timeout = {PATIENCE_S}, innodb_lock_wait_timeout = {PATIENCE_S}, net_write_timeout = 3600"
        return {
            "charset": "utf8mb4",
            "sql_mode": "TRADITIONAL",
            "init_command": f"SET time_zone = '+00:00', {waits}",
        }

    def begin_reading(self, connection: sa.Connection) -> None:
        connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        connection.exec_driver_sql("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")

    def stop_reading(self, connection: sa.Connection, result: sa.CursorResult[Any]) -> None:
        """End the query from another session: the server would send all its rows, and the driver would read them."""
        import sqlalchemy as sa

        session = connection.connection.driver_connection.thread_id()  # type: ignore[union-attr]
        with suppress(sa.exc.DBAPIError), connection.engine.connect() as other:
            other.exec_driver_sql(f"KILL QUERY {session:d}")
            for _ in result.partitions():
                pass

    def meaning(self, declared: Any) -> str:
        import sqlalchemy as sa

        if isinstance(declared, sa.TIMESTAMP):
            return "utc"
        if isinstance(declared, sa.JSON):
            return "json"
        return "bool" if getattr(declared, "display_width", None) == 1 else ""

    def native_types(self, connection: sa.Connection, name: TableName) -> dict[str, NativeType]:
        query = (
            "SELECT column_name, column_type FROM information_schema.columns "
            "WHERE table_schema = coalesce(%s, database()) AND table_name = %s ORDER BY ordinal_position"
        )
        rows = connection.exec_driver_sql(query, (name.schema, name.table))
        return {column: NativeType(column_type) for column, column_type in rows}

    def has_zone(self, native: str) -> bool | None:
        return native.startswith("timestamp")

    # --- writing ---------------------------------------------------------------------------------------------------------

    def new_name(self, name: TableName) -> str:
        return _aside(name, "new")

    def begin_writing(self, connection: sa.Connection, name: TableName) -> None:
        """Hold a lock of the server, which frees it when the session ends; and remove what is left of one that was killed."""
        lock = _aside(name, "lock")
        if connection.exec_driver_sql("SELECT get_lock(%s, %s)", (lock, PATIENCE_S)).scalar() != 1:
            raise StoreError(
                f"another job is writing {name.shown}; wait until it ends, or give this one another table name"
            )
        comments = self._comments(connection, name)
        for part in ("new", "old"):
            left = _aside(name, part)
            if left not in comments:
                continue
            # The old table is put aside in the same step that puts the new one in its place.
            if comments[left] != _WRITTEN and (part == "new" or name.table not in comments):
                raise InputError(
                    f"{name.shown}: a table {left!r} is in the way, which has a name of those that llmclf writes and was not "
                    "written by it; rename or drop it"
                )
            connection.exec_driver_sql(f"DROP TABLE {self.quoted(connection, left, name.schema)}")

    def _comments(self, connection: sa.Connection, name: TableName) -> dict[str, str]:
        query = (
            "SELECT table_name, table_comment FROM information_schema.tables "
            "WHERE table_schema = coalesce(%s, database()) AND table_name IN (%s, %s, %s)"
        )
        names = (name.schema, name.table, _aside(name, "new"), _aside(name, "old"))
        return {row[0]: row[1] for row in connection.exec_driver_sql(query, names)}

    def refuse(self, connection: sa.Connection, name: TableName) -> None:
        query = (
            "SELECT table_name FROM information_schema.key_column_usage "
            "WHERE referenced_table_schema = coalesce(%s, database()) AND referenced_table_name = %s LIMIT 1"
        )
        referring = connection.exec_driver_sql(query, (name.schema, name.table)).scalar()
        if referring is not None:
            raise InputError(
                f"the table {name.shown} cannot be replaced, because a foreign key of {referring!r} refers to it; give the "
                "output another table name, or drop that key"
            )

    def make_zoned(self, connection: sa.Connection, table: str, schema: str | None, column: str) -> None:
        whole = self.quoted(connection, table, schema)
        connection.exec_driver_sql(f"ALTER TABLE {whole} MODIFY {self.quoted(connection, column)} {self.zoned} NULL")

    def kept(self, connection: sa.Connection) -> None:
        connection.commit()

    def put(self, connection: sa.Connection, new: str, schema: str | None, name: str, old: str | None) -> None:
        def whole(table: str) -> str:
            return self.quoted(connection, table, schema)

        renamed = f"{whole(new)} TO {whole(name)}"
        if old is None:
            connection.exec_driver_sql(f"RENAME TABLE {renamed}")
            return
        aside = whole(new.removesuffix("new") + "old")
        connection.exec_driver_sql(f"RENAME TABLE {whole(old)} TO {aside}, {renamed}")
        connection.exec_driver_sql(f"DROP TABLE {aside}")

    def rehearse(self, connection: sa.Connection, new: str, schema: str | None, name: str, old: str | None) -> None:
        aside = new.removesuffix("new") + "old"
        self.put(connection, new, schema, aside, None)
        self.abandon(connection, aside, schema)

    def abandon(self, connection: sa.Connection, new: str, schema: str | None) -> None:
        connection.exec_driver_sql(f"DROP TABLE IF EXISTS {self.quoted(connection, new, schema)}")

    # --- adding to a table -----------------------------------------------------------------------------------------------

    def refuse_addition(self, connection: sa.Connection, name: TableName) -> None:
        query = "SELECT engine FROM information_schema.tables WHERE table_schema = coalesce(%s, database()) AND table_name = %s"
        engine = connection.exec_driver_sql(query, (name.schema, name.table)).scalar()
        if engine != "InnoDB":
            raise InputError(
                f"the table {name.shown} has the engine {engine}, without transactions: a job that is killed could leave a part "
                "of its rows; change it (ALTER TABLE ... ENGINE = InnoDB), or give the output another table name"
            )

    def index(self, connection: sa.Connection, table: str, key: str) -> None:
        declared = connection.exec_driver_sql(f"SHOW COLUMNS FROM {table}").fetchall()
        quoted = {self.quoted(connection, row[0]): row[1] for row in declared}
        prefix = "(191)" if quoted[key].endswith(("text", "blob")) else ""
        connection.exec_driver_sql(f"ALTER TABLE {table} ADD INDEX ({key}{prefix})")

    def lock(self, connection: sa.Connection, table: str) -> None:
        connection.commit()
        # So that no other can add a row between the look for one and the adding of one.
        connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")

    def same(self, left: str, right: str) -> str:
        """Equal by the index, and whatever the collation takes for equal."""
        return f"{left} = {right} AND {self.exact(left)} = {self.exact(right)}"

    def exact(self, key: str) -> str:
        return f"CAST({key} AS BINARY)"

    def update(self, table: str, staged: str, key: str, columns: Sequence[str]) -> str | None:
        if not columns:
            return None
        assigned = ", ".join(f"t.{column} = s.{column}" for column in columns)
        return f"UPDATE {table} AS t JOIN {staged} AS s ON {self.same(f't.{key}', f's.{key}')} SET {assigned}"


def _aside(name: TableName, part: str) -> str:
    """A name that belongs to a table, the same in every run."""
    digest = hashlib.sha256(f"{name.schema or ''}.{name.table}".encode()).hexdigest()[:16]
    return f"llmclf_{digest}_{part}"
