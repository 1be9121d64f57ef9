"""Scorers for scikit-learn's searches and cross-validation: higher is better, and a fold may lack some classes."""

from __future__ import annotations

from typing import Any

from numpy.typing import ArrayLike

from .binned import expected_calibration_error
from .refinement import refinement_error


def neg_ece(
    estimator: Any,
    X: Any,
    y: ArrayLike,
    sample_weight: ArrayLike | None = None,
    inclusion: ArrayLike | None = None,
) -> float:
    """Minus the expected calibration error in 15 bins of equal width, for ``scoring=``.

    A constant answer is well calibrated, so a search by this score alone may choose a useless model. Also look at
    `neg_refinement` or the log loss.

    Parameters
    ----------
    estimator : fitted classifier with predict_proba and classes_
    X : rows for the estimator
    y : array-like (n,)
    sample_weight : array-like (n,), optional
    inclusion : array-like (n,), optional
        With what probability each row was drawn, as in `expected_calibration_error`. A search hands neither on by itself: wrap
        the scorer in a function that looks them up.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.model_selection import cross_val_score
    >>> X, y = np.arange(40.0)[:, None], ["low"] * 20 + ["high"] * 20
    >>> bool((cross_val_score(LogisticRegression(), X, y, scoring=neg_ece) <= 0).all())
    True
    """
    proba = estimator.predict_proba(X)
    return -float(
        expected_calibration_error(
            y, proba, classes=estimator.classes_, sample_weight=sample_weight, inclusion=inclusion
        )
    )


def neg_refinement(
    estimator: Any,
    X: Any,
    y: ArrayLike,
    sample_weight: ArrayLike | None = None,
    inclusion: ArrayLike | None = None,
) -> float:
    """Minus the log loss that remains after recalibration (see `refinement_error`), for ``scoring=``.

    Use it to choose a prompt or a model if a calibrator will follow.

    Parameters
    ----------
    estimator, X, y, sample_weight, inclusion
        As in `neg_ece`.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import LogisticRegression
    >>> model = LogisticRegression().fit(np.arange(40.0)[:, None], ["low"] * 20 + ["high"] * 20)
    >>> neg_refinement(model, np.arange(40.0)[:, None], ["low"] * 20 + ["high"] * 20) > -0.1
    True
    """
    proba = estimator.predict_proba(X)
    return -float(
        refinement_error(y, proba, classes=estimator.classes_, sample_weight=sample_weight, inclusion=inclusion)
    )
