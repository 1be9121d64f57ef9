"""SQL tables as a job's input and output, in SQLite, DuckDB, and real PostgreSQL and MariaDB servers."""

from __future__ import annotations

import datetime
import decimal
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
import uuid
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pandas as pd
import psycopg
import pytest
import sqlalchemy as sa
from database_server import PASSWORD
from sql_tables import Database, read, shown, values

from llmclf.backends import FakeBackend
from llmclf.errors import InputError, MissingDependencyError, StoreError
from llmclf.jobs import label_table
from llmclf.jobs.tables.sql import SqlSink, SqlSource, is_sql_url

BERLIN = datetime.timezone(datetime.timedelta(hours=2))
WHEN = datetime.datetime(2026, 1, 2, 3, 4, 5, 678901)
ALL_KINDS = {
    "bool": [True, False],
    "int": [2**63 - 1, -(2**63)],
    "float": [0.1, float("inf")],
    "str": ["Größe 東京 🙂 'single' \"double\" \\N \\. \t\r\n end", ""],
    "datetime": [WHEN, datetime.datetime(1, 1, 1)],
    "date": [datetime.date(2026, 1, 2), datetime.date(9999, 12, 31)],
    "decimal": [decimal.Decimal("0.10"), decimal.Decimal("123456789012345678901234567890.123456789")],
    "bytes": [b"\x00\xff\\x41", b""],
    "json": ['{"a": [1, null, "é"]}', "[]"],
}
LONGEST_DECIMALS = {"duckdb": decimal.Decimal("12345678901234567890.123456789012345678")}
ODD_NAMES = [
    "a b",
    "a_b",
    'say "hi"',
    "it's",
    "50%",
    "%s",
    "%(x)s",
    "a:b",
    ":b",
    "a.b",
    "select",
    "Order",
    "ünï",
    "[x]",
    "?",
    "c0",
]


def all_kinds(database: Database) -> dict[str, list]:
    """Values of every kind that a database can hold."""
    found = {**ALL_KINDS}
    found["decimal"] = [ALL_KINDS["decimal"][0], LONGEST_DECIMALS.get(database.kind, ALL_KINDS["decimal"][1])]
    if database.is_mysql:
        found["float"] = [0.1, -1.7976931348623157e308]
    return found


# --- URLs ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("postgresql+psycopg://user@host/db?table=reviews", True),
        ("sqlite:///file.db?table=reviews", True),
        ("mysql://host/db", True),
        ("snowflake://account/db?table=t", True),
        ("reviews.csv", False),
        ("/data/sqlite://x.csv", False),
        ("C:\\data\\reviews.csv", False),
        ("C://data/reviews.csv", False),
        ("https://host/reviews.csv", False),
        ("HTTP://host/reviews.csv", False),
        ("s3://bucket/reviews.parquet", False),
        ("file:///reviews.csv", False),
    ],
)
def test_urls_are_told_from_paths(text, expected):
    """A SQLAlchemy URL is one; paths, web addresses and other storage are not."""
    assert is_sql_url(text) is expected


@pytest.mark.parametrize("kind", [SqlSource, SqlSink])
@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("sqlite:///x.db", r"sqlite:///x\.db does not name a table; add \?table=NAME"),
        ("sqlite:///x.db?table=", "does not name a table"),
        ("sqlite:///x.db?table=a&table=b", "gives 'table' more than once"),
        ("sqlite://?table=a", "in memory is gone"),
        ("sqlite:///:memory:?table=a", "in memory is gone"),
        ("duckdb://?table=a", "in memory is gone"),
        ("duckdb:///:memory:?table=a", "in memory is gone"),
        ("sqlite://user:hunter2@host/x.db?table=a", "cannot be used: Invalid SQLite URL"),
        ("postgres://u:hunter2@host/db?table=a", "does not know 'postgres'; expected a dialect and a driver"),
        ("postgresql+nodriver://u:hunter2@host/db?table=a", r"does not know 'postgresql\+nodriver'"),
        ("postgresql+asyncpg://u:hunter2@host/db?table=a", r"driver asyncpg is not .*; give postgresql\+psycopg$"),
        ("postgresql+psycopg2://u:hunter2@host/db?table=a", r"driver psycopg2 is not .*; give postgresql\+psycopg$"),
        ("mysql://u:hunter2@host/db?table=a", r"driver mysqldb is not .*; give mysql\+pymysql$"),
        ("postgresql:/u:hunter2@host/db?table=a", "'postgresql' is not one that SQLAlchemy understands"),
        ("postgresql://u%3Ahunter2@host/db?table=a", "with %40 for @"),
        ("postgresql://u:hun@ter2@host/db?table=a", "with %40 for @"),
        ("postgresql://u:hunter2@host:port/db?table=a", "is not one that SQLAlchemy understands"),
    ],
)
def test_a_bad_url_is_refused_at_once(kind, url, message):
    """A URL without a table or a known driver is refused with the cure, and no password is shown."""
    with pytest.raises((InputError, MissingDependencyError), match=message) as caught:
        kind(url)
    assert "ter2" not in shown(caught.value)


def test_only_databases_where_a_table_appears_in_one_step_are_written():
    """A database where a killed job could leave a part is refused as output, whether or not its driver is there."""
    with pytest.raises(InputError, match=r"mssql\+pyodbc://u@host/db\?table=a: only PostgreSQL, .* can be written"):
        SqlSink("mssql+pyodbc://u:hunter2@host/db?table=a")


