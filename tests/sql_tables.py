"""Databases of all kinds, each with nothing in it, as another client than llmclf sees them."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from urllib.parse import quote, urlencode

import numpy as np
import pandas as pd
import sqlalchemy as sa

from llmclf.jobs.tables.sql import SqlSource


@dataclass
class Database:
    """An empty database, seen by another client than llmclf."""

    base: str
    engine: sa.Engine

    def url(self, table: str, **query: str) -> str:
        parts = {"table": table, **query}
        return f"{self.base}?{urlencode(parts, quote_via=quote, safe='')}"

    def run(self, *statements: str) -> None:
        with self.engine.begin() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)

    def rows(self, query: str) -> list[tuple]:
        with self.engine.connect() as connection:
            return [tuple(row) for row in connection.exec_driver_sql(query)]

    def tables(self) -> list[str]:
        return sorted(sa.inspect(self.engine).get_table_names())

    @property
    def kind(self) -> str:
        return self.engine.dialect.name

    @property
    def is_sqlite(self) -> bool:
        return self.kind == "sqlite"

    @property
    def is_mysql(self) -> bool:
        return self.kind in ("mysql", "mariadb")

    def quoted(self, name: str) -> str:
        return self.engine.dialect.identifier_preparer.quote_identifier(name)


def read(url: str, size: int = 1000) -> pd.DataFrame:
    return pd.concat(SqlSource(url).chunks(size), ignore_index=True)


def values(url: str) -> dict[str, list]:
    frame = read(url)
    assert set(frame.dtypes) == {np.dtype(object)}
    return {name: frame[name].tolist() for name in frame.columns}


def shown(error: BaseException) -> str:
    """All that a traceback says of an error."""
    return "".join(traceback.format_exception(error)) + repr(error)
