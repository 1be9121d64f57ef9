"""Labels' log-probabilities from a server that names only the likeliest tokens: everything else lies in an interval.

Over completions the label trie is walked, with a further request for each branch that matters; a chat cannot be continued, so it
shows the first token of its answer, and further ones along that answer alone.
"""

from __future__ import annotations

import math
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from ....errors import ServerError
from ...base import Request, RowScores, needs_terminator
from ...http.replies import expect
from ...tokens.codec import TokenRow
from ..token_replies import Entry, Position, chat_reader, completion_reader, may_end
from .base import Asker, n_tokens_at_most
from .label_bounds import END, TINY, LabelBounds, Symbols, Unclear, midpoint

_TEMPLATE = 64  # tokens that a chat template may add of its own
_AHEAD = 16  # most tokens of a chat's answer that are looked at
_CUT = "\N{REPLACEMENT CHARACTER}".encode()
_BYTE = re.compile(rb"<0x([0-9A-Fa-f]{2})>")


@dataclass(frozen=True)
class TopLogprobs:
    """One row by the likeliest tokens alone, with further questions only where they matter.

    Attributes
    ----------
    max_calls : int
        Most requests for one row.
    tolerance : float
        Share of the labels' probability below which a branch is not looked at, once the best label is decided.
    """

    ask: Asker
    max_calls: int
    tolerance: float

    async def tokens(self, row: TokenRow) -> RowScores:
        """Token ids both ways: the label trie itself is walked."""

        async def look(prefix: Symbols) -> Position:
            body = {
                "prompt": [*row.context, *prefix],
                "max_tokens": 1,
                "logprobs": self.ask.probe.top_logprobs,
                "temperature": 1.0,
            }
            n_tokens = len(row.context) + len(prefix)
            position: Position = await self.ask.complete(body, _read_ids, tokens_in=n_tokens)
            return position

        bounds = LabelBounds(row.targets, is_tokens=True)
        await self._walk(bounds, look, _by_id)
        return _bounded(bounds, row.characters_cut, row.healed, row.terminated)

    async def text(self, request: Request) -> RowScores:
        """Text both ways, on a server that continues it."""
        text = request.prompt.turns[0].text

        async def look(prefix: Symbols) -> Position:
            whole = text + bytes(prefix).decode()
            body = {"prompt": whole, "max_tokens": 1, "logprobs": self.ask.probe.top_logprobs, "temperature": 1.0}
            position: Position = await self.ask.complete(
                body, _read_first, tokens_in=n_tokens_at_most(whole), by_id=False
            )
            return position

        labels, terminated = _byte_labels(request)
        bounds = LabelBounds(labels, is_tokens=False)
        await self._walk(bounds, look, partial(_by_bytes, terminated=terminated), _is_text)
        return _bounded(bounds, terminated=terminated)

    async def chat(self, request: Request) -> RowScores:
        """A chat shows the first token of its answer, and further ones along that answer alone."""
        labels, terminated = _byte_labels(request)
        longest = max(len(label) for label in labels)
        messages = [{"role": str(turn.role), "content": turn.text} for turn in request.prompt.turns]

        body = {
            "messages": messages,
            "logprobs": True,
            "top_logprobs": self.ask.probe.chat_top_logprobs,
            "temperature": 0.0 if self.ask.probe.raw else 1.0,
            self.ask.probe.chat_limit: min(_AHEAD, longest),
        }
        n_tokens = _TEMPLATE + sum(n_tokens_at_most(message["content"]) + 8 for message in messages)
        positions: list[Position] = await self.ask.complete(
            body,
            _read_chat,
            tokens_in=n_tokens,
            tokens_out=min(_AHEAD, longest),
            path="/chat/completions",
            by_id=False,
        )
        bounds = LabelBounds(labels, is_tokens=False)
        _follow(bounds, positions, self.ask.probe.chat_top_logprobs, terminated)
        return _bounded(bounds, terminated=terminated)

    async def _walk(
        self,
        bounds: LabelBounds,
        look: Callable[[Symbols], Awaitable[Position]],
        read: Callable[[Position, int], _Seen],
        may_ask: Callable[[Symbols], bool] = lambda _: True,
    ) -> None:
        prefix: Symbols | None = ()
        for _ in range(self.max_calls):
            if prefix is None:
                break
            seen = read(await look(prefix), self.ask.probe.top_logprobs)
            bounds.add(prefix, seen.shown, least=seen.least, unclear=seen.unclear)
            prefix = bounds.next_prefix(self.tolerance, may_ask)


