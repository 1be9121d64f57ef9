"""OpenAI's Responses API; nothing is stored on the server."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..answers.generates import GeneratedText, GenerationRequest, Stop
from ..http.replies import expect, mapping, sequence, string
from .base import Wire, check_answered, check_can_say, messages, written
from .token_replies import Position, listed_positions

_LOGPROBS = "message.output_text.logprobs"


class Responses(Wire):
    """``/responses``: the answer is the text of the messages in the output; reasoning is left out."""

    name = "responses"
    title = "the Responses API"
    limits = ("max_output_tokens",)
    least_tokens = 16
    is_openai = True

    def path(self, model: str, *, is_chat: bool) -> str:
        return "/responses"

    def body(
        self, model: str, request: GenerationRequest, *, top_logprobs: int = 0, limit: str | None = None
    ) -> dict[str, Any]:
        check_can_say(self, request, top_logprobs)
        body: dict[str, Any] = {
            "model": model,
            "input": messages(request.turns),
            "max_output_tokens": max(self.least_tokens, request.max_tokens),
            "temperature": request.temperature,
            "store": False,
        }
        if top_logprobs:
            body |= {"include": [_LOGPROBS], "top_logprobs": top_logprobs}
        if request.schema is not None:
            schema = {"type": "json_schema", "name": "answer", "schema": dict(request.schema), "strict": True}
            body["text"] = {"format": schema}
        if request.effort is not None:
            body["reasoning"] = {"effort": request.effort}
        return body

    def texts(self, reply: Any, n: int) -> list[GeneratedText]:
        parts = list(_parts(reply))
        refusals = [part for part in parts if part.get("type") == "refusal"]
        if refusals:
            return [GeneratedText(string(refusals[0].get("refusal"), "a refusal"), "refusal")]
        text = "".join(string(part.get("text"), "text") for part in parts)
        return [written(text, _stop(reply))]

    def positions(self, reply: Any) -> list[Position]:
        (answer,) = self.texts(reply, 1)
        items: list[Any] = []
        if answer.stop != "refusal":
            for part in _parts(reply):
                items += sequence(part.get("logprobs") or [], "logprobs")
            expect(bool(items) or not answer.text, "the output has no log-probabilities")
        positions = listed_positions(items)
        check_answered(answer, positions)
        return positions


def _parts(reply: Any) -> Iterator[Mapping[str, Any]]:
    """The texts and refusals of a reply's messages."""
    for item in sequence(mapping(reply, "the reply").get("output"), "output"):
        if mapping(item, "an item of the output").get("type") == "message":
            for part in sequence(item.get("content"), "content"):
                if mapping(part, "a part of a message").get("type") in ("output_text", "refusal"):
                    yield part


def _stop(reply: Mapping[str, Any]) -> Stop:
    if reply.get("status") == "completed":
        return "end"
    details = reply.get("incomplete_details")
    reason = details.get("reason") if isinstance(details, Mapping) else None
    stops: dict[str, Stop] = {"max_output_tokens": "length", "content_filter": "refusal"}
    return stops.get(str(reason), "other")
