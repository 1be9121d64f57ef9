"""Questions go out in batches and come to an end: a queue, the batches that are open, and what is left of the budget."""

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
from .endpoints import BatchFiles, may_exist
from .file_format import Batch, request_line
from .options import BatchOptions
from .results import Harvest
from .store import CREATING, OPEN, BatchStore, Order, Reply, Tokens

_PATIENCE = 20  # looks at a batch that may fail one after the other
_TOO_MANY = "token_limit_exceeded"  # what a server says where too much is queued already


@dataclass(eq=False)
class Question:
    """A request that rows wait for.

    Attributes
    ----------
    path, body, tokens
        What is asked, and the most tokens that it may read and write.
    spoiled : str
        Why the answer that is there cannot be used.
    error : str
        Why there will be none.
    waiters : list of (Any, Future)
        Who waits, and for what.
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
class _Open:
    """A batch that the server works on."""

    order: Order
    worst: float
    due: float  # when it is looked at
    shown: str = ""  # what was last reported
    misses: int = 0  # looks that failed, one after the other
    cost: float = 0.0  # of the answers that were fetched before fetching failed


class Desk:
    """Submits what is queued and fetches what comes of it.

    Attributes
    ----------
    returned : list of str
        Requests of which there is something new; the store says what.
    failure : Exception or None
        Why nothing more can be asked.
    """

    def __init__(self, client: Client, store: BatchStore, options: BatchOptions) -> None:
        self.returned: list[str] = []
        self.failure: Exception | None = None
        self._client = client
        self._store = store
        self._options = options
        self._report = options.report or (lambda _: None)
        self._files = BatchFiles(client, self._report, options.poll_seconds, options.folder)
        self._queue: dict[str, dict[str, Question]] = {}
        self._open: list[_Open] = []
        self._parallel = options.parallel

    def add(self, custom_id: str, question: Question) -> None:
        """Queue a question."""
        self._queue.setdefault(question.path, {})[custom_id] = question

    def works_on(self, n: int | None) -> bool:
        """Whether a batch of the store is open."""
        return any(batch.order.n == n for batch in self._open)

    def close(self) -> None:
        """Let go of the budget that was set aside; batches stay open."""
        for batch in self._open:
            self._client.settle(batch.worst, batch.cost)
        self._open = []

    async def reopen(self) -> None:
        """Take up what an earlier process has left."""
        usage = self._client.usage
        for name, value in self._store.usage().items():
            # Somebody has paid for it, and nobody has noted it.
            if getattr(usage, name) is not None:
                setattr(usage, name, getattr(usage, name) + value)
        for order in self._store.orders():
            if order.status == CREATING:
                batch = await self._files.find(order)
                if batch is not None:
                    self._store.created(order.n, batch.id)
                    order = replace(order, status=OPEN, batch_id=batch.id)
            if order.status == OPEN:
                worst = self._cost(self._store.requests(order.n).values())
                self._client.hold(worst)
                self._open.append(_Open(order, worst, due=0.0))
                self._report(f"batch {order.batch_id}: taken up again")
            else:
                self._store.release(order.n)

    async def submit(self, *, is_full: bool = False) -> bool:
        """Submit a batch, where one may be open besides the others; with `is_full` only if nothing more fits into it.

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
                return False  # what is under way may cost less than it could
            elif queue:
                # This raises, or waits for live requests.
                worst = await self._client.reserve(*next(iter(queue.values())).tokens)
                self._client.settle(worst, 0.0)
        return True

    async def poll(self) -> None:
        """Look at the batch that was longest not looked at, when its time has come; fetch its answers if it is over."""
        open_one = min(self._open, key=lambda batch: batch.due)
        await asyncio.sleep(open_one.due - asyncio.get_running_loop().time())
        open_one.due = self._later()
        try:
            batch = await self._files.state(open_one.order.batch_id)
            if batch.is_over and not (batch.lacks_answers and open_one.misses < _PATIENCE):
                await self._collect(open_one, batch)
                return
        except ServerError as error:
            if not may_exist(error) or open_one.misses >= _PATIENCE:
                raise
            open_one.misses += 1
            self._report(f"batch {open_one.order.batch_id}: {error}; it is looked at again")
            return
        open_one.misses = open_one.misses + 1 if batch.lacks_answers else 0
        failed = f", {batch.failed} failed" if batch.failed else ""
        shown = f"batch {batch.id}: {batch.status}, {batch.done} of {batch.total} done{failed}"
        if shown != open_one.shown:
            open_one.shown = shown
            self._report(shown)

    def _write(self, queue: dict[str, Question], path: str, file: BinaryIO) -> dict[str, Tokens]:
        """Move questions from a queue to a file while they fit: into the file, and into what is left of the budget."""
        chosen: dict[str, Tokens] = {}
        n_bytes, left = 0, self._client.left
        while queue and len(chosen) < self._options.max_requests:
            custom_id, question = next(iter(queue.items()))
            line = request_line(custom_id, path, question.body)
            cost = self._cost([question.tokens])
            if len(line) > self._options.max_bytes:
                question.error = f"the request has {len(line)} bytes, more than max_bytes={self._options.max_bytes}"
            if question.error or not question.is_wanted:
                self.returned.append(custom_id)
            elif n_bytes + len(line) > self._options.max_bytes or cost > left:
                break
            else:
                chosen[custom_id] = question.tokens
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
            order = self._store.begin(path, chosen)
            file_id = await self._files.upload(file, f"{order.mark}.jsonl")
            self._store.uploaded(order.n, file_id)
            order = replace(order, status=CREATING, file_id=file_id)
            try:
                batch = await self._files.create(order)
            except ServerError as error:
                if not may_exist(error):
                    self._store.release(order.n)
                raise
            self._store.created(order.n, batch.id)
        except BaseException:
            self._client.settle(worst, 0.0)
            raise
        order = replace(order, status=OPEN, batch_id=batch.id)
        self._open.append(_Open(order, worst, due=self._later()))
        self._report(f"batch {batch.id}: submitted with {len(chosen)} requests to {path}")

    async def _collect(self, open_one: _Open, batch: Batch) -> None:
        """Take in all that came of a batch, and give its requests back."""
        requests = self._store.requests(open_one.order.n)
        harvest = Harvest(self._client, self._store, requests)
        try:
            async with aclosing(self._files.lines(batch)) as parts:
                async for lines in parts:
                    harvest.add(lines)
            # One that was refused as a whole has not tried its requests.
            is_attempt = batch.status != "failed" or bool(batch.files)
            n_left = harvest.close(open_one.order.n, batch.status, is_attempt=is_attempt)
        finally:
            open_one.cost += harvest.cost
        self._open.remove(open_one)
        self._client.settle(open_one.worst, open_one.cost)
        self.returned += requests
        odd = f"; of its lines {harvest.oddities}" if harvest.oddities else ""
        self._report(f"batch {batch.id}: {batch.status}, {len(requests) - n_left} of {len(requests)} answered{odd}")
        self.failure = self.failure or harvest.final
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

    def _later(self) -> float:
        return asyncio.get_running_loop().time() + self._options.poll_seconds

    def _cost(self, tokens: Iterable[Tokens]) -> float:
        """What requests could cost at most."""
        return sum(cost_of(self._client.options.price, *pair) or 0.0 for pair in tokens)
