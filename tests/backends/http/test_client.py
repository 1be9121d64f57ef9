"""The client of a server: on real sockets, against a server that misbehaves in every way we could think of."""

from __future__ import annotations

import asyncio
import copy
import email.utils
import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from unittest import mock

import pytest
from faults import (
    BrokenJson,
    Close,
    EmptyBody,
    FakeServer,
    Hang,
    Html,
    Mutate,
    Replace,
    Reset,
    Status,
    Trickle,
    Truncate,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from llmclf.backends.http import async_bridge as engine_module
from llmclf.backends.http import client as client_module
from llmclf.backends.http import rate_limits as limits_module
from llmclf.backends.http import replies
from llmclf.backends.http.async_bridge import AsyncBridge, together
from llmclf.backends.http.client import Client
from llmclf.backends.http.options import ServerOptions
from llmclf.backends.http.replies import BadReplyError
from llmclf.backends.http.usage import Usage, cost_of
from llmclf.errors import BudgetError, InputError, ServerError

PRICE = {"input": 10.0, "output": 100.0, "cached": 1.0}
COST = cost_of(PRICE, 10, 1, 4)  # of the plain server's answer


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Waits between attempts are short."""
    monkeypatch.setattr(client_module, "_FIRST_WAIT", 0.01)
    monkeypatch.setattr(client_module, "_LONGEST_WAIT", 0.02)


def make(server: FakeServer, **options) -> AsyncBridge:
    return AsyncBridge(
        Client(ServerOptions(server.url, **{"timeout": 5.0, "max_retries": 3, "concurrency": 8, **options}))
    )


def text_of(reply):
    return replies.string(replies.choices(reply, 1)[0].get("text"), "text")


async def serve(client, unit):
    await client.call("/completions", {"unit": unit}, text_of, tokens_in=10, tokens_out=1)
    return [unit]


def ask(bridge: AsyncBridge, **options) -> str:
    return bridge.call(lambda client: client.call("/completions", {"prompt": "x"}, text_of, **options))


def most_in_any_window(times, seconds: float) -> int:
    return max(sum(begin <= t < begin + seconds for t in times) for begin in times)


def change(**fields):
    """A fault: the first choice of a good reply has other fields (None: the field is missing)."""

    def changed(reply):
        choice = {**reply["choices"][0], **fields}
        return {**reply, "choices": [{name: value for name, value in choice.items() if value is not None}]}

    return Mutate(changed)


RETRIED = {
    **{str(code): Status(code) for code in (408, 409, 425, 429, 500, 502, 503, 504, 529)},
    "timeout": Hang(60.0),
    "trickle": Trickle(0.2),
    "reset": Reset(),
    "close": Close(),
    "truncated": Truncate(),
    "broken JSON": BrokenJson(),
    "HTML": Html(),
    "empty": EmptyBody(),
    "no HTTP": Status(204),  # its body is read as the next reply's head
    "deep JSON": Replace("[" * 100_000),
    "no object": Replace([1]),
    "no choices": Replace({"id": "x"}),
    "choices null": Replace({"choices": None}),
    "too few choices": Replace({"choices": []}),
    "too many choices": Mutate(lambda reply: {**reply, "choices": reply["choices"] * 2}),
    "wrong index": change(index=1),
    "index true": change(index=False),
    "index missing": change(index=None),
    "text missing": change(text=None),
    "text a number": change(text=1),
}
REFUSED = {
    400: False,
    401: True,
    403: True,
    404: True,
    405: True,
    413: False,
    422: False,
    501: True,
}  # status: is it final?


# --- attempts ----------------------------------------------------------------------------------------------------------


def patience(fault) -> float:
    """A timeout that a good answer meets, however busy the machine is: as short as it must be for faults that outlast it only.

    The pieces of a trickle come faster than that and end much later, so that only a deadline for the whole answer stops it.
    """
    return 1.5 if isinstance(fault, (Hang, Trickle)) else 5.0


@pytest.mark.parametrize("fault", RETRIED.values(), ids=RETRIED)
def test_retried(fault):
    """A request that failed in a way that may heal is sent again until there is a good answer, and counted each time."""
    with FakeServer(faults=[fault, fault]) as server:
        bridge = make(server, timeout=patience(fault))
        assert ask(bridge) == "ok"
        assert server.count("/v1/completions") == len(server.requests) == 3
        assert bridge.client.usage.requests == 3
        assert bridge.client.usage.retries == 2


@pytest.mark.parametrize("fault", RETRIED.values(), ids=RETRIED)
def test_retried_to_the_end(fault):
    """After the last attempt there is an error that says how many there were."""
    with FakeServer(faults=lambda request: fault) as server:
        bridge = make(server, timeout=patience(fault), max_retries=1)
        with pytest.raises(ServerError, match="after 2 attempts") as caught:
            ask(bridge)
        assert len(server.requests) == 2
        assert not caught.value.is_final
        if isinstance(fault, Status) and fault.code != 204:
            assert caught.value.status == fault.code


@pytest.mark.parametrize("status", REFUSED)
def test_never_retried(status):
    """A request that is refused for good is sent once; whether others would be refused too is told."""
    with FakeServer(faults=lambda request: Status(status)) as server:
        with pytest.raises(ServerError, match=f"answered {status}: this is a {status}") as caught:
            ask(make(server))
        assert len(server.requests) == 1
        assert caught.value.status == status
        assert caught.value.is_final is REFUSED[status]


@pytest.mark.parametrize(
    "fault",
    [
        Status(429, {"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}}),
        Status(503, headers={"x-should-retry": "false"}),
        Status(429, headers={"Retry-After": "700"}),
        Status(503, headers={"Retry-After-Ms": "700000"}),
    ],
    ids=["quota", "x-should-retry", "seconds", "milliseconds"],
)
def test_hopeless(fault):
    """No second attempt where the quota is used up, the server forbids it, or it asks to wait for more than ten minutes."""
    with FakeServer(faults=[fault]) as server:
        bridge = make(server)
        with pytest.raises(ServerError) as caught:
            ask(bridge)
        assert caught.value.is_final
        assert len(server.requests) == 1
        if fault.headers and "x-should-retry" not in fault.headers:
            assert "it asks to wait for 700 s" in str(caught.value)
        begun = time.monotonic()
        assert ask(bridge) == "ok"  # a new call does not wait for the ten minutes either
        assert time.monotonic() - begun < 2.0


FINAL_200 = {
    "key": ({"error": {"message": "Incorrect API key provided", "code": "invalid_api_key"}}, 401, True),
    "model": ({"error": {"message": "no model m", "type": "not_found_error"}}, 404, True),
    "quota": ({"error": {"message": "You exceeded your quota", "type": "insufficient_quota", "code": 429}}, 429, None),
    "number": ({"error": {"message": "context too long", "code": 400}}, 400, False),
    "digits": ({"error": {"message": "context too long", "code": "422"}}, 422, False),
    "text": ({"error": "prompt refused"}, 400, False),
    "object": ({"object": "error", "message": "prompt refused", "code": 400}, 400, False),
    "type": ({"type": "error", "error": {"type": "invalid_request_error", "message": "prompt refused"}}, 400, False),
    "list": ([{"error": {"code": 403, "message": "prompt refused", "status": "PERMISSION_DENIED"}}], 403, True),
    "beside choices": ({"choices": [], "error": {"message": "prompt refused"}}, 400, False),
    "in a choice": ({"choices": [{"index": 0, "error": {"code": 400, "message": "prompt refused"}}]}, 400, False),
    "broken off": (
        {"choices": [{"index": 0, "text": "prompt refused", "finish_reason": "error"}]},
        400,
        False,
    ),
    "detail": ({"detail": "prompt refused"}, 400, False),
    "message": ({"message": "prompt refused", "code": 404}, 404, True),
    "success": (
        {"success": False, "errors": [{"code": 7003, "message": "prompt refused"}], "result": None},
        400,
        False,
    ),
    "error true": ({"error": True, "message": "prompt refused", "code": 401}, 401, True),
    "status": ({"status": "error", "message": "prompt refused", "data": None}, 400, False),
    "text alone": ('"prompt refused"', 400, False),
    "error_msg": ({"error_code": 403, "error_msg": "prompt refused"}, 403, True),
    "quoted": ({"error": {"message": "refused: 'my credit card, invalid api_key'"}}, 400, False),
}


@pytest.mark.parametrize(("body", "status", "is_final"), FINAL_200.values(), ids=FINAL_200)
def test_error_with_status_200(body, status, is_final):
    """An error that comes with status 200 is told in the server's own words, and asked about once unless asking may help."""
    with FakeServer(faults=lambda request: Replace(body)) as server:
        with pytest.raises(ServerError, match="answered 200 with an error: ") as caught:
            ask(make(server, max_retries=1))
        assert caught.value.status == status
        words = json.dumps(body)
        said = str(caught.value).split("with an error: ")[1].split(";")[0].split(", after")[0]
        assert said in words.replace("\\", "")
        if is_final is not None:
            assert len(server.requests) == 1
            assert caught.value.is_final is is_final


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"message": "Provider returned error", "code": 502}},
        {"error": {"message": "Overloaded", "type": "overloaded_error"}},
        {"error": "Model is loading, try again"},
        {"error": {"message": "slow down", "code": "rate_limit_exceeded"}},
        {"choices": [{"index": 0, "text": "", "error": {"code": 503, "message": "no capacity"}}]},
    ],
)
def test_error_with_status_200_that_heals(body):
    """An error that comes with status 200 is asked about again where it says that this may help."""
    with FakeServer(faults=[Replace(body)]) as server:
        assert ask(make(server)) == "ok"
        assert len(server.requests) == 2


