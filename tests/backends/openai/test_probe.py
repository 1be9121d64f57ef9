"""The probe: each kind of server is seen as what it is, and a server that cannot be used is refused in words."""

from __future__ import annotations

import copy

import pytest
from faults import CONTEXT, FakeServer, Mutate, Replace, Status, backend_for
from tiny_reference import noisy

from llmclf import LLMClassifier
from llmclf.backends.openai.backend import OpenAIBackend
from llmclf.errors import (
    CapabilityError,
    ModelError,
    ServerError,
)

pytestmark = pytest.mark.usefixtures("no_waiting")


@pytest.mark.parametrize(
    ("personality", "expected"),
    [
        ("vllm", {"echo": "exact", "named_tokens": True, "raw": True, "top_logprobs": 20, "tokenizer": "vllm"}),
        ("vllm_processed", {"echo": "exact", "named_tokens": True, "raw": False, "grammar": False}),
        ("llama_server", {"echo": "ignored", "grammar": True, "named_tokens": False, "tokenizer": "llama_server"}),
        ("llama_cpp_python", {"echo": "shifted", "token_ids": False, "grammar": False}),
        ("sglang", {"echo": "exact", "token_ids": False, "named_tokens": False, "context_length": CONTEXT}),
        ("openai_legacy", {"echo": "exact", "top_logprobs": 5, "chat": False, "tokenizer": None}),
        ("openai_chat", {"completions": False, "chat": True, "chat_top_logprobs": 20}),
    ],
)
def test_the_probe_finds_out_what_a_server_does(personality, expected):
    """Each kind of server is seen as what it is, by its answers alone."""
    with FakeServer(personality) as server:
        backend = backend_for(server)
        found = backend.probe.to_dict()
        n_requests = len(server.requests)
        assert {name: found[name] for name in expected} == expected
        # It is asked once, whoever asks: copies share what was found.
        assert copy.deepcopy(backend).probe is backend.probe
        assert backend_for(server).probe is backend.probe
        assert len(server.requests) == n_requests


def test_a_server_without_logprobs_is_refused():
    """A server that gives no log-probabilities is refused by a sentence that says what would work."""
    with (
        FakeServer("no_logprobs") as server,
        pytest.raises(CapabilityError, match=r"gives no log-probabilities.*use a server that does"),
    ):
        _ = backend_for(server).route


def ended(reply):
    """The same answer, over before its first token."""
    if "choices" in reply:
        (choice,) = reply["choices"]
        choice["message"]["content"], choice["logprobs"]["content"], choice["finish_reason"] = "", [], "stop"
    return reply


@pytest.mark.parametrize("n_ended", [1, 3])
def test_a_chat_that_ends_at_once_by_chance_is_asked_again(n_ended):
    """The probe's answer is drawn, so it may be empty: that is no server without log-probabilities."""
    left = dict.fromkeys(("plain", "cold"), n_ended)

    def fault(request):
        if request.path.endswith("/chat/completions"):
            kind = "plain" if request.body["temperature"] == 1.0 else "cold"
            if left[kind]:
                left[kind] -= 1
                return Mutate(ended)
        return None

    with FakeServer("openai_chat", fault) as server, FakeServer("openai_chat") as steady:
        probed, expected = backend_for(server).probe, backend_for(steady).probe
    assert not any(left.values())
    assert probed == expected


def test_a_chat_that_always_ends_at_once_is_refused():
    """The sentence says that no answer had a token."""
    with (
        FakeServer(
            "openai_chat", lambda request: Mutate(ended) if request.path.endswith("chat/completions") else None
        ) as server,
        pytest.raises(CapabilityError, match=r"8 answers in a row ended before their first token"),
    ):
        _ = backend_for(server).route


def test_a_wrong_key_stops_at_once(monkeypatch):
    """401 is final: one request, no retry, and advice that names the variable and not the key."""
    monkeypatch.setenv("MY_KEY", "wrong-secret")
    with FakeServer("vllm", key="right-secret") as server:
        with pytest.raises(ServerError, match=r"401.*MY_KEY") as caught:
            _ = backend_for(server, api_key_env="MY_KEY").route
        assert caught.value.is_final
        assert "wrong-secret" not in str(caught.value)
        assert len(server.requests) == 1  # the first of the probe
        monkeypatch.setenv("MY_KEY", "right-secret")
        assert backend_for(server, api_key_env="MY_KEY", concurrency=2).route == "echo"


def test_what_a_key_may_not_read_is_done_without():
    """A key or gateway that forbids the list of models, or completions, does not keep the rest from being used."""
    closed = {"/v1/models", "/props", "/tokenize"}
    with FakeServer("vllm", lambda request: Status(403) if request.path in closed else None) as server:
        assert backend_for(server).route == "echo_text"
    closed = {"/v1/completions"}
    with FakeServer("vllm", lambda request: Status(403) if request.path in closed else None) as server:
        assert backend_for(server).route == "chat"
    with FakeServer("vllm", lambda request: Status(403)) as server, pytest.raises(ServerError, match="403"):
        _ = backend_for(server).route


def test_an_unknown_model_is_refused_in_the_server_s_words():
    """A model that is not there is an error of the whole work, with what the server says is there."""
    with FakeServer("vllm") as server, pytest.raises(ModelError, match=r"does not exist"):
        _ = OpenAIBackend("openai:other", base_url=server.url).route


def test_nothing_answers_there():
    """An address without a server is named in the error."""
    with FakeServer("plain") as server:
        url = server.url
    with pytest.raises(ServerError, match=r"cannot be reached at http://127"):
        _ = OpenAIBackend("openai:tiny", base_url=url, max_retries=0).route


def test_other_replies_than_json_are_no_crash():
    """A server that answers every question with the same odd value is refused, not believed."""
    for reply in (3, [], "text", None, {"choices": [3]}, {"data": 3}):
        with FakeServer("vllm", lambda _, reply=reply: Replace(reply)) as server, pytest.raises(ModelError):
            _ = backend_for(server, max_retries=0).route


@pytest.mark.filterwarnings("ignore:these scores say nothing")
def test_what_the_probe_found_is_kept_with_the_scores(tmp_path):
    """The report and the saved classifier hold what the server was seen to do, and so do the cache's keys."""
    import json

    texts = [f"text {i}" for i in range(80)]
    with FakeServer("vllm") as server:
        backend = backend_for(server)
        y = noisy(backend, ["fine", "film"], texts)
        clf = LLMClassifier(backend, labels=["fine", "film"], prompt="{{ text }}:", calibrator="temperature")
        clf.fit(texts[:40], y[:40]).save(tmp_path / "clf")
        assert backend.identity()["probe"]["echo"] == "exact"
        saved = json.loads((tmp_path / "clf" / "classifier.json").read_text(encoding="utf-8"))
        assert saved["calibrated_on"]["probe"] == backend.probe.summary
        report = clf.report(texts[40:], y[40:], title="t").to_dict()
        assert report["provenance"]["model"]["probe"]["echo"] == "exact"
