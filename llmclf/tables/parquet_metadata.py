"""What a Parquet file says of itself and of its columns, and what of that still holds with more columns."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_PANDAS = b"pandas"
_OF_ALL_COLUMNS = frozenset({b"org.apache.spark.sql.parquet.row.metadata", b"huggingface"})
"""Entries that list all columns of a file: with columns added, their readers would hide these or refuse the file."""


@dataclass(frozen=True)
class TableMetadata:
    """What a table says of itself.

    Attributes
    ----------
    table : mapping of bytes
    columns : dict of str -> mapping of bytes
        Of those columns that have some.
    """

    table: Mapping[bytes, bytes]
    columns: Mapping[str, Mapping[bytes, bytes]]


def schema_metadata(schema: Any) -> TableMetadata:
    """That of a pyarrow.Schema."""
    return TableMetadata(
        dict(schema.metadata or {}), {field.name: dict(field.metadata) for field in schema if field.metadata}
    )


def file_metadata(file: Path) -> TableMetadata | None:
    """That of a Parquet file; None of other files, and of one that cannot be read, of which whoever reads it says more."""
    if file.suffix.lower() != ".parquet":
        return None
    with suppress(ImportError, OSError, ValueError):
        import pyarrow.parquet

        return schema_metadata(pyarrow.parquet.read_schema(file))
    return None


def with_metadata(schema: Any, parts: Sequence[TableMetadata]) -> Any:
    """A pyarrow.Schema with what all parts of its table say alike.

    Entries that list all columns for another program are left out where they would no longer hold, and what pandas notes of an
    index names no column that is not there.
    """
    fields = [
        field.with_metadata(_alike([part.columns.get(field.name, {}) for part in parts]) or None) for field in schema
    ]
    table = {
        name: value for name, value in _alike([part.table for part in parts]).items() if name not in _OF_ALL_COLUMNS
    }
    if _PANDAS in table:
        index = _index_that_is_there(table.pop(_PANDAS), set(schema.names), is_whole=len(parts) == 1)
        if index is not None:
            table[_PANDAS] = index
    import pyarrow as pa

    return pa.schema(fields, metadata=table or None)


def _alike(several: Sequence[Mapping[bytes, bytes]]) -> dict[bytes, bytes]:
    first, *others = several or [{}]
    return {name: value for name, value in first.items() if all(other.get(name) == value for other in others)}


def _index_that_is_there(note: bytes, names: set[str], *, is_whole: bool) -> bytes | None:
    """What pandas notes, without the parts of an index that are not in the file."""
    try:
        noted = json.loads(note)
        columns = noted["index_columns"]
        # A range stands for the rows of one whole file.
        kept = [one for one in columns if (one in names if isinstance(one, str) else is_whole)]
        listed = [one for one in noted["columns"] if one.get("field_name", one.get("name")) in names]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    return json.dumps({**noted, "index_columns": kept, "columns": listed}).encode()
