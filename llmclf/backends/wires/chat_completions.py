"""OpenAI's chat completions, which most servers speak, and the older completions, which continue a text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..answers.generates import GeneratedText, GenerationRequest, Stop
from ..http.replies import BadReplyError, expect, mapping, sequence, string
from .base import Wire, check_answered, check_number, joined_parts, messages, written
from .token_replies import Position, chat_reader

_STOPS: dict[str, Stop] = {
    **dict.fromkeys(("stop", "eos", "eos_token", "stop_sequence"), "end"),
    **dict.fromkeys(("length", "max_tokens", "model_length"), "length"),
    **dict.fromkeys(("content_filter", "refusal", "safety"), "refusal"),
}
_MOST_STOPS = 4


class ChatCompletions(Wire):
    """``/chat/completions``; a plain text goes to ``/completions``."""

    name = "chat"
    title = "an OpenAI-compatible server"
    limits = ("max_completion_tokens", "max_tokens")
    is_openai = True
    continues_text = True
    takes_n = True
    takes_seed = True
    takes_grammar = True

    def path(self, model: str, *, is_chat: bool) -> str:
        return "/chat/completions" if is_chat else "/completions"

    def body(
        self, model: str, request: GenerationRequest, *, top_logprobs: int = 0, limit: str | None = None
    ) -> dict[str, Any]:
        is_chat = request.turns[0].role is not None
        body: dict[str, Any] = {"model": model, "temperature": request.temperature}
        if is_chat:
            body |= {"messages": messages(request.turns), limit or self.limits[0]: request.max_tokens}
            body |= {"logprobs": True, "top_logprobs": top_logprobs} if top_logprobs else {}
        else:
            body |= {"prompt": request.turns[0].text, "max_tokens": request.max_tokens}
            body |= {"logprobs": top_logprobs} if top_logprobs else {}
        if request.n > 1:
            body["n"] = request.n
        if request.seed is not None:
            body["seed"] = request.seed
        if request.stop:
            body["stop"] = list(request.stop[:_MOST_STOPS])
        if request.schema is not None:
            schema = {"name": "answer", "schema": dict(request.schema), "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        if request.grammar is not None:
            body["grammar"] = request.grammar
        if request.effort is not None:
            body["reasoning_effort"] = request.effort
        return body

    def texts(self, reply: Any, n: int) -> list[GeneratedText]:
        return [_written(choice) for choice in some_choices(reply, n)]

    def positions(self, reply: Any) -> list[Position]:
        (choice,) = some_choices(reply, 1)
        answer = _written(choice)
        positions = [] if answer.stop == "refusal" else chat_reader(reply)
        check_answered(answer, positions, is_chat="message" in choice)
        return positions


def some_choices(reply: Any, n: int) -> list[Mapping[str, Any]]:
    """The choices of a reply in the order of their places: at least one, and at most n.

    Raises
    ------
    BadReplyError
        There are none, or two of one place.
    ServerError
        There are more, as there would be each time.
    """
    stated = sequence(mapping(reply, "the reply").get("choices"), "choices")
    expect(len(stated) >= 1, f"choices has 0 items; expected at least 1 and at most {n}")
    check_number("choices", stated, n)
    placed: dict[int, Mapping[str, Any]] = {}
    for choice in stated:
        index = mapping(choice, "a choice").get("index", 0 if len(stated) == 1 else None)
        if type(index) is not int or not 0 <= index < n or index in placed:
            raise BadReplyError(f"a choice has no index of its own between 0 and {n - 1}")
        placed[index] = choice
    return [placed[index] for index in sorted(placed)]


def _written(choice: Mapping[str, Any]) -> GeneratedText:
    stop = _STOPS.get(str(choice.get("finish_reason")), "other")
    if "message" not in choice and "text" in choice:
        return GeneratedText(string(choice["text"], "text"), stop)
    message = mapping(choice.get("message"), "message")
    if isinstance(message.get("refusal"), str) and message["refusal"]:
        return GeneratedText(message["refusal"], "refusal")
    return written(_content(message.get("content")), stop)


def _content(content: str | Sequence[Any] | None) -> str:
    """The text of a message, which comes as a text, in parts, or not at all where only reasoning was written."""
    if content is None:
        return ""
    return joined_parts(content, "content") if isinstance(content, list) else string(content, "content")
