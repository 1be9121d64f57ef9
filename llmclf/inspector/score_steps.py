"""From raw scores to the probability, one line per step, in numbers that add up in nats and multiply out in probabilities."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ..arrays import Floats
from ..logits import log_softmax


def path_of(raw: Floats, later: Iterable[tuple[str, Floats]], classes: Sequence[Any]) -> dict[str, Any]:
    """Every step between the raw scores of one row and its probabilities.

    Parameters
    ----------
    raw : ndarray (K,)
        Summed log-probability of each class's words.
    later : iterable of (name, ndarray (K,))
        The log-scores after each step.
    classes : sequence of K

    Returns
    -------
    dict
        ``classes``; ``steps``: of each its ``name``, the ``scores`` after it, what it adds to each (``change``, in nats) and by
        what it multiplies its exponential (``factor``); ``probabilities``. The first step starts from 0, and the last,
        ``"normalise"``, takes the same from all: the changes of a class add up to the logarithm of its probability. Minus
        infinity is None; a step that lifts a class from there starts from 0 again, so that its changes add up without the None.
    """
    steps = [*((name, np.asarray(scores, dtype=np.float64)) for name, scores in (("raw", raw), *later))]
    steps.append(("normalise", log_softmax(steps[-1][1])))
    before, lines = np.zeros(len(classes)), []
    for name, scores in steps:
        with np.errstate(invalid="ignore", over="ignore"):
            lifted = np.isneginf(before) & np.isfinite(scores)
            change = np.where(lifted, scores, np.where(np.isneginf(scores) & np.isneginf(before), 0.0, scores - before))
            factor = np.exp(change)
        lines.append({"name": name, "scores": _plain(scores), "change": _plain(change), "factor": _plain(factor)})
        before = scores
    return {"classes": list(classes), "steps": lines, "probabilities": np.exp(before).tolist()}


def _plain(values: Floats) -> list[float | None]:
    return [value if math.isfinite(value) else None for value in values.tolist()]
