"""Whether probabilities say anything about the labels at all, beyond how frequent each class is."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arrays import Floats
from ..metrics import mean_interval
from ..metrics.refinement import recalibrate
from ..numerics.bag_of_words import bag_of_words_proba
from .evidence import Evidence
from .measures import Settings, entry

_SAME = 1e-6  # difference of two probabilities that does not count


def information(evidence: Evidence, settings: Settings) -> dict[str, Any]:
    """What the probabilities say about the labels, in nats per row.

    Returns
    -------
    dict
        ``constant``: every row has the same probabilities. ``only_predicted``: the class that every row is predicted to be in, or
        None. ``gain``: how much lower the log loss is than that of the class frequencies, after a bias and a temperature that
        were fitted on other rows. ``recalibration``: how much these two lower the log loss. ``is_informative``: False where
        the interval of the gain does not lie above 0, None where there is no interval. ``bag_of_words``: where it is False and
        there are texts, the accuracy of a bag of words on these rows and its own ``gain``; else None.
    """
    columns, proba = evidence.columns, evidence.proba
    n_rows, n_classes = proba.shape
    constant = bool(n_rows > 1 and (np.ptp(proba, axis=0) < _SAME).all())
    predicted = np.unique(evidence.predicted)
    found: dict[str, Any] = {
        "constant": constant,
        "only_predicted": evidence.names[predicted[0]] if predicted.size == 1 and n_rows > 1 else None,
        "gain": entry(np.nan),
        "recalibration": entry(np.nan),
        "is_informative": False if constant else None,
        "bag_of_words": None,
    }
    if evidence.n_clusters < 2:
        return found
    options: dict[str, Any] = {
        "confidence_level": settings.confidence,
        "random_state": settings.seed,
        "groups": evidence.clusters,
    }
    losses, frequencies, _ = recalibrate(columns, proba, np.ones(n_rows), evidence.clusters)
    with np.errstate(divide="ignore"):
        raw = -np.log(proba[np.arange(n_rows), columns])
    if np.isfinite(raw).all():
        found["recalibration"] = entry(*mean_interval(raw - losses, **options))
    if not constant:
        found["gain"] = entry(*mean_interval(frequencies - losses, **options))
        low = found["gain"]["low"]
        # Where only one class occurs, nothing can be told apart.
        found["is_informative"] = None if low is None or np.unique(columns).size < 2 else low > 0.0
    if found["is_informative"] is False and evidence.texts is not None:
        found["bag_of_words"] = _bag_of_words(evidence, n_classes, frequencies, options)
    return found


def _bag_of_words(
    evidence: Evidence, n_classes: int, frequencies: Floats, options: dict[str, Any]
) -> dict[str, Any] | None:
    assert evidence.texts is not None
    proba = bag_of_words_proba(evidence.texts, evidence.columns, n_classes, evidence.clusters)
    if proba is None:
        return None
    losses = -np.log(proba[np.arange(len(proba)), evidence.columns])
    gain = entry(*mean_interval(frequencies - losses, **options))
    return {"accuracy": float((proba.argmax(axis=1) == evidence.columns).mean()), "gain": gain}
