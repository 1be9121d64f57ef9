"""The routes by answers, by name."""

from __future__ import annotations

from .base import AnswerRoute
from .mixed import Mixed
from .options import AnswerSettings
from .sampled import Sampled
from .verbalized import Verbalized

ANSWER_ROUTES: dict[str, type[AnswerRoute]] = {route.name: route for route in (Verbalized, Sampled, Mixed)}
"""Cheapest first."""


def answer_route(name: str, settings: AnswerSettings) -> AnswerRoute:
    """The route of a name of `ANSWER_ROUTES`.

    Examples
    --------
    >>> answer_route("sampled", AnswerSettings(n_samples=3)).cost
    '3 to 20 answers a row'
    """
    return ANSWER_ROUTES[name](settings)


def by_answers() -> str:
    """How to ask for scores from what a model writes, with what that costs, for errors.

    Examples
    --------
    >>> by_answers()  # doctest: +ELLIPSIS
    "take estimates from what it writes: use_route='verbalized' (1 request a row) or ..."
    """
    costs = [
        f"use_route={name!r} ({answer_route(name, AnswerSettings()).cost})" for name in (Verbalized.name, Sampled.name)
    ]
    return f"take estimates from what it writes: {' or '.join(costs)}"
