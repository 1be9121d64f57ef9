"""Files sent to a server and received from it: never whole in memory, and with as much time as their size needs."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

from ...errors import StoreError
from .reply_limits import ReplyLimitError

if TYPE_CHECKING:
    import aiohttp
    import yarl

    from .transport import Transport

_SLOWEST = 100_000  # bytes a second that a file moves at least
_LARGEST = 4 << 30  # bytes; the answers to 50,000 requests, 80 kB each


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


def request(
    transport: Transport, url: yarl.URL, body: Mapping[str, Any] | Upload | Download | None, limit: asyncio.Timeout
) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
    """A request with its body; the size of a file adds to the time that the request may take."""
    if body is None or isinstance(body, Download):
        return transport.get(url)
    if isinstance(body, Upload):
        _extend(limit, os.fstat(body.file.fileno()).st_size)
        file = os.fdopen(os.dup(body.file.fileno()), "rb")  # another attempt may need the file, and this is closed
        file.seek(0)
        return transport.upload(url, file, body.name, {"purpose": body.purpose})
    return transport.post(url, json.dumps(body).encode())


async def receive(response: aiohttp.ClientResponse, download: Download, limit: asyncio.Timeout) -> int:
    """Write the content of a reply that has begun to a file; returns its size.

    Raises
    ------
    ReplyLimitError
        It is larger than any file that is asked for.
    StoreError
        The file cannot be written.
    """
    download.file.seek(0)
    download.file.truncate()
    n_bytes = 0
    async for chunk in response.content.iter_any():
        n_bytes += len(chunk)
        if n_bytes > _LARGEST:
            raise ReplyLimitError(f"the server's file is larger than {_LARGEST >> 30} GB, and was not read further")
        try:
            download.file.write(chunk)
        except OSError as error:
            raise StoreError(f"what the server sends cannot be written to a file: {error}; make room") from None
        _extend(limit, len(chunk))
    return n_bytes


def _extend(limit: asyncio.Timeout, n_bytes: int) -> None:
    limit.reschedule((limit.when() or 0.0) + n_bytes / _SLOWEST)
