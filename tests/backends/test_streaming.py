"""Answers in groups: every request once, read lazily, and a server never far ahead of what was already handled."""

from __future__ import annotations

import itertools
import threading
import time
from contextlib import closing

import pytest
from contract import TEXTS, assert_same, in_order, requests_for, score
from decision_servers import DecisionServer
from faults import FakeServer, Hang, Status, backend_for, tiny_model
from hypothesis import given
from hypothesis import strategies as st

from llmclf import Prompt, open_backend
from llmclf.backends import FakeBackend, Request, streaming
from llmclf.backends.decisions.backend import DecisionsBackend, SystemOneBackend
from llmclf.backends.http.async_bridge import AsyncBridge
from llmclf.backends.http.client import Client
from llmclf.backends.http.options import ServerOptions
from llmclf.backends.streaming import stream
from llmclf.errors import InputError, ModelError, PromptError, RowError, ServerError

pytestmark = pytest.mark.usefixtures("no_waiting")

LABELS = ["positive", "negative"]
CHAT = Prompt("Review: {{ text }}\nGood or bad?", instruction="Judge films.", chat=True)
MANY = [f"{text} {i}" for i in range(9) for text in TEXTS]
DECISIONS = {"systemone": SystemOneBackend, "decisions": DecisionsBackend}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory) -> str:
    return str(tiny_model().save_tokenizer(tmp_path_factory.mktemp("tiny")))


def read_into(seen: list, groups) -> None:
    for group in groups:
        seen += group


def endless(**options):
    """Requests without end, and a list that grows with each that is pulled."""
    pulled = []

    def requests():
        for i in itertools.count():
            pulled.append(i)
            yield requests_for([f"Text {i}."], **{"labels": LABELS, "shots": (), **options})[0]

    return requests(), pulled


def quiet(server) -> int:
    """How many requests came, once no further one comes."""
    n, since = -1, time.monotonic()
    while time.monotonic() - since < 0.3:
        if len(server.requests) != n:
            n, since = len(server.requests), time.monotonic()
        time.sleep(0.01)
    return n


def own_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name != "fake-server"]


def is_settled(server: FakeServer) -> bool:
    until = time.monotonic() + 2.0
    while server.open_connections and time.monotonic() < until:
        time.sleep(0.01)
    return not server.open_connections


# --- the same answers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("personality", "route", "options"),
    [
        ("vllm", "echo", {}),
        ("vllm", "named_tokens", {}),
        ("vllm", None, {}),
        ("llama_server", "grammar", {}),
        ("sglang", "echo_text", {}),
        ("openai_legacy", "top_logprobs", {}),
        ("openai_chat", "chat", {"prompt": CHAT, "shots": ()}),
    ],
)
@pytest.mark.parametrize("is_known", [False, True], ids=["unknown", "known"])
def test_every_route_answers_as_score_does(personality, route, options, is_known):
    """Whatever the route, and whether or not the number of requests is known, the answers are those of `score`."""
    requests = requests_for(MANY[:20], labels=LABELS, **options)
    with FakeServer(personality) as server:
        backend = backend_for(server, use_route=route, concurrency=4)
        expected = score(backend, requests)
        ours = in_order(stream(backend, iter(requests), n_requests=len(requests) if is_known else None))
        if route == "top_logprobs":
            # What a server draws differs from time to time, and the bounds with it; the truth is within all of them.
            for one, other in zip(ours, expected, strict=True):
                assert all(low <= high for low, high in zip(one.lower, other.upper, strict=True))
                assert all(low <= high for low, high in zip(other.lower, one.upper, strict=True))
        else:
            assert_same(ours, expected, 1e-9)
        assert [row.error for row in ours] == [row.error for row in expected]


@pytest.mark.parametrize("scheme", DECISIONS)
def test_decision_servers_answer_as_score_does(scheme):
    """Both protocols answer a lazily read table as they answer a list, also where a text is asked about twice."""
    prompt = Prompt("{{ text }}", instruction="Good or bad?")
    requests = requests_for([*MANY[:10], *MANY[9:15]], labels=LABELS, prompt=prompt, shots=())
    with DecisionServer() as server:
        backend = DECISIONS[scheme](f"{scheme}:jev-latest", base_url=server.url, concurrency=3)
        assert in_order(stream(backend, iter(requests))) == score(backend, requests)


def test_a_local_model_answers_as_score_does(tiny_bpe):
    """Chunks change no score."""
    requests = requests_for(MANY[:12])
    assert_same(in_order(stream(tiny_bpe, iter(requests), chunk=5)), score(tiny_bpe, requests))


