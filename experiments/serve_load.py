"""What does serving cost beside asking the classifier in one's own process, alone and by 64 clients at once?

The demo's classifier with four shots (SmolLM2, film reviews) is asked by `predict_proba` here and by `llmclf serve` in processes
of its own, in turn. Beside it stand the servers of sparrow-decider (a small decision model) and of llama.cpp (the same SmolLM2,
as a decision model by letters): other models and other prompts, so their rows say what a client waits, not which is better.
Writes serve_load.md beside itself.

    python experiments/serve_load.py [--singles 200] [--rows 2000] [--other-rows 64] [--clients 64] [--rounds 3]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from http.client import HTTPConnection
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from llmclf import LLMClassifier
from llmclf.cards import load_card

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests"))
from decision_servers import decision_gguf, llama, sparrow  # noqa: E402

LABELS = ["positive", "negative"]


class Load(NamedTuple):
    """What clients saw: rows a second, and the median and the 95th percentile of what an answer took, in seconds."""

    rate: float
    median: float
    p95: float
    statuses: dict[int, int]


# --- a client in a process of its own ------------------------------------------------------------------------------------


def client(url: str, path: str, clients: int, bodies: Path) -> None:
    """Send each line of a file as a body, from so many connections at once; write statuses and seconds as JSON."""
    host, _, port = url.removeprefix("http://").partition(":")
    lines = bodies.read_bytes().splitlines()
    lock, position = threading.Lock(), [0]
    seconds: list[float] = []
    statuses: dict[int, int] = {}

    def work() -> None:
        connection = HTTPConnection(host, int(port), timeout=600)
        while True:
            with lock:
                at = position[0]
                position[0] += 1
            if at >= len(lines):
                break
            began = time.perf_counter()
            connection.request("POST", path, lines[at], {"Content-Type": "application/json"})
            answer = connection.getresponse()
            answer.read()
            took = time.perf_counter() - began
            with lock:
                seconds.append(took)
                statuses[answer.status] = statuses.get(answer.status, 0) + 1
        connection.close()

    threads = [threading.Thread(target=work) for _ in range(clients)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(json.dumps({"whole": time.perf_counter() - began, "seconds": seconds, "statuses": statuses}))


def load(url: str, path: str, clients: int, bodies: Sequence[Any]) -> Load:
    """What so many clients see that send these bodies, one after the other each."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "bodies.jsonl"
        file.write_text("".join(json.dumps(body) + "\n" for body in bodies), encoding="utf-8")
        command = [sys.executable, __file__, "--client", url, path, str(clients), str(file)]
        said = json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
    seconds = said["seconds"]
    statuses = {int(status): n for status, n in said["statuses"].items()}
    rate = statuses.get(200, 0) / said["whole"]
    return Load(rate, statistics.median(seconds), float(np.quantile(seconds, 0.95)), statuses)


