"""An output that is there already: what a job has not written is replaced, or added to, only at the caller's word."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from killed_journal import LABELS, TABLE, Counting

from llmclf.backends import FakeBackend
from llmclf.errors import InputError
from llmclf.jobs import label_table
from llmclf.jobs.journal.journal import Journal
from llmclf.tables.files import read_table, write_table
from llmclf.tables.formats import read_chunks

WAY = {"id_column": "id", "text_column": "text", "labels": LABELS}
SUFFIXES = (".csv", ".jsonl", ".parquet")


def run(rows: pd.DataFrame, output, *, journal: str = "", **options):
    """A job on some rows with a journal of its own."""
    path = Path(f"{output}.{journal or len(rows)}.journal")
    model = options.pop("model", None) or FakeBackend()
    return label_table(rows, output, model=model, journal=path, resume=True, **{**WAY, **options})


def texts(path: Path) -> dict[str, str]:
    return dict(read_table(path)[["id", "text"]].itertuples(index=False))


# --- by default ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_another_has_written_is_left_alone(suffix, tmp_path):
    """Before anything is asked; the message names the cure."""
    output, model = tmp_path / f"out{suffix}", Counting()
    write_table(pd.DataFrame({"precious": ["years of work"]}), output)
    before = output.read_bytes()
    with pytest.raises(InputError, match=r"exists already, and this job has not written it; .*--if-exists"):
        run(TABLE, output, model=model)
    assert (model.n, output.read_bytes()) == (0, before)
    run(TABLE, output, if_exists="replace")
    assert len(read_table(output)) == len(TABLE)


def test_a_job_replaces_its_own_output_until_somebody_changes_it(tmp_path):
    """Also by another name of the file; a correction by hand is not lost."""
    output = tmp_path / "out.csv"
    run(TABLE[:10], output, journal="j")
    run(TABLE[:20], output, journal="j")
    (tmp_path / "link").symlink_to(tmp_path)
    label_table(
        TABLE[:30],
        tmp_path / "link" / "out.csv",
        journal=f"{output}.j.journal",
        resume=True,
        model=FakeBackend(),
        **WAY,
    )
    assert len(read_table(output)) == 30
    corrected = output.read_text().replace("review 3,", "REVIEW 3,")
    output.write_text(corrected)
    with pytest.raises(InputError, match="has changed since this job wrote it"):
        run(TABLE[:30], output, journal="j")
    assert output.read_text() == corrected
    run(TABLE[:30], output, journal="j", if_exists="replace")
    run(TABLE[:30], output, journal="j")


def test_what_comes_while_the_job_asks_is_not_written_over(tmp_path):
    """The output is looked at again before it is written; the answers stay in the journal."""
    output = tmp_path / "out.csv"

    class Meddled(Counting):
        def score(self, requests):
            yield from super().score(requests)
            output.write_text("somebody else's")

    with pytest.raises(InputError, match="exists already, and this job has not written it"):
        run(TABLE[:10], output, journal="j", model=Meddled())
    assert output.read_text() == "somebody else's"
    model = Counting()
    run(TABLE[:10], output, journal="j", model=model, if_exists="replace")
    assert model.n == 0


def test_a_folder_is_the_jobs_own_or_is_left_alone(tmp_path):
    """One file of its names is enough."""
    (tmp_path / "in").mkdir()
    write_table(TABLE[:5], tmp_path / "in" / "a.csv")
    write_table(TABLE[5:9], tmp_path / "in" / "b.csv")
    out = tmp_path / "out"
    options = {**WAY, "model": FakeBackend(), "resume": True}
    label_table(tmp_path / "in", out, **options)
    label_table(tmp_path / "in", out, **options)
    os.utime(out / "b.csv", (1, 1))
    with pytest.raises(InputError, match="has changed since this job wrote it"):
        label_table(tmp_path / "in", out, **options)
    label_table(tmp_path / "in", out, if_exists="replace", **options)
    with pytest.raises(InputError, match="exists already"):
        label_table(tmp_path / "in", out, journal=tmp_path / "other.journal", **options)


def test_killed_before_it_could_note_what_it_wrote(tmp_path):
    """A job that dies right after its output took its place still knows it for its own."""
    code = """
