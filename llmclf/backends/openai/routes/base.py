"""Exact ways to a label's log-probability over an OpenAI-compatible server; `top_logprobs` has those that give bounds.

- ``echo``: the server reads prompt and label and tells how probable each token was (vLLM, SGLang). Exact.
- ``named tokens``: the server tells the log-probabilities of named tokens after a prompt, and the label trie is walked
  node by node (vLLM). Exact, and the server's prefix cache serves all nodes of a row.
- ``grammar``: the server is forced to write the label and tells how probable that would have been (llama.cpp's server). Exact.

The exact routes send token ids, so that server and client cannot disagree about what is a token. Where a server echoes, and
nobody tokenises on request, ``echo`` sends text and takes the tokens from the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from ....errors import CapabilityError, RowError, ServerError
from ...base import Request, RowScores, needs_terminator
from ...http.async_bridge import together
from ...http.client import Client
from ...http.replies import choices, expect, logprob, mapping, sequence, string
from ...tokens.codec import TokenRow
from ...tokens.label_trie import label_trie
from ..probe import Probe
from ..token_replies import Position, completion_reader, token_grammar
from .label_bounds import Symbols

NAMED_TOKENS = 128  # most ids in one question (vLLM's limit)
PROMPTS = 64  # most prompts in one request
PROMPT_TOKENS = 4_096  # most tokens in one request: it shall be answered well before it counts as lost
_ENDS = 8  # most kinds of tokens that end an answer
_NODE_TOKENS = 24  # what a node of the label trie costs a server with a prefix cache, in tokens read

Placed = tuple[int, TokenRow]
Answer = tuple[int, RowScores]


@dataclass(frozen=True)
class Asker:
    """What every route needs: the client, and what all requests carry.

    Attributes
    ----------
    common : mapping
        Model, and whatever the user adds to every request.
    """

    client: Client
    probe: Probe
    common: Mapping[str, Any]

    async def complete(
        self,
        body: Mapping[str, Any],
        read: Callable[[Any], Any],
        *,
        tokens_in: int,
        tokens_out: int = 1,
        path: str = "/completions",
        by_id: bool = True,
    ) -> Any:
        """One request; tokens are named by their ids where the server can and `by_id` asks for it."""
        flag = {"return_tokens_as_token_ids": True} if by_id and self.probe.id_flag else {}
        whole = {**self.common, **flag, **body}
        return await self.client.call(path, whole, read, tokens_in=tokens_in, tokens_out=tokens_out)


# --- exact routes over token ids ---------------------------------------------------------------------------------------


async def echo(ask: Asker, rows: Sequence[Placed]) -> list[Answer]:
    """Every (prompt, label) pair read by the server, several pairs in a request."""
    prompts = [(*row.context, *target) for _, row in rows for target in row.targets]
    starts = [len(row.context) for _, row in rows for _ in row.targets]
    groups = _groups([len(prompt) for prompt in prompts])
    parts = await together(*(partial(_echo_some, ask, [(prompts[i], starts[i]) for i in group]) for group in groups))
    values = iter([value for part in parts for value in part])
    return [(place, _exact(row, [next(values) for _ in row.targets])) for place, row in rows]


async def _echo_some(ask: Asker, pairs: Sequence[tuple[Symbols, int]]) -> list[tuple[float, ...]]:
    def read(reply: Any) -> list[tuple[float, ...]]:
        found = choices(reply, len(pairs))
        return [_echoed_part(choice, *pair) for choice, pair in zip(found, pairs, strict=True)]

    body = {
        "prompt": [list(prompt) for prompt, _ in pairs],
        "echo": True,
        "max_tokens": ask.probe.echo_tokens,
        "logprobs": 1,
        "temperature": 1.0,
    }
    n_tokens = sum(len(prompt) for prompt, _ in pairs)
    found: list[tuple[float, ...]] = await ask.complete(body, read, tokens_in=n_tokens, tokens_out=len(pairs))
    return found


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


async def named_tokens(ask: Asker, rows: Sequence[Placed]) -> list[Answer]:
    """The label trie walked node by node: first the roots, so that the deeper nodes find the prompt in the server's cache."""
    paths = [sorted({target[:j] for target in row.targets for j in range(len(target))}, key=len) for _, row in rows]
    known: list[dict[Symbols, dict[int, float]]] = [{} for _ in rows]
    roots = [(r, ()) for r in range(len(rows))]
    deeper = [(r, path) for r, own in enumerate(paths) for path in own if path]
    for nodes in (roots, deeper):
        groups = _groups([len(rows[r][1].context) + len(path) for r, path in nodes])
        found = await together(*(partial(_name_some, ask, rows, [nodes[i] for i in group]) for group in groups))
        for group, part in zip(groups, found, strict=True):
            for i, values in zip(group, part, strict=True):
                r, path = nodes[i]
                known[r][path] = values
    return [
        (
            place,
            _exact(row, [tuple(known[r][target[:j]][target[j]] for j in range(len(target))) for target in row.targets]),
        )
        for r, (place, row) in enumerate(rows)
    ]


