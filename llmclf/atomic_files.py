"""Files that are written whole or not at all: a reader sees the old file or the new one, never a part."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from .errors import InputError, LlmclfError, StoreError
from .files.faults import address_fault
from .files.orderly_end import side_files


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
    """Let `write` fill a temporary file, and replace `path` with it once it is complete and on the disk.

    Parameters
    ----------
    write : callable
        Called with the path of the temporary file.
    path : path
    temporary_name : str, optional
        Name of the temporary file, in the same folder; a file of that name is overwritten. Random by default. With a fixed
        name, a process that is killed and starts again leaves no stray files.

    Raises
    ------
    StoreError
        The file cannot be written. Errors of llmclf raised by `write` pass through.
    """
    with filled_file(write, path, temporary_name) as (temporary, file):
        os.replace(temporary, file)
        _sync_folder(file.parent)


def check_file(path: str | os.PathLike[str]) -> None:
    """Check that a file can be written at a path, without leaving one there.

    Raises
    ------
    StoreError
        It cannot be written.
    """
    # Always the same name, so that what a killed process leaves is removed by the next.
    with filled_file(lambda _: None, path, f".{Path(path).name}.trial"):
        pass


def refuse_address(path: str | os.PathLike[str]) -> None:
    """Refuse the address of something elsewhere where a path is needed.

    Raises
    ------
    InputError
    """
    fault = address_fault(path)
    if fault is not None:
        raise InputError(f"{os.fspath(path)!r} {fault}")


@contextmanager
def filled_file(
    write: Callable[[Path], Any], path: str | os.PathLike[str], temporary_name: str | None = None
) -> Iterator[tuple[Path, Path]]:
    """A complete temporary file beside the file that it will replace; removed if it is still there at the end."""
    refuse_address(path)
    # A link stays a link: its target is replaced.
    file = Path(os.path.realpath(path))
    temporary = file.with_name(temporary_name or f".{secrets.token_hex(8)}{file.suffix}")
    with side_files(temporary):
        try:
            if file.is_dir():
                raise IsADirectoryError("it is a folder")
            file.parent.mkdir(parents=True, exist_ok=True)
            # Opened like any new file, so that it gets the usual permissions of the user's files.
            temporary.open("wb" if temporary_name else "xb").close()
            if file.exists():
                temporary.chmod(stat.S_IMODE(file.stat().st_mode))
            write(temporary)
            with temporary.open("rb") as stream:
                os.fsync(stream.fileno())
            yield temporary, file
        except LlmclfError:
            raise
        except (OSError, ValueError, TypeError) as error:
            raise StoreError(f"{str(path)!r} cannot be written: {error}") from error


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a loss of power, where the system supports that."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
