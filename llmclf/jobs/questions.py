"""What a model sees of a row, as bytes: the key under which its answer is kept, and a form from which it can be asked again.

A record is the list of the values of the fields that a prompt shows. Its bytes are JSON; values that JSON does not know (dates,
decimals) are tagged, so that a template finds in them what it found in the table. Nothing is ever unpickled.
"""

from __future__ import annotations

import base64
import datetime
import json
import uuid
from collections.abc import Mapping, Sequence
from decimal import Decimal
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np

from ..errors import InputError, type_of
from ..tables.values import is_missing

_TAG = "\0llmclf"


def encode_record(values: Sequence[Any]) -> bytes:
    """The bytes of some values, equal for equal values and different for different ones (1, 1.0, "1" and True are four).

    Raises
    ------
    InputError
        A value is of a type without such a form.

    Examples
    --------
    >>> encode_record(["a text", 1])
    b'["a text",1]'
    >>> decode_record(encode_record([datetime.date(2026, 1, 2)]))
    [datetime.date(2026, 1, 2)]
    """
    try:
        return json.dumps(values, ensure_ascii=False, separators=(",", ":"), default=_tagged).encode()
    except UnicodeEncodeError:  # half a surrogate pair: JSON has a form for it, UTF-8 has none
        return json.dumps(values, separators=(",", ":"), default=_tagged).encode()
    except (ValueError, RecursionError) as error:
        raise InputError(f"a value has no JSON form: {error}") from error


def decode_record(data: bytes) -> list[Any]:
    """The inverse of `encode_record`; tuples and arrays come back as lists."""
    values: list[Any] = _DECODER.raw_decode(data.decode())[0]
    return values


def record_key(data: bytes) -> bytes:
    """A hash (16 bytes) of a record; of two rows with the same key a model is asked about one.

    Examples
    --------
    >>> len(record_key(b'["a text"]'))
    16
    """
    return blake2b(data, digest_size=16).digest()


def _tagged(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if is_missing(value):
        return None
    if isinstance(value, datetime.datetime):
        return {_TAG: "datetime", "value": value.isoformat()}
    if isinstance(value, datetime.date):
        return {_TAG: "date", "value": value.isoformat()}
    if isinstance(value, datetime.time):
        return {_TAG: "time", "value": value.isoformat()}
    if isinstance(value, datetime.timedelta):
        return {_TAG: "timedelta", "value": [value.days, value.seconds, value.microseconds]}
    if isinstance(value, Decimal):
        return {_TAG: "decimal", "value": str(value)}
    if isinstance(value, uuid.UUID):
        return {_TAG: "uuid", "value": str(value)}
    if isinstance(value, (bytes, bytearray, memoryview)):
        return {_TAG: "bytes", "value": base64.b64encode(bytes(value)).decode()}
    raise InputError(
        f"a value is {type_of(value)}; expected text, a number, a boolean, a date, or a list or dict of them"
    )


def _untagged(value: Mapping[str, Any]) -> Any:
    if _TAG not in value:
        return value
    kind, inner = value[_TAG], value["value"]
    if kind == "datetime":
        return datetime.datetime.fromisoformat(inner)
    if kind == "date":
        return datetime.date.fromisoformat(inner)
    if kind == "time":
        return datetime.time.fromisoformat(inner)
    if kind == "timedelta":
        return datetime.timedelta(*inner)
    if kind == "decimal":
        return Decimal(inner)
    if kind == "uuid":
        return uuid.UUID(inner)
    return base64.b64decode(inner)


_DECODER = json.JSONDecoder(object_hook=_untagged)  # made once: json.loads would make one for every record


class Question(NamedTuple):
    """What a row asks: the key of its answer and the record it is asked from, or why it cannot be asked."""

    key: bytes | None
    record: bytes | None
    problem: str | None = None
