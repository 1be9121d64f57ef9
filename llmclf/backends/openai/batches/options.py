"""How rows are asked about through a server's Batch API."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from ....errors import InputError


@dataclass(frozen=True)
class BatchOptions:
    """How rows are asked about in batches.

    Parameters
    ----------
    window : int
        Most rows that are begun and not taken care of. Each holds about ten kilobytes of memory while it waits.
    max_requests, max_bytes : int
        Most requests in a batch, and most bytes in its request file.
    poll_seconds : float
        Time between two looks at a batch.
    max_rounds : int
        How often a request that was not answered is submitted again.
    parallel : int
        Most batches that are open at once.
    report : callable, optional
        Told how batches get on, a line at a time.
    folder : str, optional
        Where request and answer files are while they are sent and read, without a name; by default the system's for such files.

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
            value, least = getattr(self, name), int(name != "max_rounds")
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise InputError(f"{name}={value!r}: expected a whole number of at least {least}")
        value = self.poll_seconds
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
            raise InputError(f"poll_seconds={value!r}: expected a positive number of seconds")
