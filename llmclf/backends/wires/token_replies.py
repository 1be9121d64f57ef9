"""Tokens and log-probabilities in replies, in each form that servers use."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, NamedTuple

from ..http.replies import (
    UNKNOWN,
    BadReplyError,
    check_distribution,
    choices,
    expect,
    logprob,
    mapping,
    sequence,
    string,
)

NO_DISTRIBUTION = "every token has the value 0 or -9999, which is no distribution"
_MOST_NAMED = 50_000  # tokens in one reply: 64 prompts, 30 places of each, 20 tokens at each, and as much again
_SAME = 1e-4  # nats by which two spellings of one number may differ
_ID_DIGITS = 12
_CONTROL = re.compile(rb"<[^<>\s]{1,60}>|</?[a-z_]+>")
_BYTES = re.compile(r"bytes:((?:\\x[0-9a-fA-F]{2}|[ -\[\]-~])*+)")  # never looks at a character twice
_KNOWN_LENGTH = 32  # characters of a token that is kept in memory


class Entry(NamedTuple):
    """A token that a server names by its id, its bytes or both, and its log-probability in nats (None if it is missing)."""

    token: int | None
    text: bytes | None
    logprob: float | None


@dataclass(frozen=True)
class Position:
    """One position of a completion: the token that stands there, and the likeliest tokens that could.

    Attributes
    ----------
    chosen : Entry
    top : tuple of Entry
    is_keyed : bool
        The likeliest tokens came as a JSON object keyed by text, where only one of several tokens with the same text is left.
    end : bytes or None
        The text of the token that ended the completion, if it is known.
    """

    chosen: Entry
    top: tuple[Entry, ...]
    is_keyed: bool = False
    end: bytes | None = None


def may_end(text: bytes) -> bool:
    """Whether a token's text looks like that of a control token, which may be the end of the answer.

    Examples
    --------
    >>> may_end(b"<|im_end|>"), may_end(b"</s>"), may_end(b""), may_end(b"a < b"), may_end(b"no")
    (True, True, True, False, False)
    """
    return not text or _CONTROL.fullmatch(text) is not None


def token_grammar(tokens: list[int] | tuple[int, ...]) -> str:
    """A grammar that allows exactly one sequence of token ids.

    Examples
    --------
    >>> token_grammar([7042, 30])
    'root ::= <[7042]> <[30]>'
    """
    return "root ::= " + " ".join(f"<[{int(token)}]>" for token in tokens)


def completion_reader(n: int) -> Any:
    """A reader of the generated tokens of n completions: n lists of `Position`, whichever form the server uses."""

    def read(reply: Any) -> list[list[Position]]:
        stated = choices(reply, n)
        _check_number(stated)
        return [_positions(choice) for choice in stated]

    return read


def chat_reader(reply: Any) -> list[Position]:
    """The generated tokens of a chat's answer."""
    (choice,) = choices(reply, 1)
    _check_number([choice])
    return _positions(choice)


def listed_positions(items: Sequence[Any]) -> list[Position]:
    """The tokens of an answer that come as a list, each as in a chat: with its text, its bytes and the likeliest tokens."""
    n_named = len(items) + sum(len(top) for top in _tops(items) if isinstance(top, list))
    expect(n_named <= _MOST_NAMED, f"it names {n_named:,} tokens; at most {_MOST_NAMED:,} are read")
    return checked_positions([_chat_position(item) for item in items])


def checked_positions(positions: list[Position]) -> list[Position]:
    """The same, unless the tokens at one place have more probability than there is.

    Raises
    ------
    BadReplyError
    """
    for position in positions:
        _check_distribution(position)
    return positions


def shows_distribution(position: Position) -> bool:
    """Whether any token has a log-probability that is neither 0 nor a number that stands for "very unlikely".

    Where none has, the server shows what it wrote and not how probable that was.

    Examples
    --------
    >>> shows_distribution(Position(Entry(None, b"a", 0.0), (Entry(None, b"a", 0.0), Entry(None, b"b", None))))
    False
    """
    return any(entry.logprob is not None and entry.logprob < 0.0 for entry in (position.chosen, *position.top))


