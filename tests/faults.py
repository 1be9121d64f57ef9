"""A server on a real socket that plays the servers we know, with a tiny model behind it, and misbehaves on request.

    with FakeServer("vllm", faults=[Status(429, headers={"Retry-After": "0.2"})]) as server:
        ...  # server.url, server.requests, server.count("/v1/completions"), server.model.reference(prompt_ids, target_ids)

The model is deterministic: the logits of the next token depend on the last few tokens alone. Replies have the shapes that the
real servers give (vLLM 0.32, llama.cpp 2026.10, SGLang 0.5, OpenAI's), their refusals included.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import math
import re
import select
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from conftest import _byte_bpe_tokenizer

from llmclf.backends.openai.backend import OpenAIBackend

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% if enable_thinking is false %}<think>\n\n</think>\n\n"
    "{% endif %}{% endif %}"
)
CONTEXT = 256  # tokens
_REACH = 4  # tokens that the next one depends on
_BLOCK = 16  # tokens of a block in the prefix cache


# --- what can go wrong -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Status:
    """A status and a body instead of an answer."""

    code: int
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Hang:
    """Nothing for some seconds, then the answer."""

    seconds: float


@dataclass(frozen=True)
class Reset:
    """The connection is reset (RST) before the answer."""


@dataclass(frozen=True)
class Close:
    """The connection is closed in good order before the answer."""


@dataclass(frozen=True)
class Truncate:
    """Half of the body that the headers promise, and the end of the connection."""


@dataclass(frozen=True)
class Trickle:
    """The answer in small pieces, some seconds apart."""

    seconds: float


@dataclass(frozen=True)
class BrokenJson:
    """Status 200 and half of the JSON, as if it were whole."""


@dataclass(frozen=True)
class Html:
    """Status 200 and a page, as from a proxy."""


@dataclass(frozen=True)
class EmptyBody:
    """Status 200 and nothing."""


@dataclass(frozen=True)
class Replace:
    """Status 200 and another JSON."""

    reply: Any


@dataclass(frozen=True)
class Mutate:
    """The answer after a function has changed it."""

    change: Callable[[Any], Any]


Fault = Status | Hang | Reset | Close | Truncate | Trickle | BrokenJson | Html | EmptyBody | Replace | Mutate


@dataclass(eq=False)
class Request:
    """What came in. Times are of `time.monotonic`; `done` is None while the request is under way."""

    path: str
    method: str
    time: float
    headers: dict[str, str]
    body: Any
    done: float | None = None


class RefusalError(Exception):
    """Ends a personality's work with an error reply."""

    def __init__(self, status: int, body: Any) -> None:
        super().__init__(status)
        self.status = status
        self.body = body


# --- the model ---------------------------------------------------------------------------------------------------------


@functools.cache
def _tokenizer_json() -> str:
    text: str = _byte_bpe_tokenizer().to_str()
    return text


@functools.lru_cache(maxsize=50_000)
def _next_logprobs(last: tuple[int, ...], n: int) -> np.ndarray:
    seed = int.from_bytes(hashlib.blake2b(repr(last).encode(), digest_size=8).digest(), "little")
    logits = 2.5 * np.random.default_rng(seed).standard_normal(n)
    logits -= logits.max()
    logprobs = logits - math.log(np.exp(logits).sum())
    logprobs.flags.writeable = False
    return logprobs


class TinyModel:
    """A language model of some 480 tokens; `logprobs(ids)[t]` is the log-probability that t follows."""

    def __init__(self) -> None:
        from tokenizers import Tokenizer

        self.tokenizer = Tokenizer.from_str(_tokenizer_json())
        self._as_text = Tokenizer.from_str(_tokenizer_json())
        self._as_text.encode_special_tokens = True
        self.n_vocab: int = self.tokenizer.get_vocab_size()
        self.special_ids = {self.tokenizer.token_to_id(t) for t in ("<|endoftext|>", "<|im_start|>", "<|im_end|>")}
        self.eos_id: int = self.tokenizer.token_to_id("<|im_end|>")
        to_byte = {character: byte for byte, character in _bytes_to_characters().items()}
        self.token_bytes: list[bytes] = []
        for i in range(self.n_vocab):
            token = self.tokenizer.id_to_token(i)
            self.token_bytes.append(token.encode() if i in self.special_ids else bytes(to_byte[c] for c in token))

    def logprobs(self, ids: Sequence[int]) -> np.ndarray:
        return _next_logprobs(tuple(ids[-_REACH:]), self.n_vocab)

    def reference(self, prompt_ids: Sequence[int], target_ids: Sequence[int]) -> tuple[float, ...]:
        """The log-probability of each target token after all before it."""
        ids = [*prompt_ids, *target_ids]
        return tuple(float(self.logprobs(ids[:i])[ids[i]]) for i in range(len(prompt_ids), len(ids)))

    def encode(self, text: str, *, special: bool = True) -> list[int]:
        """The ids of a text; control tokens in it are read as such, or as text."""
        tokenizer = self.tokenizer if special else self._as_text
        ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def decode(self, ids: Iterable[int], *, special: bool = True) -> str:
        wanted = (i for i in ids if special or i not in self.special_ids)
        return b"".join(self.token_bytes[i] for i in wanted).decode(errors="replace")

    def piece(self, token: int) -> str:
        return self.token_bytes[token].decode(errors="replace")

    def chat(
        self, messages: Sequence[dict[str, str]], *, prompt: bool = True, thinking: bool = True, prefill: bool = False
    ) -> str:
        """The messages in the template; with `prefill` the last one stays open."""
        text = _template().render(messages=messages, add_generation_prompt=prompt, enable_thinking=thinking)
        if prefill:
            last = messages[-1]["content"].strip()
            text = text[: text.rindex(last) + len(last)]
        return text

    def save_tokenizer(self, folder: str | Path) -> Path:
        """Save the tokenizer as `AutoTokenizer` loads it."""
        from tokenizers import Tokenizer
        from transformers import PreTrainedTokenizerFast

        tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=Tokenizer.from_str(_tokenizer_json()),
            eos_token="<|im_end|>",
            pad_token="<|endoftext|>",
            additional_special_tokens=["<|im_start|>", "<|im_end|>"],
        )
        tokenizer.chat_template = CHAT_TEMPLATE
        tokenizer.save_pretrained(folder)
        return Path(folder)


