"""Requests and tokens per minute, held in every window of sixty seconds.

A leaky bucket, which most limiters are, lets through up to twice its rate in a window that begins when the bucket is full. Here
the requests begun in the last minute are remembered instead.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from dataclasses import dataclass

from ...errors import InputError

_WINDOW = 60.5  # seconds; the network may delay one request by half a second more than the next


@dataclass(eq=False)
class _Start:
    """A request that was let through: when, and how many tokens it takes."""

    time: float
    tokens: int


class RateLimits:
    """Lets requests start when the limits allow, in the order in which they asked.

    Parameters
    ----------
    rpm, tpm : int, optional
        Largest number of requests, and of tokens read and written, in any sixty seconds; None means no limit.
    """

    def __init__(self, rpm: int | None = None, tpm: int | None = None) -> None:
        self.rpm = rpm
        self.tpm = tpm
        self._starts: deque[_Start] = deque()
        self._tokens = 0
        self._held_until = 0.0
        self._turn: asyncio.Lock | None = None
        self._freed = asyncio.Event()

    def open(self) -> None:
        """Begin in a new event loop; requests let through in the last minute still count."""
        self._turn = asyncio.Lock()
        self._freed = asyncio.Event()

    def check(self, tokens: int) -> None:
        """Refuse a request that is too large for any minute.

        Raises
        ------
        InputError
        """
        if self.tpm is not None and tokens > self.tpm:
            raise InputError(f"one request takes about {tokens} tokens, and tpm={self.tpm} allows fewer in a minute")

    async def start(self, tokens: int) -> _Start:
        """Wait until a request of `tokens` tokens may be sent."""
        assert self._turn is not None
        self.check(tokens)
        async with self._turn:
            while (delay := self._delay(tokens)) > 0:
                self._freed.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(delay):
                        await self._freed.wait()
            begun = _Start(time.monotonic(), tokens)
            if self.rpm is not None or self.tpm is not None:
                self._starts.append(begun)
                self._tokens += tokens
            return begun

    def settle(self, begun: _Start, tokens: int) -> None:
        """Note that the request took `tokens` tokens, whatever was expected."""
        if self._starts and begun.time >= self._starts[0].time:  # else its minute is over
            if tokens < begun.tokens:
                self._freed.set()
            self._tokens += tokens - begun.tokens
            begun.tokens = tokens

    def hold(self, seconds: float) -> None:
        """Let nothing start for a while: the server asked for it."""
        self._held_until = max(self._held_until, time.monotonic() + seconds)

    def _delay(self, tokens: int) -> float:
        """Seconds until the next request may start, as things stand; 0 or less if it may start now."""
        now = time.monotonic()
        starts = self._starts
        while starts and starts[0].time + _WINDOW <= now:
            self._tokens -= starts.popleft().tokens
        delay = self._held_until - now
        if self.rpm is not None and len(starts) >= self.rpm:
            delay = max(delay, starts[-self.rpm].time + _WINDOW - now)
        if self.tpm is not None and self._tokens + tokens > self.tpm:
            surplus = self._tokens + tokens - self.tpm
            for begun in starts:
                surplus -= begun.tokens
                if surplus <= 0:
                    delay = max(delay, begun.time + _WINDOW - now)
                    break
        return delay
