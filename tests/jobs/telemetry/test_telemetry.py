"""A job seen from outside: events, heartbeat, metrics and summary, whether it finishes, fails or is interrupted."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import jsonschema
import pandas as pd
import pytest
from faults import FakeServer, Status, backend_for, rows_asked
from servers import free_port

from llmclf import Prompt
from llmclf.backends import FakeBackend
from llmclf.errors import InputError, JobError, MissingDependencyError, StoreError
from llmclf.jobs import label_table
from llmclf.jobs.telemetry.metrics import Metrics
from llmclf.tables.files import write_table

pytestmark = pytest.mark.usefixtures("no_waiting")
TABLE = pd.DataFrame({"text": [f"<review {i}>" for i in range(60)]})
COMMON = {
    "schema": {"const": 1},
    "time": {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$"},
    "event": {"enum": ["start", "plan", "progress", "retry", "failure", "warning", "message", "end"]},
    "run": {"type": "string"},
}
COUNT = {"type": "integer", "minimum": 0}
OF_EVENT = {
    "start": {name: {"type": "string"} for name in ("version", "input", "output", "journal", "model")} | {"pid": COUNT},
    "plan": dict.fromkeys(("rows", "unaskable", "questions", "answered", "failed", "todo"), COUNT),
    "progress": {
        "stage": {"enum": ["starting", "reading", "labelling", "writing"]},
        **dict.fromkeys(("done", "total", "answered", "failed", "written"), COUNT),
        "usage": {"type": "object"},
        "progressed": {"type": "string"},
    },
    "retry": {"count": {"type": "integer", "minimum": 1}, "reason": {"type": "string", "maxLength": 500}},
    "failure": {"count": {"type": "integer", "minimum": 1}, "reason": {"type": "string", "maxLength": 500}},
    "warning": {"message": {"type": "string"}, "category": {"type": "string"}},
    "message": {"message": {"type": "string"}},
    "end": {
        "outcome": {"enum": ["finished", "failed", "interrupted"]},
        "error": {"type": ["string", "null"]},
        "summary": {"type": ["object", "null"]},
    },
}


def check(events: list[dict]) -> None:
    """Each event has the form that the documents give, no key besides, and the end is the last."""
    for event in events:
        properties = COMMON | OF_EVENT[event["event"]]
        schema = {"properties": properties, "required": list(properties), "additionalProperties": False}
        jsonschema.validate(event, schema)
    assert [event["event"] for event in events].count("end") == 1
    assert events[-1]["event"] == "end"


def command(table: Path, output: Path, server: FakeServer, *more) -> list[str]:
    words = ["label", table, output, "--text-column", "text", "--labels", "good,bad", "--chat", "--model", "openai:tiny",
             "--base-url", server.url, "--api-key-env", "", "--concurrency", 6, "--log-format", "json", *more]  # fmt: skip
    return [sys.executable, "-m", "llmclf", *map(str, words)]


@pytest.fixture
def table(tmp_path) -> Path:
    write_table(TABLE, tmp_path / "in.csv")
    return tmp_path / "in.csv"


def asked(server: FakeServer, **options) -> dict:
    backend = backend_for(server, api_key_env="", concurrency=6, **options)
    return {
        "text_column": "text",
        "labels": ["good", "bad"],
        "prompt": Prompt("{{ text }}", chat=True),
        "model": backend,
    }


def test_events_of_a_job_with_retries_and_failures(tmp_path):
    """From the start to the end, each of its form; retries and failures say how many and why, and the logger is as before."""
    seen: list[dict] = []
    lock, n = threading.Lock(), [0]

    def fault(request):
        text = json.dumps(request.body)
        if "<review 5>" in text:
            return Status(400)
        if "<review " in text:
            with lock:
                n[0] += 1
                return Status(503) if n[0] % 10 == 0 else None
        return None

    level = logging.getLogger("llmclf.requests").level
    with FakeServer("openai_chat", fault, latency=0.1) as server:
        done = label_table(TABLE, tmp_path / "out.csv", log=seen.append, log_every=0.1, **asked(server)).summary
    check(seen)
    kinds = [event["event"] for event in seen]
    assert kinds.index("start") < kinds.index("plan") < kinds.index("end")
    assert kinds.index("start") < kinds.index("progress")
    (plan,) = [event for event in seen if event["event"] == "plan"]
    assert (plan["rows"], plan["todo"]) == (60, 60)
    progress = [event["done"] for event in seen if event["event"] == "progress" and event["stage"] == "labelling"]
    assert progress == sorted(progress)
    assert sum(event["count"] for event in seen if event["event"] == "retry") == done.usage["retries"] > 0
    assert all("503" in event["reason"] for event in seen if event["event"] == "retry")
    assert [event["count"] for event in seen if event["event"] == "failure"] == [1]
    assert seen[-1]["summary"] == done.to_dict()
    assert (seen[-1]["outcome"], done.failed) == ("finished", 1)
    assert len({event["run"] for event in seen}) == 1
    logger = logging.getLogger("llmclf.requests")
    assert (logger.level, logger.handlers) == (level, [])


@pytest.mark.kill
@pytest.mark.slow
def test_the_command_writes_events_and_nothing_else(table, tmp_path):
    """Real process, SIGTERM: every line of standard error is an event, and summary and heartbeat say how far it came."""
    summary, heartbeat, port = tmp_path / "s.json", tmp_path / "hb.json", free_port()
    with FakeServer("openai_chat", latency=0.2) as server:
        more = ["--log-every", 0.2, "--summary", summary, "--heartbeat", heartbeat, "--metrics-port", port]
        process = subprocess.Popen(
            command(table, tmp_path / "out.csv", server, *more),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONWARNINGS": "default"},
        )  # fmt: skip
        until = time.monotonic() + 60
        while sum(rows_asked(server).values()) < 20 and time.monotonic() < until:
            time.sleep(0.01)
        alive = json.loads(heartbeat.read_text())
        metrics = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10).read().decode()
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    events = [json.loads(line) for line in err.splitlines()]
    check(events)
    assert err.isascii()
    assert (events[-1]["outcome"], events[-1]["error"]) == ("interrupted", "interrupted by SIGTERM")
    assert any("--resume goes on from there" in event.get("message", "") for event in events)
    said = json.loads(summary.read_text())
    assert said == events[-1]["summary"]
    assert (said["outcome"], said["rows"], said["labelled"]) == ("interrupted", 60, 0)
    assert 0 < said["asked"] < 60
    assert (alive["outcome"], alive["pid"], alive["schema"]) == ("running", process.pid, 1)
    last = json.loads(heartbeat.read_text())
    assert (last["outcome"], last["stage"], last["answered"]) == ("interrupted", "ended", said["asked"])
    assert "llmclf_job_questions_to_ask 60.0" in metrics


@pytest.mark.server
def test_a_failure_is_an_event_a_summary_and_the_exit_code(table, tmp_path, run):
    """A server that fails, a table that is missing, a journal that is there: one end each, with the reason; codes stay."""
    summary = tmp_path / "s.json"
    with FakeServer("openai_chat", lambda r: Status(401) if "<review 7>" in json.dumps(r.body) else None) as server:
        words = command(table, tmp_path / "out.csv", server, "--summary", summary)[3:]
        for change, code, reason in (
            ({}, 1, "401"),
            ({}, 2, "--resume"),
            ({str(table): str(tmp_path / "absent.csv"), "out.csv": "x"}, 2, "is not a file"),
        ):
            given = [change.get(word, word) for word in words]
            if change:
                given[2] = str(tmp_path / "other.csv")
            result = run(*given)
            events = [json.loads(line) for line in result.err.splitlines()]
            check(events)
            assert (result.code, result.out) == (code, "")
            assert events[-1]["outcome"] == "failed"
            assert reason in events[-1]["error"]
            said = json.loads(summary.read_text())
            assert (said["outcome"], said["error"]) == ("failed", events[-1]["error"])
        result = run(*words[:2], tmp_path / "job.xlsx", *words[3:], "--rpm", "1", "--log-every", "-1")
        assert [json.loads(line)["event"] for line in result.err.splitlines()] == ["end"]
        assert result.code == 2


def test_a_summary_of_a_job_that_fails_says_what_it_has_done(tmp_path):
    """From Python as well: how many were asked, what that cost, and why it stopped."""
    price = {"input": 1000.0, "output": 1000.0}
    with FakeServer("openai_chat") as server, pytest.raises(JobError):
        label_table(TABLE, tmp_path / "o.csv", summary=tmp_path / "s.json", **asked(server, price=price, max_cost=1.5))
    said = json.loads((tmp_path / "s.json").read_text())
    assert said["outcome"] == "failed"
    assert "max_cost=1.5 is reached" in said["error"]
    assert 0 < said["asked"] < 60
    assert 0 < said["usage"]["cost"] <= 1.5
    with pytest.raises(StoreError, match="cannot be written"):
        label_table(TABLE, text_column="text", labels=["a", "b"], model=FakeBackend(), summary=tmp_path)


def test_the_heartbeat_is_whole_whenever_it_is_read(tmp_path):
    """It is replaced, never rewritten in place; it beats while a server is slow; it ends with the outcome."""
    file = tmp_path / "hb.json"
    times = set()
    with FakeServer("openai_chat", latency=0.3) as server:
        job = threading.Thread(
            target=label_table,
            args=(TABLE[:12], tmp_path / "o.csv"),
            kwargs={"heartbeat": file, "log_every": 0.1, **asked(server)},
        )
        job.start()
        while job.is_alive():
            if file.exists():
                times.add(json.loads(file.read_text())["time"])
            time.sleep(0.01)
        job.join()
    last = json.loads(file.read_text())
    assert len(times) > 3
    assert (last["outcome"], last["answered"], last["written"], last["rows"]) == ("finished", 12, 12, 12)
    with pytest.raises(StoreError, match="cannot be written"):
        label_table(TABLE, text_column="text", labels=["a", "b"], model=FakeBackend(), heartbeat=tmp_path)


@pytest.mark.server
def test_metrics_follow_the_conventions_and_end_with_the_job(tmp_path):
    """Counters end with _total, times are seconds, labels are few; the port is of this machine alone, and free afterwards."""
    from prometheus_client.parser import text_string_to_metric_families

    port, fetched = free_port(), []

    class Looking(FakeBackend):
        def __deepcopy__(self, memo):
            return self

        def score(self, requests):
            for number, answer in enumerate(super().score(requests)):
                if number == 30:
                    url = f"http://127.0.0.1:{port}/metrics"
                    fetched.append(urllib.request.urlopen(url, timeout=10).read().decode())
                yield answer

    options = {"text_column": "text", "labels": ["a", "b"], "metrics_port": port}
    label_table(TABLE, tmp_path / "o.csv", model=Looking(), **options)
    families = {family.name: family for family in text_string_to_metric_families(fetched[0])}
    assert families["llmclf_job_rows"].samples[0].value == 60
    assert {name for name in families if not name.startswith("llmclf_job_")} <= {"llmclf_job"}
    for family in families.values():
        assert family.documentation
        assert len(family.samples) <= 5
        assert family.type != "counter" or all(sample.name.endswith("_total") for sample in family.samples)
    (stage,) = [s.labels["stage"] for s in families["llmclf_job_stage"].samples if s.value]
    assert stage == "labelling"
    with socket.socket() as free:
        free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        free.bind(("127.0.0.1", port))
        free.listen()
        with pytest.raises(StoreError, match=f"cannot be served on 127.0.0.1:{port}"):
            label_table(TABLE, tmp_path / "p.csv", model=FakeBackend(), **options)
    label_table(TABLE, tmp_path / "p.csv", model=FakeBackend(), **options)


@pytest.mark.parametrize("address", ["", "x", "70000", "0", "-1", "host:", "١٢٣", 0, "127.0.0.1:9a"])
def test_addresses_that_are_none(address):
    """What is no port is named, before anything is asked."""
    with pytest.raises(InputError, match="expected a port"):
        Metrics(address)


def test_metrics_without_the_package(monkeypatch, tmp_path):
    """The error says what to install."""
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'llmclf\[metrics\]'"):
        label_table(TABLE, text_column="text", labels=["a", "b"], model=FakeBackend(), metrics_port=9)