@functools.cache
def _template() -> Any:
    import jinja2

    return jinja2.Environment().from_string(CHAT_TEMPLATE)


@functools.cache
def _bytes_to_characters() -> dict[int, str]:
    """The printable character that stands for each byte in a byte-level vocabulary (as in GPT-2)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(rest)}


@functools.cache
def tiny_model() -> TinyModel:
    return TinyModel()


# --- generation --------------------------------------------------------------------------------------------------------


class Grammar:
    """A small part of GBNF: ``root ::= <[7]> " text" | ...``; says which tokens may come next."""

    def __init__(self, text: str, model: TinyModel) -> None:
        match = re.fullmatch(r"\s*root\s*::=\s*(.*?)\s*", text, re.DOTALL)
        self._model = model
        self._states: list[tuple[int | bytes, ...]] = []
        for rule in re.split(r"\s\|\s", match.group(1)) if match else [""]:
            parts = re.findall(r'<\[(\d+)\]>|"((?:[^"\\]|\\.)*)"', rule)
            rest = re.sub(r'<\[(\d+)\]>|"((?:[^"\\]|\\.)*)"', "", rule)
            if not parts or rest.strip():
                message = "Failed to initialize samplers: failed to parse grammar"
                raise RefusalError(400, {"error": {"code": 400, "message": message, "type": "invalid_request_error"}})
            self._states.append(tuple(int(i) if i else json.loads(f'"{text}"').encode() for i, text in parts))

    def allowed(self) -> list[int]:
        return [token for token in range(self._model.n_vocab) if self._after(token)]

    def advance(self, token: int) -> None:
        self._states = self._after(token)

    def _after(self, token: int) -> list[tuple[int | bytes, ...]]:
        found: list[tuple[int | bytes, ...]] = []
        text = self._model.token_bytes[token]
        for state in self._states:
            if not state:
                if token == self._model.eos_id:
                    found.append(())
            elif isinstance(state[0], int):
                if state[0] == token:
                    found.append(state[1:])
            elif token not in self._model.special_ids and text and state[0].startswith(text):
                rest = state[0][len(text) :]
                found.append((rest, *state[1:]) if rest else state[1:])
        return found


@dataclass(frozen=True)
class Step:
    """One generated token with the log-probabilities that the server reports at its place."""

    token: int
    logprobs: np.ndarray


def generate(
    model: TinyModel,
    ids: Sequence[int],
    n: int,
    *,
    temperature: float,
    rng: np.random.Generator,
    allowed: Sequence[int] | None = None,
    bias: dict[str, float] | None = None,
    grammar: Grammar | None = None,
    processed: bool = False,
    ignore_eos: bool = False,
) -> tuple[list[Step], str]:
    """Up to n tokens and the reason for the end. An end-of-answer token is the last step."""
    ids = list(ids)
    steps: list[Step] = []
    while len(steps) < n:
        raw = model.logprobs(ids)
        scores = raw.copy()
        for token, offset in (bias or {}).items():
            scores[int(token)] += offset
        permitted = grammar.allowed() if grammar else allowed
        if permitted is not None:
            mask = np.full(len(scores), -np.inf)
            mask[list(permitted)] = 0.0
            scores += mask
        if temperature:
            scores = scores / temperature
        scores = scores - scores.max()
        scores -= math.log(np.exp(scores).sum())
        token = int(rng.choice(len(scores), p=np.exp(scores)) if temperature else scores.argmax())
        steps.append(Step(token, scores if processed else raw))
        ids.append(token)
        if grammar:
            grammar.advance(token)
        if token == model.eos_id and not ignore_eos:
            return steps, "stop"
    return steps, "length"


def _top(logprobs: np.ndarray, k: int) -> list[int]:
    return [int(i) for i in np.argsort(-logprobs, kind="stable")[:k]]


# --- personalities -----------------------------------------------------------------------------------------------------


class Personality:
    """What all servers share: routes by path, a prefix cache, and the counting of tokens."""

    def __init__(self, model: TinyModel, name: str) -> None:
        self.model = model
        self.name = name
        self.draws_by_prompt = False
        self.prefix = "/v1"  # of the paths below the address that a user gives
        self._rng = np.random.default_rng(0)
        self._lock = threading.Lock()
        self._cached: set[tuple[int, ...]] = set()
        self.routes: dict[str, Callable[[Any], Any]] = {}

    def reply(self, request: Request) -> tuple[int, Any]:
        route = self.routes.get(request.path)
        if route is None:
            return 404, self.not_found(request.path)
        try:
            with self._lock:
                return 200, route(request.body)
        except RefusalError as refusal:
            return refusal.status, refusal.body

    def not_found(self, path: str) -> Any:
        return {"detail": "Not Found"}

    def has_key(self, headers: dict[str, str], key: str) -> bool:
        """Whether a request carries the key where this server looks for it."""
        return headers.get("authorization") == f"Bearer {key}"

    def wrong_key(self) -> tuple[int, Any]:
        """The refusal of a request without it."""
        return 401, {"error": {"message": "Incorrect API key provided", "code": "invalid_api_key"}}

    def cached(self, ids: Sequence[int], *, is_used: bool = True) -> int:
        """Tokens of a prompt that were in the prefix cache; it is there from now on."""
        found = 0
        for end in range(_BLOCK, len(ids) + 1, _BLOCK):
            prefix = tuple(ids[:end])
            if prefix in self._cached and end < len(ids):
                found = end
            self._cached.add(prefix)
        return found if is_used else 0

    def usage(self, n_in: int, n_out: int, cached: int) -> dict[str, Any]:
        return {
            "prompt_tokens": n_in,
            "total_tokens": n_in + n_out,
            "completion_tokens": n_out,
            "prompt_tokens_details": {"cached_tokens": cached},
        }

    def prompts(self, body: Any) -> list[list[int]]:
        """The prompts of a completion request as ids."""
        prompt = body.get("prompt")
        many = isinstance(prompt, list) and prompt and not isinstance(prompt[0], int)
        return [p if isinstance(p, list) else self.model.encode(p) for p in (prompt if many else [prompt])]

    def envelope(self, kind: str, choices: list[Any], usage: dict[str, Any]) -> dict[str, Any]:
        prefix = "cmpl" if kind == "text_completion" else "chatcmpl"
        return {
            "id": f"{prefix}-0123456789abcdef",
            "object": kind,
            "created": 1795516432,
            "model": self.name,
            "choices": choices,
            "usage": usage,
        }

    def completion_logprobs(
        self,
        shown: Sequence[tuple[int, np.ndarray | None]],
        k: int,
        *,
        text: Callable[[int], str],
        extra: Sequence[int] | None = None,
        n_prompt: int = 0,
        sampled_first: bool = True,
        offset: int | None = None,
    ) -> dict[str, Any]:
        """The log-probabilities of a completion in the old shape; `extra` ids replace the top k of what was generated."""
        found: dict[str, list[Any]] = {"text_offset": [], "token_logprobs": [], "tokens": [], "top_logprobs": []}
        position = 0
        for i, (token, logprobs) in enumerate(shown):
            found["text_offset"].append(position if offset is None else offset)
            position += len(text(token))
            found["tokens"].append(text(token))
            if logprobs is None:
                found["token_logprobs"].append(None)
                found["top_logprobs"].append(None)
                continue
            found["token_logprobs"].append(max(float(logprobs[token]), -9999.0))
            others = list(extra) if extra is not None and i >= n_prompt else _top(logprobs, k)
            listed = [token, *others] if sampled_first else others
            found["top_logprobs"].append({text(t): max(float(logprobs[t]), -9999.0) for t in listed})
        return found

    def echoed(self, ids: Sequence[int]) -> list[tuple[int, np.ndarray | None]]:
        return [(token, self.model.logprobs(ids[:i]) if i else None) for i, token in enumerate(ids)]

    def chat_logprobs(
        self, steps: Sequence[Step], k: int, *, extra: Sequence[int] | None = None, with_ids: bool = False
    ) -> dict[str, Any]:
        def entry(token: int, logprob: float) -> dict[str, Any]:
            is_end = with_ids and token == self.model.eos_id  # llama.cpp shows control tokens without text
            text = b"" if is_end else self.model.token_bytes[token]
            shown = {
                "token": text.decode(errors="replace"),
                "logprob": max(float(logprob), -9999.0),
                "bytes": list(text),
            }
            return {"id": token, **shown} if with_ids else shown

        content = []
        for step in steps:
            top = [step.token, *(t for t in extra if t != step.token)] if extra else _top(step.logprobs, k)
            listed = [entry(t, step.logprobs[t]) for t in top]
            content.append({**entry(step.token, step.logprobs[step.token]), "top_logprobs": listed})
        return {"content": content}


class VllmServer(Personality):
    """vLLM; with `processed` its ``logprobs_mode=processed_logprobs``."""

    max_logprobs = 20

    def __init__(self, model: TinyModel, name: str, *, processed: bool = False) -> None:
        super().__init__(model, name)
        self._processed = processed
        self.routes = {
            "/v1/models": self._models,
            "/version": lambda body: {"version": "0.32.0"},
            "/tokenize": self._tokenize,
            "/detokenize": lambda body: {"prompt": self.model.decode(body["tokens"])},
            "/v1/completions": self._completions,
            "/v1/chat/completions": self._chat,
        }

    def refuse(self, message: str, param: str | None = None, status: int = 400) -> RefusalError:
        kind = {400: "BadRequestError", 404: "NotFoundError"}[status]
        return RefusalError(status, {"error": {"message": message, "type": kind, "param": param, "code": status}})

    def _models(self, body: Any) -> Any:
        card = {"id": self.name, "object": "model", "created": 1795516432, "owned_by": "vllm", "root": "/models/tiny"}
        return {"object": "list", "data": [{**card, "parent": None, "max_model_len": CONTEXT, "permission": []}]}

    def _tokenize(self, body: Any) -> Any:
        ids = self._chat_ids(body) if "messages" in body else self.model.encode(body["prompt"])
        strings = [self.model.tokenizer.id_to_token(i) for i in ids] if body.get("return_token_strs") else None
        return {"count": len(ids), "max_model_len": CONTEXT, "tokens": ids, "token_strs": strings}

    def _chat_ids(self, body: Any) -> list[int]:
        prefill = bool(body.get("continue_final_message"))
        prompt = bool(body.get("add_generation_prompt", True))
        if prefill and prompt:
            raise self.refuse("Cannot set both `continue_final_message` and `add_generation_prompt` to True.")
        thinking = (body.get("chat_template_kwargs") or {}).get("enable_thinking", True)
        return self.model.encode(self.model.chat(body["messages"], prompt=prompt, thinking=thinking, prefill=prefill))

    def _check(self, body: Any, ids: Sequence[int], n: int) -> None:
        if body.get("model") not in (None, self.name):
            message = f"The model `{body['model']}` does not exist. Valid aliases: {self.name}."
            raise self.refuse(message, "model", 404)
        if not ids:
            raise self.refuse("You must pass at least one prompt")
        if max(ids) >= self.model.n_vocab:
            raise self.refuse(f"Token id {max(ids)} is out of vocabulary")
        if len(ids) > CONTEXT:
            raise self.refuse(
                f"This model's maximum context length is {CONTEXT} tokens. However, your prompt contains at least "
                f"{len(ids)} input tokens, which exceeds this limit even without any output tokens. Please reduce the length "
                f"of the input prompt. (parameter=input_tokens, value={len(ids)})",
                "input_tokens",
            )
        if len(ids) + n > CONTEXT:
            raise self.refuse(
                f"This model's maximum context length is {CONTEXT} tokens. However, you requested {n} output tokens and your "
                f"prompt contains {len(ids)} input tokens, for a total of {len(ids) + n} tokens. Please reduce the length of "
                f"the input prompt or the number of requested output tokens. (parameter=input_tokens, value={len(ids)})",
                "input_tokens",
            )

    def _check_logprobs(self, body: Any, k: int | None) -> None:
        for name, value in (("sample", k), ("prompt", body.get("prompt_logprobs"))):
            value = self.model.n_vocab if value == -1 else value
            if value is not None and value > self.max_logprobs:
                param = "logprobs" if name == "sample" else "prompt_logprobs"
                raise self.refuse(
                    f"Requested {name} logprobs of {value}, which is greater than max allowed: {self.max_logprobs} "
                    f"(parameter={param}, value={value})",
                    param,
                )
        extra = body.get("logprob_token_ids")
        if extra is None:
            return
        if k is None:
            raise self.refuse("when using `logprob_token_ids`, `logprobs` must be set.", "logprob_token_ids")
        if len(extra) > 128:
            message = f"Requested logprob_token_ids of length {len(extra)}, which is greater than max allowed: 128"
            raise self.refuse(message, "logprob_token_ids")
        if extra and max(extra) >= self.model.n_vocab:
            message = f"token_id(s) {[max(extra)]} in logprob_token_ids contain out-of-vocab token ids."
            raise self.refuse(message, "logprob_token_ids")

    def _generate(self, body: Any, ids: Sequence[int], n: int) -> tuple[list[Step], str]:
        allowed = body.get("allowed_token_ids")
        if allowed == []:
            raise self.refuse("allowed_token_ids is not None and empty!", "allowed_token_ids")
        return generate(
            self.model,
            ids,
            n,
            temperature=body.get("temperature", 1.0),
            rng=np.random.default_rng(list(ids)) if self.draws_by_prompt else self._rng,
            allowed=allowed,
            bias=body.get("logit_bias"),
            processed=self._processed,
            ignore_eos=bool(body.get("ignore_eos")),
        )

    def _completions(self, body: Any) -> Any:
        prompts = self.prompts(body)
        echo, k, n = bool(body.get("echo")), body.get("logprobs"), body.get("max_tokens", 16)
        if n == 0 and not echo:
            raise self.refuse("max_tokens must be at least 1, got 0. (parameter=max_tokens, value=0)", "max_tokens")
        self._check_logprobs(body, k)
        as_ids = bool(body.get("return_tokens_as_token_ids"))
        text = (lambda t: f"token_id:{t}") if as_ids else self.model.piece
        choices, n_in, n_out, n_cached = [], 0, 0, 0
        wants_prompt = body.get("prompt_logprobs", k if echo else None)
        for index, ids in enumerate(prompts):
            self._check(body, ids, max(1, n))
            steps, reason = self._generate(body, ids, max(1, n))
            n_in, n_out = n_in + len(ids), n_out + len(steps)
            n_cached += self.cached(ids, is_used=wants_prompt is None)
            shown: list[tuple[int, np.ndarray | None]] = self.echoed(ids) if echo else []
            shown += [(step.token, step.logprobs) for step in steps] if n else []
            extra = body.get("logprob_token_ids")
            answer = self.model.decode((step.token for step in steps), special=False)
            choices.append(
                {
                    "index": index,
                    "text": (self.model.decode(ids) + answer if echo else answer) if n else "",
                    "logprobs": None
                    if k is None
                    else self.completion_logprobs(shown, k, text=text, extra=extra, n_prompt=len(ids) if echo else 0),
                    "finish_reason": reason,
                    "stop_reason": None,
                    "token_ids": [step.token for step in steps] if body.get("return_token_ids") else None,
                    "prompt_logprobs": None if wants_prompt is None else self._prompt_logprobs(ids, wants_prompt),
                    "prompt_token_ids": list(ids) if body.get("return_token_ids") else None,
                    "routed_experts": None,
                }
            )
        return self.envelope("text_completion", choices, self.usage(n_in, n_out, n_cached))

    def _prompt_logprobs(self, ids: Sequence[int], k: int) -> list[Any]:
        found: list[Any] = []
        for token, logprobs in self.echoed(ids):
            if logprobs is None:
                found.append(None)
                continue
            order = np.argsort(-logprobs, kind="stable")
            rank = {int(t): i + 1 for i, t in enumerate(order)}
            found.append(
                {
                    str(t): {"logprob": float(logprobs[t]), "rank": rank[t], "decoded_token": self.model.piece(t)}
                    for t in [token, *_top(logprobs, k)]
                }
            )
        return found

    def _chat(self, body: Any) -> Any:
        ids = self._chat_ids(body)
        n = body.get("max_completion_tokens") or body.get("max_tokens") or CONTEXT - len(ids)
        k = body.get("top_logprobs", 0) if body.get("logprobs") else None
        self._check_logprobs(body, k)
        self._check(body, ids, n)
        steps, reason = self._generate(body, ids, n)
        message = {"role": "assistant", "content": self.model.decode((s.token for s in steps), special=False)}
        choice = {
            "index": 0,
            "message": {**message, "refusal": None, "annotations": None, "audio": None, "reasoning": None},
            "logprobs": None if k is None else self.chat_logprobs(steps, k, extra=body.get("logprob_token_ids")),
            "finish_reason": reason,
            "stop_reason": None,
            "token_ids": [step.token for step in steps] if body.get("return_token_ids") else None,
        }
        reply = self.envelope("chat.completion", [choice], self.usage(len(ids), len(steps), self.cached(ids)))
        return {**reply, "prompt_token_ids": list(ids) if body.get("return_token_ids") else None}


class LlamaServer(Personality):
    """llama.cpp's server: no echo, chat-shaped log-probabilities everywhere, grammars that can force token ids."""

    def __init__(self, model: TinyModel, name: str) -> None:
        super().__init__(model, name)
        self.routes = {
            "/v1/models": self._models,
            "/props": self._props,
            "/tokenize": self._tokenize,
            "/detokenize": lambda body: {"content": self.model.decode(body["tokens"])},
            "/apply-template": lambda body: {"prompt": self._template(body)},
            "/completion": self._completion,
            "/v1/completions": self._completions,
            "/v1/chat/completions": self._chat,
        }

    def not_found(self, path: str) -> Any:
        return {"error": {"message": "File Not Found", "type": "not_found_error", "code": 404}}

    def _models(self, body: Any) -> Any:
        meta = {"vocab_type": 2, "n_vocab": self.model.n_vocab, "n_ctx": CONTEXT, "n_ctx_train": CONTEXT}
        card = {"id": self.name, "object": "model", "created": 1795516433, "owned_by": "llamacpp", "meta": meta}
        return {"models": [{"name": self.name, "type": "model"}], "object": "list", "data": [card]}

    def _props(self, body: Any) -> Any:
        return {
            "default_generation_settings": {"params": {"temperature": 0.8, "top_k": 40}, "n_ctx": CONTEXT},
            "total_slots": 2,
            "model_alias": self.name,
            "model_path": f"/models/{self.name}.gguf",
            "chat_template": CHAT_TEMPLATE,
            "bos_token": "<|im_start|>",
            "eos_token": "<|im_end|>",
            "build_info": "b0-unknown",
        }

    def _tokenize(self, body: Any) -> Any:
        ids = self.model.encode(body.get("content", ""), special=bool(body.get("parse_special", True)))
        if not body.get("with_pieces"):
            return {"tokens": ids}
        return {"tokens": [{"id": i, "piece": self.model.piece(i)} for i in ids]}

    def _template(self, body: Any) -> str:
        messages = body["messages"]
        prefill = messages[-1]["role"] == "assistant"  # a last turn of the assistant's is continued
        thinking = (body.get("chat_template_kwargs") or {}).get("enable_thinking", True)
        return self.model.chat(messages, prompt=not prefill, thinking=thinking, prefill=prefill)

    def _generate(self, body: Any, ids: Sequence[int], n: int) -> tuple[list[Step], str]:
        if not ids:
            message = {"code": 400, "message": '"prompt" must not be empty', "type": "invalid_request_error"}
            raise RefusalError(400, {"error": message})
        if len(ids) > CONTEXT:
            message = {
                "code": 400,
                "message": f"request ({len(ids)} tokens) exceeds the available context size ({CONTEXT} tokens), "
                "try increasing it",
                "type": "exceed_context_size_error",
                "n_prompt_tokens": len(ids),
                "n_ctx": CONTEXT,
            }
            raise RefusalError(400, {"error": message})
        grammar = Grammar(body["grammar"], self.model) if body.get("grammar") else None
        return generate(
            self.model,
            ids,
            CONTEXT - len(ids) if n < 0 else n,
            temperature=max(0.0, body.get("temperature", 0.8)),
            rng=self._rng,
            bias=dict(body.get("logit_bias") or {}),
            grammar=grammar,
        )

    def _completion(self, body: Any) -> Any:
        (ids,) = self.prompts(body)
        k, n = body.get("n_probs", 0), body.get("n_predict", -1)
        steps, reason = self._generate(body, ids, n)
        cached = self.cached(ids)
        reply = {
            "index": 0,
            "content": self.model.decode((s.token for s in steps), special=False),
            "tokens": [s.token for s in steps] if body.get("return_tokens") else [],
            "id_slot": 0,
            "stop": True,
            "model": self.name,
            "tokens_predicted": len(steps),
            "tokens_evaluated": len(ids),
            "prompt": self.model.decode(ids),
            "truncated": False,
            "stop_type": "eos" if reason == "stop" else "limit",
            "tokens_cached": len(ids) + len(steps) - 1,
            "timings": {"cache_n": cached, "prompt_n": len(ids) - cached, "predicted_n": len(steps)},
        }
        if k > 0:
            found = self.chat_logprobs(steps, k, with_ids=True)["content"]
            if body.get("post_sampling_probs"):
                for entry in found:
                    del entry["top_logprobs"], entry["logprob"]
                    entry.update(prob=1.0, top_probs=[{**entry, "prob": 1.0}])
            reply["completion_probabilities"] = found
        return reply

    def _completions(self, body: Any) -> Any:
        prompts = self.prompts(body)
        k = body.get("logprobs") or 0
        choices, n_in, n_out, n_cached = [], 0, 0, 0
        for index, ids in enumerate(prompts):
            steps, reason = self._generate(body, ids, body.get("max_tokens", body.get("n_predict", -1)))
            n_in, n_out, n_cached = n_in + len(ids), n_out + len(steps), n_cached + self.cached(ids)
            choices.append(
                {
                    "text": self.model.decode((s.token for s in steps), special=False),
                    "index": index,
                    "logprobs": self.chat_logprobs(steps, k, with_ids=True) if k > 0 else None,
                    "finish_reason": reason,
                }
            )
        return self.envelope("text_completion", choices, self.usage(n_in, n_out, n_cached))

    def _chat(self, body: Any) -> Any:
        ids = self.model.encode(self._template(body))
        n = body.get("max_completion_tokens") or body.get("max_tokens") or -1
        steps, reason = self._generate(body, ids, n)
        answer = self.model.decode((s.token for s in steps), special=False)
        last = body["messages"][-1]
        choice = {
            "finish_reason": reason,
            "index": 0,
            "message": {
                "role": "assistant",
                "content": (last["content"] if last["role"] == "assistant" else "") + answer,
            },
        }
        if body.get("logprobs"):
            choice["logprobs"] = self.chat_logprobs(steps, body.get("top_logprobs", 0), with_ids=True)
        return self.envelope("chat.completion", [choice], self.usage(len(ids), len(steps), self.cached(ids)))


