"""Where a job's rows come from: files, folders, SQL tables, data frames, Arrow streams; read piece by piece, twice alike."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import narwhals.stable.v2 as nw
import pandas as pd

from ...errors import InputError, MissingDependencyError, type_of
from ...tables.files import check_suffix
from ...tables.formats import CHUNK, SUFFIXES, arrow_frame, read_chunks, write_chunks
from ..questions import decode_record, encode_record
from .sql import SqlSource, is_sql_url

SPOOLS = (".parquet", ".rows")
"""Suffixes of files in which rows are put aside."""


@dataclass(frozen=True)
class Part:
    """A part of a table, which becomes a file of its own where the output is a folder.

    Attributes
    ----------
    name : str
        The name that its file has, or would have.
    read : callable
        Takes the largest size of a piece and yields the rows in such pieces, the same at every call.
    """

    name: str
    read: Callable[[int], Iterator[pd.DataFrame]]


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
    """

    name: str
    parts: tuple[Part, ...]
    files: tuple[Path, ...] = ()

    def chunks(self, size: int = CHUNK) -> Iterator[pd.DataFrame]:
        """All rows in pieces."""
        for part in self.parts:
            yield from part.read(size)


def open_source(table: Any, spool: Path) -> Source:
    """The table that a caller means.

    Parameters
    ----------
    table : path, glob pattern, SQLAlchemy URL with ``?table=``, DataFrame (pandas, polars, pyarrow), or Arrow stream
        A folder stands for the CSV, JSONL and Parquet files in it, in the order of their names. An Arrow stream is anything
        with ``__arrow_c_stream__``.
    spool : path
        Where rows are kept that cannot be read twice alike; a suffix of `SPOOLS` is added.

    Raises
    ------
    InputError
        The table does not exist.

    Examples
    --------
    >>> source = open_source(pd.DataFrame({"text": ["a", "b"]}), Path("unused"))
    >>> [len(piece) for piece in source.chunks(1)]
    [1, 1]
    """
    if isinstance(table, (str, os.PathLike)):
        if isinstance(table, str) and is_sql_url(table):
            return _sql(table, spool)
        return _files(Path(table))
    native = nw.from_native(table, pass_through=True, eager_only=True) if not _is_stream(table) else table
    if isinstance(native, nw.DataFrame):
        return Source(_name(table), (Part("part-00000.parquet", _frame_reader(table)),))
    if _is_stream(table):
        return _stream(table, spool)
    raise InputError(
        f"the table is {type_of(table)}; expected a path, a pattern, an SQL URL with ?table=, a data frame or an Arrow "
        "stream"
    )


def _files(path: Path) -> Source:
    text = str(path)
    if path.is_dir():
        files = sorted(child for child in path.iterdir() if _is_table(child))
        if not files:
            raise InputError(f"{text!r} does not hold a table; expected files that end with {', '.join(SUFFIXES)}")
    elif not path.exists() and any(mark in text for mark in "*?["):
        files = sorted(
            Path(name) for name in glob.glob(os.path.expanduser(text), recursive=True) if _is_table(Path(name))
        )
        if not files:
            raise InputError(f"{text!r} matches no file that ends with {', '.join(SUFFIXES)}")
    else:
        files = [path.expanduser()]
    for file in files:
        check_suffix(file)
        if not file.is_file():
            raise InputError(f"{str(file)!r} is not a file; give the path of a CSV, JSONL or Parquet file")
    return Source(text, tuple(Part(file.name, _file_reader(file)) for file in files), tuple(files))


def _file_reader(file: Path) -> Callable[[int], Iterator[pd.DataFrame]]:
    return lambda size: read_chunks(file, check_suffix(file), size)


def _is_table(file: Path) -> bool:
    return file.is_file() and file.suffix.lower() in SUFFIXES and not file.name.startswith((".", "_"))


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


def _stream(table: Any, spool: Path) -> Source:
    try:
        import pyarrow as pa
    except ImportError as error:
        raise MissingDependencyError("Arrow streams need pyarrow; run: pip install 'llmclf[parquet]'") from error
    reader = pa.RecordBatchReader.from_stream(table)
    file = _spool_file(spool, ".parquet")
    empty = arrow_frame(reader.schema.empty_table())
    pieces = (arrow_frame(pa.Table.from_batches([batch])) for batch in reader)
    write_chunks(_at_least(empty, pieces), file, ".parquet", schema=reader.schema.remove_metadata())
    return Source(_name(table), (Part("part-00000.parquet", _file_reader(file)),))


def _sql(url: str, spool: Path) -> Source:
    """The rows of an SQL table as they are now: whoever reads it twice may see two tables."""
    table = SqlSource(url)
    names = table.columns()
    file = _spool_file(spool, ".rows")
    with file.open("wb") as stream:
        for frame in table.chunks(CHUNK):
            columns = [frame[name].tolist() for name in names]
            stream.writelines(encode_record(values) + b"\n" for values in zip(*columns, strict=True))

    def read(size: int) -> Iterator[pd.DataFrame]:
        with file.open("rb") as stream:
            rows: list[list[Any]] = []
            n_pieces = 0
            for line in stream:
                rows.append(decode_record(line))
                if len(rows) == size:
                    yield pd.DataFrame(rows, columns=names, dtype=object)
                    rows, n_pieces = [], n_pieces + 1
            if rows or not n_pieces:
                yield pd.DataFrame(rows, columns=names, dtype=object)

    return Source(table.name, (Part("part-00000.parquet", read),))


def _spool_file(spool: Path, suffix: str) -> Path:
    """An empty file that its owner alone may read."""
    file = spool.with_name(f"{spool.name}{suffix}")
    os.close(os.open(file, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600))
    return file


def _at_least(empty: pd.DataFrame, pieces: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    n = 0
    for piece in pieces:
        n += 1
        yield piece
    if not n:
        yield empty


def _name(table: Any) -> str:
    return f"the {type(table).__name__}"
