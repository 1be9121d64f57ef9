"""Ways to have a plan's questions answered: here, by a provider's batches, or by many processes elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol, TypeVar

from ...backends import Backend, Request, RowScores
from ...backends.base import CountsUsage
from ...backends.streaming import stream
from ...errors import PromptError
from ..journal.plan import Plan
from ..recipe import Recipe

T = TypeVar("T")
Kept = tuple[bytes, RowScores]
"""The key of a question, and its answer."""


class Asking(Protocol):
    """A way to ask."""

    def check(self, recipe: Recipe) -> None:
        """Refuse a model or options that cannot be asked in this way, before the table is read and anything is asked."""
        ...

    def answers(self, recipe: Recipe, plan: Plan) -> Iterator[list[Kept]]:
        """Answers in groups, in any order. A group is in the journal once the next is asked for."""
        ...

    def usage(self) -> dict[str, Any]:
        """Requests, tokens and cost so far, where they are known."""
        ...


class Here:
    """From this process.

    Parameters
    ----------
    backend : Backend
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._before = self._used()

    def check(self, recipe: Recipe) -> None:
        """Every model can be asked from here."""

    def answers(self, recipe: Recipe, plan: Plan) -> Iterator[list[Kept]]:
        n = plan.counts.todo
        return answered(
            recipe.request,
            plan.todo(),
            lambda requests: stream(self._backend, requests, n_requests=n),
        )

    def usage(self) -> dict[str, Any]:
        return {
            name: value if value is None or self._before.get(name) is None else value - self._before[name]
            for name, value in self._used().items()
        }

    def _used(self) -> dict[str, Any]:
        return used(self._backend)


def used(backend: Backend) -> dict[str, Any]:
    """Requests, tokens and cost of a backend so far; nothing where it does not count them."""
    return backend.usage.to_dict() if isinstance(backend, CountsUsage) else {}


def answered(
    request_of: Callable[[bytes], Request],
    rows: Iterable[tuple[T, bytes]],
    ask: Callable[[Iterable[Request]], Iterator[list[tuple[int, RowScores]]]],
) -> Iterator[list[tuple[T, RowScores]]]:
    """Answers to records, each with what its row is called; a record that cannot be rendered is answered with the reason.

    Parameters
    ----------
    request_of : callable
        Makes the request of a record.
    rows : iterable of pairs of a name and a record
        Read as fast as it is worked on, maybe in another thread.
    ask : callable
        Answers requests in groups, each answer with its request's place.
    """
    waiting: dict[int, T] = {}
    aside: list[tuple[T, RowScores]] = []

    def requests() -> Iterator[Request]:
        place = 0
        for name, record in rows:
            try:
                request = request_of(record)
            except PromptError as error:
                aside.append((name, RowScores((), error=str(error))))
                continue
            waiting[place] = name
            place += 1
            yield request

    for group in ask(requests()):
        answers = [(waiting.pop(place), scores) for place, scores in group]
        while aside:
            answers.append(aside.pop())
        yield answers
    if aside:
        yield aside