@pytest.mark.parametrize(
    "beside",
    [
        {"error": None},
        {"error": {"message": "", "type": "", "code": 0}},
        {"error": {"code": "0", "message": "ok"}},
        {"error": {"message": None, "code": None}},
        {"warnings": ["slow"], "status": "completed", "success": True, "code": 0},
    ],
)
def test_answers_with_empty_errors(beside):
    """An answer beside which an error field says that there is none is an answer."""
    with FakeServer(faults=[Mutate(lambda reply: {**reply, **beside})]) as server:
        assert ask(make(server)) == "ok"
        assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        ({"id": "x", "detail": "the engine has died"}, "the engine has died"),
        ({"choices": None, "message": "ask the other host"}, "ask the other host"),
    ],
)
def test_words_of_an_unusable_reply(reply, words):
    """What a server says in place of an answer is part of the error."""
    with (
        FakeServer(faults=lambda request: Replace(reply)) as server,
        pytest.raises(ServerError, match=f"cannot be used: .*; the server says: {words}"),
    ):
        ask(make(server, max_retries=0))


def test_words_of_a_page():
    """Of a page in place of an answer, the visible text is part of the error."""
    with (
        FakeServer(faults=lambda request: Html()) as server,
        pytest.raises(ServerError, match=r"not JSON \(text/html[^)]*\): \w+"),
    ):
        ask(make(server, max_retries=0))


