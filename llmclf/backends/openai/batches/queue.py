"""The queue of requests that wait for a batch, the batches that are open, and the budget that is left for them."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO

from ....errors import ServerError
from ...http.client import Client
from ...http.usage import cost_of
from .endpoints import BatchEndpoints, may_exist
from .file_batches import FileBatches
from .file_format import BatchState, request_line
from .options import BatchOptions
from .results import BatchResults
from .store import CREATING, OPEN, BatchRecord, BatchStore, Reply, Tokens

_MAX_SHORTFALLS = 3  # what is then still missing of an output is asked for again
_MAX_FAILED_POLLS = 20  # polls of a batch that may fail one after the other
_TOO_MANY = "token_limit_exceeded"  # the code of a server that has too much in its queue


@dataclass(eq=False)
class PendingRequest:
    """A request that rows wait for.

    Attributes
    ----------
    path, body, tokens
        The request, and how many tokens it may read and write at most.
    spoiled : str
        Why the answer that is stored cannot be used.
    error : str
        Why there will be no answer.
    waiters : list of (Any, Future)
        The rows that wait, each with the future of its reply.
    """

    path: str
    body: Mapping[str, Any]
    tokens: Tokens
    spoiled: str = ""
    error: str = ""
    waiters: list[tuple[Any, asyncio.Future[Reply]]] = field(default_factory=list)

    @property
    def is_wanted(self) -> bool:
        return any(not waiter.done() for _, waiter in self.waiters)


@dataclass(eq=False)
class _OpenBatch:
    """A batch that the server is processing."""

    record: BatchRecord
    worst: float
    due: float  # time of the next poll
    shown: str = ""  # the line that was last reported
    misses: int = 0  # polls that failed, one after the other
    shortfalls: int = 0  # times that its files had fewer answers than it counts
    cost: float = 0.0  # of the answers that were fetched before fetching failed


class BatchQueue:
    """Submits queued requests in batches and fetches their results.

    Attributes
    ----------
    returned : list of str
        Requests whose state has changed; the store has the new one.
    failure : Exception or None
        Why nothing more can be asked.
    """

    def __init__(
        self, client: Client, store: BatchStore, options: BatchOptions, kind: type[BatchEndpoints] = FileBatches
    ) -> None:
        self.returned: list[str] = []
        self.failure: Exception | None = None
        self._client = client
        self._store = store
        self._options = options
        self._report = options.report or (lambda _: None)
        self._endpoints = kind(client, self._report, options.poll_seconds, options.folder)
        self._queue: dict[str, dict[str, PendingRequest]] = {}
        self._open: list[_OpenBatch] = []
        self._parallel = options.parallel

    def add(self, custom_id: str, request: PendingRequest) -> None:
        """Queue a request."""
        self._queue.setdefault(request.path, {})[custom_id] = request

    def works_on(self, n: int | None) -> bool:
        """Whether the batch with this number in the store is open."""
        return any(batch.record.n == n for batch in self._open)

    def close(self) -> None:
        """Release the budget that was set aside; the batches stay open on the server."""
        for batch in self._open:
            self._client.settle(batch.worst, batch.cost)
        self._open = []

    async def reopen(self) -> None:
        """Continue with the batches that an earlier process has left open."""
        usage = self._client.usage
        for name, value in self._store.usage().items():
            # It was paid for, and no caller has recorded it.
            if getattr(usage, name) is not None:
                setattr(usage, name, getattr(usage, name) + value)
        for record in self._store.unfinished():
            if record.status == CREATING:
                batch = await self._endpoints.find(record, self._known())
                if batch is not None:
                    self._store.created(record.n, batch.id)
                    record = replace(record, status=OPEN, batch_id=batch.id)
            if record.status == OPEN:
                worst = self._cost(self._store.requests(record.n).values())
                self._client.hold(worst)
                self._open.append(_OpenBatch(record, worst, due=0.0))
                self._report(f"batch {record.batch_id}: taken up again")
            else:
                self._store.release(record.n)

    async def submit(self, *, is_full: bool = False) -> bool:
        """Submit a batch, if another one may be open; with `is_full`, only if the batch is full.

        Raises
        ------
        BudgetError
            Not even one request can be paid for.
        ServerError
        """
        if not self._queue or len(self._open) >= self._parallel:
            return False
        path = max(self._queue, key=lambda name: len(self._queue[name]))
        queue = self._queue[path]
        if is_full and len(queue) < self._options.max_requests:
            return False
        with tempfile.TemporaryFile(dir=self._options.folder) as file:
            chosen = self._write(queue, path, file)
            if not queue:
                del self._queue[path]
            if chosen:
                await self._send(path, chosen, file)
            elif queue and self._open:
                return False  # the open batches may cost less than was set aside for them
            elif queue:
                # This raises, or waits for live requests.
                worst = await self._client.reserve(*next(iter(queue.values())).tokens)
                self._client.settle(worst, 0.0)
        return True

    async def poll(self) -> None:
        """Wait until the next batch is due and poll it; fetch its answers if it is over."""
        open_batch = min(self._open, key=lambda batch: batch.due)
        await asyncio.sleep(open_batch.due - asyncio.get_running_loop().time())
        open_batch.due = self._later()
        try:
            batch = await self._endpoints.state(open_batch.record.batch_id)
            if batch.is_over and not (batch.lacks_answers and open_batch.misses < _MAX_FAILED_POLLS):
                await self._collect(open_batch, batch)
                return
        except ServerError as error:
            if not may_exist(error) or open_batch.misses >= _MAX_FAILED_POLLS:
                raise
            open_batch.misses += 1
            self._report(f"batch {open_batch.record.batch_id}: {error}; it will be polled again")
            return
        open_batch.misses = open_batch.misses + 1 if batch.lacks_answers else 0
        failed = f", {batch.failed} failed" if batch.failed else ""
        shown = f"batch {batch.id}: {batch.status}, {batch.done} of {batch.total} done{failed}"
        if shown != open_batch.shown:
            open_batch.shown = shown
            self._report(shown)

    def _write(self, queue: dict[str, PendingRequest], path: str, file: BinaryIO) -> dict[str, Tokens]:
        """Move requests from a queue to a file as long as they fit into the file and the rest of the budget."""
        chosen: dict[str, Tokens] = {}
        n_bytes, left = 0, self._client.left
        while queue and len(chosen) < self._options.max_requests:
            custom_id, request = next(iter(queue.items()))
            line = request_line(custom_id, path, request.body)
            cost = self._cost([request.tokens])
            if len(line) > self._options.max_bytes:
                request.error = f"the request has {len(line)} bytes, more than max_bytes={self._options.max_bytes}"
            if request.error or not request.is_wanted:
                self.returned.append(custom_id)
            elif n_bytes + len(line) > self._options.max_bytes or cost > left:
                break
            else:
                chosen[custom_id] = request.tokens
                n_bytes += len(line)
                left -= cost
                file.write(line)
            del queue[custom_id]
        file.flush()
        return chosen

    async def _send(self, path: str, chosen: Mapping[str, Tokens], file: BinaryIO) -> None:
        worst = self._cost(chosen.values())
        self._client.hold(worst)
        try:
            record = self._store.begin(path, chosen)
            file_id = await self._endpoints.upload(file, f"{record.mark}.jsonl")
            self._store.uploaded(record.n, file_id)
            record = replace(record, status=CREATING, file_id=file_id)
            try:
                batch = await self._endpoints.create(record, self._known())
            except ServerError as error:
                if not may_exist(error):
                    self._store.release(record.n)
                raise
            self._store.created(record.n, batch.id)
        except BaseException:
            self._client.settle(worst, 0.0)
            raise
        record = replace(record, status=OPEN, batch_id=batch.id)
        self._open.append(_OpenBatch(record, worst, due=self._later()))
        self._report(f"batch {batch.id}: submitted with {len(chosen)} requests to {path}")

    async def _collect(self, open_batch: _OpenBatch, batch: BatchState) -> None:
        """Store all results of a batch, and return its requests."""
        requests = self._store.requests(open_batch.record.n)
        results = BatchResults(self._client, self._store, requests)
        try:
            gone: list[str] = []
            async with aclosing(self._endpoints.result_lines(batch, gone)) as parts:
                async for lines in parts:
                    results.add(lines)
            n_counted = min(batch.done + batch.failed, len(requests))
            is_empty, may_heal = not results.n_mentioned, open_batch.shortfalls < _MAX_SHORTFALLS
            if batch.files and not gone and results.n_mentioned < n_counted and (is_empty or may_heal):
                # Something else has come in the file's place, and what is lost would be paid for again.
                open_batch.shortfalls += 1
                raise ServerError(f"its files have {results.n_mentioned} of {n_counted} answers")
            # A batch that was refused as a whole has not tried its requests.
            is_attempt = batch.status != "failed" or bool(batch.files)
            n_left = results.close(open_batch.record.n, batch.status, is_attempt=is_attempt)
        finally:
            open_batch.cost += results.cost
        self._open.remove(open_batch)
        self._client.settle(open_batch.worst, open_batch.cost)
        self.returned += requests
        odd = f"; of its lines {results.oddities}" if results.oddities else ""
        self._report(f"batch {batch.id}: {batch.status}, {len(requests) - n_left} of {len(requests)} answered{odd}")
        self.failure = self.failure or results.final
        if is_attempt:
            return
        if batch.code == _TOO_MANY and self._open:
            self._parallel = len(self._open)
            return
        cure = "; give fewer requests to a batch (max_requests=)" if batch.code == _TOO_MANY else ""
        message = ": ".join(filter(None, [batch.code, batch.message]))
        self.failure = self.failure or ServerError(
            f"the server refused the batch {batch.id}: {message or 'it does not say why'}{cure}", is_final=True
        )

    def _known(self) -> set[str]:
        """The ids of the batches that belong to records."""
        return {record.batch_id for record in self._store.unfinished() if record.batch_id}

    def _later(self) -> float:
        return asyncio.get_running_loop().time() + self._options.poll_seconds

    def _cost(self, tokens: Iterable[Tokens]) -> float:
        """What requests cost at most."""
        return sum(cost_of(self._client.options.price, *pair) or 0.0 for pair in tokens)
