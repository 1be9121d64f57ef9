"""Output of the command line, line by line: results on standard output, everything else on standard error."""

from __future__ import annotations

import logging
import os
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import TracebackType

from rich.console import Console
from rich.text import Text

from ..errors import LlmclfWarning, StoreError
from ..terminal.consoles import VisibleConsole
from ..terminal.visible import visible, visible_json


class _Output(VisibleConsole):
    """A console whose reader may go away: what it would have read is dropped, and the work goes on."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        with suppress(OSError, ValueError):
            # What is still in the buffer, and whatever is written to it at the end, needs a place to go.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.file.fileno())
            os.close(nowhere)


OUT = _Output()
_ERR = _Output(stderr=True)


def say(text: str) -> None:
    """A line of the result.

    Raises
    ------
    StoreError
        It cannot be written (the disk is full); where nobody reads any more, the line is dropped.
    """
    with _writable():
        _line(OUT, text)


def say_aside(text: str, title: str = "", title_style: str = "", *, style: str = "") -> None:
    """A line about the work: progress, a warning, an error; dropped where it cannot be written (the terminal is gone)."""
    with suppress(OSError):
        _line(_ERR, text, title, title_style, style)


def show_warning(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
    """Replaces `warnings.showwarning` on the command line: llmclf's warnings are for its user, others are not."""
    if issubclass(category, LlmclfWarning):
        say_aside(str(message), "warning:", "yellow")


def say_json(text: str) -> None:
    """A JSON document as the result; its values are what they were.

    Raises
    ------
    StoreError
        As `say`.
    """
    with _writable():
        OUT.print(visible_json(text), markup=False, highlight=False, soft_wrap=True)


def show_block(text: str) -> None:
    """Several lines as they are, such as how a command is used; dropped where they cannot be written."""
    with suppress(OSError):
        _ERR.print(Text(visible(text)), end="", soft_wrap=True)


def show_traceback(kind: type[BaseException], error: BaseException, place: TracebackType | None) -> None:
    """Replaces `sys.excepthook` on the command line: what other libraries quote of a server is no safer than what we do."""
    show_block("".join(traceback.format_exception(kind, error, place)))


class VisibleFormatter(logging.Formatter):
    """Log lines with nothing unseen in them."""

    def format(self, record: logging.LogRecord) -> str:
        return visible(super().format(record))


@contextmanager
def _writable() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(f"standard output cannot be written: {error}") from error


def _line(console: Console, text: str, title: str = "", title_style: str = "", style: str = "") -> None:
    """One line, in which users' words (labels, paths) are not read as markup."""
    line = Text(" ".join(visible(text).split("\n")), style)
    if title:
        line = Text.assemble((title, title_style), " ", line)
    console.print(line, soft_wrap=True)
