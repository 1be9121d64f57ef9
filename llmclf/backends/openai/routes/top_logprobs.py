"""The route ``top_logprobs``: completions name the likeliest tokens, and further requests narrow the bounds where it matters."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

from ...http.replies import expect
from ...requests import Request, RowScores
from ...tokens.codec import TokenRow
from ...tokens.label_trie import label_trie
from ..probe import Probe
from ..token_replies import Position
from .base import (
    NOT_RAW,
    Answer,
    Placed,
    RouteClient,
    RowSize,
    ServerFacts,
    TextRoute,
    TokenRoute,
    Work,
    max_tokens,
    refuse_chat,
)
from .label_bounds import LabelBounds, Symbols
from .shown_tokens import Seen, bounded_scores, by_bytes, by_id, byte_bounds, read_first


class TopLogprobs(TokenRoute, TextRoute):
    """The label trie is walked along the likeliest tokens, with a further request for each branch that matters."""

    name = "top_logprobs"
    summary = "only the likeliest tokens are shown; further requests narrow the bounds where it matters"
    is_exact = False
    sees_tokens = False
    depends_on_answers = True

    def obstacle(self, server: ServerFacts) -> str | None:
        n = server.probe.top_logprobs
        if n < 2:
            return f"a completion names {n or 'none'} of the likeliest tokens; at least 2 are needed"
        return None if server.shows_model else NOT_RAW

    def takes_tokens(self, server: ServerFacts) -> bool:
        # Ids are of use only where the server names its tokens by them.
        return server.is_tokenised and server.probe.token_ids

    def work(self, row: RowSize, n_together: int) -> Work:
        trie = label_trie(row.labels)
        calls = min(trie.n_nodes + 1, self.options.top_calls)
        return Work(calls, calls * row.context + int(trie.depths.sum()), calls)

    def identity(self, probe: Probe) -> dict[str, Any]:
        limits = {"top_calls": self.options.top_calls, "tolerance": self.options.tolerance}
        return {**super().identity(probe), "top_logprobs": probe.top_logprobs, **limits}

    async def score_tokens(self, client: RouteClient, rows: Sequence[Placed]) -> list[Answer]:
        return [(place, await self._score_row(client, row)) for place, row in rows]

    async def _score_row(self, client: RouteClient, row: TokenRow) -> RowScores:
        async def look(prefix: Symbols) -> Position:
            body = {
                "prompt": [*row.context, *prefix],
                "max_tokens": 1,
                "logprobs": client.probe.top_logprobs,
                "temperature": 1.0,
            }
            return await client.complete(body, _read_ids, tokens_in=len(row.context) + len(prefix))

        bounds = LabelBounds(row.targets, is_tokens=True, excludes_longer=row.excludes_longer)
        await self._walk(client.probe.top_logprobs, bounds, look, by_id)
        return bounded_scores(bounds, row.characters_cut, row.healed, row.terminated)

    async def score_text(self, client: RouteClient, request: Request) -> RowScores:
        refuse_chat(request)
        text = request.prompt.turns[0].text

        async def look(prefix: Symbols) -> Position:
            whole = text + bytes(prefix).decode()
            body = {"prompt": whole, "max_tokens": 1, "logprobs": client.probe.top_logprobs, "temperature": 1.0}
            return await client.complete(body, read_first, tokens_in=max_tokens(whole), by_id=False)

        bounds, terminated = byte_bounds(request)
        await self._walk(client.probe.top_logprobs, bounds, look, partial(by_bytes, terminated=terminated), _is_text)
        return bounded_scores(bounds, terminated=terminated)

    async def _walk(
        self,
        k: int,
        bounds: LabelBounds,
        look: Callable[[Symbols], Awaitable[Position]],
        read: Callable[[Position, int], Seen],
        may_ask: Callable[[Symbols], bool] = lambda _: True,
    ) -> None:
        """Ask what follows one prefix after another until none matters, or `top_calls` are spent."""
        prefix: Symbols | None = ()
        for _ in range(self.options.top_calls):
            if prefix is None:
                break
            seen = read(await look(prefix), k)
            bounds.add(prefix, seen.shown, least=seen.least, unclear=seen.unclear)
            prefix = bounds.next_prefix(self.options.tolerance, may_ask)


def _read_ids(reply: Any) -> Position:
    position = read_first(reply)
    entries = position.top or (position.chosen,)
    usable = any(entry.token is not None and entry.logprob is not None for entry in entries)
    expect(usable, "no token has both an id and a log-probability")
    return position


def _is_text(prefix: Symbols) -> bool:
    """Whether bytes are whole characters, so that a server can be asked what follows."""
    try:
        bytes(prefix).decode()
    except UnicodeDecodeError:
        return False
    return True
