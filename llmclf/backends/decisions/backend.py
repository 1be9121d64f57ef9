"""Decision servers: they answer a question about a text with a probability for each option, and write nothing.

Two protocols say the same in different words: System One (``/v1/systemone``; TypeSafe's Jev, llama.cpp and many others) and
OpenAI Decisions (``/v1/decisions``). Only the probabilities of an answer are read: what servers call ``confidence`` differs from
server to server, and the choice follows from the probabilities.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from ...arrays import Floats
from ...errors import CapabilityError, InputError, PromptError
from ...prompts.rendered import RenderedPrompt
from ..base import CountsUsage, EstimatesCost, SeesTokens, Streams
from ..handle import shared
from ..http.server_handle import ServerHandle, server
from ..model_names import ModelName
from ..options import option, positive_count
from ..providers import Endpoint, Provider
from ..requests import Request, RowScores, check_requests
from ..usage import Estimate, Usage
from .connection import NEUTRAL_INSTRUCTIONS, DecisionConnection
from .protocols import DecisionsWire, Question, SystemOneWire, Wire

_MOST_LEVELS = 10


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class DecisionBackend(ServerHandle, Streams, EstimatesCost, CountsUsage, SeesTokens):
    """What both protocols share; use `SystemOneBackend` or `DecisionsBackend`.

    Every row is a separate state: several rows in one state would change each other's answers. Consecutive requests about the
    same text, and the orders of `permutations`, are questions of one HTTP request. The prompt's instruction becomes the
    question's instructions, with the shots below it; the text is the state, and the label words are the options.

    A server that takes fewer options than there are labels is asked about groups of options and then about the groups'
    winners (see `llmclf.backends.decisions.option_groups`); its refusal shows how many it takes. This is exact where its answers
    are independent of irrelevant alternatives, and an approximation otherwise; `route` says whether it happened.
    """

    question: str | None = option(
        None,
        help="The kind of question: a choice (None), one that is answered by yes or no, or a score.",
    )
    permutations: int | None = option(
        None,
        help="Ask each choice in so many orders of its options, turned evenly, and average the probabilities arithmetically. "
        "None: 1, the order of the labels.",
        check=positive_count,
    )

    wire: ClassVar[Wire]

    def __post_init__(self) -> None:
        super().__post_init__()
        kinds = ("choice", self.wire.yes_or_no, "score")
        if self.question is not None and self.question not in kinds:
            raise InputError(f"question={self.question!r}: expected one of {', '.join(map(repr, kinds))}, or None")
        if self.permutations not in (None, 1) and self._kind != "choice":
            raise InputError(
                f"permutations={self.permutations!r}: the answers to question={self.question!r} have only one order; use "
                "question='choice', or leave permutations out"
            )

    @property
    def sees_tokens(self) -> bool:
        """False: an option's probability is that of all its words together."""
        return False

    @property
    def takes_descriptions(self) -> bool:
        """True: label words are options that a decision model reads."""
        return True

    @property
    def route(self) -> str:
        """The kind of question that is asked; ``"choice, linked groups"`` once the labels had to be asked in groups."""
        return self._kind if self._connection.cap is None else f"{self._kind}, linked groups"

    @property
    def usage(self) -> Usage:
        """What was asked of the server, by all handles that share its connection."""
        return self._connection.client.usage

    def answering_model(self) -> ModelName:
        connection = self._connection
        connection.connect()
        return connection.models.first()

    def identity(self) -> dict[str, Any]:
        """Includes the name of the model that answers, which takes one small question."""
        connection = self._connection
        connection.connect()
        return {
            "backend": self.scheme,
            "model": self.model_name,
            "answered_by": connection.answered_by,
            "question": self._kind,
            "permutations": self.permutations or 1,
            "base_url": connection.client.options.root,
        }

    def estimate(self, requests: Sequence[Request]) -> Estimate:
        """What scoring these requests would take, at about four bytes of text to a token; nothing is sent.

        The text is counted once for all questions of one HTTP request. Groups of options cannot be foreseen and are not counted.
        """
        for request in requests:
            self._check_request(request)
        return self._connection.estimate(self._connection.units(self._asked(requests)), self.route)

    def score(self, requests: Sequence[Request]) -> Iterator[tuple[int, RowScores]]:
        for request in requests:
            self._check_request(request)
        if not requests:
            return
        connection = self._connection
        connection.connect()
        yield from connection.score(connection.units(self._asked(requests)))

    def stream(
        self, requests: Iterable[Request], *, n_requests: int | None = None
    ) -> Iterator[list[tuple[int, RowScores]]]:
        """Answers in groups, of any number of requests; see `llmclf.backends.streaming`."""
        if n_requests == 0:
            return
        connection = self._connection
        connection.connect()
        yield from connection.score_in_groups(connection.units(self._asked(requests)))

    @property
    def _kind(self) -> str:
        return self.question or "choice"

    @property
    def _connection(self) -> DecisionConnection:
        return self.open_once(self._connect)

    def _connect(self) -> DecisionConnection:
        options = self.server_options
        make = partial(
            DecisionConnection,
            options,
            self.wire,
            self.model_name,
            self._kind,
            self.permutations or 1,
            accepts_change=self.accept_model_change,
        )
        # The address may come from the environment, which equal handles need not have seen alike.
        return shared((*self._key, options.root, options.api_key_env), make)

    def _check_request(self, request: Request) -> None:
        """Refuse, before anything is sent, what cannot be asked in this way."""
        check_requests([request])
        if request.terminator not in (None, "auto", "longest"):
            raise CapabilityError(
                f"{self.name!r} gives probabilities of whole options, so there is no end-of-answer token to add; use "
                "Prompt(terminator='auto')"
            )
        options = _options(request)
        n = len(options)
        if not all(options) or len(set(options)) < n:
            raise PromptError(
                f"the label words {list(request.completions)} are the options of a question here; give words that are not "
                "empty and differ in more than the spaces around them"
            )
        if self._kind == self.wire.yes_or_no and n != 2:
            raise PromptError(
                f"question={self._kind!r} is answered by yes or no, and there are {n} label words; use question='choice'"
            )
        if self._kind == "score" and not 2 <= n <= _MOST_LEVELS:
            raise PromptError(
                f"question='score' has 2 to {_MOST_LEVELS} levels, and there are {n} label words; use question='choice'"
            )

    def _asked(self, requests: Iterable[Request]) -> Iterator[tuple[str, Question]]:
        for request in requests:
            self._check_request(request)
            state, instructions = ask_about(request.prompt)
            yield state, Question(instructions, _options(request))


