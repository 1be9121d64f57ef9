"""The route echo: rows travel together, and a reply that does not fit what was sent is never believed."""

from __future__ import annotations

import pytest
from contract import LABELS, TEXTS, assert_contract, assert_same, requests_for, score
from faults import FakeServer, Mutate, backend_for

pytestmark = pytest.mark.usefixtures("no_waiting")


def test_contract_of_echo_with_ids_unnamed(tokenizer, reference):
    """A server that takes token ids and answers with texts is checked by their number, and is exact."""
    with FakeServer("sglang") as server:
        assert_contract(backend_for(server, tokenizer=tokenizer), reference, atol=1e-6)


def test_few_requests_hold_many_rows(tokenizer):
    """Labels of many rows travel together: far fewer requests than pairs."""
    with FakeServer("vllm") as server:
        backend = backend_for(server, tokenizer=tokenizer, use_route="echo", concurrency=2)
        _ = backend.route
        before = len(server.requests)
        requests = requests_for([f"text {i}" for i in range(120)])
        score(backend, requests)
        n_pairs = len(requests) * len(LABELS)
        assert len(server.requests) - before <= n_pairs / 32


@pytest.mark.parametrize(
    "change",
    [
        lambda reply: {**reply, "choices": None},
        lambda reply: {**reply, "choices": reply["choices"][:-1]},
        lambda reply: {**reply, "choices": [{**c, "index": 0} for c in reply["choices"]]},
        lambda reply: {**reply, "choices": [{**c, "logprobs": None} for c in reply["choices"]]},
        lambda reply: _with_values(reply, lambda values: [*values[:-1], None]),
        lambda reply: _with_values(reply, lambda values: [*values[:-1], 0.5]),
        lambda reply: _with_values(reply, lambda values: [*values[:-1], -9999.0]),
        lambda reply: _with_values(reply, lambda values: [*values[:-1], "nan"]),
        lambda reply: _with_values(reply, lambda values: values[:-1]),
        lambda reply: _with_tokens(reply, lambda tokens: tokens[:-2]),
        lambda reply: _with_tokens(reply, lambda tokens: [*tokens[:-1], "token_id:1"]),
    ],
)
def test_a_wrong_reply_is_asked_again(change, tokenizer, reference):
    """A reply with status 200 and the wrong shape or numbers is never believed: it is asked again, once."""
    state = {"left": []}
    with FakeServer("vllm", lambda _: state["left"].pop(0) if state["left"] else None) as server:
        backend = backend_for(server, tokenizer=tokenizer, use_route="echo")
        _ = backend.route
        before = len(server.requests)
        state["left"] = [Mutate(change)]
        requests = requests_for([TEXTS[0]])
        assert_same(score(backend, requests), score(reference, requests), atol=1e-6)
        assert len(server.requests) - before == 2
        assert backend.usage.retries == 1


def _with_values(reply, change):
    for choice in reply["choices"]:
        choice["logprobs"]["token_logprobs"] = change(choice["logprobs"]["token_logprobs"])
    return reply


def _with_tokens(reply, change):
    for choice in reply["choices"]:
        choice["logprobs"]["tokens"] = change(choice["logprobs"]["tokens"])
        n = len(choice["logprobs"]["tokens"])
        choice["logprobs"]["token_logprobs"] = choice["logprobs"]["token_logprobs"][:n]
    return reply


def test_reordered_choices_are_put_in_order(tokenizer, reference):
    """Choices are matched by their index, not by the order in which they come."""
    state = {"left": []}
    turn = Mutate(lambda reply: {**reply, "choices": reply["choices"][::-1]})
    with FakeServer("vllm", lambda _: state["left"].pop(0) if state["left"] else None) as server:
        backend = backend_for(server, tokenizer=tokenizer, use_route="echo")
        _ = backend.route
        state["left"] = [turn]
        requests = requests_for(TEXTS[:2])
        assert_same(score(backend, requests), score(reference, requests), atol=1e-6)
        assert backend.usage.retries == 0
