"""Whether probabilities say anything about the labels, and whether recalibration would mend them."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..metrics import mean_interval
from ..metrics.association import label_association, recalibration_test
from ..metrics.refinement import recalibrate
from ..numerics.bag_of_words import bag_of_words_proba
from .evidence import Evidence
from .measures import Settings, entry

_SAME = 1e-6  # difference of two probabilities that does not count
_MIN_ROWS = 20


def information(evidence: Evidence, settings: Settings) -> dict[str, Any]:
    """What the probabilities say about the labels.

    Returns
    -------
    dict
        ``constant``: every row has the same probabilities. ``only_predicted``: the class that every row is predicted to be in,
        or None. ``is_informative``: whether probabilities and labels agree beyond chance (`label_association`); None on fewer than
        20 rows, or where only one class occurs. ``contradicts``: they disagree beyond chance. ``recalibration``: how much a bias and
        a temperature, fitted on other rows, lower the log loss, in nats, with the ``p_value`` of the test that they could mend
        anything (`recalibration_test`). ``bag_of_words``: where the probabilities say nothing and there are texts from whose
        words the labels can be told, the ``accuracy`` of doing so; else None.
    """
    columns, proba = evidence.columns, evidence.proba
    n_rows, level = evidence.n_rows, round(1.0 - settings.confidence, 12)
    predicted = np.unique(evidence.predicted)
    found: dict[str, Any] = {
        "constant": bool(n_rows > 1 and (np.ptp(proba, axis=0) < _SAME).all()),
        "only_predicted": evidence.names[predicted[0]] if predicted.size == 1 and n_rows > 1 else None,
        "is_informative": None,
        "contradicts": False,
        "recalibration": entry(np.nan, p_value=None),
        "bag_of_words": None,
    }
    if n_rows >= _MIN_ROWS and np.unique(columns).size > 1:
        association = label_association(proba, columns, settings.seed)
        found["is_informative"] = association.agree < level
        found["contradicts"] = association.contradict < level
    if n_rows >= 2:
        losses = recalibrate(columns, proba, np.ones(n_rows)).losses
        with np.errstate(divide="ignore"):
            gains = -np.log(proba[np.arange(n_rows), columns]) - losses
        if np.isfinite(gains).all():
            found["recalibration"] = entry(
                *mean_interval(gains, confidence_level=settings.confidence, random_state=settings.seed),
                p_value=recalibration_test(proba, columns, settings.seed),
            )
    if found["is_informative"] is False and not found["contradicts"] and evidence.texts is not None:
        words = bag_of_words_proba(evidence.texts, columns, proba.shape[1])
        if words is not None and label_association(words, columns, settings.seed).agree < level:
            found["bag_of_words"] = {"accuracy": float((words.argmax(axis=1) == columns).mean())}
    return found
