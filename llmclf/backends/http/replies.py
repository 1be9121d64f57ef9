"""Reading what servers answer. A reply is data from outside: nothing in it is believed before it was checked."""

from __future__ import annotations

import email.utils
import math
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from ...errors import type_of

_MESSAGE_LENGTH = 500
_MOST_TOKENS = 10**9  # a reply that counts more is wrong
_LARGEST = sys.float_info.max
UNKNOWN = -9999.0  # what some servers say for "very unlikely"
_TOLERANCE = 1e-3  # nats by which rounding may lift a log-probability above 0


class BadReplyError(Exception):
    """A reply with status 200 that is not what its protocol says; asking again may heal it."""


def error_message(body: Any) -> str:
    """The message of an error reply, whichever of the usual shapes it has; an empty string where it has none.

    Known are ``{"error": {"message": ...}}``, ``{"error": ...}``, ``{"message": ...}``, ``{"detail": ...}``,
    ``{"detail": {"message": ...}}`` and ``{"detail": [{"loc": [...], "msg": ...}, ...]}``.

    Examples
    --------
    >>> error_message({"detail": [{"loc": ["body", "state"], "msg": "field required"}]})
    'body.state: field required'
    """
    if isinstance(body, str):
        return " ".join(body.split())[:_MESSAGE_LENGTH]
    if isinstance(body, list):
        return "; ".join(filter(None, map(error_message, body)))[:_MESSAGE_LENGTH]
    if not isinstance(body, Mapping):
        return ""
    for name in ("error", "detail", "message", "msg"):
        text = error_message(body.get(name))
        if text:
            where = body.get("loc")
            prefix = ".".join(map(str, where)) + ": " if name == "msg" and isinstance(where, list) else ""
            return (prefix + text)[:_MESSAGE_LENGTH]
    return ""


def error_code(body: Any) -> str:
    """The machine-readable code of an error reply (``insufficient_quota``, say), or an empty string."""
    inner = body.get("error") if isinstance(body, Mapping) else None
    code = inner.get("code") if isinstance(inner, Mapping) else None
    return code if isinstance(code, str) else ""


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that the server asks to wait, from ``retry-after-ms`` or ``retry-after`` (seconds or a date)."""
    for name, scale in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        value = headers.get(name)
        if value is None:
            continue
        try:
            seconds = float(value) * scale
        except ValueError:
            try:
                seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
            except (ValueError, OverflowError):
                continue
        if math.isfinite(seconds):
            return max(0.0, seconds)
    return None


def token_counts(body: Any) -> tuple[int, int, int] | None:
    """Tokens read, of these from the server's cache, and written, as a reply counts them; None if it does not."""
    usage = body.get("usage") if isinstance(body, Mapping) else None
    if not isinstance(usage, Mapping):
        return None
    counts = [usage.get(name) for name in ("prompt_tokens", "input_tokens", "completion_tokens", "output_tokens")]
    if not any(isinstance(count, int) for count in counts):
        return None
    read = _count(*counts[:2])
    details = usage.get("prompt_tokens_details") or usage.get("input_tokens_details")
    cached = _count(details.get("cached_tokens")) if isinstance(details, Mapping) else 0
    return read, min(cached, read), _count(*counts[2:])


def expect(condition: bool, message: str) -> None:
    """Refuse a reply.

    Raises
    ------
    BadReplyError
        With `message`, which says what is wrong with the reply.
    """
    if not condition:
        raise BadReplyError(message)


def mapping(value: Any, name: str) -> Mapping[str, Any]:
    expect(isinstance(value, Mapping), f"{name} is {_shown(value)}; expected an object")
    checked: Mapping[str, Any] = value
    return checked


def sequence(value: Any, name: str, length: int | None = None) -> Sequence[Any]:
    expect(isinstance(value, list), f"{name} is {_shown(value)}; expected a list")
    expect(length is None or len(value) == length, f"{name} has {len(value)} items; expected {length}")
    checked: Sequence[Any] = value
    return checked


def string(value: Any, name: str) -> str:
    expect(isinstance(value, str), f"{name} is {_shown(value)}; expected a string")
    return str(value)


def logprob(value: Any, name: str = "a log-probability") -> float:
    """A checked log-probability in nats: finite, at most 0, and not one of the numbers that stand for "very unlikely"."""
    if type(value) is float and UNKNOWN < value <= 0.0:
        return value
    number = _number(value, name)
    expect(number <= _TOLERANCE, f"{name} is {number}; expected at most 0")
    expect(number > UNKNOWN, f"{name} is {number}, which stands for a number that the server does not know")
    return min(0.0, number)


def probability(value: Any, name: str) -> float:
    number = _number(value, name)
    expect(0.0 <= number <= 1.0 + _TOLERANCE, f"{name} is {number}; expected a probability")
    return min(1.0, number)


def choices(body: Any, n: int) -> list[Mapping[str, Any]]:
    """The n choices of a completion in the order of the prompts, whatever the order in which they came."""
    stated = sequence(mapping(body, "the reply").get("choices"), "choices", n)
    placed: dict[int, Mapping[str, Any]] = {}
    for choice in stated:
        index = mapping(choice, "a choice").get("index")
        if type(index) is not int or not 0 <= index < n or index in placed:
            raise BadReplyError(f"a choice has the index {_shown(index)}; expected each of 0 to {n - 1} once")
        placed[index] = choice
    return [placed[index] for index in range(n)]


def _count(*values: Any) -> int:
    for value in values:
        if type(value) is int and 0 <= value < _MOST_TOKENS:
            return value
    return 0


def _number(value: Any, name: str) -> float:
    # Not `checks.is_number`: this runs for every token of a reply, and asking for an abstract class is slow.
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    is_finite = is_number and -_LARGEST <= value <= _LARGEST  # JSON has whole numbers that no float can hold
    expect(is_finite, f"{name} is {_shown(value)}; expected a finite number")
    return float(value)


def _shown(value: Any) -> str:
    """A value for a message: short, and never the user's text."""
    return "missing" if value is None else type_of(value) if isinstance(value, (str, list, dict)) else repr(value)[:30]