@given(n=st.integers(0, 40), chunk=st.integers(1, 50))
def test_every_place_comes_once(n, chunk):
    """Whatever the size of the chunks, each request is answered once and as `score` answers it."""
    requests = requests_for(MANY[:n], labels=LABELS)
    assert in_order(stream(FakeBackend(), iter(requests), chunk=chunk)) == score(FakeBackend(), requests)


@pytest.mark.parametrize("chunk", [0, -1, True, 2.0])
def test_a_chunk_is_a_positive_number(chunk):
    """Another chunk is refused before anything is read."""
    with pytest.raises(InputError, match=r"chunk=.*whole number of at least 1"):
        stream(FakeBackend(), iter([]), chunk=chunk)


def test_nothing_asked_nothing_sent():
    """Where no request is announced the server is not even probed."""
    with FakeServer("vllm") as server:
        assert list(stream(backend_for(server), [], n_requests=0)) == []
        assert not server.requests
        assert list(stream(backend_for(server), [])) == []


# --- laziness ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("use_route", ["echo", "top_logprobs"])
def test_a_server_reads_a_table_lazily(tokenizer, use_route):
    """Of a table without end only so much is read as is worked on: some rows for each worker."""
    requests, pulled = endless()
    before = own_threads()
    with FakeServer("vllm") as server:
        backend = backend_for(server, tokenizer=tokenizer, use_route=use_route, concurrency=3)
        with closing(stream(backend, requests)) as groups:
            n_answers = sum(len(next(groups)) for _ in range(3))
            groups.close()
            unit = 32 if use_route == "echo" else 1  # rows of two labels in a request of 64 prompts
            assert len(pulled) <= n_answers + 3 * unit
            assert own_threads() == before
            assert is_settled(server)


def test_a_decision_server_reads_a_table_lazily():
    """A decision server reads one row further, to see whether it asks about the same text."""
    requests, pulled = endless(prompt=Prompt("{{ text }}", instruction="Good or bad?"))
    with DecisionServer() as server:
        backend = SystemOneBackend("systemone:jev-latest", base_url=server.url, concurrency=3)
        with closing(stream(backend, requests)) as groups:
            n_answers = sum(len(next(groups)) for _ in range(3))
            groups.close()
            assert len(pulled) <= n_answers + 3 + 1


def test_chunks_are_read_lazily():
    """Of a table without end no chunk is read before it is asked about."""
    requests, pulled = endless()
    with closing(stream(FakeBackend(), requests, chunk=4)) as groups:
        for n in (1, 2, 3):
            assert len(next(groups)) == 4
            assert len(pulled) == 4 * n


@pytest.mark.parametrize("scheme", ["openai", *DECISIONS])
def test_requests_are_checked_as_they_come(scheme):
    """A request that no backend can answer is found when it is read, and is about the whole task."""
    good = requests_for(MANY[:9], labels=LABELS, shots=(), prompt=Prompt("{{ text }}", instruction="Good or bad?"))
    requests = [*good, Request(good[0].prompt, ("yes", ""))]
    with FakeServer("sglang") as openai, DecisionServer() as decisions:
        if scheme == "openai":
            backend = backend_for(openai, concurrency=2)
        else:
            backend = DECISIONS[scheme](f"{scheme}:jev-latest", base_url=decisions.url, concurrency=2)
        seen = []
        with pytest.raises(PromptError, match="empty"):
            read_into(seen, stream(backend, iter(requests)))
        assert len(seen) >= len(good) - 2


# --- already handled ---------------------------------------------------------------------------------------------------


def test_requests_wait_for_what_is_already_handled():
    """At every moment, requests that came in less those whose answers were already handled are at most `concurrency`."""
    ahead, taken, backend = [], [0], None

    def watch(request):
        if taken[0] is not None and started:
            ahead.append(len(server.requests) - started[0] - taken[0])

    started = []
    requests = requests_for([f"Text {i}" for i in range(200)], labels=LABELS, prompt=CHAT, shots=())
    with FakeServer("openai_chat", watch) as server:
        backend = backend_for(server, use_route="chat", concurrency=5)
        _ = backend.route
        started.append(len(server.requests))
        waiting = 0
        with closing(stream(backend, iter(requests))) as groups:
            while True:
                taken[0] += waiting  # before the next group is asked for: that is what tells the server to go on
                group = next(groups, None)
                if group is None:
                    break
                waiting = len(group)
            assert taken[0] == len(requests) == len(ahead)
            assert max(ahead) == 5


