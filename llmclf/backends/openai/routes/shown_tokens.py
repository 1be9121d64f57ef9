"""The likeliest tokens that a server shows at one position, as symbols of labels; everything else lies in an interval."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ....errors import ServerError
from ...http.replies import expect
from ...requests import Request, RowScores, needs_terminator
from ...wires.token_replies import NO_DISTRIBUTION, Entry, Position, completion_reader, may_end, shows_distribution
from .label_bounds import END, TINY, LabelBounds, Symbols, Unclear, midpoint

_CUT = "\N{REPLACEMENT CHARACTER}".encode()
_BYTE = re.compile(rb"<0x([0-9A-Fa-f]{2})>")


@dataclass(frozen=True)
class Seen:
    """What the server tells about one position.

    Attributes
    ----------
    shown : list of pairs of a tuple of int and a float
        The symbols of a token, and its log-probability in nats.
    unclear : list of Unclear
        Tokens that are shown so that they could be one of several.
    least : float
        The largest probability that any other token can have.
    written : pair of a tuple of int and a float, or None
        The token that the server wrote; None where it is unclear which one that was.
    """

    shown: list[tuple[Symbols, float]]
    unclear: list[Unclear]
    least: float
    written: tuple[Symbols, float] | None = None


def read_first(reply: Any) -> Position:
    """The first position of a completion."""
    (positions,) = completion_reader(1)(reply)
    return first_shown(positions)


def first_shown(positions: Sequence[Position]) -> Position:
    """The first position, which has to say how probable its tokens are.

    Raises
    ------
    BadReplyError
    """
    expect(len(positions) >= 1, "no token was generated, so none was named")
    expect(shows_distribution(positions[0]), NO_DISTRIBUTION)
    return positions[0]


def by_id(position: Position, k: int) -> Seen:
    """The shown tokens by their ids, of a server that was asked for the likeliest k."""
    entries = {entry.token: entry.logprob for entry in (*position.top, position.chosen)}
    shown: list[tuple[Symbols, float]] = [
        ((token,), value) for token, value in entries.items() if token is not None and value is not None
    ]
    return Seen(shown, [], _max_hidden(position, k))


def by_bytes(position: Position, k: int, *, terminated: bool) -> Seen:
    """The shown tokens as bytes; two tokens of the same bytes stay two, and their probabilities add.

    Parameters
    ----------
    position : Position
    k : int
        How many of the likeliest tokens the server was asked for.
    terminated : bool
        Labels end with the end-of-answer token, so that a control token may be that end.
    """
    chosen = position.chosen
    # The token that was drawn need not be among the likeliest; one that is written alike may be another.
    is_apart = all((entry.token, entry.text) != (chosen.token, chosen.text) for entry in position.top)
    seen = Seen([], [], _max_hidden(position, k))
    least, written = seen.least, None
    for entry in (*position.top, chosen) if is_apart else position.top:
        if entry.logprob is None:
            continue
        token = _symbols(entry, position.end, terminated)
        if token is None:
            # It may be anything: its probability counts as not shown.
            least = max(least, math.exp(entry.logprob))
        elif isinstance(token, Unclear):
            seen.unclear.append(token)
        else:
            seen.shown.append((token, entry.logprob))
            if entry == chosen:
                written = (token, entry.logprob)
    return replace(seen, least=least, written=written)


def _symbols(entry: Entry, end: bytes | None, terminated: bool) -> Symbols | Unclear | None:
    """The symbols of a token, or what it may be; None where it may be anything."""
    text, value = entry.text, entry.logprob
    if text is None or value is None:
        return None
    letters = tuple(text)
    if _CUT in text:
        return Unclear(value, cut=tuple(text[: text.index(_CUT)]))
    if text == end:
        return (END,)
    if not text:
        # llama.cpp's server shows control tokens like this; vLLM shows parts of characters like this, too.
        return (END,) if entry.token is not None else Unclear(value, ((END,),), cut=())
    byte = _BYTE.fullmatch(text)
    if byte is not None:
        return Unclear(value, ((int(byte[1], 16),), letters))
    return Unclear(value, ((END,), letters)) if terminated and may_end(text) else letters


def _max_hidden(position: Position, k: int) -> float:
    """The largest probability that a token outside the likeliest k can have, as far as the answer tells."""
    chosen = position.chosen
    values = sorted((entry.logprob for entry in position.top if entry.logprob is not None), reverse=True)
    if len(values) > k:
        return math.exp(values[k - 1])
    if not values:
        return 1.0
    # Some servers put the token that was drawn among the likeliest, however unlikely it is.
    is_among = any((entry.token, entry.text) == (chosen.token, chosen.text) for entry in position.top)
    is_drawn = is_among and chosen.logprob is not None and chosen.logprob <= values[-1]
    if position.is_keyed and (is_drawn or len(values) < k):
        return 1.0  # a likely token may have been lost to another that is written alike
    if is_drawn:
        del values[-1]
    return math.exp(values[-1]) if values else 1.0


def byte_bounds(request: Request) -> tuple[LabelBounds, bool]:
    """Bounds on the labels of a request as bytes, and whether the end of the answer is part of them."""
    labels: list[Symbols] = [tuple(text.encode("utf-8", "surrogatepass")) for text in request.completions]
    terminated = request.terminator == "eos" or (request.terminator == "auto" and needs_terminator(labels))
    if terminated:
        labels = [(*label, END) for label in labels]
    return LabelBounds(labels, is_tokens=False, excludes_longer=request.terminator == "longest"), terminated


def bounded_scores(
    bounds: LabelBounds, characters_cut: int = 0, healed: bool = False, terminated: bool = False
) -> RowScores:
    """The answer to a row whose labels lie between bounds; each score is the logarithm of the middle of its two probabilities.

    Raises
    ------
    ServerError
        No label can have any probability.
    """
    intervals = bounds.intervals()
    if not any(high > 0.0 for _, high in intervals):
        raise ServerError("the server's log-probabilities leave no label any probability")
    return RowScores(
        tuple((midpoint(low, high),) for low, high in intervals),
        tuple(math.log(low) if low > 0.0 else -math.inf for low, _ in intervals),
        tuple(min(0.0, math.log(max(TINY, high))) for _, high in intervals),
        characters_cut,
        healed,
        terminated,
    )