import os, signal
import pandas as pd
from llmclf.backends import FakeBackend
from llmclf.jobs import label_table
from llmclf.jobs.journal.journal import Journal

note = Journal.note_output
def killed(self, place, mark):
    if mark is not None:
        os.kill(os.getpid(), signal.SIGKILL)
    note(self, place, mark)
Journal.note_output = killed
table = pd.DataFrame({"id": ["a", "b"], "text": ["x", "y"]})
label_table(table, "out.csv", id_column="id", text_column="text", labels=["good", "bad"], model=FakeBackend())
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=False)
    assert done.returncode == -signal.SIGKILL
    assert (tmp_path / "out.csv").exists()
    table = pd.DataFrame({"id": ["a", "b"], "text": ["x", "y"]})
    options = {"id_column": "id", "text_column": "text", "labels": ["good", "bad"], "model": FakeBackend()}
    assert label_table(table, tmp_path / "out.csv", resume=True, **options).summary.labelled == 2


# --- rows that stay --------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::llmclf.errors.FormulaWarning")
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_rows_are_added_to_those_that_are_there(suffix, tmp_path):
    """The file equals that of one job over all rows, whatever is in the cells."""
    odd = ["=1+1", "'=x", 'a,"b"\nc', "東京", " ", "NA", "007", "'"]
    rows = TABLE[:20].assign(
        text=[f"{odd[i % len(odd)]} {i}" if i % 3 else odd[i % len(odd)] + "x" for i in range(20)], n=range(20)
    )
    for escaped in (False, True) if suffix == ".csv" else (False,):
        output = tmp_path / f"out-{escaped}{suffix}"
        run(rows[:12], output, if_exists="append", escape_formulas=escaped)
        run(rows[12:], output, if_exists="append", escape_formulas=escaped)
        whole = tmp_path / f"whole-{escaped}{suffix}"
        run(rows, whole, escape_formulas=escaped)
        if suffix == ".parquet":
            assert pq.read_table(output).equals(pq.read_table(whole))
            assert b"llmclf" not in (pq.read_schema(output).metadata or {})  # it would speak of some of the rows
        else:
            assert output.read_bytes() == whole.read_bytes()


def test_a_row_that_is_there_is_not_added_again(tmp_path):
    """Nothing is asked or written; a run that has come to its end does not double its rows."""
    output, model = tmp_path / "out.csv", Counting()
    run(TABLE[:10], output)
    before = output.read_bytes()
    for rows in (TABLE[9:12], TABLE[:10]):
        with pytest.raises(
            InputError, match=rf"has the id '{rows['id'].iloc[0]}' already \(row \d+, counted from 0\).*merge-on-id"
        ):
            run(rows, output, journal="then", if_exists="append", model=model)
    assert (model.n, output.read_bytes()) == (0, before)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sets(st.integers(0, 30), min_size=1),
    st.sets(st.integers(0, 30), min_size=1),
    st.sampled_from(SUFFIXES),
    st.booleans(),
)
def test_merging_keeps_one_row_an_id_and_may_be_repeated(tmp_path_factory, older, newer, suffix, again):
    """Rows that the table lacks stay as they are; those that it has are its own; a second run changes nothing."""
    output = tmp_path_factory.mktemp("merge") / f"out{suffix}"
    run(pd.DataFrame({"id": map(str, sorted(older)), "text": [f"old {i}" for i in sorted(older)]}), output, journal="a")
    rows = pd.DataFrame({"id": map(str, sorted(newer)), "text": [f"new {i}" for i in sorted(newer)]})
    for _ in range(2 if again else 1):
        run(rows, output, journal="b", if_exists="merge-on-id")
    expected = {**{str(i): f"old {i}" for i in older}, **{str(i): f"new {i}" for i in newer}}
    assert texts(output) == expected
    ids = read_table(output)["id"].tolist()
    assert len(ids) == len(expected)
    assert ids == [*map(str, sorted(older - newer)), *map(str, sorted(newer))]


def test_merged_rows_are_never_taken_for_the_jobs_own(tmp_path):
    """A later run without a word would lose those of the other job."""
    output = tmp_path / "out.csv"
    run(TABLE[:5], output, journal="a")
    run(TABLE[5:8], output, journal="b", if_exists="append")
    for journal, rows in (("a", TABLE[:5]), ("b", TABLE[5:8])):
        with pytest.raises(InputError, match="--if-exists"):
            run(rows, output, journal=journal)
    assert len(read_table(output)) == 8


