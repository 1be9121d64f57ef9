"""Providers that are asked by name: the route each gets, what its scores are worth, and what it refuses."""

from __future__ import annotations

import json
import math

import pytest
from contract import TEXTS, requests_for, score
from faults import FakeServer, Html, Mutate, Replace, Status
from provider_servers import serving
from tiny_reference import CHAT, text_truth
from writing import asked, written

from llmclf import LLMClassifier, load, open_backend
from llmclf.backends.providers import PROVIDERS
from llmclf.backends.wires.registry import WIRES
from llmclf.errors import BudgetError, CapabilityError, InputError, ModelChangedError, ServerError

pytestmark = pytest.mark.usefixtures("no_waiting", "own_environment")

LABELS = ["a", "the", "not", "film", "text is"]


@pytest.fixture
def own_environment(monkeypatch):
    """Whatever the machine's environment says of providers is not meant."""
    for provider in PROVIDERS.values():
        for variable in filter(None, (provider.url_variable, provider.key_variable)):
            monkeypatch.delenv(variable, raising=False)
    for variable in ("OPENAI_CUSTOM_HEADERS", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.delenv(variable, raising=False)


def opened(server: FakeServer, scheme: str, **options):
    return open_backend(f"{scheme}:tiny", base_url=server.url, **options)


def assert_holds(request, answer, prompt: str) -> None:
    """Every label's true probability lies between its bounds."""
    assert answer.error is None
    for completion, low, high in zip(request.completions, answer.lower, answer.upper, strict=True):
        assert math.exp(low) - 1e-6 <= text_truth(prompt, completion) <= math.exp(high) + 1e-6


BOUNDED = [
    ("responses", "openai", {"wire": "responses"}, "responses"),
    ("responses", "lmstudio", {}, "responses"),
    ("gemini", "gemini", {}, "gemini"),
    ("ollama", "ollama", {}, "ollama"),
    ("openai_chat", "azure", {}, "chat"),
    ("openai_chat", "ollama", {"wire": "chat"}, "chat"),
    ("xai", "xai", {}, "chat"),
    ("reasons", "openai", {}, "chat"),
]


@pytest.mark.parametrize(("personality", "scheme", "options", "wire"), BOUNDED)
def test_bounds_hold_the_truth(personality, scheme, options, wire):
    """Whatever the protocol, twenty tokens (or eight) bound every label; the identity says how they were asked."""
    requests = requests_for(TEXTS[:3], labels=LABELS, prompt=CHAT, shots=())
    with FakeServer(personality) as server:
        backend = opened(server, scheme, **options)
        answers = score(backend, requests)
        for request, answer in zip(requests, answers, strict=True):
            messages = [{"role": turn.role, "content": turn.text} for turn in request.prompt.turns]
            assert_holds(request, answer, server.model.chat(messages))
        assert backend.route == ("top_logprobs" if wire == "ollama" else "chat")
        assert backend.probe.chat_wire == wire
        assert backend.identity()["backend"] == scheme
        assert backend.identity() == backend.identity()
        assert str(backend.answering_model()) == "tiny"
        assert backend.usage.tokens_in > 0
        assert backend.usage.tokens_out > 0
        # One request a row, besides those of the probe.
        asked = len(server.requests)
        score(backend, requests)
        assert len(server.requests) == asked + len(requests)


def test_ollama_is_asked_in_chats_and_in_texts():
    """One backend takes both kinds of prompts: a text is continued, and a chat's answer is followed."""
    with FakeServer("ollama") as server:
        backend = opened(server, "ollama")
        chats = requests_for(TEXTS[:2], labels=LABELS, prompt=CHAT, shots=())
        texts = requests_for(TEXTS[:2], labels=LABELS)
        for request, answer in zip([*chats, *texts], score(backend, [*chats, *texts]), strict=True):
            messages = [{"role": turn.role, "content": turn.text} for turn in request.prompt.turns]
            assert_holds(
                request, answer, server.model.chat(messages) if request.prompt.is_chat else request.prompt.text
            )
        assert backend.route == "top_logprobs"
        assert backend.identity()["chat_top_logprobs"] == 20


def test_ollama_continues_texts():
    """A plain prompt goes to the model as it is, and the label trie is walked there."""
    requests = requests_for(TEXTS[:3], labels=LABELS)
    with FakeServer("ollama") as server:
        backend = opened(server, "ollama", top_calls=6)
        answers = score(backend, requests)
        assert backend.route == "top_logprobs"
        for request, answer in zip(requests, answers, strict=True):
            assert_holds(request, answer, request.prompt.text)
        rows = [request.body for request in server.requests if request.path == "/api/generate"]
        assert all(body["raw"] is True and body["stream"] is False for body in rows)


def test_an_address_for_the_compatible_form_serves_ollama_too():
    """The native paths are below the root, whether or not the address ends in /v1."""
    with FakeServer("ollama") as server:
        backend = open_backend("ollama:tiny", base_url=f"{server.root}/v1", use_route="chat")
        assert score(backend, requests_for(TEXTS[:1], labels=["a", "b"], prompt=CHAT, shots=()))[0].error is None


def test_effort_is_told_where_it_is_needed():
    """A model that shows log-probabilities only without reasoning is asked so, and its identity says it."""
    with FakeServer("reasons") as server:
        backend = opened(server, "openai")
        score(backend, requests_for(TEXTS[:2], labels=LABELS, prompt=CHAT, shots=()))
        assert backend.probe.effort == "none"
        assert backend.identity()["probe"]["effort"] == "none"
        assert server.requests[-1].body["reasoning_effort"] == "none"
    with FakeServer("openai_chat") as server:
        backend = opened(server, "openai")
        assert "effort" not in backend.identity()["probe"]
        assert all("reasoning_effort" not in (request.body or {}) for request in server.requests)


def test_tokens_of_thoughts_are_not_those_of_an_answer():
    """A server that shows what a model thinks, and writes no answer yet, is asked without thinking, and else refused."""

    def thinking(reply):
        (choice,) = reply["choices"]
        choice["message"] = {"role": "assistant", "content": None, "reasoning_content": "Okay"}
        choice["logprobs"]["content"][0] |= {"token": "Okay", "bytes": list(b"Okay")}
        choice["finish_reason"] = "length"
        return reply

    def unless_told(request):
        body = request.body if isinstance(request.body, dict) else {}
        return Mutate(thinking) if "messages" in body and "reasoning_effort" not in body else None

    with FakeServer("openai_chat", unless_told) as server:
        backend = opened(server, "openai")
        assert (backend.route, backend.probe.effort) == ("chat", "none")

    def always(request):
        return Mutate(thinking) if isinstance(request.body, dict) and "messages" in request.body else None

    with (
        FakeServer("openai_chat", always) as server,
        pytest.raises(CapabilityError, match="other tokens than the answer's"),
    ):
        score(opened(server, "openai"), requests_for(TEXTS[:1], prompt=CHAT, shots=()))


def test_more_answers_than_were_asked_for_are_paid_once():
    """Asked again there would be as many."""
    state = {"on": False}

    def doubled(reply):
        (choice,) = reply["choices"]
        return {**reply, "choices": [choice, {**choice, "index": 1}]}

    with FakeServer("openai_chat", lambda _: Mutate(doubled) if state["on"] else None) as server:
        backend = opened(server, "openai")
        assert backend.route == "chat"
        state["on"] = True
        asked = len(server.requests)
        (answer,) = score(backend, requests_for(TEXTS[:1], prompt=CHAT, shots=()))
        assert "choices has 2 items, and 1 was asked for" in answer.error
        assert len(server.requests) == asked + 1
    for name in ("n", "temperature", "stream"):
        with pytest.raises(InputError, match=f"extra has '{name}', which the backend sets itself"):
            open_backend("openai:tiny", extra={name: 1})


def test_xai_is_asked_for_eight():
    """The table's number is tried first; a server that takes more or fewer is still found out."""
    with FakeServer("xai") as server:
        assert opened(server, "xai").probe.chat_top_logprobs == 8
        assert not any((request.body or {}).get("top_logprobs") == 20 for request in server.requests)
    with FakeServer("openai_chat", lambda request: only_five(request)) as server:
        assert opened(server, "xai").probe.chat_top_logprobs == 5


def only_five(request):
    if (request.body or {}).get("top_logprobs", 0) > 5:
        return Status(400, body={"error": {"message": "top_logprobs must be at most 5"}})
    return None


NONE_SHOWN = [
    ("anthropic", "anthropic", "has none", 0),
    ("mistral", "mistral", "Extra inputs are not permitted", None),
    ("groq", "groq", "`logprobs` is not supported with this model", None),
    ("old_ollama", "ollama", "version 0.12.11", None),
    ("no_logprobs", "deepinfra", "no log-probabilities", None),
    ("deepseek", "openai", "every token has the value 0 or -9999, which is no distribution", None),
]


@pytest.mark.parametrize(("personality", "scheme", "words", "n_requests"), NONE_SHOWN)
def test_without_log_probabilities_the_other_routes_are_named(personality, scheme, words, n_requests):
    """The error has the server's words, the routes by written answers, and what these cost."""
    with FakeServer(personality) as server:
        backend = opened(server, scheme)
        with pytest.raises(CapabilityError) as caught:
            score(backend, requests_for(TEXTS[:1], prompt=CHAT, shots=()))
        message = str(caught.value)
        for part in (words, "use_route='verbalized' (1 request a row)", "use_route='sampled' (5 to 20 answers a row)"):
            assert part in message
        assert "\n" not in message
        if n_requests is not None:
            assert len(server.requests) == n_requests


def test_a_row_of_no_distribution_is_an_error():
    """Also where the server starts with it after the probe; it is not asked about again."""
    state = {"on": False}

    def change(reply):
        for item in reply["choices"][0]["logprobs"]["content"]:
            item["logprob"] = 0.0
            for place, entry in enumerate(item["top_logprobs"]):
                entry["logprob"] = -9999.0 if place else 0.0
        return reply

    with FakeServer("openai_chat", lambda _: Mutate(change) if state["on"] else None) as server:
        backend = opened(server, "openai")
        assert backend.route == "chat"
        state["on"] = True
        asked = len(server.requests)
        (answer,) = score(backend, requests_for(TEXTS[:1], prompt=CHAT, shots=()))
        assert "which is no distribution" in answer.error
        assert answer.token_logprobs == ()
        assert len(server.requests) == asked + 1


def refusing(reply):
    (choice,) = reply["choices"]
    choice["message"] = {"role": "assistant", "content": None, "refusal": "I can't help with that."}
    choice["logprobs"] = {"content": None, "refusal": choice["logprobs"]["content"]}
    return reply


def blocked(reply):
    return {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "usageMetadata": reply["usageMetadata"]}


def emptied(reply):
    (choice,) = reply["choices"]
    choice["message"]["content"], choice["logprobs"]["content"], choice["finish_reason"] = "", [], "stop"
    return reply


@pytest.mark.parametrize(
    ("personality", "scheme", "change", "words"),
    [
        ("openai_chat", "openai", refusing, "refused to answer: I can't help with that.; change the prompt"),
        ("gemini", "gemini", blocked, "refused to answer: the prompt was blocked (PROHIBITED_CONTENT)"),
        ("openai_chat", "openai", emptied, "the answer is empty"),
    ],
)
def test_refusals_and_empty_answers_are_paid_for_once(personality, scheme, change, words):
    """Such a row is an error with the cure; to ask again would get the same and cost again."""
    state = {"on": False}
    with FakeServer(personality, lambda _: Mutate(change) if state["on"] else None) as server:
        backend = opened(server, scheme)
        assert backend.route == "chat"
        state["on"] = True
        asked = len(server.requests)
        (answer,) = score(backend, requests_for(TEXTS[:1], prompt=CHAT, shots=()))
        assert words in answer.error
        assert len(server.requests) == asked + 1


KEYS = [
    ("anthropic", "anthropic", "x-api-key", "ANTHROPIC_API_KEY"),
    ("gemini", "gemini", "x-goog-api-key", "GEMINI_API_KEY"),
    ("openai_chat", "mistral", "authorization", "MISTRAL_API_KEY"),
    ("openai_chat", "azure", "api-key", "AZURE_OPENAI_API_KEY"),
]


@pytest.mark.parametrize(("personality", "scheme", "header", "variable"), KEYS)
def test_a_key_goes_into_its_own_header_alone(personality, scheme, header, variable, monkeypatch):
    """No other header has it, and what the environment adds for OpenAI goes to nobody else."""
    monkeypatch.setenv(variable, "k-0123456789abcdef")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Gateway: secret-of-another")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-another")
    with FakeServer(personality, lambda _: Status(400)) as server:
        backend = opened(server, scheme, wire="anthropic" if scheme == "anthropic" else None)
        with pytest.raises(CapabilityError):
            _ = backend.route
        if scheme == "anthropic":
            with pytest.raises(ServerError):
                written(backend)
        for request in server.requests:
            carrying = [name for name, value in request.headers.items() if "0123456789" in value]
            assert carrying == [header]
            assert "another" not in str(request.headers)