async def _name_some(
    ask: Asker, rows: Sequence[Placed], nodes: Sequence[tuple[int, Symbols]]
) -> list[dict[int, float]]:
    """The log-probabilities of each node's children, for some nodes in one request (or several, for very many children)."""
    wanted = [
        sorted({t[len(path)] for t in rows[r][1].targets if len(t) > len(path) and t[: len(path)] == path})
        for r, path in nodes
    ]
    ids = sorted({token for tokens in wanted for token in tokens})
    found: list[dict[int, float]] = [{} for _ in nodes]
    prompts = [[*rows[r][1].context, *path] for r, path in nodes]
    for start in range(0, len(ids), NAMED_TOKENS):
        part = ids[start : start + NAMED_TOKENS]
        own = [set(part) & set(tokens) for tokens in wanted]
        asked = [i for i in range(len(nodes)) if own[i]]

        def read(reply: Any, asked: Sequence[int] = asked, own: Sequence[set[int]] = own) -> list[dict[int, float]]:
            answers = completion_reader(len(asked))(reply)
            return [_named_children(positions, own[i]) for i, positions in zip(asked, answers, strict=True)]

        body = {
            "prompt": [prompts[i] for i in asked],
            "max_tokens": 1,
            "logprobs": 1,
            "logprob_token_ids": part,
            "temperature": 1.0,
        }
        n_tokens = sum(len(prompts[i]) for i in asked)
        values = await ask.complete(body, read, tokens_in=n_tokens, tokens_out=len(asked))
        for i, answer in zip(asked, values, strict=True):
            found[i].update(answer)
    return found


def _named_children(positions: Sequence[Position], wanted: set[int]) -> dict[int, float]:
    expect(len(positions) >= 1, "no token was generated, so none was named")
    shown = {entry.token: entry.logprob for entry in positions[0].top}
    found: dict[int, float] = {}
    for token in wanted:
        value = shown.get(token)
        if value is None:
            expect(False, f"the log-probability of token {token} was asked for and did not come")
        else:
            found[token] = value
    return found


async def grammar(ask: Asker, rows: Sequence[Placed], eos_id: int | None, other_ends: set[int]) -> list[Answer]:
    """Each label forced by a grammar of its token ids; the log-probabilities are those from before the grammar.

    Where a grammar ends, the server writes the likeliest of its tokens that end an answer; `other_ends` collects those of them
    that are not the one asked about, and forbids them.
    """
    answers = []
    for place, row in rows:
        # One after the other: each finds the prompt in the cache of the slot that read it.
        values = [await _forced(ask, row, target, eos_id, other_ends) for target in row.targets]
        answers.append((place, _exact(row, values)))
    return answers


async def _forced(
    ask: Asker, row: TokenRow, target: Symbols, eos_id: int | None, other_ends: set[int]
) -> tuple[float, ...]:
    ends = row.terminated and target[-1] == eos_id
    words = target[:-1] if ends else target

    def read(reply: Any) -> list[Position]:
        (positions,) = completion_reader(1)(reply)
        expect(len(positions) >= len(target), f"{len(positions)} tokens came back for a label of {len(target)}")
        for position, token in zip(positions, words, strict=False):
            expect(position.chosen.token == token, "the server wrote another token than the grammar allows")
        expect(positions[len(target) - 1].chosen.token is not None, "the server names no token ids")
        return list(positions[: len(target)])

    body = {
        "prompt": list(row.context),
        "grammar": token_grammar(words),
        "max_tokens": len(target),
        "logprobs": 1,
        "temperature": 0.0,
    }
    for _ in range(_ENDS):
        forbidden = {"logit_bias": [[token, False] for token in sorted(other_ends)]} if ends and other_ends else {}
        n_tokens = len(row.context) + len(target)
        found: list[Position] = await ask.complete(body | forbidden, read, tokens_in=n_tokens, tokens_out=len(target))
        last = found[-1].chosen.token
        if last == target[-1]:
            return tuple(logprob(position.chosen.logprob) for position in found)
        assert last is not None
        other_ends.add(last)
    raise ServerError(f"the server does not end an answer with the token {target[-1]}, though the tokenizer says so")


