"""The route ``echo_text``: the server echoes texts, and the tokens come from its answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from ....errors import CapabilityError, RowError
from ...http.async_bridge import together
from ...http.replies import expect, logprob, mapping, sequence, string
from ...nested_labels import without_longer
from ...requests import Request, RowScores, needs_terminator
from ...wires.token_replies import echoes
from .base import (
    RouteClient,
    RowSize,
    ServerFacts,
    TextRoute,
    Work,
    distribution_error,
    echo_obstacle,
    max_tokens,
    refuse_chat,
)


class EchoText(TextRoute):
    """For servers that echo where nobody can tokenise: one row at a time, as text.

    The prompt is sent by itself as well: only what follows the tokens that it shares with every continuation is scored.
    """

    name = "echo_text"
    summary = "texts are echoed with the log-probabilities of their tokens"
    is_exact = True

    def obstacle(self, server: ServerFacts) -> str | None:
        return echo_obstacle(server.probe)

    def work(self, row: RowSize, n_together: int) -> Work:
        n = len(row.labels) + 1  # the prompt by itself, too
        return Work(1, row.context * n + sum(map(len, row.labels)), n)

    async def score_text(self, client: RouteClient, request: Request) -> RowScores:
        refuse_chat(request)
        text = request.prompt.turns[0].text
        wholes = [text, *(text + completion for completion in request.completions)]

        groups = [[whole] for whole in wholes] if client.server.takes_one_text else [wholes]
        parts = await together(*(partial(_echo_some, client, group) for group in groups))
        alone, *joint = [tokens for part in parts for tokens in part]
        start = min(_n_shared([token for token, _ in alone], [token for token, _ in tokens]) for tokens in joint)
        start = max(1, min(start, min(len(tokens) for tokens in joint) - 1))
        targets = [tuple(token for token, _ in tokens[start:]) for tokens in joint]
        if request.terminator == "eos" or (request.terminator == "auto" and needs_terminator(targets)):
            raise CapabilityError(
                "the labels need an end-of-answer token to be told apart, and this server shows texts, not tokens; give the "
                "backend the model's tokenizer (tokenizer='folder or name'), or the prompt a text terminator: "
                "Prompt(terminator='\\n')"
            )
        values = tuple(tuple(logprob(value) for _, value in tokens[start:]) for tokens in joint)
        excess = distribution_error(targets, values)
        if excess:
            return RowScores((), error=excess)
        if request.terminator == "longest" and needs_terminator(targets):
            places = {
                token: place for place, token in enumerate(sorted({token for target in targets for token in target}))
            }
            values = without_longer([[places[token] for token in target] for target in targets], values)
        return RowScores(values, healed=start < len(alone))


async def _echo_some(client: RouteClient, wholes: Sequence[str]) -> list[list[tuple[str, float | None]]]:
    """The tokens of some texts."""

    def read(reply: Any) -> list[list[tuple[str, float | None]]]:
        return [_echoed_text(echo, whole) for echo, whole in zip(echoes(reply, len(wholes)), wholes, strict=True)]

    body = {
        "prompt": wholes[0] if client.server.takes_one_text else list(wholes),
        "echo": True,
        "max_tokens": client.probe.echo_tokens,
        "logprobs": 1,
        "temperature": 1.0,
    }
    n_tokens = sum(max_tokens(whole) for whole in wholes)
    return await client.complete(body, read, tokens_in=n_tokens, tokens_out=len(wholes), by_id=False)


def _echoed_text(choice: Mapping[str, Any], whole: str) -> list[tuple[str, float | None]]:
    """The tokens of a text that came back, each with its log-probability; the first may have none."""
    logprobs = mapping(choice.get("logprobs"), "logprobs")
    tokens = [string(token, "a token") for token in sequence(logprobs.get("tokens"), "logprobs.tokens")]
    values = sequence(logprobs.get("token_logprobs"), "logprobs.token_logprobs", len(tokens))
    echoed: list[tuple[str, float | None]] = []
    length = 0
    for i, (token, value) in enumerate(zip(tokens, values, strict=True)):
        if length >= len(whole):
            break
        echoed.append((token, None if i == 0 and value is None else logprob(value)))
        length += len(token)
    if "".join(token for token, _ in echoed) != whole:
        raise RowError(
            "the tokens that the server echoes do not join to the text that was sent (a character is cut in half, or a token "
            "stands before the text); give the backend the model's tokenizer (tokenizer='folder or name')"
        )
    expect(len(echoed) > 1, "the echo has a single token, so nothing in it is conditional on anything")
    return echoed


def _n_shared(first: Sequence[str], second: Sequence[str]) -> int:
    """How many tokens two sequences share from the beginning on."""
    length = 0
    while length < min(len(first), len(second)) and first[length] == second[length]:
        length += 1
    return length