class OpenAILegacy(Personality):
    """The old completions of OpenAI's: echo with log-probabilities of tokens shown as text."""

    max_logprobs = 5
    text_offset: int | None = None
    owner = "openai"
    known = (  # names of parameters; others are refused
        "best_of|echo|frequency_penalty|logit_bias|logprobs|max_tokens|model|n|presence_penalty|prompt|seed|stop|stream|suffix|"
        "temperature|top_p|user"
    )

    def __init__(self, model: TinyModel, name: str) -> None:
        super().__init__(model, name)
        self.routes = {"/v1/models": self._models, "/v1/completions": self._completions}

    def not_found(self, path: str) -> Any:
        message = f"Invalid URL (POST {path})"
        return {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": None}}

    def refuse(self, message: str, param: str | None = None) -> RefusalError:
        error = {"message": message, "type": "invalid_request_error", "param": param, "code": None}
        return RefusalError(400, {"error": error})

    def check_names(self, body: Any) -> None:
        for name in body:
            if not re.fullmatch(self.known, name):
                raise self.refuse(f"Unrecognized request argument supplied: {name}")

    def text(self, token: int) -> str:
        raw = self.model.token_bytes[token]
        try:
            return raw.decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in raw)

    def _models(self, body: Any) -> Any:
        card = {"id": self.name, "object": "model", "created": 1795516432, "owned_by": self.owner}
        return {"object": "list", "data": [card]}

    def _completions(self, body: Any) -> Any:
        self.check_names(body)
        echo, k, n = bool(body.get("echo")), body.get("logprobs"), body.get("max_tokens", 16)
        if k is not None and k > self.max_logprobs:
            raise self.refuse(f"Invalid value for 'logprobs': must be at most {self.max_logprobs}.", "logprobs")
        prompts = self.prompts(body)
        choices, n_in, n_out, n_cached = [], 0, 0, 0
        for index, ids in enumerate(prompts):
            if len(ids) + n > CONTEXT:
                raise self.refuse(
                    f"This model's maximum context length is {CONTEXT} tokens, however you requested {len(ids) + n} tokens "
                    f"({len(ids)} in your prompt; {n} for the completion). Please reduce your prompt; or completion length."
                )
            bias = body.get("logit_bias")
            temperature = body.get("temperature", 1.0)
            steps, reason = generate(self.model, ids, n, temperature=temperature, rng=self._rng, bias=bias)
            n_in, n_out, n_cached = n_in + len(ids), n_out + len(steps), n_cached + self.cached(ids, is_used=not echo)
            answered = [step for step in steps if step.token != self.model.eos_id]
            shown = self._shown(ids, answered) if echo else [(step.token, step.logprobs) for step in answered]
            answer = self.model.decode(step.token for step in answered)
            choices.append(
                {
                    "text": self.model.decode(ids) + answer if echo else answer,
                    "index": index,
                    "logprobs": None if k is None else self._logprobs(shown, k),
                    "finish_reason": reason,
                }
            )
        return self.envelope("text_completion", choices, self.usage(n_in, n_out, n_cached))

    def _shown(self, ids: Sequence[int], steps: Sequence[Step]) -> list[tuple[int, np.ndarray | None]]:
        return [*self.echoed(ids), *((step.token, step.logprobs) for step in steps)]

    def _logprobs(self, shown: Sequence[tuple[int, np.ndarray | None]], k: int) -> dict[str, Any]:
        return self.completion_logprobs(shown, k, text=self.text, sampled_first=False, offset=self.text_offset)