def test_absent_packages_are_named(monkeypatch):
    """Without SQLAlchemy or a database's driver, the error says what to install."""
    url = "mysql+pymysql://u:hunter2@host/db?table=a"
    monkeypatch.setitem(sys.modules, "pymysql", None)
    with pytest.raises(MissingDependencyError, match="needs the driver pymysql; run: pip install 'PyMySQL'") as caught:
        SqlSource(url)
    assert "hunter2" not in shown(caught.value)
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(MissingDependencyError, match=r"needs the driver psycopg; run: pip install 'psycopg\[binary\]'"):
        SqlSink("postgresql+psycopg://host/db?table=a")
    monkeypatch.setitem(sys.modules, "sqlalchemy", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'llmclf\[sql\]'"):
        SqlSource("sqlite:///x.db?table=a")


def test_the_file_of_a_source_must_exist(tmp_path):
    """SQLite would make an empty database of a mistyped path; a source does not."""
    for dialect in ("sqlite", "duckdb"):
        with pytest.raises(InputError, match=r"typo\.db' is not a file"):
            SqlSource(f"{dialect}:///{tmp_path}/typo.db?table=a")
    assert not list(tmp_path.iterdir())


def test_other_parameters_reach_the_driver(postgresql):
    """Whatever else the URL says than table and schema is the driver's."""
    postgresql.run("CREATE VIEW v AS SELECT current_setting('application_name') AS name")
    assert values(postgresql.url("v", application_name="a labelling job")) == {"name": ["a labelling job"]}


# --- passwords -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [SqlSource, SqlSink])
def test_passwords_are_never_shown(postgresql, kind):
    """Name, repr and every error are free of the password, however the driver words its own."""
    secret = quote(PASSWORD, safe="")
    wrong = postgresql.url("t").replace(secret, "wrong" + secret)
    in_query = re.sub(r":[^:@]*@", "@", postgresql.url("t", password="wrong" + PASSWORD))
    unreachable = re.sub(r":\d+/", ":1/", postgresql.url("t"))
    nonsense = postgresql.url("t", nonsense="1")
    for url in (wrong, in_query, unreachable, nonsense):
        table = kind(url)
        with pytest.raises(
            StoreError, match=r"^postgresql\+psycopg://postgres@127\.0\.0\.1:\d+/.*\?table=t cannot be "
        ) as caught:
            table.columns() if isinstance(table, SqlSource) else table.check(["a"], {"a": "int"})
        for text in (table.name, repr(table), shown(caught.value)):
            assert PASSWORD not in text
            assert secret not in text


def test_secrets_in_a_drivers_message_are_replaced():
    """Where a driver quotes a secret of the URL, plain or encoded, the message and what led to it have *** instead."""
    table = SqlSink("postgresql+psycopg://u:hunt%20er%2F2@host/db?table=t&sslpassword=hunt%20er%2F3")._table
    said = psycopg.OperationalError("bad hunt er/2, hunt%20er%2F2, hunt+er%2F2 and hunt er/3 here")
    masked = r"bad \*\*\*, \*\*\*, \*\*\* and \*\*\* here$"
    with pytest.raises(StoreError, match=masked) as caught, table.errors_translated("read"):
        raise said
    assert "hunt" not in shown(caught.value)


@pytest.mark.parametrize(
    ("said", "shown_text"),
    [
        ("Duplicate entry '{}' for key 't.PRIMARY'", "Duplicate entry for key 't.PRIMARY'"),
        ("Incorrect string value: '{}' for column 'a' at row 1", "Incorrect string value: for column 'a' at row 1"),
        ("Could not convert string '{}' to INT32", "Could not convert string to INT32"),
        ('Duplicate key "{}" violates primary key constraint', "Duplicate key violates primary key constraint"),
    ],
)
def test_a_row_in_a_drivers_message_is_left_out(said, shown_text):
    """Whatever stands in it: line breaks, what comes behind it, and 100,000 times what looks like its beginning."""
    table = SqlSink("postgresql+psycopg://u@host/db?table=t")._table
    for row in (
        "private",
        "private\nDETAIL private",
        "private' for 'private",
        'key "private' * 100_000,
        "string 'private" * 100_000,
    ):
        began = time.thread_time()
        with pytest.raises(StoreError) as caught, table.errors_translated("read"):
            raise psycopg.OperationalError(said.format(row))
        assert time.thread_time() - began < 1.0
        assert str(caught.value).endswith(f"cannot be read: {shown_text}")


def test_rows_are_not_shown(postgresql):
    """An error of the database does not quote the row that it could not store."""
    postgresql.run("CREATE TABLE t (a INT CHECK (a > 0), b TEXT)")
    sink = SqlSink(postgresql.url("t"))
    insert = "INSERT INTO t VALUES (-1, 'private words')"
    with (
        pytest.raises(StoreError, match="violates check constraint") as caught,
        sink._table.errors_translated("written"),
    ):
        postgresql.run(insert)
    assert "private" not in shown(caught.value)


# --- round trips ---------------------------------------------------------------------------------------------------------


def test_every_kind_comes_back(database):
    """What is written is what is read, value and type, with NULL for every kind of missing value."""
    kinds = {**{f"{kind}_column": kind for kind in ALL_KINDS}, "none": "str"}
    columns = {f"{kind}_column": [*own, None] for kind, own in all_kinds(database).items()}
    expected = {**columns, "none": [None] * 3}
    columns["json_column"] = [{"a": [1, None, "é"]}, [], None]
    frame = pd.DataFrame({**columns, "none": [float("nan"), pd.NaT, pd.NA]}, dtype=object)
    sink = SqlSink(database.url("t"))
    sink.check(list(kinds), kinds, [frame])
    assert sink.write([frame], kinds) == 3
    found = values(database.url("t"))
    if database.is_sqlite:
        expected["decimal_column"] = [None if value is None else str(value) for value in expected["decimal_column"]]
    assert found == expected
    assert [[type(v) for v in column] for column in found.values()] == [
        [type(v) for v in column] for column in expected.values()
    ]


def test_the_columns_have_the_databases_own_types(database):
    """Integers have 64 bits, floats double precision, texts no length."""
    SqlSink(database.url("t")).write([], {kind: kind for kind in ALL_KINDS})
    found = {column["name"]: str(column["type"]) for column in sa.inspect(database.engine).get_columns("t")}
    kinds = ("bool", "int", "float", "str", "datetime", "date", "decimal", "bytes", "json")
    expected = {
        "sqlite": "BOOLEAN BIGINT DOUBLE TEXT DATETIME DATE TEXT BLOB TEXT",
        "duckdb": "BOOLEAN BIGINT DOUBLE VARCHAR TIMESTAMP DATE NUMERIC(38,18) BLOB VARCHAR",
        "postgresql": "BOOLEAN BIGINT DOUBLE_PRECISION TEXT TIMESTAMP DATE NUMERIC BYTEA TEXT",
        "mysql": "TINYINT BIGINT DOUBLE LONGTEXT DATETIME DATE DECIMAL(65,30) LONGBLOB LONGTEXT",
    }
    words = [word.replace("_", " ") for word in expected[database.kind].split(" ")]
    assert {kind: word.replace(", ", ",") for kind, word in found.items()} == dict(zip(kinds, words, strict=True))


def test_frames_of_all_libraries_types_are_written(database):
    """numpy's, pandas' and Arrow's types arrive as plain values, and their missing values as NULL."""
    import pyarrow as pa

    frame = pd.DataFrame(
        {
            "np_int": np.array([1, 2], dtype="uint8"),
            "np_bool": np.array([True, False]),
            "np_float": np.array([0.5, np.nan], dtype="float32"),
            "np_str": pd.Series([np.str_("a"), None], dtype=object),
            "np_scalar": pd.Series([np.int32(3), None], dtype=object),
            "np_time": pd.Series(np.array(["2026-01-02", "NaT"], dtype="datetime64[ns]")),
            "np_time_scalar": pd.Series([np.datetime64("2026-01-02"), np.datetime64("NaT")], dtype=object),
            "gaps": pd.Series([1.0, np.nan]),
            "pd_int": pd.Series([1, None], dtype="Int64"),
            "pd_bool": pd.Series([None, True], dtype="boolean"),
            "pd_str": pd.Series(["a", None], dtype="str"),
            "pd_category": pd.Series(["a", None], dtype="category"),
            "pa_str": pd.Series(["a", None], dtype=pd.ArrowDtype(pa.string())),
            "pa_date": pd.Series([datetime.date(2026, 1, 2), None], dtype=pd.ArrowDtype(pa.date32())),
            "pa_time": pd.Series([WHEN, None], dtype=pd.ArrowDtype(pa.timestamp("us"))),
            "pa_list": pd.Series([[1, 2], None], dtype=pd.ArrowDtype(pa.list_(pa.int64()))),
            "array": pd.Series([np.array([1.5, 2.5]), None], dtype=object),
            "mixed": pd.Series(["a", WHEN], dtype=object),
        }
    )
    kinds = dict.fromkeys(frame.columns, "str")
    kinds |= {"np_int": "int", "np_bool": "bool", "np_float": "float", "np_scalar": "int", "np_time": "datetime"}
    kinds |= {"np_time_scalar": "datetime", "gaps": "int", "pd_int": "int", "pd_bool": "bool", "pa_date": "date"}
    kinds |= {"pa_time": "datetime", "pa_list": "json", "array": "json", "mixed": "json"}
    assert SqlSink(database.url("t")).write([frame], kinds) == 2
    day = datetime.datetime(2026, 1, 2)
    assert values(database.url("t")) == {
        "np_int": [1, 2],
        "np_bool": [True, False],
        "np_float": [0.5, None],
        "np_str": ["a", None],
        "np_scalar": [3, None],
        "np_time": [day, None],
        "np_time_scalar": [day, None],
        "gaps": [1, None],
        "pd_int": [1, None],
        "pd_bool": [None, True],
        "pd_str": ["a", None],
        "pd_category": ["a", None],
        "pa_str": ["a", None],
        "pa_date": [day.date(), None],
        "pa_time": [WHEN, None],
        "pa_list": ["[1, 2]", None],
        "array": ["[1.5, 2.5]", None],
        "mixed": ['"a"', '"2026-01-02T03:04:05.678901"'],
    }


def test_very_long_texts_come_back(database):
    """A text of megabytes is not cut."""
    text = "0123456789 é🙂" * 300_000
    SqlSink(database.url("t")).write([pd.DataFrame({"text": [text]})], {"text": "str"})
    assert values(database.url("t")) == {"text": [text]}


@pytest.mark.parametrize(
    "table", ["select", "Mixed Case", 'say "hi"', "it's", "50% off", "a%sb", "a:b", "a.b", "ünï+&=?#", "x;--"]
)
def test_any_name_is_a_name(database, table):
    """Names of tables and columns are identifiers, whatever they hold."""
    names = [*ODD_NAMES, *(["a B", "A b"] if database.kind == "postgresql" else [])]
    sink = SqlSink(database.url(table))
    for _ in range(2):
        sink.check(names, dict.fromkeys(names, "int"))
        assert sink.write([pd.DataFrame([range(len(names))], columns=names)], dict.fromkeys(names, "int")) == 1
    assert database.tables() == [table]
    assert SqlSource(database.url(table)).columns() == names
    assert values(database.url(table)) == {name: [i] for i, name in enumerate(names)}


@pytest.mark.parametrize("first", ["a b", "A B"])
def test_columns_that_a_database_takes_for_one_are_refused(database, first):
    """Where names that differ in case alone are the same, both are named before a table is made."""
    sink = SqlSink(database.url("t"))
    kinds = {first: "int", "A b": "str"}
    if database.kind == "postgresql":
        sink.check(list(kinds), kinds)
        return
    with pytest.raises(
        InputError, match=f"the columns '{first}' and 'A b' differ in case alone, and .* for one; rename"
    ):
        sink.check(list(kinds), kinds)


def test_schemas_are_used(database, request):
    """?schema= says where the table is; an unknown one is refused."""
    schema = "main" if database.is_sqlite else "Odd % Schema"
    if not database.is_sqlite:
        quoted = database.quoted(schema)
        if database.is_mysql:  # where a schema is a database
            request.addfinalizer(lambda: database.run(f"DROP SCHEMA {quoted}"))
        database.run(f"CREATE SCHEMA {quoted}")
    kinds = {"a": "int"}
    url = database.url("t", schema=schema)
    SqlSink(url).check(["a"], kinds)
    for value in (1, 2):
        SqlSink(url).write([pd.DataFrame({"a": [value]})], kinds)
    assert values(url) == {"a": [2]}
    assert sa.inspect(database.engine).get_table_names(schema=schema) == ["t"]
    absent = database.url("t", schema="nowhere")
    for use in (SqlSource(absent).columns, lambda: SqlSink(absent).check(["a"], kinds)):
        with pytest.raises(InputError, match="there is no schema 'nowhere'; schemas there: .*(main|public|test_)"):
            use()


def test_a_column_may_be_absent_from_a_frame(database):
    """JSON Lines have ragged rows: what a piece lacks is NULL."""
    frames = [pd.DataFrame({"a": [1]}), pd.DataFrame({"b": ["x"]}), pd.DataFrame({"b": ["y"], "a": [2]})]
    assert SqlSink(database.url("t")).write(iter(frames), {"a": "int", "b": "str"}) == 3
    assert values(database.url("t")) == {"a": [1, None, 2], "b": [None, "x", "y"]}


# --- time zones ----------------------------------------------------------------------------------------------------------


def test_time_zones_are_kept(database):
    """A column of timestamps with time zones has one in PostgreSQL, even if its first values are missing."""
    frames = [pd.DataFrame({"t": [None, value]}, dtype=object) for value in (None, WHEN.replace(tzinfo=BERLIN))]
    SqlSink(database.url("t")).write(iter(frames), {"t": "datetime"})
    *missing, found = values(database.url("t"))["t"]
    assert missing == [None] * 3
    assert found == WHEN.replace(tzinfo=BERLIN)
    assert found.utcoffset() is not None


def test_timestamps_with_and_without_zone_do_not_mix(postgresql):
    """PostgreSQL would move one of them silently; the row is named instead."""
    frame = pd.DataFrame({"t": [WHEN, None, WHEN.replace(tzinfo=BERLIN)]}, dtype=object)
    with pytest.raises(StoreError, match="row 2, column 't', a datetime: with a time zone, unlike the column's others"):
        SqlSink(postgresql.url("t")).write([frame], {"t": "datetime"})
    assert postgresql.tables() == []


# --- values that cannot be stored ------------------------------------------------------------------------------------------


def test_nul_characters(database):
    """PostgreSQL alone cannot keep U+0000, so row and column are named and nothing is left."""
    frames = [pd.DataFrame({"text": ["fine"] * 7}), pd.DataFrame({"text": ["fine", "ab\0c"]})]
    sink = SqlSink(database.url("t"))
    if database.kind != "postgresql":
        sink.write(frames, {"text": "str"})
        assert values(database.url("t"))["text"][-1] == "ab\0c"
        return
    with pytest.raises(StoreError, match=r"row 8, column 'text', a str: a NUL character \(U\+0000\) at position 2"):
        sink.write(frames, {"text": "str"})
    assert database.tables() == []


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        ("int", 2**63, "an? int: more than 64 bits"),
        ("int", 0.5, "a float: expected an integer"),
        ("int", "1", "a str: expected an integer"),
        ("float", 10**400, "int too large"),
        ("float", "1", "a str: expected a number"),
        ("bool", 1, "an int: expected True or False"),
        ("str", 1, "an int: expected text"),
        ("str", "half \ud83d", "surrogates not allowed"),
        ("date", WHEN, "a datetime: expected a date"),
        ("datetime", WHEN.date(), "a date: expected a timestamp"),
        ("decimal", 1.5, "a float: expected a decimal"),
        ("bytes", "x", "a str: expected bytes"),
        ("json", object(), "an object: an object has no JSON form"),
    ],
)
def test_a_value_that_does_not_fit_is_named(database, kind, value, message):
    """A value that its column cannot hold stops the writing with its row and column, and is not shown."""
    frame = pd.DataFrame({"a": [None, value]}, dtype=object)
    with pytest.raises(StoreError, match=f"row 1, column 'a', .*{message}.*; change the value, or write a file"):
        SqlSink(database.url("t")).write([frame], {"a": kind})
    assert database.tables() == []


