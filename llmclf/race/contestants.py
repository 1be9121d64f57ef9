"""The contestants of a race, fitted on some labelled rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import clone

from ..arrays import Floats, Integers
from ..calibration import Corrections, StackedCalibrator, make_calibrator
from ..calibration.pool.cross_fits import CrossFits
from ..calibration.pool.members import FittedMember, Head, Labelled, Observed
from ..calibration.temperature import PriorCalibrator
from ..logits import floor_missing, log_softmax
from ..numerics.folds import fold_weights
from ..numerics.row_features import RowFeatures

if TYPE_CHECKING:
    from .contest import LabelledRows

FREQUENCIES, RAW, CALIBRATED, POOL = "class frequencies", "label words, raw", "label words, calibrated", "pool"

Features = Mapping[str, RowFeatures]
Apply = Callable[[Floats, Features], Floats]
"""From the raw log-scores (n, K) and the features of rows to log-probabilities (n, K)."""


def alone(feature_set: str) -> str:
    """The name of the contestant that learns from one feature set alone.

    Examples
    --------
    >>> alone("tfidf"), alone("states"), alone("embeddings")
    ('text alone', 'states alone', 'embeddings alone')
    """
    return f"{'text' if feature_set == 'tfidf' else feature_set} alone"


class Contestants:
    """All contestants, in the order in which a race shows them: the cheapest first.

    Parameters
    ----------
    corrections : Corrections
        Not fitted: the bias, and the pool with its calibrator for the label scores.
    pooled : tuple of str
        The feature sets that the pool learns from.
    n_classes : int
    """

    def __init__(self, corrections: Corrections, pooled: tuple[str, ...], n_classes: int) -> None:
        assert isinstance(corrections.calibrator, StackedCalibrator)
        self._bias, self._pool = corrections.bias, corrections.calibrator
        self._pooled = pooled
        self._classes = np.arange(n_classes)

    def fit(self, rows: LabelledRows) -> dict[str, Apply]:
        """Every contestant after it has learned from these rows."""
        pooled = {name: rows.features[name] for name in self._pooled}
        pool = self._corrections(self._pool, rows, pooled)
        stacked: StackedCalibrator = pool.calibrator
        single = make_calibrator("auto" if self._pool.calibrator is None else self._pool.calibrator)
        calibrated = self._corrections(single, rows, None)
        frequencies = PriorCalibrator().fit(_finite(rows.scores), rows.columns, classes=self._classes)
        fitted: dict[str, Apply] = {FREQUENCIES: lambda scores, _: frequencies.predict_log_proba(_finite(scores))}
        for name in rows.features:
            head = stacked.members_.get(name)
            fitted[alone(name)] = _applied(self._head(name, rows) if head is None else head, name)
        fitted[RAW] = lambda scores, _: log_softmax(_finite(scores))
        fitted[CALIBRATED] = lambda scores, _: log_softmax(calibrated.apply(scores))

        def pooled_logs(scores: Floats, features: Features) -> Floats:
            own = {name: features[name] for name in self._pooled}
            heads = stacked.head_logits(own, len(scores)) if stacked.heads else None
            return log_softmax(pool.apply(scores, heads))

        fitted[POOL] = pooled_logs
        return fitted

    def _corrections(self, calibrator: Any, rows: LabelledRows, features: Features | None) -> Corrections:
        """Bias and calibrator after they have seen the rows; a prior is about other rows, and left out."""
        bias = None if self._bias is None else clone(self._bias)
        return Corrections(bias, clone(calibrator)).fit(
            rows.scores, rows.columns, None, rows.content_free, groups=rows.groups, features=features
        )

    def _head(self, name: str, rows: LabelledRows) -> FittedMember:
        """A head that is no member of the pool: another feature set, or one that the pool could not judge on these rows."""
        ones, scores = np.ones(len(rows)), _finite(rows.scores)
        observed = Observed(log_softmax(scores), {name: rows.features[name]})
        labelled = Labelled(observed, np.asarray(rows.columns, np.intp), ones, self._classes)
        folds: Integers = fold_weights(scores, labelled.columns, ones, groups=rows.groups).argmax(axis=1)
        head = Head(name, (name,), False)
        # Where nothing can be judged it learns as little as it can.
        step = CrossFits(labelled, folds).judged(head)[0] if np.unique(folds).size > 1 else 0
        return head.fit(labelled, step)


def _applied(member: FittedMember, name: str) -> Apply:
    return lambda scores, features: member.log_proba(Observed(_finite(scores), {name: features[name]}))


def _finite(scores: Floats) -> Floats:
    finite: Floats = floor_missing(scores)[0]
    return finite
