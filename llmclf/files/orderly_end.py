"""An end in good order: a signal that would end the process lets the work clean up first, and no text stays behind in side files.

The first signal raises `Interrupted`, wherever the work is, so that files are closed and removed by whoever opened them. A second
one does not wait for that: it removes the side files and ends the process. What is kept on purpose (a journal, a cache, an old
output) survives both.
"""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

INTERRUPTED = 130
"""The exit code of the command line after a signal."""
_side_files: dict[str, int] = {}  # the signals of a process are its own; so is what they have to remove


class Interrupted(SystemExit):
    """A signal asks for the end of the process.

    Attributes
    ----------
    number : int
        The signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(INTERRUPTED)
        self.number = number

    @property
    def cause(self) -> str:
        """What to say of it: ``"interrupted"`` for Ctrl-C, else with the signal's name."""
        return "interrupted" if self.number == signal.SIGINT else f"interrupted by {signal.Signals(self.number).name}"


@contextmanager
def side_files(*paths: Path) -> Iterator[None]:
    """Files that are removed when the block is left, and also if a second signal cuts that short."""
    names = [os.fspath(path) for path in paths]
    for name in names:
        _side_files[name] = _side_files.get(name, 0) + 1
    try:
        yield
    finally:
        for name in names:
            _unlink(name)
            _side_files[name] -= 1
            if not _side_files[name]:
                del _side_files[name]


@contextmanager
def orderly_end(*names: str, exit_code: int | None = None) -> Iterator[None]:
    """Within the block, signals of these names end the work in good order; if none comes, all is as it was afterwards.

    Signals that the caller ignores (``nohup``) or handles himself stay as they are, and so do all of them in a thread that is not
    the main one, where Python allows no handlers.

    Parameters
    ----------
    *names : str
        Such as ``"SIGTERM"``; those that the system lacks are left out.
    exit_code : int, optional
        `Interrupted` leaves the block, and any later signal, up to the last moment of the process, ends it with this code. By
        default the process ends by the signal, as it would have without the block, once the block has been left.
    """
    handlers = _Handlers(names, exit_code)
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers.install()
    try:
        yield
    except Interrupted as end:
        if exit_code is not None or end.number not in handlers.before:
            raise
    finally:
        handlers.restore()
    if exit_code is None and handlers.came is not None:
        signal.raise_signal(handlers.came)


@contextmanager
def handlers_kept(*names: str) -> Iterator[None]:
    """Whatever the block does to the handlers of these signals is undone; for libraries that set their own."""
    before: Mapping[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.getsignal(number) for number in _numbers(names)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Handlers:
    """The handlers of one block, and what they have seen."""

    def __init__(self, names: Iterable[str], exit_code: int | None) -> None:
        self.before: dict[int, Any] = {}
        self.came: int | None = None
        self._names = tuple(names)
        self._exit_code = exit_code
        self._is_over = False

    def install(self) -> None:
        for number in _numbers(self._names):
            handler = signal.getsignal(number)
            if handler in (signal.SIG_DFL, signal.default_int_handler):
                self.before[number] = handler
                signal.signal(number, self._handle)
        if self._exit_code is not None:
            # As the first of all, so that it is called as the last: what others do at the end can still be cut short.
            atexit.register(self._ignore)

    def restore(self) -> None:
        self._is_over = True  # from here on a signal is noted, and raises nothing
        if self.came is not None:
            _remove_side_files()
            if self._exit_code is not None:
                return  # the process is about to end, with a code that another signal must not change
        for number, handler in self.before.items():
            signal.signal(number, handler)
        atexit.unregister(self._ignore)

    def _ignore(self) -> None:
        """Python takes its handlers away in its very last steps, where a signal would end the process in its own way."""
        for number in self.before:
            signal.signal(number, signal.SIG_IGN)

    def _handle(self, number: int, _: object) -> None:
        is_first, self.came = self.came is None, number
        if self._is_over and (is_first or self._exit_code is None):
            return
        if is_first:
            raise Interrupted(number)
        _remove_side_files()
        if self._exit_code is None:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        os._exit(INTERRUPTED if self._exit_code is None else self._exit_code)


def _numbers(names: Iterable[str]) -> list[int]:
    return [int(getattr(signal, name)) for name in names if hasattr(signal, name)]


def _remove_side_files() -> None:
    for name in list(_side_files):
        _unlink(name)


def _unlink(name: str) -> None:
    if os.path.isdir(name) and not os.path.islink(name):
        shutil.rmtree(name, ignore_errors=True)
    with suppress(OSError):
        os.unlink(name)
