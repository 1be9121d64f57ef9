"""Text generation by a local model: token by token from processed logits, each with its log-probability."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ...arrays import Floats
from ...checks import check_whole_number, is_whole_number
from ...errors import InputError, ModelError
from ...logits import apply_chain, log_softmax, sample
from ..tokens.transformers_encoder import streamed_texts, text_after

if TYPE_CHECKING:
    import torch

    from .plain_calls import PlainCalls

LogitsProcessor = Callable[[Floats, Sequence[int]], Floats]
"""A function of logits (vocabulary,) and of the tokens before them; see `llmclf.logits.chain`."""


@dataclass(frozen=True)
class Generation:
    """What a model wrote.

    Attributes
    ----------
    token_ids : tuple of n int
        The end-of-answer token included, where it ended the text.
    pieces : tuple of n str
        What each token adds to the text; part of a character is shown as the vocabulary writes it.
    text : str
        All of it, without control tokens, and only up to the text that stopped it.
    logprobs : tuple of n float
        log p(token | prompt and the tokens before it) in nats, by the model's own softmax.
    processed_logprobs : tuple of n float
        The same by the processed softmax that the token was drawn from.
    finish_reason : {"eos", "stop", "length"}
        The model ended its answer, wrote a text of `stop`, or wrote `max_tokens` tokens.
    """

    token_ids: tuple[int, ...]
    pieces: tuple[str, ...]
    text: str
    logprobs: tuple[float, ...]
    processed_logprobs: tuple[float, ...]
    finish_reason: str

    @property
    def perplexities(self) -> Floats:
        """Perplexity (n,) of the first 1, 2, ... n tokens: the exponential of their mean negative log-probability."""
        n = np.arange(1, len(self.logprobs) + 1)
        perplexities: Floats = np.exp(-np.cumsum(self.logprobs) / n)
        return perplexities


def check_generation(max_tokens: Any, n: Any, seed: Any, stop: Any) -> tuple[str, ...]:
    """Check the arguments of a generation, and return the texts of `stop`.

    Raises
    ------
    InputError
    """
    check_whole_number("max_tokens", max_tokens, 1)
    check_whole_number("n", n, 1)
    if seed is None and n > 1:
        raise InputError(f"n={n}, but without a seed every answer is the likeliest one; give seed=")
    if seed is not None and not is_whole_number(seed, 0):
        raise InputError(f"seed={seed!r}: expected a whole number of at least 0, or None for the likeliest tokens")
    if not isinstance(stop, (str, Sequence)):
        raise InputError(f"stop={stop!r}: expected a text or a list of texts; () for none")
    texts = (stop,) if isinstance(stop, str) else tuple(stop)
    if not all(isinstance(text, str) and text for text in texts):
        raise InputError(f"stop={stop!r}: expected texts of at least one character")
    return texts


def generate(
    calls: PlainCalls,
    tokenizer: Any,
    lock: threading.RLock,
    prompt_ids: Sequence[int],
    *,
    by_cache: bool,
    n: int,
    max_tokens: int,
    processors: Sequence[LogitsProcessor],
    seed: int | None,
    stop: tuple[str, ...],
) -> list[Generation]:
    """`n` continuations of a prompt, side by side; each token is the likeliest after the processors, or drawn with a seed.

    With `by_cache` the model reads each token once, else all of them again at each step: `RouteChecks` says which is exact.

    Raises
    ------
    ModelError
        The model's logits are not a distribution.
    """
    random = None if seed is None else np.random.default_rng(seed)
    ends = end_ids(calls.model, tokenizer)
    answers = [_Answer(tokenizer, ends, stop) for _ in range(n)]
    reader = Reader(calls, n, by_cache)
    reader.read([prompt_ids] * n)
    while True:
        with lock:
            logits = reader.logits()
        for answer, row in zip(answers, logits, strict=True):
            if answer.finish_reason is None:
                _extend(answer, row, prompt_ids, processors, random)
                if answer.finish_reason is None and len(answer.ids) == max_tokens:
                    answer.finish_reason = "length"
        if all(answer.finish_reason is not None for answer in answers):
            return [answer.result() for answer in answers]
        reader.read([answer.ids[-1:] for answer in answers])


class _Answer:
    """One continuation as it grows."""

    def __init__(self, tokenizer: Any, ends: frozenset[int], stop: tuple[str, ...]) -> None:
        self.ids: list[int] = []
        self.logprobs: list[float] = []
        self.processed: list[float] = []
        self.finish_reason: str | None = None
        self._tokenizer = tokenizer
        self._ends = ends
        self._stop = stop

    def add(self, token: int, logprob: float, processed: float) -> None:
        self.ids.append(token)
        self.logprobs.append(logprob)
        self.processed.append(processed)
        if token in self._ends:
            self.finish_reason = "eos"
        elif self._stop and any(text in self._text() for text in self._stop):
            self.finish_reason = "stop"

    def result(self) -> Generation:
        text = self._text()
        for wanted in self._stop:
            text = text.split(wanted)[0]
        pieces = tuple(streamed_texts(self._tokenizer, self.ids))
        assert self.finish_reason is not None
        return Generation(
            tuple(self.ids), pieces, text, tuple(self.logprobs), tuple(self.processed), self.finish_reason
        )

    def _text(self) -> str:
        return text_after(self._tokenizer, self.ids)


class Reader:
    """A model that reads `n` texts of one length side by side, piece by piece.

    Parameters
    ----------
    calls : PlainCalls
    n : int
    by_cache : bool
        Whether it keeps what it has read; else it reads each text from the beginning, alone.
    """

    def __init__(self, calls: PlainCalls, n: int, by_cache: bool) -> None:
        self._calls = calls
        self._all: list[list[int]] = [[] for _ in range(n)]
        self._by_cache = by_cache
        self._n_read = 0
        self._cache: dict[str, Any] = {}

    def read(self, pieces: Sequence[Sequence[int]]) -> None:
        """Append a piece to each text."""
        for text, piece in zip(self._all, pieces, strict=True):
            text += piece

    def logits(self) -> np.ndarray:
        """The logits (n, vocabulary) of what comes next."""
        if self._by_cache:
            last = self._read_on()
            return last.float().cpu().numpy().astype(np.float64)
        rows = [self._calls.logits([text], 1)[0, 0].float().cpu().numpy() for text in self._all]
        return np.array(rows, dtype=np.float64)

    def _read_on(self) -> torch.Tensor:
        import torch

        model = self._calls.model
        self._calls.state.restore()
        new = torch.tensor([text[self._n_read :] for text in self._all], device=model.device)
        with torch.inference_mode():
            out = model(input_ids=new, use_cache=True, **self._cache)
        # State space models name it differently.
        self._cache = {
            name: out[name] for name in ("past_key_values", "cache_params", "state") if out.get(name, None) is not None
        }
        if not self._cache:
            raise ModelError(f"{type(model).__name__} keeps nothing of what it has read")
        self._n_read = len(self._all[0])
        last: torch.Tensor = out.logits[:, -1]
        return last


def _extend(
    answer: _Answer,
    logits: np.ndarray,
    prompt_ids: Sequence[int],
    processors: Sequence[LogitsProcessor],
    random: np.random.Generator | None,
) -> None:
    if not np.isfinite(logits.max()):
        raise ModelError("the model gave no finite logits (NaN or infinite); its weights may be broken")
    processed = apply_chain(logits, processors, (*prompt_ids, *answer.ids))
    token = int(processed.argmax()) if random is None else int(sample(processed, random))
    answer.add(token, float(log_softmax(logits)[token]), float(log_softmax(processed)[token]))


def end_ids(model: Any, tokenizer: Any) -> frozenset[int]:
    """The tokens that end an answer: what the model's configuration of generation says, else the tokenizer's."""
    ids = getattr(model.generation_config, "eos_token_id", None)
    if ids is None:
        ids = tokenizer.eos_token_id
    return frozenset() if ids is None else frozenset([ids] if isinstance(ids, int) else ids)
