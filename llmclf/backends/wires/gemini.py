"""Google's native API for Gemini (``generateContent``)."""

from __future__ import annotations

import urllib.parse
from collections.abc import Mapping
from typing import Any

from ..answers.generates import GeneratedText, GenerationRequest, Stop
from ..http.replies import BadReplyError, expect, mapping, sequence, string
from .base import Wire, check_answered, check_can_say, check_number, system_and_rest
from .token_replies import Entry, Position, checked_positions, known_logprob

_STOPS: dict[str, Stop] = {
    "STOP": "end",
    "MAX_TOKENS": "length",
    **dict.fromkeys(
        ("SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "LANGUAGE", "IMAGE_SAFETY", "MODEL_ARMOR"),
        "refusal",
    ),
}
_FOLDERS = ("models", "tunedModels")
_ROLES = {"assistant": "model"}
_MOST_CANDIDATES = 8
_MOST_STOPS = 5


class GeminiContent(Wire):
    """``/models/NAME:generateContent``: the answer is the text of a candidate's parts; thoughts are left out."""

    name = "gemini"
    title = "Gemini's API"
    limits = ("maxOutputTokens",)
    takes_n = True
    takes_seed = True

    def path(self, model: str, *, is_chat: bool) -> str:
        folder, _, name = model.rpartition("/")
        if folder not in _FOLDERS:
            folder, name = _FOLDERS[0], model
        return f"/{folder}/{urllib.parse.quote(name, safe='')}:generateContent"

    def body(
        self, model: str, request: GenerationRequest, *, top_logprobs: int = 0, limit: str | None = None
    ) -> dict[str, Any]:
        check_can_say(self, request, top_logprobs)
        system, turns = system_and_rest(request.turns)
        config: dict[str, Any] = {"maxOutputTokens": request.max_tokens, "temperature": request.temperature}
        if request.n > 1:
            config["candidateCount"] = min(request.n, _MOST_CANDIDATES)
        if request.seed is not None:
            config["seed"] = request.seed
        if request.stop:
            config["stopSequences"] = list(request.stop[:_MOST_STOPS])
        if request.schema is not None:
            config |= {"responseMimeType": "application/json", "responseJsonSchema": dict(request.schema)}
        if request.effort is not None:
            config["thinkingConfig"] = (
                {"thinkingBudget": 0} if request.effort == "none" else {"thinkingLevel": request.effort}
            )
        if top_logprobs:
            config |= {"responseLogprobs": True, "logprobs": top_logprobs}
        contents = [{"role": _ROLES.get(str(turn.role), turn.role), "parts": [{"text": turn.text}]} for turn in turns]
        body: dict[str, Any] = {"contents": contents, "generationConfig": config}
        return {**body, "systemInstruction": {"parts": [{"text": system}]}} if system else body

    def texts(self, reply: Any, n: int) -> list[GeneratedText]:
        return [_written(candidate) for candidate in _candidates(reply, n)] or [_blocked(reply)]

    def positions(self, reply: Any) -> list[Position]:
        candidates = _candidates(reply, 1)
        answer = _written(candidates[0]) if candidates else _blocked(reply)
        stated = candidates[0].get("logprobsResult") if candidates else None
        if answer.stop == "refusal" or not (stated or answer.text):
            check_answered(answer, ())
            return []
        expect(stated is not None, "the candidate has no log-probabilities")
        result = mapping(stated, "logprobsResult")
        chosen = sequence(result.get("chosenCandidates"), "chosenCandidates")
        tops = sequence(result.get("topCandidates"), "topCandidates", len(chosen))
        positions = checked_positions([_position(one, top) for one, top in zip(chosen, tops, strict=True)])
        check_answered(answer, positions)
        return positions


def _candidates(reply: Any, n: int) -> list[Mapping[str, Any]]:
    """The candidates in the order of their places; none where the prompt was blocked."""
    stated = sequence(mapping(reply, "the reply").get("candidates") or [], "candidates")
    check_number("candidates", stated, n)
    placed: dict[int, Mapping[str, Any]] = {}
    for candidate in stated:
        index = mapping(candidate, "a candidate").get("index", 0)  # a place of 0 is left out
        if type(index) is not int or not 0 <= index < n or index in placed:
            raise BadReplyError(f"a candidate has no index of its own between 0 and {n - 1}")
        placed[index] = candidate
    return [placed[index] for index in sorted(placed)]


def _written(candidate: Mapping[str, Any]) -> GeneratedText:
    stop = _STOPS.get(string(candidate.get("finishReason"), "finishReason"), "other")
    content = mapping(candidate.get("content") or {}, "content")  # a candidate that was cut off at once has none
    texts = []
    for part in sequence(content.get("parts") or [], "parts"):
        if "text" in mapping(part, "a part") and not part.get("thought"):
            texts.append(string(part["text"], "text"))
    return GeneratedText("".join(texts) or str(candidate.get("finishMessage") or "") * (stop == "refusal"), stop)


def _blocked(reply: Mapping[str, Any]) -> GeneratedText:
    """What is said where nothing was written."""
    reason = mapping(reply.get("promptFeedback") or {}, "promptFeedback").get("blockReason")
    expect(isinstance(reason, str), "there are no candidates, and no reason why")
    return GeneratedText(f"the prompt was blocked ({reason})", "refusal")


def _position(chosen: Any, top: Any) -> Position:
    shown = sequence(mapping(top, "a place of topCandidates").get("candidates") or [], "candidates")
    return Position(_entry(chosen), tuple(_entry(entry) for entry in shown))


def _entry(stated: Any) -> Entry:
    item = mapping(stated, "a token")
    token = item.get("tokenId")
    text = string(item.get("token"), "token").encode("utf-8", "surrogatepass")
    # A log-probability of 0 is left out.
    return Entry(token if type(token) is int else None, text, known_logprob(item.get("logProbability", 0.0)))
