"""What a fit learns from training rows: which of them are shots, and bias and calibrator from the others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_random_state

from .calibration import Corrections
from .content_free import content_free_rows, domain_rows, generated_rows
from .errors import InputError
from .judging import CalibrationRows, fingerprints
from .scorer import Scorer
from .tables import Rows

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


def fit_corrections(
    corrections: Corrections,
    scorer: Scorer,
    scoring: str,
    rows: Rows,
    codes: Integers | None,
    shots: list[int],
    sample_weight: Floats | None,
    random_state: Any,
) -> CalibrationRows:
    """Fit bias and calibrator on the training rows that are no shots and can be scored; neither asks the model nothing.

    Parameters
    ----------
    corrections : Corrections
        Become fitted.
    scorer : Scorer
        With the shots.
    scoring : str
    rows : Rows of length n
    codes : ndarray of int (n,) or None
        True columns.
    shots : list of int
        Row numbers.
    sample_weight : ndarray (n,) or None
    random_state : int, RandomState or None
        Draws the words of ``bias="domain"`` and the texts of ``bias="generative"``.

    Raises
    ------
    InputError
        The rows do not suffice; before any of them is scored.
    """
    if corrections.bias is None and corrections.calibrator is None:
        return CalibrationRows()
    places = np.setdiff1d(np.arange(len(rows)), shots)
    if not len(places):
        raise InputError(
            f"all {len(rows)} rows are shots, so none is left to calibrate on; give more rows or fewer shots"
        )
    if corrections.calibrator is not None:
        assert codes is not None
        own_weights = None if sample_weight is None else sample_weight[places]
        corrections.check(codes[places], own_weights, scorer.labels.classes)
    content_free, scores = None, None
    if corrections.wants_content_free is not None:
        content_free = _content_free_scores(
            corrections.wants_content_free, scorer, scoring, rows.take(places), random_state
        )
    if corrections.wants_rows:
        scores = scorer.class_scores(rows.take(places), scoring)
        scored = ~np.isnan(scores).any(axis=1)
        scores, places = scores[scored], places[scored]
    columns = None if codes is None else codes[places]
    weights = None if sample_weight is None else sample_weight[places]
    corrections.fit(scores, columns, weights, content_free)
    if columns is None or corrections.calibrator is None:
        return CalibrationRows(places) if corrections.wants_rows else CalibrationRows()
    is_weighted = weights is not None and bool((weights != weights[0]).any())
    return CalibrationRows(places, columns, fingerprints(rows.take(places), scorer), is_weighted)


def draw_shots(n_shots: int, codes: Integers | None, n_classes: int, random_state: Any) -> list[int]:
    """Row numbers of the shots: one class after the other gives a random row, and their order is random.

    Raises
    ------
    InputError
        There are fewer rows.

    Examples
    --------
    >>> draw_shots(2, np.array([0, 0, 0, 1]), 2, random_state=0)
    [3, 0]
    """
    if not n_shots:
        return []
    assert codes is not None
    if n_shots > len(codes):
        raise InputError(f"n_shots={n_shots}, but there are only {len(codes)} training rows; ask for fewer shots")
    random = check_random_state(random_state)
    queues = [random.permutation(np.flatnonzero(codes == k)).tolist() for k in range(n_classes)]
    turns = random.permutation(n_classes)
    chosen: list[int] = []
    while len(chosen) < n_shots:
        chosen += [queues[k].pop() for k in turns if queues[k]]
    return [chosen[i] for i in random.permutation(n_shots)]


def answered_shots(
    scorer: Scorer, rows: Rows, codes: Integers | None, shots: list[int]
) -> list[tuple[Mapping[str, Any], str]]:
    """The rows of the shots with the words that answer them: the first of the class, or the row's own choice."""
    if codes is None:
        return []
    records = [rows.records[i] for i in shots]
    if scorer.prompt.choices is not None:
        return [(record, scorer.words(record)[codes[i]]) for record, i in zip(records, shots, strict=True)]
    return [(record, scorer.labels.words[codes[i]][0]) for record, i in zip(records, shots, strict=True)]


def _content_free_scores(method: str, scorer: Scorer, scoring: str, rows: Rows, random_state: Any) -> Floats:
    """Scores (m, K) of the rows that a bias is fitted on instead of those of the table."""
    if scorer.prompt.choices is not None:
        raise InputError(
            f"bias={method!r} corrects labels that are the same in all rows, and each row brings its own choices; "
            "scoring='pmi' does that for choices"
        )
    fields = scorer.used_fields
    if method == "contextual":
        asked = content_free_rows(rows, fields)
    elif method == "generative":
        asked = generated_rows(scorer.backend, scorer.renderer, rows, check_random_state(random_state))
    else:
        asked = domain_rows(rows, fields, check_random_state(random_state))
    return scorer.class_scores(asked, scoring)
