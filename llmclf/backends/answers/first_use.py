"""Whoever takes estimates for scores is told so, once."""

from __future__ import annotations

from ...errors import EstimatedScoresWarning, warn
from ..usage import Estimate
from .base import AnswerRoute


def warn_of_estimates(route: AnswerRoute, model: str, first: Estimate, better: str | None) -> None:
    """Warn that scores are estimates from what a model writes.

    Parameters
    ----------
    route : AnswerRoute
    model : str
    first : Estimate
        Of one row.
    better : str or None
        The name of a route by log-probabilities that the server also allows.

    Warns
    -----
    EstimatedScoresWarning
    """
    cost = "" if first.cost is None else f", {first.cost:.2g} in the unit of the price"
    most = "at most " if first.is_at_most else ""
    instead = "" if better is None else f"; the model also has the route {better!r}, which reads log-probabilities"
    warn(
        f"the route {route.name!r} takes estimates from what {model} writes for scores, with bounds: {route.cost} ({most}about "
        f"{first.tokens_in} tokens read and {first.tokens_out} written{cost}, for the first row){instead}. Calibrate them, and "
        "compare nothing with scores of another route",
        EstimatedScoresWarning,
    )
