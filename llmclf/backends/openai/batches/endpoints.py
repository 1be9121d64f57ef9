"""A provider's endpoints for files and batches: a request file goes up, a batch is made of it, its answers come down.

Every call but one may be repeated: two calls that create a batch may create two, and both cost. So that call is made once, and
where its outcome is unknown, the server's list of batches tells.
"""

from __future__ import annotations

import asyncio
import tempfile
import urllib.parse
from collections.abc import AsyncGenerator, Callable, Iterator
from itertools import islice
from typing import BinaryIO

from ....errors import ServerError
from ...http.client import Client, backoff
from ...http.file_transfers import Download, Upload
from ...http.replies import mapping, sequence
from ...http.reply_limits import MEGABYTE
from .file_format import MARK, BatchState, ResultLine, read_id, read_result_line
from .store import BatchRecord

_PAGES = 100  # pages of the list of batches that are read, at most
_PAGE = 100
_CHUNK = 256  # lines read at once
_MAYBE = {408, 409, 425, 429}  # refusals after which the same call may pass
_UNLISTED = {404, 405, 501}


class BatchEndpoints:
    """The files and batches of one account.

    Parameters
    ----------
    client : Client
    report : callable
        Called with each line that a user should see.
    seconds : float
        How long to wait before looking for a batch that may have been created.
    folder : str, optional
        Where answers are stored while they are read, in files without a name.
    """

    def __init__(self, client: Client, report: Callable[[str], None], seconds: float, folder: str | None) -> None:
        self._client = client
        self._report = report
        self._seconds = seconds
        self._folder = folder

    async def upload(self, file: BinaryIO, name: str) -> str:
        """Send a request file; returns its id."""
        file_id: str = await self._client.call("/files", Upload(file, name, "batch"), read_id)
        return file_id

    async def create(self, record: BatchRecord) -> BatchState:
        """Have the uploaded requests of a batch processed, once.

        Raises
        ------
        ServerError
            The server refuses (`may_exist` is false), or it is impossible to find out whether it accepted the batch.
        """
        body = {
            "input_file_id": record.file_id,
            "endpoint": f"/v1{record.path}",
            "completion_window": "24h",
            "metadata": {MARK: record.mark},
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
            batch = await self.find(record)
            if batch is not None:
                return batch
        raise failure

    async def find(self, record: BatchRecord) -> BatchState | None:
        """The server's batch for a record whose creation was never confirmed; None if it does not exist."""
        after = ""
        seen: set[str] = set()
        for _ in range(_PAGES):
            try:
                batches, has_more = await self._client.call(f"/batches?limit={_PAGE}{after}", None, self._read_page)
            except ServerError as error:
                if error.status not in _UNLISTED:
                    raise
                self._report(
                    "the server does not list its batches: one whose creation was never confirmed may cost twice"
                )
                return None
            for batch in batches:
                if batch.mark == record.mark or batch.input_file_id == record.file_id:
                    return batch
            if not has_more or {batch.id for batch in batches} <= seen:
                return None
            seen |= {batch.id for batch in batches}
            after = f"&after={urllib.parse.quote(batches[-1].id, safe='')}"
        return None

    async def state(self, batch_id: str) -> BatchState:
        """The state of a batch.

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
                f"the server does not know the batch {batch_id!r}, which this job has submitted ({error}); use the key and the "
                "address that it was submitted with",
                status=404,
                is_final=True,
            ) from None

    async def result_lines(self, batch: BatchState, gone: list[str]) -> AsyncGenerator[list[ResultLine | None], None]:
        """The lines of a batch's output and error files, some at a time; None for a line that cannot be read.

        Files that the server no longer has are added to `gone`.
        """
        limits = self._client.reply_limits
        for file_id in batch.files:
            with tempfile.TemporaryFile(dir=self._folder) as file:
                try:
                    path = f"/files/{urllib.parse.quote(file_id, safe='')}/content"
                    await self._client.call(path, Download(file), lambda n_bytes: n_bytes)
                except ServerError as error:
                    if error.status != 404:
                        raise
                    self._report(f"batch {batch.id}: its file {file_id} is gone from the server")
                    gone.append(file_id)
                    continue
                file.seek(0)
                lines = _lines(file, limits.megabytes * MEGABYTE)
                while raw := list(islice(lines, _CHUNK)):
                    yield [read_result_line(line, limits) for line in raw if line.strip()]
                    await asyncio.sleep(0)  # other work on the same server gets its turn

    def _read(self, reply: object) -> BatchState:
        return BatchState.read(self._client.without_key(reply))

    def _read_page(self, reply: object) -> tuple[list[BatchState], bool]:
        page = mapping(reply, "the list of batches")
        batches = [self._read(item) for item in sequence(page.get("data"), "data")]
        return batches, bool(page.get("has_more")) and bool(batches)


def _lines(file: BinaryIO, most: int) -> Iterator[bytes]:
    """The lines of a file; of one that is longer than `most` bytes, the beginning."""
    while line := file.readline(most):
        yield line
        while len(line) == most and not line.endswith(b"\n"):
            line = file.readline(most)


def may_exist(error: ServerError) -> bool:
    """Whether a call that failed in this way may still have had its effect, or may have it the next time."""
    return error.status is None or error.status in _MAYBE or error.status >= 500 or error.status < 400
