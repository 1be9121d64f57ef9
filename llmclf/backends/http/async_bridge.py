"""Asynchronous work for synchronous callers: an event loop in a thread of its own, workers, and a window of limited size."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import wait
from typing import Any, Protocol, TypeVar

from ...errors import ModelError
from .client import Client
from .transport import missing_packages

T = TypeVar("T")
U = TypeVar("U")

_BUFFER = 256  # units whose results may wait for a caller that reads them one by one


class AsyncBridge:
    """Runs asynchronous work on a client for synchronous callers, whatever event loop runs in their own thread.

    The event loop has a thread of its own for as long as anybody is asking. When the last caller is done, it ends and closes its
    connections. Several threads share it, and with it the limits.
    """

    def __init__(self, client: Client) -> None:
        try:
            from anyio.from_thread import BlockingPortalProvider
        except ImportError as error:
            raise missing_packages(error) from error

        self.client = client
        self._provider = BlockingPortalProvider()

    def call(self, function: Callable[[Client], Awaitable[T]]) -> T:
        """The result of one coroutine function."""

        async def run() -> T:
            failure: BaseException
            try:
                async with self.client:
                    return await function(self.client)
            except BaseExceptionGroup as errors:
                failure = _first(errors)
            raise failure

        with self._provider as portal:
            future = portal.start_task_soon(run)
            try:
                return future.result()
            finally:
                future.cancel()
                wait([future])

    def stream(
        self,
        units: Iterable[U],
        serve: Callable[[Client, U], Awaitable[Sequence[T]]],
        *,
        leader: bool = False,
    ) -> Iterator[T]:
        """Serve units of work with many workers and yield the results as they come.

        Parameters
        ----------
        units : iterable
            Read only as fast as the work goes on.
        serve : coroutine function
            Makes the results of one unit.
        leader : bool
            Finish the first unit before the others begin, so that the text they share is in the server's cache.
        """
        with contextlib.closing(self.groups(units, serve, leader=leader, ahead=_BUFFER)) as groups:
            for results in groups:
                yield from results

    def groups(
        self,
        units: Iterable[U],
        serve: Callable[[Client, U], Awaitable[Sequence[T]]],
        *,
        leader: bool = False,
        ahead: int = 0,
    ) -> Generator[list[T], None, None]:
        """As `stream`, but all results that are ready at once; they count as handled when the next are asked for.

        Parameters
        ----------
        ahead : int
            How many units may be done without their results being handled, besides those under way. With 0, units under way
            and units whose results could still be lost are together never more than the client's `concurrency`.
        """
        yield from self.drain(_Pump(self.client, iter(units), serve, leader, ahead))

    def drain(self, pump: Pump[T]) -> Generator[list[T], None, None]:
        """The results of a pump, until it has no more."""
        with self._provider as portal:
            future = portal.start_task_soon(pump.run)
            try:
                while results := portal.call(pump.take):
                    yield results
                future.result()
            finally:
                # Nothing stays under way, even if the caller stops reading or Ctrl-C stops the caller.
                future.cancel()
                wait([future])


class Pump(Protocol[T]):
    """Work on one side, a reader of its results on the other, both in the event loop of an `AsyncBridge`."""

    async def run(self) -> None:
        """Work until all is done, or until cancelled."""
        ...

    async def take(self) -> list[T]:
        """The results that are ready, at least one; none when there are no more. Those of the last call are handled."""
        ...


class _Pump:
    """Workers on one side, a reader on the other, and a window of units that were begun and are not handled yet."""

    def __init__(
        self,
        client: Client,
        units: Iterator[Any],
        serve: Callable[[Client, Any], Awaitable[Sequence[Any]]],
        leader: bool,
        ahead: int,
    ) -> None:
        self._client = client
        self._units = units
        self._serve = serve
        self._leader = leader
        self._buffer: list[Sequence[Any]] = []  # results of each unit that is done
        self._handed = 0  # units whose results the reader has, and may not have handled
        self._window = asyncio.Semaphore(client.options.concurrency + ahead)
        self._ready = asyncio.Event()
        self._done = False

    async def run(self) -> None:
        import anyio

        failure: BaseException | None = None
        try:
            async with self._client:
                if self._leader:
                    await self._work(limit=1)
                async with anyio.create_task_group() as group:
                    for _ in range(self._client.options.concurrency):
                        group.start_soon(self._work)
        except BaseExceptionGroup as errors:
            failure = _first(errors)
        finally:
            self._done = True
            self._ready.set()
        if failure is not None:
            raise failure

    async def take(self) -> list[Any]:
        """The results that are ready, at least one; none when all work is done. Those of the last call are handled."""
        for _ in range(self._handed):
            self._window.release()
        self._handed = 0
        while not self._buffer and not self._done:
            self._ready.clear()
            await self._ready.wait()
        taken, self._buffer = self._buffer, []
        self._handed = len(taken)
        return [result for results in taken for result in results]

    async def _work(self, limit: int | None = None) -> None:
        done = 0
        while limit is None or done < limit:
            await self._window.acquire()
            # The iterator may itself do work (read a table); it runs in one task at a time, since nothing here waits.
            unit = next(self._units, self)
            if unit is self:
                self._window.release()
                return
            results = await self._serve(self._client, unit)
            done += 1
            if results:
                self._buffer.append(results)
                self._ready.set()
            else:
                self._window.release()


async def together(*functions: Callable[[], Awaitable[T]]) -> list[T]:
    """The results of several coroutine functions run at the same time; the first error stops all of them."""
    import anyio

    results: dict[int, T] = {}

    async def call(number: int) -> None:
        results[number] = await functions[number]()

    failure: BaseException | None = None
    try:
        async with anyio.create_task_group() as group:
            for number in range(len(functions)):
                group.start_soon(call, number)
    except BaseExceptionGroup as errors:
        failure = _first(errors)
    if failure is not None:
        raise failure
    return [results[number] for number in range(len(functions))]


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error that stopped the workers: the first of llmclf's own, else the first."""
    flat: list[BaseException] = []
    waiting: list[BaseException] = [errors]
    while waiting:
        error = waiting.pop(0)
        if isinstance(error, BaseExceptionGroup):
            waiting += error.exceptions
        else:
            flat.append(error)
    return next((error for error in flat if isinstance(error, ModelError)), flat[0])
