"""What hosted providers answer, by their documentation, with the tiny model behind it.

Their own servers were never asked. Each personality refuses what its provider refuses, and has the shapes of its replies, its
errors and its counts. `serving` runs one in a process of its own; without it, ``FakeServer(name)`` runs one in threads.
"""

from __future__ import annotations

import functools
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import servers
from faults import (
    CONTEXT,
    PERSONALITIES,
    FakeServer,
    OpenAIChat,
    OpenAILegacy,
    Personality,
    RefusalError,
    Request,
    Step,
    TinyModel,
    _top,
    generate,
)

_TURNS = {"model": "assistant"}


class Writes(Personality):
    """What all of these share: an answer of the tiny model, drawn or the likeliest."""

    def wrote(self, prompt: str, n_tokens: int, temperature: float) -> tuple[str, list[Step], str]:
        """Text, tokens without the one that ended the answer, and the reason of the end."""
        ids = self.model.encode(prompt)
        steps, reason = generate(
            self.model, ids, min(n_tokens, CONTEXT - len(ids)), temperature=temperature, rng=self._rng
        )
        steps = [step for step in steps if step.token != self.model.eos_id]
        return self.model.decode(step.token for step in steps), steps, reason

    def n_tokens(self, text: str) -> int:
        return len(self.model.encode(text))


class Responses(OpenAIChat, Writes):
    """OpenAI's Responses API; its chats show no log-probabilities."""

    has_logprobs = False

    def __init__(self, model: TinyModel, name: str) -> None:
        super().__init__(model, name)
        self.routes |= {"/v1/responses": self._responses}

    def _responses(self, body: Any) -> Any:
        known = {
            "model",
            "input",
            "max_output_tokens",
            "temperature",
            "store",
            "include",
            "top_logprobs",
            "text",
            "reasoning",
        }
        for name in body:
            if name not in known:
                raise self.refuse(f"Unknown parameter: '{name}'.", name)
        if body["max_output_tokens"] < 16:
            message = "Invalid 'max_output_tokens': integer below minimum value. Expected a value >= 16."
            raise self.refuse(message, "max_output_tokens")
        prompt = self.model.chat(body["input"])
        text, steps, reason = self.wrote(prompt, body["max_output_tokens"], body["temperature"])
        part: dict[str, Any] = {"type": "output_text", "annotations": [], "logprobs": [], "text": text}
        if body.get("include") == ["message.output_text.logprobs"]:
            part["logprobs"] = self.chat_logprobs(steps, body.get("top_logprobs", 0))["content"]
        status = "completed" if reason == "stop" else "incomplete"
        return {
            "id": "resp_67ccd2bed1ec8190b14f964abc0542670bb6a6b452d3795b",
            "object": "response",
            "created_at": 1741476542,
            "status": status,
            "error": None,
            "incomplete_details": None if status == "completed" else {"reason": "max_output_tokens"},
            "model": self.name,
            "output": [
                {"id": "rs_1", "type": "reasoning", "summary": []},
                {"id": "msg_1", "type": "message", "status": status, "role": "assistant", "content": [part]},
            ],
            "store": False,
            "usage": {
                "input_tokens": self.n_tokens(prompt),
                "input_tokens_details": {"cached_tokens": 0},
                "output_tokens": len(steps),
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": self.n_tokens(prompt) + len(steps),
            },
        }


class Reasons(OpenAIChat):
    """A newer model of OpenAI's: log-probabilities only without reasoning."""

    def _chat(self, body: Any) -> Any:
        if "max_tokens" in body:
            message = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
            raise self.refuse(message, "max_tokens")
        if body.get("logprobs") and body.get("reasoning_effort") != "none":
            raise self.refuse("You are not allowed to request logprobs from this model", "logprobs")
        return super()._chat(body)