@pytest.mark.parametrize(
    ("change", "suffix", "message"),
    [
        (lambda t: t.assign(more=1), ".csv", "has a column 'more', which this job does not write"),
        (lambda t: t.drop(columns="p_good"), ".csv", "lacks the column 'p_good', which this job writes"),
        (lambda t: t.drop(columns="id"), ".jsonl", r"has no column 'id' \(--id-column\)"),
        (lambda t: t.assign(id=["", *t["id"][1:]]), ".csv", "the id in column 'id' is missing in row 0 of"),
        (lambda t: t.assign(id=[None, *t["id"][1:]]), ".parquet", "the id in column 'id' is missing in row 0 of"),
        (lambda t: t.assign(id=["r7", "r7", *t["id"][2:]]), ".csv", "has the id 'r7' twice"),
        (lambda t: t.assign(label=range(6)), ".parquet", "the column 'label' of .* is int64, and this job would write string"),
    ],
)  # fmt: skip
def test_rows_that_cannot_stand_beside_the_jobs_are_refused(change, suffix, message, tmp_path):
    """Before anything is asked, and nothing changes."""
    output, model = tmp_path / f"out{suffix}", Counting()
    write_table(change(label_table(TABLE[:6], model=FakeBackend(), **WAY).table), output)
    before = output.read_bytes()
    with pytest.raises(InputError, match=message):
        run(TABLE[6:12], output, if_exists="merge-on-id", model=model)
    assert (model.n, output.read_bytes()) == (0, before)


def test_older_rows_need_no_memory_of_their_own_table(tmp_path):
    """They come piece by piece: a file with more than one piece keeps all rows, in their order."""
    output = tmp_path / "out.csv"
    many = pd.DataFrame({"id": [f"o{i}" for i in range(9_000)], "text": [f"review {i % 7}" for i in range(9_000)]})
    run(many, output)
    run(TABLE, output, if_exists="merge-on-id")
    assert len(list(read_chunks(output, ".csv"))) == 3
    assert read_table(output)["id"].tolist() == [*many["id"], *TABLE["id"]]


@pytest.mark.parametrize("value", ["Fail", "overwrite", "", None, True])
def test_other_choices_are_refused(value, tmp_path):
    with pytest.raises(InputError, match=r"expected one of 'fail', 'replace', 'append', 'merge-on-id'"):
        label_table(TABLE, tmp_path / "out.csv", model=Counting(), if_exists=value, **WAY)


def test_what_a_choice_needs(tmp_path):
    """An output, ids, and one file or table."""
    for way in ("append", "merge-on-id"):
        with pytest.raises(InputError, match=r"needs id_column= \(--id-column COLUMN\)"):
            label_table(TABLE, tmp_path / "out.csv", text_column="text", labels=LABELS, model=Counting(), if_exists=way)
        with pytest.raises(InputError, match="the output is a folder"):
            label_table(TABLE, tmp_path / "out", model=Counting(), if_exists=way, **WAY)
        with pytest.raises(InputError, match="there is no output that could exist"):
            label_table(TABLE, model=Counting(), if_exists=way, **WAY)
    with pytest.raises(InputError, match="there is no output that could exist"):
        label_table(TABLE, model=Counting(), if_exists="replace", **WAY)


def test_a_damaged_note_of_outputs_is_damage(tmp_path):
    """What stands there is not believed."""
    from llmclf.errors import StoreError

    output = tmp_path / "out.csv"
    run(TABLE[:5], output, journal="j")
    with Journal(f"{output}.j.journal", resume=True) as journal:
        journal.connection.execute("UPDATE meta SET value = '[1]' WHERE name = 'outputs'")
    with pytest.raises(StoreError, match="what it says of outputs cannot be read"):
        run(TABLE[:5], output, journal="j")


def test_an_empty_file_that_somebody_made_is_something_that_is_there(tmp_path):
    """`mktemp` and `touch` make such; they may be named to be replaced."""
    output = tmp_path / "out.csv"
    output.touch()
    with pytest.raises(InputError, match="exists already"):
        run(TABLE[:5], output)
    run(TABLE[:5], output, if_exists="append")
    assert len(read_table(output)) == 5
