"""The connection: faults of single rows, what was asked and paid, estimates, and callers with a loop of their own."""

from __future__ import annotations

import asyncio
import copy

import numpy as np
import pytest
from contract import LABELS, TEXTS, assert_same, requests_for, score
from faults import BrokenJson, FakeServer, Status, backend_for

from llmclf import LLMClassifier, Prompt
from llmclf.backends import Request
from llmclf.errors import (
    BudgetError,
    InputError,
    ModelError,
)

pytestmark = pytest.mark.usefixtures("no_waiting")


def test_a_refused_row_does_not_take_others_with_it(tokenizer, reference):
    """Where one row of a request is refused, the others are asked again without it, and that one keeps the reason."""

    def fault(request):
        prompts = (request.body or {}).get("prompt")
        if isinstance(prompts, list) and any(bad in prompt for prompt in prompts for bad in [marked]):
            return Status(400, body={"error": {"message": "no such text here", "code": 400}})
        return None

    texts = [f"text number {i}" for i in range(6)]
    requests = requests_for(texts, shots=())
    marked = reference.codec.encode(requests[3:4])[0].context[-4]
    marked = next(
        t
        for t in reference.codec.encode(requests[3:4])[0].context
        if all(t not in reference.codec.encode([other])[0].context for other in requests[:3] + requests[4:])
    )
    with FakeServer("vllm", fault) as server:
        backend = backend_for(server, tokenizer=tokenizer, use_route="echo", concurrency=1)
        answers = score(backend, requests)
        expected = score(reference, requests)
        assert_same([*answers[:3], *answers[4:]], [*expected[:3], *expected[4:]], atol=1e-6)
        assert "no such text here" in answers[3].error
        clf = LLMClassifier(backend, labels=LABELS, prompt=Prompt("Review: {{ text }}\nSentiment:"), on_error="missing")
        clf.fit(texts)
        assert np.isnan(clf.predict_proba(texts)).any(axis=1).tolist() == [i == 3 for i in range(6)]
        assert clf.predict(texts)[3] is None
        with pytest.raises(ModelError, match=r"row 3 could not be scored.*no such text here"):
            clf.set_params(on_error="raise").fit(texts).predict(texts)


def test_a_row_that_never_gets_a_good_reply_is_an_error(tokenizer):
    """After the last attempt the row is missing with the reason, and the count of requests is exact."""
    state = {"on": False}

    def fault(_):
        return BrokenJson() if state["on"] else None

    with FakeServer("vllm", fault) as server:
        backend = backend_for(server, tokenizer=tokenizer, use_route="echo", max_retries=2)
        _ = backend.route
        before = len(server.requests)
        state["on"] = True
        (answer,) = score(backend, requests_for([TEXTS[0]]))
        assert "is not JSON" in answer.error
        assert "after 3 attempts" in answer.error
        assert len(server.requests) - before == 3


def test_usage_and_cost(tokenizer):
    """Requests, tokens and cost are the server's own counts, in `clf.usage_`; a clone shares them."""
    with FakeServer("vllm") as server:
        backend = backend_for(server, tokenizer=tokenizer, price={"input": 1.0, "output": 4.0})
        clf = LLMClassifier(backend, labels=LABELS, prompt="{{ text }}:").fit(TEXTS)
        clf.predict(TEXTS)
        usage = clf.usage_
        assert usage.requests == len(server.requests)
        assert usage.tokens_in > usage.tokens_out > 0
        assert usage.cost == pytest.approx((usage.tokens_in + 4 * usage.tokens_out) / 1e6)
        assert LLMClassifier(copy.deepcopy(backend), labels=LABELS).fit(TEXTS).usage_ is usage
    with pytest.raises(AttributeError, match="server's model"):
        _ = LLMClassifier(labels=LABELS).usage_


def test_max_cost_is_a_hard_stop(tokenizer):
    """No request is sent that could pass the limit; what was paid for before is in the cache."""
    with FakeServer("vllm") as server:
        price = {"input": 1000.0, "output": 1000.0}
        free = backend_for(server, tokenizer=tokenizer, price=price)
        texts = [f"text {i}" for i in range(40)]
        clf = LLMClassifier(free, labels=LABELS, prompt="{{ text }}:").fit(texts)
        _ = free.route
        probe_cost = free.usage.cost
        clf.predict(texts)
        whole = free.usage.cost - probe_cost
        limited = backend_for(
            server, tokenizer=tokenizer, price=price, max_cost=probe_cost + whole / 2, concurrency=2, timeout=30
        )
        with pytest.raises(BudgetError, match=r"max_cost=.* is reached.*raise max_cost"):
            clf.set_params(model=limited).fit(texts).predict(texts)
        assert limited.usage.cost <= probe_cost + whole / 2


@pytest.mark.parametrize("route", ["echo", "named_tokens", "grammar", "top_logprobs"])
def test_a_dry_run_sends_nothing_and_is_near(route, tokenizer):
    """Requests, tokens and cost are estimated without a request, and the work then takes about as much."""
    personality = "llama_server" if route == "grammar" else "vllm"
    texts = [f"{text} {i}" for i in range(12) for text in TEXTS]
    with FakeServer(personality) as server:
        backend = backend_for(
            server,
            tokenizer=tokenizer,
            use_route=route,
            price={"input": 1.0, "output": 1.0},
            concurrency=2,
            tolerance=0.0,
        )
        clf = LLMClassifier(backend, labels=LABELS, prompt="Review: {{ text }}\nSentiment:").fit(texts)
        estimate = clf.dry_run([*texts, *texts])
        assert server.requests == []
        assert estimate.route == route
        assert estimate.rows == len(texts)
        assert estimate.is_counted
        assert estimate.cost == pytest.approx((estimate.tokens_in + estimate.tokens_out) / 1e6)
        _ = backend.route
        before = copy.copy(backend.usage)
        clf.predict(texts)
        took = backend.usage.tokens_in - before.tokens_in
        assert took <= estimate.tokens_in * 1.01
        if route != "top_logprobs":  # whose calls depend on the answers
            assert took >= estimate.tokens_in * 0.99
            assert 0.9 <= (backend.usage.requests - before.requests) / estimate.requests <= 1.5
        other = LLMClassifier(backend, labels=LABELS, prompt="{{ text }}\nSentiment:", scoring="pmi").fit(texts)
        plain = LLMClassifier(backend, labels=LABELS, prompt="{{ text }}\nSentiment:").fit(texts)
        assert other.dry_run(texts).rows == plain.dry_run(texts).rows + 1
    with pytest.raises(InputError, match="is not a server's"):
        LLMClassifier(labels=LABELS).fit(texts).dry_run(texts)


def test_inside_a_running_loop():
    """A notebook's cell runs inside an event loop; the synchronous face works there, too."""
    with FakeServer("vllm") as server:

        async def cell():
            clf = LLMClassifier(backend_for(server), labels=LABELS, prompt="{{ text }}:").fit(TEXTS)
            return clf.predict(TEXTS)

        assert len(asyncio.run(cell())) == len(TEXTS)


def test_requests_without_labels_are_refused(tokenizer):
    """What no backend can answer is refused before anything is sent."""
    with FakeServer("vllm") as server:
        backend = backend_for(server, tokenizer=tokenizer)
        empty = Request(requests_for()[0].prompt, ())
        with pytest.raises(InputError, match="at least one completion"):
            list(backend.score([empty]))
        assert server.requests == []
