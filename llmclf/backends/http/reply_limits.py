"""How much of a reply is read: limits on its bytes once decompressed, on its values and on how deep they nest."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import aiohttp

MEGABYTE = 1 << 20
MOST_OF_ERROR = MEGABYTE  # bytes of a reply that is no answer
DEPTH = 64  # levels; no reply that is asked for has ten
_VALUES_PER_MEGABYTE = MEGABYTE // 16  # the shortest values take thirty times as much memory as text
_LARGE = 4 * MEGABYTE  # of larger replies, one at a time is read and parsed


class ReplyLimitError(Exception):
    """A reply is larger, has more values or nests deeper than is read; to ask again may heal the last."""

    def __init__(self, message: str, *, heals: bool = False) -> None:
        super().__init__(message)
        self.heals = heals


@dataclass(frozen=True)
class ReplyLimits:
    """What is read of the replies of one server.

    Attributes
    ----------
    megabytes : int
        Largest reply, decompressed; an average value of it has at least 16 bytes.
    address : str
        Of the server, for messages.
    """

    megabytes: int
    address: str

    async def content(self, response: aiohttp.ClientResponse, turn: asyncio.Lock) -> bytes | bytearray:
        """The content of a reply that has begun, decompressed piece by piece; `turn` is held while much is in memory.

        Raises
        ------
        ReplyLimitError
            It is longer. No more was read than that shows.
        """
        is_good = 200 <= response.status < 300
        most = self.megabytes * MEGABYTE if is_good else MOST_OF_ERROR
        promised = response.headers.get("content-length", "")
        if promised.isdecimal() and (len(promised) > 15 or int(promised) > most):
            raise self._too_large()
        content = bytearray()
        is_turn = False
        try:
            async for piece in response.content.iter_any():
                content += piece
                if len(content) > most:
                    raise self._too_large()
                if len(content) > _LARGE and not is_turn:
                    is_turn = await turn.acquire()
        finally:
            if is_turn:
                turn.release()
        return content

    def parse(self, content: bytes | bytearray) -> Any:
        """The value that JSON says.

        Raises
        ------
        ReplyLimitError
            It has more values, or nests deeper.
        ValueError
            It is not JSON.
        """
        n_open = content.count(b"[") + content.count(b"{")
        most = self.megabytes * _VALUES_PER_MEGABYTE
        if n_open + content.count(b",") > most:
            raise ReplyLimitError(
                f"the server's reply holds more than {most:,} values ({_VALUES_PER_MEGABYTE:,} for each of "
                f"max_reply_mb={self.megabytes}); if that is right, raise max_reply_mb, or ask for less at once"
            )
        try:
            parsed = json.loads(content.decode("utf-8-sig", "surrogatepass"))
            is_deep = n_open > DEPTH and _nests_deeper(parsed)
        except RecursionError:
            is_deep = True
        if is_deep:
            raise ReplyLimitError(
                f"the server's reply nests more than {DEPTH} levels deep, which no answer does; look at what answers at "
                f"{self.address}",
                heals=True,
            )
        return parsed

    def _too_large(self) -> ReplyLimitError:
        return ReplyLimitError(
            f"the server's reply is larger than {self.megabytes} MB (max_reply_mb={self.megabytes}), and was not read further; "
            "if that is right, raise max_reply_mb, or ask for less at once"
        )


def _nests_deeper(value: Any) -> bool:
    """Whether lists and objects nest more than `DEPTH` deep; level by level, since a call for each would go as deep itself."""
    level = [value] if isinstance(value, (dict, list)) else []
    for _ in range(DEPTH):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if type(outer) is dict else outer)
            if type(inner) is dict or type(inner) is list
        ]
        if not level:
            return False
    return True
