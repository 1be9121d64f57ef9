"""Anthropic's Message Batches: the scores of the live route, and nothing is paid for twice."""

from __future__ import annotations

import pytest
from batch_server import CHAT, Plan, opened
from contract import TEXTS, in_order, requests_for, score
from faults import BrokenJson, Close, FakeServer, Reset, Status, Truncate
from message_batches import MessageBatchServer

from llmclf import open_backend
from llmclf.errors import CapabilityError

pytestmark = [
    pytest.mark.usefixtures("no_waiting"),
    pytest.mark.filterwarnings("ignore::llmclf.errors.EstimatedScoresWarning"),
]


@pytest.fixture
def database(tmp_path):
    connection = opened(str(tmp_path / "job.sqlite"))
    yield connection
    connection.close()


def backend_for(server, **options):
    defaults = {"base_url": server.url, "api_key_env": "", "use_route": "verbalized", "max_retries": 2}
    return open_backend("anthropic:tiny", **{**defaults, **options})


def questions(texts=TEXTS):
    return requests_for(texts, ["positive", "negative"], CHAT, ())


def label_all(server, connection, requests, **options):
    return in_order(backend_for(server).batch_stream(iter(requests), connection, poll_seconds=0.01, **options))


def test_scores_are_those_of_the_live_route(database):
    """Stated shares come back from a batch as from single requests; each request is one with its parameters."""
    with MessageBatchServer([Plan(looks=2)]) as server:
        answers = label_all(server, database, questions())
        assert answers == score(backend_for(server), questions())
        assert all(row.error is None for row in answers)
        (asked,) = server.batches.asked
        assert len(asked) == len(TEXTS)
        assert all(set(one) == {"custom_id", "params"} for one in asked)
        assert all(one["params"]["model"] == "tiny" for one in asked)
        assert set(server.batches.paid.values()) == {1}


def test_what_expired_is_asked_again_and_what_is_refused_is_not(database):
    """Only the rest goes into the next batch; a refused row has the server's words."""
    with MessageBatchServer([Plan(answers=5, statuses={1: 400})]) as server:
        answers = label_all(server, database, questions())
        assert [len(asked) for asked in server.batches.asked] == [7, 2]
        assert ["this is refused" in str(row.error) for row in answers].count(True) == 1
        assert sum(row.error is None for row in answers) == 6
        assert set(server.batches.paid.values()) == {1}


@pytest.mark.parametrize("fault", [Status(500), Reset(), Close(), Truncate(), BrokenJson()], ids=repr)
@pytest.mark.parametrize("endpoint", ["POST /v1/messages/batches", "GET /v1/messages/batches/"])
def test_every_endpoint_may_fail(database, endpoint, fault):
    """A batch whose confirmation was lost is found by its time and its size, and is not created once more."""
    stumbles = iter([fault] * 2)

    def faults(request):
        name = f"{request.method} {request.path}"
        is_meant = name == endpoint or (endpoint.endswith("/") and name.startswith(endpoint))
        # A broken file of results is no broken reply: its lines are, and what they answered is asked again.
        is_file = request.path.endswith("/results") and isinstance(fault, BrokenJson)
        return next(stumbles, None) if is_meant and not is_file else None

    with MessageBatchServer((), faults) as server:
        answers = label_all(server, database, questions())
        assert all(row.error is None for row in answers)
        assert len(server.batches.batches) == 1
        assert set(server.batches.paid.values()) == {1}


def test_results_come_from_the_address_that_was_named(database):
    """The address in the server's reply is not followed."""
    with MessageBatchServer() as server:
        label_all(server, database, questions())
        assert server.batches.batches[0]["results_url"].startswith("https://elsewhere.example")
        assert any(request.path.endswith("/msgbatch_0/results") for request in server.requests)


def test_protocols_without_batches_are_refused(database):
    """The error says what would work."""
    with FakeServer("gemini") as server:
        backend = open_backend("gemini:tiny", base_url=server.url, api_key_env="")
        with pytest.raises(CapabilityError, match=r"no batches of Gemini's API; ask live"):
            list(backend.batch_stream(iter(questions()), database))


def test_drawn_answers_are_asked_live(database):
    """How many are drawn depends on those before, so that a batch cannot hold them."""
    with (
        MessageBatchServer() as server,
        pytest.raises(CapabilityError, match=r"sampled.*ask live"),
    ):
        list(backend_for(server, use_route="sampled").batch_stream(iter(questions()), database))
