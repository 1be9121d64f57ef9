"""Reading what servers answer. A reply is data from outside: nothing in it is believed before it was checked."""

from __future__ import annotations

import email.utils
import math
import re
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ...errors import type_of

_MESSAGE_LENGTH = 500
_MESSAGE_KEYS = (
    *(
        "error",
        "detail",
        "message",
        "msg",
        "errors",
        "error_message",
        "error_msg",
        "Message",
        "error_description",
        "description",
    ),
    *("reason", "status_msg", "base_resp", "title"),
)
_ERROR_KEYS = {
    *_MESSAGE_KEYS,
    *(
        "code",
        "error_code",
        "status",
        "status_code",
        "type",
        "success",
        "request_id",
        "timestamp",
        "path",
        "loc",
        "param",
    ),
}
"""What error replies consist of; a reply of anything else is judged by whoever reads it."""
_MOST_MESSAGES = 20  # of a list that are looked at
_PAGE_LENGTH = 20_000  # characters of a page that are looked at
_MOST_TOKENS = 10**9  # a reply that counts more is wrong
_LARGEST = sys.float_info.max
UNKNOWN = -9999.0  # what some servers say for "very unlikely"
_TOLERANCE = 1e-3  # nats by which rounding may lift a log-probability above 0
_SUM_TOLERANCE = 0.01  # by which rounding may lift the sum of the probabilities of one distribution above 1

# What the words of an error mean, as a status; the first that fits counts.
_MEANINGS = [
    (402, r"insufficient_quota|quota_exceeded|billing|credit|payment"),
    (401, r"api_key|authentication|unauthori[sz]ed"),
    (403, r"permission|forbidden|access_denied"),
    (404, r"not_?found|does_not_exist|unknown_model"),
    (429, r"rate_?limit|too_many_requests|throttl"),
    (503, r"overloaded|unavailable|loading|capacity|timeout|timed_out|internal|server_error|api_error"),
    (400, r"invalid|bad_request|context_length|content_filter|content_policy|unsupported|exceed"),
]


_WRONG_KEY = re.compile(
    r"(incorrect|invalid|wrong) api[ _-]?key\b|api[ _-]?key (is )?(not valid|invalid)", re.IGNORECASE
)
"""How the message of a refusal begins that is about the key; further on it may quote the user's text."""


class BadReplyError(Exception):
    """A reply with status 200 that is not what its protocol says; asking again may heal it."""


def error_message(body: Any) -> str:
    """The message of an error reply, whichever of the usual shapes it has; an empty string where it has none.

    Known are ``{"error": {"message": ...}}``, ``{"error": ...}``, ``{"message": ...}``, ``{"detail": ...}``,
    ``{"detail": {"message": ...}}``, ``{"detail": [{"loc": [...], "msg": ...}, ...]}`` and
    ``{"errors": [{"message": ...}, ...]}``.

    Examples
    --------
    >>> error_message({"detail": [{"loc": ["body", "state"], "msg": "field required"}]})
    'body.state: field required'
    """
    if isinstance(body, str):
        return " ".join(body[:_PAGE_LENGTH].split())[:_MESSAGE_LENGTH]
    if isinstance(body, list):
        return "; ".join(filter(None, map(error_message, body[:_MOST_MESSAGES])))[:_MESSAGE_LENGTH]
    if not isinstance(body, Mapping):
        return ""
    for name in _MESSAGE_KEYS:
        text = error_message(body.get(name))
        if text:
            where = body.get("loc")
            prefix = (
                ".".join(map(str, where[:_MOST_MESSAGES])) + ": " if name == "msg" and isinstance(where, list) else ""
            )
            return (prefix + text)[:_MESSAGE_LENGTH]
    return ""


