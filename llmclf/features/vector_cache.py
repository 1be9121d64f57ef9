"""Internal: the cache of embeddings: vectors as they were answered, each number as float32, so that no text is paid for twice."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..answer_cache import AnswerCache, key_of
from ..errors import InputError

VECTOR_VERSION = 1
"""Rises whenever a change to llmclf could change a vector, so that cached vectors of older versions are not used."""

_LENGTH = struct.Struct("<I")


class NamedVector(NamedTuple):
    """A vector (d,) of finite float32, and the model that answered it by its own name, where it has one."""

    vector: NDArray[np.float32]
    answered_by: str | None


def vector_key(identity: Mapping[str, Any], text: str) -> str:
    """The cache key of one text and one model; the text is what the model reads, with what stands before it."""
    return key_of({"vector_version": VECTOR_VERSION, "identity": identity, "text": text})


class VectorCache(AnswerCache[NamedVector]):
    """A file of embeddings that several threads and processes may use at once; a score cache may be in the same file.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> cache = VectorCache(pathlib.Path(tempfile.mkdtemp()) / "cache.sqlite")
    >>> cache.put([("key", NamedVector(np.array([0.5, -1.0], dtype=np.float32), "e5"))])
    >>> cache.get(["key", "other"])["key"]
    NamedVector(vector=array([ 0.5, -1. ], dtype=float32), answered_by='e5')
    """

    table = "embeddings"
    kind = "cache of embeddings"

    def pack(self, answer: NamedVector) -> bytes:
        if not np.isfinite(answer.vector).all():
            raise InputError("an embedding with NaN or an infinite number cannot be kept")
        name = (answer.answered_by or "").encode()
        return _LENGTH.pack(len(name)) + name + answer.vector.astype("<f4").tobytes()

    def unpack(self, value: Any) -> NamedVector | None:
        if not isinstance(value, bytes) or len(value) < _LENGTH.size:
            return None
        start = _LENGTH.size + _LENGTH.unpack_from(value)[0]
        numbers = value[start:]
        if not numbers or len(numbers) % 4:
            return None
        vector = np.frombuffer(numbers, dtype="<f4").astype(np.float32)
        name = value[_LENGTH.size : start].decode("utf-8", "replace") or None
        return NamedVector(vector, name) if np.isfinite(vector).all() else None
