"""One job at a time writes an output: a lock that the system frees when its process ends, however it ends."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from ...errors import StoreError
from ...files.orderly_end import side_files
from .file_sinks import FileSink, FolderSink, StoreSink
from .layout import Sink
from .sinks import DeltaSink, TableSink

try:
    import fcntl
except ImportError:  # Windows: there the journal alone keeps two jobs apart
    fcntl = None  # type: ignore[assignment]


@contextmanager
def output_lock(sink: Sink) -> Iterator[None]:
    """Hold an output as long as the block lasts.

    However a path is spelt, and through whatever links, the file that it leads to counts. Jobs that write files of one folder
    go together, but not with a job that writes the folder as a whole. An SQL table, a Delta table and an object of a store are
    locked among the jobs of this user and machine.

    Raises
    ------
    StoreError
        Another job is writing it, in this process or another.
    """
    with ExitStack() as held:
        if fcntl is not None:
            _hold(sink, held)
        yield


def _hold(sink: Sink, held: ExitStack) -> None:
    if isinstance(sink, FileSink):
        file = Path(os.path.realpath(sink.path))
        held.enter_context(_folder(file.parent, sink.name, shared=True))
        held.enter_context(_file(file.with_name(f".{file.name}-lock"), sink.name))
    elif isinstance(sink, FolderSink):
        held.enter_context(_folder(Path(os.path.realpath(sink.path)), sink.name, shared=False))
    elif isinstance(sink, (TableSink, StoreSink, DeltaSink)):
        name = hashlib.sha256(sink.place.encode()).hexdigest()[:24]
        held.enter_context(_file(Path(tempfile.gettempdir(), f"llmclf-{os.getuid()}-{name}.lock"), sink.name))


@contextmanager
def _folder(folder: Path, output: str, *, shared: bool) -> Iterator[None]:
    made = None
    try:
        if not folder.is_dir():
            folder.mkdir(parents=True, exist_ok=True)
            made = folder
        handle = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise StoreError(f"{output!r} cannot be written: {error}") from error
    try:
        _lock(handle, output, shared=shared)
        yield
    finally:
        os.close(handle)
        if made is not None:
            with suppress(OSError):  # it holds what was written
                made.rmdir()


@contextmanager
def _file(path: Path, output: str) -> Iterator[None]:
    """A lock file, which is there only while it is held, or where its holder was killed."""
    while True:
        try:
            handle = os.open(path, os.O_CREAT | os.O_RDWR | getattr(os, "O_NOFOLLOW", 0), 0o600)
        except OSError as error:
            raise StoreError(f"{output!r} cannot be written: {error}") from error
        try:
            _lock(handle, output, shared=False)
            if _is_at(handle, path):
                break
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)  # its holder has just ended and removed it
    try:
        with side_files(path):  # removed while it is held: whoever comes between sees that the path leads elsewhere
            yield
    finally:
        os.close(handle)


def _lock(handle: int, output: str, *, shared: bool) -> None:
    try:
        fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise StoreError(
            f"another job is writing {output!r}; wait until it ends, or give this one another output"
        ) from error
    except OSError:
        pass  # a file system without locks: there the journal alone keeps two jobs apart


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False
