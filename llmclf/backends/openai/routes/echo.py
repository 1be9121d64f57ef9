"""The route ``echo``: the server reads prompt and label and says how probable each token was (vLLM, SGLang)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from ...http.async_bridge import together
from ...http.replies import choices, expect, logprob, mapping, sequence
from ...tokens.codec import TokenRow
from .base import (
    MAX_PROMPTS,
    NO_TOKENIZER,
    SHARED_IDENTITY,
    Answer,
    Placed,
    RouteClient,
    RowSize,
    ServerFacts,
    TokenRoute,
    Work,
    echo_obstacle,
    exact_scores,
    request_groups,
)
from .label_bounds import Symbols


class Echo(TokenRoute):
    """Every pair of prompt and label is read by the server, several pairs in a request.

    It sends token ids, so that server and client cannot disagree about what is a token.
    """

    name = "echo"
    summary = "the server tells how probable each token of prompt and label was"
    is_exact = True
    identity_name = SHARED_IDENTITY

    def obstacle(self, server: ServerFacts) -> str | None:
        if server.takes_one_text:
            return "the server takes a text in each request, no token ids"
        return echo_obstacle(server.probe) or (None if server.is_tokenised else NO_TOKENIZER)

    def rows_together(self, n_labels: int) -> int:
        return MAX_PROMPTS // n_labels

    def prompt_sizes(self, row: TokenRow) -> list[int]:
        return [len(row.context) + len(target) for target in row.targets]

    def work(self, row: RowSize, n_together: int) -> Work:
        n = len(row.labels)
        return Work(1 / n_together, row.context * n + sum(map(len, row.labels)), n)

    async def score_tokens(self, client: RouteClient, rows: Sequence[Placed]) -> list[Answer]:
        prompts = [(*row.context, *target) for _, row in rows for target in row.targets]
        starts = [len(row.context) for _, row in rows for _ in row.targets]
        groups = request_groups([len(prompt) for prompt in prompts])
        parts = await together(
            *(partial(_echo_some, client, [(prompts[i], starts[i]) for i in group]) for group in groups)
        )
        values = iter([value for part in parts for value in part])
        return [(place, exact_scores(row, [next(values) for _ in row.targets])) for place, row in rows]


async def _echo_some(client: RouteClient, pairs: Sequence[tuple[Symbols, int]]) -> list[tuple[float, ...]]:
    def read(reply: Any) -> list[tuple[float, ...]]:
        echoes = choices(reply, len(pairs))
        return [_echoed_part(choice, *pair) for choice, pair in zip(echoes, pairs, strict=True)]

    body = {
        "prompt": [list(prompt) for prompt, _ in pairs],
        "echo": True,
        "max_tokens": client.probe.echo_tokens,
        "logprobs": 1,
        "temperature": 1.0,
    }
    n_tokens = sum(len(prompt) for prompt, _ in pairs)
    return await client.complete(body, read, tokens_in=n_tokens, tokens_out=len(pairs))


def _echoed_part(choice: Mapping[str, Any], prompt: Symbols, start: int) -> tuple[float, ...]:
    """The log-probabilities of a prompt's tokens from `start` on."""
    logprobs = mapping(choice.get("logprobs"), "logprobs")
    tokens = sequence(logprobs.get("tokens"), "logprobs.tokens")
    values = sequence(logprobs.get("token_logprobs"), "logprobs.token_logprobs", len(tokens))
    surplus = len(tokens) - len(prompt)
    expect(surplus in (0, 1), f"{len(tokens)} tokens came back for a prompt of {len(prompt)}")
    for sent, named in zip(prompt[start:], tokens[start:], strict=False):
        if isinstance(named, str) and named.startswith("token_id:"):
            expect(named == f"token_id:{sent}", "the echo holds other tokens than the prompt")
    return tuple(logprob(value) for value in values[start : len(prompt)])
