"""What a backend is asked, and what it answers.

A `Request` is one row's question, `RowScores` its answer. Both are plain values: they name no model, and can be kept and sent.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, PromptError
from ..prompts.rendered import RenderedPrompt
from .logit_processing import Processing
from .state_codes import pack_states, unpack_states

SCORE_VERSION = 2
"""Rises whenever a change to llmclf could change a score, so that cached scores of older versions are not used."""


class StatePart(NamedTuple):
    """One part of the hidden states that a question asks for: of which tokens, and how deep in the model.

    Attributes
    ----------
    tokens : {"last", "text"}
        The prompt's last token, or the mean over the tokens of the row's own text; of a row without text, the last one for both.
    depth : float
        Share of the model's layers, over 0 and at most 1: the state after layer ``round(depth * n_layers)``, and at least the
        first; 1 is the state after the last layer and the final norm.
    """

    tokens: str
    depth: float


STATE_PARTS = (StatePart("last", 0.8), StatePart("text", 0.6))
"""The parts that classify best."""


@dataclass(frozen=True)
class Request:
    """One row's question: how probable is each completion after the prompt?

    Attributes
    ----------
    prompt : RenderedPrompt
    completions : tuple of str
        The text of each completion, delimiter included.
    terminator : {"longest", "auto", "eos"} or None
        How completions of which one begins another are told apart. With ``"longest"`` the shorter stands for the answers that
        do not go on to the longer, see `llmclf.backends.nested_labels`; ``"auto"`` ends every completion of such a row with the
        model's end-of-answer token, ``"eos"`` does so in every row, None never.
    processing : Processing or None
        What is done to the model's logits before their softmax; None leaves the model's own distribution.
    states : tuple of StatePart
        The hidden states that the answer shall show besides. They change no score.
    """

    prompt: RenderedPrompt
    completions: tuple[str, ...]
    terminator: str | None = "auto"
    processing: Processing | None = None
    states: tuple[StatePart, ...] = ()


@dataclass(frozen=True)
class RowScores:
    """The answer to one `Request`, or why there is none.

    Attributes
    ----------
    token_logprobs : tuple of tuples of float
        ``token_logprobs[k][j]`` = log p(token j of completion k | prompt and the tokens before it), in nats, after what the
        request does to the logits. Their sum is the completion's score. The last token of a completion that begins another may
        include that the answer does not go on to it.
    lower, upper : tuple of float
        Bounds on every completion's sum; equal to the sum where the route is exact.
    characters_cut : int
        Characters of the text field that did not fit the context.
    healed : bool
        A token straddled the border of prompt and completion, so scoring began before the prompt's end.
    terminated : bool
        The end-of-answer token is part of every completion.
    error : str or None
        Why the row could not be scored; then `token_logprobs` is empty.
    state_parts : tuple of StatePart
        Which states these are; empty where none were asked for.
    states : float32 array (n_parts * hidden,), or None
        The parts end to end.
    model : str or None
        The model that has answered, by the server's own name, where another may answer than before; see
        ``accept_model_change``. Such an answer goes into no cache.
    """

    token_logprobs: tuple[tuple[float, ...], ...]
    lower: tuple[float, ...] = ()
    upper: tuple[float, ...] = ()
    characters_cut: int = 0
    healed: bool = False
    terminated: bool = False
    error: str | None = None
    state_parts: tuple[StatePart, ...] = field(default=(), compare=False, repr=False)
    states: NDArray[np.float32] | None = field(default=None, compare=False, repr=False)
    model: str | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if not self.upper:
            sums = self.sums
            object.__setattr__(self, "lower", sums)
            object.__setattr__(self, "upper", sums)

    @property
    def sums(self) -> tuple[float, ...]:
        """The summed log-probability of each completion."""
        return tuple(map(math.fsum, self.token_logprobs))

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; a lower bound of minus infinity becomes None, and states are rounded to float16."""
        values: dict[str, Any] = {"token_logprobs": [list(tokens) for tokens in self.token_logprobs]}
        if self.lower != self.upper:
            values["lower"] = [None if math.isinf(bound) else bound for bound in self.lower]
            values["upper"] = list(self.upper)
        for name in ("characters_cut", "healed", "terminated"):
            if getattr(self, name):
                values[name] = getattr(self, name)
        if self.states is not None:
            parts = [list(part) for part in self.state_parts]
            values["states"] = {"parts": parts, **pack_states(self.states, len(parts))}
        return values

    @classmethod
    def from_json(cls, values: Any) -> RowScores:
        """The inverse of `to_json`; anything that is not a row of log-probabilities is refused."""
        try:
            logprobs = tuple(tuple(float(value) for value in tokens) for tokens in values["token_logprobs"])
            lower = tuple(-math.inf if bound is None else float(bound) for bound in values.get("lower", ()))
            upper = tuple(float(bound) for bound in values.get("upper", ()))
            packed = values.get("states")
            parts = (
                () if packed is None else tuple(StatePart(str(name), float(depth)) for name, depth in packed["parts"])
            )
            scores = cls(
                logprobs,
                lower,
                upper,
                int(values.get("characters_cut", 0)),
                bool(values.get("healed", False)),
                bool(values.get("terminated", False)),
                state_parts=parts,
                states=None if packed is None else unpack_states(packed, len(parts)),
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise InputError(f"this is not a row of scores: {error!r}") from error
        if not logprobs or not all(tokens and all(-math.inf < value <= 0.0 for value in tokens) for tokens in logprobs):
            raise InputError(
                "this is not a row of scores: every completion needs at least one finite log-probability of at most 0"
            )
        if not len(logprobs) == len(scores.lower) == len(scores.upper):
            raise InputError("this is not a row of scores: bounds and completions differ in number")
        return scores


def needs_terminator(completions: Sequence[Sequence[Any]]) -> bool:
    """Whether one token sequence begins with (or equals) another, so that the two are not exclusive events.

    Examples
    --------
    >>> needs_terminator([(5,), (5, 7)]), needs_terminator([(5,), (6, 7)])
    (True, False)
    """
    ordered = sorted(tuple(tokens) for tokens in completions)
    # In sorted order a sequence stands directly before those that begin with it.
    return any(after[: len(before)] == before for before, after in pairwise(ordered))


def check_requests(requests: Sequence[Request], *, processes_logits: bool = False, shows_states: bool = False) -> None:
    """Refuse requests that no backend can answer, and those that need more of the model than is seen of it."""
    for request in requests:
        if request.processing is not None and not processes_logits:
            raise InputError(
                "guidance, logit_bias and temperature need the logits of the whole vocabulary, which this backend does not see; "
                "use a local model, or leave them at their defaults"
            )
        if request.states:
            check_states(request.states, "this backend" if not shows_states else None)
        if not request.completions:
            raise InputError("a request needs at least one completion")
        empty = [completion for completion in request.completions if not completion]
        if empty:
            raise PromptError("a completion is empty; give every label at least one character")


def check_states(parts: Sequence[StatePart], blind: str | None = None) -> None:
    """Refuse states that no model has, and all states where `blind` names a backend that shows none.

    Raises
    ------
    InputError
        With what can be used instead.
    """
    if blind is not None and parts:
        raise InputError(f"{blind} shows no hidden states of its model; {INSTEAD_OF_STATES}, or a local model")
    for part in parts:
        if not isinstance(part, StatePart) or part.tokens not in ("last", "text") or not 0 < part.depth <= 1:
            raise InputError(
                f"states={part!r}: expected StatePart('last', depth) or StatePart('text', depth), with 0 < depth <= 1"
            )


INSTEAD_OF_STATES = "use features='tfidf' or Embeddings(...)"
"""What serves without states, for errors."""
