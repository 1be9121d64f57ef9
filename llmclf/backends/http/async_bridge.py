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

_BUFFER = 256  # units whose results may wait for whoever reads them one by one


class Engine:
    """Runs asynchronous work on a client for synchronous callers, whatever loop may run in their own thread.

    The event loop lives in a thread of its own as long as somebody is asking; with the last of them it ends, connections and
    all. Several threads share it, and so share the limits.
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
            Read only as fast as it is worked on.
        serve : coroutine function
            Makes the results of one unit.
        leader : bool
            Finish the first unit before the others begin, so that what all share is in the server's cache.
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
        """As `stream`, but all results that are there at once; they count as taken care of when the next are asked for.

        Parameters
        ----------
        ahead : int
            Units that may be done, and their results not taken care of, besides those under way. With 0, units under way and
            units whose results could still be lost are together never more than the client's `concurrency`.
        """
        yield from self.drain(_Pump(self.client, iter(units), serve, leader, ahead))

    def drain(self, pump: Pump[T]) -> Generator[list[T], None, None]:
        """What a pump gives, until it gives nothing."""
        with self._provider as portal:
            future = portal.start_task_soon(pump.run)
            try:
                while results := portal.call(pump.take):
                    yield results
                future.result()
            finally:
                # Also when the caller stops listening, or Ctrl-C stops the caller: nothing stays under way.
                future.cancel()
                wait([future])


class Pump(Protocol[T]):
    """Work on one side, who reads its results on the other; both in the event loop of an `Engine`."""

    async def run(self) -> None:
        """Work until all is done, or until cancelled."""
        ...

    async def take(self) -> list[T]:
        """The results that are there, at least one; none when there are no more. Those of the last call are taken care of."""
        ...


class _Pump:
    """Workers on one side, a reader on the other, and a window of units that were begun and are not taken care of."""

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
        self._handed = 0  # units whose results the reader has, and may not have taken care of
        self._window = asyncio.Semaphore(client.options.concurrency + ahead)
        self._ready = asyncio.Event()
        self._done = False

    async def run(self) -> None:
        import anyio

        failure: BaseException | None = None
        try:
            async with self._client:
                if self._leader:
                    await self._work(most=1)
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
        """The results that are there, at least one; none when all work is done. Those of the last call are taken care of."""
        for _ in range(self._handed):
            self._window.release()
        self._handed = 0
        while not self._buffer and not self._done:
            self._ready.clear()
            await self._ready.wait()
        taken, self._buffer = self._buffer, []
        self._handed = len(taken)
        return [result for results in taken for result in results]

    async def _work(self, most: int | None = None) -> None:
        done = 0
        while most is None or done < most:
            await self._window.acquire()
            # The iterator may do work of its own (read a table); it runs in one task at a time, since nothing here waits.
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

    async def one(place: int) -> None:
        results[place] = await functions[place]()

    failure: BaseException | None = None
    try:
        async with anyio.create_task_group() as group:
            for place in range(len(functions)):
                group.start_soon(one, place)
    except BaseExceptionGroup as errors:
        failure = _first(errors)
    if failure is not None:
        raise failure
    return [results[place] for place in range(len(functions))]


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """What the workers stopped for: the first error that is ours, else the first."""
    flat: list[BaseException] = []
    waiting: list[BaseException] = [errors]
    while waiting:
        error = waiting.pop(0)
        if isinstance(error, BaseExceptionGroup):
            waiting += error.exceptions
        else:
            flat.append(error)
    return next((error for error in flat if isinstance(error, ModelError)), flat[0])