def _check_number(stated: Sequence[Mapping[str, Any]]) -> None:
    """Refuse a reply that names far more tokens than are ever asked for: to look at each takes time.

    Raises
    ------
    BadReplyError
    """
    n = 0
    for choice in stated:
        logprobs = choice.get("logprobs")
        for name in ("content", "tokens", "top_logprobs"):
            listed = logprobs.get(name) if isinstance(logprobs, Mapping) else None
            if isinstance(listed, list):
                n += len(listed)
                tops = listed if name == "top_logprobs" else _tops(listed) if name == "content" else ()
                n += sum(len(top) for top in tops if isinstance(top, (list, dict)))
    expect(n <= _MOST_NAMED, f"it names {n:,} tokens; at most {_MOST_NAMED:,} are read")


def _tops(content: Sequence[Any]) -> Iterator[Any]:
    return (item.get("top_logprobs") for item in content if isinstance(item, Mapping))


def _positions(choice: Mapping[str, Any]) -> list[Position]:
    logprobs = choice.get("logprobs")
    if not logprobs:
        raise BadReplyError("the choice has no log-probabilities")
    if "content" in mapping(logprobs, "logprobs"):
        positions = [_chat_position(item) for item in sequence(logprobs["content"], "logprobs.content")]
    else:
        tokens = sequence(logprobs.get("tokens"), "logprobs.tokens")
        values = sequence(logprobs.get("token_logprobs"), "logprobs.token_logprobs", len(tokens))
        tops = logprobs.get("top_logprobs")
        tops = [None] * len(tokens) if tops is None else sequence(tops, "logprobs.top_logprobs", len(tokens))
        positions = [_position(*entry) for entry in zip(tokens, values, tops, strict=True)]
    checked_positions(positions)
    last = positions[-1].chosen.text if positions else None
    # An empty text may be a part of a character elsewhere.
    if choice.get("finish_reason") == "stop" and last and may_end(last):
        return [replace(position, end=last) for position in positions]
    return positions


def _check_distribution(position: Position) -> None:
    """Refuse a position whose tokens have more probability than there is.

    The token that was drawn is one of the likeliest or another; where both name it, the likeliest tokens' number counts.
    """
    chosen = position.chosen
    shown = {(entry.token, entry.text, entry.logprob) for entry in position.top}
    # Servers spell the drawn token otherwise beside the likeliest ones; one of the same probability may be the same token.
    is_apart = chosen.logprob is None or all(
        (entry.token, entry.text) != (chosen.token, chosen.text)
        and (entry.logprob is None or abs(entry.logprob - chosen.logprob) > _SAME)
        for entry in position.top
    )
    values = [value for *_, value in shown]
    check_distribution([*values, chosen.logprob] if is_apart else values, "the tokens at one place")


def _position(token: Any, value: Any, top: Any) -> Position:
    entries = tuple(_entry(name, number) for name, number in mapping(top or {}, "top_logprobs").items())
    return Position(_entry(string(token, "a token"), value), entries, any(entry.token is None for entry in entries))


def _chat_position(item: Any) -> Position:
    item = mapping(item, "a token")
    top = [
        _chat_entry(mapping(entry, "a top token")) for entry in sequence(item.get("top_logprobs") or [], "top_logprobs")
    ]
    return Position(_chat_entry(item), tuple(top))


def _chat_entry(item: Mapping[str, Any]) -> Entry:
    text = string(item.get("token"), "a token")
    value = known_logprob(item.get("logprob"))
    named, data = _meant(text)
    if named is not None:
        return Entry(named, None, value)
    raw = item.get("bytes")
    listed = _listed_bytes(raw) if isinstance(raw, list) else None
    if listed is not None and listed != text.encode("utf-8", "surrogatepass"):
        data = listed
    token = item.get("id")
    return Entry(token if isinstance(token, int) else None, data, value)


