"""The registry of routes: one registration is all that a new route needs, and a name has one spelling."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing, contextmanager

import pandas as pd
import pytest
from batch_server import BatchServer, opened
from contract import LABELS, TEXTS, in_order, requests_for, score
from faults import FakeServer, backend_for
from typer.testing import CliRunner

from llmclf import LLMClassifier, Prompt, load, open_backend
from llmclf.backends import RowScores
from llmclf.backends.identity import check_same_model, differing
from llmclf.backends.openai.batches.store import BatchStore
from llmclf.backends.openai.probe import Probe
from llmclf.backends.openai.routes import Routes, register, route_names, unregister
from llmclf.backends.openai.routes.base import RouteOptions, ServerFacts, TextRoute, Work, max_tokens
from llmclf.backends.openai.routes.shown_tokens import read_first
from llmclf.cli import app
from llmclf.errors import BudgetError, CapabilityError, InputError
from llmclf.jobs import estimate_table, label_table
from llmclf.jobs.asking.batches import BatchAsking

pytestmark = pytest.mark.usefixtures("no_waiting")

NAMES = (
    *("choice", "echo", "named_tokens", "grammar", "echo_text", "top_logprobs", "chat"),
    *("verbalized", "sampled", "mixed"),
)
FRAME = pd.DataFrame({"text": TEXTS})
JOB = {"text_column": "text", "labels": LABELS, "prompt": "Review: {{ text }}\nSentiment:"}


class Toy(TextRoute):
    """One completion a row, whose first token stands for every label: worth nothing, but honest about it."""

    name = "toy"
    summary = "a toy that asks once and measures labels by their length"
    is_exact = False
    sees_tokens = False

    def obstacle(self, server):
        return None if server.probe.completions else "the server does not continue toys"

    def work(self, row, n_together):
        return Work(1, row.context, 7)

    async def score_text(self, client, request):
        text = request.prompt.turns[0].text
        body = {"prompt": text, "max_tokens": 1, "logprobs": 1, "temperature": 1.0}
        position = await client.complete(body, read_first, tokens_in=max_tokens(text), by_id=False)
        upper = tuple(position.chosen.logprob - len(completion) for completion in request.completions)
        return RowScores(tuple((value - 0.5,) for value in upper), tuple(value - 1.0 for value in upper), upper)


@contextmanager
def registered(route=Toy, before=None):
    register(route, before=before)
    try:
        yield
    finally:
        unregister(route)


@pytest.fixture
def toy():
    """The toy, registered by one call."""
    with registered():
        yield


# --- a toy route by one registration -----------------------------------------------------------------------------------


@pytest.mark.usefixtures("toy")
def test_a_registered_route_scores():
    """Its scores and bounds come from a real server, and the identity holds its name."""
    with FakeServer("vllm") as server:
        backend = backend_for(server, use_route="toy")
        answers = score(backend, requests_for())
        assert backend.route == "toy"
        assert not backend.sees_tokens
        assert backend.identity()["route"] == "toy"
        for row in answers:
            assert all(low < value < high for low, value, high in zip(row.lower, row.sums, row.upper, strict=True))
        clf = LLMClassifier(backend, labels=LABELS, prompt=JOB["prompt"]).fit(TEXTS)
        assert {len(label) for label in clf.predict(TEXTS)} == {min(map(len, LABELS))}


@pytest.mark.usefixtures("toy")
def test_probe_lists_a_registered_route():
    """`llmclf probe` shows it in its table and in JSON, with the reason where the server does not allow it."""
    with FakeServer("vllm") as server, FakeServer("openai_chat") as chats:

        def probe(url, *arguments):
            return CliRunner().invoke(app, ["probe", "openai:tiny", "--base-url", url, *arguments]).stdout

        table = probe(server.url, "--model-option", "use_route=toy")
        rows = [line.split(maxsplit=1) for line in table.splitlines() if line.startswith("  ")]
        assert [name for name, _ in rows] == [*NAMES, "toy"]
        assert dict(rows)["toy"] == "yes"
        assert dict(rows)["grammar"].startswith("no: the server does not force tokens by a grammar")
        assert f"route: toy (bounded: {Toy.summary})" in table
        assert "  toy           no: the server does not continue toys" in probe(chats.url)
        values = json.loads(probe(server.url, "--json", "--model-option", "use_route=toy"))
        assert values["route"] == "toy"
        assert [route["name"] for route in values["routes"]] == [*NAMES, "toy"]
        described = {"name": "toy", "summary": Toy.summary, "is_exact": False, "obstacle": None}
        assert values["routes"][-1] == {**described, "on_request": False, "cost": None}
        assert json.loads(probe(chats.url, "--json"))["routes"][-1]["obstacle"] == "the server does not continue toys"


def test_a_dry_run_counts_a_registered_route():
    """An estimate uses its own count of requests and tokens, and the best route is assumed before a server was asked."""
    price = {"input": 1.0, "output": 1000.0}
    with FakeServer("openai_legacy") as server, registered(before="choice"):
        for backend in (backend_for(server, price=price), backend_for(server, price=price, use_route="toy")):
            estimate = backend.estimate(requests_for())
            assert (estimate.route, estimate.requests, estimate.tokens_out) == ("toy", len(TEXTS), 7 * len(TEXTS))
            assert estimate.cost == pytest.approx((estimate.tokens_in + 7000 * len(TEXTS)) / 1e6)
        assert server.requests == []
        backend = backend_for(server)
        assert backend.route == "toy"
        job = estimate_table(FRAME, model=backend, **JOB)
        assert (job.requests, job.tokens_out) == (len(TEXTS), 7 * len(TEXTS))
        assert job.assumption.endswith("route 'toy'")
    unknown = open_backend("openai:tiny", base_url="http://localhost:1/v1").estimate(requests_for())
    assert (unknown.route, unknown.is_assumed) == ("echo_text", True)


@pytest.mark.usefixtures("toy")
def test_limits_hold_for_a_registered_route():
    """Its requests count in `usage`, and none is sent that could pass `max_cost`."""
    price = {"input": 1000.0, "output": 1000.0}
    with FakeServer("vllm") as server:
        backend = backend_for(server, use_route="toy", price=price)
        _ = backend.route
        before, spent = backend.usage.requests, backend.usage.cost
        score(backend, requests_for())
        assert backend.usage.requests - before == len(TEXTS)
        assert backend.usage.requests == len(server.requests)
        assert backend.usage.cost > spent
        limited = backend_for(server, use_route="toy", price=price, max_cost=backend.usage.cost * 0.99, concurrency=1)
        with pytest.raises(BudgetError, match="raise max_cost"):
            score(limited, requests_for())
        assert limited.usage.cost <= limited.max_cost


@pytest.mark.usefixtures("toy")
def test_jobs_take_a_registered_route(tmp_path):
    """A job labels with it, live and by the Batch API, resumes from its journal, and notes it as what answered."""
    with BatchServer("vllm") as server:
        backend = backend_for(server, use_route="toy")
        live = label_table(FRAME, tmp_path / "live.csv", model=backend, **JOB)
        assert live.summary.labelled == len(TEXTS)
        n_requests = len(server.requests)
        again = label_table(FRAME, tmp_path / "live.csv", model=backend, resume=True, **JOB)
        assert (again.summary.labelled, len(server.requests)) == (len(TEXTS), n_requests)
        with closing(sqlite3.connect(tmp_path / "live.csv.journal")) as connection:
            (identity,) = connection.execute("SELECT value FROM meta WHERE name = 'identity'").fetchone()
        assert json.loads(identity)["route"] == "toy"
        batches = label_table(FRAME, model=backend, asking=BatchAsking(poll_seconds=0.01), **JOB)
        assert len(server.batches.paid) == len(TEXTS)
        columns = ["label", "confidence", "undecided"]
        pd.testing.assert_frame_equal(batches.table[columns], label_table(FRAME, model=backend, **JOB).table[columns])


def test_a_route_may_refuse_the_batch_api(tmp_path):
    """What its class says about that is what the user reads."""

    class Stubborn(Toy):
        name = "stubborn"
        batch_obstacle = "throws dice"

    with registered(Stubborn), FakeServer("vllm") as server, closing(opened(str(tmp_path / "job.sqlite"))) as database:
        backend = backend_for(server, use_route="stubborn")
        with pytest.raises(CapabilityError, match="the route 'stubborn' throws dice; ask live, or name another route"):
            list(backend.batch_stream(iter(requests_for()), database))


def test_errors_list_a_registered_route():
    """Errors about a route's name name it while it is registered; without it, it is unknown, and in no list."""
    with FakeServer("vllm") as server:
        with registered():
            with pytest.raises(
                InputError, match="use_route='magic': expected one of 'choice', .*'mixed', 'toy', or None"
            ):
                backend_for(server, use_route="magic")
            with pytest.raises(
                CapabilityError, match=r"'grammar': the server does not force.*allows: 'choice', .*'mixed', 'toy'"
            ):
                _ = backend_for(server, use_route="grammar").route
        with pytest.raises(InputError, match="use_route='toy': expected one of 'choice', .*'mixed', or None"):
            backend_for(server, use_route="toy")
    lacking = pytest.raises(
        CapabilityError,
        match="'toy': the server does not continue toys .*allows: 'chat', 'verbalized', 'sampled', 'mixed'$",
    )
    with FakeServer("openai_chat") as chats, registered(), lacking:
        _ = backend_for(chats, use_route="toy").route
    assert route_names() == NAMES


