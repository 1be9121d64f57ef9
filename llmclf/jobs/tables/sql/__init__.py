"""SQL tables as a job's input and output: read in one snapshot, written whole or not at all.

A table is named by a SQLAlchemy URL with the query parameter ``table`` and, if need be, ``schema``. Any database that SQLAlchemy
knows can be read. PostgreSQL, SQLite, DuckDB, MySQL and MariaDB can be written: there, a table can take another's place in one
step. What they differ in lies in a module each, and another database goes into one more. May import what ``jobs.tables`` may,
but no source or sink of it.
"""

from .tables import IF_EXISTS, SqlSink, SqlSource
from .urls import is_sql_url

__all__ = ["IF_EXISTS", "SqlSink", "SqlSource", "is_sql_url"]
