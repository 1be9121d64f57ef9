"""A provider's endpoints for files and batches: a request file goes up, a batch is made of it, its answers come down.

Every call may be repeated but one: two calls that create a batch may create two, and both cost. So that call is made once, and
where its outcome is not known, the server's list of batches tells.
"""

from __future__ import annotations

import asyncio
import tempfile
import urllib.parse
from collections.abc import AsyncGenerator, Callable
from itertools import islice
from typing import BinaryIO

from ....errors import ServerError
from ...http.client import Client, backoff
from ...http.file_transfers import Download, Upload
from ...http.replies import mapping, sequence
from .file_format import MARK, Batch, Line, read_id, read_line
from .store import Order

_PAGES = 100  # most pages of the list of batches that are read
_PAGE = 100
_CHUNK = 256  # lines read at once
_MAYBE = {408, 409, 425, 429}  # refusals after which the same call may pass
_UNLISTED = {404, 405, 501}


class BatchFiles:
    """The files and batches of one account.

    Parameters
    ----------
    client : Client
    report : callable
        Told what a user should know, a line at a time.
    seconds : float
        How long to wait before looking for a batch that may have been created.
    folder : str, optional
        Where answers are kept while they are read; they have no name there.
    """

    def __init__(self, client: Client, report: Callable[[str], None], seconds: float, folder: str | None) -> None:
        self._client = client
        self._report = report
        self._seconds = seconds
        self._folder = folder

    async def upload(self, file: BinaryIO, name: str) -> str:
        """Send a request file; returns its id."""
        found: str = await self._client.call("/files", Upload(file, name, "batch"), read_id)
        return found

    async def create(self, order: Order) -> Batch:
        """Have the uploaded requests of an order worked on, once.

        Raises
        ------
        ServerError
            The server refuses (`may_exist` is false), or it cannot be found out whether it took the batch.
        """
        body = {
            "input_file_id": order.file_id,
            "endpoint": f"/v1{order.path}",
            "completion_window": "24h",
            "metadata": {MARK: order.mark},
        }
        retries = self._client.options.max_retries
        for attempt in range(retries + 1):
            try:
                return await self._client.call("/batches", body, self._read, max_retries=0)
            except ServerError as error:
                if not may_exist(error):
                    raise
                failure = error
            await asyncio.sleep(max(self._seconds, backoff(attempt)))
            found = await self.find(order)
            if found is not None:
                return found
        raise failure

    async def find(self, order: Order) -> Batch | None:
        """The batch of an order whose creation was not heard of; None if there is none."""
        after = ""
        seen: set[str] = set()
        for _ in range(_PAGES):
            try:
                batches, has_more = await self._client.call(f"/batches?limit={_PAGE}{after}", None, self._read_page)
            except ServerError as error:
                if error.status not in _UNLISTED:
                    raise
                self._report("the server does not list its batches: one whose creation was not heard of may cost twice")
                return None
            for batch in batches:
                if batch.mark == order.mark or batch.input_file_id == order.file_id:
                    return batch
            if not has_more or {batch.id for batch in batches} <= seen:
                return None
            seen |= {batch.id for batch in batches}
            after = f"&after={urllib.parse.quote(batches[-1].id, safe='')}"
        return None

    async def state(self, batch_id: str) -> Batch:
        """How far a batch is.

        Raises
        ------
        ServerError
        """
        try:
            return await self._client.call(f"/batches/{urllib.parse.quote(batch_id, safe='')}", None, self._read)
        except ServerError as error:
            if error.status != 404:
                raise
            raise ServerError(
                f"the server knows no batch {batch_id!r}, which this job has submitted ({error}); use the key and the address "
                "that it was submitted with",
                status=404,
                is_final=True,
            ) from None

    async def lines(self, batch: Batch) -> AsyncGenerator[list[Line | None], None]:
        """The lines of a batch's output and error files, some at a time; None for those that are none."""
        for file_id in batch.files:
            with tempfile.TemporaryFile(dir=self._folder) as file:
                try:
                    path = f"/files/{urllib.parse.quote(file_id, safe='')}/content"
                    await self._client.call(path, Download(file), lambda n_bytes: n_bytes)
                except ServerError as error:
                    if error.status != 404:
                        raise
                    self._report(f"batch {batch.id}: its file {file_id} is gone from the server")
                    continue
                file.seek(0)
                while raw := list(islice(file, _CHUNK)):
                    yield [read_line(line) for line in raw if line.strip()]
                    await asyncio.sleep(0)  # others at work on the same server get their turn

    def _read(self, reply: object) -> Batch:
        return Batch.read(self._client.without_key(reply))

    def _read_page(self, reply: object) -> tuple[list[Batch], bool]:
        found = mapping(reply, "the list of batches")
        batches = [self._read(item) for item in sequence(found.get("data"), "data")]
        return batches, bool(found.get("has_more")) and bool(batches)


def may_exist(error: ServerError) -> bool:
    """Whether a call that failed so may have had its effect all the same, or may have it the next time."""
    return error.status is None or error.status in _MAYBE or error.status >= 500 or error.status < 400
