"""Tables in files: CSV, TSV, JSON Lines and Parquet, read without guessing and written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from ..atomic_files import filled_file
from ..errors import InputError, StoreError
from .endings import TEXTS, check_suffix, split_suffix
from .formats import read_chunks, write_chunks
from .formulas import FormulaCells
from .text_files import USUAL_TEXT, TextFormat


def read_table(path: str | os.PathLike[str], text: TextFormat = USUAL_TEXT) -> pd.DataFrame:
    """Read a table by its suffix.

    The cells of a CSV or TSV file are strings, exactly as written: "NA", "None" and "007" are not converted. The values of a
    JSONL or Parquet file keep their types. Empty lines of a text file are skipped.

    Parameters
    ----------
    path : path
    text : TextFormat
        Of what a CSV, TSV or JSONL file holds.

    Raises
    ------
    InputError
        The file is missing, has another suffix or no rows, or is not what its suffix says; or `text` was given
        for a Parquet file.
    """
    suffix = check_suffix(path)
    check_text_format(text, [suffix], str(path))
    pieces = list(read_chunks(Path(path), suffix, text=text))
    frame = pieces[0] if len(pieces) == 1 else pd.concat(pieces, ignore_index=True) if pieces else pd.DataFrame()
    if frame.empty:
        raise InputError(f"{str(path)!r} has no rows")
    return frame


def write_table(frame: pd.DataFrame, path: str | os.PathLike[str], *, formulas: FormulaCells | None = None) -> None:
    """Write a table by its suffix; a reader sees the old file or the new one, never a part.

    Parameters
    ----------
    frame : DataFrame
    path : path
    formulas : FormulaCells, optional
        Counts, and escapes if it is told to, the cells of a CSV or TSV file that a spreadsheet would run.

    Raises
    ------
    StoreError
        The file cannot be written.
    """
    with _written(frame, path, formulas) as (temporary, file):
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


def check_text_format(text: TextFormat, suffixes: Iterable[str], name: str) -> None:
    """Refuse a delimiter or an encoding for tables that are not text files.

    Raises
    ------
    InputError
    """
    kinds = {split_suffix(suffix)[0] for suffix in suffixes}
    if text.delimiter is not None and kinds.isdisjoint(TEXTS):
        raise InputError(
            f"delimiter={text.delimiter!r} (--delimiter) is that of CSV and TSV files, and {name!r} is none; leave it out"
        )
    if text.encoding is not None and kinds <= {".parquet"}:
        raise InputError(
            f"encoding={text.encoding!r} (--encoding) is that of CSV, TSV and JSONL files, and {name!r} is none; leave it out"
        )


@contextmanager
def _written(
    frame: pd.DataFrame, path: str | os.PathLike[str], formulas: FormulaCells | None = None
) -> Iterator[tuple[Path, Path]]:
    """A table in a temporary file; see `filled_file`."""
    suffix = check_suffix(path)
    try:
        with filled_file(lambda target: write_chunks([frame], target, suffix, formulas=formulas), path) as files:
            yield files
    except StoreError as error:
        where = _half_character(frame) if split_suffix(suffix)[0] != ".jsonl" else None
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
