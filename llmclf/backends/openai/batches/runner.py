"""A provider's batches in the place of live requests: cheaper, a day late, and scored by the same routes.

The routes ask a client for one reply at a time. Here their questions are collected until all rows that are worked on wait for an
answer; then they go out as a batch, and when it comes back the routes go on from where they stopped, some of them to the next
question. A question's custom_id is a hash of what is asked, so a process that is started again finds what was answered and what
is still open by asking the same questions; see `batch_store` for what it finds.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from ....errors import ServerError
from ...base import RowScores
from ...http.client import Client
from ...http.replies import BadReplyError
from .file_format import request_id
from .options import BatchOptions
from .queue import Desk, Question
from .store import BatchStore, Reply

if TYPE_CHECKING:
    import anyio

T = TypeVar("T")
Answer = tuple[int, RowScores]
Serve = Callable[[Client, Any], Awaitable[Sequence[Answer]]]

_ROWS = 256  # rows begun, and answers handed to them, at once
_TURNS = 8  # of the event loop, in which what belongs to one row asks its questions


@dataclass(eq=False)
class _Row:
    """A row that is begun and not taken care of: its questions so far, and how many of them wait."""

    ids: set[str] = field(default_factory=set)
    waits: int = 0


_ROW: ContextVar[_Row] = ContextVar("llmclf_batch_row")


class BatchRunner:
    """Serves rows one by one, and answers their questions by batches: it stands in for the `Client` that they ask.

    The store is touched within `take` alone, while its caller waits for it.

    Parameters
    ----------
    client : Client
        Carries what is said about files and batches, with its key, retries, budget and counts.
    store : BatchStore
    options : BatchOptions
    """

    def __init__(self, client: Client, store: BatchStore, options: BatchOptions) -> None:
        self._client = client
        self._store = store
        self._window = options.window
        self._max_rounds = options.max_rounds
        self._desk = Desk(client, store, options)
        self._is_opened = False
        self._taking: anyio.CancelScope | None = None
        self._rows: Iterator[Any] | None = None
        self._failure: Exception | None = None
        self._answers: list[tuple[_Row, Answer]] = []
        self._handed: list[_Row] = []
        self._holders: Counter[str] = Counter()  # rows not taken care of, by the answers that they needed
        self._n_rows = 0  # begun and not taken care of
        self._n_running = 0  # of these, not waiting for an answer
        self._n_steps = 0
        self._questions: dict[str, Question] = {}
        self._new: list[str] = []  # to be looked up
        self._ready: deque[str] = deque()  # to be handed to who waits

    def over(self, rows: Iterator[Any], serve: Serve, decided: Callable[[], None]) -> BatchRunner:
        """This runner, at work on these rows; once.

        Parameters
        ----------
        rows : iterator
            Units of one row each, read as far as the window allows.
        serve : coroutine function
            Makes the answer of a unit; what it asks `call` for is asked in batches.
        decided : callable
            Called before anything is submitted, to store choices that questions depend on.
        """
        self._rows, self._serve, self._decided = rows, serve, decided
        self._quiet, self._begun, self._done = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._quiet.set()
        return self

    async def run(self) -> None:
        """Hold the connection, and the rows that are under way, until all is taken or somebody cancels this."""
        import anyio

        try:
            async with self._client, anyio.create_task_group() as self._group:
                self._begun.set()
                await self._done.wait()
        finally:
            self._desk.close()
            self._done.set()
            self._begun.set()
            # Whoever was interrupted while waiting in there does not come back to touch the store.
            if self._taking is not None:
                self._taking.cancel()

    async def take(self) -> list[Answer]:
        """The answers that are there, at least one; none when there are no more. Those of the last call are taken care of."""
        import anyio

        await self._begun.wait()
        if not self._done.is_set():
            with anyio.CancelScope() as self._taking:
                return await self._take()
        return []

    # --- the side of the rows ------------------------------------------------------------------------------------------

    async def call(
        self,
        path: str,
        body: Mapping[str, Any],
        read: Callable[[Any], T],
        *,
        tokens_in: int = 0,
        tokens_out: int = 0,
    ) -> T:
        """As `Client.call`, with an answer that is there or comes with a batch.

        Raises
        ------
        ServerError
            The server refuses the request, or has not answered it in any of its batches.
        """
        row = _ROW.get()
        custom_id = request_id(path, body)
        if custom_id not in row.ids:
            row.ids.add(custom_id)
            self._holders[custom_id] += 1
        spoiled = ""
        while True:
            question = self._questions.get(custom_id)
            if question is None:
                question = self._questions[custom_id] = Question(path, body, (tokens_in, tokens_out), spoiled)
                self._new.append(custom_id)
            reply = await self._wait(row, question)
            if reply.error is not None:
                raise ServerError(reply.error, status=reply.status)
            try:
                return read(reply.body)
            except BadReplyError as error:
                spoiled = f"the server's reply cannot be used: {error}"

    async def _wait(self, row: _Row, question: Question) -> Reply:
        waiter: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        question.waiters.append((row, waiter))
        self._n_steps += 1
        row.waits += 1
        self._n_running -= row.waits == 1
        self._note_quiet()
        try:
            return await waiter
        finally:
            if waiter.cancelled():
                self._go_on(row)

    def _go_on(self, row: _Row) -> None:
        row.waits -= 1
        self._n_running += row.waits == 0
        self._note_quiet()

    def _note_quiet(self) -> None:
        if self._n_running:
            self._quiet.clear()
        else:
            self._quiet.set()

    async def _serve_row(self, row: _Row, unit: Any) -> None:
        _ROW.set(row)
        try:
            answers = await self._serve(self._client, unit)
            self._answers += [(row, answer) for answer in answers]
        except Exception as error:
            self._failure = self._failure or error
        finally:
            self._n_steps += 1
            self._n_running -= row.waits == 0
            self._note_quiet()

    # --- the side of who reads the answers -----------------------------------------------------------------------------

    async def _take(self) -> list[Answer]:
        self._take_care()
        if not self._is_opened:
            self._is_opened = True
            await self._desk.reopen()
        while True:
            await self._settle()
            if self._answers:
                taken, self._answers = self._answers, []
                self._handed = [row for row, _ in taken]
                return [answer for _, answer in taken]
            if self._hand_over() or self._look_up():
                continue
            failure = self._failure or self._desk.failure
            if failure is not None:
                raise failure
            self._decided()
            if await self._desk.submit(is_full=True) or self._begin_rows():
                continue
            if not self._questions:
                self._done.set()
                return []
            if not await self._desk.submit():
                await self._desk.poll()

    def _take_care(self) -> None:
        if not self._handed:
            return
        forgotten = []
        for row in self._handed:
            self._n_rows -= 1
            for custom_id in row.ids:
                self._holders[custom_id] -= 1
                if not self._holders[custom_id]:
                    del self._holders[custom_id]
                    forgotten.append(custom_id)
        self._handed = []
        self._store.noted(forgotten)

    async def _settle(self) -> None:
        """Wait until no row can go on by itself."""
        while True:
            await self._quiet.wait()
            before = self._n_steps
            for _ in range(_TURNS):
                await asyncio.sleep(0)
            if self._quiet.is_set() and self._n_steps == before:
                return

    def _begin_rows(self) -> bool:
        n = 0
        while self._rows is not None and n < _ROWS and self._n_rows < self._window:
            try:
                unit = next(self._rows, None)
            except Exception as error:
                self._failure, unit = error, None
            n += 1
            if unit is None:
                self._rows = None
                break
            self._n_rows += 1
            self._n_running += 1
            self._group.start_soon(self._serve_row, _Row(), unit)
        self._note_quiet()
        return n > 0

    def _look_up(self) -> bool:
        """Find out where questions stand: answered, in a batch, given up, or to be submitted."""
        names = [*self._new, *self._desk.returned]
        self._new, self._desk.returned = [], []
        found = {name: self._questions[name] for name in names if name in self._questions}
        spoiled = {name: question.spoiled for name, question in found.items() if question.spoiled}
        if spoiled:
            self._store.drop(spoiled)
        for name, place in self._store.places(list(found)).items():
            question = found[name]
            question.spoiled = ""
            if place.is_answered or question.error:
                self._ready.append(name)
            elif self._desk.works_on(place.n):
                pass
            elif not question.is_wanted:
                del self._questions[name]
            elif place.attempts > self._max_rounds:
                question.error = f"{place.attempts} batches have brought no answer; the last: {place.reason}"
                self._ready.append(name)
            else:
                self._desk.add(name, question)
        return bool(names)

    def _hand_over(self) -> bool:
        """Give answers to the rows that wait for them, a few at a time, since answers may be large."""
        names = [self._ready.popleft() for _ in range(min(_ROWS, len(self._ready)))]
        replies = self._store.replies([name for name in names if not self._questions[name].error])
        for name in names:
            question = self._questions[name]
            if question.error:
                reply = Reply(error=question.error, status=None)
            elif name in replies:
                reply = replies[name]
            else:
                question.spoiled = "the answer in the job's database is damaged"
                self._new.append(name)
                continue
            del self._questions[name]
            for row, waiter in question.waiters:
                if not waiter.done():
                    self._go_on(row)
                    waiter.set_result(reply)
        return bool(names)
