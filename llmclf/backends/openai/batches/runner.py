"""A provider's batches instead of live requests: cheaper, up to a day late, and scored by the same routes.

The routes ask a client for one reply at a time. Here their requests are collected until all rows that are under way wait for an
answer. Then they go out as a batch, and when its answers come the routes continue from where they stopped, some of them with a
further request. A request's custom_id is a hash of its body, so a restarted process makes the same requests and finds which of
them are answered and which are open; `store` describes what it finds.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from ....errors import ServerError
from ...http.client import Client
from ...http.replies import BadReplyError
from ...requests import RowScores
from .endpoints import BatchEndpoints
from .file_batches import FileBatches
from .file_format import request_id
from .options import BatchOptions
from .queue import BatchQueue, PendingRequest
from .store import BatchStore, Reply

if TYPE_CHECKING:
    import anyio

T = TypeVar("T")
Answer = tuple[int, RowScores]
Serve = Callable[[Client, Any], Awaitable[Sequence[Answer]]]

_ROWS_AT_ONCE = 256  # rows that are begun, or get their answers, at once
_LOOP_TURNS = 8  # turns of the event loop in which the tasks of one row make their requests


@dataclass(eq=False)
class _Row:
    """A row that is under way: its requests so far, and how many of them wait."""

    ids: set[str] = field(default_factory=set)
    waits: int = 0


_ROW: ContextVar[_Row] = ContextVar("llmclf_batch_row")


class BatchRunner:
    """Serves rows one by one and answers their requests by batches, in place of the `Client` that they would ask live.

    The store is used only within `take`, while its caller waits.

    Parameters
    ----------
    client : Client
        Sends the requests about files and batches, with its key, retries, budget and counts.
    store : BatchStore
    options : BatchOptions
    kind : subclass of BatchEndpoints
        The provider's protocol for batches.
    """

    def __init__(
        self, client: Client, store: BatchStore, options: BatchOptions, kind: type[BatchEndpoints] = FileBatches
    ) -> None:
        self._client = client
        self._store = store
        self._window = options.window
        self._max_rounds = options.max_rounds
        self._queue = BatchQueue(client, store, options, kind)
        self._is_opened = False
        self._taking: anyio.CancelScope | None = None
        self._rows: Iterator[Any] | None = None
        self._failure: Exception | None = None
        self._answers: list[tuple[_Row, Answer]] = []
        self._taken: list[_Row] = []
        self._holders: Counter[str] = Counter()  # how many rows under way need each answer
        self._n_rows = 0  # under way: begun and not handled
        self._n_running = 0  # of these, not waiting for an answer
        self._n_steps = 0
        self._pending: dict[str, PendingRequest] = {}
        self._new: list[str] = []  # to be looked up
        self._ready: deque[str] = deque()  # answered, for the rows that wait

    def over(self, rows: Iterator[Any], serve: Serve, decided: Callable[[], None]) -> BatchRunner:
        """Set the rows to work on, once; returns the runner.

        Parameters
        ----------
        rows : iterator
            Units of one row each, read as far as the window allows.
        serve : coroutine function
            Makes the answer of a unit; what it asks `call` for is asked in batches.
        decided : callable
            Called before a batch is submitted, to store choices that requests depend on.
        """
        self._rows, self._serve, self._decided = rows, serve, decided
        self._quiet, self._begun, self._done = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._quiet.set()
        return self

    async def run(self) -> None:
        """Keep the connection and the rows under way alive until all answers are taken, or until cancelled."""
        import anyio

        try:
            async with self._client, anyio.create_task_group() as self._group:
                self._begun.set()
                await self._done.wait()
        finally:
            self._queue.close()
            self._done.set()
            self._begun.set()
            # A caller that was interrupted while it waited must not use the store any more.
            if self._taking is not None:
                self._taking.cancel()

    async def take(self) -> list[Answer]:
        """At least one answer, or none when there are no more. The answers of the last call count as handled."""
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
        """As `Client.call`, with an answer that is stored or comes with a batch.

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
            request = self._pending.get(custom_id)
            if request is None:
                request = self._pending[custom_id] = PendingRequest(path, body, (tokens_in, tokens_out), spoiled)
                self._new.append(custom_id)
            reply = await self._wait(row, request)
            if reply.error is not None:
                raise ServerError(reply.error, status=reply.status)
            try:
                return read(reply.body)
            except BadReplyError as error:
                spoiled = self._client.unusable(error, reply.body)

    async def _wait(self, row: _Row, request: PendingRequest) -> Reply:
        waiter: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        request.waiters.append((row, waiter))
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

    # --- the side of the reader ----------------------------------------------------------------------------------------

    async def _take(self) -> list[Answer]:
        self._forget_handled()
        if not self._is_opened:
            self._is_opened = True
            await self._queue.reopen()
        while True:
            await self._settle()
            if self._answers:
                taken, self._answers = self._answers, []
                self._taken = [row for row, _ in taken]
                return [answer for _, answer in taken]
            if self._deliver() or self._look_up():
                continue
            failure = self._failure or self._queue.failure
            if failure is not None:
                raise failure
            self._decided()
            if await self._queue.submit(is_full=True) or self._begin_rows():
                continue
            if not self._pending:
                self._done.set()
                return []
            if not await self._queue.submit():
                await self._queue.poll()

    def _forget_handled(self) -> None:
        if not self._taken:
            return
        handled = []
        for row in self._taken:
            self._n_rows -= 1
            for custom_id in row.ids:
                self._holders[custom_id] -= 1
                if not self._holders[custom_id]:
                    del self._holders[custom_id]
                    handled.append(custom_id)
        self._taken = []
        self._store.forget(handled)

    async def _settle(self) -> None:
        """Wait until every row waits for an answer."""
        while True:
            await self._quiet.wait()
            before = self._n_steps
            for _ in range(_LOOP_TURNS):
                await asyncio.sleep(0)
            if self._quiet.is_set() and self._n_steps == before:
                return

    def _begin_rows(self) -> bool:
        n = 0
        while self._rows is not None and n < _ROWS_AT_ONCE and self._n_rows < self._window:
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
        """Sort requests by their state: answered, in a batch, given up, or to be submitted."""
        names = [*self._new, *self._queue.returned]
        self._new, self._queue.returned = [], []
        wanted = {name: self._pending[name] for name in names if name in self._pending}
        spoiled = {name: request.spoiled for name, request in wanted.items() if request.spoiled}
        if spoiled:
            self._store.drop(spoiled)
        for name, state in self._store.request_states(list(wanted)).items():
            request = wanted[name]
            request.spoiled = ""
            if state.is_answered or request.error:
                self._ready.append(name)
            elif self._queue.works_on(state.n):
                pass
            elif not request.is_wanted:
                del self._pending[name]
            elif state.attempts > self._max_rounds:
                request.error = f"{state.attempts} batches have brought no answer; the last: {state.reason}"
                self._ready.append(name)
            else:
                self._queue.add(name, request)
        return bool(names)

    def _deliver(self) -> bool:
        """Give answers to the rows that wait for them, a few at a time, because answers may be large."""
        names = [self._ready.popleft() for _ in range(min(_ROWS_AT_ONCE, len(self._ready)))]
        replies = self._store.replies([name for name in names if not self._pending[name].error])
        for name in names:
            request = self._pending[name]
            if request.error:
                reply = Reply(error=request.error, status=None)
            elif name in replies:
                reply = replies[name]
            else:
                request.spoiled = "the answer in the job's database is damaged"
                self._new.append(name)
                continue
            del self._pending[name]
            for row, waiter in request.waiters:
                if not waiter.done():
                    self._go_on(row)
                    waiter.set_result(reply)
        return bool(names)
