"""A provider's batches: scores as in the live route, and nothing lost or paid for twice, whatever becomes of a batch or of us."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import io
import itertools
import json
import multiprocessing
import os
import signal
import sqlite3
import threading
import time
from functools import partial
from multiprocessing import forkserver
from pathlib import Path

import pytest
from batch_server import CHAT, BatchServer, Plan, label, opened
from contract import TEXTS, in_order, requests_for, score
from faults import BrokenJson, Close, FakeServer, Mutate, Reset, Status, Truncate, backend_for

from llmclf.backends import Request, RowScores
from llmclf.backends.http.async_bridge import AsyncBridge, together
from llmclf.backends.http.client import Client
from llmclf.backends.http.file_transfers import Download
from llmclf.backends.http.options import ServerOptions
from llmclf.backends.openai.batches import queue as batch_queue
from llmclf.backends.openai.batches.options import BatchOptions
from llmclf.backends.openai.batches.runner import BatchRunner
from llmclf.backends.openai.batches.store import BatchStore
from llmclf.errors import BudgetError, CapabilityError, InputError, ServerError, StoreError

pytestmark = pytest.mark.usefixtures("no_waiting")

LABELS = ["positive", "negative"]
ALIKE = ["not spam", "not sure", "spam", "a person or a group"]
MANY = [f"{text} {i}" for i in range(3) for text in TEXTS]
QUICK = {"poll_seconds": 0.01}


@pytest.fixture
def database(tmp_path):
    connection = opened(str(tmp_path / "job.sqlite"))
    yield connection
    connection.close()


def chat_requests(texts=TEXTS) -> list[Request]:
    return requests_for(texts, LABELS, CHAT, ())


def label_all(server, connection, requests, *, backend=None, **options) -> list[RowScores]:
    backend = backend or backend_for(server, max_retries=2)
    return in_order(backend.batch_stream(iter(requests), connection, **{**QUICK, **options}))


def assert_paid_once(server, n: int) -> None:
    assert len(server.batches.paid) == n
    assert set(server.batches.paid.values()) == {1}


def kept(connection) -> dict[str, int]:
    """How many rows the tables of requests and answers hold."""
    names = ("batch_requests", "batch_replies")
    return {name: connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in names}


# --- scores as in the live route ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("personality", "route", "is_local", "labels"),
    [
        ("openai_chat", "chat", False, LABELS),
        ("openai_legacy", "top_logprobs", False, ALIKE),
        ("vllm", "top_logprobs", False, ALIKE),
        ("vllm", "top_logprobs", True, ALIKE),
        ("vllm", "echo", False, ALIKE),
        ("vllm", "echo", True, ALIKE),
        ("vllm", "named_tokens", True, ALIKE),
        ("vllm", None, True, LABELS),
        ("sglang", "echo_text", False, LABELS),
    ],
)
def test_scores_are_those_of_the_live_route(database, tokenizer, personality, route, is_local, labels):
    """Whatever the route and the number of questions of a row, batches give exactly the live scores and pay for nothing twice."""
    requests = chat_requests() if route == "chat" else requests_for(TEXTS, labels)
    with BatchServer(personality) as server:
        backend = backend_for(server, use_route=route, tokenizer=tokenizer if is_local else None)
        live = score(backend, requests)
        assert label_all(server, database, requests, backend=backend) == live
        assert all(row.error is None for row in live)
        assert set(server.batches.paid.values()) == {1}
    assert kept(database) == {"batch_requests": 0, "batch_replies": 0}


def test_a_walk_takes_a_batch_for_each_step(database, tokenizer):
    """Rows that need further questions ask them in the next batches; those that are done do not come again."""
    requests = requests_for(MANY, ["aaaaaaaa", "aaaaaaab", "aaaaaabb", "aabb"])
    with BatchServer("vllm") as server:
        backend = backend_for(server, use_route="top_logprobs", tokenizer=tokenizer, tolerance=0.0)
        assert label_all(server, database, requests, backend=backend) == score(backend, requests)
        sizes = [len(server.batches.lines(i)) for i in range(len(server.batches.batches))]
        assert len(sizes) == 2
        assert sizes[0] == len(requests) > sizes[1]
        assert set(server.batches.paid.values()) == {1}


def test_a_request_file_is_what_a_provider_expects(database, tmp_path):
    """Every line names its request, method, endpoint and body; log-probabilities are asked for. Nothing of it stays here."""
    folder = tmp_path / "files"
    folder.mkdir()
    with BatchServer("openai_chat") as server:
        label_all(server, database, chat_requests(), folder=str(folder))
        assert list(folder.iterdir()) == []
        (batch,) = server.batches.batches
        lines = server.batches.lines(0)
    assert batch["endpoint"] == "/v1/chat/completions"
    assert len({line["custom_id"] for line in lines}) == len(TEXTS)
    for line in lines:
        assert set(line) == {"custom_id", "method", "url", "body"}
        assert (line["method"], line["url"]) == ("POST", "/v1/chat/completions")
        assert line["body"]["top_logprobs"] == 20
        assert line["body"]["model"] == "tiny"


def test_alike_rows_are_asked_about_once(database):
    """Rows of the same text share one request, and all are answered."""
    requests = chat_requests(["A fine film."] * 3 + ["x"])
    with BatchServer() as server:
        assert label_all(server, database, requests) == score(backend_for(server), requests)
        assert_paid_once(server, 2)
        assert len(server.batches.batches) == 1


def test_the_grammar_route_is_refused(database):
    """Where one row's answer changes the next row's question, batches could not be found again."""
    with BatchServer("llama_server") as server, pytest.raises(CapabilityError, match=r"grammar.*live"):
        label_all(server, database, requests_for(TEXTS))


# --- what becomes of a batch -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ends", ["expired", "cancelled"])
@pytest.mark.parametrize("is_silent", [False, True], ids=["error file", "silent"])
@pytest.mark.parametrize("answers", [0, 3])
def test_partial_results_count(database, ends, is_silent, answers):
    """What an expired or cancelled batch has answered is taken, and the rest alone is submitted again."""
    requests = chat_requests()
    plans = [Plan(answers=answers, ends=ends, is_silent=is_silent, looks=2), Plan(answers=2, ends=ends)]
    with BatchServer("openai_chat", plans) as server:
        assert label_all(server, database, requests) == score(backend_for(server), requests)
        sizes = [len(server.batches.lines(i)) for i in range(3)]
        assert sizes == [7, 7 - answers, 5 - answers]
        assert len(server.batches.batches) == 3
        assert_paid_once(server, 7)


def test_lines_that_may_pass_are_asked_again(database):
    """Requests that met 408, 409, 429 or 5xx within a batch go into the next, the others do not."""
    requests = chat_requests()
    plans = [Plan(statuses={0: 500, 2: 429, 3: 408, 4: 409}), Plan(statuses={1: 503})]
    with BatchServer("openai_chat", plans) as server:
        assert label_all(server, database, requests) == score(backend_for(server), requests)
        assert [len(server.batches.lines(i)) for i in range(3)] == [7, 4, 1]
        assert_paid_once(server, 7)


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_refused_line_is_an_error_of_its_row(database, status):
    """A request that the server refuses fails alone, with the words of the live route, and is not asked again."""
    requests = chat_requests()
    refused = next(iter(requests)).prompt.turns[-1].text

    def fault(request):
        is_it = request.path == "/v1/chat/completions" and request.body["messages"][-1]["content"] == refused
        return Status(status) if is_it else None

    with BatchServer("openai_chat", [Plan(statuses={0: status})], fault) as server:
        backend = backend_for(server)
        live = score(backend, requests)
        assert live[0].error == f"the server answered {status}: this is a {status}"
        assert label_all(server, database, requests, backend=backend) == live
        assert len(server.batches.batches) == 1
        assert sum(server.batches.paid.values()) == len(requests) - 1


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_refusal_that_all_would_meet_stops_the_work(database, status):
    """A wrong key or an unknown model ends the work after what was answered is handed over; nothing of that is paid again."""
    requests = chat_requests()
    with BatchServer("openai_chat", [Plan(statuses={2: status})]) as server:
        groups = backend_for(server).batch_stream(iter(requests), database, **QUICK)
        assert len(next(groups)) == 6
        with pytest.raises(ServerError, match=f"answered {status}") as caught:
            next(groups)
        assert caught.value.is_final
        assert label_all(server, database, requests[2:3]) == score(backend_for(server), requests[2:3])
        assert_paid_once(server, 7)


def first_twice(lines: list[str]) -> list[str]:
    other = json.loads(lines[0])
    other["response"]["body"] = {"choices": "another answer to the same request"}
    return [lines[0], json.dumps(other), *lines[1:]]


ODD = {
    "unknown": (
        lambda lines: [json.dumps({**json.loads(lines[0]), "custom_id": "somebody-else"}), *lines],
        0,
        "what was not asked",
    ),
    "repeated": (first_twice, 0, "what was answered"),
    "missing": (lambda lines: lines[2:], 2, ""),
    "broken": (lambda lines: [lines[0][:40], "\x00nonsense", "[1]", "", *lines[1:]], 1, "3 could not be read"),
    "no body": (
        lambda lines: [json.dumps({**json.loads(lines[0]), "response": {"status_code": 200}}), *lines[1:]],
        1,
        "1 could not be read",
    ),
    "all gone": (lambda lines: [], 7, ""),
}


@pytest.mark.parametrize("kind", ODD)
def test_odd_lines_harm_no_others(database, kind):
    """Lines that are unknown, repeated, missing or broken do not touch the answers of others; what is missing is asked again."""
    change, n_again, said = ODD[kind]
    requests, told = chat_requests(), []
    with BatchServer("openai_chat", [Plan(change=change)]) as server:
        assert label_all(server, database, requests, report=told.append) == score(backend_for(server), requests)
        assert [len(server.batches.lines(i)) for i in range(len(server.batches.batches))] == [7, n_again][
            : 1 + bool(n_again)
        ]
    assert any(said in line for line in told)


def test_a_good_answer_beats_an_error(database):
    """Where a request has both an error and an answer, in whatever order, the answer counts."""
    line = {"custom_id": "", "response": {"status_code": 400, "body": {"error": {"message": "no"}}}, "error": None}

    def change(lines):
        names = [json.loads(text)["custom_id"] for text in lines]
        return [json.dumps({**line, "custom_id": name}) for name in names] + lines

    with BatchServer("openai_chat", [Plan(change=change)]) as server:
        assert label_all(server, database, chat_requests()) == score(backend_for(server), chat_requests())
        assert len(server.batches.batches) == 1


def test_an_answer_that_the_route_cannot_use_is_asked_for_again(database):
    """A reply of status 200 without what was asked for goes into the next batch, and becomes an error after the last."""

    def change(lines):
        found = json.loads(lines[0])
        found["response"]["body"]["choices"][0]["logprobs"] = None
        return [json.dumps(found), *lines[1:]]

    requests = chat_requests()
    with BatchServer("openai_chat", [Plan(change=change)]) as server:
        assert label_all(server, database, requests) == score(backend_for(server), requests)
        assert [len(server.batches.lines(i)) for i in range(2)] == [7, 1]
    with BatchServer("openai_chat", itertools.repeat(Plan(change=change), 3)) as server:
        answers = label_all(server, database, requests, max_rounds=2)
        (error,) = [row.error for row in answers if row.error is not None]
        assert "3 batches have brought no answer; the last: the server's reply cannot be used" in error
        assert [len(server.batches.lines(i)) for i in range(len(server.batches.batches))] == [7, 1, 1]


def test_submitting_again_ends(database):
    """A request that no batch answers is submitted `max_rounds` times again, then it is an error; later it may be tried anew."""
    requests = chat_requests()
    with BatchServer("openai_chat", [Plan(), *[Plan(answers=0, ends="expired")] * 3]) as server:
        assert [row.error for row in label_all(server, database, requests[:1])] == [None]
        (row,) = label_all(server, database, requests[1:2], max_rounds=2)
        assert (
            row.error
            == "3 batches have brought no answer; the last: batch_expired: This request could not be executed in time."
        )
        assert len(server.batches.batches) == 4
        assert [row.error for row in label_all(server, database, requests[1:2])] == [None]


def test_a_batch_that_is_refused_says_why(database):
    """A request file that the server finds wrong is an error with its words; its requests are not counted as tried."""
    errors = [{"code": "model_not_found", "message": "The model does not exist.", "line": 1, "param": "body.model"}]
    requests, said = chat_requests(), r"batch_\d: model_not_found: line 1: The model does not exist."
    with BatchServer("openai_chat", [Plan(errors=errors)] * 2) as server:
        for _ in range(2):
            groups = backend_for(server).batch_stream(iter(requests), database, max_rounds=0, **QUICK)
            with pytest.raises(ServerError, match=said) as caught:
                next(groups)
            assert caught.value.is_final
        assert label_all(server, database, requests, max_rounds=0) == score(backend_for(server), requests)
        assert_paid_once(server, 7)


def test_too_much_queued_waits_for_the_others(database):
    """A batch that is refused because others are queued is submitted when one of these is over; alone it is an error."""
    errors = [{"code": "token_limit_exceeded", "message": "Enqueued token limit reached."}]
    requests = chat_requests(MANY)
    with BatchServer("openai_chat", [Plan(looks=5), Plan(looks=5), Plan(errors=errors)]) as server:
        assert label_all(server, database, requests, max_requests=7) == score(backend_for(server), requests)
        assert_paid_once(server, len(MANY))
    with (
        BatchServer("openai_chat", [Plan(errors=errors)]) as server,
        pytest.raises(ServerError, match=r"Enqueued token limit reached.*max_requests="),
    ):
        label_all(server, database, requests)


def test_progress_is_told(database):
    """Every change of a batch is told once, with how much is done."""
    told = []
    with BatchServer("openai_chat", [Plan(looks=3)]) as server:
        label_all(server, database, chat_requests(), report=told.append)
    assert told == [
        "batch batch_0: submitted with 7 requests to /chat/completions",
        "batch batch_0: in_progress, 0 of 0 done",
        "batch batch_0: finalizing, 0 of 0 done",
        "batch batch_0: completed, 7 of 7 answered",
    ]


# --- the server stumbles -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [Status(500), Status(429), Reset(), Close(), Truncate(), BrokenJson()], ids=repr)
@pytest.mark.parametrize("endpoint", ["POST /v1/files", "POST /v1/batches", "GET /v1/batches/", "GET /v1/files/"])
def test_every_endpoint_may_fail(database, endpoint, fault):
    """A server that stumbles on any of the endpoints is asked again, and still works on every request once.

    Where a batch was created and the server's answer was lost, it is found in the server's list.
    """
    requests, stumbles = chat_requests(), iter([fault] * 2)

    def faults(request):
        name = f"{request.method} {request.path}"
        if name == endpoint or (endpoint.endswith("/") and name.startswith(endpoint)):
            return next(stumbles, None)
        return None

    # A broken file of answers is no broken reply: its lines are, and what they answered is asked again.
    is_file = endpoint == "GET /v1/files/" and isinstance(fault, BrokenJson)
    with BatchServer("openai_chat", (), faults) as server:
        assert label_all(server, database, requests) == score(backend_for(server), requests)
        # What was created, though nobody could read so, is not created once more.
        is_created = endpoint == "POST /v1/batches" and isinstance(fault, (Truncate, BrokenJson))
        assert len(list(stumbles)) == is_created
        if not is_file:
            assert_paid_once(server, 7)
            assert len(server.batches.batches) == 1


def test_what_cannot_be_committed_does_not_stand_in_the_way(database):
    """The error says why, not that a transaction is open, and what comes next is kept."""
    store = BatchStore(database)
    database.execute("PRAGMA foreign_keys = ON")
    # A promise that is looked at when it is committed.
    database.execute("CREATE TABLE notes (n REFERENCES batch_batches (n) DEFERRABLE INITIALLY DEFERRED)")
    database.execute("CREATE TRIGGER promise AFTER INSERT ON batch_facts BEGIN INSERT INTO notes VALUES (7); END")
    with pytest.raises(StoreError, match="FOREIGN KEY constraint failed"):
        store.keep("route", "echo")
    database.execute("DROP TRIGGER promise")
    store.keep("route", "named_tokens")
    assert store.kept("route") == "named_tokens"


def test_a_batch_that_is_not_taken_is_forgotten(database):
    """Where the server refuses to create a batch there is none to look for, and its requests go into the next."""
    refusals = iter([Status(400, {"error": {"message": "Billing hard limit has been reached"}})])
    faults = lambda request: next(refusals, None) if request.path == "/v1/batches" else None  # noqa: E731
    with BatchServer("openai_chat", (), faults) as server:
        with pytest.raises(ServerError, match="Billing hard limit"):
            label_all(server, database, chat_requests())
        assert BatchStore(database).unfinished() == []
        assert label_all(server, database, chat_requests()) == score(backend_for(server), chat_requests())
        assert_paid_once(server, 7)


def test_a_long_failure_of_polling_is_sat_out(database):
    """A server that fails for many polls does not end the work; one that never comes back does."""
    n_failed = itertools.count()

    def faults(request):
        is_look = request.path.startswith("/v1/batches/")
        return Status(502) if is_look and next(n_failed) < 15 else None

    with BatchServer("openai_chat", (), faults) as server:
        backend = backend_for(server, max_retries=0)
        told = []
        label_all(server, database, chat_requests(), backend=backend, report=told.append)
        assert sum("502" in line for line in told) == 15
        assert_paid_once(server, 7)
    with BatchServer("openai_chat", (), lambda r: Status(502) if r.path.startswith("/v1/batches/") else None) as server:
        with pytest.raises(ServerError, match="502"):
            label_all(server, database, chat_requests(), backend=backend_for(server, max_retries=0))
        assert server.count("/v1/batches/batch_0") == batch_queue._MAX_FAILED_POLLS + 1


def test_a_batch_among_many_is_found(database):
    """The list of batches is read page by page until the one whose creation was never confirmed is found."""
    broken = iter([BrokenJson()])
    others = [Plan()] * 9

    def faults(request):
        is_it = request.path == "/v1/batches" and request.method == "POST" and len(server.batches.batches) == 3
        return next(broken, None) if is_it else None

    def crowd(request):
        """While the reply is on its way, others make batches, too."""
        if request.path == "/v1/batches" and request.method == "POST" and len(server.batches.batches) == 4:
            mine = server.batches.batches[3]
            server.batches.batches += [
                {**mine, "id": f"foreign_{i}", "metadata": None, "input_file_id": "f"} for i in range(7)
            ]

    with BatchServer("openai_chat", others, faults) as server:
        server.batches.after = crowd
        requests = chat_requests(MANY)
        for start in range(0, 12, 3):
            part = requests[start : start + 3]
            assert label_all(server, database, part) == score(backend_for(server), part)
        assert next(broken, None) is None
        assert server.count("/v1/batches") > 4 + 3
        assert_paid_once(server, 12)


def test_a_server_that_lists_nothing_is_told(database):
    """Where the list of batches is refused, a batch whose creation was never confirmed may cost twice, and that is said."""
    told, broken = [], iter([BrokenJson()])
    faults = lambda request: next(broken, None) if request.path == "/v1/batches" else None  # noqa: E731
    with BatchServer("openai_chat", (), faults) as server:
        server.batches.lists = False
        label_all(server, database, chat_requests(), report=told.append)
        assert any("may cost twice" in line for line in told)
        assert len(server.batches.batches) == 2


def test_a_full_disk_is_told():
    """Answers that cannot be written to the disk are no fault of the server, which is not asked again."""

    class Full(io.BytesIO):
        def write(self, _):
            raise OSError(errno.ENOSPC, "No space left on device")

    with FakeServer("plain") as server:
        bridge = AsyncBridge(Client(ServerOptions(server.url)))
        with pytest.raises(StoreError, match=r"No space left.*make room"):
            bridge.call(lambda client: client.call("/files/file-1/content", Download(Full()), int))
        assert len(server.requests) == 1


def test_a_batch_of_another_account_is_not_submitted_again(database):
    """Where the server does not know an open batch, the key or the address is wrong, and nothing is paid for again."""
    with BatchServer("openai_chat", [Plan(looks=9)]) as server:
        groups = backend_for(server).batch_stream(
            iter(chat_requests()), database, report=stop_at("in_progress"), **QUICK
        )
        with pytest.raises(KilledError):
            next(groups)
        server.batches.batches.clear()
        with pytest.raises(ServerError, match=r"does not know the batch 'batch_0'.*use the key and the address"):
            label_all(server, database, chat_requests())


def test_a_file_that_is_gone_is_told(database):
    """Answers that the server has thrown away are asked for again, and that is said."""
    told = []
    with BatchServer("openai_chat") as server:
        server.batches.after = lambda request: server.batches.files.pop("file-1", None) if told[1:] == [] else None
        assert label_all(server, database, chat_requests(), report=told.append) == score(
            backend_for(server), chat_requests()
        )
    assert "batch batch_0: its file file-1 is gone from the server" in told


def test_answers_that_come_late_are_waited_for(database):
    """A batch that counts answers and does not yet say where they are is looked at again, not submitted again."""
    looks = itertools.count()

    def hide(reply):
        return {**reply, "output_file_id": None} if reply["status"] == "completed" and next(looks) < 3 else reply

    faults = lambda request: Mutate(hide) if request.path.startswith("/v1/batches/") else None  # noqa: E731
    with BatchServer("openai_chat", (), faults) as server:
        assert label_all(server, database, chat_requests()) == score(backend_for(server), chat_requests())
        assert_paid_once(server, 7)


# --- limits and money --------------------------------------------------------------------------------------------------


def test_batches_keep_their_limits(database):
    """No batch has more requests or bytes than allowed, no more are open at once, and no more rows are read than wait."""
    requests, read, most = chat_requests(MANY), [], []

    def lazily():
        for request in requests:
            read.append(request)
            yield request

    def count(request):
        most.append(sum(batch["status"] in ("validating", "in_progress") for batch in server.batches.batches))

    with BatchServer("openai_chat", itertools.repeat(Plan(looks=1))) as server:
        server.batches.after = count
        n_seen, answers = 0, []
        options = {"window": 9, "max_requests": 3, "parallel": 2}
        for group in backend_for(server).batch_stream(lazily(), database, **options, **QUICK):
            assert len(read) <= n_seen + 9
            n_seen += len(group)
            answers += group
            assert kept(database)["batch_replies"] <= 9
        assert [scores for _, scores in sorted(answers)] == score(backend_for(server), requests)
        sizes = [len(server.batches.lines(i)) for i in range(len(server.batches.batches))]
        assert max(sizes) == 3
        assert max(most) == 2
        assert_paid_once(server, len(MANY))
        longest = max(len(line) for text in server.batches.files.values() for line in text.splitlines())
    with BatchServer("openai_chat") as server:
        label_all(server, database, requests, max_bytes=3000)
        files = [server.batches.files[batch["input_file_id"]] for batch in server.batches.batches]
        assert 2000 < max(map(len, files)) <= 3000 < longest * len(MANY)
        assert_paid_once(server, len(MANY))


def test_a_request_that_fits_no_file_is_an_error_of_its_row(database):
    """A row whose request is larger than a file may be fails alone."""
    requests = chat_requests(["short", "long " * 400])
    with BatchServer("openai_chat") as server:
        short, long = label_all(server, database, requests, max_bytes=1500)
        assert short.error is None
        assert long.error is not None
        assert "max_bytes=1500" in long.error
        assert_paid_once(server, 1)


def test_usage_is_that_of_the_answers(database):
    """Tokens and cost of batches are counted as the server counts them, as in the live route."""
    requests = chat_requests()
    price = {"input": 1.0, "output": 2.0}
    with BatchServer("openai_chat", [Plan(answers=4, ends="expired")]) as server:
        live = backend_for(server, price=price, timeout=50.0)
        score(live, requests)
        batched = backend_for(server, price=price)
        _ = batched.probe
        before, _ = batched.usage.to_dict(), live.probe
        label_all(server, database, requests, backend=batched)
        used = {name: batched.usage.to_dict()[name] - before[name] for name in ("tokens_in", "tokens_out", "cost")}
        other = live.usage.to_dict()
        assert used["tokens_in"] == other["tokens_in"] - before["tokens_in"]
        assert used["tokens_out"] == other["tokens_out"] - before["tokens_out"]
        assert used["cost"] == pytest.approx(other["cost"] - before["cost"])


def test_the_budget_holds_before_anything_is_submitted(database):
    """Batches are only as large as the budget allows in the worst case, and what no longer fits raises; nothing is lost."""
    requests = chat_requests(MANY)
    with BatchServer("openai_chat") as server:
        price = {"input": 1.0, "output": 1.0}
        probing = backend_for(server, price=price)
        with contextlib.closing(opened(":memory:")) as other:
            label_all(server, other, requests, backend=probing)
        whole = probing.usage.cost
        first = len(server.batches.batches)
        server.batches.paid.clear()
        backend = backend_for(server, price=price, max_cost=whole * 0.7)
        answers = []
        groups = backend.batch_stream(iter(requests), database, **QUICK)
        with pytest.raises(BudgetError, match="max_cost"):
            answers.extend(itertools.chain.from_iterable(groups))
        assert 3 < len(answers) < len(requests)
        assert backend.usage.cost <= whole * 0.7
        sizes = [len(server.batches.lines(i)) for i in range(first, len(server.batches.batches))]
        assert len(sizes) > 1
        assert sum(sizes) == len(answers)
        done = {place for place, _ in answers}
        rest = [request for place, request in enumerate(requests) if place not in done]
        label_all(server, database, rest, backend=backend_for(server, price=price, max_cost=whole * 3))
        assert_paid_once(server, len(requests))


def test_a_batch_that_is_taken_up_again_counts_against_the_budget(database):
    """What an earlier process has submitted is set aside, and what it was answered and nobody noted is counted."""
    requests = chat_requests()
    price = {"input": 1.0, "output": 1.0}
    with BatchServer("openai_chat", [Plan(looks=9), Plan()]) as server:
        whole = backend_for(server, price=price)
        with contextlib.closing(opened(":memory:")) as other:
            label_all(server, other, requests, backend=whole)
        with pytest.raises(KilledError):
            label_all(
                server,
                database,
                requests,
                backend=backend_for(server, price=price, timeout=9.0),
                report=stop_at("submitted"),
            )
        again = backend_for(server, price=price, timeout=8.0)
        _ = again.probe
        probed = again.usage.cost
        with pytest.raises(KilledError):
            label_all(server, database, requests, backend=again, report=stop_at("completed"))
        # All is answered and in the store, and nothing of it was handed over.
        last = backend_for(server, price=price, timeout=7.0)
        label_all(server, database, requests, backend=last)
        assert last.usage.cost == pytest.approx(whole.usage.cost)
        assert again.usage.cost > probed
        assert last.usage.tokens_in == whole.usage.tokens_in
        assert max(server.batches.paid.values()) == 2  # once for each of the two databases


def test_what_is_open_leaves_less_for_what_comes(database):
    """A batch that an earlier process has submitted takes its worst case from the budget while it is open."""
    price = {"input": 1.0, "output": 1.0}
    requests = chat_requests(MANY)
    with BatchServer("openai_chat", [Plan(looks=5)]) as server:
        with pytest.raises(KilledError):
            label_all(
                server, database, requests[:7], backend=backend_for(server, price=price), report=stop_at("submitted")
            )
        (record,) = BatchStore(database).unfinished()
        worst = sum(n_in + n_out for n_in, n_out in BatchStore(database).requests(record.n).values()) / 1e6
        probed = backend_for(server, price=price, timeout=9.0)
        _ = probed.probe
        told = []
        backend = backend_for(server, price=price, max_cost=probed.usage.cost + 1.5 * worst)
        with contextlib.suppress(BudgetError):
            label_all(server, database, requests, backend=backend, report=told.append)
        n_before = next(i for i, line in enumerate(told) if "batch_0: completed" in line)
        small = [int(line.split("with ")[1].split()[0]) for line in told[:n_before] if "submitted" in line]
        assert 0 < sum(small) < 7


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 0}, "window=0"),
        ({"max_requests": True}, "max_requests=True"),
        ({"max_rounds": -1}, "max_rounds=-1"),
        ({"parallel": 1.5}, "parallel=1.5"),
        ({"poll_seconds": float("inf")}, "poll_seconds=inf"),
    ],
)
def test_options_are_checked_before_anything_is_sent(database, options, message):
    """An option that makes no sense is named."""
    with FakeServer("openai_chat") as server:
        with pytest.raises(InputError, match=message):
            list(backend_for(server).batch_stream([], database, **options))
        assert not server.requests


# --- restarts ----------------------------------------------------------------------------------------------------------


class KilledError(Exception):
    """Stands for the death of the process."""


def stop_at(word: str):
    def report(line: str) -> None:
        if word in line:
            raise KilledError(line)

    return report


def test_a_reader_that_stops_loses_nothing(database):
    """After any group the rest can be had later, by the same requests in another order; what was already handled is not kept."""
    requests = chat_requests(MANY)
    with BatchServer("openai_chat") as server:
        expected = score(backend_for(server), requests)
        left = dict(enumerate(requests))
        threads = threading.active_count()
        while left:
            places = list(left)[::-1]
            groups = backend_for(server).batch_stream(
                iter([left[place] for place in places]), database, max_requests=4, **QUICK
            )
            for i, scores in next(groups):
                assert scores == expected[places[i]]
                del left[places[i]]
            groups.close()  # the last group was not yet handled: it may come again
            assert threading.active_count() <= threads + len(server._threads)
        assert_paid_once(server, len(MANY))


def test_a_group_that_was_not_taken_care_of_comes_again(database):
    """An answer is kept until the next group is asked for: whoever dies before finds it again without paying."""
    requests = chat_requests()
    with BatchServer("openai_chat") as server:
        groups = backend_for(server).batch_stream(iter(requests), database, **QUICK)
        first = sorted(next(groups))
        assert len(first) == 7
        groups.close()
        assert sorted(next(backend_for(server).batch_stream(iter(requests), database, **QUICK))) == first
        assert_paid_once(server, 7)


def test_questions_of_about_the_same_time_share_a_batch(database):
    """A batch is not sent off while what belongs to a row that waits for one answer is about to ask for another."""

    async def late(question):
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return await question()

    with BatchServer("vllm") as server:
        ask = lambda *questions: together(questions[0], *(partial(late, question) for question in questions[1:]))  # noqa: E731
        list(serve(server, database, [["one", "two", "three"]], ask))
        assert len(server.batches.batches) == 1


def test_ctrl_c_leaves_nothing_under_way(database):
    """Interrupted while it waits, the work ends with all that belongs to it, whoever else uses the connection."""

    def interrupt(line):
        if "in_progress" in line:  # a moment later it waits for the next look
            threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()

    async def n_tasks():
        return len(asyncio.all_tasks())

    with BatchServer("openai_chat", [Plan(looks=3)]) as server:
        backend = backend_for(server)
        _ = backend.probe
        with backend._connection.bridge._provider as portal:
            before = portal.call(n_tasks)
            with pytest.raises(KeyboardInterrupt):
                label_all(server, database, chat_requests(), backend=backend, report=interrupt, poll_seconds=1.0)
            assert any(portal.call(n_tasks) == before for _ in range(50))
        assert label_all(server, database, chat_requests(), backend=backend) == score(backend, chat_requests())
        assert_paid_once(server, 7)


async def one_by_one(*questions):
    return [await question() for question in questions]


def serve(server, connection, rows, asking=one_by_one, **options):
    """Answers to rows that ask the given questions, one after the other or as told."""
    bridge = AsyncBridge(Client(ServerOptions(server.url)))
    runner = BatchRunner(bridge.client, BatchStore(connection), BatchOptions(**{**QUICK, **options}))

    async def ask(_, row):
        place, prompts = row
        bodies = [{"model": "tiny", "prompt": prompt, "max_tokens": 1} for prompt in prompts]
        read = lambda reply: reply["choices"][0]["text"]  # noqa: E731
        await asking(*(partial(runner.call, "/completions", body, read) for body in bodies))
        return [(place, RowScores((), error=str(place)))]

    return bridge.drain(runner.over(iter(enumerate(rows)), ask, lambda: None))


def test_an_answer_is_kept_for_all_who_need_it(database):
    """An answer that one row has used is kept until another row, which asked the same, is handled."""
    with BatchServer("vllm") as server:
        groups = serve(server, database, [["one"], ["one", "two"], ["one", "two", "three"]], report=stop_at("batch_2"))
        for place in range(2):
            assert [answer for answer, _ in next(groups)] == [place]
        # Now the first two are already handled, and the third waits.
        with pytest.raises(KilledError):
            next(groups)
        assert kept(database)["batch_replies"] == 2
        list(serve(server, database, [["one", "two", "three"]]))
        assert_paid_once(server, 3)


def test_a_closed_stream_leaves_the_batch_open(database):
    """Closing while a batch is open keeps its id, and going on fetches its answers."""
    with BatchServer("openai_chat", [Plan(looks=3)]) as server:
        with pytest.raises(KilledError):
            label_all(server, database, chat_requests(), report=stop_at("in_progress"))
        assert [record.batch_id for record in BatchStore(database).unfinished()] == ["batch_0"]
        assert label_all(server, database, chat_requests()) == score(backend_for(server), chat_requests())
        assert_paid_once(server, 7)


def test_the_route_that_the_first_rows_chose_is_kept(database, tokenizer):
    """Other rows that come first after a restart do not change the route of all others, whose answers would be lost."""
    long, short = requests_for(["x " * 60], ["a", "b"], shots=()), requests_for(["x"], ["a", "b"], shots=())
    with BatchServer("vllm") as server:
        # Of the labels' deeper tokens is asked in a second batch, unless all is echoed.
        backend = backend_for(server, tokenizer=tokenizer)
        with contextlib.closing(opened(":memory:")) as other:
            label_all(server, other, [*long, *short], backend=backend)
        asked = set(server.batches.paid)
        assert len(asked) == 4
        assert len(server.batches.batches) == 2
        backend = backend_for(server, tokenizer=tokenizer, timeout=50.0)
        with pytest.raises(KilledError):
            label_all(server, database, [*long, *short], backend=backend, report=stop_at("answered"))
        label_all(server, database, [*short, *long], backend=backend_for(server, tokenizer=tokenizer, timeout=40.0))
        assert set(server.batches.paid) == asked
        assert set(server.batches.paid.values()) == {2}


def test_a_damaged_answer_is_asked_for_again(database):
    """An answer whose bytes were changed in the database counts as none."""
    with BatchServer("openai_chat") as server:
        with pytest.raises(KilledError):
            label_all(server, database, chat_requests(), report=stop_at("answered"))
        database.execute(
            "UPDATE batch_replies SET value = zeroblob(9) WHERE custom_id = (SELECT min(custom_id) FROM batch_replies)"
        )
        database.execute(
            "UPDATE batch_replies SET checksum = 7 WHERE custom_id = (SELECT max(custom_id) FROM batch_replies)"
        )
        assert label_all(server, database, chat_requests()) == score(backend_for(server), chat_requests())
        assert sorted(server.batches.paid.values()) == [1] * 5 + [2] * 2


@pytest.fixture(scope="module")
def fork_server():
    """Processes that begin with everything imported."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["batch_server", "aiohttp"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
        forkserver.ensure_running()
    return context