def stated_error(body: Any) -> Any:
    """The part of a reply that says that there is no answer, though its status is that of an answer; None if no part does.

    Known are ``{"error": ...}``, ``{"object": "error", ...}``, ``{"type": "error", ...}``, ``{"success": false, ...}``, objects
    that hold nothing but a message and its like, a list of these, a text alone, and a choice with an ``"error"`` or with the
    finish reason ``"error"``.

    Examples
    --------
    >>> stated_error({"choices": [], "error": {"message": "no credit", "code": 402}})
    {'error': {'message': 'no credit', 'code': 402}}
    >>> stated_error({"choices": [{"text": " yes"}], "error": None}) is None
    True
    """
    if isinstance(body, str):
        return body if body.strip() else None
    if isinstance(body, list):
        return body if body and isinstance(body[0], Mapping) and stated_error(body[0]) is not None else None
    if not isinstance(body, Mapping):
        return None
    error = body.get("error")
    if error and (not isinstance(error, Mapping) or _says_something(error)):
        return {"error": error} if isinstance(error, (str, Mapping, list)) else body
    if "error" in (body.get("object"), body.get("type")) or body.get("success") is False:
        return body
    # A batch that failed has this status, too, and is an answer: it has an id.
    if "id" not in body and str(body.get("status")).lower() in ("error", "fail", "failed", "failure"):
        return body
    if body and set(body) <= _ERROR_KEYS and (error_message(body) or _status(body.get("code")) is not None):
        return body
    listed = body.get("choices")
    for choice in listed if isinstance(listed, list) else ():
        if isinstance(choice, Mapping) and (choice.get("error") or choice.get("finish_reason") == "error"):
            return {
                "error": choice.get("error") or choice.get("message") or choice.get("text") or "the answer broke off"
            }
    return None


def _says_something(error: Mapping[str, Any]) -> bool:
    """Whether an error object is one; some servers send an empty one, or one of code 0, beside an answer."""
    code = error.get("code")
    if code in (0, 200, "0", "200") or str(code).lower() in ("ok", "success"):
        return False
    return bool(error_message(error) or any(error.values()))


def visible_text(page: bytes | bytearray) -> str:
    """The beginning of what a reply shows that is text or HTML.

    Examples
    --------
    >>> visible_text(b"<html><style>p { color: red }</style><h1>502 Bad Gateway</h1><p>nginx")
    '502 Bad Gateway nginx'
    """
    text = page[:_PAGE_LENGTH].decode(errors="replace")
    beginning = re.sub(r"<(script|style)\b.*?</\1>|<[^>]*>", " ", text, flags=re.DOTALL | re.IGNORECASE)
    return error_message(beginning)


def meant_status(status: int, body: Any) -> int:
    """The HTTP status that an error means, by its own code and type where they say more than the reply's status.

    They do where the reply has the status of an answer or of any failure inside the server, where a limit is one that waiting
    does not lift, and where a wrong key counts as a wrong request.

    Examples
    --------
    >>> meant_status(200, {"error": {"code": 502}}), meant_status(500, {"error": {"type": "invalid_request_error"}})
    (502, 400)
    >>> meant_status(429, {"error": {"code": "insufficient_quota"}}), meant_status(422, {"error": {"code": "x"}})
    (402, 422)
    >>> meant_status(400, {"error": "Incorrect API key provided: [key]."})
    401
    """
    if isinstance(body, list) and body:
        body = body[0]
    inner = body.get("error") if isinstance(body, Mapping) else None
    parts = [part for part in (inner, body) if isinstance(part, Mapping)]
    values = [part.get(name) for part in parts for name in ("code", "error_code", "status", "type")]
    numbers = [number for number in map(_status, values) if number is not None]
    named = _meaning(" ".join(value for value in values if isinstance(value, str)))
    if status == 429:
        return 402 if named == 402 else status
    if status == 400 and _WRONG_KEY.match(error_message(body)):
        return 401
    if 200 <= status < 300:
        # A message may quote the user's text: no more is read from it than that asking again may help.
        said = _meaning(error_message(stated_error(body)))
        # An error that does not say what it is about is about this request.
        return numbers[0] if numbers else named or (said if said in (429, 503) else 400)
    return named if status >= 500 and named in (400, 401, 402, 403, 404) else status


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
    """Tokens read, of these from the server's cache, and written, as a reply counts them; None if it does not.

    Known are the counts of OpenAI's protocols, of Anthropic's (which counts what its cache gave and took apart from the rest), of
    Gemini's (which counts thoughts apart from the answer) and of Ollama's.

    Examples
    --------
    >>> token_counts({"usage": {"input_tokens": 20, "cache_read_input_tokens": 1000, "output_tokens": 4}})
    (1020, 1000, 4)
    >>> token_counts({"usageMetadata": {"promptTokenCount": 9, "candidatesTokenCount": 2, "thoughtsTokenCount": 30}})
    (9, 0, 32)
    """
    if not isinstance(body, Mapping):
        return None
    usage, gemini = body.get("usage"), body.get("usageMetadata")
    if isinstance(gemini, Mapping):
        read = _count(gemini.get("promptTokenCount"))
        written = _count(gemini.get("candidatesTokenCount")) + _count(gemini.get("thoughtsTokenCount"))
        return read, min(_count(gemini.get("cachedContentTokenCount")), read), written
    if not isinstance(usage, Mapping):
        is_ollama = type(body.get("eval_count")) is int
        return (_count(body.get("prompt_eval_count")), 0, _count(body["eval_count"])) if is_ollama else None
    counts = [usage.get(name) for name in ("prompt_tokens", "input_tokens", "completion_tokens", "output_tokens")]
    if not any(isinstance(count, int) for count in counts):
        return None
    apart = _count(usage.get("cache_read_input_tokens"))
    read = _count(*counts[:2]) + apart + _count(usage.get("cache_creation_input_tokens"))
    details = usage.get("prompt_tokens_details") or usage.get("input_tokens_details")
    cached = _count(details.get("cached_tokens")) if isinstance(details, Mapping) else apart
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


