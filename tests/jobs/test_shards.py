"""A table that several machines label, a part each."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from faults import FakeServer, rows_asked
from hypothesis import given
from hypothesis import strategies as st
from killed_journal import LABELS, TABLE, Counting

from llmclf.backends import FakeBackend
from llmclf.errors import InputError
from llmclf.jobs import estimate_table, label_table, merge_journals
from llmclf.jobs.shards import Shard
from llmclf.tables.files import read_table, write_table

WAY = {"id_column": "id", "text_column": "text", "labels": LABELS}


def whole() -> pd.DataFrame:
    return label_table(TABLE, model=FakeBackend(), **WAY).table


@given(st.lists(st.text(st.characters(codec="utf-8")), max_size=30), st.integers(1, 12))
def test_every_row_is_of_one_part_by_the_documented_rule(ids, n):
    """By the id alone: neither its place nor what stands beside it matters."""
    parts = np.array([Shard(i, n, "id").holds(ids) for i in range(1, n + 1)]).reshape(n, len(ids))
    assert (parts.sum(axis=0) == 1).all()
    for place, one in enumerate(ids):
        digest = hashlib.sha256(one.encode()).digest()
        assert parts[int.from_bytes(digest[:8], "big") % n, place]


def test_parts_are_of_about_one_size():
    """Numbers that follow one another are spread evenly: within five standard deviations of a fair draw."""
    sizes = [Shard(i, 8, "id").holds([str(k) for k in range(80_000)]).sum() for i in range(1, 9)]
    assert sum(sizes) == 80_000
    assert max(abs(np.array(sizes) - 10_000)) < 5 * np.sqrt(80_000 / 8 * 7 / 8)


@pytest.mark.parametrize(
    "text", ["0/8", "9/8", "3", "3/", "/8", "3/0", "-1/8", "3/8/2", " 3/8", "³/8", "1/1000000000000", "", 3, None]
)
def test_what_names_no_part_is_refused(text, tmp_path):
    """Before anything is made."""
    with pytest.raises(InputError, match=r"expected a number and how many there are, such as '3/8'"):
        Shard.parsed(text, "id")
    if text is not None:
        with pytest.raises(InputError, match="shard="):
            label_table(TABLE, tmp_path / "out.csv", model=Counting(), shard=text, **WAY)
    assert not list(tmp_path.iterdir())


def test_a_part_needs_ids(tmp_path):
    """All of them, in the whole table: the row is named as the table counts it."""
    with pytest.raises(InputError, match="needs id_column="):
        label_table(TABLE, model=Counting(), shard="1/2", text_column="text", labels=LABELS)
    torn = TABLE.assign(id=[*TABLE["id"][:200], "", *TABLE["id"][201:]])
    for i in range(1, 9):
        with pytest.raises(InputError, match=r"the id in column 'id' is missing in row 200 \(counted from 0\)"):
            label_table(torn, model=Counting(), shard=f"{i}/8", **WAY)
    (tmp_path / "in").mkdir()
    write_table(TABLE, tmp_path / "in" / "a.csv")
    write_table(torn[150:], tmp_path / "in" / "b.csv")
    with pytest.raises(InputError, match=r"missing in row 50 of b\.csv"):
        label_table(tmp_path / "in", tmp_path / "out.csv", model=Counting(), shard="1/8", **WAY)
    twice = TABLE.assign(id=[*TABLE["id"][:239], "r7"])
    shard = next(f"{i}/8" for i in range(1, 9) if Shard(i, 8, "id").holds(["r7"])[0])
    with pytest.raises(InputError, match="r7"):
        label_table(twice, model=Counting(), shard=shard, **WAY)


@pytest.mark.parametrize(
    "make", [lambda t: t, pl.from_pandas, pa.Table.from_pandas], ids=["pandas", "polars", "pyarrow"]
)
def test_a_frame_comes_back_with_the_rows_of_the_part(make):
    """In their order, in the frame's library; together all parts have all rows, labelled as the whole table is."""
    frames = [label_table(make(TABLE), model=FakeBackend(), shard=f"{i}/3", **WAY).table for i in (1, 2, 3)]
    assert {type(frame) for frame in frames} == {type(make(TABLE))}
    as_pandas = [frame if isinstance(frame, pd.DataFrame) else frame.to_pandas() for frame in frames]
    for frame in as_pandas:
        assert 50 < len(frame) < 110
        assert sorted(frame["id"], key=lambda one: int(one[1:])) == frame["id"].tolist()
    together = pd.concat(as_pandas).set_index("id").loc[TABLE["id"]].reset_index()
    pd.testing.assert_frame_equal(together, whole(), check_dtype=False)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_parts_become_one_output_that_equals_that_of_one_machine(suffix, tmp_path):
    """Each row is asked once; the last run asks nothing, and its model cannot even be reached."""
    table = tmp_path / f"in{suffix}"
    write_table(TABLE, table)
    models = [Counting() for _ in range(4)]
    for i, model in enumerate(models, start=1):
        done = label_table(table, tmp_path / f"part-{i}{suffix}", model=model, shard=f"{i}/4", **WAY)
        assert done.summary.rows == model.n == len(read_table(tmp_path / f"part-{i}{suffix}"))
        assert done.summary.input == f"{table} (shard {i}/4)"
    assert sum(model.n for model in models) == len(TABLE)
    merge_journals([tmp_path / f"part-{i}{suffix}.journal" for i in range(1, 5)], tmp_path / "all.journal")
    last = Counting()
    label_table(table, tmp_path / f"all{suffix}", model=last, journal=tmp_path / "all.journal", resume=True, **WAY)
    label_table(table, tmp_path / f"one{suffix}", model=Counting(), **WAY)
    assert last.n == 0
    assert (tmp_path / f"all{suffix}").read_bytes() == (tmp_path / f"one{suffix}").read_bytes()


