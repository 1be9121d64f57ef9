"""How rows are asked about through a server's Batch API."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ....checks import check_whole_number, is_finite_number
from ....errors import InputError


@dataclass(frozen=True)
class BatchOptions:
    """How rows are asked about in batches.

    Parameters
    ----------
    window : int
        Rows that are under way at once, at most. Each holds about ten kilobytes of memory while it waits.
    max_requests, max_bytes : int
        Requests in a batch, and bytes in its request file, at most.
    poll_seconds : float
        Time between two polls of a batch.
    max_rounds : int
        How often a request without an answer is submitted again.
    parallel : int
        Batches that are open at once, at most.
    report : callable, optional
        Called with each line of news about the batches.
    folder : str, optional
        Where request and answer files are stored while they are sent and read, without a name; by default the system's folder for
        temporary files.

    Examples
    --------
    >>> BatchOptions(poll_seconds=0)
    Traceback (most recent call last):
    ...
    llmclf.errors.InputError: poll_seconds=0: expected a positive number of seconds
    """

    window: int = 50_000
    max_requests: int = 50_000
    max_bytes: int = 200_000_000
    poll_seconds: float = 30.0
    max_rounds: int = 5
    parallel: int = 4
    report: Callable[[str], None] | None = None
    folder: str | None = None

    def __post_init__(self) -> None:
        for name in ("window", "max_requests", "max_bytes", "max_rounds", "parallel"):
            value = check_whole_number(name, getattr(self, name), int(name != "max_rounds"))
            object.__setattr__(self, name, value)  # numpy's numbers become Python's, which SQLite and JSON can write
        if not is_finite_number(self.poll_seconds) or self.poll_seconds <= 0:
            raise InputError(f"poll_seconds={self.poll_seconds!r}: expected a positive number of seconds")
