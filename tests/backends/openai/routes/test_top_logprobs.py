"""The route top_logprobs: bounds that hold the truth, and further requests only where they matter."""

from __future__ import annotations

import math

import numpy as np
import pytest
from contract import TEXTS, requests_for, score
from faults import FakeServer, backend_for, tiny_model
from tiny_reference import inside

from llmclf import Prompt

pytestmark = pytest.mark.usefixtures("no_waiting")


@pytest.mark.parametrize("personality", ["vllm", "vllm_processed", "llama_server"])
def test_bounds_hold_the_truth(personality, tokenizer, reference):
    """With twenty tokens shown, every label's true log-probability lies between its bounds, and the score is their middle."""
    requests = [*requests_for(), *requests_for(labels=["fine", "film", "text"])]
    with FakeServer(personality) as server:
        answers = score(backend_for(server, use_route="top_logprobs", tokenizer=tokenizer), requests)
        inside(answers, score(reference, requests))
        assert any(low < high for row in answers for low, high in zip(row.lower, row.upper, strict=True))


def test_further_calls_only_where_they_matter(tokenizer, reference):
    """Labels of several tokens cost a call for each branch of the trie that could matter, and no more than allowed."""
    requests = requests_for([TEXTS[0]], shots=())
    n_nodes = 1 + len({t[:j] for t in reference.codec.encode(requests)[0].targets for j in range(1, len(t))})
    with FakeServer("vllm") as server:
        counts = {}
        for allowed in (1, 3, 1000):
            backend = backend_for(
                server, use_route="top_logprobs", tokenizer=tokenizer, top_calls=allowed, tolerance=0.0
            )
            _ = backend.route
            before = len(server.requests)
            inside(score(backend, requests), score(reference, requests))
            counts[allowed] = len(server.requests) - before
        assert counts[1] == 1
        assert counts[3] <= 3
        assert counts[1000] <= n_nodes


def test_a_tokenizer_does_not_make_a_server_name_its_tokens(tokenizer):
    """Where a server shows texts alone, its likeliest tokens are read as texts, whoever could tokenise."""
    shown = [tiny_model().piece(token) for token in np.argsort(-tiny_model().logprobs(tiny_model().encode("x:")))[:9]]
    words = [piece.strip() for piece in shown if piece.startswith(" ") and piece.strip().isalpha()]
    requests = requests_for(["x"], labels=[*words[:1], "film"], prompt=Prompt("{{ text }}:"), shots=())
    with FakeServer("llama_cpp_python") as server:
        plain, own = backend_for(server), backend_for(server, tokenizer=tokenizer)
        for one, other in zip(score(plain, requests), score(own, requests), strict=True):
            assert one.sums == other.sums
            assert any(math.isfinite(low) for low in one.lower)
