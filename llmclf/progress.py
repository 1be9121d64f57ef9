"""Progress of long work: a bar on a terminal, an occasional line elsewhere, or nothing at all."""

from __future__ import annotations

import html
import importlib
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from threading import Event, Lock, Thread
from typing import Any, Protocol, TypeVar

from .terminal.visible import visible_line

T = TypeVar("T")
_SHOWING = Lock()  # held by whoever has the bar

_BAR_DELAY = 2.0  # seconds before a bar appears
_REFRESH = 0.25  # seconds between two drawings of a bar
_PATIENCE = 2.0  # seconds that the work's end waits for a bar to go
_LINE_INTERVAL = 10.0  # seconds between two lines
_RATE_WINDOW = 30.0  # seconds over which the rate is measured


@contextmanager
def track(items: Iterable[T], total: int, description: str) -> Iterator[Iterator[T]]:
    """The `items` as they come; where somebody looks, a bar shows how many of `total` are done if that takes over two seconds.

    The bar is on standard error, or below the cell of a notebook, and is gone when the block is left, by an error as well. It
    appears even if the first item is long in coming. Of several threads the first has the bar.

    Examples
    --------
    >>> with track(iter("abc"), 3, "scoring") as letters:
    ...     print(*letters)
    a b c
    """
    display = _display()
    if display is None or not _SHOWING.acquire(blocking=False):
        yield iter(items)
        return
    stage, ended = _Stage(total, description), Event()
    # A thread of its own, since what is waited for may not come for a while, and may be waited for in compiled code.
    follower = Thread(target=_follow, args=(stage, display, ended), name="llmclf-progress", daemon=True)
    follower.start()
    try:
        yield _counted(items, stage)
    finally:
        ended.set()
        follower.join(_PATIENCE)
        _SHOWING.release()


def _counted(items: Iterable[T], stage: _Stage) -> Iterator[T]:
    for item in items:
        yield item
        stage.advance(1, 0, None)


def _follow(stage: _Stage, display: Display, ended: Event) -> None:
    ended.wait(_BAR_DELAY)
    if time.monotonic() - stage.began < _BAR_DELAY:
        return
    with suppress(Exception):  # a terminal that is gone must not stop the work
        try:
            while True:
                display.show(stage)
                if ended.wait(_REFRESH):
                    return
        finally:
            display.close()


class Display(Protocol):
    """Where a bar is drawn."""

    def show(self, stage: _Stage) -> None:
        """Draw the bar, or draw it anew."""
        ...

    def close(self) -> None:
        """Remove the bar."""
        ...


def _display() -> Display | None:
    """Where the caller looks; None where nobody does, or wants to."""
    if os.environ.get("LLMCLF_PROGRESS", "").lower() in ("0", "no", "off", "false"):
        return None
    # Processes of a pool share the terminal of the first.
    if multiprocessing.parent_process() is not None:
        return None
    if is_terminal():
        return TerminalDisplay()
    return NotebookDisplay() if in_notebook() else None


def is_terminal() -> bool:
    """Whether standard error is a terminal on which a line can be drawn over."""
    return sys.stderr is not None and sys.stderr.isatty() and os.environ.get("TERM", "") not in ("dumb", "unknown")


