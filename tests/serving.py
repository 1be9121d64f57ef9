"""Servers for the tests: the application in this process with a model that answers at once, and `llmclf serve` as a process.

served = application(pipelines={"moods": pipeline}); reply = ask(served, "/v1/classify", {...})
with served_process(folder) as server: server.post("/v1/classify", {...})
"""

from __future__ import annotations

import asyncio
import datetime
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import numpy as np

from llmclf import LLMClassifier, Prompt
from llmclf.backends import FakeBackend
from llmclf.labels import label_set
from llmclf.pipeline import FittedPipeline
from llmclf.serve.access import Access
from llmclf.serve.application import ServedApplication
from llmclf.serve.event_log import EventLog
from llmclf.serve.gathering import Gatherer
from llmclf.serve.limits import Limits
from llmclf.serve.measures import Measures
from llmclf.serve.model.answering import Answerer, OpenModel
from llmclf.serve.promises import Promise
from llmclf.serve.questions import Answer
from llmclf.serve.served import Catalogue, ServedClassifier, ServedModel

WORDS = ("good", "bad")


def fake_pipeline(labels: Any = WORDS, template: str = "Review: {{ text }}\nMood:", **options: Any) -> FittedPipeline:
    """A pipeline that answers from a hash."""
    return FittedPipeline(FakeBackend(), Prompt(template), label_set(labels), **options)


@dataclass
class Reply:
    """What a server said."""

    status: int
    headers: dict[str, str]
    content: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.content)


class AtOnce:
    """A process of the models that is none: it answers in the next turn of the event loop."""

    def __init__(self, answerer: Any) -> None:
        self.is_ready = True
        self.answerer = answerer
        self.gatherer: Any = None
        self.sent: list[list[Any]] = []

    def send(self, number: int, lane: str, asks: Any) -> None:
        self.sent.append(list(asks))
        over_the_wire = json.loads(json.dumps(self.answerer.answers(json.loads(json.dumps(list(asks))))))
        answers = [Answer.from_dict(one) for one in over_the_wire]
        asyncio.get_running_loop().call_soon(self.gatherer.answered, number, answers)

    def kill(self) -> None:
        self.is_ready = False


@dataclass
class Served:
    """An application, and what it logged and recorded."""

    application: ServedApplication
    process: AtOnce
    gatherer: Gatherer
    events: list[dict[str, Any]] = field(default_factory=list)
    records: list[tuple[str, Any]] = field(default_factory=list)


def application(
    pipelines: Mapping[str, FittedPipeline] | None = None,
    models: Mapping[str, Any] | None = None,
    *,
    limits: Limits | None = None,
    access: Access | None = None,
    answerer: Any = None,
    shows_texts: bool = False,
    reason: str = "",
    is_full: bool = False,
    promise: Promise | None = None,
) -> Served:
    """All routes, in front of models that need no process."""
    pipelines = {"moods": fake_pipeline()} if pipelines is None and models is None else dict(pipelines or {})
    models, limits = dict(models or {}), limits or Limits()
    day = datetime.date(2026, 1, 2)
    served: list[Any] = [
        ServedClassifier(name, Path(name), one, "0123456789ab", day, "0", promise or Promise())
        for name, one in pipelines.items()
    ]
    served += [
        ServedModel(name, one, {}, limits, False, "0", day, {name: "ba9876543210"}) for name, one in models.items()
    ]
    answerer = answerer or Answerer(pipelines, {name: OpenModel(one) for name, one in models.items()})
    process, measures = AtOnce(answerer), Measures(list)
    gatherer = Gatherer({"0": 1}, limits, measures)
    gatherer.attach(process)
    process.gatherer = gatherer
    events: list[dict[str, Any]] = []
    records: list[tuple[str, Any]] = []
    made = ServedApplication(
        Catalogue(served),
        gatherer,
        limits,
        access or Access(None, is_local=True),
        measures,
        EventLog(events.append, shows_texts=shows_texts),
        is_ready=lambda: reason,
        is_full=lambda: is_full,
        record=lambda *one: records.append(one),
    )
    return Served(made, process, gatherer, events, records)


JSON = {"content-type": "application/json", "host": "127.0.0.1:8000"}


async def asked(app: Any, method: str, path: str, body: bytes, headers: Mapping[str, str], chunks: Any = None) -> Reply:
    """One request to an ASGI application; `chunks` (an async iterator of messages) takes the place of the body."""
    sent: list[Any] = []
    waiting = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Any:
        if chunks is not None:
            return await anext(chunks)
        if waiting:
            return waiting.pop(0)
        await asyncio.Event().wait()
        return None

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()],
        "client": ("127.0.0.1", 5),
    }
    await app(scope, receive, send)
    start = next((one for one in sent if one["type"] == "http.response.start"), None)
    content = b"".join(one.get("body", b"") for one in sent if one["type"] == "http.response.body")
    if start is None:
        return Reply(0, {}, b"")
    return Reply(start["status"], {name.decode(): value.decode() for name, value in start["headers"]}, content)