@pytest.mark.parametrize(
    ("words", "n_rows", "is_known"),
    [(1, 150, False), (1, 150, True), (60, 100, True)],
    ids=["unknown", "known", "long"],
)
def test_a_reader_that_does_not_come_back(tokenizer, words, n_rows, is_known):
    """As long as the reader holds a group the server gets at most `concurrency` requests, however many rows one could hold."""
    texts = [" ".join([f"Text {i}", *["word"] * words]) for i in range(n_rows)]
    requests = requests_for(texts, labels=LABELS, shots=())
    with FakeServer("vllm") as server:
        backend = backend_for(server, tokenizer=tokenizer, use_route="echo", concurrency=4)
        _ = backend.route
        before = len(server.requests)
        with closing(stream(backend, iter(requests), n_requests=len(requests) if is_known else None)) as groups:
            answers = next(groups)
            held = quiet(server)
            assert held - before <= 4
            n_prompts = [len(request.body["prompt"]) for request in server.requests[before:]]
            assert (max(n_prompts) == 64) == (words == 1)  # many tokens make a request of fewer prompts
            answers = answers + next(groups)
            assert quiet(server) > held
            assert server.peak() <= 4
            for group in groups:
                answers += group
            assert len(in_order([answers])) == len(requests)


def test_refused_rows_are_asked_one_by_one_and_taken_care_of_one_by_one(tokenizer):
    """Where a request of many rows is refused, its rows come alone, and none runs ahead of the reader."""
    requests = requests_for(MANY[:20], labels=LABELS, shots=())

    def fault(request):
        is_large = isinstance(request.body, dict) and len(request.body.get("prompt", ())) == 2 * len(requests)
        return Status(400) if is_large else None

    with FakeServer("vllm", fault) as server:
        backend = backend_for(server, tokenizer=tokenizer, use_route="echo", concurrency=1)
        _ = backend.route
        before = len(server.requests)
        with closing(stream(backend, iter(requests))) as groups:
            answers = next(groups)
            assert len(answers) == 1
            assert quiet(server) - before == 2  # the refused one, and a row's own
            for group in groups:
                answers += group
            assert all(row.error is None for row in in_order([answers]))
            assert len(server.requests) - before == 1 + len(requests)


def test_engine_groups():
    """Groups hold every result once; with units ahead a slow reader lets the workers go on."""

    async def serve(client, unit):
        await client.call("/completions", {"unit": unit}, lambda reply: reply, tokens_in=1, tokens_out=1)
        return [unit] * (unit % 3)  # none, for some

    with FakeServer() as server:
        bridge = AsyncBridge(Client(ServerOptions(server.url, concurrency=3)))
        found = [result for group in bridge.groups(range(50), serve) for result in group]
        assert sorted(found) == [i for i in range(50) for _ in range(i % 3)]
        before = len(server.requests)
        with closing(bridge.groups(itertools.repeat(1), serve, ahead=7)) as groups:
            next(groups)
            assert quiet(server) - before == 3 + 7
            groups.close()
            assert quiet(server) - before == 3 + 7


# --- what goes wrong ---------------------------------------------------------------------------------------------------


class OurOwnError(Exception):
    """One that no library raises."""


class FailingList(list):
    """A reader that cannot take what it is given."""

    def __iadd__(self, more):
        raise OurOwnError


@pytest.mark.parametrize("kind", ["server", "chunks"])
def test_an_error_in_the_iterator(tokenizer, kind):
    """An error of whoever makes the requests reaches the caller as itself, after the answers to those before it."""
    good = requests_for(MANY[:40], labels=LABELS, shots=())

    def requests():
        yield from good
        raise OurOwnError("the table ends in the middle")

    before = own_threads()
    with FakeServer("sglang") as server:
        backend = backend_for(server, concurrency=2) if kind == "server" else FakeBackend()
        seen = []
        with pytest.raises(OurOwnError, match="in the middle"):
            read_into(seen, stream(backend, requests(), chunk=10))
        assert len(good) - 2 <= len(seen) <= len(good)
        assert own_threads() == before
        assert is_settled(server)


def test_a_final_error_stops():
    """A key that is refused in the middle ends the work, after the answers that were there."""
    n = [0]

    def fault(request):
        n[0] += 1
        return Status(401) if n[0] > 30 and request.path == "/v1/chat/completions" else None

    requests = requests_for([f"Text {i}" for i in range(500)], labels=LABELS, prompt=CHAT, shots=())
    with FakeServer("openai_chat", fault) as server:
        backend = backend_for(server, use_route="chat", concurrency=3)
        seen = []
        with pytest.raises(ServerError) as caught:
            read_into(seen, stream(backend, iter(requests)))
        assert caught.value.is_final
        assert seen
        assert all(row.error is None for _, row in seen)
        assert len(server.requests) <= 30 + 3
        assert is_settled(server)


