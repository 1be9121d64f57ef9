"""Delta Lake tables as a job's input and output, by the real package."""

from __future__ import annotations

import datetime
import decimal
import json
import multiprocessing
import os
import shutil
import signal
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake
from killed_journal import LABELS, TABLE, Counting

from llmclf.backends import FakeBackend
from llmclf.errors import InputError, MissingDependencyError, StoreError
from llmclf.jobs import label_table

WAY = {"id_column": "id", "text_column": "text", "labels": LABELS}
ODD = {
    "whole": pa.array([1, None, -(2**63)], pa.int64()),
    "exact": pa.array([decimal.Decimal("1.25"), None, decimal.Decimal("-0.01")], pa.decimal128(10, 2)),
    "when": pa.array([datetime.datetime(2026, 1, 2, 3, 4, 5, 678901), None, datetime.datetime(1, 1, 1)], pa.timestamp("us")),
    "where": pa.array([0, None, 10**15], pa.timestamp("us", "Europe/Berlin")),
    "day": pa.array([datetime.date(2026, 1, 2), None, datetime.date(1, 1, 1)], pa.date32()),
    "raw": pa.array([b"\x00\xff", None, b""], pa.binary()),
    "list": pa.array([["a", None], None, []], pa.list_(pa.string())),
    "struct": pa.array([{"x": 1, "y": "z"}, None, {"x": None, "y": ""}], pa.struct([("x", pa.int64()), ("y", pa.string())])),
    "yes": pa.array([True, None, False], pa.bool_()),
}  # fmt: skip


def run(rows, output, *, journal="j", **options):
    model = options.pop("model", None) or FakeBackend()
    return label_table(
        rows, output, model=model, journal=Path(f"{output}.{journal}.journal"), resume=True, **{**WAY, **options}
    ).summary


def in_order(frame: pd.DataFrame) -> pd.DataFrame:
    plain = frame.sort_values("id").reset_index(drop=True).astype(object)
    return plain.where(plain.notna(), None)


def rows_of(folder) -> pd.DataFrame:
    return in_order(DeltaTable(folder).to_pandas())


@pytest.fixture
def table(tmp_path) -> Path:
    """A table with a history: some of its files hold rows that are deleted, some older versions of rows."""
    folder = tmp_path / "reviews"
    write_deltalake(folder, TABLE[:200].assign(id=[f"r{i}" for i in range(200)]))
    write_deltalake(folder, TABLE[200:], mode="append")
    DeltaTable(folder).delete("id = 'r7'")
    DeltaTable(folder).update(predicate="id = 'r8'", updates={"text": "'changed'"})
    return folder


def test_a_table_is_read_as_its_last_version(table, tmp_path):
    """Not as the Parquet files in its folder, which hold deleted rows."""
    in_files = sum(pq.read_metadata(file).num_rows for file in table.glob("*.parquet"))
    assert in_files > len(TABLE)
    summary = run(table, tmp_path / "out.csv")
    assert (summary.rows, summary.input_version, summary.output_version) == (239, 3, None)
    read = pd.read_csv(tmp_path / "out.csv")
    assert sorted(read["id"]) == sorted(set(TABLE["id"]) - {"r7"})
    assert read.set_index("id")["text"]["r8"] == "changed"
    assert json.loads(json.dumps(summary.to_dict()))["input_version"] == 3


def test_what_is_added_meanwhile_is_not_seen(table, tmp_path):
    """The version is that of the beginning, in all readings of the job."""

    class Meddled(Counting):
        def score(self, requests):
            if not self.n:
                write_deltalake(table, pd.DataFrame({"id": ["new"], "text": ["new"]}), mode="append")
            yield from super().score(requests)

    summary = run(table, tmp_path / "out.csv", model=Meddled())
    assert (summary.rows, summary.input_version) == (239, 3)
    again = run(table, tmp_path / "out.csv")
    assert (again.rows, again.asked, again.input_version) == (240, 1, 4)


def test_a_new_table_is_made_in_one_commit(tmp_path):
    """By its ending; labels are there with their types, and the history says what made them."""
    summary = run(TABLE, tmp_path / "out.delta")
    assert (summary.labelled, summary.output_version) == (240, 0)
    made = DeltaTable(tmp_path / "out.delta")
    expected = in_order(label_table(TABLE, model=FakeBackend(), **WAY).table)
    pd.testing.assert_frame_equal(rows_of(tmp_path / "out.delta"), expected)
    (commit,) = made.history()
    assert json.loads(commit["llmclf"])["fingerprint"] == summary.fingerprint
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.delta", "out.delta.j.journal"]


