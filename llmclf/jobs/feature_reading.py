"""Reads the features of rows as their answers come, within the budget of the job."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

from ..arrays import Floats
from ..backends import RowScores
from ..backends.handle import Handle
from ..backends.usage import Usage
from ..errors import BudgetError
from .asking.base import Kept
from .heads import Heads
from .journal.plan import Plan
from .recipe import Recipe

_ROUNDING = 1e-9  # share of the budget that sums of many small costs may be off by
_CHUNK = 5000  # rows whose features are estimated together


class FeatureReading:
    """What heads of a pool make of the rows of one run, and what servers take for that.

    Parameters
    ----------
    recipe : Recipe
    plan : Plan
        Finished.

    Attributes
    ----------
    recipe : Recipe
        With what is left of the job's `max_cost` for the model once the features of all rows are paid for.

    Raises
    ------
    BudgetError
        The features alone could cost more than the limit.
    """

    def __init__(self, recipe: Recipe, plan: Plan) -> None:
        self.recipe = recipe
        self._plan = plan
        self._limit: float | None = None
        used = None if recipe.heads is None else recipe.heads.usage()
        self._before = None if used is None else replace(used)
        if recipe.heads is not None and used is not None and recipe.max_cost is not None:
            self._set_aside(recipe.heads, recipe.max_cost)

    def _set_aside(self, heads: Heads, limit: float) -> None:
        cost, records = 0.0, (record for _, record in self._plan.todo() if self.recipe.is_row(record))
        while part := list(islice(records, _CHUNK)):
            cost += _cost(heads, part)
        if cost >= limit:
            raise BudgetError(
                f"max_cost={limit:g} is too little: the embeddings of the rows alone could cost {cost:.6g}; raise it"
            )
        self._limit = limit
        if isinstance(self.recipe.backend, Handle):
            self.recipe = self.recipe.with_option("max_cost", limit - cost)

    def usage(self, of_model: Mapping[str, Any]) -> dict[str, Any]:
        """Requests, tokens and cost of this run: of the model, and with it of servers that were asked for features."""
        heads = self.recipe.heads
        now = None if heads is None else heads.usage()
        if now is None or self._before is None:
            return dict(of_model)
        own = now.since(self._before)
        if not own.requests:  # as of a model in this process
            return dict(of_model)
        total = Usage(**of_model) + own if of_model else own
        # Without a price of the model the cost is not known, whatever embeddings cost.
        cost = None if of_model and of_model["cost"] is None else total.cost
        return {**replace(total, cost=cost).to_dict(), "features": own.to_dict()}

    def read(self, answers: list[Kept], of_model: Mapping[str, Any]) -> tuple[list[Kept], dict[bytes, Floats]]:
        """Answers, and what heads make of the features of their rows; an error in place of an answer where these cannot be read.

        Parameters
        ----------
        answers : list of (key, RowScores)
        of_model : mapping
            What the model has taken so far.

        Raises
        ------
        BudgetError
            The features could cost more than is left.
        ModelError
            A model that makes features gave up.
        """
        heads = self.recipe.heads
        if heads is None:
            return answers, {}
        keys = [key for key, scores in answers if scores.error is None]
        records = {
            key: record
            for key, record in zip(keys, self._plan.records(keys), strict=True)
            if self.recipe.is_row(record)
        }
        scored = {key: scores for key, scores in answers if key in records}
        wanted = [records[key] for key in scored]
        self._check_budget(heads, wanted, of_model)
        found = dict(zip(scored, heads.read(wanted, list(scored.values())), strict=True))
        problems = {key: RowScores((), error=problem) for key, problem in found.items() if isinstance(problem, str)}
        answers = [(key, problems.get(key, scores)) for key, scores in answers]
        return answers, {key: numbers for key, numbers in found.items() if not isinstance(numbers, str)}

    def _check_budget(self, heads: Heads, records: Sequence[bytes], of_model: Mapping[str, Any]) -> None:
        if self._limit is None:
            return
        spent, cost = self.usage(of_model).get("cost") or 0.0, _cost(heads, records)
        if spent + cost > self._limit * (1.0 + _ROUNDING):
            raise BudgetError(
                f"max_cost={self._limit:g} is reached: {spent:.6g} is spent, and the embeddings of the next rows could cost "
                f"{cost:.6g}; raise max_cost to go on"
            )


def _cost(heads: Heads, records: Sequence[bytes]) -> float:
    asked = heads.estimate(records) if records else None
    return 0.0 if asked is None else asked.cost or 0.0
