"""An empty database of every kind."""

from __future__ import annotations

import uuid

import pytest
import sqlalchemy as sa
from mariadb import mariadb as mariadb_server
from postgres import postgres
from sql_tables import Database

KINDS = ["sqlite", "duckdb", *(pytest.param(name, marks=pytest.mark.database) for name in ("postgresql", "mariadb"))]


@pytest.fixture(scope="session")
def postgres_url():
    with postgres() as server:
        yield server.url


@pytest.fixture(scope="session")
def mariadb_url():
    with mariadb_server() as server:
        yield server.url


@pytest.fixture
def sqlite(tmp_path):
    base = f"sqlite:///{tmp_path}/shop.db"
    engine = sa.create_engine(base, poolclass=sa.NullPool)
    engine.connect().close()
    return Database(base, engine)


@pytest.fixture
def duckdb(tmp_path):
    base = f"duckdb:///{tmp_path}/shop.duckdb"
    engine = sa.create_engine(base, poolclass=sa.NullPool)
    engine.connect().close()
    return Database(base, engine)


@pytest.fixture
def postgresql(postgres_url):
    name = f"test_{uuid.uuid4().hex}"
    admin = sa.create_engine(postgres_url, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    base = postgres_url.removesuffix("postgres") + name
    yield Database(base, sa.create_engine(base, poolclass=sa.NullPool))
    with admin.connect() as connection:
        connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def mariadb(mariadb_url):
    name = f"test_{uuid.uuid4().hex}"
    options = {"sql_mode": "TRADITIONAL"}
    admin = sa.create_engine(mariadb_url, poolclass=sa.NullPool, connect_args=options)
    with admin.begin() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    base = mariadb_url + name
    yield Database(base, sa.create_engine(base, poolclass=sa.NullPool, connect_args=options))
    with admin.begin() as connection:
        connection.exec_driver_sql(f"DROP DATABASE {name}")


@pytest.fixture(params=KINDS)
def database(request):
    return request.getfixturevalue(request.param)