def _listed_bytes(numbers: list[Any]) -> bytes | None:
    """The bytes that a list names; None if it names no bytes."""
    try:
        return bytes(numbers)
    except (TypeError, ValueError):
        return None


def _entry(text: str, value: Any) -> Entry:
    return Entry(*_meant(text), known_logprob(value))


def _meant(text: str) -> tuple[int | None, bytes | None]:
    """The id that a token's text names, or else its bytes."""
    return _known(text) if len(text) <= _KNOWN_LENGTH else _known.__wrapped__(text)


@lru_cache(maxsize=1 << 14)
def _known(text: str) -> tuple[int | None, bytes | None]:
    # Kept, since a server names the same tokens again and again.
    token = _named_id(text)
    return token, None if token is not None else _as_bytes(text)


def _as_bytes(text: str) -> bytes:
    """The bytes of a token's text; OpenAI's completions write bytes that are not text as ``bytes:\\xe5\\xa5``."""
    match = _BYTES.fullmatch(text)
    if match is None or "\\" not in text:
        return text.encode("utf-8", "surrogatepass")
    return re.sub(rb"\\x(..)", lambda byte: bytes.fromhex(byte[1].decode()), match[1].encode())


def _named_id(text: str) -> int | None:
    digits = text.removeprefix("token_id:")
    is_id = digits != text and digits.isascii() and digits.isdecimal() and len(digits) <= _ID_DIGITS
    return int(digits) if is_id else None


def known_logprob(value: Any) -> float | None:
    """A log-probability; None for the numbers that stand for "too unlikely to tell"."""
    # Not `checks.is_number`: this runs for every token of a reply, and asking for an abstract class is slow.
    if isinstance(value, (int, float)) and not isinstance(value, bool) and value <= UNKNOWN:
        return None
    return logprob(value)


def echoes(reply: Any, n: int) -> list[Mapping[str, Any]]:
    """What came back of n prompts, in their order, each with its ``logprobs``.

    Most servers put a prompt at the beginning of its choice. Together puts the prompts into a list of their own, each with the
    control token that stands before a text, which is left out.
    """
    stated = choices(reply, n)
    prompts = reply.get("prompt")
    if not (isinstance(prompts, list) and len(prompts) == n and all(isinstance(one, dict) for one in prompts)):
        return stated
    return [_without_first_control(prompt) if prompt.get("logprobs") else prompt for prompt in prompts]


def _without_first_control(prompt: Mapping[str, Any]) -> Mapping[str, Any]:
    logprobs = mapping(prompt["logprobs"], "logprobs")
    tokens = sequence(logprobs.get("tokens"), "logprobs.tokens")
    values = sequence(logprobs.get("token_logprobs"), "logprobs.token_logprobs", len(tokens))
    first = string(tokens[0], "a token") if tokens else ""
    text = prompt.get("text")
    is_control = bool(first) and may_end(first.encode("utf-8", "surrogatepass"))
    if not is_control or (isinstance(text, str) and text.startswith(first)):
        return prompt
    return {"logprobs": {"tokens": tokens[1:], "token_logprobs": values[1:]}}


def echoed(reply: Any) -> list[Entry]:
    """The tokens of an echoed prompt, and of what was generated after it; nothing if the server did not echo."""
    (choice,) = echoes(reply, 1)
    logprobs = choice.get("logprobs")
    if not isinstance(logprobs, Mapping) or not isinstance(logprobs.get("tokens"), list):
        return []
    tokens = [string(token, "a token") for token in logprobs["tokens"]]
    values = sequence(logprobs.get("token_logprobs"), "logprobs.token_logprobs", len(tokens))
    entries = [_entry(token, UNKNOWN if value is None else value) for token, value in zip(tokens, values, strict=True)]
    return entries if len(entries) > 1 else []
