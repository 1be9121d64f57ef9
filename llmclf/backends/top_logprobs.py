"""Labels' log-probabilities from a server that names only the likeliest tokens: everything else lies in an interval.

Over completions the label trie is walked, with a further request for each branch that matters; a chat cannot be continued, so it
shows the first token of its answer, and further ones along that answer alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import ServerError
from .base import Request, RowScores, needs_terminator
from .bounded import END, LabelBounds, Symbols, midpoint
from .completions import Position, chat_reader, completion_reader
from .routes import Asker
from .tokens import TokenRow

_AHEAD = 16  # most tokens of a chat's answer that are looked at


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

        async def look(prefix: Symbols) -> list[Position]:
            body = {
                "prompt": [*row.context, *prefix],
                "max_tokens": 1,
                "logprobs": self.ask.probe.top_logprobs,
                "temperature": 1.0,
            }
            n_tokens = len(row.context) + len(prefix)
            (positions,) = await self.ask.complete(body, completion_reader(1), tokens_in=n_tokens)
            return list(positions)

        bounds = LabelBounds(row.targets, is_tokens=True)
        await self._walk(bounds, look, _by_id)
        return _bounded(bounds, row.characters_cut, row.healed, row.terminated)

    async def text(self, request: Request) -> RowScores:
        """Text both ways, on a server that continues it."""
        text = request.prompt.turns[0].text

        async def look(prefix: Symbols) -> list[Position]:
            whole = text + bytes(prefix).decode("utf-8", "replace")
            body = {"prompt": whole, "max_tokens": 1, "logprobs": self.ask.probe.top_logprobs, "temperature": 1.0}
            (positions,) = await self.ask.complete(
                body, completion_reader(1), tokens_in=len(whole) // 3 + 1, by_id=False
            )
            return list(positions)

        labels, terminated = _byte_labels(request)
        bounds = LabelBounds(labels, is_tokens=False)
        await self._walk(bounds, look, _by_bytes)
        return _bounded(bounds, terminated=terminated)

    async def chat(self, request: Request) -> RowScores:
        """A chat shows the first token of its answer, and further ones along that answer alone."""
        labels, terminated = _byte_labels(request)
        longest = max(len(label) for label in labels)
        messages = [{"role": str(turn.role), "content": turn.text} for turn in request.prompt.turns]

        async def look(_: Symbols) -> list[Position]:
            body = {
                "messages": messages,
                "logprobs": True,
                "top_logprobs": self.ask.probe.chat_top_logprobs,
                "temperature": 0.0 if self.ask.probe.raw else 1.0,
                self.ask.probe.chat_limit: min(_AHEAD, longest),
            }
            n_tokens = sum(len(message["content"]) for message in messages) // 3 + 8 * len(messages)
            found: list[Position] = await self.ask.complete(
                body,
                chat_reader,
                tokens_in=n_tokens,
                tokens_out=min(_AHEAD, longest),
                path="/chat/completions",
                by_id=False,
            )
            return found

        bounds = LabelBounds(labels, is_tokens=False)
        self._take(bounds, (), await look(()), _by_bytes, self.ask.probe.chat_top_logprobs)
        return _bounded(bounds, terminated=terminated)

    async def _walk(
        self, bounds: LabelBounds, look: Any, symbols: Callable[[Position], list[tuple[Symbols, float]]]
    ) -> None:
        prefix: Symbols | None = ()
        for _ in range(self.max_calls):
            if prefix is None:
                break
            self._take(bounds, prefix, await look(prefix), symbols, self.ask.probe.top_logprobs)
            prefix = bounds.next_prefix(self.tolerance)

    def _take(
        self,
        bounds: LabelBounds,
        prefix: Symbols,
        positions: Sequence[Position],
        symbols: Callable[[Position], list[tuple[Symbols, float]]],
        k: int,
    ) -> None:
        """Take in what stands after a prefix, and what follows along the server's own continuation while that is a label's."""
        for position in positions:
            if not bounds.leads_on(prefix):
                return
            shown = symbols(position)
            bounds.add(prefix, shown, k)
            written = symbols(Position(position.chosen, ()))
            if not written:
                return
            prefix = (*prefix, *written[0][0])


def _by_id(position: Position) -> list[tuple[Symbols, float]]:
    entries = {entry.token: entry.logprob for entry in (*position.top, position.chosen)}
    return [((token,), value) for token, value in entries.items() if token is not None and value is not None]


def _by_bytes(position: Position) -> list[tuple[Symbols, float]]:
    """The shown tokens as bytes; two tokens of the same bytes stay two, and their probabilities add."""
    entries = position.top or (position.chosen,)
    found = []
    for entry in entries:
        # A token that is part of a character cannot be told from others: it counts as not shown.
        if entry.logprob is None or "\N{REPLACEMENT CHARACTER}".encode() in entry.text:
            continue
        found.append((tuple(entry.text) or (END,), entry.logprob))
    return found


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
        tuple(min(0.0, math.log(high)) for _, high in found),
        characters_cut,
        healed,
        terminated,
    )
