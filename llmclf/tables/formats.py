"""Table files piece by piece: CSV, JSON Lines and Parquet, read and written without holding a whole table in memory.

A piece is a pandas DataFrame. The cells of a CSV file are strings, exactly as written; the values of JSON Lines keep their
JSON types, and those of Parquet their Arrow types.
"""

from __future__ import annotations

import csv
import datetime
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from pydantic_core import to_json

from ..errors import InputError, MissingDependencyError, type_of
from ..files.faults import file_fault
from .values import PLAIN, is_missing, json_value

SUFFIXES = (".csv", ".jsonl", ".parquet")
CHUNK = 4096
"""The default number of rows of a piece."""
_CSV_TERMINATOR = "\r\n"
_CELLS = frozenset({str, int, float, bool})  # types that csv.writer writes as they are
_NUMBERS = frozenset({float, type(None)})


def read_chunks(file: Path, suffix: str, size: int = CHUNK) -> Iterator[pd.DataFrame]:
    """The rows of a file, at most `size` at a time; the columns of JSON Lines may differ between pieces.

    Raises
    ------
    InputError
        The file is missing, or is not what its suffix says.
    MissingDependencyError
        Parquet without pyarrow.
    """
    readers: dict[str, Callable[[Path, int], Iterator[pd.DataFrame]]] = {
        ".csv": _read_csv,
        ".jsonl": _read_jsonl,
        ".parquet": _read_parquet,
    }
    try:
        fault = file_fault(file)
        # An empty file is a table without columns, of which whoever reads it says more.
        if fault is not None and not (file.is_file() and not file.stat().st_size):
            raise InputError(f"{str(file)!r} {fault}")
        yield from readers[suffix](file, size)
    except InputError:
        raise
    except UnicodeDecodeError as error:
        raise InputError(f"{str(file)!r} is not UTF-8 text ({error}); save it with the encoding UTF-8") from error
    except (OSError, ValueError, NotImplementedError) as error:
        raise InputError(f"{str(file)!r} cannot be read as {suffix[1:].upper()}: {error}") from error


def write_chunks(
    frames: Iterable[pd.DataFrame],
    target: Path,
    suffix: str,
    *,
    schema: Any = None,
    metadata: Mapping[str, str] | None = None,
) -> int:
    """Write pieces with the same columns, one after the other.

    Parameters
    ----------
    frames : iterable of DataFrame
        At least one, which may have no rows.
    target : path
    suffix : str
    schema : pyarrow.Schema, optional
        The types of a Parquet file; by default those of the first piece.
    metadata : mapping, optional
        Stored in a Parquet file; the other formats cannot hold it.

    Returns
    -------
    int
        The number of rows.
    """
    if suffix == ".csv":
        return _write_csv(frames, target)
    if suffix == ".jsonl":
        return _write_jsonl(frames, target)
    return _write_parquet(frames, target, schema, metadata or {})


def missing_pyarrow() -> MissingDependencyError:
    return MissingDependencyError("Parquet files need pyarrow; run: pip install 'llmclf[parquet]'")


# --- CSV -----------------------------------------------------------------------------------------------------------------


def _read_csv(file: Path, size: int) -> Iterator[pd.DataFrame]:
    # Not pandas' reader, which renames duplicate columns, fills short rows and takes an extra cell for an index.
    with file.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.reader(stream, strict=True)
        try:
            with _cells_of_any_length():
                names = next(reader, [])
            duplicates = sorted({name for name in names if names.count(name) > 1})
            if duplicates:
                raise InputError(f"{str(file)!r} has two columns named {duplicates[0]!r}; rename one of them")
            while True:
                with _cells_of_any_length():
                    rows = list(islice(_csv_rows(reader, names, file), size))
                if not rows:
                    return
                yield pd.DataFrame(rows, columns=names, dtype=str)
        except csv.Error as error:
            raise InputError(f"line {reader.line_num} of {str(file)!r} is not valid CSV: {error}") from error


def _csv_rows(reader: Any, names: list[str], file: Path) -> Iterator[list[str]]:
    n = len(names)
    for row in reader:
        if len(row) != n:
            if not row:
                continue
            raise InputError(
                f"line {reader.line_num} of {str(file)!r} has {len(row)} cells and the first line has {n}; "
                'a cell that holds commas or line breaks needs quotes, as in "a, b"'
            )
        yield row


@contextmanager
def _cells_of_any_length() -> Iterator[None]:
    limit = csv.field_size_limit(sys.maxsize)
    try:
        yield
    finally:
        csv.field_size_limit(limit)


