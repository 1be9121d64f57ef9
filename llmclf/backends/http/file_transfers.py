"""Files sent to a server and received from it: never whole in memory, and with as much time as their size needs."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from ...errors import StoreError

if TYPE_CHECKING:
    import httpx2

_SLOWEST = 100_000  # bytes a second that a file moves at least


@dataclass(frozen=True)
class Upload:
    """A file, sent as a form, for a request's body.

    Attributes
    ----------
    file : binary file
        With a size that the system knows; sent from its beginning at each attempt.
    name, purpose : str
    """

    file: BinaryIO
    name: str
    purpose: str


@dataclass(frozen=True)
class Download:
    """A file that the reply is written to as it comes, given instead of a request's body; the call then returns its size.

    Attributes
    ----------
    file : binary file
        Begun anew at each attempt.
    """

    file: BinaryIO


async def send(http: httpx2.AsyncClient, url: httpx2.URL, upload: Upload, limit: asyncio.Timeout) -> httpx2.Response:
    """Post a file; its size adds to the time that the request may take."""
    _extend(limit, os.fstat(upload.file.fileno()).st_size)
    files = {"file": (upload.name, upload.file, "application/jsonl")}
    return await http.post(url, data={"purpose": upload.purpose}, files=files)


async def receive(
    http: httpx2.AsyncClient, url: httpx2.URL, download: Download, limit: asyncio.Timeout
) -> tuple[httpx2.Response, int]:
    """A reply whose content goes to a file, and how many bytes that were; a refusal's content stays with the reply.

    Raises
    ------
    StoreError
        The file cannot be written.
    """
    download.file.seek(0)
    download.file.truncate()
    n_bytes = 0
    async with http.stream("GET", url) as response:
        if not 200 <= response.status_code < 300:
            await response.aread()
            return response, 0
        async for chunk in response.aiter_bytes():
            try:
                download.file.write(chunk)
            except OSError as error:
                raise StoreError(f"what the server sends cannot be written to a file: {error}; make room") from None
            n_bytes += len(chunk)
            _extend(limit, len(chunk))
    return response, n_bytes


def _extend(limit: asyncio.Timeout, n_bytes: int) -> None:
    limit.reschedule((limit.when() or 0.0) + n_bytes / _SLOWEST)
