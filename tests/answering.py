"""A chat server without log-probabilities that answers by a known distribution, for the routes by answers.

    with AnsweringServer(lambda text, labels: [0.7, 0.3]) as server:
        ...  # a FakeServer: server.url, server.requests

It reads the labels that a request lists, as a model would, and knows nothing else of how llmclf asks.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from faults import FakeServer, Personality, RefusalError, tiny_model

Truth = Callable[[str, Sequence[str]], Sequence[float]]
"""The probability of each label after a text; what they leave is that of no label."""


@dataclass
class Manner:
    """How a server answers.

    Attributes
    ----------
    answer : callable
        The words that answer a label; None stands for no label.
    step : float
        Percentage points that stated shares are rounded to; 0 leaves them.
    favour : float
        The weight of a label is multiplied by this for each place at which it stands before others.
    most_answers : int
        Answers of one request.
    takes : set of str
        Of ``n``, ``seed``, ``response_format``, ``temperature`` (other than 1), ``max_completion_tokens`` and
        ``reasoning_effort``.
    change : callable
        Changes a finished choice.
    """

    answer: Callable[[str | None], str] = lambda label: "I cannot say." if label is None else label
    step: float = 1.0
    favour: float = 1.0
    most_answers: int = 128
    takes: frozenset[str] = frozenset(
        {"n", "seed", "response_format", "temperature", "max_completion_tokens", "reasoning_effort"}
    )
    change: Callable[[dict[str, Any]], Any] = lambda choice: None
    state: Callable[[dict[str, float]], str] | None = None
    refuse_rows: Callable[[str], bool] = field(default=lambda text: False)


class AnsweringChat(Personality):
    """Answers with a label that it draws, or states the shares of all."""

    def __init__(self, truth: Truth, manner: Manner, name: str = "tiny") -> None:
        super().__init__(tiny_model(), name)
        self.truth = truth
        self.manner = manner
        self.lock = threading.Lock()
        self.random = np.random.default_rng(0)
        self.routes = {"/v1/chat/completions": self._chat}

    def _chat(self, body: Any) -> Any:
        if body.get("logprobs"):
            raise _refusal("'logprobs' is not supported with this model.")
        for name in ("n", "seed", "response_format", "max_completion_tokens", "reasoning_effort"):
            if name in body and name not in self.manner.takes:
                raise _refusal(f"Unsupported parameter: '{name}'")
        if body.get("temperature", 1.0) != 1.0 and "temperature" not in self.manner.takes:
            raise _refusal("'temperature' does not support this value: only the default (1) is supported.")
        limit = body.get("max_completion_tokens") or body.get("max_tokens")
        text = "\n".join(message["content"] for message in body["messages"])
        if self.manner.refuse_rows(text):
            raise _refusal("The prompt was flagged by the content policy.")
        n = min(body.get("n", 1), self.manner.most_answers)
        with self.lock:
            random = self.random
            if "seed" in body:
                random = np.random.default_rng([body["seed"], *text.encode()])
            answers = [self._answer(text, random, body) for _ in range(n)]
        choices = []
        for index, answer in enumerate(answers):
            words = answer.split(" ")
            is_cut = limit is not None and len(words) > limit
            content = " ".join(words[:limit]) if is_cut else answer
            choice = {
                "index": index,
                "message": {"role": "assistant", "content": content, "refusal": None},
                "finish_reason": "length" if is_cut else "stop",
            }
            changed = self.manner.change(choice)
            choices.append(choice if changed is None else changed)
        n_out = sum(len(answer.split()) for answer in answers)
        usage = {"prompt_tokens": len(text) // 4, "completion_tokens": n_out, "total_tokens": len(text) // 4 + n_out}
        return {
            "id": "chatcmpl-0",
            "object": "chat.completion",
            "created": 1795516432,
            "model": self.name,
            "choices": choices,
            "usage": usage,
        }

    def _answer(self, text: str, random: np.random.Generator, body: Any) -> str:
        labels = drawn_labels(text)
        if labels:
            shares = self._shares(text, labels)
            p = np.array([*shares, max(0.0, 1.0 - sum(shares))])
            place = int(random.choice(len(p), p=p / p.sum()))
            return self.manner.answer(labels[place] if place < len(labels) else None)
        named = named_labels(text)
        if named:
            return self._stated(text, named, is_json="response_format" in body)
        return '{"A": 60, "B": 40}' if "response_format" in body else "Paris"

    def _shares(self, text: str, labels: Sequence[str]) -> list[float]:
        shares = np.array(self.truth(text, labels), dtype=float)
        mass = shares.sum()
        shares *= self.manner.favour ** -np.arange(len(labels), dtype=float)
        return (shares / shares.sum() * mass).tolist()

    def _stated(self, text: str, named: dict[str, str], *, is_json: bool) -> str:
        shares = self._shares(text, list(named.values()))
        total = sum(shares)
        percent = {code: 100.0 * share / total for code, share in zip(named, shares, strict=True)}
        if self.manner.step:
            percent = _rounded(percent, self.manner.step)
        if self.manner.state is not None:
            return self.manner.state(percent)
        if is_json:
            return json.dumps(percent)
        return "\n".join(f"{code}: {value:g}" for code, value in percent.items())


def _rounded(percent: dict[str, float], step: float) -> dict[str, float]:
    """Rounded so that the sum stays 100: the largest remainders are rounded up."""
    units = {code: value / step for code, value in percent.items()}
    whole = {code: int(value) for code, value in units.items()}
    left = round(100.0 / step) - sum(whole.values())
    for code in sorted(units, key=lambda code: whole[code] - units[code])[:left]:
        whole[code] += 1
    return {code: count * step for code, count in whole.items()}


_ONE, _ALL = "Labels:\n", "How probable is each of these labels"


def drawn_labels(text: str) -> list[str]:
    """The labels of a question that wants one of them; none if it is another. A text may hold a question; the last one counts."""
    if text.rfind(_ONE) <= text.rfind(_ALL):
        return []
    return [line[2:] for line in text.rpartition(_ONE)[2].split("\n\n")[0].splitlines()]


def named_labels(text: str) -> dict[str, str]:
    """The labels of a question that wants all shares, by their codes; none if it is another."""
    if text.rfind(_ALL) <= text.rfind(_ONE):
        return {}
    return dict(re.findall(r"^([A-Z]+): (.*)$", text.rpartition(_ALL)[2], re.MULTILINE))


def _refusal(message: str) -> RefusalError:
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": None}
    return RefusalError(400, {"error": error})


class AnsweringServer(FakeServer):
    """A `FakeServer` with such a chat."""

    def __init__(self, truth: Truth, faults: Any = (), **manner: Any) -> None:
        super().__init__("plain", faults)
        self.personality = AnsweringChat(truth, Manner(**manner))

    @property
    def n_about_rows(self) -> int:
        """Requests about rows: those of the probe are about none."""
        return sum(is_about_row(request.body) for request in self.requests)


def is_about_row(body: Any) -> bool:
    text = "\n".join(message["content"] for message in (body or {}).get("messages", ()))
    return bool(drawn_labels(text) or named_labels(text))
