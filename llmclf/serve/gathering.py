"""Gathering: rows of concurrent requests wait in one bounded queue and go to the model together.

While the model is idle a row goes at once. While it works, rows gather, and go in the next pass. Requests take turns in a pass,
so that one with many rows does not hold up the others. What a dying process was asked is asked once more of the next one, row by
row, so that a row for which processes die takes no other with it. No request is answered twice, or left without any answer.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from .limits import Limits
from .questions import Answer, Ask
from .refusals import RefusalError, retry_after, unavailable

WAIT = 0.005
"""Seconds that the next pass waits for those whose answers just went out, if there were several."""
_MOST_DEATHS = 2  # of the process, while it worked on a row, before that row counts as the reason
_RATE_WEIGHT = 0.2

DIED = Answer(
    kind="model_process_died",
    message="the process of the model died while it worked on this row, and again when it worked on it alone",
)

NOT_SENT = Answer(kind="model_failed", message="this row could not be given to the process of the model")


class Process(Protocol):
    """What gathering needs of the process of the models."""

    @property
    def is_ready(self) -> bool: ...

    def send(self, number: int, lane: str, asks: Sequence[Mapping[str, Any]]) -> None: ...

    def kill(self) -> None: ...


class Observer(Protocol):
    """Who counts."""

    def passed(self, rows: int, seconds: float) -> None:
        """A pass of so many rows took so long."""
        ...


@dataclass(eq=False)
class Waiter:
    """One request's rows in one lane: those that were not sent yet, and the answers that are there."""

    lane: str
    asks: Sequence[Ask]
    done: asyncio.Future[list[Answer]]
    answers: dict[int, Answer] = field(default_factory=dict)
    deaths: dict[int, int] = field(default_factory=dict)
    next: int = 0

    @property
    def waiting(self) -> int:
        """Rows that were not sent yet."""
        return len(self.asks) - self.next

    def settle(self, place: int, answer: Answer) -> None:
        """Note one row's answer; with the last one the request goes on."""
        if self.done.done() or place in self.answers:
            return
        self.answers[place] = answer
        if len(self.answers) == len(self.asks):
            self.done.set_result([self.answers[i] for i in range(len(self.asks))])


Sent = list[tuple[Waiter, int]]


@dataclass(eq=False)
class Lane:
    """Requests that one model answers.

    Attributes
    ----------
    most : int
        Passes that may be under way at once: one for a model on this machine, several for a server.
    expected, holds_until : int, float
        How many requests were answered a moment ago, and until when the next pass waits for what their clients ask next.
    """

    name: str
    most: int
    waiters: deque[Waiter] = field(default_factory=deque)
    rows: int = 0
    under_way: int = 0
    expected: int = 0
    holds_until: float = 0.0


