"""From a SQLAlchemy URL with ``?table=`` to an engine and a table, and from a database's errors to ours, without passwords."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, quote_plus

from ...errors import InputError, MissingDependencyError, StoreError

if TYPE_CHECKING:
    import sqlalchemy as sa

_SCHEME = re.compile(r"(?P<dialect>[A-Za-z]\w+)(\+\w+)?://")
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
_SECRET = re.compile(r"pass|pwd|secret|token|key|credential|odbc_connect", re.IGNORECASE)
_PACKAGES = {
    "psycopg": "psycopg[binary]",
    "psycopg2": "psycopg2-binary",
    "MySQLdb": "mysqlclient",
    "pymysql": "PyMySQL",
    "duckdb_engine": "duckdb-engine",
}
PATIENCE_S = 60
"""How long another user of a table is waited for."""


def is_sql_url(text: str) -> bool:
    """Whether a text is written like a SQLAlchemy URL, ``name://`` or ``name+driver://``.

    Examples
    --------
    >>> [is_sql_url(text) for text in ("sqlite:///file.db?table=reviews", "reviews.csv", "https://host/reviews.csv")]
    [True, False, False]
    """
    match = _SCHEME.match(text)
    return match is not None and match["dialect"].lower() not in _NOT_SQL


@dataclass(frozen=True, repr=False)
class SqlTable:
    """Where a table is, and an engine that opens a connection each time and pools none."""

    engine: sa.Engine
    table: str
    schema: str | None
    name: str
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
        if url is None or "@" in (url.host or ""):
            # What cannot be understood may hold the password anywhere.
            raise InputError(
                f"the URL that starts with {text.partition('://')[0]!r} is not one that SQLAlchemy understands; expected "
                "dialect+driver://user:password@host:port/database?table=NAME, with %40 for @ and the like in user and password"
            )
        options = dict(url.query)
        table, schema = (_one(options.pop(key, None), key) for key in ("table", "schema"))
        shown = {key: value for key, value in (("table", table), ("schema", schema)) if value}
        name = sa.URL.create(url.drivername, url.username, None, url.host, url.port, url.database, shown)
        if not table:
            raise InputError(
                f"{name.render_as_string()} does not name a table; add ?table=NAME (after other parameters: &table=NAME)"
            )
        values = [url.password or "", *(str(value) for key, value in options.items() if _SECRET.search(key))]
        hidden = {form for value in values if value for form in (value, quote(value, safe=""), quote_plus(value))}
        try:
            url.get_dialect()
        except sa.exc.NoSuchModuleError:
            raise InputError(
                f"{name.render_as_string()}: SQLAlchemy does not know {url.drivername!r}; expected a dialect and a driver, as in "
                "postgresql+psycopg or sqlite"
            ) from None
        # Before a driver is asked for that would not help.
        if is_output and url.get_backend_name() not in ("postgresql", "sqlite"):
            raise InputError(
                f"{name.render_as_string()}: only PostgreSQL and SQLite can be written, because elsewhere a job that is killed "
                "could leave a part of a table; write a file, and load that"
            )
        if url.get_backend_name() == "sqlite":
            _check_file(url, is_output)
        engine = _engine(url.set(query=options), name.render_as_string(), is_output, tuple(hidden))
        return cls(engine, table, schema or None, name.render_as_string(), tuple(hidden))

    @contextmanager
    def errors_translated(self, done: str) -> Iterator[None]:
        """Turn the database's errors into ours, without passwords."""
        import sqlalchemy as sa

        try:
            yield
        except (sa.exc.SQLAlchemyError, self.engine.dialect.loaded_dbapi.Error) as error:
            message = _message(error, self.hidden)
            raise StoreError(f"{self.name} cannot be {done}: {message}") from None

    def described(self, connection: sa.Connection) -> dict[str, Any]:
        """The columns and their types."""
        import sqlalchemy as sa

        inspector = sa.inspect(connection)
        self.check_schema(inspector)
        try:
            with without_warnings():
                columns = inspector.get_columns(self.table, schema=self.schema)
        except sa.exc.NoSuchTableError:
            columns = []
        if columns:
            return {column["name"]: column["type"] for column in columns}
        others = sorted([*inspector.get_table_names(self.schema), *inspector.get_view_names(self.schema)])
        known = ", ".join(map(repr, islice(others, 20))) or "none"
        raise InputError(f"{self.name}: there is no table {self.table!r} (or it has no columns); tables there: {known}")

    def keys(self, connection: sa.Connection) -> list[str]:
        """The columns of the primary key."""
        import sqlalchemy as sa

        with without_warnings():
            return list(sa.inspect(connection).get_pk_constraint(self.table, schema=self.schema)["constrained_columns"])

    def check_schema(self, inspector: sa.Inspector) -> None:
        if self.schema is not None and self.schema not in (names := inspector.get_schema_names()):
            raise InputError(f"{self.name}: there is no schema {self.schema!r}; schemas there: {', '.join(names)}")


