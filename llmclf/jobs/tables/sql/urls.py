"""From a SQLAlchemy URL with ``?table=`` to an engine and a table, and from a database's errors to ours, without passwords."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, quote_plus

from ....errors import InputError, MissingDependencyError, StoreError
from .databases import Database, TableName, WritableDatabase, without_warnings
from .duckdb import DuckDB
from .mysql import MySQL
from .postgresql import PostgreSQL
from .sqlite import SQLite

if TYPE_CHECKING:
    import sqlalchemy as sa

_SCHEME = re.compile(
    r"(?P<dialect>[A-Za-z]\w+)(\+\w+)?://|(postgres(ql)?|mysql|mariadb|sqlite|duckdb)(\+\w+)?:/", re.IGNORECASE
)
"""What lacks a slash is meant as a URL, too: as a path it would be shown, with its password."""
_NOT_SQL = frozenset(
    [
        "http",
        "https",
        "ftp",
        "ftps",
        "sftp",
        "ssh",
        "file",
        "data",
        "s3",
        "s3a",
        "gs",
        "gcs",
        "az",
        "abfs",
        "abfss",
        "adl",
        "hdfs",
        "hf",
        "memory",
    ]
)
_VALUES = (
    ("Duplicate entry ", "'", " for"),
    ("value: ", "'", " for"),
    ("string ", "'", " to"),
    ("key ", '"', " viol"),
)
"""Where MySQL and DuckDB quote a row: what stands before the text, its quotation mark, and what stands behind."""
_SECRET = re.compile(r"pass|pwd|secret|token|key|credential|odbc_connect", re.IGNORECASE)
_PACKAGES = {
    "psycopg": "psycopg[binary]",
    "psycopg2": "psycopg2-binary",
    "MySQLdb": "mysqlclient",
    "pymysql": "PyMySQL",
}
_DATABASES: dict[str, WritableDatabase] = {
    "postgresql": PostgreSQL(),
    "sqlite": SQLite(),
    "duckdb": DuckDB(),
    "mysql": (_mysql := MySQL()),
    "mariadb": _mysql,
}
"""Those that are written, by their names in URLs; every other one is a `Database`."""
_DIALECT_PACKAGES = {"duckdb": "duckdb-sqlalchemy"}
_WRITTEN = "PostgreSQL, SQLite, DuckDB, MySQL and MariaDB"


def is_sql_url(text: str) -> bool:
    """Whether a text is written like a SQLAlchemy URL, ``name://`` or ``name+driver://``.

    Examples
    --------
    >>> [is_sql_url(text) for text in ("sqlite:///file.db?table=reviews", "reviews.csv", "https://host/reviews.csv")]
    [True, False, False]
    """
    match = _SCHEME.match(text)
    return match is not None and (match["dialect"] or "").lower() not in _NOT_SQL


@dataclass(frozen=True, repr=False)
class SqlTable:
    """Where a table is, and an engine that opens a connection each time and pools none."""

    engine: sa.Engine
    database: Database
    place: TableName
    hidden: tuple[str, ...]

    @classmethod
    def at(cls, text: str, *, is_output: bool) -> SqlTable:
        try:
            import sqlalchemy as sa
        except ImportError:
            raise MissingDependencyError("SQL tables need SQLAlchemy; run: pip install 'llmclf[sql]'") from None
        try:
            url = sa.make_url(text)
        except (sa.exc.ArgumentError, ValueError):
            url = None
        if url is None or "@" in (url.host or "") or ":" in (url.username or ""):
            # What cannot be understood may hold the password anywhere.
            raise InputError(
                f"the URL that starts with {text.partition(':')[0]!r} is not one that SQLAlchemy understands; expected "
                "dialect+driver://user:password@host:port/database?table=NAME, with %40 for @ and the like in user and password"
            )
        options = dict(url.query)
        table, schema = (_one(options.pop(key, None), key) for key in ("table", "schema"))
        shown = {key: value for key, value in (("table", table), ("schema", schema)) if value}
        described = sa.URL.create(url.drivername, url.username, None, url.host, url.port, url.database, shown)
        name = described.render_as_string()
        if not table:
            raise InputError(f"{name} does not name a table; add ?table=NAME (after other parameters: &table=NAME)")
        hidden = _secrets(url, options)
        database = _database(url, name, is_output)
        database.check_url(url, is_output)
        engine = _engine(url.set(query=options), name, database, is_output, hidden)
        return cls(engine, database, TableName(schema or None, table, name), hidden)

    @property
    def name(self) -> str:
        """For messages; holds no password."""
        return self.place.shown

    @contextmanager
    def errors_translated(self, done: str, connection: sa.Connection | None = None, cure: str = "") -> Iterator[None]:
        """Turn the database's errors into ours, without passwords.

        Parameters
        ----------
        done : "read" or "written"
        connection : Connection, optional
        cure : str
            What to do if that is lost.
        """
        import sqlalchemy as sa

        try:
            yield
        except (sa.exc.SQLAlchemyError, self.engine.dialect.loaded_dbapi.Error) as error:
            message = _message(error, self.hidden)
            if connection is not None and self._is_lost(error, connection):
                message = f"{message}; the connection to the database was lost: {cure}"
            raise StoreError(f"{self.name} cannot be {done}: {message}") from None

    def _is_lost(self, error: Exception, connection: sa.Connection) -> bool:
        if getattr(error, "connection_invalidated", False):
            return True
        driver = None if connection.closed or connection.invalidated else connection.connection.driver_connection
        return self.engine.dialect.is_disconnect(error, driver, None)  # type: ignore[arg-type]

    def described(self, connection: sa.Connection) -> dict[str, Any]:
        """The columns and their types."""
        import sqlalchemy as sa

        inspector = sa.inspect(connection)
        self.check_schema(inspector)
        table, schema = self.place.table, self.place.schema
        try:
            with without_warnings():
                columns = inspector.get_columns(table, schema=schema)
        except sa.exc.NoSuchTableError:
            columns = []
        if columns:
            return {column["name"]: column["type"] for column in columns}
        others = sorted([*inspector.get_table_names(schema), *inspector.get_view_names(schema)])
        known = ", ".join(map(repr, islice(others, 20))) or "none"
        raise InputError(f"{self.name}: there is no table {table!r} (or it has no columns); tables there: {known}")

    def keys(self, connection: sa.Connection) -> list[str]:
        """The columns of the primary key."""
        import sqlalchemy as sa

        with without_warnings():
            key = sa.inspect(connection).get_pk_constraint(self.place.table, schema=self.place.schema)
        return list(key["constrained_columns"])

    def check_schema(self, inspector: sa.Inspector) -> None:
        schema = self.place.schema
        if schema is not None and schema not in (names := self.database.schemas(inspector)):
            raise InputError(f"{self.name}: there is no schema {schema!r}; schemas there: {', '.join(names)}")


def _database(url: sa.URL, name: str, is_output: bool) -> Database:
    """The kind of database that a URL names, if its driver is one that is used."""
    import sqlalchemy as sa

    backend = url.get_backend_name()
    try:
        url.get_dialect()
    except sa.exc.NoSuchModuleError:
        if url.drivername in _DIALECT_PACKAGES:
            package = _DIALECT_PACKAGES[url.drivername]
            raise MissingDependencyError(f"{name} needs {package}; run: pip install {package!r}") from None
        raise InputError(
            f"{name}: SQLAlchemy does not know {url.drivername!r}; expected a dialect and a driver, as in "
            "postgresql+psycopg, mysql+pymysql, duckdb or sqlite"
        ) from None
    database: Database = _DATABASES.get(backend) or Database()
    # Before a driver is asked for that would not help.
    if is_output and not isinstance(database, WritableDatabase):
        raise InputError(
            f"{name}: only {_WRITTEN} can be written, because elsewhere a job that is killed could leave a part of a table; "
            "write a file, and load that"
        )
    if database.driver is not None and url.get_driver_name() != database.driver:
        raise InputError(
            f"{name}: the driver {url.get_driver_name()} is not one that llmclf uses; give {backend}+{database.driver}"
        )
    return database


def _secrets(url: sa.URL, options: Mapping[str, Any]) -> tuple[str, ...]:
    """What no message may show, in all forms in which a driver may quote it."""
    values = [url.password or "", *(str(value) for key, value in options.items() if _SECRET.search(key))]
    return tuple({form for value in values if value for form in (value, quote(value, safe=""), quote_plus(value))})


def _engine(url: sa.URL, name: str, database: Database, is_output: bool, hidden: tuple[str, ...]) -> sa.Engine:
    import sqlalchemy as sa

    try:
        engine = sa.create_engine(url, poolclass=sa.NullPool, hide_parameters=True, connect_args=database.options(url))
    except ImportError as error:
        driver = (error.name or url.get_driver_name()).partition(".")[0]
        package = _PACKAGES.get(driver, driver)
        raise MissingDependencyError(f"{name} needs the driver {driver}; run: pip install {package!r}") from None
    except (sa.exc.SQLAlchemyError, ValueError, TypeError) as error:
        raise InputError(f"{name} cannot be used: {_message(error, hidden)}") from None
    if engine.dialect.is_async:
        raise InputError(f"{name}: {url.drivername!r} is an asynchronous driver; give another")
    database.prepare(engine, is_output)
    return engine


def _message(error: Exception, hidden: tuple[str, ...]) -> str:
    """What a driver says, on one line, without rows and secrets."""
    said = getattr(error, "orig", None) or error
    # MySQL's begins with a number.
    words = [part for part in said.args if isinstance(part, str)]
    text = words[0] if words else type(said).__name__
    text = _without_values(text)
    # Below the first lines PostgreSQL shows the row or the statement.
    text = re.split(r"\n(?:DETAIL|CONTEXT|LINE \d+)\b", text)[0]
    for secret in sorted(hidden, key=len, reverse=True):
        text = text.replace(secret, "***")
    return " ".join(text.split())


def _without_values(text: str) -> str:
    """A driver's message without the texts of a row, which may hold line breaks and marks, and be long."""
    for before, mark, behind in _VALUES:
        start = text.find(f"{before}{mark}")
        end = text.rfind(f"{mark}{behind}")
        if start >= 0 and start + len(before) < end:
            text = f"{text[: start + len(before)]}{text[end + len(mark) :]}"
    return text


def _one(value: Any, key: str) -> str | None:
    if isinstance(value, tuple):
        raise InputError(f"the SQL URL gives {key!r} more than once; give one")
    return value if value is None else str(value)
