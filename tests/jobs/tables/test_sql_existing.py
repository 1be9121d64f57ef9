"""SQL tables that are there already: replaced, added to or merged, in one step, whatever the database."""

from __future__ import annotations

import time

import pandas as pd
import pytest
from faults import FakeServer
from job_zygote import Zygote

from llmclf.backends import FakeBackend
from llmclf.errors import InputError, StoreError
from llmclf.jobs import label_table
from llmclf.jobs.tables.sql import SqlSink
from llmclf.tables.files import write_table

KINDS = {"id": "int", "text": "str"}
ROWS = pd.DataFrame({"id": range(30), "text": [f"review {i}" for i in range(30)]})
WAY = {"id_column": "id", "text_column": "text", "labels": ["good", "bad"], "resume": True}


class Counting(FakeBackend):
    """Counts what it is asked."""

    n_asked = 0

    def score(self, requests):
        self.n_asked += len(requests)
        return super().score(requests)


def texts(database) -> dict[int, str]:
    found = database.rows("SELECT id, text FROM t")
    assert len(found) == len(dict(found))
    return dict(found)


def write(database, rows, how, id_column="id") -> int:
    sink = SqlSink(database.url("t"), how, id_column)
    sink.check(list(KINDS), KINDS, [rows])
    return sink.write([rows[:7], rows[7:]], KINDS)


def test_what_a_sink_can_do_with_a_table_that_is_there(database):
    """Each way, from nothing on; a table is there or it is not."""
    sink = SqlSink(database.url("t"))
    assert not sink.exists()
    write(database, ROWS[:10], "append")
    assert sink.exists()
    write(database, ROWS[10:20], "append")
    assert texts(database) == dict(ROWS[:20].itertuples(index=False))
    newer = ROWS[15:].assign(text="new")
    for _ in range(2):
        write(database, newer, "merge-on-id")
        assert texts(database) == {**dict(ROWS[:15].itertuples(index=False)), **dict.fromkeys(range(15, 30), "new")}
    write(database, ROWS[:3], "replace")
    assert texts(database) == dict(ROWS[:3].itertuples(index=False))
    assert database.tables() == ["t"]


def test_rows_that_are_there_are_not_added_twice(database):
    """Known before anything is spent, and again when they are written; columns may stand in another order."""
    database.run("CREATE TABLE t (text TEXT, id INTEGER)")
    write(database, ROWS[:10], "append")
    for step in ("check", "write"):
        sink = SqlSink(database.url("t"), "append", "id")
        with pytest.raises(InputError, match="has a row of the id 9 already"):
            sink.check(list(KINDS), KINDS, [ROWS[9:12]]) if step == "check" else sink.write([ROWS[9:12]], KINDS)
    assert texts(database) == dict(ROWS[:10].itertuples(index=False))


def test_ids_that_cannot_tell_rows_apart(database):
    """One of them is named."""
    database.run("CREATE TABLE t (id INTEGER, text TEXT)", "INSERT INTO t VALUES (1, 'a'), (1, 'b'), (2, 'c')")
    with pytest.raises(InputError, match="the table .* has more than one row of the id '?1'? "):
        write(database, ROWS[:3], "merge-on-id")
    assert sorted(database.rows("SELECT id, text FROM t")) == [(1, "a"), (1, "b"), (2, "c")]


def test_a_table_with_other_columns_keeps_them(database):
    """The column is named, and its type where that does not hold what is written."""
    database.run("CREATE TABLE t (id INTEGER, text TEXT, more TEXT)")
    with pytest.raises(InputError, match="has a column 'more', which this job does not write"):
        write(database, ROWS, "append")
    database.run("DROP TABLE t", "CREATE TABLE t (id INTEGER, text INTEGER)")
    if not database.is_sqlite:  # where any column holds anything
        with pytest.raises(InputError, match=r"its column 'text' has the type \w+"):
            write(database, ROWS, "merge-on-id")


