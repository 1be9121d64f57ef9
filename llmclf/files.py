"""Tables in files: CSV, JSON Lines and Parquet, read without guessing and written whole or not at all."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pandas as pd

from .errors import InputError, LlmclfError, StoreError
from .formats import SUFFIXES, missing_pyarrow, read_chunks, write_chunks


def read_table(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Read a table by its suffix.

    The cells of a CSV are strings as they stand there: "NA", "None" and "007" are not turned into something else. The values
    of a JSONL or Parquet file keep their types. Lines of a CSV or JSONL file that hold nothing are passed over.

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


def write_text(text: str, path: str | os.PathLike[str]) -> None:
    """Write a text in UTF-8; a reader sees the old file or the new one, never a part.

    Raises
    ------
    StoreError
        The file cannot be written.
    """
    write_file(lambda target: target.write_text(text, encoding="utf-8", newline=""), path)


def write_file(
    write: Callable[[Path], Any], path: str | os.PathLike[str], *, temporary_name: str | None = None
) -> None:
    """Let `write` fill a temporary file, and put it in place of `path` once it is whole and on the disk.

    Parameters
    ----------
    write : callable
        Is given the temporary file's path.
    path : path
    temporary_name : str, optional
        Name of the temporary file, in the same folder; a file of that name is overwritten. A random one by default. Whoever
        may be killed and comes back leaves no litter with a name of his own.

    Raises
    ------
    StoreError
        The file cannot be written. Errors of llmclf in `write` pass through.
    """
    with _filled(write, path, temporary_name) as (temporary, file):
        os.replace(temporary, file)
        _sync_folder(file.parent)


def check_writable(frame: pd.DataFrame, path: str | os.PathLike[str]) -> None:
    """Write a table and throw it away: what cannot be written must fail before hours of work that fill it.

    Raises
    ------
    StoreError
        The file cannot be written.
    """
    with _written(frame, path):
        pass


def check_file(path: str | os.PathLike[str]) -> None:
    """See that a file could be written at a path, without leaving one.

    Raises
    ------
    StoreError
        It could not.
    """
    with _filled(lambda _: None, path):
        pass


def check_suffix(path: str | os.PathLike[str]) -> str:
    """The suffix of a table file, in lower case.

    Raises
    ------
    InputError
        It is none of .csv, .jsonl and .parquet.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise InputError(f"{str(path)!r} ends with {suffix!r}; expected {', '.join(SUFFIXES)}")
    return suffix


@contextmanager
def _written(frame: pd.DataFrame, path: str | os.PathLike[str]) -> Iterator[tuple[Path, Path]]:
    """A table in a temporary file; see `_filled`."""
    suffix = check_suffix(path)
    with _filled(lambda target: write_chunks([frame], target, suffix), path) as files:
        yield files


@contextmanager
def _filled(
    write: Callable[[Path], Any], path: str | os.PathLike[str], temporary_name: str | None = None
) -> Iterator[tuple[Path, Path]]:
    """A finished temporary file beside the file that it shall replace; removed if it is still there in the end."""
    # A link stays a link: what it points to is replaced.
    file = Path(os.path.realpath(path))
    temporary = file.with_name(temporary_name or f".{secrets.token_hex(8)}{file.suffix}")
    try:
        if file.is_dir():
            raise IsADirectoryError("it is a folder")
        file.parent.mkdir(parents=True, exist_ok=True)
        # Opened like any new file, so that it gets the permissions that the user's files have.
        temporary.open("wb" if temporary_name else "xb").close()
        if file.exists():
            temporary.chmod(stat.S_IMODE(file.stat().st_mode))
        write(temporary)
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        yield temporary, file
    except LlmclfError:
        raise
    except ImportError as error:
        raise missing_pyarrow() from error
    except (OSError, ValueError, TypeError) as error:
        raise StoreError(f"{str(path)!r} cannot be written: {error}") from error
    finally:
        with suppress(OSError):  # where nothing could be made, nothing is left to remove
            temporary.unlink()


def _sync_folder(folder: Path) -> None:
    """Let a renaming survive a loss of power, where the system can."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
