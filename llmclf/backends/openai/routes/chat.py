"""The route ``chat``: a chat cannot be continued, so it shows the first token of its answer, and further ones of that answer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ....errors import CapabilityError, ServerError
from ...answers.generates import GenerationRequest
from ...requests import Request, RowScores
from ...wires.answer_facts import most_tokens
from ...wires.token_replies import NO_DISTRIBUTION, Position, shows_distribution
from ..probe import Probe
from .base import NOT_RAW, RouteClient, RowSize, ServerFacts, TextRoute, Work
from .label_bounds import LabelBounds, Symbols
from .shown_tokens import bounded_scores, by_bytes, byte_bounds

_MAX_ANSWER = 16  # tokens of the answer that are looked at, at most


class Chat(TextRoute):
    """One request a row: the likeliest tokens at each place of the answer that the model gives."""

    name = "chat"
    summary = "only the likeliest tokens of a chat's answer are shown"
    is_exact = False
    sees_tokens = False
    answers_chats = True

    def obstacle(self, server: ServerFacts) -> str | None:
        probe = server.probe
        if not probe.chat:
            return "the server does not answer chats with log-probabilities"
        if probe.chat_top_logprobs < 2:
            return f"a chat names {probe.chat_top_logprobs or 'none'} of the likeliest tokens; at least 2 are needed"
        return None if probe.raw else NOT_RAW

    def asked_path(self, server: ServerFacts) -> str:
        return server.wire.path(server.probe.model, is_chat=True)

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
        probe, wire = client.probe, client.server.wire
        bounds, terminated = byte_bounds(request)
        n_answer = max(wire.least_tokens, min(_MAX_ANSWER, bounds.longest))
        question = GenerationRequest(request.prompt.turns, n_answer, temperature=0.0, effort=probe.effort)
        positions = await client.complete(
            wire.body(probe.model, question, top_logprobs=probe.chat_top_logprobs, limit=probe.chat_limit),
            wire.positions,
            tokens_in=most_tokens(question),
            tokens_out=n_answer,
            path=self.asked_path(client.server),
            by_id=False,
        )
        _check_shown(positions)
        _follow(bounds, positions, probe.chat_top_logprobs, terminated)
        return bounded_scores(bounds, terminated=terminated)


def _check_shown(positions: Sequence[Position]) -> None:
    """Refuse an answer that shows nothing of its first token. The same request would get the same answer, and cost again.

    Raises
    ------
    ServerError
    """
    if not positions:
        raise ServerError(
            "the answer is empty, so no token was named; if the model reasons first, turn that off, say by "
            "extra={'reasoning_effort': 'none'}",
            status=200,
        )
    if not shows_distribution(positions[0]):
        raise ServerError(f"the server's log-probabilities cannot be used: {NO_DISTRIBUTION}", status=200)


def _follow(bounds: LabelBounds, positions: Sequence[Position], k: int, terminated: bool) -> None:
    """Take in a chat's answer place by place, as long as it is that of a label.

    Every place is seen after the tokens that were written alone: whatever leads to the same text by other tokens stays open.
    """
    prefix: Symbols = ()
    way = 1.0
    for position in positions:
        if not (bounds.leads_on(prefix) and shows_distribution(position)):
            return
        seen = by_bytes(position, k, terminated=terminated)
        bounds.add(prefix, seen.shown, least=seen.least, unclear=seen.unclear, way=way)
        if seen.written is None:
            return
        symbols, value = seen.written
        prefix, way = (*prefix, *symbols), way * math.exp(value)
