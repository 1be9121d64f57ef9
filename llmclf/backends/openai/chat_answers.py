"""Answers of chats as texts: what a request for them says, and what is read from the reply."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..answers.generates import GeneratedText, GenerationRequest, Stop
from ..http.replies import BadReplyError, expect, mapping, sequence

PATH = "/chat/completions"
LIMITS = ("max_completion_tokens", "max_tokens")
"""The parameters that limit an answer, by their age."""
_STOPS: Mapping[Any, Stop] = {
    "stop": "end",
    "eos": "end",
    "end_turn": "end",
    "length": "length",
    "max_tokens": "length",
    "content_filter": "refusal",
    "refusal": "refusal",
}
_THOUGHTS = re.compile(r"\s*<think>.*?</think>", re.DOTALL)
_BEGINNING = "<think>"


@dataclass(frozen=True)
class AnswerFacts:
    """What a server was seen to do with a chat whose answer is read as text.

    Attributes
    ----------
    limit : str
        The parameter that limits the answer.
    schema : bool
        The answer follows a JSON schema (``response_format``).
    choices : bool
        One request gives several answers (``n``).
    seeds : bool
        It takes a seed, whatever it does with it.
    temperatures : bool
        It takes a temperature other than 1.
    """

    limit: str = LIMITS[0]
    schema: bool = False
    choices: bool = False
    seeds: bool = False
    temperatures: bool = True


def answer_body(request: GenerationRequest, facts: AnswerFacts) -> dict[str, Any]:
    """The body of a request, without the model."""
    body: dict[str, Any] = {
        "messages": [{"role": str(turn.role), "content": turn.text} for turn in request.turns],
        facts.limit: request.max_tokens,
    }
    if facts.temperatures or request.temperature == 1.0:
        body["temperature"] = request.temperature
    if request.n > 1:
        body["n"] = request.n
    if request.seed is not None:
        body["seed"] = request.seed
    if request.stop:
        body["stop"] = list(request.stop)
    if request.effort is not None:
        body["reasoning_effort"] = request.effort
    if request.schema is not None:
        described = {"name": "answer", "strict": True, "schema": dict(request.schema)}
        body["response_format"] = {"type": "json_schema", "json_schema": described}
    return body


def read_answers(reply: Any, n: int) -> list[GeneratedText]:
    """The answers in a reply, in the order of their numbers; fewer than `n` where the server does not honour `n`.

    Raises
    ------
    BadReplyError
        It holds none, more than `n`, or something else.
    """
    stated = sequence(mapping(reply, "the reply").get("choices"), "choices")
    expect(1 <= len(stated) <= n, f"choices has {len(stated)} items; expected {n}")
    placed: dict[int, GeneratedText] = {}
    for choice in stated:
        index = mapping(choice, "a choice").get("index")
        if type(index) is not int or not 0 <= index < n or index in placed:
            raise BadReplyError(f"a choice has no index of its own between 0 and {n - 1}")
        placed[index] = _answer(choice)
    return [placed[index] for index in sorted(placed)]


def _answer(choice: Mapping[str, Any]) -> GeneratedText:
    message = mapping(choice.get("message"), "message")
    stop: Stop = _STOPS.get(choice.get("finish_reason"), "other")
    refusal = message.get("refusal")
    if isinstance(refusal, str) and refusal:
        return GeneratedText(refusal, "refusal")
    text = _text(message.get("content"))
    if text.lstrip().startswith(_BEGINNING):
        without = _THOUGHTS.match(text)
        if without is None:  # only the beginning of its thoughts
            return GeneratedText("", "length" if stop == "length" else "other")
        text = text[without.end() :]
    return GeneratedText(text, stop)


def _text(content: Any) -> str:
    """The text of a message: one string, or parts of which some are text; nothing where it is missing."""
    if content is None or isinstance(content, str):
        return content or ""
    parts: Sequence[Any] = sequence(content, "content")
    return "".join(part["text"] for part in parts if isinstance(part, Mapping) and isinstance(part.get("text"), str))