def cheaper(rows: Sequence[Placed]) -> str:
    """``"echo"`` or ``"named tokens"``, whichever makes the server work less on such rows (experiments/vllm_routes.md).

    An echo reads prompt and label anew for each label. Named tokens read the prompt once, and each further node of the label trie
    costs the part of a block that the cache cannot hold.
    """
    echoed = sum(len(row.context) + len(target) for _, row in rows for target in row.targets)
    named = sum(len(row.context) + _NODE_TOKENS * label_trie(row.targets).n_nodes for _, row in rows)
    return "echo" if echoed < named else "named tokens"


def _exact(row: TokenRow, values: Sequence[tuple[float, ...]]) -> RowScores:
    return RowScores(tuple(values), characters_cut=row.characters_cut, healed=row.healed, terminated=row.terminated)


def _groups(sizes: Sequence[int]) -> list[list[int]]:
    """Places grouped in order, so that no request holds too many prompts or tokens."""
    groups: list[list[int]] = []
    tokens = 0
    for place, size in enumerate(sizes):
        if not groups or len(groups[-1]) >= PROMPTS or tokens + size > PROMPT_TOKENS:
            groups.append([])
            tokens = 0
        groups[-1].append(place)
        tokens += size
    return groups


# --- routes over text ----------------------------------------------------------------------------------------------------


async def echo_text(ask: Asker, request: Request) -> RowScores:
    """One row on a server that echoes text: the tokens come from the answer.

    The prompt goes along by itself: only what follows the tokens that it shares with every continuation is scored.
    """
    text = request.prompt.turns[0].text
    wholes = [text, *(text + completion for completion in request.completions)]

    def read(reply: Any) -> list[list[tuple[str, float | None]]]:
        found = choices(reply, len(wholes))
        return [_echoed_text(choice, whole) for choice, whole in zip(found, wholes, strict=True)]

    body = {
        "prompt": wholes,
        "echo": True,
        "max_tokens": ask.probe.echo_tokens,
        "logprobs": 1,
        "temperature": 1.0,
    }
    n_bytes = sum(n_tokens_at_most(whole) for whole in wholes)
    alone, *joint = await ask.complete(body, read, tokens_in=n_bytes, tokens_out=len(wholes), by_id=False)
    start = min(_shared([token for token, _ in alone], [token for token, _ in tokens]) for tokens in joint)
    start = max(1, min(start, min(len(tokens) for tokens in joint) - 1))
    targets = [tuple(token for token, _ in tokens[start:]) for tokens in joint]
    if request.terminator == "eos" or (request.terminator == "auto" and needs_terminator(targets)):
        raise CapabilityError(
            "the labels need an end-of-answer token to be told apart, and this server shows texts, not tokens; give the backend "
            "the model's tokenizer (tokenizer='folder or name'), or the prompt a text terminator: Prompt(terminator='\\n')"
        )
    return RowScores(
        tuple(tuple(logprob(value) for _, value in tokens[start:]) for tokens in joint), healed=start < len(alone)
    )


def _echoed_text(choice: Mapping[str, Any], whole: str) -> list[tuple[str, float | None]]:
    logprobs = mapping(choice.get("logprobs"), "logprobs")
    tokens = [string(token, "a token") for token in sequence(logprobs.get("tokens"), "logprobs.tokens")]
    values = sequence(logprobs.get("token_logprobs"), "logprobs.token_logprobs", len(tokens))
    found: list[tuple[str, float | None]] = []
    length = 0
    for i, (token, value) in enumerate(zip(tokens, values, strict=True)):
        if length >= len(whole):
            break
        found.append((token, None if i == 0 and value is None else logprob(value)))
        length += len(token)
    if "".join(token for token, _ in found) != whole:
        raise RowError(
            "the tokens that the server echoes do not join to the text that was sent (a character cut in halves, or a token "
            "before the text); give the backend the model's tokenizer (tokenizer='folder or name')"
        )
    expect(len(found) > 1, "the echo has a single token, so nothing in it is conditional on anything")
    return found


def n_tokens_at_most(text: str) -> int:
    """How many tokens a text can have: one for each of its bytes, and one before it."""
    return len(text.encode("utf-8", "surrogatepass")) + 1


def _shared(first: Sequence[str], second: Sequence[str]) -> int:
    length = 0
    while length < min(len(first), len(second)) and first[length] == second[length]:
        length += 1
    return length
