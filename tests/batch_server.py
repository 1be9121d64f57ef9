"""A provider's files and batches on a real socket, with one of the servers of `faults.py` behind them.

    with BatchServer("openai_chat", [Plan(answers=3, ends="expired")]) as server:
        ...  # server.batches.paid counts how often each custom_id was answered

A batch's requests are answered as the live endpoint would, in another order than they came.
"""

from __future__ import annotations

import dataclasses
import json
import random
import socket
import sqlite3
import threading
import time
import urllib.parse
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from contract import requests_for
from faults import FakeServer, Fault, RefusalError, Request

from llmclf import Prompt
from llmclf.backends import OpenAIBackend
from llmclf.backends.http import client

CHAT = Prompt("Review: {{ text }}\nGood or bad?", instruction="Judge films.", chat=True)
_PAGE = 2  # batches on a page of the list, whatever is asked for


@dataclass(frozen=True)
class Plan:
    """What becomes of a batch.

    Parameters
    ----------
    answers : int, optional
        How many requests are answered before the batch ends; the others go to the error file as ``batch_expired`` and the like.
    ends : str
        The last status.
    looks : int
        How often it is found under way before that.
    statuses : dict
        An HTTP status other than 200 for the requests at some places.
    change : callable, optional
        Takes the lines of the output file and returns others.
    errors : list of dict
        Why the batch fails at once.
    refusal : dict
        What a refused line's body is.
    is_silent : bool
        Requests that are not answered are not in the error file.
    """

    answers: int | None = None
    ends: str = "completed"
    looks: int = 0
    statuses: dict[int, int] = field(default_factory=dict)
    change: Callable[[list[str]], list[str]] | None = None
    errors: Sequence[dict[str, Any]] = ()
    refusal: Any = None
    is_silent: bool = False


