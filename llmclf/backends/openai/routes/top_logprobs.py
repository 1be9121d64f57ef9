"""The route ``top_logprobs``: completions name the likeliest tokens, and further requests narrow the bounds where it matters."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

from ....prompts.rendered import Span, Turn
from ...answers.generates import GenerationRequest
from ...http.replies import expect
from ...requests import Request, RowScores
from ...tokens.codec import TokenRow
from ...tokens.label_trie import label_trie
from ...wires.base import Wire
from ...wires.registry import WIRES
from ...wires.token_replies import Position
from ..probe import Probe
from .base import (
    NOT_RAW,
    Answer,
    Placed,
    RouteClient,
    RouteOptions,
    RowSize,
    ServerFacts,
    TextRoute,
    TokenRoute,
    Work,
    max_tokens,
    refuse_chat,
)
from .chat import Chat
from .label_bounds import LabelBounds, Symbols
from .shown_tokens import Seen, bounded_scores, by_bytes, by_id, byte_bounds, first_shown, read_first


class TopLogprobs(TokenRoute, TextRoute):
    """The label trie is walked along the likeliest tokens, with a further request for each branch that matters.

    Where the tokens are the server's own, a chat cannot be continued; its answer is followed instead, as by the route ``chat``.
    """

    name = "top_logprobs"
    summary = "only the likeliest tokens are shown; further requests narrow the bounds where it matters"
    is_exact = False
    sees_tokens = False
    depends_on_answers = True

    def __init__(self, options: RouteOptions) -> None:
        super().__init__(options)
        self._chat = Chat(options)

    def obstacle(self, server: ServerFacts) -> str | None:
        n = server.probe.top_logprobs
        if n < 2:
            return f"a completion names {n or 'none'} of the likeliest tokens; at least 2 are needed"
        return None if server.shows_model else NOT_RAW

    def asked_path(self, server: ServerFacts) -> str:
        return _text_wire(server).path(server.probe.model, is_chat=False)

    def takes_tokens(self, server: ServerFacts) -> bool:
        # Ids are of use only where the server names its tokens by them.
        return server.is_tokenised and server.probe.token_ids

    def work(self, row: RowSize, n_together: int) -> Work:
        trie = label_trie(row.labels)
        calls = min(trie.n_nodes + 1, self.options.top_calls)
        return Work(calls, calls * row.context + int(trie.depths.sum()), calls)

    def identity(self, probe: Probe) -> dict[str, Any]:
        limits = {"top_calls": self.options.top_calls, "tolerance": self.options.tolerance}
        shown = {"top_logprobs": probe.top_logprobs}
        if probe.chat_wire != "chat":  # elsewhere left out, so that what was fitted before is still known
            shown["chat_top_logprobs"] = probe.chat_top_logprobs
        return {**super().identity(probe), **shown, **limits}

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
        if request.prompt.is_chat and self._chat.obstacle(client.server) is None:
            return await self._chat.score_text(client, request)
        refuse_chat(request)
        text, wire = request.prompt.turns[0].text, _text_wire(client.server)

        async def look(prefix: Symbols) -> Position:
            whole = text + bytes(prefix).decode()
            question = GenerationRequest((Turn(None, (Span(whole, False),)),), max_tokens=1)
            return await client.complete(
                wire.body(client.probe.model, question, top_logprobs=client.probe.top_logprobs),
                lambda reply: first_shown(wire.positions(reply)),
                tokens_in=max_tokens(whole),
                path=self.asked_path(client.server),
                by_id=False,
            )

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


def _text_wire(server: ServerFacts) -> Wire:
    """The protocol in which texts are continued: a server of OpenAI's may answer chats in another one."""
    return WIRES["chat"] if server.wire.is_openai else server.wire


def _is_text(prefix: Symbols) -> bool:
    """Whether bytes are whole characters, so that a server can be asked what follows."""
    try:
        bytes(prefix).decode()
    except UnicodeDecodeError:
        return False
    return True
