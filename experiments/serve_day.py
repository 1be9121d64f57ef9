"""A day of a server, compressed: is any request lost, answered twice or answered with another's numbers, and does memory stay?

Clients send texts that are all different to `llmclf serve`, whose model answers at once from a hash of the prompt, so that the
server is all that is measured. In the middle the process of the model is killed with SIGKILL. Each answer is compared with what
the classifier says of its own text, and at the end what clients counted with what the server's metrics and its log of decisions
say. Writes serve_day.md beside itself.

    python experiments/serve_day.py [--requests 200000] [--clients 32]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import psutil

from llmclf import LLMClassifier
from llmclf.backends import FakeBackend
from llmclf.loading import load_pipeline
from llmclf.monitoring import DecisionLog
from llmclf.pipeline import FittedPipeline
from llmclf.serve.access import Access
from llmclf.serve.event_log import EventLog
from llmclf.serve.limits import Limits
from llmclf.serve.model.answering import Answerer
from llmclf.serve.model.process import run
from llmclf.serve.server import Serving, serve
from llmclf.tables import read_rows

HERE = Path(__file__).resolve().parent
CLASSES = ("bad", "good", "so-so")


def fast(pipeline: FittedPipeline) -> FittedPipeline:
    """The same classifier with a model that answers from a hash."""
    return replace(pipeline, backend=FakeBackend(), calibrated_on=None)


def model_process() -> None:
    """The process of the models, with that model."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def opened(config: Mapping[str, Any]) -> Answerer:
        return Answerer({one["name"]: fast(load_pipeline(one["folder"])) for one in config["classifiers"]}, {})

    run(opened)


def server(folder: Path, log: Path) -> None:
    """The server's own process."""
    serving = Serving(
        [folder],
        None,
        "127.0.0.1",
        0,
        Access(None, is_local=True),
        Limits(),
        EventLog(
            lambda event: print(json.dumps(event), file=sys.stderr, flush=True) if event["event"] != "request" else None
        ),
        decisions=log,
        command=[sys.executable, __file__, "--model-process"],
    )
    serve(serving, lambda host, port: print(port, flush=True))


def megabytes(pid: int) -> float:
    try:
        return psutil.Process(pid).memory_info().rss / 1e6
    except psutil.Error:
        return 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=200_000)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--server", nargs=2, metavar=("FOLDER", "LOG"))
    parser.add_argument("--model-process", action="store_true")
    given = parser.parse_args()
    if given.model_process:
        model_process()
        return
    if given.server:
        server(Path(given.server[0]), Path(given.server[1]))
        return
    with tempfile.TemporaryDirectory() as place:
        day(Path(place), given.requests, given.clients)