def test_half_surrogates_in_json_are_escaped(database):
    """JSON has a form for half a surrogate pair, so it is kept."""
    SqlSink(database.url("t")).write([pd.DataFrame({"a": [["\ud83d"]]})], {"a": "json"})
    assert values(database.url("t")) == {"a": ['["\\ud83d"]']}


def test_an_unplanned_column_is_refused(database):
    """A frame with a column that the table lacks stops the writing instead of losing it."""
    with pytest.raises(InputError, match="a column 'b' came that was not planned"):
        SqlSink(database.url("t")).write([pd.DataFrame({"a": [1], "b": [1]})], {"a": "int"})


@pytest.mark.parametrize("name", ["n" * 64, "ü" * 32, "", "a\0b"])
def test_a_name_that_postgresql_would_change_is_refused(postgresql, name):
    """PostgreSQL cuts long names off without an error."""
    with pytest.raises(InputError, match="63 bytes|is empty or holds a NUL"):
        SqlSink(postgresql.url("t")).check([name], {name: "int"})


def test_the_longest_name_is_used(postgresql):
    """A table's name may have all the bytes that PostgreSQL keeps."""
    name = "ü" * 31 + "n"
    for _ in range(2):
        SqlSink(postgresql.url(name)).write([pd.DataFrame({name: [1]})], {name: "int"})
    assert postgresql.tables() == [name]