WRONG_KEYS = [
    ("anthropic", "ANTHROPIC_API_KEY"),
    ("gemini", "GEMINI_API_KEY"),
    ("xai", "XAI_API_KEY"),
    ("mistral", "MISTRAL_API_KEY"),
]


@pytest.mark.parametrize(("scheme", "variable"), WRONG_KEYS)
@pytest.mark.parametrize("is_set", [True, False])
def test_a_wrong_key_and_none_stop_at_once(scheme, variable, is_set, monkeypatch):
    """One request, an error of one line that names the variable or how to name one, and never the key."""
    if is_set:
        monkeypatch.setenv(variable, "wrong-0123456789abcdef")
    with FakeServer(scheme, key="right") as server:
        with pytest.raises(ServerError) as caught:
            written(opened(server, scheme))
        assert caught.value.is_final
        assert (variable if is_set else "name a key with api_key_env=") in str(caught.value)
        assert "0123456789" not in str(caught.value)
        assert "\n" not in str(caught.value)
        assert len(server.requests) == 1
        if scheme in ("gemini", "xai"):
            with pytest.raises(ServerError, match="key"):
                _ = opened(server, scheme, concurrency=3).route
            assert len(server.requests) == 2


def test_a_variable_that_is_named_must_be_set():
    """No key at all, where one was asked for by name, is said before anything is sent."""
    with FakeServer("mistral") as server:
        with pytest.raises(InputError, match="LLMCLF_NO_SUCH_KEY is not set"):
            written(opened(server, "mistral", api_key_env="LLMCLF_NO_SUCH_KEY"))
        assert not server.requests