class Batches:
    """Files and batches over a personality; all other requests go to it as they come.

    Attributes
    ----------
    files : dict
        The text of each file by its id.
    batches : list of dict
        Batch objects, oldest first.
    paid : Counter
        How often each custom_id was answered.
    after : callable, optional
        Called with each request when it has had its effect and its reply is not yet sent.
    """

    def __init__(self, inner: Any, plans: Iterable[Plan]) -> None:
        self.inner = inner
        self.files: dict[str, str] = {}
        self.batches: list[dict[str, Any]] = []
        self.paid: Counter[str] = Counter()
        self.after: Callable[[Request], None] | None = None
        self.lists = True  # whether the server lists its batches
        self.query = threading.local()
        self._plans = iter(plans)
        self._looks: dict[str, tuple[Plan, int]] = {}
        self._outcomes: dict[str, dict[str, Any]] = {}
        self._lock = threading.Lock()
        self._answered: dict[str, tuple[int, Any]] = {}

    def reply(self, request: Request) -> tuple[int, Any]:
        _, version, kind, *rest = [*request.path.split("/"), ""]
        if version != "v1" or kind not in ("files", "batches"):
            return self._answer(request)
        with self._lock:
            try:
                found = 200, self._reply(kind, [part for part in rest if part], request)
            except RefusalError as refusal:
                found = refusal.status, refusal.body
            if self.after is not None:
                self.after(request)
        return found

    def lines(self, place: int) -> list[dict[str, Any]]:
        """The requests of a batch."""
        return [json.loads(line) for line in self.files[self.batches[place]["input_file_id"]].splitlines()]

    def _answer(self, request: Request) -> tuple[int, Any]:
        """The same answer to the same question, live or not: what is drawn at random differs between two runs else."""
        question = json.dumps([request.path, request.body], sort_keys=True)
        if question not in self._answered:
            self._answered[question] = self.inner.reply(request)
        return self._answered[question]

    def _reply(self, kind: str, rest: list[str], request: Request) -> Any:
        if kind == "files" and request.method == "POST":
            return self._upload(request)
        if kind == "files":
            return self._known(self.files, rest[0])
        if request.method == "POST":
            return self._create(request.body)
        if not rest:
            return self._page()
        return self._look(self._known({batch["id"]: batch for batch in self.batches}, rest[0]))

    def _known(self, found: dict[str, Any], name: str) -> Any:
        if urllib.parse.unquote(name) not in found:
            raise RefusalError(404, {"error": {"message": f"No such object: {name}"}})
        return found[urllib.parse.unquote(name)]

    def _upload(self, request: Request) -> Any:
        boundary = request.headers["content-type"].partition("boundary=")[2].encode()
        parts = {}
        for part in request.body.split(b"--" + boundary)[1:-1]:
            head, _, content = part.partition(b"\r\n\r\n")
            parts[head.partition(b'name="')[2].partition(b'"')[0]] = content.removesuffix(b"\r\n")
        assert parts[b"purpose"] == b"batch"
        return {"id": self._keep(parts[b"file"].decode()), "object": "file", "purpose": "batch"}

    def _keep(self, text: str) -> str:
        name = f"file-{len(self.files)}"
        self.files[name] = text
        return name

    def _create(self, body: Any) -> Any:
        if body["input_file_id"] not in self.files:
            raise RefusalError(400, {"error": {"message": "no such file"}})
        assert body["completion_window"] == "24h"
        plan = next(self._plans, Plan())
        errors = list(plan.errors) or self._problems(body)
        batch = {
            "id": f"batch_{len(self.batches)}",
            "object": "batch",
            "endpoint": body["endpoint"],
            "input_file_id": body["input_file_id"],
            "metadata": body.get("metadata"),
            "status": "validating",
            "errors": None,
            "output_file_id": None,
            "error_file_id": None,
            "created_at": int(time.time()),
            "request_counts": {"total": 0, "completed": 0, "failed": 0},
        }
        if errors:
            plan = dataclasses.replace(plan, ends="failed", errors=errors)
        self.batches.append(batch)
        # It is worked on, and paid for, whether or not anybody ever looks at it.
        self._outcomes[batch["id"]] = self._outcome(batch, plan)
        self._looks[batch["id"]] = plan, 0
        return batch

    def _problems(self, body: Any) -> list[dict[str, Any]]:
        """What a provider finds wrong with a request file."""
        seen: set[str] = set()
        for number, text in enumerate(self.files[body["input_file_id"]].splitlines(), 1):
            line = json.loads(text)
            if line["custom_id"] in seen:
                return [{"code": "duplicate_custom_id", "line": number, "message": "The custom_id is duplicated."}]
            if (line["url"], line["method"]) != (body["endpoint"], "POST"):
                return [{"code": "url_mismatch", "line": number, "message": "The url does not match the endpoint."}]
            seen.add(line["custom_id"])
        return [] if seen else [{"code": "empty_file", "message": "The file is empty."}]

    def _page(self) -> Any:
        if not self.lists:
            raise RefusalError(405, {"error": {"message": "Method Not Allowed"}})
        newest_first = self.batches[::-1]
        asked = urllib.parse.parse_qs(getattr(self.query, "text", ""))
        after = asked.get("after", [""])[0]
        start = next((i + 1 for i, batch in enumerate(newest_first) if batch["id"] == after), 0)
        page = newest_first[start : start + _PAGE]
        return {"object": "list", "data": page, "has_more": start + _PAGE < len(newest_first)}

    def _look(self, batch: dict[str, Any]) -> Any:
        if batch["status"] in ("completed", "expired", "cancelled", "failed"):
            return batch
        plan, n = self._looks[batch["id"]]
        self._looks[batch["id"]] = plan, n + 1
        if n < plan.looks:
            on_the_way = ["in_progress", "finalizing" if plan.ends == "completed" else "cancelling"]
            batch["status"] = on_the_way[n == plan.looks - 1]
            return batch
        batch |= self._outcomes.pop(batch["id"])
        return batch

    def _outcome(self, batch: dict[str, Any], plan: Plan) -> dict[str, Any]:
        """What a batch is at its end."""
        end: dict[str, Any] = {"status": plan.ends}
        if plan.errors:
            return {**end, "errors": {"object": "list", "data": list(plan.errors)}}
        lines = [json.loads(line) for line in self.files[batch["input_file_id"]].splitlines()]
        n = len(lines) if plan.answers is None else plan.answers
        output, errors = [], []
        for place, line in enumerate(lines):
            custom_id, status = line["custom_id"], plan.statuses.get(place, 200)
            if place >= n:
                why = {"code": f"batch_{plan.ends}", "message": "This request could not be executed in time."}
                errors += [] if plan.is_silent else [{"custom_id": custom_id, "response": None, "error": why}]
                continue
            body = plan.refusal or {"error": {"message": f"this is a {status}", "code": status}}
            if status == 200:
                status, body = self._answer(Request(line["url"], "POST", 0.0, {}, line["body"]))
            response = {"status_code": status, "request_id": f"req_{place}", "body": body}
            (output if status == 200 else errors).append({"custom_id": custom_id, "response": response, "error": None})
            self.paid[custom_id] += status == 200
        shuffled = random.Random(len(self.batches))
        shuffled.shuffle(output)
        shuffled.shuffle(errors)
        texts = [json.dumps({"id": f"batch_req_{i}", **line}) for i, line in enumerate(output)]
        texts = plan.change(texts) if plan.change else texts
        if texts:
            end["output_file_id"] = self._keep("".join(f"{text}\n" for text in texts))
        if errors:
            end["error_file_id"] = self._keep("".join(json.dumps(line) + "\n" for line in errors))
        return {**end, "request_counts": {"total": len(lines), "completed": len(output), "failed": len(errors)}}


