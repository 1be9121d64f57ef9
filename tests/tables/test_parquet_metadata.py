"""What a Parquet file says of itself is still there when labels have been added, as far as it is still true."""

from __future__ import annotations

import json

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llmclf.backends import FakeBackend
from llmclf.jobs import label_table
from llmclf.tables.parquet_metadata import TableMetadata, file_metadata, with_metadata


def label(table, output, **more):
    label_table(table, output, text_column="text", labels=["x", "y"], model=FakeBackend(), **more)
    return output


def arrow_table(**metadata: str) -> pa.Table:
    unit = pa.field("price", pa.float64(), metadata={"unit": "EUR"})
    schema = pa.schema([pa.field("text", pa.string()), unit], metadata=metadata)
    return pa.table({"text": ["a", "b"], "price": [1.0, 2.0]}, schema=schema)


@pytest.mark.parametrize("how", ["file", "table", "stream", "folder"])
def test_a_table_and_its_columns_keep_what_they_say(how, tmp_path):
    """From a file, an Arrow table, a stream and each file of a folder; our own entry stands beside it."""
    table = arrow_table(owner="shop", geo="{}")
    (tmp_path / "in").mkdir()
    pq.write_table(table, tmp_path / "in" / "a.parquet")
    given = {
        "file": tmp_path / "in" / "a.parquet",
        "table": table,
        "stream": table.to_reader(),
        "folder": tmp_path / "in",
    }
    output = label(given[how], tmp_path / ("out" if how == "folder" else "out.parquet"))
    schema = pq.read_schema(output / "a.parquet" if how == "folder" else output)
    assert (schema.metadata[b"owner"], schema.metadata[b"geo"]) == (b"shop", b"{}")
    assert b"llmclf" in schema.metadata
    assert schema.field("price").metadata[b"unit"] == b"EUR"
    assert not (schema.field("label").metadata or {}).get(b"unit")


def test_a_labelled_table_is_labelled_again(tmp_path):
    """The entry of the first labelling gives way to that of the second."""
    pq.write_table(arrow_table(owner="shop"), tmp_path / "in.parquet")
    first = label(tmp_path / "in.parquet", tmp_path / "one.parquet")
    second = label(first, tmp_path / "two.parquet", prefix="again_")
    before, after = pq.read_schema(first).metadata, pq.read_schema(second).metadata
    assert after[b"owner"] == b"shop"
    assert json.loads(before[b"llmclf"])["fingerprint"] == json.loads(after[b"llmclf"])["fingerprint"]


def test_the_index_of_pandas_comes_back(tmp_path):
    """A named index is one again for whoever reads with pandas, a range stays a range, and attrs stay."""
    frame = pd.DataFrame({"text": ["a", "b"]}, index=pd.Index([7, 8], name="key"))
    frame.attrs["source"] = "shop"
    frame.to_parquet(tmp_path / "named.parquet")
    found = pd.read_parquet(label(tmp_path / "named.parquet", tmp_path / "out.parquet"))
    assert found.index.tolist() == [7, 8]
    assert found.index.name == "key"
    assert found.attrs == {"source": "shop"}
    assert "label" in found.columns
    frame.reset_index(drop=True).set_axis(range(5, 7)).to_parquet(tmp_path / "range.parquet")
    assert pd.read_parquet(label(tmp_path / "range.parquet", tmp_path / "ranged.parquet")).index.tolist() == [5, 6]


def test_what_is_no_longer_true_is_left_out(tmp_path):
    """Entries that list all columns would hide the labels; an index without its column, and nonsense."""
    spark, hugging = "org.apache.spark.sql.parquet.row.metadata", "huggingface"
    pq.write_table(arrow_table(**{spark: "{}", hugging: "{}", "owner": "shop"}), tmp_path / "in.parquet")
    kept = pq.read_schema(label(tmp_path / "in.parquet", tmp_path / "out.parquet")).metadata
    assert spark.encode() not in kept
    assert hugging.encode() not in kept
    frame = pd.DataFrame({"text": ["a", "b"]}, index=["k", "l"])
    frame.to_parquet(tmp_path / "unnamed.parquet")
    found = pd.read_parquet(label(tmp_path / "unnamed.parquet", tmp_path / "plain.parquet"))
    assert found["text"].tolist() == ["a", "b"]
    for nonsense in (b"not json", b"[]", b'{"index_columns": 7, "columns": null}', b"[" * 100_000):
        schema = pa.schema([pa.field("text", pa.string())])
        assert with_metadata(schema, [TableMetadata({b"pandas": nonsense}, {})]).metadata is None


def test_several_files_keep_what_they_agree_on(tmp_path):
    """One output of two files: entries that differ are left out, and so is what would index the rows of one."""
    (tmp_path / "in").mkdir()
    for name in "ab":
        pd.DataFrame({"text": ["a", "b"]}).to_parquet(tmp_path / "in" / f"{name}.parquet")
        table = pq.read_table(tmp_path / "in" / f"{name}.parquet")
        more = {**table.schema.metadata, b"owner": b"shop", b"file": name.encode()}
        pq.write_table(table.replace_schema_metadata(more), tmp_path / "in" / f"{name}.parquet")
    output = label(tmp_path / "in", tmp_path / "out.parquet")
    kept = pq.read_schema(output).metadata
    assert kept[b"owner"] == b"shop"
    assert b"file" not in kept
    assert pd.read_parquet(output).index.tolist() == [0, 1, 2, 3]


def test_other_files_say_nothing(tmp_path):
    """CSV has no place for it; a broken file is named by whoever reads its rows."""
    (tmp_path / "x.csv").write_text("text\na\n")
    (tmp_path / "x.parquet").write_bytes(b"PAR1 nonsense")
    assert file_metadata(tmp_path / "x.csv") is None
    assert file_metadata(tmp_path / "x.parquet") is None