# --- sources -------------------------------------------------------------------------------------------------------------


def test_rows_come_in_the_order_of_the_primary_key(database):
    """The order is the primary key's, all its columns in their order."""
    database.run(
        'CREATE TABLE t ("text" TEXT, "B" INTEGER, "a b" INTEGER, PRIMARY KEY ("a b", "B"))'.replace(
            '"', database.quoted("x")[0]
        ),
        "INSERT INTO t VALUES ('d', 1, 2), ('b', 2, 1), ('c', 0, 2), ('a', 1, 1)",
    )
    assert values(database.url("t"))["text"] == ["a", "b", "c", "d"]


def test_pieces_have_the_size_that_was_asked_for(database):
    """No piece is larger than asked for, and an empty table has none."""
    SqlSink(database.url("t")).write([pd.DataFrame({"a": range(10)})], {"a": "int"})
    assert [len(piece) for piece in SqlSource(database.url("t")).chunks(4)] == [4, 4, 2]
    SqlSink(database.url("empty")).write([], {"a": "int"})
    assert list(SqlSource(database.url("empty")).chunks(4)) == []
    assert SqlSource(database.url("empty")).columns() == ["a"]


def test_integers_with_gaps_stay_integers(database):
    """NULL among integers makes no floats of them."""
    database.run("CREATE TABLE t (a BIGINT)", "INSERT INTO t VALUES (9007199254740993), (NULL)")
    assert values(database.url("t")) == {"a": [9007199254740993, None]}


