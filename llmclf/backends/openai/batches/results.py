"""The results of a batch: each of its requests is answered, refused, or has to be asked again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ....errors import ServerError
from ...http.client import Client
from ...http.replies import stated_error, token_counts
from ...http.usage import cost_of
from .file_format import ResultLine
from .store import BatchStore, Reply, Tokens


class BatchResults:
    """Reads the lines of a batch in any order; the first good answer to a request counts.

    Parameters
    ----------
    client : Client
        Its usage grows by what was answered; the caller settles the cost.
    store : BatchStore
    requests : mapping
        The requests of the batch by custom_id, with the largest number of tokens that each may have taken.

    Attributes
    ----------
    cost : float
        Cost of the answers that were new.
    final : ServerError or None
        A refusal that every other request would meet, too.
    unknown, repeated, broken : int
        Numbers of lines about other requests, about requests that were already answered, and of lines that cannot be read.
    """

    def __init__(self, client: Client, store: BatchStore, requests: Mapping[str, Tokens]) -> None:
        self.cost = 0.0
        self.final: ServerError | None = None
        self.unknown = self.repeated = self.broken = 0
        self._client = client
        self._store = store
        self._requests = requests
        self._left = set(requests)
        self._refused: dict[str, Reply] = {}
        self._reasons: dict[str, str] = {}

    def add(self, lines: Sequence[ResultLine | None]) -> None:
        """Keep the answers among some lines, and remember the rest."""
        answers: dict[str, Reply] = {}
        for line in lines:
            if line is None:
                self.broken += 1
            elif line.custom_id not in self._requests:
                self.unknown += 1
            elif line.custom_id not in self._left:
                self.repeated += 1
            elif line.status == 200 and stated_error(line.body) is None:
                self._left.discard(line.custom_id)
                answers[line.custom_id] = Reply(self._client.without_key(line.body))
            else:
                self._note(line)
        self._keep(answers)

    def close(self, n: int, status: str, *, is_attempt: bool) -> int:
        """Close the batch in the store; returns how many requests have to be asked again."""
        self._store.add({name: reply for name, reply in self._refused.items() if name in self._left}, {})
        self._left -= set(self._refused)
        lost = self._left - set(self._reasons)
        if lost and status == "completed":
            # The server may have processed them: lost answers count at their maximum cost.
            cost = sum(self._worst(custom_id) for custom_id in lost)
            self._store.add({}, {"cost": cost})
            self.cost += cost
        reasons = {
            name: self._reasons.get(name, f"the batch is {status} and says nothing about this request")
            for name in self._left
        }
        self._store.close(n, status, reasons, is_attempt=is_attempt)
        return len(self._left)

    @property
    def n_mentioned(self) -> int:
        """How many of the requests a line is about."""
        return len(self._requests) - len(self._left - set(self._refused) - set(self._reasons))

    @property
    def oddities(self) -> str:
        """What was wrong with the lines, in words; empty if nothing was."""
        counts = {
            "could not be read": self.broken,
            "answer what was not asked": self.unknown,
            "answer what was answered": self.repeated,
        }
        return ", ".join(f"{n} {what}" for what, n in counts.items() if n)

    def _note(self, line: ResultLine) -> None:
        if line.status is None:
            self._reasons.setdefault(line.custom_id, replace(line, body=self._client.without_key(line.body)).message)
            return
        failure = self._client.refusal(line.status, line.body, {})
        if failure.heals:
            self._reasons.setdefault(line.custom_id, failure.message)
        elif failure.is_final:
            self._reasons.setdefault(line.custom_id, failure.message)
            self.final = self.final or failure.error()
        else:
            self._refused.setdefault(line.custom_id, Reply(error=failure.message, status=line.status))

    def _keep(self, answers: dict[str, Reply]) -> None:
        # A process that died while it read this batch has already counted some of them.
        states = self._store.request_states(list(answers))
        fresh = [name for name in answers if not states[name].is_answered]
        usage = {"requests": len(fresh), "tokens_in": 0, "tokens_cached": 0, "tokens_out": 0, "cost": 0.0}
        for name in fresh:
            counts = token_counts(answers[name].body)
            if counts is None:
                usage["cost"] += self._worst(name)
                continue
            usage["cost"] += self._client.count(*counts)
            for kind, n in zip(("tokens_in", "tokens_cached", "tokens_out"), counts, strict=True):
                usage[kind] += n
        self._store.add(answers, usage)
        self._client.usage.requests += len(fresh)
        self.cost += usage["cost"]

    def _worst(self, custom_id: str) -> float:
        return cost_of(self._client.options.price, *self._requests[custom_id]) or 0.0
