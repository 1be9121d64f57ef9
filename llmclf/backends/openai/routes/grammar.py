"""The route ``grammar``: the server is forced to write the label and tells how probable that was (llama.cpp's server)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ....errors import ServerError
from ...http.replies import expect, logprob
from ...tokens.codec import TokenRow
from ...wires.token_replies import Position, completion_reader, token_grammar
from .base import (
    NO_TOKENIZER,
    SHARED_IDENTITY,
    Answer,
    Placed,
    RouteClient,
    RouteOptions,
    RowSize,
    ServerFacts,
    TokenRoute,
    Work,
    exact_scores,
)
from .label_bounds import Symbols

_MAX_ENDS = 8  # kinds of tokens that end an answer, at most


class Grammar(TokenRoute):
    """Each label is forced by a grammar of its token ids; the log-probabilities are those from before the grammar.

    Where a grammar ends, the server writes the likeliest of its tokens that end an answer. Those of them that are not the one
    asked about are remembered and forbidden from then on.
    """

    name = "grammar"
    summary = "each label is forced by a grammar, and its log-probabilities are those from before it"
    is_exact = True
    identity_name = SHARED_IDENTITY
    batch_obstacle = (
        "learns from one row what to ask about the next, so that after a restart a batch's answers could not be "
        "found again"
    )

    def __init__(self, options: RouteOptions) -> None:
        super().__init__(options)
        self._other_ends: set[int] = set()

    def obstacle(self, server: ServerFacts) -> str | None:
        if not server.probe.grammar:
            return "the server does not force tokens by a grammar, or then shows other log-probabilities than the model's own"
        return None if server.is_tokenised else NO_TOKENIZER

    def work(self, row: RowSize, n_together: int) -> Work:
        n = len(row.labels)
        return Work(n, row.context * n, sum(map(len, row.labels)))

    async def score_tokens(self, client: RouteClient, rows: Sequence[Placed]) -> list[Answer]:
        answers = []
        for place, row in rows:
            # One after the other: each finds the prompt in the cache of the slot that read it.
            values = [await self._forced(client, row, target) for target in row.targets]
            answers.append((place, exact_scores(row, values)))
        return answers

    async def _forced(self, client: RouteClient, row: TokenRow, target: Symbols) -> tuple[float, ...]:
        has_end = row.terminated and target[-1] == client.server.eos_id
        words = target[:-1] if has_end else target

        def read(reply: Any) -> list[Position]:
            (positions,) = completion_reader(1)(reply)
            expect(len(positions) >= len(target), f"{len(positions)} tokens came back for a label of {len(target)}")
            for position, token in zip(positions, words, strict=False):
                expect(position.chosen.token == token, "the server wrote another token than the grammar allows")
            expect(positions[len(target) - 1].chosen.token is not None, "the server does not name token ids")
            return list(positions[: len(target)])

        body = {
            "prompt": list(row.context),
            "grammar": token_grammar(words),
            "max_tokens": len(target),
            "logprobs": 1,
            "temperature": 0.0,
        }
        n_tokens = len(row.context) + len(target)
        for _ in range(_MAX_ENDS):
            ends = sorted(self._other_ends) if has_end else []
            forbidden = {"logit_bias": [[token, False] for token in ends]} if ends else {}
            written = await client.complete(body | forbidden, read, tokens_in=n_tokens, tokens_out=len(target))
            last = written[-1].chosen.token
            if last == target[-1]:
                return tuple(logprob(position.chosen.logprob) for position in written)
            assert last is not None
            self._other_ends.add(last)
        raise ServerError(
            f"the server does not end an answer with the token {target[-1]}, though the tokenizer says so"
        )