@pytest.mark.parametrize(
    ("status", "body", "n_requests"),
    [
        (500, {"error": {"type": "invalid_request_error", "message": "grammar"}}, 1),
        (503, {"error": {"code": "model_not_found", "message": "no"}}, 1),
        (429, {"error": {"type": "insufficient_quota", "message": "no"}}, 1),
        (429, {"error": {"code": "billing_hard_limit_reached", "message": "no"}}, 1),
        (500, {"error": {"type": "server_error", "message": "oops"}}, 2),
        (429, {"error": {"type": "invalid_request_error", "code": "rate_limit_exceeded", "message": "slow"}}, 2),
    ],
)
def test_words_decide_about_retries(status, body, n_requests):
    """A failure that is final by the server's own words is not asked about again, whatever its status."""
    with FakeServer(faults=lambda request: Status(status, body)) as server:
        with pytest.raises(ServerError, match=f"answered {status}: "):
            ask(make(server, max_retries=1))
        assert len(server.requests) == n_requests


def test_max_retries_of_one_call():
    """A call may have fewer attempts than the client's."""
    with FakeServer(faults=lambda request: Status(500)) as server:
        with pytest.raises(ServerError, match="answered 500: this is a 500$"):
            ask(make(server), max_retries=0)
        assert len(server.requests) == 1


def test_unreachable():
    """A server that is not there is named, and makes an error that is final."""
    with FakeServer() as server:
        bridge = make(server, max_retries=1)
    with pytest.raises(ServerError, match=r"cannot be reached at http://127.0.0.1:\d+/v1, after 2 attempts") as caught:
        ask(bridge)
    assert caught.value.is_final
    assert caught.value.status is None


@pytest.mark.parametrize(
    "headers", [{"Retry-After": "0.3"}, {"retry-after-ms": "300"}], ids=["seconds", "milliseconds"]
)
@pytest.mark.parametrize("status", [429, 503])
def test_retry_after(status, headers):
    """The server's wish is obeyed, by its own clock, and by all requests of the client."""
    with FakeServer(faults=[Status(status, headers=headers)], latency=0.02) as server:
        assert sorted(make(server, concurrency=3).stream(range(9), serve)) == list(range(9))
        assert len(server.requests) == 10
        waits = [request.time - server.requests[0].done for request in server.requests]
        assert not [wait for wait in waits if 0.1 < wait < 0.29]
        assert max(waits) < 0.9


def test_retry_after_date(monkeypatch):
    """A wait may be given as a date."""
    monkeypatch.setattr(replies.time, "time", lambda: 1_800_000_000.0)
    assert replies.retry_after({"retry-after": email.utils.formatdate(1_800_000_007, usegmt=True)}) == 7.0
    assert replies.retry_after({"retry-after": email.utils.formatdate(1_799_999_000, usegmt=True)}) == 0.0
    assert replies.retry_after({"retry-after-ms": "soon", "retry-after": "2"}) == 2.0
    assert replies.retry_after({}) is None


def test_retry_after_zero(monkeypatch):
    """A server that asks for no wait at all gets the usual one."""
    monkeypatch.setattr(client_module, "_FIRST_WAIT", 0.2)
    monkeypatch.setattr(client_module, "_LONGEST_WAIT", 0.2)
    with FakeServer(faults=[Status(429, headers={"Retry-After": "0"})]) as server:
        assert ask(make(server)) == "ok"
        assert server.requests[1].time - server.requests[0].time >= 0.15


def test_final_error_stops_a_stream():
    """A wrong key stops all work at once: each worker asked once at most, and hardly any unit was read."""
    read = []
    with FakeServer(faults=lambda request: Status(401), latency=0.02) as server:
        with pytest.raises(ServerError, match="401.*check the key in the environment variable|name a key"):
            list(make(server, concurrency=4).stream((read.append(i) or i for i in range(10_000)), serve))
        assert len(server.requests) <= 4
        assert len(read) <= 8


def test_error_of_one_row_is_the_workers():
    """A refusal of one request reaches the function that asked, which may go on."""

    async def serve_all(client, unit):
        try:
            return await serve(client, unit)
        except ServerError as error:
            assert not error.is_final
            return [None]

    with FakeServer(faults=lambda request: Status(400) if request.body["unit"] % 2 else None) as server:
        found = list(make(server).stream(range(10), serve_all))
    assert sorted(unit for unit in found if unit is not None) == [0, 2, 4, 6, 8]
    assert found.count(None) == 5


def test_paths():
    """A path is added to the base URL, or to the server's root where it begins with two slashes; no body makes a GET."""
    with FakeServer("vllm") as server:
        bridge = make(server)
        found = bridge.call(
            lambda client: client.call("//tokenize", {"prompt": "The film"}, lambda reply: reply["tokens"])
        )
        assert found == server.model.encode("The film")
        assert bridge.call(lambda client: client.call("/models", None, lambda reply: reply["data"][0]["id"])) == "tiny"
        assert [(request.method, request.path) for request in server.requests] == [
            ("POST", "/tokenize"),
            ("GET", "/v1/models"),
        ]


def test_connections_are_kept():
    """Requests share connections, at most one for each that is under way."""
    with FakeServer(latency=0.01) as server:
        list(make(server, concurrency=4).stream(range(60), serve))
        assert server.connections <= 4


# --- replies -----------------------------------------------------------------------------------------------------------

GOOD = {
    "choices": [
        {"index": 1, "logprobs": {"token_logprobs": [None, -2.5, -0.125]}},
        {"index": 0, "logprobs": {"token_logprobs": [None, -1.0, -3.0]}},
    ],
    "usage": {"prompt_tokens": 7, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 3}},
}
WRONG = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.just(10**400),
    st.floats(),
    st.sampled_from([-9999.0, -1e5, 0.5, 1e-4, 0.0, math.nan, math.inf, -math.inf]),
    st.text(max_size=3),
    st.lists(st.none(), max_size=3),
    st.dictionaries(st.sampled_from(["index", "logprobs"]), st.none()),
)