@pytest.mark.parametrize(
    ("scheme", "words"),
    [
        ("anthropic", "model: nobody"),
        ("gemini", "models/nobody is not found"),
        ("ollama", "model 'nobody' not found"),
        ("mistral", "Invalid model: nobody"),
    ],
)
def test_a_model_that_does_not_exist(scheme, words):
    """The server's words are shown, both by the probe and by an answer."""
    with FakeServer(scheme) as server:
        backend = open_backend(f"{scheme}:nobody", base_url=server.url)
        with pytest.raises(ServerError, match=words):
            written(backend)
        if WIRES[backend.endpoint.wire].shows_logprobs:
            with pytest.raises(ServerError, match=words):
                _ = backend.route


@pytest.mark.parametrize("scheme", ["anthropic", "gemini", "ollama", "mistral", "openai"])
def test_a_page_with_status_200_is_no_answer(scheme):
    """What a gateway shows is said, and nothing is counted as an answer."""
    with FakeServer("plain", lambda _: Html()) as server:
        backend = opened(server, scheme, max_retries=1)
        with pytest.raises(ServerError, match=r"not JSON \(text/html\): Welcome Please sign in\."):
            written(backend)
        assert len(server.requests) == 2


def test_the_provider_behind_a_router_is_watched():
    """Another one behind the same name is another model."""
    state = {"n": 0}

    def change(reply):
        state["n"] += 1
        return {**reply, "provider": "One" if state["n"] < 40 else "Two"}

    with FakeServer("openrouter", lambda _: Mutate(change)) as server:
        backend = opened(server, "openrouter", extra={"provider": {"only": ["One"]}}, concurrency=1)
        requests = requests_for([f"text {i}" for i in range(60)], labels=["a", "b"], prompt=CHAT, shots=())
        with pytest.raises(ModelChangedError, match=r"'One' +before"):
            score(backend, requests)
        assert server.requests[-1].body["provider"] == {"only": ["One"]}


