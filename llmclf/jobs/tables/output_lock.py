"""One job at a time writes an output: a lock that the system frees when its process ends, however it ends."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from ...errors import StoreError
from ...files.file_locks import lock, lock_file
from .file_sinks import FileSink, FolderSink, StoreSink
from .layout import Sink
from .sinks import DeltaSink, TableSink


@contextmanager
def output_lock(sink: Sink) -> Iterator[None]:
    """Hold an output as long as the block lasts.

    However a path is spelt, and through whatever links, the file that it leads to counts. Jobs that write files of one folder
    go together, but not with a job that writes the folder as a whole. An SQL table, a Delta table and an object of a store are
    locked among the jobs of this user and machine. Where the system has no locks, the journal alone keeps two jobs apart.

    Raises
    ------
    StoreError
        Another job is writing it, in this process or another.
    """
    with ExitStack() as held:
        if os.name != "nt":
            _hold(sink, held)
        yield


def _hold(sink: Sink, held: ExitStack) -> None:
    if isinstance(sink, FileSink):
        file = Path(os.path.realpath(sink.path))
        held.enter_context(_folder(file.parent, sink.name, shared=True))
        _hold_file(file.with_name(f".{file.name}-lock"), sink.name, held)
    elif isinstance(sink, FolderSink):
        held.enter_context(_folder(Path(os.path.realpath(sink.path)), sink.name, shared=False))
    elif isinstance(sink, (TableSink, StoreSink, DeltaSink)):
        name = hashlib.sha256(sink.place.encode()).hexdigest()[:24]
        _hold_file(Path(tempfile.gettempdir(), f"llmclf-{os.getuid()}-{name}.lock"), sink.name, held)


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
        try:
            lock(handle, shared=shared)
        except BlockingIOError as error:
            raise _busy(output) from error
        yield
    finally:
        os.close(handle)
        if made is not None:
            with suppress(OSError):  # it holds what was written
                made.rmdir()


def _hold_file(path: Path, output: str, held: ExitStack) -> None:
    try:
        held.enter_context(lock_file(path))
    except BlockingIOError as error:
        raise _busy(output) from error
    except OSError as error:
        raise StoreError(f"{output!r} cannot be written: {error}") from error


def _busy(output: str) -> StoreError:
    return StoreError(f"another job is writing {output!r}; wait until it ends, or give this one another output")
