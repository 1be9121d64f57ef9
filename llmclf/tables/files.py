"""Tables in files: CSV, JSON Lines and Parquet, read without guessing and written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from ..atomic_files import filled_file
from ..errors import InputError, StoreError
from .formats import SUFFIXES, read_chunks, write_chunks


def read_table(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Read a table by its suffix.

    The cells of a CSV file are strings, exactly as written: "NA", "None" and "007" are not converted. The values of a JSONL
    or Parquet file keep their types. Empty lines of a CSV or JSONL file are skipped.

    Raises
    ------
    InputError
        The file is missing, has another suffix or no rows, or is not what its suffix says.
    """
    pieces = list(read_chunks(Path(path), check_suffix(path)))
    frame = pieces[0] if len(pieces) == 1 else pd.concat(pieces, ignore_index=True) if pieces else pd.DataFrame()
    if frame.empty:
        raise InputError(f"{str(path)!r} has no rows")
    return frame


def write_table(frame: pd.DataFrame, path: str | os.PathLike[str]) -> None:
    """Write a table by its suffix; a reader sees the old file or the new one, never a part.

    Raises
    ------
    StoreError
        The file cannot be written.
    """
    with _written(frame, path) as (temporary, file):
        os.replace(temporary, file)


def check_writable(frame: pd.DataFrame, path: str | os.PathLike[str]) -> None:
    """Write a table and delete it: a table that cannot be written should fail before the hours of work that fill it.

    Raises
    ------
    StoreError
        The file cannot be written.
    """
    with _written(frame, path):
        pass


def check_suffix(path: str | os.PathLike[str]) -> str:
    """The suffix of a table file, in lower case.

    Raises
    ------
    InputError
        It is not .csv, .jsonl or .parquet.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise InputError(f"{str(path)!r} ends with {suffix!r}; expected {', '.join(SUFFIXES)}")
    return suffix


@contextmanager
def _written(frame: pd.DataFrame, path: str | os.PathLike[str]) -> Iterator[tuple[Path, Path]]:
    """A table in a temporary file; see `filled_file`."""
    suffix = check_suffix(path)
    try:
        with filled_file(lambda target: write_chunks([frame], target, suffix), path) as files:
            yield files
    except StoreError as error:
        where = _half_character(frame) if suffix != ".jsonl" else None
        if where is None:
            raise
        raise StoreError(
            f"{str(path)!r} cannot be written: {where} holds half of a surrogate pair, which is no character; clean the text, or "
            "write a .jsonl file, which can hold it"
        ) from error


def _half_character(frame: pd.DataFrame) -> str | None:
    """The first cell with a text that is no Unicode."""
    for name in frame.columns:
        for row, value in enumerate(frame[name]):
            if isinstance(value, str) and any("\ud800" <= character <= "\udfff" for character in value):
                return f"row {row} of the column {name!r}"
    return None