def test_a_job_replaces_its_own_version_and_no_other(tmp_path):
    """A resumed job makes a new version; after somebody else's commit it ends before anything is asked."""
    output = tmp_path / "out.delta"
    run(TABLE[:100], output)
    assert run(TABLE, output).output_version == 1
    assert len(rows_of(output)) == 240
    DeltaTable(output).delete("id = 'r7'")
    with pytest.raises(InputError, match="has changed since this job wrote it"):
        run(TABLE, output)
    with pytest.raises(InputError, match="exists already, and this job has not written it"):
        run(TABLE, output, journal="other")
    assert len(rows_of(output)) == 239
    assert run(TABLE[:3], output, if_exists="replace").output_version == 3
    assert len(rows_of(output)) == 3
    assert len(DeltaTable(output, version=2).to_pandas()) == 239  # as always with Delta


def test_rows_are_added(tmp_path):
    """Or refused where they are there; nothing is asked then."""
    output = tmp_path / "out.delta"
    for number, rows in enumerate((TABLE[:100], TABLE[100:])):
        assert run(rows, output, journal=str(number), if_exists="append").output_version == number
    expected = in_order(label_table(TABLE, model=FakeBackend(), **WAY).table)
    pd.testing.assert_frame_equal(rows_of(output), expected)
    model = Counting()
    with pytest.raises(InputError, match="has the id 'r99' already .*merge-on-id"):
        run(TABLE[99:100], output, journal="2", if_exists="append", model=model)
    assert (model.n, DeltaTable(output).version()) == (0, 1)


def test_rows_are_merged_and_a_repetition_changes_nothing(tmp_path):
    """One row an id: the table's own where it has one."""
    output = tmp_path / "out.delta"
    run(TABLE[:150], output, journal="a")
    newer = TABLE[100:].assign(text=[f"new {i}" for i in range(140)])
    for _ in range(2):
        run(newer, output, journal="b", if_exists="merge-on-id")
        texts = rows_of(output).set_index("id")["text"]
        assert texts.to_dict() == {**TABLE[:100].set_index("id")["text"], **newer.set_index("id")["text"]}


def test_values_come_back_as_they_went_in(tmp_path):
    """Through a job from Delta to Delta; times with a zone as the same instants in UTC, unsigned numbers with a sign."""
    source = tmp_path / "in"
    rows = pa.table({"id": ["a", "b", "c"], "text": ["x", "y", "z"], **ODD})
    write_deltalake(source, rows)
    run(source, tmp_path / "out.delta")
    before, after = (DeltaTable(folder).to_pyarrow_table().sort_by("id") for folder in (source, tmp_path / "out.delta"))
    for name in before.column_names:
        assert after[name].type == before[name].type, name
        assert after[name].equals(before[name]), name
    rows = rows.append_column("small", pa.array([1, None, 255], pa.uint8()))
    pq.write_table(rows, tmp_path / "in.parquet")
    run(tmp_path / "in.parquet", tmp_path / "other.delta")
    third = DeltaTable(tmp_path / "other.delta").to_pyarrow_table().sort_by("id")
    assert third["where"].cast(pa.int64()).equals(rows["where"].cast(pa.int64()))
    assert third["small"].to_pylist() == [1, None, 255]


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (pa.array([1] * 3, pa.duration("us")), "cannot be written: .*Duration"),
        (pa.array([0] * 3, pa.time64("us")), "cannot be written: .*Time64"),
        (pa.array([1] * 3, pa.timestamp("ns")), "would lose data"),
        (pa.array([2**64 - 1] * 3, pa.uint64()), "not in range"),
    ],
)
def test_what_such_a_table_cannot_hold_is_refused_before_anything_is_asked(column, message, tmp_path):
    """Nothing is rounded or wrapped around."""
    pq.write_table(pa.table({"id": ["a", "b", "c"], "text": ["x", "y", "z"], "odd": column}), tmp_path / "in.parquet")
    model = Counting()
    with pytest.raises((InputError, StoreError), match=message):
        run(tmp_path / "in.parquet", tmp_path / "out.delta", model=model)
    assert model.n == 0
    assert not (tmp_path / "out.delta").exists()


