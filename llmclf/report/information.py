"""Whether probabilities say anything about the labels, and whether recalibration would mend them."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..metrics import mean_interval
from ..metrics.association import label_association, recalibration_test
from ..metrics.refinement import recalibrate
from ..numerics.bag_of_words import bag_of_words_proba
from ..numerics.groups import first_members
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
        or None. ``is_informative``: whether probabilities and labels agree beyond chance (`label_association`); None on fewer
        than 20 rows, or where only one class occurs. ``contradicts``: they disagree beyond chance. ``recalibration``: how much a
        bias and a temperature, fitted on other rows, lower the log loss, in nats, with the ``p_value`` of the test that they
        could mend anything (`recalibration_test`). ``bag_of_words``: where the probabilities say nothing and there are texts
        from whose words the labels can be told, the ``accuracy`` of doing so; else None.
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
    # Rows of a cluster are no news of one another: one of each is tested.
    alone = first_members(evidence.clusters, n_rows)
    if len(alone) >= _MIN_ROWS and np.unique(columns[alone]).size > 1:
        association = label_association(proba[alone], columns[alone], settings.seed)
        found["is_informative"] = association.agree < level
        found["contradicts"] = association.contradict < level
    if len(alone) >= 2:
        losses = recalibrate(columns, proba, np.ones(n_rows), evidence.clusters).losses
        with np.errstate(divide="ignore"):
            gains = -np.log(proba[np.arange(n_rows), columns]) - losses
        if np.isfinite(gains).all():
            options: dict[str, Any] = {"confidence_level": settings.confidence, "random_state": settings.seed}
            found["recalibration"] = entry(
                *mean_interval(gains, groups=evidence.clusters, **options),
                p_value=recalibration_test(proba[alone], columns[alone], settings.seed),
            )
    if found["is_informative"] is False and not found["contradicts"] and evidence.texts is not None:
        words = bag_of_words_proba(evidence.texts, columns, proba.shape[1], evidence.clusters)
        if words is not None and label_association(words[alone], columns[alone], settings.seed).agree < level:
            found["bag_of_words"] = {"accuracy": float((words.argmax(axis=1) == columns).mean())}
    return found