class Gatherer:
    """The queue in front of the models; used from one event loop.

    Parameters
    ----------
    lanes : mapping of name to int
        How many passes of each lane may be under way at once.
    limits : Limits
    observer : Observer
    clock : callable
    """

    def __init__(
        self,
        lanes: Mapping[str, int],
        limits: Limits,
        observer: Observer,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._lanes = {name: Lane(name, most) for name, most in lanes.items()}
        self._limits, self._observer, self._clock = limits, observer, clock
        self._process: Process | None = None
        self._sent: dict[int, tuple[Lane, Sent, float]] = {}
        self._suspects: deque[tuple[Waiter, int]] = deque()
        self._is_on_trial = False  # one suspect is under way, and nothing else
        self._number = 0
        self._rows_per_second = 0.0
        self._last_done = 0.0

    def attach(self, process: Process) -> None:
        """Say where rows go."""
        self._process = process

    @property
    def waiting_rows(self) -> int:
        """Rows that were accepted and not sent yet."""
        return sum(lane.rows for lane in self._lanes.values()) + len(self._suspects)

    @property
    def passes(self) -> int:
        """Passes under way."""
        return len(self._sent)

    @property
    def oldest_pass(self) -> float:
        """For how many seconds the oldest pass has been under way."""
        return max((self._clock() - began for _, _, began in self._sent.values()), default=0.0)

    async def answers(self, lane: str, asks: Sequence[Ask]) -> list[Answer]:
        """The answer to each ask, in their order.

        Raises
        ------
        RefusalError
            The queue is full (429), or the answer took too long (503).
        """
        if not asks:
            return []
        queue = self._lanes[lane]
        waiting = self.waiting_rows
        if waiting and waiting + len(asks) > self._limits.waiting_rows:
            seconds = waiting / self._rows_per_second if self._rows_per_second else 1.0
            raise RefusalError(
                429,
                "queue_full",
                f"{waiting} rows wait for the model already, and at most {self._limits.waiting_rows} may; ask again later",
                headers=retry_after(seconds),
            )
        waiter = Waiter(lane, asks, asyncio.get_running_loop().create_future())
        queue.waiters.append(waiter)
        queue.rows += len(asks)
        self._pump(queue)
        try:
            return await asyncio.wait_for(waiter.done, self._limits.answer_seconds)
        except TimeoutError:
            raise unavailable(
                f"no answer within {self._limits.answer_seconds:g} s; ask again later, or about fewer rows at once",
                kind="timeout",
            ) from None
        finally:
            if waiter.waiting:  # nobody waits for these any more
                queue.rows -= waiter.waiting
                waiter.next = len(asks)
                queue.waiters.remove(waiter)

    def answered(self, number: int, answers: Sequence[Answer]) -> None:
        """The answers of a pass are there."""
        if number not in self._sent:
            return
        lane, sent, began = self._sent.pop(number)
        lane.under_way -= 1
        self._is_on_trial = False
        now = self._clock()
        self._observe(len(sent), now, began)
        for (waiter, place), answer in zip(sent, answers, strict=True):
            waiter.settle(place, answer)
        requests = len({id(waiter) for waiter, _ in sent})
        if requests > 1:
            lane.expected, lane.holds_until = requests, now + WAIT
            asyncio.get_running_loop().call_later(WAIT, self._pump, lane)
        self._pump_all()

    def process_changed(self, is_ready: bool) -> None:
        """The process has become ready, or has died with what it was asked."""
        if not is_ready:
            lost, self._sent = self._sent, {}
            self._is_on_trial = False
            for lane, sent, _ in lost.values():
                lane.under_way -= 1
                for waiter, place in sent:
                    waiter.deaths[place] = waiter.deaths.get(place, 0) + 1
                    if waiter.deaths[place] >= _MOST_DEATHS:
                        waiter.settle(place, DIED)
                    elif not waiter.done.done():
                        self._suspects.append((waiter, place))
        self._pump_all()

    def check_passes(self) -> bool:
        """End a process that is stuck in a pass; whether it was."""
        is_stuck = self.oldest_pass > self._limits.pass_seconds
        if is_stuck and self._process is not None:
            self._process.kill()
        return is_stuck

    # --- what goes next --------------------------------------------------------------------------------------------------

    def _pump_all(self) -> None:
        if self._try_suspect():
            return
        for lane in self._lanes.values():
            self._pump(lane)

    def _try_suspect(self) -> bool:
        """Whether rows that a process has died over are still to be tried, each of them alone."""
        while self._suspects and self._suspects[0][0].done.done():
            self._suspects.popleft()
        if not self._suspects:
            return self._is_on_trial
        if not self._sent and self._process is not None and self._process.is_ready:
            one = self._suspects.popleft()
            self._is_on_trial = True
            self._send(self._lanes[one[0].lane], [one])
        return True

    def _pump(self, lane: Lane) -> None:
        """Send what may be sent."""
        if self._process is None or not self._process.is_ready or self._try_suspect():
            return
        most = self._limits.pass_rows
        while lane.rows and lane.under_way < lane.most:
            is_holding = self._clock() < lane.holds_until - 1e-4
            if is_holding and lane.rows < min(most, lane.expected) and not lane.under_way:
                return  # those whose answers went out a moment ago are about to ask again
            self._send(lane, _next_rows(lane, most))

    def _send(self, lane: Lane, sent: Sent) -> None:
        assert self._process is not None
        self._number += 1
        lane.under_way += 1
        self._sent[self._number] = (lane, sent, self._clock())
        asks = [waiter.asks[place] for waiter, place in sent]
        try:
            self._process.send(self._number, lane.name, [{"model": ask.model, **ask.body} for ask in asks])
        except Exception:  # rows that cannot be sent must not hold up those that can
            self.answered(self._number, [NOT_SENT] * len(sent))

    def _observe(self, rows: int, now: float, began: float) -> None:
        self._observer.passed(rows, now - began)
        rate = rows / max(now - max(began, self._last_done), 1e-6)
        self._last_done = now
        self._rows_per_second += (rate - self._rows_per_second) * (_RATE_WEIGHT if self._rows_per_second else 1.0)


def _next_rows(lane: Lane, most: int) -> Sent:
    """The next rows of a lane, one of each request by turns, and out of the queue with them."""
    rows: Sent = []
    while lane.waiters and len(rows) < most:
        waiter = lane.waiters.popleft()
        rows.append((waiter, waiter.next))
        waiter.next += 1
        lane.rows -= 1
        if waiter.waiting:
            lane.waiters.append(waiter)
    return rows