@server
@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class SystemOneBackend(DecisionBackend):
    """Score labels with a System One server (``POST /v1/systemone``).

    Parameters
    ----------
    name : str
        ``"systemone:NAME"``, NAME as the server knows the model (``"systemone:jev-latest"``).
    question : {"choice", "noul", "score"}, optional
        ``"noul"`` asks whether the second of exactly two labels is right, ``"score"`` places a text on 2 to 10 levels, the
        labels in their order. Default: choice.

    Attributes
    ----------
    route : str
    usage : Usage

    Examples
    --------
    >>> SystemOneBackend("systemone:jev-1.13.0", base_url="http://localhost:8000", permutations=3)
    SystemOneBackend('systemone:jev-1.13.0', base_url='http://localhost:8000', permutations=3)
    """

    wire = SystemOneWire()
    scheme = "systemone"
    usual_provider = Provider(
        "systemone",
        "a System One server",
        (Endpoint("systemone"),),
        url_variable="TYPESAFE_BASE_URL",
        key_variable="TYPESAFE_API_KEY",
        openai_headers=True,
    )


@server
@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class DecisionsBackend(DecisionBackend):
    """Score labels with a server of OpenAI Decisions (``POST /v1/decisions``).

    Parameters
    ----------
    name : str
        ``"decisions:NAME"``, NAME as the server knows the model.
    question : {"choice", "predicate", "score"}, optional
        ``"predicate"`` asks whether the second of exactly two labels is right; the protocol has no field for the meanings of
        yes and no, so the instructions state them. ``"score"`` places a text on 2 to 10 levels, the labels in their order.
        Default: choice.

    Notes
    -----
    The model may refuse to answer; such a row has an error and no scores.

    Examples
    --------
    >>> DecisionsBackend("decisions:gpt-6-luna", base_url="https://api.openai.com/v1", question="predicate").route
    'predicate'
    """

    wire = DecisionsWire()
    scheme = "decisions"
    usual_provider = Provider(
        "decisions",
        "a server of OpenAI Decisions",
        (Endpoint("decisions"),),
        url_variable="OPENAI_BASE_URL",
        key_variable="OPENAI_API_KEY",
        openai_headers=True,
    )


def confidence(probabilities: ArrayLike, *, ordered: bool = False) -> float:
    """How decided an answer is, from 0 (all options alike) to 1, by the formulas of the System One protocol.

    Servers state a ``confidence``, each by another formula; computed here, it means the same for all of them. It is a rescaled
    probability, no better calibrated than the probabilities are.

    Parameters
    ----------
    probabilities : (n,)
        That sum to 1.
    ordered : bool
        The options are levels of a score.

    Returns
    -------
    float
        For options, with m the largest probability, (m - 1/n) / (1 - 1/n). For levels, with k the most probable one,
        max(0, 1 - sum_i p_i |i - k| / D), where D = (1/n) sum_i |i - (n - 1)/2|. 1 if there is only one option.

    Examples
    --------
    >>> round(confidence([0.1, 0.7, 0.2]), 3)
    0.55
    >>> round(confidence([0.1, 0.7, 0.2], ordered=True), 3)
    0.55
    """
    p: Floats = np.asarray(probabilities, dtype=np.float64)
    n = len(p)
    if n == 1:
        return 1.0
    if not ordered:
        return float((p.max() - 1.0 / n) / (1.0 - 1.0 / n))
    levels = np.arange(n)
    spread = np.abs(levels - (n - 1) / 2).mean()
    return max(0.0, float(1.0 - (p * np.abs(levels - p.argmax())).sum() / spread))


def ask_about(prompt: RenderedPrompt) -> tuple[str, str]:
    """A prompt in the terms of a decision server: the text that it is about, and the instructions.

    Examples
    --------
    >>> from llmclf import Prompt
    >>> renderer = Prompt("{{ text }}", instruction="Is it good?").renderer(["yes", "no"], [({"text": "A bore."}, "no")])
    >>> state, instructions = ask_about(renderer.render({"text": "I laughed."}))
    >>> print(state)
    I laughed.
    >>> print(instructions)
    Is it good?
    <BLANKLINE>
    Example: A bore.
    Answer: no
    """
    *before, last = prompt.conversation()
    system = "\n\n".join(turn.text for turn in before if turn.role == "system").strip()
    parts = [system or NEUTRAL_INSTRUCTIONS]
    heads = {"user": "\n\nExample: ", "assistant": "\nAnswer: "}
    parts += [heads[turn.role] + turn.text.strip() for turn in before if turn.role in heads]
    return last.text, "".join(parts)


def _options(request: Request) -> tuple[str, ...]:
    return tuple(completion.strip() for completion in request.completions)
