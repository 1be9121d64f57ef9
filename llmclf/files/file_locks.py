"""Locks on files and folders that the system frees when their process ends, however it ends."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .orderly_end import side_files

try:
    import fcntl
except ImportError:  # Windows has no such locks: there nothing is held
    fcntl = None  # type: ignore[assignment]

_PAUSE_S = 0.01


def lock(handle: int, *, shared: bool) -> bool:
    """Lock an open file or folder until it is closed.

    Returns
    -------
    bool
        Whether it is held; False where the file system or the system has no locks.

    Raises
    ------
    BlockingIOError
        Somebody else holds it, in this process or another.
    """
    if fcntl is None:
        return False
    try:
        fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        return False
    return True


@contextmanager
def lock_file(path: Path, *, patience_s: float = 0.0) -> Iterator[bool]:
    """Hold a lock file, which is there only while it is held, or where its holder was killed; the block is told as by `lock`.

    Parameters
    ----------
    path : Path
    patience_s : float
        How many seconds to wait for somebody else who holds it.

    Raises
    ------
    BlockingIOError
        Somebody else holds it, in this process or another.
    OSError
        It cannot be made.
    """
    end = time.monotonic() + patience_s
    while True:
        handle = os.open(path, os.O_CREAT | os.O_RDWR | getattr(os, "O_NOFOLLOW", 0), 0o600)
        try:
            is_held = lock(handle, shared=False)
            if _is_at(handle, path):
                break
        except BlockingIOError:
            os.close(handle)
            if time.monotonic() >= end:
                raise
            time.sleep(_PAUSE_S)
            continue
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)  # its holder has just ended and removed it
    try:
        with side_files(path):  # removed while it is held: whoever comes between sees that the path leads elsewhere
            yield is_held
    finally:
        os.close(handle)


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False
