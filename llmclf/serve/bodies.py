"""Bodies of requests: read within limits of size and time, unpacked, and parsed as JSON that holds nothing but JSON."""

from __future__ import annotations

import asyncio
import json
import math
import zlib
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from typing import Any

from starlette.types import Message, Receive, Scope

from ..files.bounded_json import parsed_json
from .limits import Limits
from .refusals import RefusalError, invalid, too_large

_CLOSE = {"Connection": "close"}  # the rest of such a body is not waited for
_MOST_DISCARDED, _DISCARDING = 64 << 20, 5.0  # bytes of a refused body that are read, and for how many seconds
_LARGEST, _MOST_DIGITS = "1.8e308", 309  # what a double holds
BROKEN_BODY = "llmclf.broken_body"
"""Key of an ASGI scope's state: HTTP itself says that the body is broken, and no more of it will come."""


class ArrivingBody:
    """What the client of one request sends: an ASGI `receive` that knows whether the whole body has come.

    Parameters
    ----------
    scope : Scope
    receive : Receive
    """

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self._state, self._receive = scope.get("state", {}), receive
        # Such a client sends nothing before it is told to, or refused.
        self._is_coming = all(name != b"expect" for name, _ in scope["headers"])
        self._is_whole = False

    async def __call__(self) -> Message:
        """The next message.

        Raises
        ------
        RefusalError
            The body is not as HTTP has it.
        """
        self._is_coming = True
        message = await self._receive()
        if self._state.get(BROKEN_BODY):
            raise RefusalError(
                400,
                "invalid_http",
                "the body is not as HTTP/1.1 has it, such as a chunk of another size",
                headers=_CLOSE,
            )
        self._is_whole = message["type"] != "http.request" or not message.get("more_body", False)
        return message

    async def discard(self) -> None:
        """Read what is still to come of a body that is refused, within limits.

        To close a connection on which something arrives is to reset it, and its client might never read the refusal.
        """
        n = 0
        with suppress(TimeoutError, RefusalError):
            async with asyncio.timeout(_DISCARDING):
                while self._is_coming and not self._is_whole and n < _MOST_DISCARDED:
                    n += len((await self()).get("body", b""))


async def read_body(headers: Mapping[str, str], chunks: AsyncIterator[bytes], limits: Limits) -> dict[str, Any]:
    """The JSON object in a body.

    Parameters
    ----------
    headers : mapping
        Whose names are in lower case.
    chunks : async iterator of bytes
    limits : Limits

    Raises
    ------
    RefusalError
        It is no JSON object, of another type or encoding, too large, or too slow.
    """
    _check_type(headers.get("content-type", ""))
    unpack = _unpacker(headers.get("content-encoding", "identity").strip().lower())
    stated = headers.get("content-length", "")
    if stated.isdecimal() and len(stated) < 19 and int(stated) > limits.body_bytes:
        raise _large(limits)
    body = bytearray()
    try:
        async with asyncio.timeout(limits.body_seconds):
            async for chunk in chunks:
                body += chunk
                if len(body) > limits.body_bytes:
                    raise _large(limits)
    except TimeoutError:
        raise RefusalError(
            408,
            "request_timeout",
            f"the body did not arrive within {limits.body_seconds:g} s; send it faster, or less of it",
            headers=_CLOSE,
        ) from None
    return parsed(unpack(bytes(body), limits))