def test_jobs_that_are_told_what_to_do_with_a_table(database, tmp_path):
    """By default a table of somebody else is left alone; a job's own is replaced; days are merged, and may be repeated."""
    model = Counting()
    database.run("CREATE TABLE t (id INTEGER, text TEXT)")
    with pytest.raises(InputError, match="exists already, and this job has not written it"):
        label_table(ROWS, database.url("t"), model=model, journal=tmp_path / "a", **WAY)
    assert model.n_asked == 0
    database.run("DROP TABLE t")
    for _ in range(2):
        label_table(ROWS[:20], database.url("t"), model=model, journal=tmp_path / "a", **WAY)
    for _ in range(2):
        done = label_table(
            ROWS[10:].assign(text="new"),
            database.url("t"),
            model=model,
            journal=tmp_path / "b",
            if_exists="merge-on-id",
            **WAY,
        )
    assert (done.summary.asked, done.summary.labelled) == (0, 20)
    assert texts(database) == {**dict(ROWS[:10].itertuples(index=False)), **dict.fromkeys(range(10, 30), "new")}
    with pytest.raises(InputError, match="has a row of the id 29 already"):
        label_table(ROWS[29:], database.url("t"), model=model, journal=tmp_path / "c", if_exists="append", **WAY)


@pytest.mark.database
@pytest.mark.parametrize("kind", ["postgresql", "mariadb"])
@pytest.mark.parametrize("how", ["replace", "merge-on-id"])
def test_a_server_that_is_killed_while_a_job_writes(kind, how, tmp_path):
    """The error says how to go on; once the server is there again all rows are written once, and nothing is beside them."""
    import sqlalchemy as sa
    from mariadb import mariadb
    from postgres import postgres
    from sql_tables import Database

    with (mariadb if kind == "mariadb" else postgres)() as server:
        if kind == "mariadb":
            admin = sa.create_engine(server.url, poolclass=sa.NullPool)
            with admin.begin() as connection:
                connection.exec_driver_sql("CREATE DATABASE shop")
            base = f"{server.url}shop"
        else:
            base = server.url
        database = Database(base, sa.create_engine(base, poolclass=sa.NullPool))
        write(database, ROWS, "replace")
        if kind == "postgresql":  # which need not keep its last transactions here
            database.run("CHECKPOINT")
        many = pd.concat([ROWS.assign(id=ROWS["id"] + 30 * i) for i in range(400)], ignore_index=True)

        def frames():
            for start in range(0, len(many), 3000):
                if start == 9000:
                    server.kill()
                yield many[start : start + 3000]

        sink = SqlSink(database.url("t"), how, "id")
        with pytest.raises(StoreError, match="start the job again with --resume"):
            sink.write(frames(), KINDS)
        server.start()
        assert texts(database) == dict(ROWS.itertuples(index=False))
        assert SqlSink(database.url("t"), how, "id").write([many], KINDS) == len(many)
        assert len(texts(database)) == len(many)
        assert database.tables() == ["t"]


@pytest.mark.kill
def test_a_job_that_is_killed_while_it_merges(database, tmp_path):
    """The table is as it was, or as it will be."""
    label_table(ROWS, database.url("t"), model=FakeBackend(), journal=tmp_path / "a", **WAY)
    before = database.rows("SELECT count(*) FROM t")
    rows = pd.DataFrame({"id": range(10, 6000), "text": [f"<review {i % 3}>" for i in range(10, 6000)]})
    write_table(rows, tmp_path / "in.jsonl")
    with Zygote(tmp_path) as zygote, FakeServer("openai_chat") as server:
        command = [
            "label", tmp_path / "in.jsonl", database.url("t"), "--id-column", "id", "--text-column", "text", "--labels",
            "good,bad", "--chat", "--model", "openai:tiny", "--base-url", server.url, "--api-key-env", "", "--journal",
            tmp_path / "b", "--resume", "--if-exists", "merge-on-id", "--quiet",
        ]  # fmt: skip
        for wait in (0.5, 1.0, 1.5):
            run = zygote.start(command)
            time.sleep(wait)
            run.kill()
            run.wait()
            assert database.rows("SELECT count(*) FROM t") in (before, [(6000,)])
        code, text = zygote.run(command)
    assert code == 0, text
    assert database.rows("SELECT count(*), count(DISTINCT id) FROM t") == [(6000, 6000)]
    assert database.tables() == ["t"]
