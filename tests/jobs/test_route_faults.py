"""Every way to ask a server, under every fault: one that heals changes nothing, one that stays ends the job in good order."""

from __future__ import annotations

import gc
import json
import math
import re
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import faults
import numpy as np
import pandas as pd
import pytest
from answering import AnsweringChat, Manner
from batch_server import BatchServer
from decision_servers import DecisionServer
from faults import (
    BrokenJson,
    Close,
    EmptyBody,
    FakeServer,
    Fault,
    Hang,
    Html,
    Mutate,
    Personality,
    Replace,
    Reset,
    Status,
    Trickle,
    Truncate,
    backend_for,
)

from llmclf import Embeddings, Prompt
from llmclf.errors import EmbeddingError, JobError, ServerError
from llmclf.jobs import label_table
from llmclf.jobs.asking.batches import BatchAsking

pytestmark = [
    pytest.mark.usefixtures("no_waiting"),
    pytest.mark.filterwarnings("ignore::llmclf.errors.EstimatedScoresWarning"),
]
N_ROWS, PATIENCE = 20, 0.5
CHAT = Prompt("Review: {{ text }}", chat=True)


class Decisions(Personality):
    """Both protocols of decision servers, behind the faults of `faults`."""

    def __init__(self, model: faults.TinyModel, name: str) -> None:
        super().__init__(model, name)
        self._server = DecisionServer(name)
        self._server.close()  # its answers are wanted, and not its port

    def reply(self, request: faults.Request) -> tuple[int, Any]:
        answered = self._server.answer(request.path, request.body)
        return answered.status, answered.body


@dataclass(frozen=True)
class Way:
    """A way to ask: the server that has it, and how a job is told to take it."""

    personality: str
    options: tuple[str, ...] = ()
    after: int = 5
    """Requests about rows that are answered before a fault that stays."""


ROUTES = {
    "echo": Way("vllm", ("--model-option", "use_route=echo"), 1),
    "named_tokens": Way("vllm", ("--model-option", "use_route=named_tokens"), 1),
    "choice": Way("vllm", ("--model-option", "use_route=choice"), 1),
    "grammar": Way("llama_server", ("--model-option", "use_route=grammar")),
    "echo_text": Way("openai_legacy", ("--model-option", "use_route=echo_text"), 15),  # several about a row
    "top_logprobs": Way("vllm", ("--model-option", "use_route=top_logprobs")),
    "chat": Way("openai_chat", ("--chat",)),
    "verbalized": Way("answers", ("--chat", "--model-option", "use_route=verbalized")),
    "sampled": Way(
        "answers",
        (
            "--chat",
            "--model-option",
            "use_route=sampled",
            "--model-option",
            "n_samples=2",
            "--model-option",
            "max_samples=9",
        ),
        15,  # several about a row
    ),
    "systemone": Way("decisions", ("--model", "systemone:tiny")),
    "decisions": Way("decisions", ("--model", "decisions:tiny")),
}
HEALS: dict[str, Fault] = {
    "429": Status(429, headers={"Retry-After": "0.01"}),
    "408": Status(408),
    "500": Status(500),
    "503": Status(503, "<html>busy"),
    "silence": Hang(60.0),
    "trickle": Trickle(0.2),
    "reset": Reset(),
    "close": Close(),
    "truncated": Truncate(),
    "broken JSON": BrokenJson(),
    "a page": Html(),
    "nothing": EmptyBody(),
    "no object": Replace([1]),
    "another object": Replace({"id": "x"}),
    "an error with status 200": Replace({"error": {"message": "overloaded", "code": 503}}),
    "empty lists": Mutate(lambda reply: {name: [] if isinstance(value, (list, dict)) else value for name, value in reply.items()})
}  # fmt: skip
STAYS: dict[str, Fault] = {
    **HEALS,
    "401": Status(401),
    "403": Status(403),
    "404": Status(404),
    "a redirection": Status(307, headers={"Location": "http://127.0.0.1:9/v1"}),
    "422": Status(422),
}

PAIRS = [
    pytest.param(route, fault, marks=() if (place + number) % 5 == 0 else pytest.mark.slow)
    for place, route in enumerate(ROUTES)
    for number, fault in enumerate(STAYS)
]
"""All of them; each route and each fault is in a pair that is quick."""


@dataclass
class Rows:
    """Faults from the first request about a row on: `of` says which for the number of such a request, from 1."""

    of: Callable[[int], Fault | None]
    n: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, request: faults.Request) -> Fault | None:
        with self._lock:
            # Later requests may hold tokens alone.
            self.n += bool(self.n) or "<review" in json.dumps(request.body)
            return self.of(self.n) if self.n else None