def in_notebook() -> bool:
    """Whether a notebook's kernel runs this process."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return getattr(shell, "kernel", None) is not None


class TerminalDisplay:
    """A bar with rate and time left, on standard error."""

    def __init__(self) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        from .terminal.consoles import VisibleConsole

        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[text]}", markup=False),
        )
        # What is printed meanwhile stands above the bar, unless it goes elsewhere.
        to_terminal = sys.stdout is not None and sys.stdout.isatty()
        self.bar = Progress(
            *columns,
            console=VisibleConsole(stderr=True),
            transient=True,
            auto_refresh=False,
            redirect_stdout=to_terminal,
        )
        self._stage: _Stage | None = None
        self._task: Any = None

    def show(self, stage: _Stage) -> None:
        if self._stage is not stage:
            self.close()
            self._stage, self._task = stage, self.bar.add_task(stage.what, total=stage.total, text="")
            self.bar.start()
        self.bar.update(self._task, completed=stage.done, text=stage.text if stage.done else "", refresh=True)

    def close(self) -> None:
        if self._stage is not None:
            self.bar.stop()
            self.bar.remove_task(self._task)
        self._stage = None


class NotebookDisplay:
    """A bar below the cell that is running; the browser draws it, so that no widgets are needed."""

    def __init__(self) -> None:
        self._handle: Any = None

    def show(self, stage: _Stage) -> None:
        text = f"{stage.what} {stage.done:,} of {stage.total:,}" + (f" ({stage.text})" if stage.done else "")
        bar = f'<progress max="{stage.total}" value="{stage.done}"></progress> {html.escape(text)}'
        self._draw({"text/plain": text, "text/html": bar})

    def close(self) -> None:
        if self._handle is not None:
            self._draw({"text/plain": "", "text/html": ""})
        self._handle = None

    def _draw(self, data: dict[str, str]) -> None:
        if self._handle is None:
            display = importlib.import_module("IPython.display").display
            self._handle = display(data, raw=True, display_id=True)
        else:
            self._handle.update(data, raw=True)


class Monitor(Protocol):
    """Follows every step of a job."""

    def say(self, line: str) -> None:
        """Show a line about the work."""
        ...

    def begin(self, total: int, what: str) -> None:
        """Begin a stage of `total` steps; the one before it ends."""
        ...

    def advance(self, n: int, failed: int = 0, cost: float | None = None) -> None:
        """Count `n` finished steps, of which `failed` failed; `cost` is the total so far."""
        ...

    def end(self) -> None:
        """End the stage, if there is one."""
        ...

    def plan(self, counts: Mapping[str, int]) -> None:
        """How many rows there are, and what of them is to be asked."""
        ...

    def failed(self, reasons: Sequence[str]) -> None:
        """Why some of the steps failed."""
        ...

    def used(self, usage: Mapping[str, Any]) -> None:
        """Requests, tokens and cost so far."""
        ...


class Silent:
    """Shows nothing."""

    def say(self, line: str) -> None:
        pass

    def begin(self, total: int, what: str) -> None:
        pass

    def advance(self, n: int, failed: int = 0, cost: float | None = None) -> None:
        pass

    def end(self) -> None:
        pass

    def plan(self, counts: Mapping[str, int]) -> None:
        pass

    def failed(self, reasons: Sequence[str]) -> None:
        pass

    def used(self, usage: Mapping[str, Any]) -> None:
        pass


class Together:
    """Tells several monitors.

    Parameters
    ----------
    *monitors : Monitor
    """

    def __init__(self, *monitors: Monitor) -> None:
        self._monitors = monitors

    def say(self, line: str) -> None:
        for one in self._monitors:
            one.say(line)

    def begin(self, total: int, what: str) -> None:
        for one in self._monitors:
            one.begin(total, what)

    def advance(self, n: int, failed: int = 0, cost: float | None = None) -> None:
        for one in self._monitors:
            one.advance(n, failed, cost)

    def end(self) -> None:
        for one in self._monitors:
            one.end()

    def plan(self, counts: Mapping[str, int]) -> None:
        for one in self._monitors:
            one.plan(counts)

    def failed(self, reasons: Sequence[str]) -> None:
        for one in self._monitors:
            one.failed(reasons)

    def used(self, usage: Mapping[str, Any]) -> None:
        for one in self._monitors:
            one.used(usage)


def monitor(is_shown: bool) -> Monitor:
    """A monitor: a bar on a terminal and in a notebook, otherwise lines on standard error."""
    if not is_shown:
        return Silent()
    if is_terminal():
        return Bar(TerminalDisplay())
    if in_notebook():
        return Bar(NotebookDisplay())
    return Lines(_say)


def _say(line: str) -> None:
    """A line on standard error; whoever read it may be gone, and the work goes on."""
    with suppress(OSError, ValueError):
        print(line, file=sys.stderr, flush=True)  # noqa: T201


class _Stage:
    """Counts and rate of one stage."""

    def __init__(self, total: int, what: str) -> None:
        self.total, self.what = total, visible_line(what)
        self.done = self.failed = 0
        self.cost: float | None = None
        self.began = time.monotonic()
        self._marks: list[tuple[float, int]] = [(self.began, 0)]

    def advance(self, n: int, failed: int, cost: float | None) -> None:
        self.done += n
        self.failed += failed
        self.cost = cost if cost is not None else self.cost
        now = time.monotonic()
        if now - self._marks[-1][0] >= 1.0:
            self._marks.append((now, self.done))
            while len(self._marks) > 2 and now - self._marks[1][0] > _RATE_WINDOW:
                del self._marks[0]

    @property
    def rate(self) -> float:
        """Recent steps per second."""
        then, done = self._marks[0]
        passed = time.monotonic() - then
        return (self.done - done) / passed if passed > 0 else 0.0

    @property
    def seconds_left(self) -> float | None:
        return (self.total - self.done) / self.rate if self.rate > 0 else None

    @property
    def text(self) -> str:
        parts = [f"{self.rate:,.1f}/s"]
        left = self.seconds_left
        if left is not None and self.done < self.total:
            parts.append(f"{duration(left)} left")
        if self.cost is not None:
            parts.append(f"cost {self.cost:.4g}")
        if self.failed:
            parts.append(f"{self.failed:,} failed")
        return ", ".join(parts)


class Lines(Silent):
    """A line every ten seconds, and at the end of each stage.

    Parameters
    ----------
    say : callable
        Called with each line.
    """

    def __init__(self, say: Callable[[str], Any]) -> None:
        self._say = say
        self._stage: _Stage | None = None
        self._last = 0.0

    def say(self, line: str) -> None:
        self._say(visible_line(line))

    def begin(self, total: int, what: str) -> None:
        self.end()
        self._stage, self._last = _Stage(total, what), time.monotonic()

    def advance(self, n: int, failed: int = 0, cost: float | None = None) -> None:
        assert self._stage is not None
        self._stage.advance(n, failed, cost)
        if time.monotonic() - self._last >= _LINE_INTERVAL:
            self._show()

    def end(self) -> None:
        if self._stage is not None and self._stage.done:
            self._show()
        self._stage = None

    def _show(self) -> None:
        stage = self._stage
        assert stage is not None
        self._say(f"{stage.what} {stage.done:,} of {stage.total:,} ({stage.text})")
        self._last = time.monotonic()


class Bar(Silent):
    """A bar with rate, time left, cost and failures.

    Parameters
    ----------
    display : Display
    """

    def __init__(self, display: Display) -> None:
        self._display = display
        self._stage: _Stage | None = None
        self._shown = 0.0

    def say(self, line: str) -> None:
        _say(visible_line(line))

    def begin(self, total: int, what: str) -> None:
        self.end()
        self._stage = _Stage(total, what)
        self._show()

    def advance(self, n: int, failed: int = 0, cost: float | None = None) -> None:
        assert self._stage is not None
        self._stage.advance(n, failed, cost)
        if time.monotonic() - self._shown >= _REFRESH or self._stage.done >= self._stage.total:
            self._show()

    def end(self) -> None:
        if self._stage is not None:
            with suppress(OSError, ValueError):
                self._display.close()
        self._stage = None

    def _show(self) -> None:
        assert self._stage is not None
        with suppress(OSError, ValueError):  # a terminal that is gone must not stop the work
            self._display.show(self._stage)
        self._shown = time.monotonic()


def duration(seconds: float) -> str:
    """A duration, short enough for a line of text.

    Examples
    --------
    >>> duration(42.4), duration(200), duration(100_000)
    ('42 s', '3 min', '27.8 h')
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