def test_a_saved_classifier_opens_its_provider(tmp_path, monkeypatch):
    """The folder has the model string and the options, and no key."""
    monkeypatch.setenv("GEMINI_API_KEY", "k-0123456789abcdef")
    with FakeServer("gemini", key="k-0123456789abcdef") as server:
        backend = opened(server, "gemini")
        clf = LLMClassifier(backend, labels=["good", "bad"], prompt=CHAT).fit(TEXTS)
        clf.save(tmp_path / "clf")
        assert "0123456789" not in (tmp_path / "clf" / "classifier.json").read_text()
        with pytest.raises(InputError, match="would send the key in GEMINI_API_KEY"):
            load(tmp_path / "clf")
        again = load(tmp_path / "clf", model_options={"base_url": server.url})
        assert again.backend_ == backend
        assert (again.predict_proba(TEXTS) == clf.predict_proba(TEXTS)).all()


@pytest.mark.parametrize(
    ("personality", "scheme"), [("gemini", "gemini"), ("ollama", "ollama"), ("responses", "lmstudio")]
)
def test_the_command_line_takes_them(personality, scheme, tmp_path, run, monkeypatch):
    """A provider's server in a process of its own, asked by `predict` and by `probe` with a key of its own variable."""
    monkeypatch.setenv("SOME_KEY", "k-0123456789abcdef")
    with serving(personality, tmp_path, key="k-0123456789abcdef") as url:
        server = ["--base-url", url, "--api-key-env", "SOME_KEY"]
        done = run("probe", f"{scheme}:tiny", *server, "--json")
        assert done.code == 0, done.err
        assert json.loads(done.out)["route"] in ("chat", "top_logprobs")
        table = tmp_path / "texts.csv"
        table.write_text("text\nA fine film.\nA bore.\n")
        options = ["--labels", "good,bad", "--text-column", "text", "--chat", "--model", f"{scheme}:tiny", *server]
        done = run("predict", table, tmp_path / "labelled.csv", *options, "--model-option", "use_route=chat")
        assert done.code == 0, done.err
        assert len((tmp_path / "labelled.csv").read_text().splitlines()) == 3


