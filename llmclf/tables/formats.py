"""Table files piece by piece: CSV, TSV, JSON Lines and Parquet, read and written without holding a whole table in memory.

A piece is a pandas DataFrame. The cells of a CSV or TSV file are strings, exactly as written; the values of JSON Lines keep their
JSON types, and those of Parquet their Arrow types.
"""

from __future__ import annotations

import csv
import datetime
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from io import TextIOWrapper
from itertools import islice
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import pandas as pd
from pydantic_core import to_json

from ..errors import InputError, MissingDependencyError, type_of
from ..files.bounded_json import parsed_json
from ..files.faults import file_fault
from .endings import TEXTS, split_suffix
from .formulas import FormulaCells, unescaped
from .text_files import DAMAGE, LONGEST, USUAL_TEXT, TextFormat, bytes_written, lines, other_delimiter, text_read
from .values import PLAIN, is_missing, json_value

CHUNK = 4096
"""The default number of rows of a piece."""
_CSV_TERMINATOR = "\r\n"
_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_CELLS = frozenset({str, int, float, bool})  # types that csv.writer writes as they are
_NUMBERS = frozenset({float, type(None)})


def read_chunks(
    file: Path,
    suffix: str,
    size: int = CHUNK,
    text: TextFormat = USUAL_TEXT,
) -> Iterator[pd.DataFrame]:
    """The rows of a file, at most `size` at a time; the columns of JSON Lines may differ between pieces.

    Parameters
    ----------
    file : path
    suffix : str
        As `llmclf.tables.endings.check_suffix` gives it.
    size : int
    text : TextFormat
        Of what a CSV, TSV or JSONL file holds.

    Raises
    ------
    InputError
        The file is missing, or is not what its suffix says.
    MissingDependencyError
        Parquet, .bz2 or .zst without pyarrow.
    """
    kind, compression = split_suffix(suffix)
    try:
        fault = file_fault(file, may_be_packed=bool(compression))
        # An empty file is a table without columns, of which whoever reads it says more.
        if fault is not None and not (file.is_file() and not file.stat().st_size):
            raise InputError(f"{str(file)!r} {fault}")
        if kind == ".parquet":
            yield from _read_parquet(file, size)
            return
        with text_read(file, compression, text.encoding) as stream:
            if kind in TEXTS:
                yield from _read_csv(stream, file, size, text.delimiter or _DELIMITERS[kind], text.unescape_formulas)
            else:
                yield from _read_jsonl(stream, file, size)
    except InputError:
        raise
    except (*DAMAGE, OSError, ValueError, NotImplementedError) as error:
        raise InputError(f"{str(file)!r} cannot be read as {suffix[1:].upper()}: {error}") from error


def read_metadata(file: Path, suffix: str) -> dict[str, str]:
    """What a Parquet file says of itself besides its rows, as `write_chunks` stored it; the other formats hold none.

    Raises
    ------
    InputError
        The file is not what its suffix says.
    MissingDependencyError
        Parquet without pyarrow.
    """
    if split_suffix(suffix)[0] != ".parquet":
        return {}
    _, pq = _pyarrow()
    try:
        stored = pq.read_schema(file).metadata or {}
    except (OSError, ValueError, NotImplementedError) as error:
        raise InputError(f"{str(file)!r} cannot be read as PARQUET: {error}") from error
    return {name.decode("utf-8", "replace"): value.decode("utf-8", "replace") for name, value in stored.items()}