def answers(model: faults.TinyModel, name: str) -> AnsweringChat:
    """A chat without log-probabilities, whose rows differ."""

    def shares(text: str, labels: Sequence[str]) -> list[float]:
        leaning = 0.5 + 0.45 * math.sin(len(text) + sum(map(ord, re.findall(r"<review (\d+)>", text)[-1])))
        return [leaning if label == "good" else 1.0 - leaning for label in labels]

    return AnsweringChat(shares, Manner(), name)


@contextmanager
def serving(way: Way, rows: Callable[[faults.Request], Fault | None] = lambda request: None) -> Iterator[FakeServer]:
    gc.collect()  # a connection that an earlier error holds would know another server at the same port
    faults.PERSONALITIES.setdefault("decisions", Decisions)
    faults.PERSONALITIES.setdefault("answers", answers)
    with FakeServer(way.personality, rows, draws_by_prompt=True) as server:
        yield server


@pytest.fixture
def table(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    pd.DataFrame({"id": range(N_ROWS), "text": [f"<review {i}>" for i in range(N_ROWS)]}).to_csv("in.csv", index=False)
    return tmp_path


def words(way: Way, server: FakeServer, output: str, *more: object) -> list[object]:
    root = server.root if way.personality == "decisions" else server.url
    model = () if "--model" in way.options else ("--model", "openai:tiny")
    return ["label", "in.csv", output, "--id-column", "id", "--text-column", "text", "--labels", "good,bad", "--base-url", root,
            "--api-key-env", "", "--concurrency", 10, "--logprobs", *model, *way.options, *more]  # fmt: skip


def asked_about(requests: list[faults.Request]) -> set[int]:
    """The rows whose text stands in requests."""
    return {int(row) for request in requests for row in re.findall(r"<review (\d+)>", json.dumps(request.body))}


def answers_in(journal: str) -> int:
    """How many answers a journal keeps, errors aside; one that never began has none."""
    if not Path(journal).exists():
        return 0
    with closing(sqlite3.connect(journal)) as connection:
        return connection.execute("SELECT count(*) FROM answers WHERE error IS NULL").fetchone()[0]


_UNDISTURBED: dict[str, bytes] = {}


def undisturbed(route: str, run) -> bytes:
    """The output of a job without faults."""
    if route not in _UNDISTURBED:
        with serving(ROUTES[route]) as server:
            result = run(*words(ROUTES[route], server, f"undisturbed-{route}.csv"))
        assert result.code == 0, result.err
        _UNDISTURBED[route] = Path(f"undisturbed-{route}.csv").read_bytes()
    return _UNDISTURBED[route]


@pytest.mark.parametrize("route", ROUTES)
def test_faults_that_heal_change_nothing(route, table, run):
    """Every second request about rows fails, each in another way, and the output is that of an undisturbed job, byte for byte."""
    way, expected = ROUTES[route], undisturbed(route, run)
    left = list(HEALS.values())
    rows = Rows(lambda n: left.pop() if n % 2 and left else None)
    with serving(way, rows) as server:
        result = run(*words(way, server, "out.csv", "--timeout", PATIENCE, "--max-retries", 40))
    assert result.code == 0, pd.read_csv("out.csv")["error"].dropna().tolist()
    assert not left
    assert Path("out.csv").read_bytes() == expected


@pytest.mark.parametrize(("route", "fault"), PAIRS)
def test_a_fault_that_stays_ends_the_job(route, fault, table, run):
    """One error, code 1 and few requests; what was answered before is in the journal, and is not asked again when all is well."""
    way, expected = ROUTES[route], undisturbed(route, run)
    is_well = threading.Event()
    rows = Rows(lambda n: None if n <= way.after or is_well.is_set() else STAYS[fault])
    with serving(way, rows) as server:
        limits = ("--timeout", PATIENCE, "--max-retries", 1, "--max-errors", 1)
        result = run(*words(way, server, "out.csv", *limits))
        assert result.code == 1, result.err
        assert [line.startswith("error: ") for line in result.err.splitlines()].count(True) == 1
        assert "are kept in the journal" in result.err or "nothing was answered yet" in result.err
        assert not Path("out.csv").exists()
        assert rows.n - way.after <= 6 * N_ROWS
        is_well.set()
        first, kept = len(server.requests), answers_in("out.csv.journal")
        again = run(*words(way, server, "out.csv", "--resume", "--retry-failed"))
        assert again.code == 0, again.err
        if way.personality in (
            "openai_chat",
            "openai_legacy",
            "answers",
            "decisions",
        ):  # requests that hold the row's text
            before, after = asked_about(server.requests[:first]), asked_about(server.requests[first:])
            assert before | after == set(range(N_ROWS))
            assert len(after) == N_ROWS - kept, "what is kept is not asked again"
    assert Path("out.csv").read_bytes() == expected


@pytest.mark.parametrize("encoding_format", ["float", "base64"])
def test_embeddings_under_faults_that_heal(encoding_format):
    """Texts have the vectors that they have without faults; every second request fails, each in another way."""
    left = list(HEALS.values())
    numbers = iter(range(10_000))
    with FakeServer("embeddings", lambda request: left.pop() if next(numbers) % 2 and left else None) as server:
        options = {"encoding_format": encoding_format, "batch_size": 1, "timeout": PATIENCE, "max_retries": 40}
        texts = [f"<review {i}>" for i in range(N_ROWS)]
        vectors = Embeddings("openai:tiny", base_url=server.url, normalize=False, **options).transform(texts)
        np.testing.assert_allclose(vectors, [server.personality.vector(text) for text in texts], atol=1e-6)
    assert not left


@pytest.mark.parametrize("fault", STAYS)
def test_embeddings_under_a_fault_that_stays(fault):
    """One error after few requests."""
    with FakeServer("embeddings", lambda request: STAYS[fault] if len(server.requests) > 3 else None) as server:
        options = {"batch_size": 1, "timeout": PATIENCE, "max_retries": 1, "concurrency": 4}
        with pytest.raises((ServerError, EmbeddingError)):
            Embeddings("openai:tiny", base_url=server.url, **options).transform(
                [f"<review {i}>" for i in range(N_ROWS)]
            )
        assert len(server.requests) <= 3 + 2 * N_ROWS


BATCH_FAULTS = {name: fault for name, fault in HEALS.items() if name != "empty lists"}
"""An empty list of batches is an answer that only the server could know to be wrong."""


def batch_job(server: BatchServer, output: str, **options: Any) -> Any:
    """A job by the Batch API, four rows to a batch."""
    gc.collect()
    backend = backend_for(server, timeout=PATIENCE, **options)
    return label_table(
        "in.csv", output, model=backend, text_column="text", labels=["good", "bad"], prompt=CHAT, id_column="id",
        asking=BatchAsking(poll_seconds=0.01, parallel=2), resume=True,
    )  # fmt: skip


def test_batches_under_faults_that_heal(table):
    """Every second request about files and batches fails, each in another way; the labels are the same, and paid for once."""
    left = list(BATCH_FAULTS.values())
    numbers = iter(range(10_000))

    def fails(request: faults.Request) -> Fault | None:
        is_batch = request.path.startswith(("/v1/files", "/v1/batches"))
        return left.pop() if is_batch and next(numbers) % 2 and left else None

    with BatchServer("openai_chat") as well:
        batch_job(well, "well.csv")
    with BatchServer("openai_chat", faults=fails) as server:
        batch_job(server, "out.csv", max_retries=40)
        assert set(server.batches.paid.values()) == {1}
    assert Path("out.csv").read_bytes() == Path("well.csv").read_bytes()


BATCH_PAIRS = [
    pytest.param(place, fault, marks=() if (row + number) % 7 == 0 else pytest.mark.slow)
    for row, place in enumerate((r"/v1/files", r"/v1/batches", r"/v1/batches/.+", r"/v1/files/.+/content"))
    for number, fault in enumerate(STAYS)
    # Twenty polls in silence take long. What is gone of a file, or all of it, is asked for anew, by a batch.
    if fault not in ("empty lists", "silence" if "+" in place else "", "trickle" if "+" in place else "")
    and (place, fault) not in ((r"/v1/files/.+/content", gone) for gone in ("404", "broken JSON"))
]


@pytest.mark.parametrize(("place", "fault"), BATCH_PAIRS)
def test_batches_under_a_fault_that_stays(place, fault, table):
    """One error after few requests; a later run goes on, and no request is paid for twice."""
    is_well = threading.Event()
    with BatchServer(
        "openai_chat",
        faults=lambda request: STAYS[fault] if re.fullmatch(place, request.path) and not is_well.is_set() else None,
    ) as server:
        with pytest.raises(JobError):
            batch_job(server, "out.csv", max_retries=1)
        assert sum(re.fullmatch(place, request.path) is not None for request in server.requests) <= 100
        is_well.set()
        assert batch_job(server, "out.csv").summary.labelled == N_ROWS
        assert set(server.batches.paid.values()) == {1}