class LlamaCppPython(OpenAILegacy):
    """llama-cpp-python: with echo, each token has the log-probability that it would have one place further on."""

    max_logprobs = 100_000
    owner = "me"
    known = ".*"

    def not_found(self, path: str) -> Any:
        return {"detail": "Not Found"}

    def _shown(self, ids: Sequence[int], steps: Sequence[Step]) -> list[tuple[int, np.ndarray | None]]:
        everything = [*ids, *(step.token for step in steps)]
        return [(t, self.model.logprobs(everything[: i + 1]) if i else None) for i, t in enumerate(everything)]


class SGLangServer(OpenAILegacy):
    """SGLang: the old completions without ids, and its own ``/generate``."""

    max_logprobs = 100_000
    text_offset = -1
    owner = "sglang"
    known = ".*"

    def __init__(self, model: TinyModel, name: str) -> None:
        super().__init__(model, name)
        info = {"model_path": "/models/tiny", "tokenizer_path": "/models/tiny", "is_generation": True}
        self.routes |= {
            "/get_model_info": lambda body: info,
            "/model_info": lambda body: info,
            "/generate": self._generate,
        }

    def not_found(self, path: str) -> Any:
        return {"detail": "Not Found"}

    def text(self, token: int) -> str:
        return self.model.piece(token)

    def _models(self, body: Any) -> Any:
        reply = super()._models(body)
        reply["data"][0].update(root=self.name, max_model_len=CONTEXT)
        return reply

    def _generate(self, body: Any) -> Any:
        many = isinstance(body.get("text"), list) or isinstance((body.get("input_ids") or [0])[0], list)
        if not many:
            given = body["input_ids"] if body.get("input_ids") is not None else self.model.encode(body["text"])
            return self._one(body, given)
        batch = body.get("input_ids") or [self.model.encode(text) for text in body["text"]]
        starts = body.get("logprob_start_len", -1)
        starts = starts if isinstance(starts, list) else [starts] * len(batch)
        return [self._one({**body, "logprob_start_len": s}, ids) for s, ids in zip(starts, batch, strict=True)]

    def _one(self, body: Any, ids: Sequence[int]) -> Any:
        sampling = body.get("sampling_params") or {}
        n = sampling.get("max_new_tokens", 128)
        if len(ids) + n > CONTEXT:
            message = f"The input ({len(ids)} tokens) is longer than the model's context length ({CONTEXT} tokens)."
            raise RefusalError(400, {"error": {"message": message}})
        steps, reason = generate(self.model, ids, n, temperature=sampling.get("temperature", 1.0), rng=self._rng)
        meta: dict[str, Any] = {
            "id": "0123456789abcdef",
            "finish_reason": {"type": reason, "length": len(steps)}
            if reason == "length"
            else {"type": "stop", "matched": 2},
            "prompt_tokens": len(ids),
            "completion_tokens": len(steps),
            "cached_tokens": self.cached(ids, is_used=not body.get("return_logprob")),
        }
        if body.get("return_logprob"):
            start = body.get("logprob_start_len", -1)
            start = len(ids) - 1 if start < 0 else start
            wanted = body.get("token_ids_logprob")
            places = list(enumerate(self.echoed(ids)))[start:]

            def row(logprobs: np.ndarray, tokens: Iterable[int]) -> list[Any]:
                return [[float(logprobs[t]), t, self._shown_text(body, t)] for t in tokens]

            meta["input_token_logprobs"] = [
                [None, t, self._shown_text(body, t)] if logprobs is None or i == start else row(logprobs, [t])[0]
                for i, (t, logprobs) in places
            ]
            meta["output_token_logprobs"] = [row(step.logprobs, [step.token])[0] for step in steps]
            k = body.get("top_logprobs_num", 0)
            if k:
                meta["output_top_logprobs"] = [row(step.logprobs, _top(step.logprobs, k)) for step in steps]
            if wanted:
                meta["output_token_ids_logprobs"] = [row(step.logprobs, wanted) for step in steps]
        answer = self.model.decode((step.token for step in steps), special=False)
        return {"text": answer, "output_ids": [step.token for step in steps], "meta_info": meta}

    def _shown_text(self, body: Any, token: int) -> str | None:
        return self.model.piece(token) if body.get("return_text_in_logprobs") else None


