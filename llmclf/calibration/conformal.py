"""Conformal prediction: sets of labels that contain the true label with a guaranteed probability."""

from __future__ import annotations

import math
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from ..arrays import Floats
from ..checks import check_open_share
from ..errors import CalibrationWarning, InputError, warn
from ..metrics import checked_predictions, checked_probability_rows, inclusion_weights, label_columns
from ..numerics.class_array import class_array
from ..numerics.thinning import evenly_drawn


class ConformalClassifier(ClassifierMixin, BaseEstimator):
    r"""For every row a set of labels that contains the true label with at least the requested confidence.

    Each labelled row, on which nothing may have been fitted, gets a nonconformity score: how unusual its true label looks. The
    set of a new row holds the labels whose scores do not exceed the ceil((n + 1) * confidence)-th smallest of these n scores.
    The guarantee is marginal, over new rows and over the draw of the labelled rows. It holds for exchangeable rows and for any
    model (Vovk, Gammerman & Shafer 2005, "Algorithmic learning in a random world").

    - ``"lac"``: the score is 1 - p of the label. It gives the smallest sets on average (Sadinle, Lei & Wasserman 2019, "Least
      ambiguous set-valued classifiers with bounded error levels"). A set may be empty: no label is probable enough.
    - ``"aps"``: the score is the mass above the label, the sum of p over all labels that are more probable. Its sets are
      larger, and their coverage is more even between easy and hard rows (Romano, Sesia & Candès 2020, "Classification with valid
      and adaptive coverage"). The most probable label, and any that is as probable, has score 0, so no set is empty. Where the
      model is right more often than requested, the sets hold that label alone, and coverage is higher than requested.

    Parameters
    ----------
    estimator : fitted classifier, optional
        Gives the probabilities of X. None: X holds probabilities (n, K).
    method : {"lac", "aps"}
    confidence_level : float in (0, 1)
    randomized : bool
        With ``"aps"``: a uniform share of the label's own p is added to its score, as in the paper. Coverage is then at
        most 1 / (n + 1) higher than requested, also where a model is nearly always right. But a sure row's set may be empty by
        chance, and equal rows may have different sets.
    class_conditional : bool
        Whether the guarantee holds for each class by itself: among rows whose true label is k, the set holds k with the requested
        confidence. A marginal guarantee allows a rare class to be missing from all of its sets. Each label is compared with the
        scores of the labelled rows of its class (Vovk 2012, "Conditional validity of inductive conformal predictors"). If these
        are too few, the label is in every set, and a warning says so.
    random_state : int, RandomState or None
        Draws the shares of `randomized`, in the fit and, from a number drawn there, in `predict_set`, which gives the same
        rows in the same order the same sets.

    Attributes
    ----------
    quantile_ : float, or ndarray (K,) with `class_conditional`
        The largest nonconformity score that a label of a set may have; infinite, with a warning, if there were too few rows.
    classes_ : ndarray (K,)
        The class of each column.
    n_rows_ : int
        The number of rows whose scores the quantile was taken from.

    Examples
    --------
    >>> proba = np.array([[0.8, 0.15, 0.05], [0.2, 0.7, 0.1], [0.4, 0.35, 0.25]] * 10)
    >>> conformal = ConformalClassifier().fit(proba, ["a", "b", "b"] * 10, classes=["a", "b", "c"])
    >>> conformal.predict_set(proba[:3]).astype(int).tolist()
    [[1, 0, 0], [0, 1, 0], [1, 1, 0]]
    >>> conformal = ConformalClassifier(method="aps").fit(proba, ["a", "b", "b"] * 10, classes=["a", "b", "c"])
    >>> conformal.predict_set(proba[:3]).astype(int).tolist(), conformal.quantile_
    ([[1, 0, 0], [0, 1, 0], [1, 1, 0]], 0.4)
    """

    def __init__(
        self,
        estimator: Any = None,
        *,
        method: str = "lac",
        confidence_level: float = 0.9,
        randomized: bool = False,
        class_conditional: bool = False,
        random_state: Any = None,
    ) -> None:
        self.estimator = estimator
        self.method = method
        self.confidence_level = confidence_level
        self.randomized = randomized
        self.class_conditional = class_conditional
        self.random_state = random_state

    def fit(self, X: Any, y: ArrayLike, classes: ArrayLike | None = None, inclusion: ArrayLike | None = None) -> Self:
        """Compute the quantile on labelled rows that neither the model nor the calibrator saw.

        Parameters
        ----------
        X : rows for the estimator, or probabilities (n, K)
        y : array-like (n,)
        classes : array-like (K,), optional
            The class of each column, if there is no estimator.
        inclusion : array-like (n,), optional
            With what probability each row was drawn, where not all had the same, as `llmclf.estimation.next_rows` says it. The
            guarantee is then about rows of the table that was drawn from: rows are kept at random with the least of the
            probabilities over their own, so that all that are kept were drawn alike and are exchangeable with future rows.

        Raises
        ------
        InputError
            A parameter, a probability or a label cannot be used.

        Warns
        -----
        CalibrationWarning
            There are too few rows for the requested confidence: every set then holds every label, or, with
            `class_conditional`, those labels that have too few rows.
        """
        level = check_open_share("confidence_level", self.confidence_level, "0.9")
        if self.method not in _NONCONFORMITY:
            raise InputError(f"method={self.method!r} is unknown; expected 'lac' or 'aps'")
        if self.randomized and self.method != "aps":
            raise InputError(
                f"randomized=True splits the mass of a label, and method={self.method!r} does not sum any; use method='aps'"
            )
        known = classes if self.estimator is None else self.estimator.classes_
        columns, proba, _ = checked_predictions(y, self._proba(X), known)
        labels = _classes(known, y, proba.shape[1])
        draws = check_random_state(self.random_state)
        self.seed_ = int(draws.randint(2**31 - 1))
        if inclusion is not None:
            inclusion_weights(inclusion, columns.size)
            kept = evenly_drawn(np.asarray(inclusion, dtype=np.float64), self.seed_)
            columns, proba = columns[kept], proba[kept]
        scores = self._nonconformity(proba, draws.random_sample(columns.size))[np.arange(columns.size), columns]
        enough = math.ceil(level / (1 - level) - 1e-9)
        self.quantile_: float | Floats
        if self.class_conditional:
            self.quantile_ = np.array([_quantile(scores[columns == k], level) for k in range(labels.size)])
            rare = np.flatnonzero(np.isinf(self.quantile_))
            if rare.size:
                counts = np.bincount(columns, minlength=labels.size)
                named = ", ".join(f"{labels.tolist()[k]!r} ({counts[k]} rows)" for k in rare[:10])
                more = f" and {rare.size - 10} others" if rare.size > 10 else ""
                warn(
                    f"ConformalClassifier: too few labelled rows for confidence {level:g} have the class {named}{more}, so every "
                    f"set holds it; at least {enough} of each class are needed",
                    CalibrationWarning,
                )
        else:
            self.quantile_ = _quantile(scores, level)
            if math.isinf(self.quantile_):
                warn(
                    f"ConformalClassifier: {columns.size} labelled rows are too few for confidence {level:g}, so every set holds "
                    f"every label; at least {enough} are needed",
                    CalibrationWarning,
                )
        self.n_rows_ = int(columns.size)
        self.classes_ = labels
        return self

    def predict_set(self, X: Any) -> NDArray[np.bool_]:
        """Which labels are in the set of each row.

        Parameters
        ----------
        X : rows for the estimator, or probabilities (n, K)

        Returns
        -------
        ndarray of bool (n, K), columns in the order of `classes_`
        """
        proba = self.predict_proba(X)
        shares = np.random.default_rng(self.seed_).random(len(proba))
        sets: NDArray[np.bool_] = self._nonconformity(proba, shares) <= self.quantile_
        return sets

    def predict_proba(self, X: Any) -> Floats:
        """The probabilities (n, K) from which the sets are computed."""
        check_is_fitted(self)
        proba = checked_probability_rows(self._proba(X))
        if proba.shape[1] != self.classes_.size:
            raise InputError(f"proba has {proba.shape[1]} columns; expected {self.classes_.size}, one per class")
        return proba

    def predict(self, X: Any) -> NDArray[Any]:
        """The most probable class (n,), regardless of the sets."""
        proba = self.predict_proba(X)
        labels: NDArray[Any] = self.classes_[proba.argmax(axis=1)]
        return labels

    def _nonconformity(self, proba: Floats, shares: Floats) -> Floats:
        """Scores (n, K), with a share (n,) of each label's own mass where that is asked for."""
        scores = _NONCONFORMITY[self.method](proba)
        return scores + shares[:, None] * proba if self.randomized else scores

    def _proba(self, X: Any) -> Any:
        return X if self.estimator is None else self.estimator.predict_proba(X)