def test_an_endless_view_is_streamed(database):
    """Rows are asked for as they are needed: the first pieces of a view without an end come at once."""
    endless = {
        "sqlite": "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT n FROM c",
        "duckdb": "SELECT range + 1 AS n FROM range(1000000000000)",
        "postgresql": "SELECT generate_series(1, 1000000000000) AS n",
        "mysql": "SELECT seq AS n FROM seq_1_to_1000000000000",
    }[database.kind]
    database.run(f"CREATE VIEW v AS {endless}")
    pieces = SqlSource(database.url("v")).chunks(1000)
    assert [next(pieces)["n"].iloc[-1] for _ in range(3)] == [1000, 2000, 3000]
    pieces.close()


def test_one_pass_sees_one_moment(database):
    """What others write while a table is read is not seen by that pass, and is by the next."""
    if database.is_sqlite:
        with database.engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA journal_mode = WAL")
    database.run("CREATE TABLE t (a INTEGER PRIMARY KEY)", "INSERT INTO t VALUES (1), (2), (3), (4)")
    source = SqlSource(database.url("t"))
    # DuckDB lets this process write only if it has opened the file to write it before it is read.
    opened = database.engine.connect()
    pieces = source.chunks(1)
    seen = [next(pieces)["a"].item()]
    database.run("DELETE FROM t WHERE a > 2", "INSERT INTO t VALUES (9)")
    seen += [piece["a"].item() for piece in pieces]
    opened.close()
    assert seen == [1, 2, 3, 4]
    assert read(database.url("t"))["a"].tolist() == [1, 2, 9]


