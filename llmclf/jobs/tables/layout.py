"""What is written, and what every output can do: the columns of a job's rows, and the protocol of a sink."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pandas as pd

from ...tables.parquet_metadata import TableMetadata, with_metadata
from .column_kinds import ColumnKinds
from .existing import Output

LACKS = {
    ".csv": ("UTF-8", "JSON"),
    ".tsv": ("UTF-8", "JSON"),
    ".jsonl": ("JSON",),
    ".parquet": ("UTF-8", "64 bits"),
}
"""What a format of files cannot hold; see `ColumnKinds.refuse`."""
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
    inherited : dict of str -> TableMetadata
        What each part of the table says of itself, by the part's name; kept likewise.
    known_ids : callable
        Which of some ids are those of rows of the table.
    """

    columns: ColumnKinds
    added: Mapping[str, str]
    metadata: Mapping[str, str] = field(default_factory=dict)
    inherited: Mapping[str, TableMetadata] = field(default_factory=dict)
    known_ids: Callable[[Sequence[str]], set[str]] = lambda _: set()

    @property
    def kinds(self) -> dict[str, str]:
        return {**self.columns.kinds, **self.added}

    def schema(self, suffix: str, parts: Iterable[str] = ()) -> Any:
        """The types of a file with some parts, and what these say of themselves, where its format has types."""
        if suffix != ".parquet":
            return None
        known = [self.inherited[name] for name in parts if name in self.inherited]
        return with_metadata(self.columns.arrow_schema(dict(self.added)), known)


class Sink(Output, Protocol):
    """Where rows go. Its name is for messages and holds no password."""

    @property
    def version(self) -> int | None:
        """That of the table, once it is written, where it has versions."""
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
