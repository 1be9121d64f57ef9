"""Progress of long work: a bar on a terminal, an occasional line elsewhere, or nothing at all."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol, TypeVar

T = TypeVar("T")

_BAR_DELAY = 2.0  # seconds before a bar appears
_LINE_INTERVAL = 10.0  # seconds between two lines
_RATE_WINDOW = 30.0  # seconds over which the rate is measured


def track(items: Iterable[T], total: int, description: str) -> Iterator[T]:
    """Yield `items` as they come; on a terminal, show how many of `total` are done if that takes long."""
    if not sys.stderr.isatty():
        yield from items
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=Console(stderr=True), transient=True)
    task = bar.add_task(description, total=total)
    began = time.monotonic()
    try:
        for item in items:
            yield item
            bar.advance(task)
            if not bar.live.is_started and time.monotonic() - began > _BAR_DELAY:
                bar.start()
    finally:
        bar.stop()


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


def monitor(is_shown: bool) -> Monitor:
    """A monitor on standard error: a bar if that is a terminal, otherwise lines."""
    if not is_shown:
        return Silent()
    return Bar() if sys.stderr.isatty() else Lines(lambda line: print(line, file=sys.stderr, flush=True))  # noqa: T201


class _Stage:
    """Counts and rate of one stage."""

    def __init__(self, total: int, what: str) -> None:
        self.total, self.what = total, what
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


class Lines:
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
        self._say(line)

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


class Bar:
    """A bar with rate, time left, cost and failures on standard error."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[text]}", markup=False),
        )
        self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
        self._stage: _Stage | None = None
        self._task: Any = None

    def say(self, line: str) -> None:
        self._bar.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def begin(self, total: int, what: str) -> None:
        self.end()
        self._stage = _Stage(total, what)
        self._task = self._bar.add_task(what, total=total, text="")
        self._bar.start()

    def advance(self, n: int, failed: int = 0, cost: float | None = None) -> None:
        assert self._stage is not None
        self._stage.advance(n, failed, cost)
        self._bar.update(self._task, completed=self._stage.done, text=self._stage.text)

    def end(self) -> None:
        if self._stage is not None:
            self._bar.stop()
            self._bar.remove_task(self._task)
        self._stage = None


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