def test_reading_changes_nothing(postgresql):
    """A view that would write when it is read is stopped."""
    postgresql.run("CREATE SEQUENCE s", "CREATE VIEW v AS SELECT nextval('s') AS n")
    with pytest.raises(StoreError, match="cannot be read: cannot execute nextval\\(\\) in a read-only transaction"):
        read(postgresql.url("v"))


def test_an_unknown_table_is_refused_with_what_there_is(database):
    """The message lists the tables and views of the database."""
    database.run("CREATE TABLE reviews (a INTEGER)", "CREATE VIEW good AS SELECT a FROM reviews")
    source = SqlSource(database.url("revews"))
    for use in (source.columns, lambda: list(source.chunks(1))):
        with pytest.raises(InputError, match="there is no table 'revews' .*; tables there: 'good', 'reviews'"):
            use()


def test_postgresqls_own_types_are_plain(postgresql):
    """What Python has no type for comes as text; JSON and arrays as lists and dicts; no warning is given."""
    postgresql.run(
        "CREATE TYPE mood AS ENUM ('sad', 'happy')",
        "CREATE TYPE point2 AS (x INT, y INT)",
        """CREATE MATERIALIZED VIEW v AS SELECT '00000000-0000-0000-0000-000000000007'::uuid AS id,
           ARRAY['00000000-0000-0000-0000-000000000007'::uuid] AS ids, '{"a": [1, "é"]}'::jsonb AS j, '[1]'::json AS k,
           'happy'::mood AS m, '10.0.0.1'::inet AS ip, '[1,5)'::int4range AS r, ARRAY[[1, NULL], [2, 3]] AS a,
           'a b'::tsvector AS ts, ROW(1, 2)::point2 AS p, 1.50::numeric AS n, '1 day'::interval AS i, '12:30'::time AS t,
           '\\x00ff'::bytea AS b, 1::smallint AS s, 0.5::real AS f, 'x'::char(3) AS c, NULL::uuid AS none,
           '2026-01-02 03:04+00'::timestamptz AS z""",
    )
    found = {name: column[0] for name, column in values(postgresql.url("v")).items()}
    key = "00000000-0000-0000-0000-000000000007"
    assert found.pop("z") == datetime.datetime(2026, 1, 2, 3, 4, tzinfo=datetime.UTC)
    assert found == {
        "id": key,
        "ids": [key],
        "j": {"a": [1, "é"]},
        "k": [1],
        "m": "happy",
        "ip": "10.0.0.1",
        "r": "[1, 5)",
        "a": [[1, None], [2, 3]],
        "ts": "'a' 'b'",
        "p": "(1,2)",
        "n": decimal.Decimal("1.50"),
        "i": datetime.timedelta(days=1),
        "t": datetime.time(12, 30),
        "b": b"\x00\xff",
        "s": 1,
        "f": 0.5,
        "c": "x  ",
        "none": None,
    }


def test_sqlites_values_are_read_by_declared_type_where_they_fit(sqlite):
    """SQLite stores booleans as numbers and dates as text; what is no such value stays as it is stored."""
    sqlite.run(
        "CREATE TABLE t (b BOOLEAN, d DATE, t TIMESTAMP, n NUMERIC, x)",
        "INSERT INTO t VALUES (1, '2026-01-02', '2026-01-02 03:04:05', 0.1, 1), (2, '1/2/2026', 17, 'many', 'a')",
        "INSERT INTO t VALUES (NULL, NULL, NULL, NULL, NULL)",
    )
    assert values(sqlite.url("t")) == {
        "b": [True, 2, None],
        "d": [datetime.date(2026, 1, 2), "1/2/2026", None],
        "t": [datetime.datetime(2026, 1, 2, 3, 4, 5), 17, None],
        "n": [0.1, "many", None],
        "x": [1, "a", None],
    }


def test_a_file_that_is_no_database_is_refused(tmp_path):
    """The message is SQLite's, with the file's name."""
    (tmp_path / "x.db").write_text("no database, but long enough to be looked at" * 100)
    with pytest.raises(StoreError, match=r"x\.db\?table=t cannot be read: file is not a database"):
        SqlSource(f"sqlite:///{tmp_path}/x.db?table=t").columns()


# --- whole or not at all -------------------------------------------------------------------------------------------------

KINDS = {"id": "int", "label": "str"}
OLD = pd.DataFrame({"label": ["old"], "id": [1]})


def old_table(database: Database) -> SqlSink:
    SqlSink(database.url("t")).write([OLD], {"label": "str", "id": "int"})
    return SqlSink(database.url("t"))


def assert_old(database: Database) -> None:
    assert database.tables() == ["t"]
    assert database.rows("SELECT label, id FROM t") == [("old", 1)]


def test_an_old_table_with_the_same_columns_is_replaced(database):
    """The columns' order does not matter, and nothing else is left."""
    sink = old_table(database)
    sink.check(list(KINDS), KINDS)
    assert_old(database)
    assert sink.write([pd.DataFrame({"id": [2, 3], "label": ["a", "b"]})], KINDS) == 2
    assert database.tables() == ["t"]
    assert database.rows("SELECT * FROM t ORDER BY id") == [(2, "a"), (3, "b")]


