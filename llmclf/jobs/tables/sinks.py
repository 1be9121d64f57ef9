"""Where a job's rows go: a file, a folder with a file per part, an SQL table or a data frame. Whole, or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import pandas as pd

from ...errors import InputError
from ...tables.endings import check_suffix, table_suffix
from .delta import SUFFIX, DeltaFolder, delta_rows, delta_schema, is_delta, narrowed
from .existing import IfExists, older_rows_of_file
from .file_sinks import FileSink, FolderSink, StoreSink
from .layout import LACKS, Layout, Sink, Written
from .sources import Source
from .sql import SqlSink, is_sql_url
from .sql.databases import NativeColumns
from .stores import Place, check_can_be_output, is_store_address

_ADDS = (
    "if_exists={!r} adds rows to one file or one SQL table, and {}; choose if_exists='replace' (--if-exists replace)"
)


def open_sink(
    output: Any,
    source: Source,
    job: str,
    aside: Path,
    *,
    escape_formulas: bool = False,
    if_exists: IfExists = "fail",
    id_column: str | None = None,
) -> Sink:
    """The output that a caller means.

    Parameters
    ----------
    output : path with a suffix, path of a folder, address, SQLAlchemy URL with ``?table=``, or None for a data frame
    source : Source
    job : str
        A name of the job, the same in every run of it: temporary files are called after it, so that a killed run's are written
        over by the next.
    aside : path
        A folder for what is sent elsewhere once it is whole.
    escape_formulas : bool
        Whether cells of CSV and TSV files that a spreadsheet would run are written as text; if not, a warning counts them.
    if_exists : str
        Whether rows that are there already stay.
    id_column : str or None
        By which they are known then.

    Raises
    ------
    InputError
        The output is the input, or a folder that holds other tables; or it cannot keep its rows.
    """
    keeps = if_exists in ("append", "merge-on-id")
    if output is None:
        return FrameSink()
    if isinstance(output, str) and is_sql_url(output):
        # Whether it may be replaced was asked before.
        how = "replace" if if_exists == "fail" else if_exists
        return TableSink(SqlSink(output, how, id_column), source.native)
    if is_store_address(output):
        check_can_be_output(output)
        place = Place.at(output)
        if PurePath(place.path.rstrip("/")).suffix.lower() == SUFFIX or place.is_delta():
            return _delta_sink(output, source, if_exists, id_column)
        if keeps:
            raise InputError(_ADDS.format(if_exists, "an object of a store is replaced as a whole"))
        return _store_sink(place, source, job, aside, escape_formulas)
    path = Path(output).expanduser()
    if path.suffix.lower() == SUFFIX or is_delta(path):
        return _delta_sink(str(path), source, if_exists, id_column)
    targets = [os.path.realpath(file) for file in source.files]
    is_folder = path.is_dir() or str(output).endswith(os.sep) or not path.suffix
    written = [path / part.name for part in source.parts] if is_folder else [path]
    for file in written:
        if os.path.realpath(file) in targets:
            raise InputError(f"{str(file)!r} is read and would be written over; give the output another path")
    if not is_folder:
        suffix = check_suffix(path)
        older = None
        if keeps and id_column is not None:
            older = older_rows_of_file(path, suffix, id_column, if_exists, are_escaped=escape_formulas)
        return FileSink(path, job, escape_formulas, older)
    if keeps:
        raise InputError(_ADDS.format(if_exists, "the output is a folder, with a file for each of the input's"))
    names = [file.name for file in written]
    _check_folder(path, names)
    return FolderSink(path, names, job, escape_formulas)


@dataclass
class TableSink:
    """An SQL table, whose columns keep the types that they have in a table of the same kind of database."""

    table: SqlSink
    native: NativeColumns | None = None

    version = None

    @property
    def name(self) -> str:
        return self.table.name

    @property
    def place(self) -> str:
        return self.table.name

    def exists(self) -> bool:
        return self.table.exists()

    def mark(self) -> str | None:
        return None

    def check(self, layout: Layout, sample: pd.DataFrame, rows: Iterable[pd.DataFrame]) -> None:
        self.table.check(list(layout.kinds), layout.kinds, rows, self.native)

    def write(self, parts: Written, layout: Layout) -> int:
        return self.table.write((frame for _, pieces in parts for frame in pieces), layout.kinds, self.native)

    def folder(self) -> Path | None:
        return None


@dataclass
class DeltaSink:
    """A Delta Lake table, changed in one commit.

    Attributes
    ----------
    if_exists : str
    id_column : str or None
    """

    table: DeltaFolder
    if_exists: IfExists = "fail"
    id_column: str | None = None
    version: int | None = None

    @property
    def name(self) -> str:
        return self.table.location

    @property
    def place(self) -> str:
        return self.table.place

    def exists(self) -> bool:
        return self.table.exists()

    def mark(self) -> str | None:
        return f"version {self.table.version()}" if self.exists() else None

    def check(self, layout: Layout, sample: pd.DataFrame, rows: Iterable[pd.DataFrame]) -> None:
        layout.columns.refuse(*LACKS[".parquet"], where=repr(self.name))
        self.table.try_writing(sample, self._schema(layout), self._merged_on)
        doubtful = narrowed(layout.schema(".parquet"))
        for frame in rows if len(doubtful) else ():
            delta_rows(frame.reindex(columns=doubtful.names), doubtful, self.name)
        self._check_older(layout)

    def write(self, parts: Written, layout: Layout) -> int:
        self._check_older(layout)  # anew: hours have passed
        frames = (frame for _, pieces in parts for frame in pieces)
        how: IfExists = "fail"
        if self.exists():
            how = "replace" if self.if_exists == "fail" else self.if_exists
        n_rows = self.table.write(frames, self._schema(layout), how, self.id_column, dict(layout.metadata))
        self.version = self.table.version()
        return n_rows

    def folder(self) -> Path | None:
        return None if self.table.is_stored else Path(self.table.location).parent

    @property
    def _merged_on(self) -> str | None:
        return self.id_column if self.if_exists == "merge-on-id" else None

    def _schema(self, layout: Layout) -> Any:
        return delta_schema(layout.schema(".parquet"))

    def _check_older(self, layout: Layout) -> None:
        if self.if_exists in ("append", "merge-on-id") and self.id_column is not None and self.exists():
            older = self.table.older_rows(self.id_column, self.if_exists)
            older.check(list(layout.kinds), self._schema(layout), layout.known_ids)


@dataclass
class FrameSink:
    """A data frame in memory.

    Attributes
    ----------
    frame : DataFrame or None
        What was written.
    """

    frame: pd.DataFrame | None = None
    name: str = "a data frame"
    place: str = ""

    version = None

    def exists(self) -> bool:
        return False

    def mark(self) -> str | None:
        return None

    def check(self, layout: Layout, sample: pd.DataFrame, rows: Iterable[pd.DataFrame]) -> None:
        pass

    def write(self, parts: Written, layout: Layout) -> int:
        pieces = [frame for _, frames in parts for frame in frames]
        self.frame = pieces[0] if len(pieces) == 1 else pd.concat(pieces, ignore_index=True)
        return len(self.frame)

    def folder(self) -> Path | None:
        return None


def _delta_sink(location: str, source: Source, if_exists: IfExists, id_column: str | None) -> DeltaSink:
    table = DeltaFolder(location)
    if table.place in source.addresses:
        raise InputError(f"{location!r} is read and would be written over; give the output another name")
    return DeltaSink(table, if_exists, id_column)


def _store_sink(place: Place, source: Source, job: str, aside: Path, escape_formulas: bool) -> StoreSink:
    paths = [place.path]
    if place.path.endswith("/") or not Path(place.path).suffix:
        folder = place.path.rstrip("/")
        names = [part.name for part in source.parts]
        _refuse_twice(names)
        paths = [f"{folder}/{name}" if folder else name for name in names]
    for path in paths:
        check_suffix(path, place.address(path))
        if place.address(path) in source.addresses:
            raise InputError(
                f"{place.address(path)!r} is read and would be written over; give the output another address"
            )
    aside.mkdir(mode=0o700, parents=True, exist_ok=True)
    return StoreSink(place, paths, job, aside, escape_formulas)


def _refuse_twice(names: list[str]) -> None:
    twice = [name for i, name in enumerate(names) if name in names[:i]]
    if twice:
        raise InputError(
            f"two input files are called {twice[0]!r}, and the output folder would have one of that name; label them one by one, "
            "or write one file"
        )


def _check_folder(path: Path, names: list[str]) -> None:
    _refuse_twice(names)
    if not path.exists():
        return
    odd = sorted(f.name for f in path.iterdir() if table_suffix(f.name) and f.name not in names and f.name[0] != ".")
    if odd:
        raise InputError(
            f"the output folder {str(path)!r} holds {odd[0]!r}, which is not one of this job's files; give a new or empty folder"
        )