@pytest.mark.usefixtures("toy")
def test_a_name_is_taken_once():
    """A second route of the same name, and a place before an unknown route, are refused."""
    with pytest.raises(InputError, match="'toy' is registered already"):
        register(Toy)
    with pytest.raises(InputError, match="before='magic': expected one of"):
        register(type("Other", (Toy,), {"name": "other"}), before="magic")


def test_every_route_says_why_it_is_not_allowed():
    """A server that does nothing has an obstacle for every route, in words; one that does all has none."""
    options = RouteOptions(top_calls=16, tolerance=0.01)
    nothing = Routes(options).reports(ServerFacts(Probe("tiny")))
    assert [report.name for report in nothing] == list(NAMES)
    assert all(report.obstacle for report in nothing)
    able = Probe(
        "tiny", echo="exact", named_tokens=True, grammar=True, top_logprobs=20, chat=True, chat_top_logprobs=20
    )
    assert not any(report.obstacle for report in Routes(options).reports(ServerFacts(able, is_tokenised=True)))
    untokenised = {report.name: report.obstacle for report in Routes(options).reports(ServerFacts(able))}
    assert [name for name, obstacle in untokenised.items() if obstacle is None] == list(NAMES[4:])
    assert "tokenizer=" in untokenised["echo"]


# --- one spelling of names ---------------------------------------------------------------------------------------------


