"""Labelling jobs from an SQL table into an SQL table: SQLite, DuckDB, and real servers of PostgreSQL and MariaDB."""

from __future__ import annotations

import json
from functools import partial

import pandas as pd
import pytest
import sqlalchemy as sa
from faults import FakeServer, Status
from job_zygote import Zygote

from llmclf.backends import FakeBackend
from llmclf.errors import InputError, StoreError
from llmclf.jobs import label_table
from llmclf.jobs.tables.sql import SqlSink

N_ROWS = 120


class Counting(FakeBackend):
    """Counts what it is asked."""

    n_asked = 0

    def score(self, requests):
        self.n_asked += len(requests)
        return super().score(requests)


@pytest.fixture
def url(database):
    """The URL of a database with a table of reviews."""
    frame = pd.DataFrame(
        {"id": range(N_ROWS), "body": [f"<review {i}>" for i in range(N_ROWS)], "stars": [i / 4 for i in range(N_ROWS)]}
    )
    database.run("CREATE TABLE reviews (id INTEGER PRIMARY KEY, body TEXT, stars DOUBLE PRECISION)")
    SqlSink(database.url("reviews"), "append").write([frame], {"id": "int", "body": "str", "stars": "float"})
    return database.base


def rows(url: str, query: str) -> list:
    with sa.create_engine(url, poolclass=sa.NullPool).connect() as connection:
        return [tuple(row) for row in connection.exec_driver_sql(query)]


def tables(url: str) -> list[str]:
    return sorted(sa.inspect(sa.create_engine(url, poolclass=sa.NullPool)).get_table_names())


def test_a_table_becomes_a_labelled_table(url, tmp_path):
    """Same rows, types and ids, with labels; again from the journal, over the first; other tables are left alone."""
    options = {"id_column": "id", "text_column": "body", "labels": ["good", "bad"], "journal": tmp_path / "j"}
    result = label_table(f"{url}?table=reviews", f"{url}?table=labelled", model=FakeBackend(), **options)
    assert (result.summary.rows, result.summary.asked) == (N_ROWS, N_ROWS)
    found = rows(url, "SELECT id, body, stars, label, confidence, error FROM labelled ORDER BY id")
    assert [row[:3] for row in found] == rows(url, "SELECT id, body, stars FROM reviews ORDER BY id")
    local = label_table(
        pd.DataFrame({"body": [row[1] for row in found]}),
        text_column="body",
        labels=["good", "bad"],
        model=FakeBackend(),
    )
    assert [row[3] for row in found] == local.table["label"].tolist()
    assert [row[4] for row in found] == pytest.approx(local.table["confidence"].tolist(), rel=1e-12)
    again = label_table(f"{url}?table=reviews", f"{url}?table=labelled", model=FakeBackend(), resume=True, **options)
    assert again.summary.asked == 0
    assert tables(url) == ["labelled", "reviews"]
    assert {file.name for file in tmp_path.iterdir()} <= {"j", "shop.db", "shop.duckdb"}
    with pytest.raises(InputError, match="give|other|drop"):
        label_table(f"{url}?table=labelled", f"{url}?table=reviews", model=FakeBackend(), labels=["x", "y"], text_column="body",
                    journal=tmp_path / "k", prefix="new_")  # fmt: skip


def test_a_killed_job_leaves_no_half_table(url, tmp_path):
    """SIGKILL while it asks: no table; the same command goes on and writes it whole; no password is shown or kept."""
    with Zygote(tmp_path) as zygote, FakeServer("openai_chat", latency=0.02) as server:
        command = [
            "label", "--input", f"{url}?table=reviews", "--output", f"{url}?table=labelled", "--id-column", "id", "--text-column",
            "body", "--labels", "good,bad", "--chat", "--model", "openai:tiny", "--base-url", server.url, "--api-key-env", "",
            "--journal", tmp_path / "jobs.journal", "--resume", "--concurrency", 4,
        ]  # fmt: skip
        run = zygote.start(command)
        while sum("<review " in json.dumps(request.body) for request in list(server.requests)) < 40:
            zygote.collect(run)
        run.kill()
        run.wait()
        assert tables(url) == ["reviews"]
        code, text = zygote.run(command)
        assert code == 0, text
        n_asked = sum("<review " in json.dumps(request.body) for request in server.requests)
    assert n_asked <= N_ROWS + 4
    assert rows(url, "SELECT count(*), count(label) FROM labelled") == [(N_ROWS, N_ROWS)]
    password = sa.make_url(url).password
    if password:
        assert password not in text
        assert password.encode() not in (tmp_path / "jobs.journal").read_bytes()


def test_values_that_a_database_cannot_hold_are_refused_before_anything_is_asked(url, tmp_path):
    """Wherever in the table they stand: a long integer, half a surrogate pair, and for PostgreSQL a NUL character."""
    odd = {"more than 64 bits": 2**63, "surrogates not allowed": "half \ud83d", "U.0000": "a\0b"}
    for i, (message, value) in enumerate(odd.items()):
        table = pd.DataFrame(
            {"body": [f"row {k}" for k in range(5000)], "odd": pd.Series([None] * 4999 + [value], dtype=object)}
        )
        backend = Counting()
        job = partial(label_table, table, f"{url}?table=labelled", text_column="body", labels=["a", "b"], model=backend)
        if value == "a\0b" and not url.startswith("postgresql"):
            assert job(journal=tmp_path / f"j{i}").summary.labelled == 5000
            continue
        with pytest.raises(StoreError, match=f"row 4999, column 'odd', an? (int|str): .*({message})"):
            job(journal=tmp_path / f"j{i}")
        assert backend.n_asked == 0
        assert tables(url) == ["reviews"]


def test_bad_ids_and_tables_are_refused_before_anything_is_asked(url, tmp_path):
    """An id that stands twice, a table that is not there, an SQL output without a journal."""
    with FakeServer("openai_chat", lambda _: Status(500)) as server:
        from faults import backend_for

        options = {
            "text_column": "body",
            "labels": ["good", "bad"],
            "model": backend_for(server),
            "journal": tmp_path / "j",
        }
        with sa.create_engine(url, poolclass=sa.NullPool).begin() as connection:
            connection.exec_driver_sql("UPDATE reviews SET stars = 1 WHERE id < 2")
        with pytest.raises(InputError, match=r"the id '1.0' stands in 3 rows"):
            label_table(f"{url}?table=reviews", f"{url}?table=labelled", id_column="stars", **options)
        with pytest.raises(InputError, match="absent"):
            label_table(f"{url}?table=absent", f"{url}?table=labelled", **options)
        with pytest.raises(InputError, match="say where the job's journal goes"):
            label_table(f"{url}?table=reviews", f"{url}?table=labelled", **{**options, "journal": None})
        assert server.requests == []
    assert tables(url) == ["reviews"]
