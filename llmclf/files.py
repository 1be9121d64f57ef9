"""Tables in files: CSV, JSON Lines and Parquet, read without guessing and written whole or not at all."""

from __future__ import annotations

import csv
import datetime
import json
import os
import secrets
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .errors import InputError, MissingDependencyError, StoreError
from .tables import is_missing

_SUFFIXES = (".csv", ".jsonl", ".parquet")


def read_table(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Read a table by its suffix.

    The cells of a CSV are strings as they stand there: "NA", "None" and "007" are not turned into something else. The values
    of a JSONL or Parquet file keep their types. Lines of a CSV or JSONL file that hold nothing are passed over.

    Raises
    ------
    InputError
        The file is missing, has another suffix or no rows, or is not what its suffix says.
    """
    file = Path(path)
    suffix = check_suffix(file)
    readers: dict[str, Callable[[Path], pd.DataFrame]] = {
        ".csv": _read_csv,
        ".jsonl": _read_jsonl,
        ".parquet": _read_parquet,
    }
    try:
        if not file.is_file():
            raise InputError(f"{str(path)!r} is no file; give the path of a CSV, JSONL or Parquet file")
        frame = readers[suffix](file)
    except InputError:
        raise
    except UnicodeDecodeError as error:
        raise InputError(f"{str(path)!r} is no UTF-8 text ({error}); save it with the encoding UTF-8") from error
    except ImportError as error:
        raise MissingDependencyError("Parquet files need pyarrow; run: pip install 'llmclf[parquet]'") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{str(path)!r} cannot be read as {suffix[1:].upper()}: {error}") from error
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


def write_text(text: str, path: str | os.PathLike[str]) -> None:
    """Write a text in UTF-8; a reader sees the old file or the new one, never a part.

    Raises
    ------
    StoreError
        The file cannot be written.
    """
    write_file(lambda target: target.write_text(text, encoding="utf-8", newline=""), path)


def write_file(write: Callable[[Path], Any], path: str | os.PathLike[str]) -> None:
    """Let `write` fill a temporary file, and put it in place of `path` once it is whole.

    Raises
    ------
    StoreError
        The file cannot be written.
    """
    with _filled(write, path) as (temporary, file):
        os.replace(temporary, file)


def check_writable(frame: pd.DataFrame, path: str | os.PathLike[str]) -> None:
    """Write a table and throw it away: what cannot be written must fail before hours of work that fill it.

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
        It is none of .csv, .jsonl and .parquet.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in _SUFFIXES:
        raise InputError(f"{str(path)!r} ends with {suffix!r}; expected {', '.join(_SUFFIXES)}")
    return suffix


@contextmanager
def _written(frame: pd.DataFrame, path: str | os.PathLike[str]) -> Iterator[tuple[Path, Path]]:
    """A table in a temporary file; see `_filled`."""
    writers: dict[str, Callable[[Path], Any]] = {
        ".csv": lambda target: _write_csv(frame, target),
        ".jsonl": lambda target: _write_jsonl(frame, target),
        ".parquet": lambda target: frame.to_parquet(target, index=False),
    }
    with _filled(writers[check_suffix(path)], path) as files:
        yield files


@contextmanager
def _filled(write: Callable[[Path], Any], path: str | os.PathLike[str]) -> Iterator[tuple[Path, Path]]:
    """A finished temporary file beside the file that it shall replace; removed if it is still there in the end."""
    # A link stays a link: what it points to is replaced.
    file = Path(os.path.realpath(path))
    temporary = file.with_name(f".{secrets.token_hex(8)}{file.suffix}")
    try:
        if file.is_dir():
            raise IsADirectoryError("it is a folder")
        file.parent.mkdir(parents=True, exist_ok=True)
        # Opened like any new file, so that it gets the permissions that the user's files have.
        temporary.open("xb").close()
        if file.exists():
            temporary.chmod(stat.S_IMODE(file.stat().st_mode))
        write(temporary)
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        yield temporary, file
    except ImportError as error:
        raise MissingDependencyError("Parquet files need pyarrow; run: pip install 'llmclf[parquet]'") from error
    except (OSError, ValueError, TypeError) as error:
        raise StoreError(f"{str(path)!r} cannot be written: {error}") from error
    finally:
        with suppress(OSError):  # where nothing could be made, nothing is left to remove
            temporary.unlink()


def _read_csv(file: Path) -> pd.DataFrame:
    # Not pandas' own reader: it renames equal columns, fills short rows and takes one cell too many for an index.
    rows = []
    limit = csv.field_size_limit(sys.maxsize)
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream, strict=True)
            names = next(reader, [])
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise InputError(f"{str(file)!r} has two columns of the name {twice[0]!r}; rename one of them")
            for row in filter(None, reader):
                if len(row) != len(names):
                    raise InputError(
                        f"line {reader.line_num} of {str(file)!r} has {len(row)} cells and the first line has {len(names)}; "
                        'a cell that holds commas or line breaks needs quotes, as in "a, b"'
                    )
                rows.append(row)
    except csv.Error as error:
        raise InputError(f"line {reader.line_num} of {str(file)!r} is no CSV: {error}") from error
    finally:
        csv.field_size_limit(limit)
    return pd.DataFrame(rows, columns=names, dtype=str)


