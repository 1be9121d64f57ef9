"""The route ``named_tokens``: the server tells the log-probabilities of the tokens that it is asked about (vLLM)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from ...http.async_bridge import together
from ...http.replies import expect
from ...tokens.label_trie import label_trie
from ...wires.token_replies import Position, completion_reader
from .base import (
    MAX_PROMPTS,
    NO_TOKENIZER,
    NOT_RAW,
    SHARED_IDENTITY,
    Answer,
    Placed,
    RouteClient,
    RowSize,
    ServerFacts,
    TokenRoute,
    Work,
    exact_scores,
    request_groups,
)
from .label_bounds import Symbols

_MAX_NAMED = 128  # ids in one request, at most: vLLM's limit


class NamedTokens(TokenRoute):
    """The label trie is walked node by node; the server's prefix cache serves all nodes of a row.

    The roots come first, so that the deeper nodes find the prompt in the cache.
    """

    name = "named_tokens"
    summary = "the server tells the log-probabilities of the labels' tokens, node by node of their trie"
    is_exact = True
    identity_name = SHARED_IDENTITY

    def obstacle(self, server: ServerFacts) -> str | None:
        if not server.probe.named_tokens:
            return "the server does not tell the log-probabilities of tokens that a request names (logprob_token_ids)"
        if not server.is_tokenised:
            return NO_TOKENIZER
        return None if server.shows_model else NOT_RAW

    def rows_together(self, n_labels: int) -> int:
        return MAX_PROMPTS // n_labels

    def work(self, row: RowSize, n_together: int) -> Work:
        trie = label_trie(row.labels)
        n_nodes = trie.n_nodes + 1
        deeper = -(
            -n_together * (n_nodes - 1) // MAX_PROMPTS
        )  # requests of all rows together, after that for the roots
        return Work((1 + deeper) / n_together, n_nodes * row.context + int(trie.depths.sum()), n_nodes)

    async def score_tokens(self, client: RouteClient, rows: Sequence[Placed]) -> list[Answer]:
        paths = [sorted({target[:j] for target in row.targets for j in range(len(target))}, key=len) for _, row in rows]
        known: list[dict[Symbols, dict[int, float]]] = [{} for _ in rows]
        roots = [(r, ()) for r in range(len(rows))]
        deeper = [(r, path) for r, row_paths in enumerate(paths) for path in row_paths if path]
        for nodes in (roots, deeper):
            groups = request_groups([len(rows[r][1].context) + len(path) for r, path in nodes])
            parts = await together(*(partial(_name_some, client, rows, [nodes[i] for i in group]) for group in groups))
            for group, part in zip(groups, parts, strict=True):
                for i, values in zip(group, part, strict=True):
                    r, path = nodes[i]
                    known[r][path] = values
        return [
            (
                place,
                exact_scores(
                    row,
                    [tuple(known[r][target[:j]][target[j]] for j in range(len(target))) for target in row.targets],
                ),
            )
            for r, (place, row) in enumerate(rows)
        ]


async def _name_some(
    client: RouteClient, rows: Sequence[Placed], nodes: Sequence[tuple[int, Symbols]]
) -> list[dict[int, float]]:
    """The log-probabilities of each node's children, for some nodes in one request (or several, for very many children)."""
    wanted = [
        sorted({t[len(path)] for t in rows[r][1].targets if len(t) > len(path) and t[: len(path)] == path})
        for r, path in nodes
    ]
    ids = sorted({token for tokens in wanted for token in tokens})
    children: list[dict[int, float]] = [{} for _ in nodes]
    prompts = [[*rows[r][1].context, *path] for r, path in nodes]
    for start in range(0, len(ids), _MAX_NAMED):
        part = ids[start : start + _MAX_NAMED]
        named = [set(part) & set(tokens) for tokens in wanted]
        asked = [i for i in range(len(nodes)) if named[i]]

        def read(reply: Any, asked: Sequence[int] = asked, named: Sequence[set[int]] = named) -> list[dict[int, float]]:
            answers = completion_reader(len(asked))(reply)
            return [_named_children(positions, named[i]) for i, positions in zip(asked, answers, strict=True)]

        body = {
            "prompt": [prompts[i] for i in asked],
            "max_tokens": 1,
            "logprobs": 1,
            "logprob_token_ids": part,
            "temperature": 1.0,
        }
        n_tokens = sum(len(prompts[i]) for i in asked)
        values = await client.complete(body, read, tokens_in=n_tokens, tokens_out=len(asked))
        for i, answer in zip(asked, values, strict=True):
            children[i].update(answer)
    return children


def _named_children(positions: Sequence[Position], wanted: set[int]) -> dict[int, float]:
    expect(len(positions) >= 1, "no token was generated, so none was named")
    shown = {entry.token: entry.logprob for entry in positions[0].top}
    children: dict[int, float] = {}
    for token in wanted:
        value = shown.get(token)
        if value is None:
            expect(False, f"the log-probability of token {token} was asked for and did not come")
        else:
            children[token] = value
    return children