def run_job(context, server, path: str, kill=None, personality: str = "openai_chat", **options) -> int:
    """One process of a job; `kill` is given the process, to end it when it pleases. Returns the exit code."""
    given = {"poll_seconds": 0.005, **options}
    process = context.Process(target=label, args=(server.url, path, MANY, personality, given))
    process.start()
    if kill is not None:
        kill(process)
    process.join(60)
    code = process.exitcode
    process.close()
    return code


@pytest.mark.parametrize("personality", ["openai_chat", "openai_legacy"])
def test_a_job_killed_at_every_request_pays_once(tmp_path, fork_server, personality):
    """A process that is killed before or after each of its requests in turn leaves nothing lost and nothing paid for twice."""
    path = str(tmp_path / "job.sqlite")
    seen, when, victim = itertools.count(), [0, "before"], []

    def strike(request, moment: str) -> None:
        """Kill the process when its n-th request about files and batches has come, or has had its effect."""
        if not request.path.startswith(("/v1/files", "/v1/batches")) or moment != when[1]:
            return
        if next(seen) == when[0] and victim:
            os.kill(victim[0], signal.SIGKILL)
            time.sleep(0.05)

    def fault(request):
        strike(request, "before")

    plans = itertools.cycle([Plan(answers=4, ends="expired", looks=1), Plan(looks=1)])
    with BatchServer(personality, plans, fault) as server:
        server.batches.after = lambda request: strike(request, "after")
        n_killed = 0
        for n, moment in itertools.cycle(itertools.product(range(4), ("before", "after"))):
            seen, when[:], victim[:] = itertools.count(), [n, moment], []
            code = run_job(
                fork_server, server, path, lambda p: victim.append(p.pid), personality, max_requests=6, parallel=2
            )
            assert code in (0, -signal.SIGKILL)
            n_killed += code != 0
            if code == 0:
                break
        assert n_killed > 8
        with contextlib.closing(sqlite3.connect(path)) as connection:
            found = dict(connection.execute("SELECT place, value FROM answers"))
        assert sorted(found) == list(range(len(MANY)))
        options = {"prompt": CHAT, "shots": ()} if personality == "openai_chat" else {}
        live = score(backend_for(server), requests_for(MANY, LABELS, **options))
        assert [RowScores.from_json(json.loads(found[place])) for place in range(len(MANY))] == live
        assert set(server.batches.paid.values()) == {1}
        assert not any(batch["metadata"] is None for batch in server.batches.batches)