def write_chunks(
    frames: Iterable[pd.DataFrame],
    target: Path,
    suffix: str,
    *,
    schema: Any = None,
    metadata: Mapping[str, str] | None = None,
    formulas: FormulaCells | None = None,
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
        Stored in a Parquet file besides that of the schema; the other formats cannot hold it.
    formulas : FormulaCells, optional
        Counts, and escapes if it is told to, the cells of a CSV or TSV file that a spreadsheet would run.

    Returns
    -------
    int
        The number of rows.
    """
    kind, compression = split_suffix(suffix)
    if kind == ".parquet":
        return _write_parquet(frames, target, schema, metadata or {})
    with bytes_written(target, compression) as stream:
        if kind == ".jsonl":
            return _write_jsonl(frames, stream)
        return _write_csv(frames, stream, _DELIMITERS[kind], formulas or FormulaCells())


def missing_pyarrow() -> MissingDependencyError:
    return MissingDependencyError("Parquet files need pyarrow; run: pip install 'llmclf[parquet]'")


# --- CSV -----------------------------------------------------------------------------------------------------------------


def _read_csv(
    stream: TextIOWrapper, file: Path, size: int, delimiter: str, unescape_formulas: bool
) -> Iterator[pd.DataFrame]:
    # Not pandas' reader, which renames duplicate columns, fills short rows and takes an extra cell for an index.
    reader = csv.reader(lines(stream, file), strict=True, delimiter=delimiter)
    try:
        with _long_cells():
            names = next(reader, [])
        if unescape_formulas:
            names = list(map(unescaped, names))
        duplicates = sorted({name for name in names if names.count(name) > 1})
        if duplicates:
            raise InputError(f"{str(file)!r} has two columns named {duplicates[0]!r}; rename one of them")
        while True:
            with _long_cells():
                rows = list(islice(_csv_rows(reader, names, file), size))
            if not rows:
                return
            if unescape_formulas:
                rows = [list(map(unescaped, row)) for row in rows]
            yield pd.DataFrame(rows, columns=names, dtype=str)
    except csv.Error as error:
        raise InputError(f"line {reader.line_num} of {str(file)!r} is not valid CSV: {error}") from error


def _csv_rows(reader: Any, names: list[str], file: Path) -> Iterator[list[str]]:
    n, delimiter = len(names), reader.dialect.delimiter
    for row in reader:
        if len(row) != n:
            if not row:
                continue
            raise InputError(
                f"line {reader.line_num} of {str(file)!r} has {len(row)} cells and the first line has {n}; a cell that holds "
                f'{_called(delimiter)} or line breaks needs quotes, as in "a{delimiter} b"{other_delimiter(names)}'
            )
        yield row


def _called(delimiter: str) -> str:
    return {",": "commas", "\t": "tabs"}.get(delimiter, f"the character {delimiter!r}")


@contextmanager
def _long_cells() -> Iterator[None]:
    limit = csv.field_size_limit(LONGEST)
    try:
        yield
    finally:
        csv.field_size_limit(limit)


def _write_csv(frames: Iterable[pd.DataFrame], stream: IO[bytes], delimiter: str, formulas: FormulaCells) -> int:
    n_rows = 0
    # The csv module quotes a lone carriage return only if its line terminator has one, so the terminator is replaced after.
    written: list[str] = []
    writer = csv.writer(_CsvTarget(written.append), lineterminator=_CSV_TERMINATOR, delimiter=delimiter)
    for number, frame in enumerate(frames):
        if not number:
            writer.writerow(formulas.header(list(map(str, frame.columns))))
        columns = (formulas.column(name, _cells(frame[name]), n_rows) for name in frame.columns)
        writer.writerows(zip(*columns, strict=True))
        stream.write("".join([line.removesuffix(_CSV_TERMINATOR) + "\n" for line in written]).encode())
        written.clear()
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
    """A value as a cell has it: what csv.writer writes as text, and JSON for lists, dicts, durations and bytes."""
    if isinstance(value, (dict, list, tuple, np.ndarray)):
        return json.dumps(json_value(value), ensure_ascii=False)
    if isinstance(value, (str, int, float, datetime.date, datetime.time)) or (
        isinstance(value, np.generic) and not isinstance(value, (np.timedelta64, np.bytes_))
    ):
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


def _read_jsonl(stream: TextIOWrapper, file: Path, size: int) -> Iterator[pd.DataFrame]:
    records = _json_records(lines(stream, file), file)
    while part := list(islice(records, size)):
        # Objects, because pandas would make 1 and null into 1.0 and NaN.
        yield pd.DataFrame(part, dtype=object)


def _json_records(found: Iterable[str], file: Path) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(found, start=1):
        text = line.strip()
        if not text:
            continue
        try:
            record = parsed_json(text)
        except json.JSONDecodeError as error:
            raise InputError(
                f"line {number} of {str(file)!r} is not valid JSON: {error.msg} (character {error.colno})"
            ) from error
        except ValueError as error:
            raise InputError(f"line {number} of {str(file)!r} cannot be read: {error}") from error
        if not isinstance(record, dict):
            raise InputError(f"line {number} of {str(file)!r} is {type_of(record)}; expected a JSON object")
        yield record


def _write_jsonl(frames: Iterable[pd.DataFrame], stream: IO[bytes]) -> int:
    n_rows = 0
    for frame in frames:
        names = list(frame.columns)
        columns = (_json_values(frame[name]) for name in names)
        stream.writelines(_json_line(dict(zip(names, row, strict=True))) for row in zip(*columns, strict=True))
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
                known = (schema.metadata if schema is not None else None) or {}
                encoded = {**known, **{name.encode(): value.encode() for name, value in metadata.items()}}
                schema = schema if schema is not None else table.schema.remove_metadata()
                writer = pq.ParquetWriter(target, schema.with_metadata(encoded or None))
            writer.write_table(table.cast(schema) if table.schema != schema else table.replace_schema_metadata(None))
            n_rows += len(frame)
    finally:
        if writer is not None:
            writer.close()
    return n_rows