@pytest.mark.parametrize(
    ("kinds", "message"),
    [
        ({"id": "int"}, "exists and has a column 'label', which this job does not write"),
        ({**KINDS, "extra": "int"}, "exists and lacks the column 'extra', which this job writes"),
    ],
)
def test_another_table_is_not_replaced(database, kinds, message):
    """A table with other columns is somebody else's: refused in `check` and in `write`, with the cure."""
    sink = old_table(database)
    for use in (lambda: sink.check(list(kinds), kinds), lambda: sink.write([], kinds)):
        with pytest.raises(InputError, match=f"{message}; give the output another table name, or drop that table"):
            use()
    assert_old(database)


def test_a_partitioned_table_is_not_replaced(postgresql):
    """A plain table in its place would lose the partitions; one of its partitions cannot be replaced either."""
    postgresql.run(
        'CREATE TABLE "T p" (id BIGINT, label TEXT) PARTITION BY RANGE (id)',
        'CREATE TABLE part PARTITION OF "T p" FOR VALUES FROM (0) TO (9)',
        "INSERT INTO part VALUES (7, 'kept')",
    )
    for name in ("T p", "part"):
        sink = SqlSink(postgresql.url(name))
        for use in (lambda: sink.check(list(KINDS), KINDS), lambda: sink.write([], KINDS)):  # noqa: B023
            with pytest.raises(InputError, match="is partitioned, or a partition; give the output another table name"):
                use()
    assert postgresql.tables() == ["T p", "part"]


def test_a_view_is_not_replaced(database):
    """A view of the output's name is refused, even with the same columns."""
    for kind in ["VIEW", "MATERIALIZED VIEW"] if database.kind == "postgresql" else ["VIEW"]:
        database.run(f"CREATE {kind} t AS SELECT 1 AS id, 'x' AS label")
        with pytest.raises(
            InputError,
            match=r"\?table=t is not an ordinary table \(it may be a view\); give the output another table name",
        ):
            SqlSink(database.url("t")).check(list(KINDS), KINDS)
        database.run(f"DROP {kind} t")


def test_sqlite_names_tables_without_regard_to_case(sqlite):
    """A table that SQLite takes for the same is compared and replaced like the same."""
    sqlite.run("CREATE TABLE Reviews (id INTEGER)")
    with pytest.raises(InputError, match="lacks the column 'label'"):
        SqlSink(sqlite.url("reviews")).check(list(KINDS), KINDS)
    SqlSink(sqlite.url("reviews")).write([pd.DataFrame({"id": [5]})], {"id": "int"})
    assert sqlite.tables() == ["reviews"]


def test_what_depends_on_the_old_table_is_known_before(database):
    """PostgreSQL keeps no view without its table, so `check` says so; other databases' views see the new table."""
    sink = old_table(database)
    database.run("CREATE VIEW v AS SELECT label FROM t")
    if database.kind != "postgresql":
        sink.check(list(KINDS), KINDS)
        sink.write([pd.DataFrame({"id": [2], "label": ["new"]})], KINDS)
        assert database.rows("SELECT * FROM v") == [("new",)]
        return
    with pytest.raises(StoreError, match="cannot be written: cannot drop table t because other objects depend on it"):
        sink.check(list(KINDS), KINDS)
    assert_old(database)


def test_check_leaves_nothing(database):
    """The rehearsal is taken back."""
    SqlSink(database.url("new")).check(list(ALL_KINDS), {kind: kind for kind in ALL_KINDS})
    assert database.tables() == []


def test_an_output_that_may_not_be_written_is_refused_before(database):
    """Without the right to make a table, `check` fails."""
    file, role = database.engine.url.database, f"reader_{uuid.uuid4().hex[:20]}"
    as_reader = re.sub(r"//.*@", f"//{role}:hunter2@", database.url("t"))
    url, message, begin, end = {
        "sqlite": (f"sqlite:///file:{file}?mode=ro&uri=true&table=t", "attempt to write a readonly database", (), ()),
        "duckdb": (f"duckdb:///{file}?access_mode=read_only&table=t", ".*attached in read-only mode", (), ()),
        "postgresql": (
            as_reader,
            "permission denied for schema public",
            (f"CREATE ROLE {role} LOGIN PASSWORD 'hunter2'",),
            (f"DROP ROLE {role}",),
        ),
        "mysql": (
            as_reader,
            "CREATE command denied to user",
            (
                f"CREATE USER {role}@'127.0.0.1' IDENTIFIED BY 'hunter2'",
                f"GRANT SELECT ON {file}.* TO {role}@'127.0.0.1'",
            ),
            (f"DROP USER {role}@'127.0.0.1'",),
        ),
    }[database.kind]
    database.run(*begin)
    with pytest.raises(StoreError, match=f"table=t cannot be written: {message}") as caught:
        SqlSink(url).check(list(KINDS), KINDS)
    assert "hunter2" not in shown(caught.value)
    database.run(*end)


def test_a_failure_halfway_leaves_all_as_it_was(database):
    """An error in the rows passes unchanged, and the old table is still the only one."""
    sink = old_table(database)

    def frames():
        yield pd.DataFrame({"id": range(20_000), "label": "new"})
        raise sqlite3.OperationalError("the journal's own trouble")

    with pytest.raises(sqlite3.OperationalError, match="^the journal's own trouble$"):
        sink.write(frames(), KINDS)
    assert_old(database)