@dataclass(frozen=True)
class _Seen:
    """What a position tells: tokens, tokens that cannot be told, the most that any other has, and the symbols that were written.

    `written` is None where the token that was written cannot be told, or not told from another.
    """

    shown: list[tuple[Symbols, float]]
    unclear: list[Unclear]
    least: float
    written: tuple[Symbols, float] | None = None


def _follow(bounds: LabelBounds, positions: Sequence[Position], k: int, terminated: bool) -> None:
    """Take in a chat's answer place by place, while it is that of a label.

    Every place is seen after the tokens that were written alone: whatever leads to the same text by other tokens stays open.
    """
    prefix: Symbols = ()
    way = 1.0
    for position in positions:
        if not bounds.leads_on(prefix):
            return
        seen = _by_bytes(position, k, terminated=terminated)
        bounds.add(prefix, seen.shown, least=seen.least, unclear=seen.unclear, way=way)
        if seen.written is None:
            return
        symbols, value = seen.written
        prefix, way = (*prefix, *symbols), way * math.exp(value)


# --- reading a position ------------------------------------------------------------------------------------------------


def _read_first(reply: Any) -> Position:
    (positions,) = completion_reader(1)(reply)
    expect(len(positions) >= 1, "no token was generated, so none was named")
    first: Position = positions[0]
    return first


def _read_ids(reply: Any) -> Position:
    position = _read_first(reply)
    entries = position.top or (position.chosen,)
    usable = any(entry.token is not None and entry.logprob is not None for entry in entries)
    expect(usable, "no token has both an id and a log-probability")
    return position


def _read_chat(reply: Any) -> list[Position]:
    positions: list[Position] = chat_reader(reply)
    expect(len(positions) >= 1, "the answer is empty, so no token was named")
    return positions


def _by_id(position: Position, k: int) -> _Seen:
    entries = {entry.token: entry.logprob for entry in (*position.top, position.chosen)}
    shown: list[tuple[Symbols, float]] = [
        ((token,), value) for token, value in entries.items() if token is not None and value is not None
    ]
    return _Seen(shown, [], _least(position, k))


def _by_bytes(position: Position, k: int, *, terminated: bool) -> _Seen:
    """The shown tokens as bytes; two tokens of the same bytes stay two, and their probabilities add."""
    chosen = position.chosen
    # The token that was drawn need not be among the likeliest; one that is written alike may be another.
    is_apart = all((entry.token, entry.text) != (chosen.token, chosen.text) for entry in position.top)
    seen = _Seen([], [], _least(position, k))
    least, written = seen.least, None
    for entry in (*position.top, chosen) if is_apart else position.top:
        if entry.logprob is None:
            continue
        token = _told(entry, position.end, terminated)
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


def _told(entry: Entry, end: bytes | None, terminated: bool) -> Symbols | Unclear | None:
    """What a token is: its symbols, or what it may be; None where that is anything."""
    text, value = entry.text, entry.logprob
    if text is None or value is None:
        return None
    letters = tuple(text)
    if _CUT in text:
        return Unclear(value, cut=tuple(text[: text.index(_CUT)]))
    if text == end:
        return (END,)
    if not text:
        # llama.cpp's server shows control tokens so, vLLM parts of characters, too.
        return (END,) if entry.token is not None else Unclear(value, ((END,),), cut=())
    byte = _BYTE.fullmatch(text)
    if byte is not None:
        return Unclear(value, ((int(byte[1], 16),), letters))
    return Unclear(value, ((END,), letters)) if terminated and may_end(text) else letters


def _least(position: Position, k: int) -> float:
    """The most probability that a token which is not among the likeliest k can have, as far as the answer tells."""
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


def _is_text(prefix: Symbols) -> bool:
    """Whether bytes are whole characters, so that a server can be asked what follows."""
    try:
        bytes(prefix).decode()
    except UnicodeDecodeError:
        return False
    return True


def _byte_labels(request: Request) -> tuple[list[Symbols], bool]:
    labels: list[Symbols] = [tuple(text.encode("utf-8", "surrogatepass")) for text in request.completions]
    terminated = request.terminator == "eos" or (request.terminator == "auto" and needs_terminator(labels))
    return ([(*label, END) for label in labels] if terminated else labels), terminated


def _bounded(bounds: LabelBounds, characters_cut: int = 0, healed: bool = False, terminated: bool = False) -> RowScores:
    found = bounds.intervals()
    if not any(high > 0.0 for _, high in found):
        raise ServerError("the server's log-probabilities leave no label any probability")
    return RowScores(
        tuple((midpoint(low, high),) for low, high in found),
        tuple(math.log(low) if low > 0.0 else -math.inf for low, _ in found),
        tuple(min(0.0, math.log(max(TINY, high))) for _, high in found),
        characters_cut,
        healed,
        terminated,
    )