class BatchServer(FakeServer):
    """A `FakeServer` that takes batches; the first of them go by `plans`, all others as they should."""

    def __init__(
        self,
        personality: str = "openai_chat",
        plans: Iterable[Plan] = (),
        faults: Iterable[Fault | None] | Callable[[Request], Fault | None] = (),
        **options: Any,
    ) -> None:
        super().__init__(personality, faults, **options)
        self.batches = Batches(self.personality, plans)
        self.personality = self.batches

    def _serve(self, connection: socket.socket) -> None:
        super()._serve(_Tap(connection, self.batches.query))


class _Tap:
    """A connection that notes the query of the request that comes over it."""

    def __init__(self, connection: socket.socket, query: Any) -> None:
        self._connection = connection
        self._query = query

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def __hash__(self) -> int:
        return hash(self._connection)

    def __eq__(self, other: object) -> bool:
        return self._connection == other

    def recv(self, n: int) -> bytes:
        found = self._connection.recv(n)
        if found.startswith(b"GET "):
            self._query.text = found.split(b" ")[1].partition(b"?")[2].decode()
        return found


def opened(path: str) -> sqlite3.Connection:
    """A database as a job's journal hands it over."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    return connection


def label(url: str, path: str, texts: Sequence[str], personality: str, options: dict[str, Any]) -> None:
    """A job in a process of its own: rows that are not yet in the table ``answers`` are asked about and put there."""
    client._FIRST_WAIT = 0.001
    connection = opened(path)
    connection.execute("CREATE TABLE IF NOT EXISTS answers (place INTEGER PRIMARY KEY, value TEXT NOT NULL)")
    known = {place for (place,) in connection.execute("SELECT place FROM answers")}
    todo = [place for place in range(len(texts)) if place not in known]
    if not todo:
        return
    is_chat = personality == "openai_chat"
    prompt = {"prompt": CHAT, "shots": ()} if is_chat else {}
    requests = requests_for([texts[place] for place in todo], ["positive", "negative"], **prompt)
    backend = OpenAIBackend("openai:tiny", base_url=url, max_retries=1)
    for group in backend.batch_stream(iter(requests), connection, **options):
        connection.execute("BEGIN IMMEDIATE")
        for i, scores in group:
            connection.execute("INSERT INTO answers VALUES (?, ?)", (todo[i], json.dumps(scores.to_json())))
        connection.execute("COMMIT")
