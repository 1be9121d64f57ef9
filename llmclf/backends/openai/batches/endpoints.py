"""A provider's endpoints for batches, whatever its protocol: requests go up, a batch is made of them, its answers come down.

Every call but one may be repeated: two calls that create a batch may create two, and both cost. So that call is made once, and
where its outcome is unknown, the server's list of batches tells.
"""

from __future__ import annotations

import asyncio
import tempfile
import urllib.parse
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Collection, Iterator
from itertools import islice
from typing import Any, BinaryIO

from ....errors import ServerError
from ...http.client import Client, backoff
from ...http.file_transfers import Download
from ...http.reply_limits import MEGABYTE, ReplyLimits
from .file_format import BatchState, ResultLine
from .store import BatchRecord

_CHUNK = 256  # lines read at once
_PAGES = 100  # pages of the list of batches that are read, at most
_MAYBE = {408, 409, 425, 429}  # refusals after which the same call may pass
_UNLISTED = {404, 405, 501}


class BatchEndpoints(ABC):
    """The batches of one account.

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
        self.client = client
        self._report = report
        self._seconds = seconds
        self._folder = folder

    @property
    @abstractmethod
    def path(self) -> str:
        """The path of the batches."""

    @abstractmethod
    async def upload(self, file: BinaryIO, name: str) -> str:
        """Bring a request file to where a batch is made of it; returns the text by which the record knows it."""

    @abstractmethod
    def creation(self, record: BatchRecord) -> dict[str, Any]:
        """The body of the request that makes a batch of the uploaded requests."""

    @abstractmethod
    def read(self, reply: Any) -> BatchState:
        """The state of a batch."""

    @abstractmethod
    def read_page(self, reply: Any) -> tuple[list[BatchState], str]:
        """Some batches of the account, and the end of the path of the next page; empty where there is none."""

    @abstractmethod
    def is_made_of(self, batch: BatchState, record: BatchRecord) -> bool:
        """Whether a batch is that of a record whose creation was never confirmed."""

    @abstractmethod
    def content_path(self, batch: BatchState, file: str) -> str:
        """Where one of a batch's files of results is."""

    @abstractmethod
    def read_line(self, raw: bytes, limits: ReplyLimits) -> ResultLine | None:
        """One line of results; None for one that cannot be read."""

    async def create(self, record: BatchRecord, known: Collection[str]) -> BatchState:
        """Have the uploaded requests of a batch processed, once.

        Parameters
        ----------
        record : BatchRecord
        known : collection of str
            The ids of batches that belong to other records.

        Raises
        ------
        ServerError
            The server refuses (`may_exist` is false), or it is impossible to find out whether it accepted the batch.
        """
        retries = self.client.options.max_retries
        for attempt in range(retries + 1):
            try:
                return await self.client.call(self.path, self.creation(record), self.read, max_retries=0)
            except ServerError as error:
                if not may_exist(error):
                    raise
                failure = error
            await asyncio.sleep(max(self._seconds, backoff(attempt)))
            batch = await self.find(record, known)
            if batch is not None:
                return batch
        raise failure

    async def find(self, record: BatchRecord, known: Collection[str]) -> BatchState | None:
        """The server's batch for a record whose creation was never confirmed; None if it does not exist."""
        after = ""
        seen: set[str] = set()
        for _ in range(_PAGES):
            try:
                batches, next_page = await self.client.call(f"{self.path}?limit=100{after}", None, self.read_page)
            except ServerError as error:
                if error.status not in _UNLISTED:
                    raise
                self._report(
                    "the server does not list its batches: one whose creation was never confirmed may cost twice"
                )
                return None
            for batch in batches:
                if batch.id not in known and self.is_made_of(batch, record):
                    return batch
            if not next_page or {batch.id for batch in batches} <= seen:
                return None
            seen |= {batch.id for batch in batches}
            after = next_page
        return None

    async def state(self, batch_id: str) -> BatchState:
        """The state of a batch.

        Raises
        ------
        ServerError
        """
        try:
            return await self.client.call(f"{self.path}/{urllib.parse.quote(batch_id, safe='')}", None, self.read)
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
        """The lines of a batch's files of results, some at a time; None for a line that cannot be read.

        Files that the server no longer has are added to `gone`.
        """
        limits = self.client.reply_limits
        for file_id in batch.files:
            with tempfile.TemporaryFile(dir=self._folder) as file:
                try:
                    await self.client.call(self.content_path(batch, file_id), Download(file), lambda n_bytes: n_bytes)
                except ServerError as error:
                    if error.status != 404:
                        raise
                    self._report(f"batch {batch.id}: its file {file_id} is gone from the server")
                    gone.append(file_id)
                    continue
                file.seek(0)
                lines = _lines(file, limits.megabytes * MEGABYTE)
                while raw := list(islice(lines, _CHUNK)):
                    yield [self.read_line(line, limits) for line in raw if line.strip()]
                    await asyncio.sleep(0)  # other work on the same server gets its turn


def _lines(file: BinaryIO, most: int) -> Iterator[bytes]:
    """The lines of a file; of one that is longer than `most` bytes, the beginning."""
    while line := file.readline(most):
        yield line
        while len(line) == most and not line.endswith(b"\n"):
            line = file.readline(most)


def may_exist(error: ServerError) -> bool:
    """Whether a call that failed in this way may still have had its effect, or may have it the next time."""
    return error.status is None or error.status in _MAYBE or error.status >= 500 or error.status < 400