def test_a_bad_reply_is_not_an_answer():
    """Choices of another number than was asked for, and a reply of another shape."""
    (good,) = [{"index": 0, "message": {"role": "assistant", "content": "good"}, "finish_reason": "stop"}]
    for choices in ([], [good, {**good, "index": 1}], [{**good, "index": 5}]):
        with (
            FakeServer("plain", lambda _, choices=choices: Replace({"choices": choices})) as server,
            pytest.raises(ServerError, match="cannot be used"),
        ):
            written(opened(server, "openai", max_retries=0))


def test_n_that_is_not_honoured():
    """Fewer answers than were asked for are what was answered: nothing is made up, and nothing is asked again here."""
    with FakeServer("openai_chat") as server:
        assert len(written(opened(server, "openai"), n=4)) == 1
        assert server.requests[-1].body["n"] == 4
    with FakeServer("gemini") as server:
        texts = written(opened(server, "gemini"), n=4)
        assert len(texts) == 4
        assert {one.stop for one in texts} <= {"length", "end"}


def test_the_name_of_the_limit_is_found_out():
    """A server that knows it by another name than the table says is asked by that one."""
    with FakeServer("reasons") as server:
        backend = opened(server, "together", use_route="sampled")
        assert backend.probe.answers.limit == "max_completion_tokens"
        assert backend.route == "sampled"


