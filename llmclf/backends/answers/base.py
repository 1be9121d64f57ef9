"""What a route by answers is: requests about one row, and scores with bounds from what is written."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, ClassVar, NamedTuple, Protocol, TypeVar

from ..requests import RowScores
from .draws import LogShares
from .generates import GeneratesText, GenerationRequest
from .options import USED, AnswerSettings
from .question import Question

T = TypeVar("T")


class Gather(Protocol):
    """Runs coroutine functions, at the same time where that helps, and gives their results in order."""

    def __call__(self, *functions: Callable[[], Awaitable[T]]) -> Awaitable[list[T]]: ...


async def one_by_one(*functions: Callable[[], Awaitable[T]]) -> list[T]:
    """A `Gather` for a generator that does one thing at a time."""
    return [await function() for function in functions]


class AnswerWork(NamedTuple):
    """What one row takes at most: requests, tokens read in all of them together, and tokens written."""

    requests: int
    tokens_in: int
    tokens_out: int


class AnswerRoute(ABC):
    """One way to scores from what a model writes.

    Attributes
    ----------
    name : str
        As in ``use_route=``.
    summary : str
        How it works, for a list of routes.
    depends_on_answers : bool
        How much a row takes is known only from its answers.
    batch_obstacle : str or None
        Why a batch of requests that are told apart by what they say cannot carry it; None where it can.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    depends_on_answers: ClassVar[bool]
    batch_obstacle: ClassVar[str | None]

    def __init__(self, settings: AnswerSettings) -> None:
        self.settings = settings

    def check(self, question: Question) -> None:  # noqa: B027 - most routes can ask every question
        """Refuse a question that the route cannot ask.

        Raises
        ------
        CapabilityError
        """

    @abstractmethod
    def first_request(self, question: Question, writer: GeneratesText) -> GenerationRequest:
        """The first of the requests about a row, to show what is added to its prompt."""

    def first_requests(self, question: Question, writer: GeneratesText) -> Sequence[GenerationRequest]:
        """One of each kind of request about a row; others of a kind differ from it in their order of the labels alone."""
        return [self.first_request(question, writer)]

    @abstractmethod
    async def score(self, question: Question, writer: GeneratesText, gather: Gather) -> RowScores:
        """The scores of a row, or why there are none.

        Raises
        ------
        ServerError
            A request is refused, or still fails after the last attempt.
        """

    @abstractmethod
    def work(self, context: int, labels: Sequence[int], longest: int) -> AnswerWork:
        """What a row takes at most.

        Parameters
        ----------
        context : int
            Tokens of its prompt.
        labels : sequence of int
            Tokens of each label.
        longest : int
            Bytes of the longest label.
        """

    @property
    @abstractmethod
    def cost(self) -> str:
        """Requests for a row, in words."""

    def identity(self) -> dict[str, Any]:
        """What its scores depend on besides the model, as plain JSON values."""
        return {"route": self.name, **{name: getattr(self.settings, name) for name in USED[self.name]}}


def row_scores(shares: LogShares) -> RowScores:
    """The answer to a row whose labels have these log-probabilities."""
    # Sums of logarithms may end a rounding error above 0.
    logp, lower, upper = (
        tuple(min(float(value), 0.0) for value in side) for side in (shares.logp, shares.lower, shares.upper)
    )
    return RowScores(tuple((value,) for value in logp), lower, upper)


def scaled(shares: LogShares, mass: LogShares) -> LogShares:
    """Shares of labels that have the probability `mass` (1,) together."""
    return LogShares(shares.logp + mass.logp, shares.lower + mass.lower, shares.upper + mass.upper)


def added_tokens(text: str, labels: Sequence[int]) -> int:
    """About how many tokens a text and a list of labels add to a prompt."""
    return len(text) // 4 + sum(n + 3 for n in labels)