def day(place: Path, n: int, n_clients: int) -> None:
    folder, log = place / "moods", place / "log"
    clf = LLMClassifier("smollm2", labels=list(CLASSES), prompt="Review: {{ text }}\nMood:").fit(["any"])
    clf.save(folder)
    pipeline = fast(load_pipeline(folder))
    process = subprocess.Popen(
        [sys.executable, __file__, "--server", str(folder), str(log)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    port = int(process.stdout.readline())
    events: list[dict[str, Any]] = []

    def read() -> None:
        for line in process.stderr:
            try:
                events.append(json.loads(line))
            except ValueError:
                print(line, end="")

    threading.Thread(target=read, daemon=True).start()

    def get(path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}") as reply:
            text: str = reply.read().decode()
            return text

    def model_pid() -> int:
        children = psutil.Process(process.pid).children()
        return children[0].pid if children else 0

    while not any(event["event"] == "model_ready" for event in events):
        time.sleep(0.05)
    lock, position, outcomes = threading.Lock(), [0], Counter[str]()
    wrong: list[str] = []
    given: set[str] = set()  # ids of decisions that clients have got
    memory: list[tuple[int, float, float]] = []
    version = json.loads(get("/v1/models"))["models"][0]["x_llmclf"]["version"]

    def work() -> None:
        connection = HTTPConnection("127.0.0.1", port, timeout=300)
        while True:
            with lock:
                at = position[0]
                position[0] += 1
            if at >= n:
                return
            text = f"a text about the number {at}"
            body = json.dumps({"inputs": [text]}).encode()
            headers = {"Content-Type": "application/json", "X-Request-Id": f"r{at}"}
            ids: list[str] = []
            try:
                connection.request("POST", "/v1/classify", body, headers)
                answer = connection.getresponse()
                said = json.loads(answer.read())
            except Exception as error:
                outcome = type(error).__name__
                connection.close()
            else:
                outcome = str(answer.status)
                if answer.status == 200:
                    row = pipeline.probabilities(pipeline.scores(read_rows([text])))[0]
                    result = said["results"][0]
                    ids.append(result["id"])
                    got = None if result["error"] else [result["probabilities"][one] for one in CLASSES]
                    if got is None or max(abs(a - b) for a, b in zip(got, row.tolist(), strict=True)) > 1e-12:
                        outcome = "error" if got is None else "wrong"
                    if said["request_id"] != f"r{at}":
                        wrong.append(f"r{at}")
            with lock:
                outcomes[outcome] += 1
                given.update(ids)

    began = time.perf_counter()
    threads = [threading.Thread(target=work) for _ in range(n_clients)]
    for thread in threads:
        thread.start()
    is_killed, step = False, max(1, n // 20)
    while any(thread.is_alive() for thread in threads):
        time.sleep(0.05)
        done = sum(outcomes.values())
        if done >= len(memory) * step:
            memory.append((done, megabytes(process.pid), megabytes(model_pid())))
        if not is_killed and done >= n // 2:
            os.kill(model_pid(), signal.SIGKILL)
            is_killed = True
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - began
    memory.append((n, megabytes(process.pid), megabytes(model_pid())))
    metrics = get("/metrics")
    counted = {
        line.rpartition(" ")[0]: float(line.rpartition(" ")[2])
        for line in metrics.splitlines()
        if not line.startswith("#")
    }
    process.send_signal(signal.SIGTERM)
    code = process.wait(120)
    kept = DecisionLog(log, classes=CLASSES, certificate=None, model=f"moods@{version}").read()
    rows = counted.get('llmclf_serve_rows_total{model="moods",outcome="answered"}', 0.0)
    strange = len(kept.ids) - len(given.intersection(kept.ids))
    shown = [memory[len(memory) * i // 5] for i in range(5)] + [memory[-1]]
    table = "\n".join(f"| {done:,} | {web:.0f} | {model:.0f} |" for done, web, model in shown)
    text = f"""\
# A day of a server, compressed

{n:,} requests by {n_clients} clients to `llmclf serve`, whose model is a hash and answers at once, with the log of decisions
on; the process of the model was killed with SIGKILL in the middle. Every answer was compared with what the classifier says of
that request's own text, to 1e-12. {seconds:,.0f} s, {n / seconds:,.0f} requests/s, {os.cpu_count()} cores shared with the
clients, Python {platform.python_version()}. Written by `serve_day.py`.

| what | number |
|---|--:|
| requests sent | {n:,} |
| answered with the right numbers | {outcomes["200"]:,} |
| answered otherwise or not at all | {n - outcomes["200"]:,} ({dict(outcomes)}) |
| answers with another request's id | {len(wrong)} |
| rows that the server counts as answered | {rows:,.0f} |
| decisions in the log | {len(kept.ids):,} |
| decisions that are there twice, or that no client has got | {strange} |
| starts of the process of the model | {counted["llmclf_serve_model_starts"]:.0f} |
| exit code after SIGTERM | {code} |

Memory in MB, of the process that listens and of that of the model:

| requests answered | listens | model |
|--:|--:|--:|
{table}
"""
    (HERE / "serve_day.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