def _write_csv(frames: Iterable[pd.DataFrame], target: Path) -> int:
    n_rows = 0
    with target.open("w", encoding="utf-8", newline="") as stream:
        # The csv module quotes a lone carriage return only if its line terminator has one, so the terminator is replaced after.
        lines: list[str] = []
        writer = csv.writer(_CsvTarget(lines.append), lineterminator=_CSV_TERMINATOR)
        for number, frame in enumerate(frames):
            if not number:
                writer.writerow(frame.columns)
            writer.writerows(zip(*(_cells(frame[name]) for name in frame.columns), strict=True))
            stream.writelines([line.removesuffix(_CSV_TERMINATOR) + "\n" for line in lines])
            lines.clear()
            n_rows += len(frame)
    return n_rows


def _cells(column: pd.Series) -> list[Any]:
    if column.dtype == np.float64 and np.isfinite(column.to_numpy()).all() and len(column):
        # As short and as exact as Python's repr, and four times as fast.
        return to_json(column.tolist()).decode()[1:-1].split(",")
    if column.dtype == np.bool_:
        return [str(value) for value in column.tolist()]
    values = _values(column, "")
    types = set(map(type, values))
    return values if types <= _CELLS else _each(column, values, _cell)


def _cell(value: Any) -> Any:
    """A value as a cell has it: what csv.writer writes as text, and JSON for lists and dicts."""
    if isinstance(value, (dict, list, tuple, np.ndarray)):
        return json.dumps(json_value(value), ensure_ascii=False)
    if isinstance(value, (str, int, float, np.generic, datetime.date, datetime.time, datetime.timedelta)):
        return value
    return json_value(value)


def _each(column: pd.Series, values: list[Any], form: Callable[[Any], Any]) -> list[Any]:
    """`form` of each value; an error names the column and the row.

    Raises
    ------
    TypeError
        A value has no such form.
    """
    formed: list[Any] = []
    try:
        for value in values:
            formed.append(form(value))
    except (TypeError, ValueError, RecursionError) as error:
        raise TypeError(f"column {column.name!r}, row {column.index[len(formed)]}: {error}") from error
    return formed


def _values(column: pd.Series, missing: Any) -> list[Any]:
    """The values of a column; `missing` replaces those that are missing."""
    values: list[Any] = column.tolist()
    dtype = column.dtype
    if dtype.kind in "iub" and not pd.api.types.is_extension_array_dtype(dtype):
        return values
    if pd.api.types.is_object_dtype(dtype):
        types = set(map(type, values))
        if types == {str}:
            return values
        if types == {type(None)}:
            return [missing] * len(values)
        return [missing if is_missing(value) else value for value in values]
    missing_rows = column.isna().to_numpy()
    if missing_rows.any():
        values = [missing if is_na else value for value, is_na in zip(values, missing_rows.tolist(), strict=True)]
    return values


class _CsvTarget(NamedTuple):
    """What csv.writer writes to: it calls `write` once per row."""

    write: Callable[[str], object]


# --- JSON Lines ----------------------------------------------------------------------------------------------------------


def _read_jsonl(file: Path, size: int) -> Iterator[pd.DataFrame]:
    with file.open(encoding="utf-8-sig") as stream:
        records = _json_records(stream, file)
        while part := list(islice(records, size)):
            # Objects, because pandas would make 1 and null into 1.0 and NaN.
            yield pd.DataFrame(part, dtype=object)


def _json_records(stream: Iterable[str], file: Path) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(stream, start=1):
        text = line.strip()
        if not text:
            continue
        try:
            record = json.loads(text)
        except json.JSONDecodeError as error:
            raise InputError(
                f"line {number} of {str(file)!r} is not valid JSON: {error.msg} (character {error.colno})"
            ) from error
        except RecursionError as error:
            raise InputError(f"line {number} of {str(file)!r} is nested too deeply") from error
        if not isinstance(record, dict):
            raise InputError(f"line {number} of {str(file)!r} is {type_of(record)}; expected a JSON object")
        yield record


def _write_jsonl(frames: Iterable[pd.DataFrame], target: Path) -> int:
    n_rows = 0
    with target.open("wb") as stream:
        for frame in frames:
            names = list(frame.columns)
            columns = (_json_values(frame[name]) for name in names)
            for row in zip(*columns, strict=True):
                stream.write(_json_line(dict(zip(names, row, strict=True))))
            n_rows += len(frame)
    return n_rows


def _json_values(column: pd.Series) -> list[Any]:
    values = _values(column, None)
    types = set(map(type, values))
    if types <= PLAIN or (types <= _NUMBERS and np.isfinite([value for value in values if value is not None]).all()):
        return values
    return _each(column, values, json_value)


