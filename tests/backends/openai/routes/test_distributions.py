"""What holds for every route: probabilities that add up to more than 1 are never believed."""

from __future__ import annotations

import pytest
from contract import requests_for, score
from faults import FakeServer, Mutate, backend_for
from tiny_reference import CHAT

pytestmark = pytest.mark.usefixtures("no_waiting")

ROUTES = [
    ("vllm", "echo"),
    ("vllm", "named_tokens"),
    ("vllm", "top_logprobs"),
    ("llama_server", "grammar"),
    ("llama_server", "top_logprobs"),
    ("sglang", "echo_text"),
    ("openai_legacy", "echo_text"),
    ("openai_legacy", "top_logprobs"),
    ("openai_chat", "chat"),
]


def sure_of_everything(reply):
    """The reply, with nearly all of the probability given to each token."""

    def changed(value):
        if isinstance(value, dict):
            return {
                name: -0.05
                if name == "logprob"
                else [item if item is None else -0.05 for item in inner]
                if name == "token_logprobs"
                else [item and dict.fromkeys(item, -0.05) for item in inner]
                if name == "top_logprobs" and inner and not any(isinstance(v, dict) and "token" in v for v in inner)
                else changed(inner)
                for name, inner in value.items()
            }
        return [changed(item) for item in value] if isinstance(value, list) else value

    return changed(reply)


@pytest.mark.parametrize(("personality", "route"), ROUTES)
def test_too_much_probability(personality, route):
    """A row whose tokens have more probability than there is has an error that says so, and no score."""
    state = {"wrong": False}
    with FakeServer(personality, lambda _: Mutate(sure_of_everything) if state["wrong"] else None) as server:
        backend = backend_for(server, use_route=route, max_retries=1)
        requests = requests_for(["A fine film."], labels=["good", "bad", "so so"], shots=())
        if route == "chat":
            requests = requests_for(["A fine film."], labels=["good", "bad", "so so"], prompt=CHAT, shots=())
        assert score(backend, requests)[0].error is None
        state["wrong"] = True
        (row,) = score(backend, requests)
        assert "add up to" in row.error
        assert not row.token_logprobs
