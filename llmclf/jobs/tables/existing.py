"""What becomes of an output that is there already: only what a job has written itself is replaced without a word."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

import pandas as pd

from ...errors import InputError
from ...tables.formats import plain_arrow_type, read_chunks
from ...tables.text_files import TextFormat
from ..ids import row_ids

IfExists = Literal["fail", "replace", "append", "merge-on-id"]
Written = Mapping[str, str | None]
"""What a job has written: where, and a mark that tells whether that has changed since; None where nobody can tell."""


class Output(Protocol):
    """The part of a sink that matters here."""

    @property
    def name(self) -> str: ...

    @property
    def place(self) -> str:
        """The same for all names of one output; holds no password."""
        ...

    def exists(self) -> bool: ...

    def mark(self) -> str | None:
        """What tells an output from what it becomes when somebody changes it; None where nothing does."""
        ...


def check_if_exists(if_exists: Any, id_column: str | None, output: Any) -> None:
    """Refuse a choice that is none, or lacks what it needs.

    Raises
    ------
    InputError
    """
    known = get_args(IfExists)
    if if_exists not in known:
        raise InputError(f"if_exists={if_exists!r}: expected one of {', '.join(map(repr, known))}")
    if if_exists == "fail":
        return
    if output is None:
        raise InputError(
            f"if_exists={if_exists!r}: there is no output that could exist; leave it out, or name an output"
        )
    if if_exists != "replace" and id_column is None:
        raise InputError(
            f"if_exists={if_exists!r} needs id_column= (--id-column COLUMN): by its id a row is known that is there already"
        )


def refuse_existing(output: Output, written: Written, if_exists: IfExists) -> None:
    """Refuse to write over what a job has not written, unless that was said.

    Raises
    ------
    InputError
    """
    if if_exists != "fail" or not output.exists():
        return
    cure = (
        "give another output, or say what becomes of it: if_exists= (--if-exists) 'replace', 'append' or 'merge-on-id'"
    )
    if output.place not in written:
        raise InputError(f"{output.name!r} exists already, and this job has not written it; {cure}")
    mark = written[output.place]
    if mark is not None and mark != output.mark():
        raise InputError(f"{output.name!r} has changed since this job wrote it; {cure}")


def file_mark(file: Path) -> str | None:
    """A file's size and the time of its last change; None where it is not there."""
    try:
        state = file.stat()
    except FileNotFoundError:
        return None
    return f"{state.st_size}-{state.st_mtime_ns}"


@dataclass(frozen=True)
class OlderRows:
    """The rows of an output to which a job adds its own.

    Attributes
    ----------
    name : str
        For messages.
    chunks : callable
        Yields these rows in pieces.
    id_column : str
    are_replaced : bool
        Whether a row with the id of one of the job's makes place for it; if not, it is an error.
    schema : callable
        Their types as a pyarrow.Schema; None where the format has none.
    """

    name: str
    chunks: Callable[[], Iterator[pd.DataFrame]]
    id_column: str
    are_replaced: bool
    schema: Callable[[], Any] = lambda: None

    def check(self, columns: Sequence[str], schema: Any, known: Callable[[Sequence[str]], set[str]]) -> None:
        """Refuse rows that cannot stay beside the job's.

        Parameters
        ----------
        columns : sequence of str
            Those of the job's rows.
        schema : pyarrow.Schema or None
            Their types, where the format has types.
        known : callable
            Which of some ids are those of the job's rows.

        Raises
        ------
        InputError
            Their columns or types are others; an id is missing, or known and not to be replaced, or known twice.
        """
        there = self.schema()
        names: list[str] = [] if there is None else list(there.names)
        met: set[str] = set()
        n_rows = 0
        for frame in self.chunks():
            names += [name for name in frame.columns if name not in names]
            ids = self._ids(frame, n_rows)
            common = known(ids)
            if common and not self.are_replaced:
                one = next(one for one in ids if one in common)
                raise InputError(
                    f"{self.name!r} has the id {one!r} already (row {n_rows + ids.index(one)}, counted from 0); to replace "
                    "such rows: if_exists='merge-on-id' (--if-exists merge-on-id)"
                )
            for one in ids if common else ():
                if one in common and one in met:
                    raise InputError(
                        f"{self.name!r} has the id {one!r} twice, so that one row cannot be told from the other; remove one "
                        "of them"
                    )
                met |= {one} & common
            n_rows += len(frame)
        if n_rows:
            self._check_columns(names, columns)
            if there is not None and schema is not None:
                self._check_types(there, schema)

    def staying(self, columns: Sequence[str], known: Callable[[Sequence[str]], set[str]]) -> Iterator[pd.DataFrame]:
        """The rows that none of the job's replaces, with its columns."""
        n_rows = 0
        for frame in self.chunks():
            ids = self._ids(frame, n_rows)
            n_rows += len(frame)
            common = known(ids)
            stays = [one not in common for one in ids]
            if any(stays):
                yield frame[stays].reset_index(drop=True).reindex(columns=list(columns))

    def _ids(self, frame: pd.DataFrame, start: int) -> list[str]:
        if self.id_column not in frame.columns:
            raise InputError(
                f"{self.name!r} has no column {self.id_column!r} (--id-column); its columns: {list(frame.columns)!r}"
            )
        return row_ids(frame, self.id_column, start, repr(self.name))

    def _check_columns(self, there: Sequence[str], columns: Sequence[str]) -> None:
        odd = [f"has a column {name!r}, which this job does not write" for name in there if name not in columns]
        odd += [f"lacks the column {name!r}, which this job writes" for name in columns if name not in there]
        if odd:
            raise InputError(
                f"{self.name!r} exists and {odd[0]}; give another output, or replace it (--if-exists replace)"
            )

    def _check_types(self, there: Any, schema: Any) -> None:
        import pyarrow as pa

        alike = {pa.large_string(): pa.string(), pa.large_binary(): pa.binary()}
        for field in schema:
            type_there = plain_arrow_type(there.field(field.name).type)
            # A column of type null has no value that could be of another type.
            if alike.get(type_there, type_there) != alike.get(field.type, field.type) and type_there != pa.null():
                raise InputError(
                    f"the column {field.name!r} of {self.name!r} is {type_there}, and this job would write {field.type}; "
                    "give another output, or replace it (--if-exists replace)"
                )


def older_rows_of_file(file: Path, suffix: str, id_column: str, if_exists: IfExists, *, are_escaped: bool) -> OlderRows:
    """Those of a file, which has formulas written as text or has not."""

    def schema() -> Any:
        if suffix != ".parquet":
            return None
        import pyarrow.parquet

        return pyarrow.parquet.read_schema(file)

    return OlderRows(
        str(file),
        lambda: read_chunks(file, suffix, text=TextFormat(unescape_formulas=are_escaped)),
        id_column,
        if_exists == "merge-on-id",
        schema,
    )
