"""What every backend is asked, what it answers, and what it must promise."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol, runtime_checkable

from ..errors import InputError, PromptError
from ..prompts.rendered import RenderedPrompt
from .logit_processing import Processing

SCORE_VERSION = 2
"""Rises whenever a change to llmclf could change a score, so that cached scores of older versions are not used."""


@dataclass(frozen=True)
class Request:
    """One row's question: how probable is each completion after the prompt?

    Attributes
    ----------
    prompt : RenderedPrompt
    completions : tuple of str
        The text of each completion, delimiter included.
    terminator : {"auto", "eos"} or None
        ``"eos"`` ends every completion with the model's end-of-answer token, ``"auto"`` does so only where one
        completion's tokens begin with another's, None never does.
    processing : Processing or None
        What is done to the model's logits before their softmax; None leaves the model's own distribution.
    """

    prompt: RenderedPrompt
    completions: tuple[str, ...]
    terminator: str | None = "auto"
    processing: Processing | None = None


@dataclass(frozen=True)
class RowScores:
    """The answer to one `Request`, or why there is none.

    Attributes
    ----------
    token_logprobs : tuple of tuples of float
        ``token_logprobs[k][j]`` = log p(token j of completion k | prompt and the tokens before it), in nats, after what the
        request does to the logits. Their sum is the completion's score.
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
    """

    token_logprobs: tuple[tuple[float, ...], ...]
    lower: tuple[float, ...] = ()
    upper: tuple[float, ...] = ()
    characters_cut: int = 0
    healed: bool = False
    terminated: bool = False
    error: str | None = None

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
        """Plain JSON values; a lower bound of minus infinity becomes None."""
        values: dict[str, Any] = {"token_logprobs": [list(tokens) for tokens in self.token_logprobs]}
        if self.lower != self.upper:
            values["lower"] = [None if math.isinf(bound) else bound for bound in self.lower]
            values["upper"] = list(self.upper)
        for name in ("characters_cut", "healed", "terminated"):
            if getattr(self, name):
                values[name] = getattr(self, name)
        return values

    @classmethod
    def from_json(cls, values: Any) -> RowScores:
        """The inverse of `to_json`; anything that is no row of log-probabilities is refused."""
        try:
            logprobs = tuple(tuple(float(value) for value in tokens) for tokens in values["token_logprobs"])
            lower = tuple(-math.inf if bound is None else float(bound) for bound in values.get("lower", ()))
            upper = tuple(float(bound) for bound in values.get("upper", ()))
            scores = cls(
                logprobs,
                lower,
                upper,
                int(values.get("characters_cut", 0)),
                bool(values.get("healed", False)),
                bool(values.get("terminated", False)),
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise InputError(f"no row of scores: {error!r}") from error
        if not logprobs or not all(tokens and all(-math.inf < value <= 0.0 for value in tokens) for tokens in logprobs):
            raise InputError(
                "no row of scores: every completion needs at least one finite log-probability of at most 0"
            )
        if not len(logprobs) == len(scores.lower) == len(scores.upper):
            raise InputError("no row of scores: bounds and completions differ in number")
        return scores


Progress = Callable[[int], None]
"""Called with the number of requests that were just finished."""


@runtime_checkable
class Backend(Protocol):
    """A handle to a model: a small description that opens what it needs on first use.

    Copying a handle shares what it has opened, pickling it keeps the description alone, its ``repr`` shows the description.
    """

    def identity(self) -> dict[str, Any]:
        """Everything that the scores depend on, as plain JSON values: weights, revision, dtype, options."""
        ...

    def score(self, requests: Sequence[Request]) -> Iterator[tuple[int, RowScores]]:
        """Answer every request, in any order, each with its place in `requests`, as soon as it is known.

        All requests are checked before the model is first called; what cannot be asked raises `InputError` then.
        """
        ...


def needs_terminator(completions: Sequence[Sequence[Any]]) -> bool:
    """Whether one token sequence begins with (or equals) another, so that the two are no exclusive events.

    Examples
    --------
    >>> needs_terminator([(5,), (5, 7)]), needs_terminator([(5,), (6, 7)])
    (True, False)
    """
    ordered = sorted(tuple(tokens) for tokens in completions)
    # In sorted order a sequence stands directly before those that begin with it.
    return any(after[: len(before)] == before for before, after in pairwise(ordered))


def check_requests(requests: Sequence[Request], *, processes_logits: bool = False) -> None:
    """Refuse requests that no backend can answer, and those that need whole distributions where only some values are seen."""
    for request in requests:
        if request.processing is not None and not processes_logits:
            raise InputError(
                "guidance, logit_bias and temperature need the logits of the whole vocabulary, which this backend does not see; "
                "use a local model, or leave them at their defaults"
            )
        if not request.completions:
            raise InputError("a request needs at least one completion")
        empty = [completion for completion in request.completions if not completion]
        if empty:
            raise PromptError("a completion is empty; give every label at least one character")
