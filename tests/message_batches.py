"""Anthropic's Message Batches on a real socket: answers that state shares, batches that end as planned, and who paid for what."""

from __future__ import annotations

import datetime
import json
import random
import threading
from collections import Counter
from collections.abc import Iterable
from typing import Any

from batch_server import Plan
from faults import FakeServer, RefusalError, Request, TinyModel
from provider_servers import Anthropic

_PATH = "/v1/messages/batches"


class StatesShares(Anthropic):
    """A model that states the same shares of the options whatever it is asked, and takes batches."""

    def __init__(self, model: TinyModel, name: str, plans: Iterable[Plan]) -> None:
        super().__init__(model, name)
        self.batches: list[dict[str, Any]] = []
        self.asked: list[list[dict[str, Any]]] = []
        self.paid: Counter[str] = Counter()
        self._plans = iter(plans)
        self._results: dict[str, str] = {}
        self._looks: dict[str, int] = {}
        self._turn = threading.RLock()

    def reply(self, request: Request) -> tuple[int, Any]:
        self._headers = request.headers
        if not request.path.startswith(_PATH):
            return super().reply(request)
        with self._turn:
            try:
                return 200, self._batch(request)
            except RefusalError as refusal:
                return refusal.status, refusal.body

    def _messages(self, body: Any) -> Any:
        message = super()._messages(body)
        is_schema = "format" in body.get("output_config", {})
        message["content"] = [{"type": "text", "text": '{"A": 70, "B": 30}' if is_schema else "Paris"}]
        return {**message, "stop_reason": "end_turn"}

    def _batch(self, request: Request) -> Any:
        rest = request.path.removeprefix(_PATH).strip("/").split("/")
        if request.method == "POST":
            return self._create(request.body["requests"])
        if rest == [""]:
            newest_first = self.batches[::-1]
            return {"data": newest_first, "has_more": False, "first_id": None, "last_id": None}
        found = next((batch for batch in self.batches if batch["id"] == rest[0]), None)
        if found is None:
            raise RefusalError(404, self.error("not_found_error", f"Batch {rest[0]} not found"))
        if rest[1:] == ["results"]:
            return self._results[rest[0]]
        self._looks[rest[0]] -= 1
        if self._looks[rest[0]] < 0:
            found |= {
                "processing_status": "ended",
                "results_url": f"https://elsewhere.example{_PATH}/{rest[0]}/results",
            }
        return found

    def _create(self, requests: list[dict[str, Any]]) -> Any:
        plan = next(self._plans, Plan())
        name = f"msgbatch_{len(self.batches)}"
        lines, counts = [], Counter[str]()
        for place, one in enumerate(requests):
            if place >= (len(requests) if plan.answers is None else plan.answers):
                result: dict[str, Any] = {"type": "expired"}
            elif place in plan.statuses:
                result = {"type": "errored", "error": self.error("invalid_request_error", "this is refused")}
            else:
                result = {"type": "succeeded", "message": self._messages(one["params"])}
                self.paid[one["custom_id"]] += 1
            counts[result["type"]] += 1
            lines.append(json.dumps({"custom_id": one["custom_id"], "result": result}))
        random.Random(len(self.batches)).shuffle(lines)
        self._results[name] = "".join(f"{line}\n" for line in lines)
        self._looks[name] = plan.looks
        self.asked.append(requests)
        self.batches.append(
            {
                "id": name,
                "type": "message_batch",
                "processing_status": "in_progress",
                "request_counts": {
                    "processing": 0,
                    **{kind: counts[kind] for kind in ("succeeded", "errored", "canceled", "expired")},
                },
                "ended_at": None,
                "created_at": datetime.datetime.now(datetime.UTC).isoformat(),
                "expires_at": None,
                "results_url": None,
            }
        )
        return self.batches[-1]


class MessageBatchServer(FakeServer):
    """A `FakeServer` that takes them."""

    def __init__(self, plans: Iterable[Plan] = (), faults: Any = (), **options: Any) -> None:
        super().__init__("anthropic", faults, **options)
        self.batches = StatesShares(self.model, "tiny", plans)
        self.personality = self._named = self.batches