def ask(served: Served, path: str, body: Any = None, *, method: str | None = None, **headers: str) -> Reply:
    """One request, with a body of JSON or of bytes."""
    content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    named = {**JSON, **{name.replace("_", "-"): value for name, value in headers.items()}}
    verb = method or ("GET" if body is None else "POST")
    return asyncio.run(asked(served.application, verb, path, content, named))


# --- real processes ----------------------------------------------------------------------------------------------------


def save_classifier(folder: Path, model: Any, *, max_error: float | None = None, **options: Any) -> LLMClassifier:
    """Fit and save a classifier of moods; returns it as it was fitted."""
    texts = [f"{word} film number {i}" for i, word in enumerate(["fine", "dull", "great", "long"] * 15)]
    y = ["good", "bad"] * 30
    given = {"labels": list(WORDS), "prompt": "{{ text }}", "calibrator": "temperature", **options}
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        clf = LLMClassifier(model, **given)
        clf.fit(texts, y if given["calibrator"] is not None or given.get("features") else None)
        if max_error is not None:
            clf.fit_threshold(max_error=max_error, confidence=0.6)
    clf.save(folder)
    return clf


class ServerProcess:
    """`llmclf serve` as a process, with what it wrote."""

    def __init__(self, arguments: list[str], env: Mapping[str, str] | None = None) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "llmclf", "serve", "--port", "0", "--log-format", "json", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **(env or {})},
            text=True,
        )
        self.events: list[dict[str, Any]] = []
        self.other: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line.startswith("listening on "):
            self.process.wait(60)
            self.close()
            raise RuntimeError(f"it did not start: {line!r} {self.events[-3:]} {self.other[-5:]}")
        self.url = line.split()[-1]
        self.port = int(self.url.rpartition(":")[2])

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            try:
                self.events.append(json.loads(line))
            except ValueError:
                self.other.append(line)

    def close(self) -> None:
        """What it wrote has been read."""
        self._reader.join(30)
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()

    def named(self, name: str) -> list[dict[str, Any]]:
        """The events of a name so far."""
        return [event for event in self.events if event["event"] == name]

    def until(self, condition: Callable[[], Any], seconds: float = 120.0) -> Any:
        """What a condition gives once it gives something."""
        end = time.monotonic() + seconds
        while not (found := condition()):
            if time.monotonic() > end or self.process.poll() is not None:
                raise TimeoutError(f"{self.process.poll()}: {self.events[-5:]} {self.other[-5:]}")
            time.sleep(0.02)
        return found

    def ready(self) -> ServerProcess:
        self.until(lambda: self.get("/readyz").status == 200)
        return self

    @property
    def model_pid(self) -> int:
        """Of the process of the models that is the latest."""
        return int(self.named("model_ready")[-1]["pid"])

    def request(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> Reply:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=120)
        try:
            connection.request(method, path, body, dict(headers))
            answer = connection.getresponse()
            return Reply(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Reply:
        return self.request("GET", path, None, headers)

    def post(self, path: str, body: Any, **headers: str) -> Reply:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.request("POST", path, content, {"content-type": "application/json", **headers})

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=60)

    def stop(self, number: int = signal.SIGTERM, seconds: float = 60.0) -> int:
        """Send a signal; the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        self._reader.join(30)
        return code


@contextmanager
def served_process(*arguments: str | Path, env: Mapping[str, str] | None = None) -> Iterator[ServerProcess]:
    """`llmclf serve` with these arguments, on a free port."""
    server = ServerProcess([str(one) for one in arguments], env)
    try:
        yield server
    finally:
        server.process.kill()
        server.process.wait(30)
        server.close()


def in_threads(work: Callable[[int], Any], n: int) -> list[Any]:
    """What `work` gives for 0 to n - 1, at once."""
    results: list[Any] = [None] * n

    def one(number: int) -> None:
        try:
            results[number] = work(number)
        except Exception as error:
            results[number] = error

    threads = [threading.Thread(target=one, args=(number,)) for number in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(180)
    return results


def close(values: Any, others: Any) -> None:
    """Both are the same to 1e-9."""
    np.testing.assert_allclose(np.asarray(values, float), np.asarray(others, float), rtol=0, atol=1e-9)
