"""Ollama's native API; versions before 0.12.11 show no log-probabilities there, which the probe finds out."""

from __future__ import annotations

from typing import Any

from ..answers.generates import GeneratedText, GenerationRequest, Stop
from ..http.replies import expect, mapping, sequence, string
from .base import Wire, check_answered, check_can_say, messages, written
from .token_replies import Position, listed_positions

_STOPS: dict[str, Stop] = {"stop": "end", "length": "length"}


class Ollama(Wire):
    """``/api/chat``; a plain text goes to ``/api/generate`` as it is, without a template."""

    name = "ollama"
    title = "Ollama"
    limits = ("num_predict",)
    continues_text = True
    takes_seed = True

    def path(self, model: str, *, is_chat: bool) -> str:
        return "//api/chat" if is_chat else "//api/generate"

    def body(
        self, model: str, request: GenerationRequest, *, top_logprobs: int = 0, limit: str | None = None
    ) -> dict[str, Any]:
        check_can_say(self, request, top_logprobs)
        options: dict[str, Any] = {"num_predict": request.max_tokens, "temperature": request.temperature}
        # The defaults of a model's file would change what is drawn from.
        options |= {"top_k": 0, "top_p": 1.0, "min_p": 0.0, "repeat_penalty": 1.0}
        if request.seed is not None:
            options["seed"] = request.seed
        if request.stop:
            options["stop"] = list(request.stop)
        body: dict[str, Any] = {"model": model, "stream": False, "options": options}
        if request.turns[0].role is None:
            body |= {"prompt": request.turns[0].text, "raw": True}
        else:
            body["messages"] = messages(request.turns)
        if top_logprobs:
            body |= {"logprobs": True, "top_logprobs": top_logprobs}
        if request.schema is not None:
            body["format"] = dict(request.schema)
        if request.effort is not None:
            body["think"] = False if request.effort == "none" else request.effort
        elif top_logprobs and request.turns[0].role is not None:
            body["think"] = False  # the tokens shown would be those of the reasoning
        return body

    def texts(self, reply: Any, n: int) -> list[GeneratedText]:
        answer = mapping(reply, "the reply")
        expect(answer.get("done") is True, "the reply is not the whole answer")
        stop = _STOPS.get(str(answer.get("done_reason")), "other")
        if "message" in answer:
            text = string(mapping(answer["message"], "message").get("content"), "content")
        else:
            text = string(answer.get("response"), "response")
        return [written(text, stop)]

    def positions(self, reply: Any) -> list[Position]:
        (answer,) = self.texts(reply, 1)
        items = sequence(reply.get("logprobs") or [], "logprobs")
        expect(
            bool(items) or not answer.text,
            "the reply has no log-probabilities, which Ollama has from version 0.12.11 on",
        )
        positions = listed_positions(items)
        check_answered(answer, positions, is_chat="message" in reply)
        return positions