def test_a_folder_keeps_its_files_even_where_a_part_has_none_of_their_rows(tmp_path):
    """So the parts of all machines have the same files."""
    (tmp_path / "in").mkdir()
    write_table(TABLE[:1], tmp_path / "in" / "a.parquet")
    write_table(TABLE[1:], tmp_path / "in" / "b.parquet")
    rows = 0
    for i in (1, 2):
        label_table(tmp_path / "in", tmp_path / f"out-{i}", model=Counting(), shard=f"{i}/2", **WAY)
        files = sorted((tmp_path / f"out-{i}").glob("*.parquet"))
        assert [file.name for file in files] == ["a.parquet", "b.parquet"]
        rows += sum(len(pd.read_parquet(file)) for file in files)
        assert {"id", "label", "confidence"} <= set(pd.read_parquet(files[0]).columns)
    assert rows == len(TABLE)


def test_a_part_without_rows_is_said():
    """No empty output that looks like a finished one."""
    empty = next(i for i in (1, 2) if not Shard(i, 2, "id").holds(["r0"])[0])
    with pytest.raises(InputError, match=rf"the DataFrame \(shard {empty}/2\) has no rows"):
        label_table(TABLE[:1], model=Counting(), shard=f"{empty}/2", **WAY)


def test_estimates_of_parts_add_up():
    """What a machine will be asked to pay."""
    table = TABLE.assign(text=[f"review {i // 2}" for i in range(len(TABLE))])
    parts = [estimate_table(table, model=FakeBackend(), shard=f"{i}/3", **WAY) for i in (1, 2, 3)]
    assert sum(part.rows for part in parts) == len(TABLE)
    assert all(part.questions <= part.rows for part in parts)


def test_rows_that_come_later_leave_the_parts_as_they_are(tmp_path):
    """A part that is resumed with a longer table asks about its new rows alone."""
    first = Counting()
    journal = tmp_path / "part.journal"
    label_table(TABLE[:150], tmp_path / "a.csv", model=first, shard="2/3", journal=journal, **WAY)
    then = Counting()
    shuffled = TABLE.sample(frac=1, random_state=0)
    label_table(shuffled, tmp_path / "a.csv", model=then, shard="2/3", journal=journal, resume=True, **WAY)
    ours = Shard(2, 3, "id").holds
    assert first.n == ours(TABLE["id"][:150].tolist()).sum()
    assert then.n == ours(TABLE["id"][150:].tolist()).sum()


@pytest.mark.server
def test_machines_side_by_side_by_the_command_line(tmp_path):
    """Four processes at a time, a merge and a last run without a server: each row is asked once, nothing twice."""
    write_table(TABLE.assign(text=[f"<review {i}>" for i in range(len(TABLE))]), tmp_path / "in.csv")

    def command(*words):
        return subprocess.run(
            [sys.executable, "-m", "llmclf", *map(str, words)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )

    with FakeServer("openai_chat", latency=0.01) as server:
        way = [
            "--id-column", "id", "--text-column", "text", "--labels", "good,bad", "--chat", "--model", "openai:tiny",
            "--base-url", server.url, "--api-key-env", "", "--quiet",
        ]  # fmt: skip
        with ThreadPoolExecutor(4) as machines:
            runs = machines.map(
                lambda i: command("label", "in.csv", f"part-{i}.csv", "--shard", f"{i}/4", *way), range(1, 5)
            )
            for run in runs:
                assert run.returncode == 0, run.stderr
        asked = rows_asked(server)
        assert (
            command("journal", "merge", *[f"part-{i}.csv.journal" for i in range(1, 5)], "-o", "all.journal").returncode
            == 0
        )
    last = command("label", "in.csv", "all.csv", "--journal", "all.journal", "--resume", *way)
    assert last.returncode == 0, last.stderr
    assert f"asked 0 questions, {len(TABLE)} were answered before" in last.stdout
    assert read_table(tmp_path / "all.csv")["id"].tolist() == TABLE["id"].tolist()
    assert set(asked.values()) == {1}
    assert len(asked) == len(TABLE)