class Anthropic(Writes):
    """Anthropic's Messages API."""

    known = frozenset(
        ("model", "max_tokens", "messages", "system", "temperature", "stop_sequences", "output_config", "thinking")
    )

    def __init__(self, model: TinyModel, name: str) -> None:
        super().__init__(model, name)
        self.routes = {"/v1/messages": self._messages}
        self._headers: dict[str, str] = {}

    def reply(self, request: Request) -> tuple[int, Any]:
        self._headers = request.headers
        return super().reply(request)

    def has_key(self, headers: dict[str, str], key: str) -> bool:
        return headers.get("x-api-key") == key

    def wrong_key(self) -> tuple[int, Any]:
        return 401, self.error("authentication_error", "invalid x-api-key")

    def not_found(self, path: str) -> Any:
        return self.error("not_found_error", "Not Found")

    def error(self, kind: str, message: str) -> Any:
        return {
            "type": "error",
            "error": {"type": kind, "message": message},
            "request_id": "req_011CSHoEeqs5C35K2UUqR7Fy",
        }

    def _messages(self, body: Any) -> Any:
        if self._headers.get("anthropic-version") != "2023-06-01":
            raise RefusalError(400, self.error("invalid_request_error", "anthropic-version: header is required"))
        if body["model"] != self.name:
            raise RefusalError(404, self.error("not_found_error", f"model: {body['model']}"))
        for name in body:
            if name not in self.known:
                message = f"{name}: Extra inputs are not permitted"
                raise RefusalError(400, self.error("invalid_request_error", message))
        if any(turn["role"] not in ("user", "assistant") for turn in body["messages"]):
            raise RefusalError(400, self.error("invalid_request_error", "messages: Unexpected role"))
        system = [{"role": "system", "content": body["system"]}] if "system" in body else []
        prompt = self.model.chat([*system, *body["messages"]])
        text, steps, reason = self.wrote(prompt, body["max_tokens"], body.get("temperature", 1.0))
        return {
            "id": "msg_013Zva2CMHLNnXjNJJKqJ2EF",
            "type": "message",
            "role": "assistant",
            "model": self.name,
            "content": [
                {"type": "thinking", "thinking": "The film is praised.", "signature": "EqQB"},
                {"type": "text", "text": text},
            ],
            "stop_reason": "end_turn" if reason == "stop" else "max_tokens",
            "stop_sequence": None,
            "usage": {
                "input_tokens": self.n_tokens(prompt),
                "cache_creation_input_tokens": 0,
                "cache_read_input_tokens": 7,
                "output_tokens": len(steps),
            },
        }


class Gemini(Writes):
    """Google's native API: camel case, enumerations in capitals, and zeros left out."""

    most_logprobs = 20

    def __init__(self, model: TinyModel, name: str) -> None:
        super().__init__(model, name)
        self.prefix = "/v1beta"
        self.routes = {f"/v1beta/models/{name}:generateContent": self._generate}

    def has_key(self, headers: dict[str, str], key: str) -> bool:
        return headers.get("x-goog-api-key") == key

    def wrong_key(self) -> tuple[int, Any]:
        error = {
            "code": 400,
            "message": "API key not valid. Please pass a valid API key.",
            "status": "INVALID_ARGUMENT",
            "details": [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}],
        }
        return 400, {"error": error}

    def not_found(self, path: str) -> Any:
        name = path.rpartition("/")[2].partition(":")[0]
        message = f"models/{name} is not found for API version v1beta, or is not supported for generateContent."
        return {"error": {"code": 404, "message": message, "status": "NOT_FOUND"}}

    def refuse(self, message: str) -> RefusalError:
        return RefusalError(400, {"error": {"code": 400, "message": message, "status": "INVALID_ARGUMENT"}})

    def _generate(self, body: Any) -> Any:
        config = body["generationConfig"]
        for name in body:
            if name not in ("contents", "systemInstruction", "generationConfig", "safetySettings"):
                raise self.refuse(f'Invalid JSON payload received. Unknown name "{name}": Cannot find field.')
        if config.get("logprobs", 0) > self.most_logprobs:
            raise self.refuse("Logprobs should be in the range of 0 to 20.")
        if "logprobs" in config and not config.get("responseLogprobs"):
            raise self.refuse("Logprobs can only be set when responseLogprobs is enabled.")
        turns = [
            {"role": _TURNS.get(turn["role"], turn["role"]), "content": "".join(part["text"] for part in turn["parts"])}
            for turn in body["contents"]
        ]
        if "systemInstruction" in body:
            turns.insert(0, {"role": "system", "content": body["systemInstruction"]["parts"][0]["text"]})
        prompt = self.model.chat(turns)
        written = [
            self.wrote(prompt, config["maxOutputTokens"], config["temperature"])
            for _ in range(config.get("candidateCount", 1))
        ]
        return {
            "candidates": [self._candidate(i, *one, config) for i, one in enumerate(written)],
            "usageMetadata": {
                "promptTokenCount": self.n_tokens(prompt),
                "candidatesTokenCount": sum(len(steps) for _, steps, _ in written),
                "totalTokenCount": self.n_tokens(prompt),
            },
            "modelVersion": self.name,
            "responseId": "Il0taoSYJ5Cez7IP",
        }

    def _candidate(self, place: int, text: str, steps: Sequence[Step], reason: str, config: Any) -> Any:
        candidate: dict[str, Any] = {
            "content": {"role": "model", "parts": [{"text": text}] if text else []},
            "finishReason": "STOP" if reason == "stop" else "MAX_TOKENS",
            "avgLogprobs": -0.25,
        }
        if place:
            candidate["index"] = place
        if config.get("responseLogprobs"):
            k = config.get("logprobs", 0)
            candidate["logprobsResult"] = {
                "chosenCandidates": [self._token(step, step.token) for step in steps],
                "topCandidates": [
                    {"candidates": [self._token(step, t) for t in _top(step.logprobs, k)]} for step in steps
                ],
            }
        return candidate

    def _token(self, step: Step, token: int) -> Any:
        return {"token": self.model.piece(token), "tokenId": token, "logProbability": float(step.logprobs[token])}


