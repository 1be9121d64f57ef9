"""Where a job's rows go: a file, a folder with a file per part, an SQL table or a data frame. Whole, or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pandas as pd

from ...atomic_files import write_file
from ...errors import InputError
from ...tables.files import check_suffix
from ...tables.formats import SUFFIXES, write_chunks
from .column_kinds import ColumnKinds
from .sources import Source
from .sql import SqlSink, is_sql_url

_LACKS = {
    ".csv": ("UTF-8", "JSON"),
    ".jsonl": ("JSON",),
    ".parquet": ("UTF-8", "64 bits"),
}  # what a format cannot hold
Written = Iterator[tuple[str, Iterator[pd.DataFrame]]]
"""Names of parts, and the finished rows of each in pieces. A part is read to its end before the next is asked for."""


@dataclass
class Layout:
    """The columns of what is written.

    Attributes
    ----------
    columns : ColumnKinds
        Those of the table that was read.
    added : dict
        Names and kinds of those that labelling adds.
    metadata : dict of str
        Kept in the file where its format has a place for it.
    """

    columns: ColumnKinds
    added: Mapping[str, str]
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def kinds(self) -> dict[str, str]:
        return {**self.columns.kinds, **self.added}

    def schema(self, suffix: str) -> Any:
        """The types of a file, where its format has types."""
        return self.columns.arrow_schema(dict(self.added)) if suffix == ".parquet" else None


class Sink(Protocol):
    """Where rows go."""

    @property
    def name(self) -> str:
        """For messages; holds no password."""
        ...

    def check(self, layout: Layout, sample: pd.DataFrame, rows: Iterable[pd.DataFrame]) -> None:
        """Refuse what could not be written, before anything is spent.

        Parameters
        ----------
        layout : Layout
        sample : DataFrame
            A few rows with all columns, to try.
        rows : iterable of DataFrame
            All rows of the table that is read, for a sink that checks every value.
        """
        ...

    def write(self, parts: Written, layout: Layout) -> int:
        """Write all rows; returns their number."""
        ...

    def folder(self) -> Path | None:
        """Where on this machine's disks the rows are put."""
        ...


def open_sink(output: Any, source: Source, job: str) -> Sink:
    """The output that a caller means.

    Parameters
    ----------
    output : path with a suffix, path of a folder, SQLAlchemy URL with ``?table=``, or None for a data frame
    source : Source
    job : str
        A name of the job, the same in every run of it: temporary files are called after it, so that a killed run's are written
        over by the next.

    Raises
    ------
    InputError
        The output is the input, or a folder that holds other tables.
    """
    if output is None:
        return FrameSink()
    if isinstance(output, str) and is_sql_url(output):
        return TableSink(SqlSink(output))
    path = Path(output).expanduser()
    targets = [os.path.realpath(file) for file in source.files]
    is_folder = path.is_dir() or str(output).endswith(os.sep) or not path.suffix
    written = [path / part.name for part in source.parts] if is_folder else [path]
    for file in written:
        if os.path.realpath(file) in targets:
            raise InputError(f"{str(file)!r} is read and would be written over; give the output another path")
    if not is_folder:
        check_suffix(path)
        return FileSink(path, job)
    names = [file.name for file in written]
    _check_folder(path, names)
    return FolderSink(path, names, job)


@dataclass
class FileSink:
    """One file."""

    path: Path
    job: str

    @property
    def name(self) -> str:
        return str(self.path)

    def check(self, layout: Layout, sample: pd.DataFrame, rows: Iterable[pd.DataFrame]) -> None:
        suffix = check_suffix(self.path)
        layout.columns.refuse(*_LACKS[suffix], where=repr(self.name))
        schema = layout.schema(suffix)
        trial = self.path.with_name(f".{self.path.name}.{self.job}.trial")
        # Into a file of its own, which never takes the place of the output; a killed job's next run uses both names again.
        write_file(
            lambda target: write_chunks([sample], target, suffix, schema=schema),
            trial,
            temporary_name=f"{trial.name}.new",
        )
        trial.unlink()

    def write(self, parts: Written, layout: Layout) -> int:
        frames = (frame for _, pieces in parts for frame in pieces)
        return _write(self.path, self.job, frames, layout)

    def folder(self) -> Path | None:
        return self.path.parent


@dataclass
class FolderSink:
    """A folder with a file per part; each appears whole or not at all."""

    path: Path
    names: list[str]
    job: str

    @property
    def name(self) -> str:
        return str(self.path)

    def check(self, layout: Layout, sample: pd.DataFrame, rows: Iterable[pd.DataFrame]) -> None:
        for suffix in sorted({Path(name).suffix for name in self.names}):
            FileSink(self.path / f"part{suffix}", self.job).check(layout, sample, rows)

    def write(self, parts: Written, layout: Layout) -> int:
        return sum(_write(self.path / name, self.job, frames, layout) for name, frames in parts)

    def folder(self) -> Path | None:
        return self.path


@dataclass
class TableSink:
    """An SQL table."""

    table: SqlSink

    @property
    def name(self) -> str:
        return self.table.name

    def check(self, layout: Layout, sample: pd.DataFrame, rows: Iterable[pd.DataFrame]) -> None:
        self.table.check(list(layout.kinds), layout.kinds, rows)

    def write(self, parts: Written, layout: Layout) -> int:
        return self.table.write((frame for _, pieces in parts for frame in pieces), layout.kinds)

    def folder(self) -> Path | None:
        return None


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

    def check(self, layout: Layout, sample: pd.DataFrame, rows: Iterable[pd.DataFrame]) -> None:
        pass

    def write(self, parts: Written, layout: Layout) -> int:
        pieces = [frame for _, frames in parts for frame in frames]
        self.frame = pieces[0] if len(pieces) == 1 else pd.concat(pieces, ignore_index=True)
        return len(self.frame)

    def folder(self) -> Path | None:
        return None


def _write(path: Path, job: str, frames: Iterator[pd.DataFrame], layout: Layout) -> int:
    suffix = check_suffix(path)
    schema = layout.schema(suffix)
    counted: list[int] = []

    def fill(target: Path) -> None:
        counted.append(write_chunks(frames, target, suffix, schema=schema, metadata=layout.metadata))

    write_file(fill, path, temporary_name=f".{path.name}.{job}")
    return counted[0]


def _check_folder(path: Path, names: list[str]) -> None:
    twice = [name for i, name in enumerate(names) if name in names[:i]]
    if twice:
        raise InputError(
            f"two input files are called {twice[0]!r}, and the output folder would have one of that name; label them one by one, "
            "or write one file"
        )
    if not path.exists():
        return
    odd = sorted(
        f.name for f in path.iterdir() if f.suffix.lower() in SUFFIXES and f.name not in names and f.name[0] != "."
    )
    if odd:
        raise InputError(
            f"the output folder {str(path)!r} holds {odd[0]!r}, which is not one of this job's files; give a new or empty folder"
        )
