"""Conformal prediction: sets of labels that contain the true label with a guaranteed probability."""

from __future__ import annotations

import math
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from ..arrays import Floats
from ..checks import check_open_share
from ..errors import CalibrationWarning, InputError, warn
from ..metrics import checked_predictions, checked_probability_rows, label_columns
from ..numerics.class_array import class_array


class ConformalClassifier(ClassifierMixin, BaseEstimator):
    r"""For every row a set of labels that contains the true label with at least the requested confidence.

    Each labelled row, on which nothing may have been fitted, gets a nonconformity score: how unusual its true label looks. The
    set of a new row holds the labels whose scores do not exceed the ceil((n + 1) * confidence)-th smallest of these n scores.
    The guarantee is marginal, over new rows and over the draw of the labelled rows. It holds for exchangeable rows and for any
    model (Vovk, Gammerman & Shafer 2005, "Algorithmic learning in a random world"). An empty set says that no label fits.

    - ``"lac"``: the score is 1 - p of the label. It gives the smallest sets on average (Sadinle, Lei & Wasserman 2019, "Least
      ambiguous set-valued classifiers with bounded error levels").
    - ``"aps"``: the score is the sum of p over the label and all more probable labels. It gives larger sets, whose coverage is
      more even between easy and hard rows (Romano, Sesia & Candès 2020, "Classification with valid and adaptive coverage";
      without their randomisation, so a row always has the same set, and coverage is somewhat higher than necessary).

    Parameters
    ----------
    estimator : fitted classifier, optional
        Gives the probabilities of X. None: X holds probabilities (n, K).
    method : {"lac", "aps"}
    confidence_level : float in (0, 1)

    Attributes
    ----------
    quantile_ : float
        The largest nonconformity score that a label of a set may have; infinite, with a warning, if there were too few rows.
    classes_ : ndarray (K,)
        The class of each column.
    n_rows_ : int
        The number of rows it was fitted on.

    Examples
    --------
    >>> proba = np.array([[0.8, 0.15, 0.05], [0.2, 0.7, 0.1], [0.4, 0.35, 0.25]] * 10)
    >>> conformal = ConformalClassifier().fit(proba, ["a", "b", "b"] * 10, classes=["a", "b", "c"])
    >>> conformal.predict_set(proba[:3]).astype(int).tolist()
    [[1, 0, 0], [0, 1, 0], [1, 1, 0]]
    """

    def __init__(self, estimator: Any = None, *, method: str = "lac", confidence_level: float = 0.9) -> None:
        self.estimator = estimator
        self.method = method
        self.confidence_level = confidence_level

    def fit(self, X: Any, y: ArrayLike, classes: ArrayLike | None = None) -> Self:
        """Compute the quantile on labelled rows that neither the model nor the calibrator saw.

        Parameters
        ----------
        X : rows for the estimator, or probabilities (n, K)
        y : array-like (n,)
        classes : array-like (K,), optional
            The class of each column, if there is no estimator.

        Raises
        ------
        InputError
            A parameter, a probability or a label cannot be used.

        Warns
        -----
        CalibrationWarning
            There are too few rows for the requested confidence: every set then holds every label.
        """
        level = check_open_share("confidence_level", self.confidence_level, "0.9")
        if self.method not in _NONCONFORMITY:
            raise InputError(f"method={self.method!r} is unknown; expected 'lac' or 'aps'")
        known = classes if self.estimator is None else self.estimator.classes_
        columns, proba, _ = checked_predictions(y, self._proba(X), known)
        true_scores = np.sort(_NONCONFORMITY[self.method](proba)[np.arange(columns.size), columns])
        rank = math.ceil((columns.size + 1) * level - 1e-9)
        if rank > columns.size:
            warn(
                f"ConformalClassifier: {columns.size} labelled rows are too few for confidence {level:g}, so every set holds "
                f"every label; at least {math.ceil(level / (1 - level) - 1e-9)} are needed",
                CalibrationWarning,
            )
        self.quantile_ = float(true_scores[rank - 1]) if rank <= columns.size else math.inf
        self.n_rows_ = int(columns.size)
        self.classes_ = _classes(known, y, proba.shape[1])
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
        sets: NDArray[np.bool_] = _NONCONFORMITY[self.method](self.predict_proba(X)) <= self.quantile_
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

    def _proba(self, X: Any) -> Any:
        return X if self.estimator is None else self.estimator.predict_proba(X)


def _lac(proba: Floats) -> Floats:
    return 1.0 - proba


def _aps(proba: Floats) -> Floats:
    """The sum of p over each label and all more probable labels; ties count in the order of the columns."""
    order = np.argsort(-proba, axis=1, kind="stable")
    sums = np.cumsum(np.take_along_axis(proba, order, axis=1), axis=1)
    result = np.empty_like(proba)
    np.put_along_axis(result, order, sums, axis=1)
    return result


_NONCONFORMITY = {"lac": _lac, "aps": _aps}


def _classes(known: ArrayLike | None, y: ArrayLike, n_columns: int) -> NDArray[Any]:
    if known is not None:
        return class_array(np.asarray(known, dtype=object))
    if np.asarray(y).dtype.kind in "buif":
        return np.arange(n_columns)
    labels = sorted(set(np.asarray(y, dtype=object).tolist()))
    assert len(labels) == n_columns == len(np.unique(label_columns(y, n_columns)))
    return class_array(labels)