class OpenAIChat(OpenAILegacy):
    """Chat alone: at most 20 alternatives at each generated token, and no way to begin the answer."""

    max_logprobs = 20
    has_logprobs = True
    known = (
        "frequency_penalty|logit_bias|logprobs|max_completion_tokens|max_tokens|messages|metadata|model|n|presence_penalty|"
        "prompt_cache_key|reasoning_effort|response_format|seed|service_tier|stop|store|stream|temperature|tool_choice|tools|"
        "top_logprobs|top_p|user"
    )

    def __init__(self, model: TinyModel, name: str) -> None:
        super().__init__(model, name)
        self.routes = {"/v1/models": self._models, "/v1/chat/completions": self._chat}

    def _chat(self, body: Any) -> Any:
        self.check_names(body)
        k = body.get("top_logprobs")
        if k is not None and not body.get("logprobs"):
            raise self.refuse("'logprobs' must be true if 'top_logprobs' is specified.", "top_logprobs")
        if k is not None and k > self.max_logprobs:
            message = f"Invalid value for 'top_logprobs': must be less than or equal to {self.max_logprobs}."
            raise self.refuse(message, "top_logprobs")
        ids = self.model.encode(self.model.chat(body["messages"]))
        n = body.get("max_completion_tokens") or body.get("max_tokens") or CONTEXT - len(ids)
        if len(ids) + n > CONTEXT:
            message = f"This model's maximum context length is {CONTEXT} tokens. However, your messages resulted in {len(ids)}."
            raise self.refuse(message, "messages")
        temperature, bias = body.get("temperature", 1.0), body.get("logit_bias")
        steps, reason = generate(self.model, ids, n, temperature=temperature, rng=self._rng, bias=bias)
        answered = [step for step in steps if step.token != self.model.eos_id]
        content = self.model.decode(step.token for step in answered)
        logprobs = None
        if body.get("logprobs") and self.has_logprobs:
            logprobs = {**self.chat_logprobs(answered, k or 0), "refusal": None}
            for step, entry in zip(answered, logprobs["content"], strict=True):
                if step.token not in _top(step.logprobs, self.max_logprobs):
                    entry["logprob"] = -9999.0
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": content, "refusal": None, "annotations": []},
            "logprobs": logprobs,
            "finish_reason": reason,
        }
        return self.envelope("chat.completion", [choice], self.usage(len(ids), len(steps), self.cached(ids)))


