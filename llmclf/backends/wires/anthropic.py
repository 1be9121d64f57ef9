"""Anthropic's Messages API. It has no log-probabilities."""

from __future__ import annotations

from typing import Any

from ...errors import CapabilityError
from ..answers.generates import GeneratedText, GenerationRequest, Stop
from ..http.replies import mapping, string
from .base import Wire, check_can_say, joined_parts, messages, system_and_rest
from .token_replies import Position

_STOPS: dict[str, Stop] = {
    "end_turn": "end",
    "stop_sequence": "end",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "refusal",
}


class AnthropicMessages(Wire):
    """``/v1/messages``: the answer is the text of the content's blocks; blocks of thinking are left out."""

    name = "anthropic"
    title = "Anthropic's Messages API"
    limits = ("max_tokens",)
    shows_logprobs = False

    def path(self, model: str, *, is_chat: bool) -> str:
        return "//v1/messages"

    def body(
        self, model: str, request: GenerationRequest, *, top_logprobs: int = 0, limit: str | None = None
    ) -> dict[str, Any]:
        check_can_say(self, request, top_logprobs)
        system, turns = system_and_rest(request.turns)
        body: dict[str, Any] = {"model": model, "max_tokens": request.max_tokens, "messages": messages(turns)}
        if system:
            body["system"] = system
        if request.temperature != 1.0:  # the default, which newer models want to be left out
            body["temperature"] = request.temperature
        if request.stop:
            body["stop_sequences"] = list(request.stop)
        output: dict[str, Any] = {}
        if request.schema is not None:
            output["format"] = {"type": "json_schema", "schema": dict(request.schema)}
        if request.effort == "none":
            body["thinking"] = {"type": "disabled"}
        elif request.effort is not None:
            output["effort"] = request.effort
        return {**body, "output_config": output} if output else body

    def texts(self, reply: Any, n: int) -> list[GeneratedText]:
        message = mapping(reply, "the reply")
        text = joined_parts(message.get("content"), "content")
        stop = string(message.get("stop_reason"), "stop_reason")
        return [GeneratedText(text, _STOPS.get(stop, "other"))]

    def positions(self, reply: Any) -> list[Position]:
        raise CapabilityError(f"{self.title} has no log-probabilities")