def _engine(url: sa.URL, name: str, is_output: bool, hidden: tuple[str, ...]) -> sa.Engine:
    import sqlalchemy as sa

    is_sqlite = url.get_backend_name() == "sqlite"
    options = {"timeout": PATIENCE_S} if is_sqlite and "timeout" not in url.query else {}
    try:
        engine = sa.create_engine(url, poolclass=sa.NullPool, hide_parameters=True, connect_args=options)
    except ImportError as error:
        driver = (error.name or url.get_driver_name()).partition(".")[0]
        package = _PACKAGES.get(driver, driver)
        raise MissingDependencyError(f"{name} needs the driver {driver}; run: pip install {package!r}") from None
    except (sa.exc.SQLAlchemyError, ValueError, TypeError) as error:
        raise InputError(f"{name} cannot be used: {_message(error, hidden)}") from None
    if engine.dialect.is_async:
        raise InputError(
            f"{name}: {url.drivername!r} is an asynchronous driver; give another, as in postgresql+psycopg"
        )
    if is_sqlite:
        _take_over_transactions(engine, is_output)
    return engine


def _take_over_transactions(engine: sa.Engine, is_output: bool) -> None:
    """Begin SQLite's transactions ourselves: its driver leaves the making of tables, and reading, outside of them."""
    import sqlalchemy as sa

    def connect(connection: Any, _: Any) -> None:
        connection.isolation_level = None
        # Else renaming would fail over a view of the table that is replaced.
        connection.execute("PRAGMA legacy_alter_table = ON" if is_output else "PRAGMA query_only = ON")

    def begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE" if is_output else "BEGIN")

    sa.event.listen(engine, "connect", connect)
    sa.event.listen(engine, "begin", begin)


def _check_file(url: sa.URL, is_output: bool) -> None:
    if url.database in (None, "", ":memory:"):
        raise InputError(
            "a SQLite database in memory is gone when its connection ends; give a file, as in sqlite:///file.db"
        )
    if not (is_output or url.host or "uri" in url.query) and not Path(str(url.database)).is_file():
        raise InputError(
            f"{url.database!r} is not a file; give the path of a SQLite database (sqlite:////absolute/path.db)"
        )


def _message(error: Exception, hidden: tuple[str, ...]) -> str:
    """What a driver says, on one line, without rows and secrets."""
    said = getattr(error, "orig", None) or error
    text = str(said.args[0]) if said.args else type(said).__name__
    # Below the first lines PostgreSQL shows the row or the statement.
    text = re.split(r"\n(?:DETAIL|CONTEXT|LINE \d+)\b", text)[0]
    for secret in sorted(hidden, key=len, reverse=True):
        text = text.replace(secret, "***")
    return " ".join(text.split())


def _one(value: Any, key: str) -> str | None:
    if isinstance(value, tuple):
        raise InputError(f"the SQL URL gives {key!r} more than once; give one")
    return value if value is None else str(value)


@contextmanager
def without_warnings() -> Iterator[None]:
    """SQLAlchemy warns of types that it does not know; none is asked of it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
