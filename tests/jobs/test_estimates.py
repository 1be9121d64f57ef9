"""What an estimate says, beside what the server then counts: for every route and every kind of server."""

from __future__ import annotations

import math

import pandas as pd
import pytest
from batch_server import BatchServer
from decision_servers import DecisionServer
from faults import FakeServer, Mutate, Request, tiny_model

from llmclf import Embeddings, Prompt, open_backend
from llmclf.jobs import estimate_table, label_table
from llmclf.jobs.asking.batches import BatchAsking

pytestmark = [pytest.mark.usefixtures("no_waiting"), pytest.mark.server]
TEXTS = [
    f"Film {i}: " + "a delight from start to finish, and the actors were superb. "[: 3 + i % 50] for i in range(40)
]
LABELS = ["good", "not at all good", "bad"]
SHORT = ["a", "w"]  # one token each, and at most four bytes: their only question is the first


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory) -> str:
    return str(tiny_model().save_tokenizer(tmp_path_factory.mktemp("tiny")))


def n_tokens(text: str) -> int:
    return math.ceil(len(text.encode()) / 4)


def four_bytes(request: Request) -> Mutate | None:
    """A server whose tokens have four bytes each, as is assumed without a tokenizer; it counts a chat as OpenAI does."""

    def counted(reply):
        body = request.body
        if "usage" not in reply:
            return reply
        if "messages" in body:
            n = sum(n_tokens(message["content"]) + 4 for message in body["messages"]) + 3
        else:
            prompts = body["prompt"] if isinstance(body["prompt"], list) else [body["prompt"]]
            n = sum(n_tokens(prompt) for prompt in prompts if isinstance(prompt, str))
        return {**reply, "usage": {**reply["usage"], "prompt_tokens": n}}

    return Mutate(counted) if isinstance(request.body, dict) and "completions" in request.path else None


def job(server, labels, *, chat=False, **options):
    return {
        "text_column": "text",
        "labels": labels,
        "prompt": Prompt("Review: {{ text }}\nSentiment:", chat=chat),
        "model": open_backend(
            "openai:tiny",
            base_url=server.url,
            api_key_env="",
            concurrency=4,
            price={"input": 1.0, "output": 1.0},
            **options,
        ),
    }


BY_TOKENS = [
    ("vllm", "choice", LABELS),
    ("vllm", "echo", LABELS),
    ("sglang", "echo", LABELS),
    ("vllm", "named_tokens", LABELS),
    ("llama_server", "grammar", LABELS),
]
BY_TEXT = [
    ("vllm", "echo_text", LABELS),
    ("openai_legacy", "echo_text", LABELS),
    ("vllm", "top_logprobs", SHORT),
    ("vllm", "chat", LABELS),
    ("openai_chat", "chat", LABELS),
]


BY_TEXT_ALONE = [
    ("openai_legacy", "echo_text", LABELS),
    ("llama_cpp_python", "top_logprobs", SHORT),
    ("openai_chat", "chat", LABELS),
]


@pytest.mark.parametrize(
    ("personality", "route", "labels", "is_counted"),
    [(*case, True) for case in (*BY_TOKENS, *BY_TEXT)] + [(*case, False) for case in BY_TEXT_ALONE],
)
def test_requests_and_tokens_are_those_that_the_server_counts(personality, route, labels, is_counted, tokenizer):
    """Within a tenth, by a tokenizer or without one: each text is counted as often as the route sends it."""
    with FakeServer(personality, () if is_counted else four_bytes) as server:
        options = {"tokenizer": tokenizer} if is_counted else {}
        asked = job(server, labels, chat=route == "chat", use_route=route, **options)
        said = estimate_table(pd.DataFrame({"text": TEXTS}), **asked)
        assert server.requests == []
        asked["model"].identity()
        n_before = server.count()
        took = label_table(pd.DataFrame({"text": TEXTS}), **asked).summary
        assert took.failed == 0
        assert said.requests == pytest.approx(server.count() - n_before, rel=0.1)
        assert said.tokens_in == pytest.approx(took.usage["tokens_in"], rel=0.1)
        if personality not in ("sglang", "openai_legacy"):  # these count no token for an echo
            assert said.tokens_out == pytest.approx(took.usage["tokens_out"], rel=0.1)
            assert said.cost == pytest.approx(took.usage["cost"], rel=0.1)


def test_a_route_that_is_assumed_is_called_so_and_a_probe_finds_it():
    """Without a question to the server the way is a guess, and the costlier one; with --probe it is the one that label takes."""
    table = pd.DataFrame({"text": TEXTS})
    with FakeServer("openai_chat", four_bytes) as server:
        guess = estimate_table(table, **job(server, LABELS))
        assert server.requests == []
        assert "route 'echo_text', assumed" in guess.assumption
        asked = job(server, LABELS, chat=True, top_calls=3)
        known = estimate_table(table, probe=True, **asked)
        assert known.assumption.endswith("route 'chat'")
        n_before = server.count()
        took = label_table(table, **asked).summary
        assert known.requests == server.count() - n_before
        assert known.tokens_in == pytest.approx(took.usage["tokens_in"], rel=0.1)
    with FakeServer("openai_legacy", four_bytes) as server:  # the guess is right where texts are echoed
        asked = job(server, LABELS)
        said = estimate_table(table, **asked)
        took = label_table(table, **asked).summary
        assert said.tokens_in == pytest.approx(took.usage["tokens_in"], rel=0.1)


@pytest.mark.parametrize("permutations", [1, 2])
@pytest.mark.parametrize("scheme", ["systemone", "decisions"])
def test_decision_servers(scheme, permutations):
    """What the protocol writes around text and options is counted as well."""
    table = pd.DataFrame({"text": TEXTS})
    with DecisionServer() as server:
        url = server.url + ("/v1" if scheme == "decisions" else "")
        backend = open_backend(f"{scheme}:x", base_url=url, api_key_env="", permutations=permutations)
        asked = {"text_column": "text", "labels": LABELS, "model": backend, "prompt": Prompt("{{ text }}")}
        said = estimate_table(table, **asked)
        assert server.bodies == []
        backend.identity()
        took = label_table(table, **asked).summary
        assert took.failed == 0
        assert said.requests == len(server.bodies) - 1
        assert said.tokens_in == pytest.approx(took.usage["tokens_in"], rel=0.1)


def test_embeddings():
    """Each different text once, as many in a request as go into one."""
    with FakeServer("embeddings") as server:
        embeddings = Embeddings("openai:tiny", base_url=server.url, api_key_env="", batch_size=16)
        said = embeddings.estimate([*TEXTS, *TEXTS])
        assert server.requests == []
        embeddings.fit_transform([*TEXTS, *TEXTS])
        sent = [text for request in server.requests for text in request.body["input"]]
        assert said.requests == server.count()
        assert said.tokens_in == pytest.approx(sum(map(n_tokens, sent)), rel=0.1)


def test_batches(tokenizer):
    """A batch takes the tokens that live requests take."""
    table = pd.DataFrame({"text": TEXTS[:12]})
    with BatchServer("openai_chat") as server:
        asked = job(server, LABELS, chat=True, use_route="chat", tokenizer=tokenizer)
        said = estimate_table(table, **asked)
        took = label_table(table, asking=BatchAsking(poll_seconds=0.01), **asked).summary
        assert said.tokens_in == pytest.approx(took.usage["tokens_in"], rel=0.1)
        assert said.tokens_out == pytest.approx(took.usage["tokens_out"], rel=0.1)