def test_a_row_that_the_server_refuses(tokenizer):
    """A refused row is answered with its error, and the others are answered."""
    requests = requests_for(MANY[:30], labels=LABELS, shots=())
    bad = tiny_model().encode("never again")

    def fault(request):
        prompts = request.body.get("prompt", ()) if isinstance(request.body, dict) else ()
        if any(isinstance(prompt, list) and is_within(bad, prompt) for prompt in prompts):
            return Status(400)
        return None

    with FakeServer("vllm", fault) as server:
        backend = backend_for(server, tokenizer=tokenizer, use_route="echo", concurrency=2)
        rows = in_order(stream(backend, iter(requests)))
        assert [row.error is not None for row in rows] == ["never again" in text for text in MANY[:30]]


def is_within(part, whole) -> bool:
    return any(whole[i : i + len(part)] == part for i in range(len(whole)))


@pytest.mark.parametrize("how", ["close", "error"])
def test_leaving_early_leaves_nothing(how):
    """Closing the iterator, or an error in the loop over it, ends all that is under way."""
    hang = [False]
    requests, _ = endless(prompt=CHAT)
    before = own_threads()
    with FakeServer(
        "openai_chat", lambda request: Hang(60.0) if hang[0] and len(server.requests) > 40 else None
    ) as server:
        backend = backend_for(server, use_route="chat", concurrency=4)
        _ = backend.route
        hang[0] = True
        groups = stream(backend, requests)
        if how == "close":
            next(groups)
            groups.close()
        else:
            with pytest.raises(OurOwnError):
                read_into(FailingList(), groups)
            del groups
        assert own_threads() == before
        assert is_settled(server)


class Strict:
    """A backend that counts what it scores, and refuses some rows before it scores any, as a local model does, or on the way."""

    def __init__(self, bad, error=RowError, *, is_late=False) -> None:
        self.is_late = is_late
        self.bad = bad
        self.error = error
        self.scored = []

    def identity(self):
        return {"backend": "strict"}

    def score(self, requests):
        if not self.is_late:
            self.check(requests)
        for place, scores in FakeBackend().score(requests):
            self.check([requests[place]])
            self.scored.append(requests[place])
            yield place, scores

    def check(self, requests):
        for request in requests:
            if request in self.bad:
                raise self.error(f"{request.prompt.text!r} cannot be asked")


@given(bad=st.sets(st.integers(0, 24)), chunk=st.integers(1, 30), is_late=st.booleans())
def test_bad_rows_take_none_with_them(bad, chunk, is_late):
    """Rows that cannot be asked have their error; all others are answered, and scored once."""
    requests = requests_for(MANY[:25], labels=LABELS)
    backend = Strict([requests[i] for i in bad], is_late=is_late)
    rows = in_order(stream(backend, iter(requests), chunk=chunk))
    for i, (row, request) in enumerate(zip(rows, requests, strict=True)):
        assert (row.error is not None) == (i in bad)
        assert row.error is None or repr(request.prompt.text) in row.error
    assert len(backend.scored) == len(requests) - len(bad)


@pytest.mark.parametrize("error", [PromptError, InputError, ModelError])
def test_an_error_about_the_task_is_not_a_rows(error):
    """What is wrong with more than a row ends the work."""
    requests = requests_for(MANY[:25], labels=LABELS)
    with pytest.raises(error, match="cannot be asked"):
        list(stream(Strict(requests[7:8], error), iter(requests)))


def test_a_row_too_long_for_a_local_model(tiny_bpe):
    """A row whose own words leave no room for its text has the error; the rest of its chunk is scored."""
    backend = open_backend(tiny_bpe.name, context_length=60)
    requests = requests_for(MANY[:9], labels=LABELS, shots=())
    expected = score(backend, requests)
    (long,) = requests_for(MANY[:1], labels=LABELS, shots=(), prompt=Prompt("word " * 200 + "{{ text }}"))
    rows = in_order(stream(backend, iter([*requests[:4], long, *requests[4:]])))
    assert "tokens" in rows[4].error
    assert_same([*rows[:4], *rows[5:]], expected)


def test_answers_do_not_wait(monkeypatch):
    """A group is handed on when its time is over, not when its chunk is."""
    now = [0.0]
    monkeypatch.setattr(streaming.time, "monotonic", lambda: now[0])

    class Slow(FakeBackend):
        def score(self, requests):
            for answer in super().score(requests):
                now[0] += 0.2
                yield answer

    groups = list(stream(Slow(), requests_for(MANY[:10]), chunk=8))
    assert [len(group) for group in groups] == [3, 3, 2, 2]


def test_a_backend_that_forgets_a_row():
    """A backend that leaves a request unanswered is an error, not a hole in the table."""

    class Forgetful(FakeBackend):
        def score(self, requests):
            return itertools.islice(super().score(requests), len(requests) - 1)

    with pytest.raises(ModelError, match="1 of 5 requests without an answer"):
        list(stream(Forgetful(), requests_for(MANY[:5])))