def _json_line(record: dict[str, Any]) -> bytes:
    try:
        line = json.dumps(record, ensure_ascii=False, allow_nan=False).encode()
    except UnicodeEncodeError:  # a lone surrogate: JSON can escape it, UTF-8 cannot encode it
        line = json.dumps(record, allow_nan=False).encode()
    return line + b"\n"


# --- Parquet -------------------------------------------------------------------------------------------------------------


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise missing_pyarrow() from error
    return pyarrow, pyarrow.parquet


def _read_parquet(file: Path, size: int) -> Iterator[pd.DataFrame]:
    pa, pq = _pyarrow()

    with pq.ParquetFile(file) as source:
        n_batches = 0
        for batch in source.iter_batches(batch_size=size):
            n_batches += 1
            yield arrow_frame(pa.Table.from_batches([batch]))
        if not n_batches:
            yield arrow_frame(source.schema_arrow.empty_table())


def arrow_frame(table: Any) -> pd.DataFrame:
    """A pyarrow.Table as a DataFrame with Arrow's types, because numpy's integers cannot be missing.

    Raises
    ------
    InputError
        A column has a type that cannot be read.
    """
    table = _without_views(table)
    frame: pd.DataFrame = table.to_pandas(types_mapper=pd.ArrowDtype)
    # A named index is one of the table's columns.
    return frame.reset_index(drop=all(name is None for name in frame.index.names))


def _without_views(table: Any) -> Any:
    """A table whose columns have no views and runs, for which pandas has no arrays; their values are the same."""
    pa, _ = _pyarrow()

    for place, field in enumerate(table.schema):
        wanted = plain_arrow_type(field.type)
        if wanted == field.type:
            continue
        try:
            column = table.column(place)
            # Not every cast of a view keeps what it holds: pyarrow makes wrong offsets of list views.
            is_text = pa.types.is_string_view(field.type) or pa.types.is_binary_view(field.type)
            plain = column.cast(wanted) if is_text else pa.array(column.to_pylist(), wanted)
            table = table.set_column(place, field.with_type(wanted), plain)
        except pa.ArrowException as error:
            raise InputError(
                f"the column {field.name!r} has the Arrow type {field.type}, which cannot be read here ({error}); cast it to "
                f"{wanted}, or leave it out"
            ) from error
    return table


def plain_arrow_type(column_type: Any) -> Any:
    """The Arrow type with the same values that has no views and runs, also inside of lists, structs, maps and dictionaries."""
    import pyarrow as pa

    kinds = pa.types
    if kinds.is_string_view(column_type):
        return pa.string()
    if kinds.is_binary_view(column_type):
        return pa.binary()
    if kinds.is_run_end_encoded(column_type) or kinds.is_dictionary(column_type):
        inner = plain_arrow_type(column_type.value_type)
        if kinds.is_run_end_encoded(column_type):
            return inner
        return column_type if inner == column_type.value_type else inner
    if kinds.is_struct(column_type):
        return pa.struct([one.with_type(plain_arrow_type(one.type)) for one in column_type])
    if kinds.is_map(column_type):
        return pa.map_(plain_arrow_type(column_type.key_type), plain_arrow_type(column_type.item_type))
    if kinds.is_fixed_size_list(column_type):
        return pa.list_(_plain_field(column_type), column_type.list_size)
    if kinds.is_large_list(column_type) or kinds.is_large_list_view(column_type):
        return pa.large_list(_plain_field(column_type))
    if kinds.is_list(column_type) or kinds.is_list_view(column_type):
        return pa.list_(_plain_field(column_type))
    return column_type


def _plain_field(list_type: Any) -> Any:
    return list_type.value_field.with_type(plain_arrow_type(list_type.value_type))


def _write_parquet(frames: Iterable[pd.DataFrame], target: Path, schema: Any, metadata: Mapping[str, str]) -> int:
    pa, pq = _pyarrow()

    n_rows = 0
    writer = None
    try:
        for frame in frames:
            table = pa.Table.from_pandas(frame, schema=schema, preserve_index=False)
            if writer is None:
                schema = table.schema.remove_metadata()
                encoded = {name.encode(): value.encode() for name, value in metadata.items()}
                writer = pq.ParquetWriter(target, schema.with_metadata(encoded) if encoded else schema)
            writer.write_table(table.cast(schema) if table.schema != schema else table.replace_schema_metadata(None))
            n_rows += len(frame)
    finally:
        if writer is not None:
            writer.close()
    return n_rows