def test_the_old_spelling_is_read():
    """`named tokens` is the route `named_tokens`: the same handle, the same description."""
    old, new = (open_backend("openai:tiny", use_route=name) for name in ("named tokens", "named_tokens"))
    assert old.use_route == "named_tokens"
    assert old == new
    assert old.description == new.description
    assert "named tokens" not in repr(old)


def test_the_old_spelling_is_not_another_model():
    """Facts about a model that an older version wrote mean the same model, on either side of a comparison."""
    old, new = ({"model": "a", "use_route": name, "route": name} for name in ("named tokens", "named_tokens"))
    assert differing(old, new) is None
    assert differing(new, old) is None
    check_same_model(old, new, is_strict=True)
    assert differing(old, {**new, "route": "echo_text"}) == "route"


def test_a_saved_classifier_of_the_old_spelling_loads(tmp_path):
    """A folder with the old name in its options and in its model's identity answers as before, without a warning."""
    texts = [f"text {i}" for i in range(30)]
    with FakeServer("vllm") as server:
        backend = backend_for(server, use_route="named_tokens")
        clf = LLMClassifier(backend, labels=["fine", "film"], prompt="{{ text }}:", calibrator="temperature")
        clf.fit(texts, ["fine", "film"] * 15).save(tmp_path / "clf")
        file = tmp_path / "clf" / "classifier.json"
        text = file.read_text(encoding="utf-8")
        values = json.loads(text)
        assert values["model_options"]["use_route"] == "named_tokens"
        values["model_options"]["use_route"] = "named tokens"
        file.write_text(json.dumps(values), encoding="utf-8")
        loaded = load(tmp_path / "clf")
        assert loaded.backend_ == backend
        assert loaded.predict_proba(texts).tolist() == clf.predict_proba(texts).tolist()
        loaded.save(tmp_path / "again")
        assert "named tokens" not in (tmp_path / "again" / "classifier.json").read_text(encoding="utf-8")


def test_a_journal_of_the_old_spelling_goes_on(tmp_path):
    """A job that an older version began under the old name is resumed: nothing is asked again."""
    output, journal = tmp_path / "out.csv", tmp_path / "out.csv.journal"
    with FakeServer("vllm") as server:
        label_table(FRAME, output, model=backend_for(server, use_route="named_tokens"), **JOB)
        before = output.read_bytes()
        with closing(sqlite3.connect(journal)) as connection, connection:
            (text,) = connection.execute("SELECT value FROM meta WHERE name = 'fingerprint'").fetchone()
            old = {**json.loads(text), "use_route": "named tokens"}
            connection.execute(
                "UPDATE meta SET value = ? WHERE name = 'fingerprint'", (json.dumps(old, sort_keys=True),)
            )
            connection.execute(
                "DELETE FROM meta WHERE name = 'fingerprint checksum'"
            )  # which that version did not write
        n_requests = len(server.requests)
        for name in ("named_tokens", "named tokens"):
            label_table(FRAME, output, model=backend_for(server, use_route=name), resume=True, **JOB)
            assert output.read_bytes() == before
        assert len(server.requests) == n_requests
        with pytest.raises(InputError, match="use_route is 'named_tokens', and this job's is 'echo'"):
            label_table(FRAME, output, model=backend_for(server, use_route="echo"), resume=True, **JOB)


@pytest.mark.parametrize("kept", ["named tokens", "named_tokens"])
def test_a_kept_choice_is_kept(kept, tokenizer, tmp_path):
    """The route that an earlier process chose for its batches stays, in either spelling, also where another would be cheaper."""
    # An end after each label makes as many inner nodes as there are labels, and those are what named tokens cost.
    prompt = Prompt("Review: {{ text }}\nSentiment:", terminator="eos_if_nested")
    requests = requests_for(["x"], labels=[f"label number {i}" for i in range(40)], prompt=prompt, shots=())
    with BatchServer("vllm") as server, closing(opened(str(tmp_path / "job.sqlite"))) as database:
        backend = backend_for(server, tokenizer=tokenizer)
        assert backend.estimate(requests).route == "echo"
        live = score(backend, requests)
        assert backend.route == "echo"
        BatchStore(database).keep("route", kept)
        answers = in_order(backend.batch_stream(iter(requests), database, poll_seconds=0.01))
        assert backend.route == "named_tokens"
        assert all("logprob_token_ids" in line["body"] for line in server.batches.lines(0))
        assert answers[0].sums == pytest.approx(live[0].sums, abs=1e-6)