def places(value, path=()):
    yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, item in inner:
        yield from places(item, (*path, name))


@st.composite
def mutations(draw):
    """The good reply with one to three places changed, removed, doubled or turned round."""
    reply = {"reply": copy.deepcopy(GOOD)}
    for _ in range(draw(st.integers(1, 3))):
        *path, last = draw(st.sampled_from([p for p in places(reply) if p]))
        parent = reply
        for name in path:
            parent = parent[name]
        kind = draw(st.sampled_from(["change", "remove", "double", "turn"]))
        if kind == "change" or (kind == "remove" and last == "reply"):
            parent[last] = draw(WRONG)
        elif kind == "remove":
            del parent[last]
        elif kind == "double" and isinstance(parent, list):
            parent.append(copy.deepcopy(parent[last]))
        elif kind == "turn" and isinstance(parent, list):
            parent.reverse()
    return reply["reply"]


def read_scores(reply):
    rows = []
    for choice in replies.choices(reply, 2):
        values = replies.mapping(choice.get("logprobs"), "logprobs").get("token_logprobs")
        first, *rest = replies.sequence(values, "token_logprobs", 3)
        replies.expect(first is None, "the first token has a log-probability")
        rows.append([replies.logprob(value) for value in rest])
    return rows


def is_logprob(value):
    return type(value) in (int, float) and -9999.0 < value <= 1e-3


def test_good_reply():
    """Choices are put in the order of the prompts, whatever the order in which they came."""
    assert read_scores(GOOD) == [[-1.0, -3.0], [-2.5, -0.125]]
    assert replies.token_counts(GOOD) == (7, 3, 2)


@settings(max_examples=600, deadline=None)
@given(mutations())
def test_mutated_reply(reply):
    """A damaged reply is refused, or is read as what it says; nothing else can come of it."""
    reply = json.loads(json.dumps(reply))
    try:
        found = read_scores(reply)
    except BadReplyError as error:
        assert str(error)
        assert len(str(error)) < 300
        return
    by_index = {choice["index"]: choice["logprobs"]["token_logprobs"] for choice in reply["choices"]}
    assert len(reply["choices"]) == 2
    assert set(by_index) == {0, 1}
    for i in (0, 1):
        assert len(by_index[i]) == 3
        assert all(is_logprob(value) for value in by_index[i][1:])
        assert found[i] == [min(0.0, float(value)) for value in by_index[i][1:]]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["error", "detail", "message", "msg", "loc", "code", "usage", "prompt_tokens", "completion_tokens"]
            ),
            inner,
            max_size=3,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(JSON, st.text(max_size=40))
def test_any_json(body, header):
    """Whatever an error reply, a count or a header holds, reading it raises nothing and gives what the caller can use."""
    assert len(replies.error_message(body)) <= 500
    assert (replies.stated_error(body) is None) or body
    assert all(400 <= replies.meant_status(200, reply) < 600 for reply in (body, {"error": body}, [body]))
    counts = replies.token_counts(body)
    assert counts is None or (min(counts) >= 0 and counts[1] <= counts[0])
    seconds = replies.retry_after({"retry-after": header})
    assert seconds is None or 0.0 <= seconds < math.inf


@pytest.mark.parametrize(
    "value", [None, True, "-1", math.nan, -math.inf, 10**400, -(10**400), 0.01, -9999.0, -9999, -1e6, [], {}]
)
def test_no_logprob(value):
    """What is no log-probability is refused, the numbers that stand for "unknown" included."""
    with pytest.raises(BadReplyError, match="expected|stands for"):
        replies.logprob(value)


@pytest.mark.parametrize(("value", "expected"), [(-1.5, -1.5), (0, 0.0), (-3, -3.0), (5e-4, 0.0), (-9998.0, -9998.0)])
def test_logprob(value, expected):
    """A log-probability is a float of at most 0; what rounding lifted above is put back."""
    found = replies.logprob(value)
    assert found == expected
    assert type(found) is float


@pytest.mark.parametrize("value", [None, True, "0.5", math.nan, 1.1, -0.1, 10**400])
def test_no_probability(value):
    """What is no probability is refused."""
    with pytest.raises(BadReplyError, match="expected"):
        replies.probability(value, "a probability")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"error": {"message": "no  such\nmodel"}}, "no such model"),
        ({"error": "busy"}, "busy"),
        ({"message": "busy"}, "busy"),
        ({"detail": {"message": "busy"}}, "busy"),
        (
            {"detail": [{"loc": ["body", "state"], "msg": "field required"}, {"msg": "x"}]},
            "body.state: field required; x",
        ),
        ([{"error": "a"}, 7, None], "a"),
        (None, ""),
        ({"error": None}, ""),
        ("x" * 1000, "x" * 500),
    ],
)
def test_error_messages(body, message):
    """An error's message is found in every usual shape of error reply."""
    assert replies.error_message(body) == message


@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=6))
def test_distribution(probabilities):
    """Probabilities of events that exclude each other are refused if and only if they add up to more than 1 and rounding."""
    logprobs = [math.log(p) if p else None for p in probabilities]
    total = math.fsum(probabilities)
    if total > 1.0101:
        with pytest.raises(BadReplyError, match="add up to"):
            replies.check_distribution(logprobs, "some tokens")
    elif total < 1.0099:
        replies.check_distribution(logprobs, "some tokens")