def test_a_lost_connection_is_told_of(postgresql):
    """A server that ends the connection halfway, reading or writing, is an error of ours, and the old table is there."""
    sink = old_table(postgresql)
    others = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"

    def frames():
        yield pd.DataFrame({"id": range(20_000), "label": "new"})
        postgresql.rows(f"SELECT pg_terminate_backend(pid) {others}")
        yield pd.DataFrame({"id": range(20_000), "label": "new"})

    with pytest.raises(StoreError, match="cannot be written: terminating connection"):
        sink.write(frames(), KINDS)
    assert_old(postgresql)
    postgresql.run("CREATE VIEW v AS SELECT generate_series(1, 1000000000) AS n")
    pieces = SqlSource(postgresql.url("v")).chunks(1000)
    next(pieces)
    postgresql.rows(f"SELECT pg_terminate_backend(pid) {others}")
    with pytest.raises(StoreError, match="cannot be read: (terminating connection|the connection is lost)"):
        list(pieces)


def test_readers_see_the_old_table_until_the_new_is_whole(postgresql):
    """While a job writes, whoever reads is neither blocked nor shown a part."""
    sink = old_table(postgresql)

    def frames():
        yield pd.DataFrame({"id": range(20_000), "label": "new"})
        assert_old(postgresql)

    sink.write(frames(), KINDS)
    assert postgresql.rows("SELECT count(*) FROM t") == [(20_000,)]


def test_a_table_in_use_is_waited_for_and_then_left(database, monkeypatch):
    """A lock that is not given up ends in an error, not in an endless wait."""
    for module in ("postgresql", "mysql"):
        monkeypatch.setattr(f"llmclf.jobs.tables.sql.{module}.PATIENCE_S", 1)
    sink = old_table(database)
    if database.kind == "duckdb":
        holder = "import duckdb, sys; held = duckdb.connect(sys.argv[1]); print(flush=True); sys.stdin.read()"
        command = [sys.executable, "-c", holder, str(database.engine.url.database)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
            assert other.stdout is not None
            other.stdout.readline()
            with pytest.raises(StoreError, match="cannot be written: .*Conflicting lock is held"):
                sink.check(list(KINDS), KINDS)
            other.communicate()
        assert_old(database)
        return
    if database.is_sqlite:
        sink = SqlSink(database.url("t", timeout="0.2"))
    lock, message, use = {
        "sqlite": ("BEGIN IMMEDIATE", "database is locked", sink.check),
        "postgresql": ("LOCK TABLE t IN ACCESS SHARE MODE", "canceling statement due to lock timeout", sink.check),
        # The rehearsal does not touch the old table.
        "mysql": ("LOCK TABLES t READ", "Lock wait timeout exceeded", lambda _, kinds: sink.write([OLD], kinds)),
    }[database.kind]
    with database.engine.connect() as connection:
        connection.exec_driver_sql(lock)
        with pytest.raises(StoreError, match=f"cannot be written: {message}"):
            use(list(KINDS), KINDS)
    assert_old(database)


WRITER = """
import sys
import pandas as pd
from llmclf.jobs.tables.sql import SqlSink

def frames():
    for i in range(1_000_000):
        yield pd.DataFrame({"id": range(1000), "label": "new " * 100})
        print(i, flush=True)

SqlSink(sys.argv[1]).write(frames(), {"id": "int", "label": "str"})
"""


def test_a_killed_job_leaves_all_as_it_was(database):
    """SIGKILL in the middle of the writing: the old table is whole, no other is there, and the job can write again."""
    sink = old_table(database)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    command = [sys.executable, "-c", WRITER, database.url("t")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as writer:
        assert writer.stdout is not None
        for line in writer.stdout:
            if int(line) == 60:  # much more than SQLite's cache holds, so the file itself was written
                writer.send_signal(signal.SIGKILL)
                break
    assert writer.returncode == -signal.SIGKILL
    # In MySQL the table that was not whole yet is there under another name, until the next job.
    beside = [name for name in database.tables() if name != "t"]
    assert len(beside) == database.is_mysql
    assert all(re.fullmatch("llmclf_[0-9a-f]{16}_new", name) for name in beside)
    assert database.rows("SELECT label, id FROM t") == [("old", 1)]
    sink.check(list(KINDS), KINDS)
    sink.write([pd.DataFrame({"id": [2], "label": ["new"]})], KINDS)
    assert database.tables() == ["t"]
    assert database.rows("SELECT * FROM t") == [(2, "new")]


def test_a_job_goes_from_table_to_table(database, tmp_path):
    """Rows of one table are labelled into another of the same database, and again into the same."""
    database.run(
        f"CREATE TABLE reviews (id INTEGER PRIMARY KEY, {database.quoted('Text')} TEXT, stars INTEGER)",
        "INSERT INTO reviews VALUES (2, 'Far too long.', NULL), (1, 'A fine film.', 5)",
    )
    for run, if_exists in enumerate(("fail", "replace")):
        result = label_table(
            database.url("reviews"),
            database.url("labelled"),
            id_column="id",
            text_column="Text",
            labels=["good", "bad"],
            model=FakeBackend(),
            journal=tmp_path / f"{run}.journal",
            if_exists=if_exists,
            show_progress=False,
        )
        assert result.summary.labelled == 2
    assert database.tables() == ["labelled", "reviews"]
    found = values(database.url("labelled"))
    assert found["id"] == [1, 2]
    assert found["stars"] == [5, None]
    assert set(found["label"]) <= {"good", "bad"}