def parsed(body: bytes) -> dict[str, Any]:
    """The JSON object that some bytes are.

    Raises
    ------
    RefusalError

    Examples
    --------
    >>> parsed(b'{"a": [1, "b"]}')
    {'a': [1, 'b']}
    >>> parsed(b'{"a": NaN}')
    Traceback (most recent call last):
    ...
    llmclf.serve.refusals.RefusalError: the body is not JSON: NaN is no number of JSON
    """
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise invalid(f"the body is not UTF-8 (byte {error.start}); encode it as UTF-8", kind="json_invalid") from None
    if text.startswith("\ufeff"):
        raise invalid("the body begins with a byte order mark, which is no JSON; send it without", kind="json_invalid")
    try:
        value = parsed_json(
            text, parse_constant=_refuse_constant, parse_float=_finite, parse_int=_whole, object_pairs_hook=_unique
        )
    except json.JSONDecodeError as error:
        raise invalid(
            f"the body is not JSON: {error.msg} (line {error.lineno}, column {error.colno})", kind="json_invalid"
        ) from None
    except (ValueError, MemoryError) as error:
        raise invalid(f"the body is not JSON: {error}", kind="json_invalid") from None
    if not isinstance(value, dict):
        raise invalid("the body is JSON, and no object; expected {...}", kind="json_invalid")
    if "\\ud" in text.lower():
        try:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError:
            raise invalid(
                "a string holds half of a surrogate pair, which is not a character; clean your texts",
                kind="json_invalid",
            ) from None
    return value


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"a number is too large; expected less than {_LARGEST}, or a text")
    return value


def _whole(text: str) -> int:
    n_digits = len(text.removeprefix("-"))
    if n_digits > _MOST_DIGITS:
        raise ValueError(f"a whole number has {n_digits:,} digits; expected less than {_LARGEST}, or a text")
    _finite(text)
    return int(text)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        raise ValueError("an object has the same key twice, and only one of them would count; leave the other out")
    return value


def _check_type(stated: str) -> None:
    kind, _, rest = stated.partition(";")
    kind = kind.strip().lower()
    if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        raise RefusalError(
            415,
            "unsupported_media_type",
            "expected a body of JSON; send the header Content-Type: application/json",
            headers=_CLOSE,
        )
    for part in rest.split(";"):
        name, _, value = part.partition("=")
        if name.strip().lower() == "charset" and value.strip().strip('"').lower() not in ("utf-8", "utf8"):
            raise RefusalError(
                415, "unsupported_media_type", "expected JSON in UTF-8; leave the charset out", headers=_CLOSE
            )


def _large(limits: Limits) -> RefusalError:
    refusal = too_large(f"the body has more than {limits.body_bytes:,} bytes; send fewer or shorter texts at once")
    refusal.headers.update(_CLOSE)
    return refusal


Unpack = Callable[[bytes, Limits], bytes]


def _unpacker(encoding: str) -> Unpack:
    known = {"identity": _as_it_is, "": _as_it_is, "gzip": _gzip, "x-gzip": _gzip, "deflate": _gzip, "zstd": _zstd}
    if encoding not in known:
        raise RefusalError(
            415,
            "unsupported_encoding",
            "the body is packed in a way that is not read here; expected identity, gzip, deflate or zstd",
            headers={**_CLOSE, "Accept-Encoding": "identity, gzip, deflate, zstd"},
        )
    return known[encoding]


def _as_it_is(body: bytes, limits: Limits) -> bytes:
    return body


def _gzip(body: bytes, limits: Limits) -> bytes:
    unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)  # gzip or zlib, as its head says
    try:
        whole = unpacker.decompress(body, limits.body_bytes + 1)
    except zlib.error:
        raise _broken() from None
    return _checked(whole, limits, is_whole=unpacker.eof and not unpacker.unused_data)


def _zstd(body: bytes, limits: Limits) -> bytes:
    try:
        import zstandard
    except ImportError:
        raise RefusalError(
            415,
            "unsupported_encoding",
            "zstd is not installed here; send the body as it is",
            headers={"Accept-Encoding": "identity, gzip, deflate"},
        ) from None
    unpacker = zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(body, read_across_frames=True)
    try:
        return _checked(unpacker.read(limits.body_bytes + 1), limits, is_whole=True)
    except (zstandard.ZstdError, MemoryError):
        raise _broken() from None


def _checked(whole: bytes, limits: Limits, *, is_whole: bool) -> bytes:
    if len(whole) > limits.body_bytes:
        raise _large(limits)
    if not is_whole:
        raise _broken()
    return whole


def _broken() -> RefusalError:
    return invalid("the body cannot be unpacked as Content-Encoding says", kind="encoding_invalid")
