"""The route named_tokens: the label trie, node by node, by the server's prefix cache."""

from __future__ import annotations

import pytest
from contract import TEXTS, assert_same, requests_for, score
from faults import FakeServer, backend_for, tiny_model

from llmclf import Prompt

pytestmark = pytest.mark.usefixtures("no_waiting")


def test_the_shared_prefix_is_sent_first():
    """On the route that lives by the server's prefix cache, the first row is finished before others are sent."""
    with FakeServer("vllm", latency=0.01) as server:
        backend = backend_for(server, use_route="named_tokens", concurrency=8)
        _ = backend.route
        begun = len(server.requests)
        score(backend, requests_for(TEXTS * 20))
        first, *rest = [request for request in server.requests[begun:] if request.path == "/v1/completions"]
        roots, deeper = (min(map(len, one.body["prompt"])) for one in (first, rest[0]))
        assert deeper > roots
        assert all(request.time >= first.done for request in rest)


def test_many_labels_are_asked_in_parts(tokenizer, reference):
    """More children of a node than a question may name are asked in several."""
    labels = sorted({tiny_model().piece(token).strip() for token in range(3, 400)} - {""})
    labels = [label for label in labels if label.isascii() and label.isprintable()]
    assert len(labels) > 160
    requests = requests_for(["A fine film."], labels=labels, prompt=Prompt("{{ text }}:", terminator=None), shots=())
    with FakeServer("vllm") as server:
        backend = backend_for(server, tokenizer=tokenizer, use_route="named_tokens")
        assert_same(score(backend, requests), score(reference, requests), atol=1e-6)
        asked = [request.body.get("logprob_token_ids", []) for request in server.requests if request.body]
        assert max(map(len, asked)) == 128