def test_a_value_that_no_such_table_has_is_found_far_down(tmp_path):
    """In whatever row it stands, before anything is asked."""
    times = pa.array([1000] * 9_999 + [1001], pa.timestamp("ns"))
    ids = [str(i) for i in range(10_000)]
    pq.write_table(pa.table({"id": ids, "text": ids, "odd": times}), tmp_path / "in.parquet")
    model = Counting()
    with pytest.raises(InputError, match="would lose data: 1001.*column odd"):
        run(tmp_path / "in.parquet", tmp_path / "out.delta", model=model)
    assert model.n == 0


def test_tables_with_other_columns_or_types_keep_theirs(tmp_path):
    """The column is named."""
    output = tmp_path / "out.delta"
    labelled = label_table(TABLE[:6], model=FakeBackend(), **WAY).table
    for frame, message in (
        (labelled.assign(more=1), "has a column 'more', which this job does not write"),
        (labelled.drop(columns="label"), "lacks the column 'label', which this job writes"),
        (labelled.drop(columns="id"), r"has no column 'id' \(--id-column\)"),
        (
            labelled.assign(confidence="high"),
            "the column 'confidence' of .* is string, and this job would write double",
        ),
        (labelled.assign(id="r9"), "has the id 'r9' twice"),
    ):
        shutil.rmtree(output, ignore_errors=True)
        write_deltalake(output, frame)
        model = Counting()
        with pytest.raises(InputError, match=message):
            run(TABLE[6:12], output, if_exists="merge-on-id", model=model)
        assert (model.n, DeltaTable(output).version()) == (0, 0)


def _label(folder: str, table: pd.DataFrame) -> None:
    class Slow(Counting):
        def score(self, requests):
            yield from super().score(requests)

    run(table, Path(folder), model=Slow(), if_exists="append")


def test_killed_at_any_instant_the_table_has_all_rows_or_none(tmp_path):
    """A commit is there or not; the next run brings the table to its end, and none of its rows is there twice."""
    output = tmp_path / "out.delta"
    run(TABLE[:10], output, journal="first")
    rows = pd.concat([TABLE.assign(id=TABLE["id"] + f"-{i}") for i in range(20)], ignore_index=True)
    context = multiprocessing.get_context("spawn")
    counts = []
    for wait in (0.2, 0.4, 0.7, 1.0, 1.4, 2.0):
        process = context.Process(target=_label, args=(str(output), rows))
        process.start()
        process.join(3 + wait)
        if process.is_alive():
            os.kill(process.pid, signal.SIGKILL)
        process.join()
        counts.append(len(rows_of(output)))
    assert set(counts) <= {10, 10 + len(rows)}
    if counts[-1] == 10:
        run(rows, output, if_exists="append")
    assert rows_of(output)["id"].tolist() == sorted([*TABLE["id"][:10], *rows["id"]])


def test_a_table_is_no_output_of_itself(table):
    """However it is spelt."""
    with pytest.raises(InputError, match="is read and would be written over"):
        run(table, table.parent / "." / "reviews", if_exists="merge-on-id")


@pytest.mark.parametrize("kind", ["Hudi", "Iceberg"])
def test_folders_of_other_lakes_are_no_folders_of_files(kind, tmp_path):
    """Their Parquet files may hold deleted rows; a pattern says that all of them count."""
    folder = tmp_path / "lake"
    mark = folder / {"Hudi": ".hoodie", "Iceberg": "metadata"}[kind]
    mark.mkdir(parents=True)
    (mark / "v1.metadata.json").write_text("{}")
    TABLE.to_parquet(folder / "a.parquet")
    with pytest.raises(InputError, match=f"is a table of {kind}, which cannot be read here"):
        run(folder, tmp_path / "out.csv")
    assert run(str(folder / "*.parquet"), tmp_path / "out.csv").rows == len(TABLE)


def test_a_damaged_log_is_said(table, tmp_path):
    """And not taken for a folder of Parquet files."""
    for file in (table / "_delta_log").glob("*.json"):
        file.write_text("{")
    with pytest.raises(StoreError, match="the Delta table .* cannot be read"):
        run(table, tmp_path / "out.csv")
    for file in (table / "_delta_log").glob("*"):
        file.unlink()
    with pytest.raises(StoreError, match="the Delta table .* cannot be read"):
        run(table, tmp_path / "out.csv")


def test_without_the_package_a_table_is_not_read_as_files(table, tmp_path, monkeypatch):
    """The message says what to install."""
    import sys

    monkeypatch.setitem(sys.modules, "deltalake", None)
    for source, output in ((table, tmp_path / "out.csv"), (TABLE, tmp_path / "new.delta")):
        with pytest.raises(MissingDependencyError, match=r"pip install 'llmclf\[delta\]'"):
            run(source, output)