# --- limits ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def starts(monkeypatch):
    """When limits have let requests through. When those come to a server, the machine decides, too."""
    found = []

    class Watched(limits_module.RateLimits):
        async def start(self, tokens):
            begun = await super().start(tokens)
            found.append(begun.time)
            return begun

    monkeypatch.setattr(client_module, "RateLimits", Watched)
    return found


@pytest.mark.parametrize(
    "limit",
    [{"rpm": 10}, {"tpm": 110}, {"rpm": 10, "tpm": 1000}, {"rpm": 100, "tpm": 110}],
    ids=["rpm", "tpm", "both, rpm", "both, tpm"],
)
@pytest.mark.parametrize("n_threads", [1, 2])
def test_limits_hold_in_every_window(limit, n_threads, starts, monkeypatch):
    """No window holds more requests or tokens than allowed, whoever shares the client."""
    monkeypatch.setattr(limits_module, "_WINDOW", 0.6)
    with FakeServer() as server:
        bridge = make(server, concurrency=16, **limit)
        found = []
        threads = [
            threading.Thread(target=lambda: found.extend(bridge.stream(range(35 // n_threads), serve)))
            for _ in range(n_threads)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(found) == len(server.requests) == len(starts) == 35 // n_threads * n_threads
        assert most_in_any_window(starts, 0.6) <= 10


class _JumpingLoop(asyncio.SelectorEventLoop):
    """An event loop in which waiting takes no time: its clock jumps to where something is due."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        select = self._selector.select

        def jump(timeout):
            self.now += timeout or 0.0
            return select(0)

        self._selector.select = jump

    def time(self) -> float:
        return self.now


@settings(max_examples=50)
@given(
    st.lists(st.tuples(st.integers(0, 50), st.floats(0, 1), st.floats(0, 30)), min_size=1, max_size=40),
    st.sampled_from([None, 1, 3, 10]),
    st.sampled_from([None, 50, 120]),
)
def test_both_limits_hold_in_every_minute(requests, rpm, tpm):
    """Whatever requests of whatever size ask when, and whatever they turn out to have taken: no sixty seconds hold more."""
    loop = _JumpingLoop()
    limits = limits_module.RateLimits(rpm, tpm)
    begun = []

    async def ask_for(tokens, share, wait):
        await asyncio.sleep(wait)
        start = await limits.start(tokens)
        await asyncio.sleep(wait / 3)
        limits.settle(start, int(tokens * share))
        begun.append((start.time, int(tokens * share)))

    async def all_of_them():
        limits.open()
        await asyncio.gather(*(ask_for(*request) for request in requests))

    with mock.patch.object(limits_module.time, "monotonic", loop.time):
        loop.run_until_complete(all_of_them())
    loop.close()
    assert len(begun) == len(requests)
    for first, _ in begun:
        within = [tokens for time_, tokens in begun if first <= time_ < first + 60.0]
        assert rpm is None or len(within) <= rpm
        assert tpm is None or sum(within) <= tpm


@pytest.mark.parametrize("limit", [{"rpm": 10}, {"tpm": 110}, {"rpm": 100, "tpm": 110}])
def test_limits_wait_no_longer_than_they_must(limit):
    """Of 35 requests that ask at once, ten start in each window, and the last wait for three."""
    loop = _JumpingLoop()
    limits = limits_module.RateLimits(**limit)

    async def all_of_them():
        limits.open()
        return await asyncio.gather(*(limits.start(11) for _ in range(35)))

    with mock.patch.object(limits_module.time, "monotonic", loop.time):
        begun = [start.time for start in loop.run_until_complete(all_of_them())]
    loop.close()
    windows = [0, limits_module._WINDOW, 2 * limits_module._WINDOW, 3 * limits_module._WINDOW]
    assert begun == pytest.approx([windows[place // 10] for place in range(35)], abs=0.01)


def test_limits_outlast_a_call(starts, monkeypatch):
    """What earlier calls used counts for later ones, though every call has an event loop of its own."""
    monkeypatch.setattr(limits_module, "_WINDOW", 0.3)
    with FakeServer() as server:
        bridge = make(server, rpm=3)
        for _ in range(7):
            ask(bridge)
        assert len(starts) == 7
        assert most_in_any_window(starts, 0.3) <= 3


def test_unused_tokens_come_back():
    """A request that took fewer tokens than it might have makes room for others at once."""

    async def greedy(client, unit):
        await client.call("/completions", {}, text_of, tokens_in=90, tokens_out=10)
        return [unit]

    with FakeServer(latency=0.02) as server:
        begun = time.monotonic()
        assert len(list(make(server, tpm=250).stream(range(12), greedy))) == 12
        assert time.monotonic() - begun < 5.0


def test_request_larger_than_a_minute():
    """A request that no minute could hold is refused before it is sent."""
    with FakeServer() as server:
        with pytest.raises(InputError, match="tpm=100"):
            ask(make(server, tpm=100), tokens_in=101)
        assert not server.requests


def test_concurrency():
    """As many requests are under way as allowed, and never one more, whoever shares the client."""
    with FakeServer(latency=0.05) as server:
        bridge = make(server, concurrency=5)
        threads = [threading.Thread(target=lambda: list(bridge.stream(range(20), serve))) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(server.requests) == 40
        assert server.peak() == 5


# --- counts and cost ---------------------------------------------------------------------------------------------------


def test_usage():
    """Requests, retries and tokens are counted exactly, those of useless replies too."""
    faults = [Status(500), change(index=3), None, BrokenJson(), None]
    with FakeServer(faults=faults) as server:
        bridge = make(server, price=PRICE, concurrency=1)
        list(bridge.stream(range(4), serve))
        worst = cost_of(PRICE, 10, 1)  # the reply that was no JSON may have cost as much
        usage = bridge.client.usage
        assert usage.cost == pytest.approx(5 * COST + worst, rel=1e-12)
        usage.cost = None
        assert usage == Usage(requests=7, retries=3, tokens_in=50, tokens_cached=20, tokens_out=5)
        assert len(server.requests) == 7


@pytest.mark.parametrize("concurrency", [1, 8])
def test_max_cost(concurrency):
    """The budget is never passed, not a request short of it is refused, and what was answered before is kept."""
    with FakeServer() as server:
        bridge = make(server, price=PRICE, max_cost=20.5 * COST + cost_of(PRICE, 10, 1), concurrency=concurrency)
        found = []
        with pytest.raises(BudgetError, match=r"max_cost=.* is reached: .* is spent.*raise max_cost"):
            found.extend(bridge.stream(range(1000), serve))
        # Each request costs less than its worst case, so that one more fits than the worst case of all would say.
        assert len(server.requests) == 21
        assert bridge.client.usage.cost == pytest.approx(21 * COST)
        assert bridge.client.usage.cost <= bridge.client.options.max_cost


@pytest.mark.parametrize("unit", [0.1, 0.7, 1 / 3])
def test_max_cost_exact(unit):
    """A budget that is enough to the last digit is enough, though sums of fractions are not exact."""
    with FakeServer() as server:
        price = {"input": unit, "output": 0.0}
        bridge = make(server, price=price, max_cost=cost_of(price, 30 * 10, 0), concurrency=7)
        assert len(list(bridge.stream(range(30), serve))) == 30
        with pytest.raises(BudgetError):
            ask(bridge, tokens_in=10)
        assert len(server.requests) == 30


def test_lost_requests_cost():
    """A request whose reply was lost counts at what it could have cost; one that was refused costs nothing."""
    hang = Hang(60.0)
    with FakeServer(faults=[hang, Reset(), Status(500), Status(400)]) as server:
        bridge = make(server, price=PRICE, timeout=patience(hang))
        with pytest.raises(ServerError, match="400"):
            ask(bridge, tokens_in=1000, tokens_out=10)
        assert bridge.client.usage.cost == pytest.approx(2 * cost_of(PRICE, 1000, 10))


def test_unreachable_costs_nothing():
    """No request reaches a server that is not there, so none costs."""
    with FakeServer() as server:
        bridge = make(server, price=PRICE, max_retries=1)
    with pytest.raises(ServerError):
        ask(bridge, tokens_in=1000)
    assert bridge.client.usage.cost == 0.0


def test_cancelled_requests_cost():
    """Who stops listening has paid for what was under way."""
    with FakeServer(faults=lambda request: Hang(60.0) if request.body["unit"] else None) as server:
        bridge = make(server, price=PRICE, concurrency=4)
        results = bridge.stream(range(100), serve)
        assert next(results) == 0
        while len(server.requests) < 5:
            time.sleep(0.01)
        results.close()
        assert bridge.client.usage.cost == pytest.approx(COST + 4 * cost_of(PRICE, 10, 1))


# --- the synchronous face ----------------------------------------------------------------------------------------------


def settled(server: FakeServer) -> bool:
    """Whether the server's connections are all closed, soon."""
    until = time.monotonic() + 2.0
    while server.open_connections and time.monotonic() < until:
        time.sleep(0.01)
    return not server.open_connections


def own_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name != "fake-server"]


def test_stream():
    """Every unit is served once, and all their results come."""

    async def twice(client, unit):
        await serve(client, unit)
        return [unit] * (unit % 3)  # none, for some

    with FakeServer() as server:
        bridge = make(server)
        assert sorted(bridge.stream(range(50), twice)) == [i for i in range(50) for _ in range(i % 3)]
        assert list(bridge.stream([], twice)) == []
        assert list(bridge.stream([0, 3], twice)) == []
        assert len(server.requests) == 52


@pytest.mark.parametrize("fault", [None, Hang(60.0)], ids=["working", "waiting"])
def test_closing_a_stream(fault):
    """Who closes a stream early leaves no thread, no connection and no further request."""
    before = own_threads()
    with FakeServer(faults=lambda request: fault if request.body["unit"] > 3 else None, latency=0.02) as server:
        results = make(server).stream(range(10_000), serve)
        assert next(results) in range(8)
        begun = time.monotonic()
        results.close()
        assert time.monotonic() - begun < 1.0
        assert own_threads() == before
        # What was sent before may be read later, on a busy machine.
        assert settled(server)
        n = len(server.requests)
        time.sleep(0.3)
        assert len(server.requests) == n


def test_forgetting_a_stream():
    """A stream that nobody holds any more ends like one that is closed."""
    before = own_threads()
    with FakeServer(latency=0.02) as server:
        next(make(server).stream(range(10_000), serve))
        assert own_threads() == before
        assert settled(server)


def test_slow_reader(monkeypatch):
    """Units are read only as fast as their results are: what waits in memory has a limit."""
    monkeypatch.setattr(engine_module, "_BUFFER", 10)
    read = []
    with FakeServer() as server:
        results = make(server, concurrency=4).stream((read.append(i) or i for i in range(10_000)), serve)
        for i in range(5):
            next(results)
            time.sleep(0.05)
            assert len(read) <= i + 2 * (10 + 4)
        results.close()
        assert len(server.requests) < 40


def test_leader():
    """With a leader the first unit is answered before the second is sent."""
    with FakeServer(latency=0.05) as server:
        assert sorted(make(server).stream(range(10), serve, leader=True)) == list(range(10))
        first, *others = server.requests
        assert first.body == {"unit": 0}
        assert min(request.time for request in others) >= first.done


class OurOwnError(Exception):
    """One that no library raises."""


@pytest.mark.parametrize("leader", [False, True])
@pytest.mark.parametrize("place", ["serve", "group", "units", "iter"])
def test_errors_come_as_they_are(place, leader):
    """An error in the work or in the units reaches the caller as itself, after what was done before, and ends all work."""

    async def failing(client, unit):
        if unit == 7 and place == "serve":
            raise OurOwnError(unit)
        if unit == 7 and place == "group":
            raise ExceptionGroup("several", [ExceptionGroup("inner", [OurOwnError(unit)])])
        return await serve(client, unit)

    def units():
        yield from range(7)
        if place == "units":
            raise OurOwnError(7)
        yield from range(7, 100)

    class Units:
        def __iter__(self):
            raise OurOwnError(7)

    before = own_threads()
    with FakeServer() as server:
        bridge = make(server, concurrency=2)
        with pytest.raises(OurOwnError, match="7"):
            list(bridge.stream(Units() if place == "iter" else units(), failing, leader=leader))
        assert own_threads() == before
        assert sorted(bridge.stream(range(5), serve, leader=leader)) == list(range(5))  # and it can be used again
        assert settled(server)


def test_errors_of_one_call():
    """An error in a single call reaches the caller as itself, also from tasks of its own."""

    async def failing(client):
        async with asyncio.TaskGroup() as group:
            group.create_task(client.call("/completions", {}, text_of))
            group.create_task(asyncio.sleep(30))

    with FakeServer(faults=[Status(404)]) as server:
        bridge = make(server)
        with pytest.raises(ServerError, match="404"):
            bridge.call(failing)
        assert ask(bridge) == "ok"


def test_together():
    """Several pieces of work run side by side; their results keep their order, and the first error stops all as itself."""

    def asking(unit, seconds=0.0):
        async def ask_one():
            await asyncio.sleep(seconds)
            return await client_of[0].call("/completions", {"unit": unit}, lambda reply: unit)

        return ask_one

    async def work(client):
        client_of[:] = [client]
        return await together(*(asking(unit) for unit in units))

    async def failing(client):
        return await together(asking(0, 30.0), asking("bad"), asking(1, 30.0))

    client_of, units = [], range(6)
    with FakeServer(
        faults=lambda request: Status(400) if request.body["unit"] == "bad" else None, latency=0.05
    ) as server:
        bridge = make(server)
        assert bridge.call(work) == list(units)
        assert server.peak() == 6
        with pytest.raises(ServerError, match="400"):
            bridge.call(failing)
        assert len(server.requests) == 7


def test_bug_in_a_reader():
    """An error of the reading function's own is no bad reply: it is not hidden by retries."""
    with FakeServer() as server:
        bridge = make(server, price=PRICE)
        with pytest.raises(ZeroDivisionError):
            bridge.call(lambda client: client.call("/completions", {}, lambda reply: 1 / 0))
        assert len(server.requests) == 1
        assert bridge.client.usage.cost == pytest.approx(COST)


def test_inside_a_running_loop():
    """It works where an event loop is already running, as in a notebook."""
    with FakeServer() as server:
        bridge = make(server)

        async def cell():
            return ask(bridge), sorted(bridge.stream(range(20), serve))

        assert asyncio.run(cell()) == ("ok", list(range(20)))


def test_two_engines():
    """Engines work side by side, and inside one another."""
    with FakeServer(latency=0.01) as one, FakeServer(latency=0.01) as other:
        first, second = make(one), make(other)
        pairs = list(zip(first.stream(range(30), serve), second.stream(range(30), serve), strict=True))
        assert sorted(a for a, _ in pairs) == sorted(b for _, b in pairs) == list(range(30))
        assert [ask(second) for _ in first.stream(range(5), serve)] == ["ok"] * 5
        assert [ask(first) for _ in first.stream(range(5), serve)] == ["ok"] * 5
        assert settled(one)
        assert settled(other)


def test_many_threads():
    """Threads that come and go share one bridge without a mistake."""
    with FakeServer() as server:
        bridge = make(server)
        found = []

        def work():
            for _ in range(10):
                found.append(ask(bridge))

        threads = [threading.Thread(target=work) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == ["ok"] * 60
        assert bridge.client.usage.requests == len(server.requests) == 60
        assert settled(server)


SCRIPT = """
import sys, threading
sys.path[:0] = {path!r}
from llmclf.backends.http.client import Client, ServerOptions
from llmclf.backends.http.async_bridge import AsyncBridge

async def serve(client, unit):
    return [await client.call("/completions", {{"unit": unit}}, lambda reply: unit)]

results = AsyncBridge(Client(ServerOptions({url!r}, concurrency=8))).stream(range(1_000_000), serve)
try:
    for result in results:
        print(result, flush=True)
        {then}
except KeyboardInterrupt:
    print("interrupted", threading.active_count(), flush=True)
    sys.exit(130)
"""


@pytest.mark.parametrize("fault", [None, Hang(60.0)], ids=["working", "waiting"])
def test_ctrl_c(fault):
    """Ctrl-C stops the work at once, in a program of its own, and leaves nothing behind."""
    path = [str(Path(client_module.__file__).parents[3])]
    with FakeServer(faults=lambda request: fault if request.body["unit"] > 20 else None, latency=0.02) as server:
        script = SCRIPT.format(path=path, url=server.url, then="pass")
        process = subprocess.Popen(
            [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        with process:
            for _ in range(15):
                process.stdout.readline()
            time.sleep(0.1)
            begun = time.monotonic()
            os.kill(process.pid, signal.SIGINT)
            out, err = process.communicate(timeout=10)
        assert time.monotonic() - begun < 2.0
        assert process.returncode == 130, err
        assert out.splitlines()[-1] == "interrupted 1"
        assert err == ""
        n = len(server.requests)
        assert settled(server)
        assert len(server.requests) == n


def test_exit_in_the_middle():
    """A program that ends while a stream is open ends."""
    path = [str(Path(client_module.__file__).parents[3])]
    with FakeServer(latency=0.02) as server:
        script = SCRIPT.format(path=path, url=server.url, then="sys.exit(3)")
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=20, check=False)
        assert (done.returncode, done.stderr) == (3, "")


def test_a_large_body_arrives_whole():
    """Without a warning, which would be an error here."""
    text = "x" * 3_000_000
    with FakeServer() as server:
        bridge = make(server, max_retries=0)
        assert bridge.call(lambda client: client.call("/completions", {"prompt": text}, text_of)) == "ok"
        assert server.requests[-1].body == {"prompt": text}


# --- options -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"base_url": "localhost:8000"}, "expected an address such as"),
        ({"base_url": "ftp://localhost/v1"}, "expected an address such as"),
        ({"base_url": None}, "expected an address such as"),
        ({"base_url": "http://"}, "expected an address such as"),
        ({"base_url": "http://[::1/v1"}, "expected an address such as"),
        ({"base_url": "http://host:99999/v1"}, "expected an address such as"),
        ({"base_url": "http://host:abc/v1"}, "expected an address such as"),
        ({"base_url": "http://ho st/v1"}, "expected an address such as"),
        ({"base_url": "http://a..b/v1"}, "expected an address such as"),
        ({"base_url": f"http://{'a' * 64}.example/v1"}, "expected an address such as"),
        ({"base_url": "http://\N{CIRCLED LATIN SMALL LETTER L}ocalhost/v1"}, "expected an address such as"),
        ({"base_url": "http://\N{LATIN SMALL LETTER LONG S}.example/v1"}, "expected an address such as"),
        ({"base_url": "http://host/v1\n"}, "expected an address such as"),
        ({"base_url": "http://user:secret@host/v1"}, "api_key_env="),
        ({"base_url": "http://host/v1?key=secret"}, "api_key_env="),
        ({"timeout": 0}, "timeout=0"),
        ({"timeout": math.inf}, "timeout=inf"),
        ({"timeout": math.nan}, "timeout=nan"),
        ({"timeout": "60"}, "timeout='60'"),
        ({"timeout": True}, "timeout=True"),
        ({"max_retries": -1}, "max_retries=-1"),
        ({"concurrency": 0}, "concurrency=0"),
        ({"concurrency": None}, "concurrency=None"),
        ({"rpm": 0}, "rpm=0"),
        ({"tpm": 1.5}, "tpm=1.5"),
        ({"price": {"input": 1}}, "expected {'input'"),
        ({"price": {"input": 1, "output": -1}}, "expected {'input'"),
        ({"price": {"input": 1, "output": math.nan}}, "expected {'input'"),
        ({"price": {"input": 1, "output": 1, "batch": 1}}, "expected {'input'"),
        ({"price": 3.0}, "expected {'input'"),
        ({"max_cost": 1.0}, "needs price="),
        ({"max_cost": 0, "price": PRICE}, "max_cost=0"),
        ({"max_cost": math.inf, "price": PRICE}, "max_cost=inf"),
    ],
    ids=repr,
)
def test_bad_options(options, message):
    """An option that cannot be used is refused before anything is sent; a secret in an address is not repeated."""
    with pytest.raises(InputError) as caught:
        ServerOptions(**{"base_url": "http://localhost/v1", **options})
    assert message in str(caught.value)
    assert "secret" not in str(caught.value)


def test_root():
    """The root is the address without the version's path."""
    assert ServerOptions("http://host:8000/v1").root == "http://host:8000"
    assert ServerOptions("http://host/api/v1/").root == "http://host/api"
    assert ServerOptions("http://[::1]:80/api").root == "http://[::1]:80/api"


@pytest.mark.parametrize(
    ("value", "message"), [(None, "is not set"), ("", "is not set"), ("sk-1\n", "holds characters that no key has")]
)
def test_unusable_key(value, message, monkeypatch):
    """A key that is missing or cannot be a key is told by its variable's name, before anything is sent."""
    monkeypatch.delenv("LLMCLF_TEST_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("LLMCLF_TEST_KEY", value)
    with FakeServer() as server:
        with pytest.raises(InputError, match=f"LLMCLF_TEST_KEY {message}"):
            ask(make(server, api_key_env="LLMCLF_TEST_KEY"))
        assert not server.requests


def test_key(monkeypatch):
    """The key in the named variable is sent; without a name none is, whatever the environment holds."""
    monkeypatch.setenv("LLMCLF_TEST_KEY", "sk-right")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-wrong")
    with FakeServer(key="sk-right") as server:
        assert ask(make(server, api_key_env="LLMCLF_TEST_KEY")) == "ok"
        with pytest.raises(ServerError, match="401: Incorrect API key provided; name a key with api_key_env="):
            ask(make(server))
        assert "authorization" not in server.requests[-1].headers


def test_without_the_package(monkeypatch):
    """Without the HTTP client there is a message that says what to install."""
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    with FakeServer() as server, pytest.raises(ImportError, match=r"pip install 'llmclf\[api\]'"):
        ask(make(server))
