"""Reading what ``/v1/embeddings`` answers: every text has its own vector of numbers, or the reply is refused."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import type_of
from ..http.replies import BadReplyError, expect, mapping, sequence, token_counts

Vectors = NDArray[np.float32]

_NUMBERS = "iuf"  # kinds of arrays that JSON's numbers make; other values make other kinds
_LONGEST = 1 << 20  # numbers; a vector of more is not one


def read_vectors(reply: Any, n: int) -> Vectors:
    """The vectors (n, d) of n texts in the order of the texts, whatever the order in which they came.

    Raises
    ------
    BadReplyError
        There are fewer or more, one is there twice, or one is not a list of finite numbers (or the base64 of such) as long as the
        others.
    """
    data = sequence(mapping(reply, "the reply").get("data"), "data")
    expect(len(data) == n, f"data has {len(data)} embeddings; expected one for each of {n} texts")
    placed: dict[int, NDArray[Any]] = {}
    for item in data:
        entry = mapping(item, "an item of data")
        index = entry.get("index")
        if type(index) is not int or not 0 <= index < n or index in placed:
            shown = "none" if index is None else repr(index)[:30]
            raise BadReplyError(f"an embedding has the index {shown}; expected each of 0 to {n - 1} once")
        placed[index] = _vector(entry.get("embedding"))
    lengths = sorted({len(vector) for vector in placed.values()})
    expect(len(lengths) == 1, f"the embeddings are {' and '.join(map(str, lengths))} numbers long; expected one length")
    return np.stack([placed[index] for index in range(n)])


def read_counts(reply: Any, estimated: int) -> tuple[int, int, int]:
    """The tokens that a reply counts, as `token_counts` does; where it says only a total that, and else what was estimated."""
    counts = token_counts(reply)
    if counts is not None:
        return counts
    usage = reply.get("usage") if isinstance(reply, dict) else None
    total = usage.get("total_tokens") if isinstance(usage, dict) else None
    as_read = token_counts({"usage": {"prompt_tokens": total}}) if type(total) is int and total > 0 else None
    return as_read or (estimated, 0, 0)


def _vector(stated: Any) -> Vectors:
    """One vector (d,), from numbers or from the base64 of little-endian float32: servers send either, whatever was asked."""
    if isinstance(stated, str):
        try:
            content = base64.b64decode(stated, validate=True)
        except (binascii.Error, ValueError) as error:
            raise BadReplyError("an embedding is a text that is not base64") from error
        expect(len(content) % 4 == 0, f"an embedding is the base64 of {len(content)} bytes; expected four for a number")
        values: NDArray[Any] = np.frombuffer(content, dtype="<f4")
    else:
        values = _numbers(sequence(stated, "an embedding"))
    expect(0 < len(values) <= _LONGEST, f"an embedding has {len(values)} numbers; expected at least one")
    with np.errstate(over="ignore"):
        vector = values.astype(np.float32)
    if not np.isfinite(vector).all():
        raise BadReplyError("an embedding holds NaN or an infinite number")
    return vector


def _numbers(stated: Sequence[Any]) -> NDArray[Any]:
    # Most servers that answer one text with one vector of each token do so as a list of lists.
    odd = next((value for value in stated if isinstance(value, bool) or not isinstance(value, int | float)), None)
    if odd is not None or None in stated:
        shown = "null" if odd is None else type_of(odd)
        raise BadReplyError(
            f"an embedding holds {shown}; expected numbers"
            + (
                ": the server answers a vector for each token, so start it with pooling"
                if isinstance(odd, list)
                else ""
            )
        )
    try:
        values = np.array(stated)
    except (ValueError, OverflowError) as error:
        raise BadReplyError("an embedding is not a list of numbers") from error
    # Whole numbers beyond 64 bits make an array of objects.
    return values if values.dtype.kind in _NUMBERS or not len(values) else np.full(len(values), np.inf)
