"""Where a job's rows come from: files, folders, SQL tables, data frames, Arrow streams; read piece by piece, twice alike."""

from __future__ import annotations

import datetime
import glob
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import narwhals.stable.v2 as nw
import pandas as pd

from ...errors import InputError, MissingDependencyError, type_of
from ...tables.endings import EXPECTED, check_suffix, is_table_name
from ...tables.files import check_text_format
from ...tables.formats import CHUNK, arrow_frame, read_chunks, write_chunks
from ...tables.parquet_metadata import TableMetadata, file_metadata, schema_metadata
from ...tables.text_files import USUAL_TEXT, TextFormat
from ..questions import decode_record, encode_record
from .delta import DeltaFolder, is_delta, refuse_other_lakes
from .sql import SqlSource, is_sql_url
from .sql.databases import NativeColumns
from .stores import Place, bring_all, is_store_address

_TIMES = frozenset({datetime.date, datetime.datetime, datetime.time, datetime.timedelta})
_PARQUET, _ROWS, _OBJECTS = ".parquet", ".rows", ".objects"


@dataclass(frozen=True)
class Part:
    """A part of a table, which becomes a file of its own where the output is a folder.

    Attributes
    ----------
    name : str
        The name that its file has, or would have.
    read : callable
        Takes the largest size of a piece and yields the rows in such pieces, the same at every call.
    metadata : TableMetadata or None
        What a Parquet file, an Arrow table or a stream says of itself.
    """

    name: str
    read: Callable[[int], Iterator[pd.DataFrame]]
    metadata: TableMetadata | None = None


@dataclass(frozen=True)
class Source:
    """A table that can be read as often as needed.

    Attributes
    ----------
    name : str
        For messages; holds no password.
    parts : tuple of Part
    files : tuple of Path
        The files that it is read from, if any.
    addresses : tuple of str
        Of the objects that these files were brought from, if any; or of the Delta table.
    version : int or None
        That of a Delta table.
    native : NativeColumns or None
        What the columns of an SQL table are there.
    """

    name: str
    parts: tuple[Part, ...]
    files: tuple[Path, ...] = ()
    addresses: tuple[str, ...] = ()
    version: int | None = None
    native: NativeColumns | None = None

    def chunks(self, size: int = CHUNK) -> Iterator[pd.DataFrame]:
        """All rows in pieces."""
        for part in self.parts:
            yield from part.read(size)


def open_source(table: Any, spool: Path, text: TextFormat = USUAL_TEXT) -> Source:
    """The table that a caller means.

    Parameters
    ----------
    table : path, glob pattern, address, SQLAlchemy URL with ``?table=``, DataFrame (pandas, polars, pyarrow), or Arrow stream
        A folder stands for the CSV, TSV, JSONL and Parquet files in it, in the order of their names. An address is that of an
        object store or of the web; see `llmclf.jobs.tables.stores`. An Arrow stream is anything with ``__arrow_c_stream__``.
    spool : path
        Where rows are kept that cannot be read twice alike; a suffix is added, see `spools`.
    text : TextFormat
        Of what CSV, TSV and JSONL files hold.

    Raises
    ------
    InputError
        The table does not exist; or `text` was given, and the table is not a text file.

    Examples
    --------
    >>> source = open_source(pd.DataFrame({"text": ["a", "b"]}), Path("unused"))
    >>> [len(piece) for piece in source.chunks(1)]
    [1, 1]
    """
    if isinstance(table, (str, os.PathLike)) and not (isinstance(table, str) and is_sql_url(table)):
        place = Place.at(str(table)) if is_store_address(table) else None
        if place is None and not is_delta(Path(table).expanduser()):
            return _files(Path(table), text)
        if place is not None and not place.is_delta():
            return _objects(place, spool, text)
        check_text_format(text, (".parquet",), str(table) if place is None else place.name)
        return _delta(os.path.expanduser(table), spool)
    if isinstance(table, str):
        check_text_format(text, (".parquet",), SqlSource(table).name)
        return _sql(table, spool)
    check_text_format(text, (".parquet",), _name(table))
    native = nw.from_native(table, pass_through=True, eager_only=True) if not _is_stream(table) else table
    if isinstance(native, nw.DataFrame):
        said = schema_metadata(table.schema) if nw.dependencies.is_pyarrow_table(table) else None
        return Source(_name(table), (Part("part-00000.parquet", _frame_reader(table), said),))
    if _is_stream(table):
        return _stream(table, spool)
    raise InputError(
        f"the table is {type_of(table)}; expected a path, a pattern, an address, an SQL URL with ?table=, a data frame or an "
        "Arrow stream"
    )


def spools(spool: Path) -> list[Path]:
    """What `open_source` may put aside: files, and a folder of files."""
    return [spool.with_name(f"{spool.name}{suffix}") for suffix in (_PARQUET, _ROWS, _OBJECTS)]


def _files(path: Path, text: TextFormat) -> Source:
    name = str(path)
    if path.is_dir():
        refuse_other_lakes(path)
        files = sorted(child for child in path.iterdir() if _is_table(child))
        if not files:
            raise InputError(f"{name!r} does not hold a table; expected files that end with {EXPECTED}")
    elif not path.exists() and any(mark in name for mark in "*?["):
        files = sorted(
            Path(found) for found in glob.glob(os.path.expanduser(name), recursive=True) if _is_table(Path(found))
        )
        if not files:
            raise InputError(f"{name!r} matches no file that ends with {EXPECTED}")
    else:
        files = [path.expanduser()]
    for file in files:
        check_suffix(file)
        if not file.is_file():
            raise InputError(f"{str(file)!r} is not a file; give the path of a CSV, TSV, JSONL or Parquet file")
    return Source(name, _file_parts(files, text, name), tuple(files))