# These run for every token of a reply, and make their messages only where something is wrong.


def mapping(value: Any, name: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise BadReplyError(f"{name} is {_shown(value)}; expected an object")
    return value


def sequence(value: Any, name: str, length: int | None = None) -> Sequence[Any]:
    if not isinstance(value, list):
        raise BadReplyError(f"{name} is {_shown(value)}; expected a list")
    if length is not None and len(value) != length:
        raise BadReplyError(f"{name} has {len(value)} items; expected {length}")
    return value


def string(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise BadReplyError(f"{name} is {_shown(value)}; expected a string")
    return value


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


def check_distribution(logprobs: Iterable[float | None], name: str) -> None:
    """Refuse log-probabilities of events that exclude each other if their probabilities add up to more than 1.

    Parameters
    ----------
    logprobs : iterable of float or None
        In nats; None is not known, and counts as 0.
    name : str
        What they are, for the message.

    Raises
    ------
    BadReplyError

    Examples
    --------
    >>> check_distribution([math.log(0.7), math.log(0.3), None], "the likeliest tokens")
    >>> check_distribution([math.log(0.7), math.log(0.4)], "the likeliest tokens")
    Traceback (most recent call last):
    llmclf.backends.http.replies.BadReplyError: the probabilities of the likeliest tokens add up to 1.1; expected at most 1
    """
    total = math.fsum(math.exp(value) for value in logprobs if value is not None)
    if total > 1.0 + _SUM_TOLERANCE:
        raise BadReplyError(f"the probabilities of {name} add up to {total:.4g}; expected at most 1")


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


def _meaning(words: str) -> int | None:
    words = re.sub(r"[\s-]+", "_", words[:_MESSAGE_LENGTH].lower())
    return next((status for status, pattern in _MEANINGS if re.search(pattern, words)), None)


def _status(value: Any) -> int | None:
    """The HTTP status of a failure that a value is, or that the digits of a text are."""
    number = int(value) if isinstance(value, str) and re.fullmatch("[45][0-9]{2}", value) else value
    return number if type(number) is int and 400 <= number < 600 else None


def _count(*values: Any) -> int:
    for value in values:
        if type(value) is int and 0 <= value < _MOST_TOKENS:
            return value
    return 0


def _number(value: Any, name: str) -> float:
    # Not `checks.is_number`: asking for an abstract class is slow.
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not (is_number and -_LARGEST <= value <= _LARGEST):  # JSON has whole numbers that no float can hold
        raise BadReplyError(f"{name} is {_shown(value)}; expected a finite number")
    return float(value)


def _shown(value: Any) -> str:
    """A value for a message: short, and never the user's text."""
    return "missing" if value is None else type_of(value) if isinstance(value, (str, list, dict)) else repr(value)[:30]
