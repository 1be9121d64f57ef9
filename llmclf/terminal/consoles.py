"""Consoles of rich on which foreign text cannot act, whoever prints it."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from .visible import visible


class VisibleConsole(Console):
    """A console that writes out whatever is unseen in what it prints; its own colours and movements stay.

    Examples
    --------
    >>> import io
    >>> console = VisibleConsole(file=io.StringIO(), force_terminal=True, width=80)
    >>> console.print("a\\x1b[2Jb", style="bold", highlight=False)
    >>> console.file.getvalue()
    '\\x1b[1ma\\\\x1b[2Jb\\x1b[0m\\n'
    """

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(visible(segment.text), segment.style)