def _objects(place: Place, spool: Path, text: TextFormat) -> Source:
    """Tables of an object store or of the web as they are now: whoever reads them there twice may see two tables."""
    brought = bring_all(place, spool.with_name(f"{spool.name}{_OBJECTS}"))
    files = tuple(file for file, _ in brought)
    return Source(place.name, _file_parts(files, text, place.name), files, tuple(origin for _, origin in brought))


def _file_parts(files: Sequence[Path], text: TextFormat, name: str) -> tuple[Part, ...]:
    check_text_format(text, map(check_suffix, files), name)
    return tuple(Part(file.name, _file_reader(file, text), file_metadata(file)) for file in files)


def _file_reader(file: Path, text: TextFormat = USUAL_TEXT) -> Callable[[int], Iterator[pd.DataFrame]]:
    return lambda size: read_chunks(file, check_suffix(file), size, text)


def _is_table(file: Path) -> bool:
    return file.is_file() and is_table_name(file.name)


def _frame_reader(table: Any) -> Callable[[int], Iterator[pd.DataFrame]]:
    def read(size: int) -> Iterator[pd.DataFrame]:
        for start in range(0, max(1, len(table)), size):
            yield _as_pandas(table, start, start + size)

    return read


def _as_pandas(table: Any, start: int, stop: int) -> pd.DataFrame:
    if isinstance(table, pd.DataFrame):
        return table.iloc[start:stop].reset_index(drop=True)
    try:
        import pyarrow as pa

        return arrow_frame(pa.table(nw.from_native(table)[start:stop].to_native()))
    except ImportError:
        piece = nw.from_native(table)[start:stop]
        return pd.DataFrame({name: piece[name].to_list() for name in piece.columns}, dtype=object)


def _is_stream(table: Any) -> bool:
    """Whether a table can be read only once, or cannot be sliced."""
    return hasattr(table, "__arrow_c_stream__") and not nw.dependencies.is_into_dataframe(table)


def _delta(location: str, spool: Path) -> Source:
    """The rows of a Delta table in the version of now, whose order is another at each reading."""
    table = DeltaFolder(location)
    version = table.version()
    of_rows = _stream(table.rows(version), spool)
    return replace(of_rows, name=table.location, addresses=(table.place,), version=version)


def _stream(table: Any, spool: Path) -> Source:
    try:
        import pyarrow as pa
    except ImportError as error:
        raise MissingDependencyError("Arrow streams need pyarrow; run: pip install 'llmclf[parquet]'") from error
    reader = pa.RecordBatchReader.from_stream(table)
    file = _spool_file(spool, _PARQUET)
    empty = arrow_frame(reader.schema.empty_table())
    pieces = (arrow_frame(pa.Table.from_batches([batch])) for batch in reader)
    write_chunks(at_least(empty, pieces), file, ".parquet", schema=reader.schema.remove_metadata())
    said = schema_metadata(reader.schema)
    return Source(_name(table), (Part("part-00000.parquet", _file_reader(file), said),))


def _sql(url: str, spool: Path) -> Source:
    """The rows of an SQL table as they are now: whoever reads it twice may see two tables."""
    table = SqlSource(url)
    names = table.columns()
    file = _spool_file(spool, _ROWS)
    text_columns: list[str] = []
    times, others = set[str](), set[str]()
    with file.open("wb") as stream:
        for frame, texts in table.pieces(CHUNK):
            text_columns = list(texts)
            columns = [frame[name].tolist() for name in names]
            for name, values in zip(names, columns, strict=True):
                types = set(map(type, values))
                times |= {name} if not types.isdisjoint(_TIMES) else set()
                others |= {name} if str in types else set()
            rows = zip(*columns, *texts.values(), strict=True)
            stream.writelines(encode_record(values) + b"\n" for values in rows)

    def records() -> Iterator[list[Any]]:
        with file.open("rb") as stream:
            yield from map(decode_record, stream)

    def texts_of_rows() -> Iterator[list[Any]]:
        return (record[len(names) :] for record in records())

    # Where Python lacks some of a column's times (infinity, say), all of them are text: files have one type for a column.
    shown = {
        place: len(names) + text_columns.index(name) if name in text_columns else place
        for place, name in enumerate(names)
        if name in times & others
    }

    def read(size: int) -> Iterator[pd.DataFrame]:
        rows: list[list[Any]] = []
        n_pieces = 0
        for record in records():
            for place, source in shown.items():
                record[place] = None if record[source] is None else str(record[source])
            rows.append(record[: len(names)])
            if len(rows) == size:
                yield pd.DataFrame(rows, columns=names, dtype=object)
                rows, n_pieces = [], n_pieces + 1
        if rows or not n_pieces:
            yield pd.DataFrame(rows, columns=names, dtype=object)

    native = table.native_columns(text_columns, texts_of_rows)
    return Source(table.name, (Part("part-00000.parquet", read),), native=native)


def _spool_file(spool: Path, suffix: str) -> Path:
    """An empty file that its owner alone may read."""
    file = spool.with_name(f"{spool.name}{suffix}")
    os.close(os.open(file, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600))
    return file


def at_least(empty: pd.DataFrame, pieces: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    """The pieces, or an empty one where there are none."""
    yield next(pieces, empty)
    yield from pieces


def _name(table: Any) -> str:
    return f"the {type(table).__name__}"
