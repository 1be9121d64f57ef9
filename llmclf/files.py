"""Tables in files: CSV, JSON Lines and Parquet, read without guessing and written whole or not at all."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from .errors import InputError, MissingDependencyError, StoreError

_SUFFIXES = (".csv", ".jsonl", ".parquet")


def read_table(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Read a table by its suffix.

    The cells of a CSV are strings as they stand there: "NA", "None" and "007" are not turned into something else.

    Raises
    ------
    InputError
        The file is missing, has another suffix, or is not what its suffix says.
    """
    file = Path(path)
    suffix = check_suffix(file)
    if not file.is_file():
        raise InputError(f"{str(path)!r} is no file; give the path of a CSV, JSONL or Parquet file")
    try:
        if suffix == ".csv":
            return pd.read_csv(file, dtype=str, keep_default_na=False, na_values=[])
        if suffix == ".jsonl":
            return _read_jsonl(file)
        return pd.read_parquet(file)
    except ImportError as error:
        raise MissingDependencyError("Parquet files need pyarrow; run: pip install 'llmclf[parquet]'") from error
    except (OSError, ValueError, UnicodeError) as error:
        raise InputError(f"{str(path)!r} cannot be read as {suffix[1:].upper()}: {error}") from error


def write_table(frame: pd.DataFrame, path: str | os.PathLike[str]) -> None:
    """Write a table by its suffix; a reader sees the old file or the new one, never a part.

    Raises
    ------
    StoreError
        The file cannot be written.
    """
    file = Path(path)
    suffix = check_suffix(file)
    writers: dict[str, Callable[[Path], Any]] = {
        ".csv": lambda target: frame.to_csv(target, index=False),
        ".jsonl": lambda target: frame.to_json(target, orient="records", lines=True, force_ascii=False),
        ".parquet": lambda target: frame.to_parquet(target, index=False),
    }
    temporary: Path | None = None
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{file.stem}.", suffix=suffix, dir=file.parent)
        os.close(handle)
        temporary = Path(name)
        writers[suffix](temporary)
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        os.replace(temporary, file)
    except ImportError as error:
        raise MissingDependencyError("Parquet files need pyarrow; run: pip install 'llmclf[parquet]'") from error
    except OSError as error:
        raise StoreError(f"{str(path)!r} cannot be written: {error}") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


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


def _read_jsonl(file: Path) -> pd.DataFrame:
    records = []
    with file.open(encoding="utf-8") as stream:
        for number, line in enumerate(stream, start=1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except ValueError as error:
                raise InputError(f"line {number} of {str(file)!r} is no JSON: {error}") from error
            if not isinstance(record, dict):
                raise InputError(f"line {number} of {str(file)!r} is a {type(record).__name__}; expected a JSON object")
            records.append(record)
    if not records:
        raise InputError(f"{str(file)!r} has no rows")
    return pd.DataFrame(records)