def test_a_job_killed_at_any_time_pays_once(tmp_path, fork_server):
    """Deaths at arbitrary moments, also within writes to the database, lose nothing and pay for nothing twice."""
    path = str(tmp_path / "job.sqlite")
    with BatchServer("openai_chat", itertools.repeat(Plan(looks=1))) as server:
        code, n_killed = 1, 0
        for milliseconds in itertools.chain(range(60, 300, 12), range(300, 10_000, 100)):

            def kill(process, seconds=milliseconds / 1000):
                process.join(seconds)
                process.kill()

            code = run_job(fork_server, server, path, kill, max_requests=3, parallel=2, window=6)
            n_killed += code == -signal.SIGKILL
            if code == 0:
                break
        assert code == 0
        assert n_killed > 3
        assert_paid_once(server, len(MANY))


# --- secrets -----------------------------------------------------------------------------------------------------------


def test_the_key_is_in_no_store(tmp_path, database, monkeypatch):
    """A server that writes the key into all that it says finds it in no answer, no error, no report and no file of ours."""
    key = 'sk-canary-/7f"3a9'
    monkeypatch.setenv("LLMCLF_TEST_KEY", key)
    long = f"{'x' * 493}{key}"  # half of it is left where a message is cut

    def change(lines):
        found = [json.loads(line) for line in lines]
        for line in found:
            line["response"]["body"]["system_fingerprint"] = key
        silent = {
            "custom_id": found.pop()["custom_id"],
            "response": None,
            "error": {"code": "batch_expired", "message": long},
        }
        return [json.dumps(line) for line in [*found, silent]]

    refusal = {"error": {"message": f"your key {key} is bad"}}
    errors = [{"code": key, "message": f"the key {key} is bad"}, {"message": long}]
    plans = [Plan(statuses={0: 400, 1: 500}, refusal=refusal, change=change), Plan(errors=errors)]
    told, shown = [], []

    def look():
        """Remember all that is kept just now."""
        for table in ("facts", "batches", "requests"):
            shown.extend(map(repr, database.execute(f"SELECT * FROM batch_{table}")))
        names = [name for (name,) in database.execute("SELECT custom_id FROM batch_replies")]
        shown.extend(map(repr, BatchStore(database).replies(names).items()))

    with BatchServer("openai_chat", plans, key=key) as server:
        backend = backend_for(server, api_key_env="LLMCLF_TEST_KEY", max_retries=0)
        groups = backend.batch_stream(iter(chat_requests()), database, report=told.append, **QUICK)
        shown.extend(map(repr, next(groups)))
        look()
        assert sum("system_fingerprint" in line for line in shown) == 4
        with pytest.raises(ServerError) as caught:
            next(groups)
        assert caught.value.is_final
        look()
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    text = "\n".join([*shown, *told, str(caught.value), repr(caught.value)])
    assert text.count("[key]") > 7
    assert "sk-" not in text
    assert b"canary" not in (tmp_path / "job.sqlite").read_bytes()
