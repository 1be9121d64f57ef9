"""Decision servers on loopback: real ones in processes of their own, and one in a thread that does as it is told.

with DecisionServer(cap=4) as server, sparrow() as url, llama(decision_gguf(folder)) as other:
    ...  # server.url, server.bodies
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

from jevcompat.mock import MockConfig, make_server

_TEMPLATE = """<|im_start|>user
{{ state }}

{{ instructions }}
{% for option in options %}{{ option.label }}. {{ option.key }}{% if option.description %}: {{ option.description }}{% endif %}
{% endfor %}Answer with the letter.<|im_end|>
<|im_start|>assistant
"""
_LLAMA = """
import sys, threading, xllamacpp
params = xllamacpp.CommonParams()
params.model.path, params.hostnames, params.port = sys.argv[1], ["127.0.0.1"], int(sys.argv[2])
params.n_ctx, params.n_parallel, params.warmup, params.fit_params = 2048, 1, False, False
# Several threads wait for each other in a loop, which takes minutes where the cores are shared.
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
server = xllamacpp.Server(params)
threading.Event().wait()
"""


@dataclass(frozen=True)
class Reply:
    """What a `DecisionServer` says instead of an answer."""

    status: int
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)


def softmax(logits: Sequence[float]) -> list[float]:
    weights = [math.exp(logit) for logit in logits]
    return [weight / sum(weights) for weight in weights]


def logit(state: str, option: str) -> float:
    """From -3 to 3, by option and text alone, so that the answers are independent of irrelevant alternatives."""
    digest = hashlib.sha256(f"{state}\0{option}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:4], "big") / 2**32 * 6 - 3


class DecisionServer:
    """Both protocols, with a model that can be computed elsewhere, and every refusal on request.

    Parameters
    ----------
    model : str
        The model that it says it is; changed while it runs, the alias has moved.
    cap : int, optional
        Most options; more are refused with `cap_message`, in which ``{cap}`` and ``{n}`` stand for numbers.
    most_questions : int, optional
        Most questions of one request.
    needs_descriptions : bool
        Options without a description are refused.
    digits : int, optional
        Probabilities are rounded to so many.
    first_bonus : float
        Added to the logit of the option that comes first.
    script : list of Reply or None
        For each next request what to say instead of an answer; None answers.
    reject : str
        A request whose text holds this word is refused with a status of 422.
    refuse : str
        A question whose instructions, or whose text, hold this word is answered by a refusal.
    """

    def __init__(
        self,
        model: str = "model-1.0",
        *,
        cap: int | None = None,
        cap_message: str = "too many options ({n}), this model supports at most {cap}",
        cap_status: int = 422,
        most_questions: int | None = None,
        needs_descriptions: bool = False,
        digits: int | None = None,
        first_bonus: float = 0.0,
        script: Sequence[Reply | None] = (),
        reject: str = "POISON",
        refuse: str = "REFUSE",
    ) -> None:
        self.model = model
        self.cap, self.cap_message, self.cap_status = cap, cap_message, cap_status
        self.most_questions = most_questions
        self.needs_descriptions = needs_descriptions
        self.digits = digits
        self.first_bonus = first_bonus
        self.script = list(script)
        self.reject, self.refuse = reject, refuse
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        handler = type("Handler", (_Handler,), {"owner": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def n_questions(self) -> list[int]:
        """The number of questions of each request, the one on connecting left out."""
        return [len(body["questions"]) for body in self.bodies[1:]]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self.close()
        self._thread.join()

    def close(self) -> None:
        """Give the port back; `answer` still answers."""
        self._server.server_close()

    def probabilities(self, state: str, options: Sequence[str]) -> list[float]:
        bonus = [self.first_bonus, *[0.0] * (len(options) - 1)]
        values = softmax([logit(state, option) + more for option, more in zip(options, bonus, strict=True)])
        return values if self.digits is None else [round(value, self.digits) for value in values]

    def answer(self, path: str, body: dict[str, Any]) -> Reply:
        self.bodies.append(body)
        if self.script and (scripted := self.script.pop(0)) is not None:
            return scripted
        if path not in ("/v1/systemone", "/v1/decisions"):
            return Reply(404, {"detail": f"no route {path}"})
        is_list = path == "/v1/decisions"
        state, questions = body["input" if is_list else "state"], body["questions"]
        if self.reject in state:
            return Reply(422, {"detail": [{"loc": ["body", "state"], "msg": "this text is refused"}]})
        if self.most_questions is not None and len(questions) > self.most_questions:
            return Reply(422, {"detail": f"at most {self.most_questions} questions"})
        answers: dict[str, Any] = {}
        for name, question in [(one["name"], one) for one in questions] if is_list else questions.items():
            options = _options(question, is_list)
            if self.needs_descriptions and question["type"] == "choice" and not _has_descriptions(question, is_list):
                return Reply(422, {"detail": "every option needs a description"})
            if self.cap is not None and question["type"] == "choice" and len(options) > self.cap:
                message = self.cap_message.format(cap=self.cap, n=len(options))
                return Reply(self.cap_status, {"error": {"code": self.cap_status, "message": message}})
            answers[name] = self._answer(state, question, options, is_list)
        usage = {"input_tokens": len(json.dumps(body)) // 4, "output_tokens": 2}
        if is_list:
            named = [{**answer, "name": name} for name, answer in answers.items()]
            return Reply(200, {"model": self.model, "answers": named, "usage": usage})
        return Reply(200, {"model": self.model, "answers": answers, "usage": usage})

    def _answer(self, state: str, question: dict[str, Any], options: list[str], is_list: bool) -> dict[str, Any]:
        if self.refuse in state or self.refuse in question["instructions"]:
            return {"type": "refusal"}
        kind = question["type"]
        values = self.probabilities(state, options)
        # Confidence and choice are nonsense on purpose: nobody should read them.
        nonsense = {"confidence": 7.0, "choice": "nothing"}
        if kind in ("noul", "predicate"):
            return {"type": kind, "noul" if kind == "noul" else "probability": values[1]}
        if kind == "choice" and not is_list:
            return {"type": kind, **nonsense, "probabilities": dict(zip(options, values, strict=True))}
        if kind == "choice":
            pairs = [{"value": option, "probability": p} for option, p in zip(options, values, strict=True)]
            return {"type": kind, **nonsense, "probabilities": pairs[::-1]}
        if not is_list:
            levels = {str(i): p for i, p in enumerate(values)}
            return {"type": kind, "score": 99, "confidence": 7.0, "probabilities": levels}
        items = [{"value": i, "label": option, "probability": values[i]} for i, option in enumerate(options)]
        return {"type": kind, "score": 99, "confidence": 7.0, "probabilities": items}


def _options(question: dict[str, Any], is_list: bool) -> list[str]:
    kind = question["type"]
    if kind == "noul":
        return [question["criteria"]["false"], question["criteria"]["true"]]
    if kind == "predicate":
        found = re.search(r"True means: (.*)\nFalse means: (.*)", question["instructions"])
        assert found is not None
        return [found[2], found[1]]
    if kind == "choice":
        return [one["value"] for one in question["choices"]] if is_list else list(question["criteria"])
    return [one["label"] for one in question["levels"]] if is_list else question["criteria"]


def _has_descriptions(question: dict[str, Any], is_list: bool) -> bool:
    return all(one.get("description") for one in question["choices"]) if is_list else all(question["criteria"].values())


def _is_healthy(url: str) -> bool:
    connection = HTTPConnection(url.removeprefix("http://"), timeout=60)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    finally:
        connection.close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # headers and body in one packet: two of them wait for each other
    owner: DecisionServer

    def log_message(self, *_: object) -> None:
        pass

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.owner.headers.append({name.lower(): value for name, value in self.headers.items()})
        reply = self.owner.answer(self.path, body)
        content = reply.body.encode() if isinstance(reply.body, str) else json.dumps(reply.body).encode()
        self.send_response(reply.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)


@contextmanager
def sparrow() -> Iterator[str]:
    """A real decision model of two megabytes."""
    with _process(lambda port: ["-m", "sparrow_decider.cli", "serve", "--port", str(port)]) as url:
        yield url


@contextmanager
def mock(*arguments: str) -> Iterator[str]:
    """The reference server of the conformance suite, as its command line starts it."""
    start = "import sys; from jevcompat.cli import main; sys.exit(main())"
    with _process(lambda port: ["-c", start, "mock", "--port", str(port), *arguments]) as url:
        yield url


@contextmanager
def faulty_mock(*faults: str, **options: Any) -> Iterator[str]:
    """The same server in a thread, which starts faster, with faults."""
    server = make_server(MockConfig(faults=frozenset(faults), **options))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def llama(model: Path) -> Iterator[str]:
    """llama.cpp's server."""
    with _process(lambda port: ["-c", _LLAMA, str(model), str(port)]) as url:
        while not _is_healthy(url):  # it listens before its model is loaded
            time.sleep(0.05)
        yield url


def decision_gguf(folder: Path) -> Path:
    """The small default model with the metadata that make llama.cpp answer decisions with it: one letter per option."""
    from gguf import GGUFReader, GGUFValueType, GGUFWriter
    from gguf.scripts.gguf_new_metadata import MetadataDetails, copy_with_new_metadata

    from llmclf.downloads import SMOLLM2

    path = folder / "decision.gguf"
    reader = GGUFReader(SMOLLM2.locate())
    architecture = reader.fields["general.architecture"].contents()
    extra = {
        f"{architecture}.decision.type": MetadataDetails(GGUFValueType.STRING, "openjev"),
        "tokenizer.chat_template.systemone": MetadataDetails(GGUFValueType.STRING, _TEMPLATE),
    }
    for kind in ("choice", "score", "noul"):
        key = f"{architecture}.decision.temperature.{kind}"
        extra[key] = MetadataDetails(GGUFValueType.FLOAT32, 1.0)
    writer = GGUFWriter(path, architecture, endianess=reader.endianess)
    copy_with_new_metadata(reader, writer, extra, [])
    return path


@contextmanager
def _process(command: Any) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, *command(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"the server {command(port)[:2]} did not start") from None
                time.sleep(0.02)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)
