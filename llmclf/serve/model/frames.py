"""Messages between the two processes: JSON, each after its length. Nothing that is read here is executed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO

HEAD = 4
"""Bytes of the length."""
_MOST_BYTES = 1 << 30


def framed(message: dict[str, Any]) -> bytes:
    """The bytes of a message.

    Examples
    --------
    >>> framed({"id": 1})
    b'\\x00\\x00\\x00\\x08{"id":1}'
    """
    body = json.dumps(message, separators=(",", ":"), allow_nan=False).encode()
    return len(body).to_bytes(HEAD, "big") + body


def length_of(head: bytes) -> int:
    """How many bytes follow a head.

    Raises
    ------
    ValueError
        It is no head of a message.
    """
    length = int.from_bytes(head, "big")
    if length > _MOST_BYTES:
        raise ValueError(f"a message of {length} bytes; expected at most {_MOST_BYTES}")
    return length


def read_frame(stream: BinaryIO) -> dict[str, Any] | None:
    """The next message of a stream; None where it has ended."""
    head = stream.read(HEAD)
    if len(head) < HEAD:
        return None
    body = stream.read(length := length_of(head))
    if len(body) < length:
        return None
    message: dict[str, Any] = json.loads(body)
    return message


def packed(asks: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Asks as a part of a message, each different text of theirs once: many questions may be about one long text.

    Examples
    --------
    >>> packed([{"question": "a", "text": "x"}, {"question": "b", "text": "x"}])
    {'asks': [{'question': 'a', 'text': 0}, {'question': 'b', 'text': 0}], 'texts': ['x']}
    """
    places: dict[str, int] = {}
    lean = [
        {**ask, "text": places.setdefault(ask["text"], len(places))} if "text" in ask else dict(ask) for ask in asks
    ]
    return {"asks": lean, "texts": list(places)}


def unpacked(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The inverse of `packed`.

    Examples
    --------
    >>> unpacked(packed([{"row": {"a": 1}}, {"text": "x"}]))
    [{'row': {'a': 1}}, {'text': 'x'}]
    """
    texts = message["texts"]
    return [{**ask, "text": texts[ask["text"]]} if "text" in ask else ask for ask in message["asks"]]