def test_an_effort_that_a_model_does_not_take():
    """It is named with the server's words, before any row is asked about."""

    def fault(request):
        if "reasoning_effort" in (request.body or {}):
            return Status(400, body={"error": {"message": "Unsupported parameter: 'reasoning_effort' for this model."}})
        return None

    with FakeServer("openai_chat", fault) as server:
        backend = opened(server, "openai", use_route="sampled", effort="low")
        with pytest.raises(CapabilityError, match=r"Unsupported parameter: 'reasoning_effort'.*effort="):
            _ = backend.route


def saying(text: str, shares: str):
    """A change of any protocol's reply: what was written is a text, or stated shares where a schema was asked for."""

    def change(body):
        said = shares if "schema" in json.dumps(body) or "JSON" in json.dumps(body) else text

        def changed(reply):
            if "choices" in reply:
                for choice in reply["choices"]:
                    choice["message"]["content"], choice["finish_reason"] = said, "stop"
            elif "output" in reply:
                reply["output"][1]["content"][0]["text"], reply["status"] = said, "completed"
            elif "candidates" in reply:
                for candidate in reply["candidates"]:
                    candidate["content"], candidate["finishReason"] = {"parts": [{"text": said}]}, "STOP"
            elif "stop_reason" in reply:
                reply["content"][1]["text"], reply["stop_reason"] = said, "end_turn"
            elif "done_reason" in reply:
                reply["message"]["content"], reply["done_reason"] = said, "stop"
            return reply

        return changed

    def fault(request):
        is_chat = isinstance(request.body, dict) and {"messages", "contents", "input"} & set(request.body)
        return Mutate(change(request.body)) if is_chat else None

    return fault


WRITES = [
    ("anthropic", "anthropic", {}, 5),
    ("gemini", "gemini", {}, 5),
    ("ollama", "ollama", {}, 5),
    ("responses", "openai", {"wire": "responses"}, 5),
]


@pytest.mark.filterwarnings("ignore::llmclf.errors.EstimatedScoresWarning")
@pytest.mark.parametrize(("personality", "scheme", "options", "n_requests"), WRITES)
def test_written_answers_are_scores_in_every_protocol(personality, scheme, options, n_requests):
    """Shares that are stated and answers that are drawn are read from each protocol's replies, at the requests that they cost."""
    with FakeServer(personality, saying("good", '{"A": 90, "B": 10}')) as server:
        for route, n in (("verbalized", 1), ("sampled", n_requests)):
            backend = opened(server, scheme, use_route=route, max_samples=5 if route == "sampled" else None, **options)
            clf = LLMClassifier(backend, labels=["good", "bad"], prompt=CHAT).fit(TEXTS)
            assert backend.route == route
            assert backend.identity()["backend"] == scheme
            asked_before = len(server.requests)
            proba = clf.predict_proba(["A fine film."])
            assert len(server.requests) == asked_before + n
            if route == "sampled":
                assert clf.classes_[proba[0].argmax()] == "good"
                assert proba[0].max() > 0.8
            else:
                # Which label A is belongs to the row; its share is that of no other.
                text = json.dumps(server.requests[-1].body)
                first = "good" if "A: good" in text else "bad"
                assert f"A: {first}" in text
                assert proba[0][clf.classes_.tolist().index(first)] == pytest.approx(0.9, abs=0.01)


@pytest.mark.parametrize("personality", ["anthropic", "gemini", "ollama", "openai_chat"])
def test_costs_are_counted_alike(personality):
    """By the counts of each protocol's own reply, within a limit that no request may pass."""
    scheme = "openai" if personality == "openai_chat" else personality
    with FakeServer(personality) as server:
        price = {"input": 1.0, "cached": 0.1, "output": 2.0}
        texts, usage = asked(opened(server, scheme, price=price, max_cost=1.0))
        assert len(texts) == 1
        assert usage.requests == 1
        assert usage.tokens_out >= 1
        n_new = usage.tokens_in - usage.tokens_cached
        assert usage.cost == pytest.approx((n_new + 0.1 * usage.tokens_cached + 2.0 * usage.tokens_out) / 1e6)
        assert usage.tokens_cached == (7 if personality == "anthropic" else 0)
        with pytest.raises(BudgetError, match="max_cost"):
            asked(opened(server, scheme, price=price, max_cost=1e-5))
        assert len(server.requests) == 1