# --- the servers -----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def own_server(folder: Path, pass_rows: int) -> Iterator[str]:
    """`llmclf serve`, ready."""
    command = [sys.executable, "-m", "llmclf", "serve", str(folder), "--port", "0", "--pass-rows", str(pass_rows)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert process.stdout is not None
        url = process.stdout.readline().split()[-1]
        host, _, port = url.removeprefix("http://").partition(":")
        while True:
            connection = HTTPConnection(host, int(port), timeout=10)
            connection.request("GET", "/readyz")
            if connection.getresponse().status == 200:
                break
            time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait(60)


def system_one(text: str, options: Sequence[str], model: str = "jev-latest") -> dict[str, Any]:
    question = {
        "type": "choice",
        "instructions": "What does the review say of the film?",
        "criteria": dict.fromkeys(options),
    }
    return {"model": model, "state": text, "questions": {"q": question}}


def single(url: str, bodies: Sequence[Any]) -> list[float]:
    """How long each of some requests takes on one connection, in seconds."""
    host, _, port = url.removeprefix("http://").partition(":")
    connection = HTTPConnection(host, int(port), timeout=600)
    seconds = []
    for body in bodies:
        content = json.dumps(body).encode()
        began = time.perf_counter()
        connection.request("POST", "/v1/systemone", content, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        seconds.append(time.perf_counter() - began)
        assert answer.status == 200, answer.status
    return seconds


def alone(ask: Callable[[str], Any], texts: Sequence[str]) -> list[float]:
    seconds = []
    for text in texts:
        began = time.perf_counter()
        ask(text)
        seconds.append(time.perf_counter() - began)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--singles", type=int, default=200)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--other-rows", type=int, default=64)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pass-rows", type=int, default=32)
    parser.add_argument("--only-own", action="store_true", help="without the other servers")
    parser.add_argument("--client", nargs=4, metavar=("URL", "PATH", "CLIENTS", "FILE"))
    given = parser.parse_args()
    if given.client:
        url, path, clients, file = given.client
        client(url, path, int(clients), Path(file))
        return

    card = load_card("rotten_tomatoes")
    train = card.load("train", n=304)
    texts = card.load("test", n=max(given.rows, given.singles))["text"].tolist()
    texts = (texts * (given.rows // len(texts) + 1))[: max(given.rows, given.singles)]
    texts = [f"{text} ({number})" for number, text in enumerate(texts)]  # equal rows would be asked once
    clf = LLMClassifier(
        "smollm2",
        labels=card.labels,
        prompt=card.prompt_template,
        n_shots=4,
        calibrator="bias_temperature",
        random_state=0,
    )
    clf.fit(train["text"], train["label"])
    classes = [str(one) for one in clf.classes_]
    rows, singles = texts[: given.rows], texts[: given.singles]
    lines: list[tuple[str, str, str, str, str]] = []
    direct, served, whole, loads = [], [], [], []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "reviews"
        clf.save(folder)
        with own_server(folder, given.pass_rows) as url:
            bodies = [system_one(text, classes, "reviews") for text in singles]
            single(url, bodies[:20])
            alone(lambda text: clf.predict_proba([text]), singles[:20])
            clf.predict_proba(rows[:64])
            for _ in range(given.rounds):
                direct += alone(lambda text: clf.predict_proba([text]), singles)
                served += single(url, bodies)
                began = time.perf_counter()
                clf.predict_proba(rows)
                whole.append(len(rows) / (time.perf_counter() - began))
                loads.append(
                    load(url, "/v1/systemone", given.clients, [system_one(text, classes, "reviews") for text in rows])
                )
        overhead = 1000 * (statistics.median(served) - statistics.median(direct))
        rates = [own.rate / other for own, other in zip(loads, whole, strict=True)]
        best = sorted(loads, key=lambda one: one.rate)[len(loads) // 2]
        lines.append(_line("`predict_proba`, one row a call", 1, direct))
        lines.append(("`predict_proba`, all rows in one call", "-", f"{statistics.median(whole):.1f}", "-", "-"))
        lines.append(_line("`llmclf serve`", 1, served))
        lines.append(_loaded("`llmclf serve`", given.clients, best))
        assert all(set(one.statuses) == {200} for one in loads), loads
        if not given.only_own:
            few = [system_one(text, LABELS) for text in rows[: given.other_rows]]
            many = [system_one(text, LABELS) for text in rows]
            with sparrow() as url:
                single(url, many[:20])
                name = "sparrow-decider's server"
                lines.append(_line(name, 1, single(url, many[: given.singles])))
                lines.append(_loaded(name, given.clients, load(url, "/v1/systemone", given.clients, many)))
            with llama(decision_gguf(Path(place))) as url:
                single(url, few[:4])
                name = "llama.cpp's server, one thread"
                lines.append(_line(name, 1, single(url, few)))
                lines.append(_loaded(name, given.clients, load(url, "/v1/systemone", given.clients, few)))
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    threads = os.environ.get("OMP_NUM_THREADS", "all")
    text = f"""\
# What serving costs

The demo's classifier (SmolLM2-135M, film reviews, four shots, calibrated), asked by `predict_proba` in this process and by
`llmclf serve` in its own two, in turn, {given.rounds} rounds: {len(singles)} single texts and {len(rows)} rows a round;
{given.clients} clients send one text a request, each the next one when it has its answer. {os.cpu_count()} cores, which clients,
server and model share (threads of a model: {threads}), Python {platform.python_version()}, starlette {version("starlette")},
uvicorn {version("uvicorn")}. Written by `serve_load.py`.

The server adds **{overhead:.2f} ms** to one text (difference of the medians). {given.clients} clients get
**{statistics.median(rates):.2f}** of the rows per second of one `predict_proba` over all rows (median of the rounds;
{", ".join(f"{rate:.2f}" for rate in rates)}).

| asked by | clients | rows/s | median, ms | 95th percentile, ms |
|---|--:|--:|--:|--:|
{table}

The last two servers have other models (sparrow-decider's has two megabytes) or ask by letters (llama.cpp's, the same SmolLM2,
{given.other_rows} rows), without shots: their lines say what their clients wait here, and nothing of the answers' worth.
"""
    (HERE / "serve_load.md").write_text(text, encoding="utf-8")
    print(text)


def _line(name: str, clients: int, seconds: Sequence[float]) -> tuple[str, str, str, str, str]:
    median, p95 = statistics.median(seconds), float(np.quantile(seconds, 0.95))
    return name, str(clients), f"{1 / median:.1f}", f"{1000 * median:.1f}", f"{1000 * p95:.1f}"


def _loaded(name: str, clients: int, seen: Load) -> tuple[str, str, str, str, str]:
    failed = sum(n for status, n in seen.statuses.items() if status != 200)
    rate = f"{seen.rate:.1f}{f' ({failed} refused)' if failed else ''}"
    return name, str(clients), rate, f"{1000 * seen.median:.1f}", f"{1000 * seen.p95:.1f}"


if __name__ == "__main__":
    main()