def _read_jsonl(file: Path) -> pd.DataFrame:
    records = []
    with file.open(encoding="utf-8-sig") as stream:
        for number, line in enumerate(stream, start=1):
            if not line.strip():
                continue
            try:
                record = json.loads(line.strip())
            except json.JSONDecodeError as error:
                raise InputError(
                    f"line {number} of {str(file)!r} is no JSON: {error.msg} (character {error.colno})"
                ) from error
            except RecursionError as error:
                raise InputError(f"line {number} of {str(file)!r} is nested too deeply") from error
            if not isinstance(record, dict):
                raise InputError(f"line {number} of {str(file)!r} is a {type(record).__name__}; expected a JSON object")
            records.append(record)
    # Objects, because pandas would make 1 and null into 1.0 and NaN.
    return pd.DataFrame(records, dtype=object)


def _read_parquet(file: Path) -> pd.DataFrame:
    # Arrow's types, because numpy has no integers with gaps.
    frame = pd.read_parquet(file, dtype_backend="pyarrow")
    # An index with a name is one of the file's columns.
    return frame.reset_index(drop=all(name is None for name in frame.index.names))


def _write_csv(frame: pd.DataFrame, target: Path) -> None:
    with target.open("w", encoding="utf-8", newline="") as stream:
        # The csv module quotes a lone carriage return only if the line ends with one.
        writer = csv.writer(_UnixLines(stream), lineterminator="\r\n")
        writer.writerow(frame.columns)
        for row in _rows(frame):
            writer.writerow(["" if is_missing(value) else value for value in row])


class _UnixLines:
    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, line: str) -> None:
        self._stream.write(line.removesuffix("\r\n") + "\n")


def _write_jsonl(frame: pd.DataFrame, target: Path) -> None:
    names = list(frame.columns)
    with target.open("wb") as stream:
        for row in _rows(frame):
            record = dict(zip(names, (None if is_missing(value) else value for value in row), strict=True))
            try:
                line = json.dumps(record, ensure_ascii=False, default=_json_value).encode()
            except UnicodeEncodeError:  # half a surrogate pair: JSON has a form for it, UTF-8 has none
                line = json.dumps(record, default=_json_value).encode()
            stream.write(line + b"\n")


def _rows(frame: pd.DataFrame) -> Iterator[tuple[Any, ...]]:
    return zip(*(frame[name] for name in frame.columns), strict=True)


def _json_value(value: Any) -> Any:
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if is_missing(value):
        return None
    raise TypeError(f"{value!r} is a {type(value).__name__} and has no JSON form; choose another suffix")