class NoLogprobs(OpenAIChat):
    """Chat that takes the request for log-probabilities and does not answer it."""

    has_logprobs = False
    known = ".*"


class Plain(Personality):
    """One small answer to everything."""

    answer: ClassVar[dict[str, Any]] = {
        "id": "cmpl-0",
        "object": "text_completion",
        "created": 1795516432,
        "model": "tiny",
        "choices": [{"index": 0, "text": "ok", "logprobs": None, "finish_reason": "length"}],
        "usage": {
            "prompt_tokens": 10,
            "total_tokens": 11,
            "completion_tokens": 1,
            "prompt_tokens_details": {"cached_tokens": 4},
        },
    }

    def reply(self, request: Request) -> tuple[int, Any]:
        return 200, json.loads(json.dumps(self.answer))


class EmbeddingServer(Personality):
    """Vectors of texts, with OpenAI's refusals; `vector` says what the vector of a text is."""

    length = 8
    most_texts = 64

    def __init__(self, model: TinyModel, name: str) -> None:
        super().__init__(model, name)
        self.routes = {"/v1/embeddings": self._embeddings}

    @classmethod
    def vector(cls, text: str) -> np.ndarray:
        seed = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
        return np.random.default_rng(seed).standard_normal(cls.length).astype(np.float32)

    def _embeddings(self, body: Any) -> Any:
        texts = body["input"]
        if len(texts) > self.most_texts:
            raise self._refuse(f"Invalid 'input': array too long. Expected at most {self.most_texts} items.")
        if not all(texts) or "unspeakable" in "".join(texts):
            raise self._refuse("Invalid 'input': a string cannot be used.")
        n_tokens = sum(len(self.model.encode(text)) for text in texts)
        data = []
        for i, text in enumerate(texts):
            values = self.vector(text)[: body.get("dimensions")]
            is_packed = body.get("encoding_format") == "base64"
            shown = base64.b64encode(values.tobytes()).decode() if is_packed else [float(value) for value in values]
            data.append({"object": "embedding", "index": i, "embedding": shown})
        usage = {"prompt_tokens": n_tokens, "total_tokens": n_tokens}
        return {"object": "list", "data": data, "model": self.name, "usage": usage}

    def _refuse(self, message: str) -> RefusalError:
        error = {"message": message, "type": "invalid_request_error", "param": "input", "code": None}
        return RefusalError(400, {"error": error})