class OllamaServer(Writes):
    """Ollama; versions before 0.12.11 ignore the request for log-probabilities."""

    def __init__(self, model: TinyModel, name: str, *, shows: bool = True) -> None:
        super().__init__(model, name)
        self._shows = shows
        self.prefix = ""
        self.routes = {"/api/chat": self._chat, "/api/generate": self._generate}

    def not_found(self, path: str) -> Any:
        return "404 page not found"

    def _chat(self, body: Any) -> Any:
        answer, text = self._answer(body, self.model.chat(body["messages"]))
        return {**answer, "message": {"role": "assistant", "content": text}}

    def _generate(self, body: Any) -> Any:
        answer, text = self._answer(body, body["prompt"])
        return {**answer, "response": text}

    def _answer(self, body: Any, prompt: str) -> tuple[dict[str, Any], str]:
        if body["model"] != self.name:
            raise RefusalError(404, {"error": f"model '{body['model']}' not found"})
        if body.get("top_logprobs", 0) > 20:
            raise RefusalError(400, {"error": "top_logprobs must be between 0 and 20"})
        options = body["options"]
        text, steps, reason = self.wrote(prompt, options["num_predict"], options["temperature"])
        answer = {
            "model": self.name,
            "created_at": "2026-11-11T18:04:03.123456Z",
            "done": True,
            "done_reason": reason,
            "total_duration": 174560334,
            "load_duration": 101397084,
            "prompt_eval_count": self.n_tokens(prompt),
            "prompt_eval_duration": 13074791,
            "eval_count": len(steps),
            "eval_duration": 52479709,
        }
        if self._shows and body.get("logprobs"):
            answer["logprobs"] = self.chat_logprobs(steps, body.get("top_logprobs", 0))["content"]
        return answer, text


class Mistral(OpenAIChat):
    """Mistral: no log-probabilities, and refusals of its own."""

    known = "max_tokens|messages|model|n|random_seed|response_format|safe_prompt|stop|temperature|top_p"

    def _chat(self, body: Any) -> Any:
        if body["model"] != self.name:
            message = f"Invalid model: {body['model']}"
            raise RefusalError(400, {"object": "error", "message": message, "type": "invalid_model", "code": "1500"})
        for name in body:
            if name not in self.known.split("|"):
                detail = [{"type": "extra_forbidden", "loc": ["body", name], "msg": "Extra inputs are not permitted"}]
                raise RefusalError(
                    422, {"object": "error", "message": {"detail": detail}, "type": "invalid_request_error"}
                )
        reply = super()._chat(body)
        for choice in reply["choices"]:
            del choice["logprobs"], choice["message"]["refusal"], choice["message"]["annotations"]
        return reply


class Groq(OpenAIChat):
    """Groq: the parameters are known, and not supported."""

    def _chat(self, body: Any) -> Any:
        if body.get("logprobs"):
            raise self.refuse("`logprobs` is not supported with this model", "logprobs")
        if body.get("n", 1) > 1:
            raise self.refuse("'n' : number must be at most 1", "n")
        return super()._chat(body)


