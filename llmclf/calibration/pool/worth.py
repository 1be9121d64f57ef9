"""What each member of a pool is worth: its weight, how well it did on rows that it had not seen, and its price."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ...arrays import Floats, Integers
from ...metrics.means import mean_interval
from ..temperature import PriorCalibrator
from .members import LABEL_SCORES, FittedHead, FittedMember, Labelled
from .prices import Price, Prices

if TYPE_CHECKING:
    import pandas as pd

_MEASURES = ("accuracy", "log_loss")
_COLUMNS = (
    "weight",
    *(f"{name}{end}" for name in _MEASURES for end in ("", "_low", "_high")),
    "rows_per_second",
    "cost_per_1000_rows",
)


@dataclass(frozen=True, eq=False)
class Worth:
    """What is known of one member.

    Attributes
    ----------
    name : str
    weight : float
    logs : ndarray (n, K)
        Its log-probabilities of labelled rows that it has not seen.
    price : Price
        Of the label scores and features that it needs.
    """

    name: str
    weight: float
    logs: Floats
    price: Price


def price_of(member: FittedMember, prices: Prices | None) -> Price:
    """What the label scores and features that a member needs took.

    Parameters
    ----------
    member : FittedMember
    prices : Prices or None
        As measured; None where nothing was.
    """
    if prices is None:
        return Price()
    if not isinstance(member, FittedHead):
        knows_scores = not isinstance(getattr(member, "calibrator", None), PriorCalibrator)
        return prices.scores if knows_scores else Price(0.0)
    needs_scores = not isinstance(member.start, PriorCalibrator) or LABEL_SCORES in member.scalings
    return prices.of(needs_scores, [name for name in member.scalings if name != LABEL_SCORES])


def worth_table(
    members: Iterable[Worth],
    left_out: Iterable[str],
    labelled: Labelled,
    groups: Integers | None,
    confidence_level: float,
) -> pd.DataFrame:
    """One line per member: weight, accuracy and log loss with intervals, rows a second, cost; see `StackedCalibrator.to_frame`.

    Parameters
    ----------
    members : iterable of Worth
    left_out : iterable of str
        Members that could not be judged: their weight is 0, all else NaN.
    labelled : Labelled
        The n rows that they were judged on.
    groups : ndarray of int (n,) or None
        Rows of one group are one witness.
    confidence_level : float
    """
    import pandas as pd

    options: dict[str, Any] = {"confidence_level": confidence_level, "random_state": 0}
    if groups is not None and len(np.unique(groups)) < len(groups):
        options["groups"] = groups
    else:
        options["sample_weight"] = labelled.weights
    lines = {}
    for one in members:
        right = (one.logs.argmax(axis=1) == labelled.columns).astype(float)
        losses = -one.logs[np.arange(len(one.logs)), labelled.columns]
        found = mean_interval(right, bounds=(0.0, 1.0), **options), mean_interval(losses, **options)
        lines[one.name] = [one.weight, *found[0], *found[1], one.price.rows_per_second, one.price.cost]
    lines |= {name: [0.0, *[np.nan] * (len(_COLUMNS) - 1)] for name in left_out}
    return pd.DataFrame.from_dict(lines, orient="index", columns=list(_COLUMNS), dtype=float).rename_axis("member")
