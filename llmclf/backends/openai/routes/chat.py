"""The route ``chat``: a chat cannot be continued, so it shows the first token of its answer, and further ones of that answer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ....errors import CapabilityError
from ...http.replies import expect
from ...requests import Request, RowScores
from ..probe import Probe
from ..token_replies import Position, chat_reader
from .base import NOT_RAW, TEMPLATE_TOKENS, TURN_TOKENS, RouteClient, RowSize, ServerFacts, TextRoute, Work, max_tokens
from .label_bounds import LabelBounds, Symbols
from .shown_tokens import bounded_scores, by_bytes, byte_bounds

_MAX_ANSWER = 16  # tokens of the answer that are looked at, at most


class Chat(TextRoute):
    """One request a row: the likeliest tokens at each place of the answer that the model gives."""

    name = "chat"
    summary = "only the likeliest tokens of a chat's answer are shown"
    is_exact = False
    path = "/chat/completions"
    sees_tokens = False
    answers_chats = True

    def obstacle(self, server: ServerFacts) -> str | None:
        probe = server.probe
        if not probe.chat:
            return "the server does not answer chats with log-probabilities"
        if probe.chat_top_logprobs < 2:
            return f"a chat names {probe.chat_top_logprobs or 'none'} of the likeliest tokens; at least 2 are needed"
        return None if probe.raw else NOT_RAW

    def work(self, row: RowSize, n_together: int) -> Work:
        return Work(1, row.context, min(_MAX_ANSWER, row.longest))

    def identity(self, probe: Probe) -> dict[str, Any]:
        limits = {"top_calls": self.options.top_calls, "tolerance": self.options.tolerance}
        return {**super().identity(probe), "top_logprobs": probe.chat_top_logprobs, **limits}

    async def score_text(self, client: RouteClient, request: Request) -> RowScores:
        if not request.prompt.is_chat:
            raise CapabilityError(
                "this server answers chats alone, and the prompt is plain text; use Prompt(..., chat=True), or a server that "
                "continues text"
            )
        probe = client.probe
        bounds, terminated = byte_bounds(request)
        n_answer = min(_MAX_ANSWER, bounds.longest)
        messages = [{"role": str(turn.role), "content": turn.text} for turn in request.prompt.turns]
        body = {
            "messages": messages,
            "logprobs": True,
            "top_logprobs": probe.chat_top_logprobs,
            "temperature": 0.0 if probe.raw else 1.0,
            probe.chat_limit: n_answer,
        }
        n_tokens = TEMPLATE_TOKENS + sum(max_tokens(message["content"]) + TURN_TOKENS for message in messages)
        positions = await client.complete(
            body, _read_chat, tokens_in=n_tokens, tokens_out=n_answer, path=self.path, by_id=False
        )
        _follow(bounds, positions, probe.chat_top_logprobs, terminated)
        return bounded_scores(bounds, terminated=terminated)


def _follow(bounds: LabelBounds, positions: Sequence[Position], k: int, terminated: bool) -> None:
    """Take in a chat's answer place by place, as long as it is that of a label.

    Every place is seen after the tokens that were written alone: whatever leads to the same text by other tokens stays open.
    """
    prefix: Symbols = ()
    way = 1.0
    for position in positions:
        if not bounds.leads_on(prefix):
            return
        seen = by_bytes(position, k, terminated=terminated)
        bounds.add(prefix, seen.shown, least=seen.least, unclear=seen.unclear, way=way)
        if seen.written is None:
            return
        symbols, value = seen.written
        prefix, way = (*prefix, *symbols), way * math.exp(value)


def _read_chat(reply: Any) -> list[Position]:
    positions: list[Position] = chat_reader(reply)
    expect(len(positions) >= 1, "the answer is empty, so no token was named")
    return positions