class Xai(OpenAIChat):
    """xAI: eight tokens, and a wrong key with the status of a wrong request."""

    max_logprobs = 8

    def wrong_key(self) -> tuple[int, Any]:
        message = "Incorrect API key provided: xa***ng. You can obtain an API key from the console."
        return 400, {"code": "Client specified an invalid argument", "error": message}


class OpenRouter(OpenAIChat):
    """OpenRouter: whoever is named answers."""

    known = f"{OpenAIChat.known}|provider"

    def _chat(self, body: Any) -> Any:
        return {**super()._chat(body), "provider": body["provider"]["only"][0]}


class DeepSeek(OpenAIChat):
    """Values that are no log-probabilities: what was written has 0, everything else -9999."""

    def chat_logprobs(self, steps: Sequence[Step], k: int, **options: Any) -> dict[str, Any]:
        shown = super().chat_logprobs(steps, k, **options)
        for item in shown["content"]:
            item["logprob"] = 0.0
            for place, entry in enumerate(item["top_logprobs"]):
                entry["logprob"] = -9999.0 if place else 0.0
        return shown


class Together(OpenAILegacy):
    """Together: one text in a completion, and its echo in a list of prompts, with the token that stands before it."""

    def _completions(self, body: Any) -> Any:
        if not isinstance(body["prompt"], str):
            message = "Input validation error: prompt must be a string"
            raise RefusalError(422, {"error": {"message": message, "type": "invalid_request_error", "param": "prompt"}})
        ids = self.model.encode(body["prompt"])
        steps, reason = generate(
            self.model, ids, body["max_tokens"] or 1, temperature=body["temperature"], rng=self._rng
        )
        shown = [(step.token, step.logprobs) for step in steps]
        reply = self.envelope("text.completion", [], self.usage(len(ids), len(steps), 0))
        reply["choices"] = [
            {
                "index": 0,
                "text": self.model.decode(step.token for step in steps),
                "finish_reason": "eos" if reason == "stop" else "length",
                "seed": 1,
                "logprobs": self.completion_logprobs(shown, body.get("logprobs", 0), text=self.model.piece),
            }
        ]
        reply["prompt"] = []
        if body.get("echo"):
            logprobs = self.completion_logprobs(self.echoed(ids), 0, text=self.model.piece)
            tokens = ["<|begin_of_text|>", *logprobs["tokens"]]
            values = [None, self.first(ids), *logprobs["token_logprobs"][1:]]
            reply["prompt"] = [{"text": body["prompt"], "logprobs": {"tokens": tokens, "token_logprobs": values}}]
        return reply

    def first(self, ids: Sequence[int]) -> float:
        """The log-probability of the first token after the one that stands before every text."""
        return float(np.asarray(self.model.logprobs(()))[ids[0]])


PERSONALITIES |= {
    "responses": Responses,
    "reasons": Reasons,
    "anthropic": Anthropic,
    "gemini": Gemini,
    "ollama": OllamaServer,
    "old_ollama": functools.partial(OllamaServer, shows=False),
    "mistral": Mistral,
    "groq": Groq,
    "xai": Xai,
    "openrouter": OpenRouter,
    "deepseek": DeepSeek,
    "together": Together,
}


@contextmanager
def serving(personality: str, folder: Path, *, key: str) -> Iterator[str]:
    """One of them in a process of its own; yields its address."""
    port = servers.free_port()
    command = [sys.executable, str(Path(__file__)), personality, str(port), key]
    with servers.running(command, f"http://127.0.0.1:{port}/ready", folder / f"{personality}.log", seconds=60):
        yield f"http://127.0.0.1:{port}{PERSONALITIES[personality](FakeServer('plain').model, 'tiny').prefix}"


def _main(personality: str, port: str, key: str) -> None:
    server = FakeServer(personality, key=key, port=int(port))
    answered = server.personality.has_key

    def has_key(headers: dict[str, str], key: str) -> bool:
        return answered(headers, key) or "python-urllib" in headers.get("user-agent", "").lower()

    server.personality.has_key = has_key  # type: ignore[method-assign]
    server.personality.routes["/ready"] = lambda body: {}
    with server:
        threading.Event().wait()


if __name__ == "__main__":
    _main(*sys.argv[1:])