PERSONALITIES: dict[str, Callable[[TinyModel, str], Personality]] = {
    "vllm": VllmServer,
    "vllm_processed": functools.partial(VllmServer, processed=True),
    "llama_server": LlamaServer,
    "llama_cpp_python": LlamaCppPython,
    "sglang": SGLangServer,
    "openai_legacy": OpenAILegacy,
    "openai_chat": OpenAIChat,
    "no_logprobs": NoLogprobs,
    "plain": Plain,
    "embeddings": EmbeddingServer,
}


# --- the socket --------------------------------------------------------------------------------------------------------


class FakeServer:
    """A personality on a local port, in threads of its own.

    Parameters
    ----------
    personality : str
        One of `PERSONALITIES`.
    faults : sequence of faults (None: behave) taken one per request, or a function of the request that returns one
    latency : float
        Seconds that every request takes at least.
    name : str
        The served model.
    key : str, optional
        Requests without this key are refused with 401.
    draws_by_prompt : bool
        A completion draws the same token for the same prompt, whatever was asked before.
    port : int
        0: any that is free.

    Attributes
    ----------
    url : str
    requests : list of Request
        In the order in which they came.
    model : TinyModel
    """

    def __init__(
        self,
        personality: str = "plain",
        faults: Iterable[Fault | None] | Callable[[Request], Fault | None] = (),
        latency: float = 0.0,
        *,
        name: str = "tiny",
        key: str | None = None,
        draws_by_prompt: bool = False,
        port: int = 0,
    ) -> None:
        self._port = port
        self.model = tiny_model()
        self.name = name
        self.personality = PERSONALITIES[personality](self.model, name)
        self.personality.draws_by_prompt = draws_by_prompt
        self._named = self.personality  # whatever is put before it later
        self.latency = latency
        self.key = key
        self.requests: list[Request] = []
        self.connections = 0  # accepted so far
        self._fault: Callable[[Request], Fault | None] = faults if callable(faults) else _one_by_one(iter(faults))
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> FakeServer:
        self._listener = socket.create_server(("127.0.0.1", self._port), backlog=256)
        self._acceptor = threading.Thread(target=self._accept, name="fake-server", daemon=True)
        self._acceptor.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._acceptor.join()
        self._listener.close()
        with self._lock:
            still_open = list(self._open)
        for connection in still_open:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        for thread in self._threads:
            thread.join()

    @property
    def url(self) -> str:
        return f"{self.root}{self._named.prefix}"

    @property
    def root(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    @property
    def open_connections(self) -> int:
        with self._lock:
            return len(self._open)

    def count(self, path: str | None = None) -> int:
        """Requests to one path (``"/v1/completions"``), or all."""
        return sum(path is None or request.path == path for request in list(self.requests))

    def peak(self) -> int:
        """Most requests that were under way at once."""
        done = [(request.done or math.inf, -1) for request in self.requests]
        level = most = 0
        for _, step in sorted([*done, *((request.time, 1) for request in self.requests)]):
            level += step
            most = max(most, level)
        return most

    def _accept(self) -> None:
        while not self._stopping.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            thread = threading.Thread(target=self._serve, args=(connection,), name="fake-server", daemon=True)
            with self._lock:
                self.connections += 1
                self._open.add(connection)
                self._threads = [*(t for t in self._threads if t.is_alive()), thread]
                thread.start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            buffer = bytearray()
            while (request := _read(connection, buffer)) is not None:
                with self._lock:
                    self.requests.append(request)
                    fault = self._fault(request)
                if not self._answer(connection, request, fault):
                    return
        except OSError:
            pass  # the client has gone
        finally:
            with self._lock:
                self._open.discard(connection)
            connection.close()

    def _answer(self, connection: socket.socket, request: Request, fault: Fault | None) -> bool:
        """Answer or misbehave; whether the connection may be used again."""
        seconds = self.latency + (fault.seconds if isinstance(fault, Hang) else 0.0)
        if seconds and select.select([connection], [], [], seconds)[0]:
            raise ConnectionError("the client has gone, or this server stops")
        if isinstance(fault, Reset):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if isinstance(fault, (Reset, Close)):
            request.done = time.monotonic()
            return False
        status, headers, kind = 200, {}, "application/json"
        if isinstance(fault, Status):
            default = {
                "error": {"message": f"this is a {fault.code}", "type": "fault", "param": None, "code": fault.code}
            }
            status, headers, reply = fault.code, fault.headers, default if fault.body is None else fault.body
        elif isinstance(fault, Replace):
            reply = fault.reply
        elif self.key is not None and not self._named.has_key(request.headers, self.key):
            status, reply = self._named.wrong_key()
        else:
            status, reply = self.personality.reply(request)
            if isinstance(fault, Mutate):
                reply = fault.change(reply)
        content = reply.encode() if isinstance(reply, str) else json.dumps(reply).encode()
        if isinstance(fault, BrokenJson):
            content = content[: len(content) // 2]
        elif isinstance(fault, EmptyBody):
            content = b""
        elif isinstance(fault, Html):
            content, kind = b"<!doctype html><title>Welcome</title><p>Please sign in.", "text/html"
        lines = {"Content-Type": kind, "Content-Length": str(len(content)), **headers}
        head = f"HTTP/1.1 {status} X\r\n" + "".join(f"{n}: {v}\r\n" for n, v in lines.items()) + "\r\n"
        if isinstance(fault, Truncate):
            content = content[: len(content) // 2]
        request.done = time.monotonic()
        message = head.encode() + content
        if isinstance(fault, Trickle):
            for place in range(0, len(message), 16):
                connection.sendall(message[place : place + 16])
                self._stopping.wait(fault.seconds)
            return True
        connection.sendall(message)
        return not isinstance(fault, Truncate)


def _one_by_one(faults: Iterator[Fault | None]) -> Callable[[Request], Fault | None]:
    return lambda request: next(faults, None)


def _read(connection: socket.socket, buffer: bytearray) -> Request | None:
    """The next request on a connection; None at its end. What comes after it stays in the buffer."""
    while (end := buffer.find(b"\r\n\r\n")) < 0:
        chunk = connection.recv(65536)
        if not chunk:
            return None
        buffer += chunk
    begun = time.monotonic()
    first, *lines = buffer[:end].decode("latin-1").split("\r\n")
    method, target, _ = first.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    length = int(headers.get("content-length", 0))
    del buffer[: end + 4]
    while len(buffer) < length:
        chunk = connection.recv(65536)
        if not chunk:
            return None
        buffer += chunk
    content = bytes(buffer[:length])
    del buffer[:length]
    try:
        body = json.loads(content) if content else None
    except ValueError:
        body = content
    return Request(target.partition("?")[0], method, begun, headers, body)


def backend_for(server: FakeServer, **options: Any) -> OpenAIBackend:
    """A backend for the server's model."""
    return OpenAIBackend("openai:tiny", base_url=server.url, **options)


def rows_asked(server: FakeServer) -> Counter[str]:
    """How often each row was asked about, of rows whose text is ``<review NAME>``; a server's probe is about no row."""
    found: Counter[str] = Counter()
    for request in list(server.requests):
        text = json.dumps(request.body)
        if "<review " in text:
            found[text.split("<review ")[-1].split(">")[0]] += 1
    return found
