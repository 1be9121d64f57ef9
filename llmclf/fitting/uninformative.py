"""A classifier that gives one answer to everybody: the warning that says so, and what would do better."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..arrays import Floats, Integers
from ..calibration import Corrections, PooledCalibrator, PriorCalibrator, StackedCalibrator
from ..errors import CalibrationWarning, warn
from ..logits import softmax
from ..metrics.association import label_association
from ..numerics.bag_of_words import bag_of_words_proba
from ..numerics.groups import first_members

_MIN_ROWS = 20
_SAME = 1e-6  # difference of two probabilities that does not count
_LEVEL = 0.05
_NEARLY_ALL = 0.9  # of the rows: an average of calibrators is hardly ever quite constant


def warn_of_one_answer(
    corrections: Corrections,
    scores: Floats,
    columns: Integers,
    classes: Sequence[Any],
    texts: Sequence[str],
    groups: Integers | None = None,
) -> None:
    """Warn if the calibrator gives all rows the same answer, and nothing shows that the scores tell the classes apart.

    A rare class is predicted for no row, although the probabilities rank the rows well; that is no reason to warn. Nor are
    answers that a user asked for: class frequencies as the calibrator, or a prior of one class.

    Parameters
    ----------
    corrections : Corrections
        Fitted, with a calibrator.
    scores : (n, K)
        Of the calibration rows, before corrections.
    columns : (n,)
        The columns of their true classes.
    classes : sequence of K
    texts : sequence of n str
        What the prompt shows of each row; the words of these are tried beside the scores.
    groups : ndarray of int (n,), optional
        Rows of one group do not judge each other.

    Warns
    -----
    CalibrationWarning
    """
    if isinstance(corrections.calibrator, PriorCalibrator):
        return
    if isinstance(corrections.calibrator, PooledCalibrator):
        proba = np.exp(corrections.calibrator.judged())  # its members have seen no label of theirs
    else:
        proba = softmax(dict(corrections.steps(scores))["calibrator"])
    n_rows, n_classes = proba.shape
    predicted = proba.argmax(axis=1)
    share = np.bincount(predicted, minlength=n_classes) / n_rows
    if n_rows < _MIN_ROWS or np.unique(columns).size < 2 or share.max() < _NEARLY_ALL:
        return
    counts = np.bincount(columns, minlength=n_classes)
    alone = first_members(groups, n_rows)
    association = label_association(proba[alone], columns[alone])
    # Frequencies outside of a fold lean away from those inside, so held-out members contradict the labels a little by design.
    contradicts = association.contradict < _LEVEL and not isinstance(corrections.calibrator, PooledCalibrator)
    if association.agree < _LEVEL or contradicts:
        return
    who = "every row" if share.max() == 1.0 else "nearly every row"
    constant = bool((np.ptp(proba, axis=0) < _SAME).all())
    answer = "the class frequencies" if constant else f"the answer {classes[int(share.argmax())]!r}"
    has_features = isinstance(corrections.calibrator, StackedCalibrator) and corrections.calibrator.feature_sets_
    cure = "other features" if has_features else "features='auto'"
    message = (
        f"these scores say nothing about the labels that {n_rows} labelled rows could show, so {who} gets {answer}; try "
        f"another prompt, other label words, examples in the prompt (n_shots=), {cure}, or a larger model"
    )
    words = bag_of_words_proba(texts, columns, n_classes, groups)
    if words is not None and label_association(words[alone], columns[alone]).agree < _LEVEL:
        right = (words.argmax(axis=1) == columns).mean()
        message += (
            f". The words of the texts alone say more: with the same labels, TF-IDF and logistic regression are right in "
            f"{right:.0%} of these rows (cross-validated), the most frequent class in {counts.max() / n_rows:.0%}"
        )
    warn(message, CalibrationWarning)
