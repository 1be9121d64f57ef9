"""What the words of the texts alone say about the labels, for comparison."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..arrays import Floats, Integers
from .groups import joined_groups

_N_FOLDS = 5
_MIN_ROWS = 20
_MAX_ROWS = 5_000


def bag_of_words_proba(
    texts: Sequence[str], columns: NDArray[np.intp], n_classes: int, groups: Integers | None = None
) -> Floats | None:
    """Probabilities (n, K) of a logistic regression on TF-IDF weights of words and pairs of words, cross-fitted.

    Each row's probabilities come from a model that has not seen it, nor another row with the same text or of its group. None on
    fewer than 20 rows or five groups, on more than 5,000 rows (where this would take minutes), where one class occurs, and where
    the texts have no words.

    Parameters
    ----------
    texts : sequence of n str
    columns : (n,)
        The column of each row's true class.
    n_classes : int
    groups : ndarray of int (n,), optional
        What each row belongs to.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GroupKFold
    from sklearn.pipeline import make_pipeline

    _, members = np.unique(np.asarray(texts, dtype=object).astype(str), return_inverse=True)
    if groups is not None and np.unique(groups).size < groups.size:
        members = joined_groups(members, groups)
    if not _MIN_ROWS <= len(texts) <= _MAX_ROWS or members.max() + 1 < _N_FOLDS:
        return None
    counts = np.bincount(columns, minlength=n_classes)
    floor = (counts + 0.5) / (counts.sum() + 0.5 * n_classes)
    proba: Floats = np.tile(floor, (len(texts), 1))
    for train, test in GroupKFold(_N_FOLDS, shuffle=True, random_state=0).split(columns, groups=members):
        if np.unique(columns[train]).size < 2:
            return None
        # C is generous: these are few rows of short texts, where the default would hardly leave the class frequencies.
        model = make_pipeline(
            TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), LogisticRegression(C=10.0, max_iter=500)
        )
        try:
            model.fit([texts[i] for i in train], columns[train])
        except ValueError:  # the texts have no words
            return None
        known = np.zeros((test.size, n_classes))
        known[:, model[-1].classes_] = model.predict_proba([texts[i] for i in test])
        # A class that a fold has not seen keeps a little probability.
        proba[test] = 0.99 * known + 0.01 * floor
    return proba
