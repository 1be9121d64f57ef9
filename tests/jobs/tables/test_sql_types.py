"""PostgreSQL's own types through a job: they come back as they went in, and other outputs get the best that they can hold."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from llmclf.backends import FakeBackend
from llmclf.errors import ColumnTypeWarning
from llmclf.jobs import label_table
from llmclf.tables.files import read_table

pytestmark = pytest.mark.database
COLUMNS = {
    "key": ("uuid", ["'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'", "NULL", "'00000000-0000-0000-0000-000000000000'"]),
    "data": ("jsonb", ["""'{"a": [1, null, "x"], "b": 1e400}'""", "'null'", "NULL"]),
    "raw_json": ("json", ["""'{"b":  1, "a": 2, "a": 3}'""", "'[]'", "NULL"]),
    "words": ("text[]", ["ARRAY['a', NULL, 'b,\"c\"']", "ARRAY[]::text[]", "NULL"]),
    "grid": ("integer[]", ["ARRAY[[1,2],[3,NULL]]", "'[0:1]={5,6}'", "NULL"]),
    "mood": ("mood", ["'fine'", "'so-so'", "NULL"]),
    "moods": ("mood[]", ["ARRAY['fine','so-so']::mood[]", "ARRAY[]::mood[]", "NULL"]),
    "seen": ("timestamp with time zone", ["'infinity'", "'2026-01-02 03:04:05.678901+02'", "'-infinity'"]),
    "made": ("timestamp without time zone", ["'infinity'", "'0044-03-15 12:00 BC'", "NULL"]),
    "day": ("date", ["'-infinity'", "'2026-02-28'", "'10000-01-01'"]),
    "exact": ("numeric", ["'NaN'", "1.2300", "12345678901234567890.123456789"]),
    "scaled": ("numeric(10,2)", ["0.10", "-99999999.99", "NULL"]),
    "gap": ("interval", ["'1 year 2 mons 3 days 04:05:06.789'", "'-00:00:01'", "NULL"]),
    "bytes": ("bytea", [r"'\\x00ff'", "''", "NULL"]),
    "host": ("inet", ["'10.0.0.0/8'", "'::1'", "NULL"]),
    "span": ("int4range", ["'[1,10)'", "'empty'", "NULL"]),
    "short": ("character varying(20)", ["'a\tb\\\\c'", "''", "NULL"]),
    "padded": ("character(4)", ["'ab'", "'abcd'", "NULL"]),
    "ratio": ("real", ["'0.1'", "'NaN'", "'-Infinity'"]),
    "clock": ("time with time zone", ["'04:05:06.789+02'", "'24:00:00+00'", "NULL"]),
    "bits": ("bit varying(8)", ["B'101'", "B''", "NULL"]),
    "money": ("money", ["12.34", "-1", "NULL"]),
}  # fmt: skip
WAY = {"id_column": "id", "text_column": "text", "labels": ["good", "bad"], "model": FakeBackend()}


@pytest.fixture
def shop(postgresql):
    """A database with a table of all these columns."""
    declared = ", ".join(f"{name} {kind}" for name, (kind, _) in COLUMNS.items())
    rows = [
        f"({i}, 'text {i}', {', '.join(f'({values[i]})::{kind}' for kind, values in COLUMNS.values())})"
        for i in range(3)
    ]
    postgresql.run(
        "CREATE TYPE mood AS ENUM ('fine', 'so-so')",
        f"CREATE TABLE reviews (id integer PRIMARY KEY, text text, {declared})",
        f"INSERT INTO reviews VALUES {', '.join(rows)}".replace("%", "%%"),
    )
    return postgresql


def types(database, table: str) -> dict[str, str]:
    return dict(
        database.rows(
            "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute "
            f"WHERE attrelid = '{table}'::regclass AND attnum > 0 AND NOT attisdropped"
        )
    )


def test_types_and_values_come_back_as_they_went_in(shop, tmp_path):
    """Compared in the database, by its own text of each value."""
    label_table(shop.url("reviews"), shop.url("labelled"), journal=tmp_path / "j", **WAY)
    before, after = types(shop, "reviews"), types(shop, "labelled")
    assert {name: after[name] for name in before} == before
    for name in COLUMNS:
        pairs = shop.rows(
            f"SELECT r.{name}::text, l.{name}::text FROM reviews r JOIN labelled l USING (id) ORDER BY id"
        )
        assert len(pairs) == 3
        assert [a for a, _ in pairs] == [b for _, b in pairs], name


def test_rows_are_added_with_the_same_values(shop, tmp_path):
    """To a table that a job has written."""
    label_table(shop.url("reviews"), shop.url("labelled"), journal=tmp_path / "j", **WAY)
    shop.run("UPDATE reviews SET id = id + 10")
    label_table(shop.url("reviews"), shop.url("labelled"), journal=tmp_path / "k", if_exists="append", **WAY)
    for name in COLUMNS:
        pairs = shop.rows(
            f"SELECT r.{name}::text, l.{name}::text FROM reviews r JOIN labelled l USING (id) ORDER BY id"
        )
        assert len(pairs) == 3
        assert [a for a, _ in pairs] == [b for _, b in pairs], name


def test_an_enumeration_that_is_not_there_is_written_as_text_and_said(shop, postgres_url, tmp_path):
    """In another database of the server."""
    other = postgres_url.removesuffix("postgres") + "other_shop"
    admin = sa.create_engine(postgres_url, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.exec_driver_sql("CREATE DATABASE other_shop")
    try:
        with pytest.warns(ColumnTypeWarning) as caught:
            label_table(shop.url("reviews"), f"{other}?table=labelled", journal=tmp_path / "j", **WAY)
        said = [str(warning.message) for warning in caught]
        assert [message.split("'")[1] for message in said] == ["mood", "moods"]
        assert all("is written as text, because the type public.mood" in message for message in said)
        with sa.create_engine(other, poolclass=sa.NullPool).connect() as connection:
            query = "SELECT mood, pg_typeof(mood)::text, seen::text FROM labelled ORDER BY id"
            found = [tuple(row) for row in connection.exec_driver_sql(query)]
        assert [row[0] for row in found] == ["fine", "so-so", None]
        assert found[0][1:] == ("text", "infinity")
    finally:
        with admin.connect() as connection:
            connection.exec_driver_sql("DROP DATABASE other_shop WITH (FORCE)")


@pytest.mark.filterwarnings("ignore::llmclf.errors.FormulaWarning")
@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_files_get_what_they_can_hold(shop, suffix, tmp_path):
    """Infinity stays infinity, and is no other date."""
    output = tmp_path / f"out{suffix}"
    # Parquet has no type for JSON of several kinds, nor for arrays of several depths.
    some = [name for name in COLUMNS if suffix != ".parquet" or name not in ("data", "raw_json", "grid")]
    shop.run(f"CREATE VIEW chosen AS SELECT id, text, {', '.join(some)} FROM reviews")
    label_table(shop.url("chosen"), output, **WAY)
    frame = read_table(output)
    assert frame["seen"].tolist()[0] == "infinity"
    assert frame["day"].tolist()[0] == "-infinity"
    assert str(frame["key"][0]) == "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"
    assert frame["mood"].tolist()[:2] == ["fine", "so-so"]
    assert len(frame) == 3
