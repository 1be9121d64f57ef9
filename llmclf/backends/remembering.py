"""What models are asked while somebody's transformer works: each question once, or, in a rehearsal, not at all.

A transformer that learns is fitted anew outside of each fold, and models inside of it would be asked again each time. Whoever
calls it opens a `Memory`, and whatever asks a model looks there first; copies of the transformer need not know of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import Any, Self

from .base import Backend, Embedder, EstimatesCost, ServedEmbedder
from .requests import Request, RowScores
from .usage import Estimate


class Scene:
    """What is open while a block of code runs."""

    @contextmanager
    def opened(self) -> Iterator[Self]:
        """In this block, and in this thread, models are asked through it."""
        before = _OPEN.set(self)
        try:
            yield self
        finally:
            _OPEN.reset(before)

    @classmethod
    def current(cls) -> Self | None:
        """The one of this kind that is open; None where none is."""
        found = _OPEN.get()
        return found if isinstance(found, cls) else None


_OPEN: ContextVar[Scene | None] = ContextVar("_OPEN", default=None)


class Memory(Scene):
    """Answers of models by the keys of their questions, for as long as the rows are there that they are about.

    Attributes
    ----------
    asked : list
        The different models that were asked.

    Examples
    --------
    >>> with Memory().opened() as memory:
    ...     memory is Memory.current()
    True
    >>> memory.put([("a", 1)])
    >>> memory.get(["a", "b"]), Memory.current()
    ({'a': 1}, None)
    """

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self._answers: dict[str, Any] = {}

    def note(self, model: Any) -> None:
        """Remember that a model was asked."""
        if model not in self.asked:
            self.asked.append(model)

    def get(self, keys: Sequence[str]) -> Mapping[str, Any]:
        """The answers that are known for some keys."""
        return {key: self._answers[key] for key in keys if key in self._answers}

    def put(self, items: Iterable[tuple[str, Any]]) -> None:
        """Keep answers."""
        self._answers.update(items)


class Rehearsal(Scene):
    """Notes what models would be asked; nothing is sent, and made-up answers let the transformer go on.

    Attributes
    ----------
    estimates : list of Estimate
        One for each time that a model would be asked something which was not noted before.
    """

    def __init__(self) -> None:
        self.estimates: list[Estimate] = []
        self._noted: set[tuple[Any, str | Request]] = set()

    def note(self, embedder: Embedder, texts: Sequence[str], n_rows: int) -> None:
        """Count the texts that a model would be asked about for so many rows, unless they are counted already."""
        fresh = [text for text in texts if (embedder, text) not in self._noted]
        self._noted.update((embedder, text) for text in fresh)
        if isinstance(embedder, ServedEmbedder):
            self.estimates.append(replace(embedder.estimate(fresh), rows=n_rows))

    def answers(self, backend: Backend, questions: Sequence[Request | RowScores]) -> list[RowScores]:
        """Count the requests among some questions to a model, unless they are counted already, and make answers up."""
        requests = dict.fromkeys(question for question in questions if isinstance(question, Request))
        fresh = [request for request in requests if (backend, request) not in self._noted]
        self._noted.update((backend, request) for request in fresh)
        if isinstance(backend, EstimatesCost):
            self.estimates.append(backend.estimate(fresh))
        return [
            RowScores(((-1.0,),) * len(question.completions)) if isinstance(question, Request) else question
            for question in questions
        ]

    @property
    def estimate(self) -> Estimate | None:
        """All that would be asked of servers; None where nothing is."""
        asked = [one for one in self.estimates if one.requests]
        return sum(asked[1:], asked[0]) if asked else None
