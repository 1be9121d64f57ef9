"""A plan's questions asked through a provider's batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from ...backends.base import Backend, Batches
from ...backends.openai.batches.options import BatchOptions
from ...errors import InputError
from ..journal.plan import Plan
from ..recipe import Recipe
from .base import Here, Kept, answered


class BatchAsking:
    """Asks through ``/v1/files`` and ``/v1/batches`` of an OpenAI-compatible server, or through Anthropic's Message Batches.

    The journal keeps the ids of batches that are open and every answer that came, so that a restarted job continues
    waiting where it stopped, and pays for nothing twice.

    Parameters
    ----------
    report : callable, optional
        Told how batches get on, a line at a time.
    **options
        See `llmclf.backends.openai.batches.options.BatchOptions`.

    Examples
    --------
    >>> BatchAsking(poll_seconds=60.0, parallel=8)
    BatchAsking(parallel=8, poll_seconds=60.0)
    """

    def __init__(self, report: Callable[[str], None] | None = None, **options: Any) -> None:
        BatchOptions(**options)
        self.report = report
        self.options = options
        self._here: Here | None = None

    def __repr__(self) -> str:
        return f"BatchAsking({', '.join(f'{name}={value!r}' for name, value in sorted(self.options.items()))})"

    def check(self, recipe: Recipe) -> None:
        """See `llmclf.jobs.asking.base.Asking`.

        Raises
        ------
        InputError
            The model is not behind a server that takes batches.
        """
        _taking_batches(recipe.backend)

    def answers(self, recipe: Recipe, plan: Plan) -> Iterator[list[Kept]]:
        """See `llmclf.jobs.asking.base.Asking`."""
        backend = _taking_batches(recipe.backend)
        self._here = Here(backend)
        connection = plan.journal.connection
        return answered(
            recipe.request,
            plan.todo(),
            lambda requests: backend.batch_stream(requests, connection, report=self.report, **self.options),
        )

    def usage(self) -> dict[str, Any]:
        """Requests, tokens and cost of this run: of what was answered in it, whichever run has asked."""
        return {} if self._here is None else self._here.usage()


def _taking_batches(backend: Backend) -> Batches:
    if not isinstance(backend, Batches):
        raise InputError(f"{backend!r} does not take batches; use a model named openai:NAME or anthropic:NAME")
    return backend
