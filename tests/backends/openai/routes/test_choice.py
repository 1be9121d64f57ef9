"""The choice among routes: the best that the server allows, and of two exact ones the cheaper for the labels."""

from __future__ import annotations

import pytest
from contract import TEXTS, requests_for, score
from faults import FakeServer, backend_for

from llmclf import Prompt
from llmclf.errors import (
    CapabilityError,
)

pytestmark = pytest.mark.usefixtures("no_waiting")


@pytest.mark.parametrize(
    ("personality", "route", "lacks"),
    [
        ("llama_server", "echo", "the server ignores it"),
        ("llama_cpp_python", "echo", "off by one"),
        ("openai_legacy", "named_tokens", "allows: 'echo_text', 'top_logprobs'"),
        ("openai_chat", "top_logprobs", "allows: 'chat'"),
        ("vllm", "grammar", "allows: 'choice', 'echo', 'named_tokens', 'echo_text', 'top_logprobs', 'chat'"),
    ],
)
def test_a_route_that_the_server_lacks_is_refused(personality, route, lacks):
    """Asking for a route that the server has not names what it lacks and what it has."""
    with FakeServer(personality) as server, pytest.raises(CapabilityError, match=lacks):
        _ = backend_for(server, use_route=route).route


@pytest.mark.parametrize(
    ("personality", "route", "with_tokenizer"),
    [
        ("vllm", "echo", "echo"),
        ("llama_server", "grammar", "grammar"),
        ("sglang", "echo_text", "echo"),
        ("openai_legacy", "echo_text", "echo"),
        ("llama_cpp_python", "top_logprobs", "top_logprobs"),
        ("openai_chat", "chat", "chat"),
    ],
)
def test_the_best_route_is_chosen(personality, route, with_tokenizer, tokenizer):
    """Exact routes come before bounded ones; a tokenizer on this side makes more of them possible."""
    with FakeServer(personality) as server:
        assert backend_for(server).route == route
        assert backend_for(server, tokenizer=tokenizer).route == with_tokenizer


def test_the_route_that_was_used_is_reported(tokenizer):
    """Where a server allows two exact routes, the first rows choose the cheaper one for all, and `route` says which."""
    with FakeServer("vllm", latency=0.005) as server:
        backend = backend_for(server, tokenizer=tokenizer, concurrency=4)
        for labels, route in ((["a", "the"], "named_tokens"), ([f"label number {i}" for i in range(40)], "echo")):
            # An end after each label makes as many inner nodes as there are labels, and those are what named tokens cost.
            prompt = Prompt("Review: {{ text }}\nSentiment:", terminator="eos_if_nested")
            requests = requests_for(["x"] if route == "echo" else TEXTS * 12, labels=labels, prompt=prompt, shots=())
            score(backend, requests)
            assert backend.route == route
            sent = server.requests[-1].body
            assert ("logprob_token_ids" in sent) == (route == "named_tokens")
            estimate = backend.estimate(requests)
            assert estimate.route == route
