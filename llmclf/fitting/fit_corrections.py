"""What a fit learns from training rows: which of them are shots, and bias and calibrator from the others."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_random_state

from ..calibration import Corrections
from ..errors import InputError
from ..scoring.scorer import Scorer
from ..tables.rows import Rows
from .content_free import content_free_rows, domain_rows, generated_rows
from .seen_rows import CalibrationRows, fingerprints

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
