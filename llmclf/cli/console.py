"""Output of the command line, line by line: results on standard output, everything else on standard error."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from ..errors import LlmclfWarning

OUT = Console()
_ERR = Console(stderr=True)


def say(text: str) -> None:
    """A line of the result."""
    _line(OUT, text)


def say_aside(text: str, title: str = "", title_style: str = "", *, style: str = "") -> None:
    """A line about the work: progress, a warning, an error."""
    _line(_ERR, text, title, title_style, style)


def show_warning(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
    """Replaces `warnings.showwarning` on the command line: llmclf's warnings are for its user, others are not."""
    if issubclass(category, LlmclfWarning):
        say_aside(str(message), "warning:", "yellow")


def _line(console: Console, text: str, title: str = "", title_style: str = "", style: str = "") -> None:
    """One line, in which users' words (labels, paths) are not read as markup."""
    line = Text(" ".join(text.splitlines()), style)
    if title:
        line = Text.assemble((title, title_style), " ", line)
    console.print(line, soft_wrap=True)