def _quantile(scores: Floats, level: float) -> float:
    """The ceil((n + 1) * level)-th smallest score; infinite where there is none."""
    rank = math.ceil((scores.size + 1) * level - 1e-9)
    return float(np.sort(scores)[rank - 1]) if rank <= scores.size else math.inf


def _lac(proba: Floats) -> Floats:
    return 1.0 - proba


def _mass_above(proba: Floats) -> Floats:
    """The sum of p over all labels that are more probable; equally probable labels have the same."""
    order = np.argsort(-proba, axis=1, kind="stable")
    ranked = np.take_along_axis(proba, order, axis=1)
    sums = np.cumsum(ranked, axis=1) - ranked
    # A label that is as probable as the one before it takes over its sum. The sums never fall, so that is the largest so far.
    starts = np.column_stack([np.ones(len(proba), dtype=bool), np.diff(ranked, axis=1) != 0.0])
    sums = np.maximum.accumulate(np.where(starts, sums, 0.0), axis=1)
    result = np.empty_like(proba)
    # Rounded, so that rows that differ in the order of their columns alone do not differ in the last digit.
    np.put_along_axis(result, order, sums.round(12), axis=1)
    return result


_NONCONFORMITY = {"lac": _lac, "aps": _mass_above}


def _classes(known: ArrayLike | None, y: ArrayLike, n_columns: int) -> NDArray[Any]:
    if known is not None:
        return class_array(np.asarray(known, dtype=object))
    if np.asarray(y).dtype.kind in "buif":
        return np.arange(n_columns)
    labels = sorted(set(np.asarray(y, dtype=object).tolist()))
    assert len(labels) == n_columns == len(np.unique(label_columns(y, n_columns)))
    return class_array(labels)
