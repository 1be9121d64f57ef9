"""What a fit learns from training rows: which of them are shots, and bias and calibrator from the others."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from sklearn.utils import check_random_state

from ..arrays import Floats, Integers
from ..calibration import Corrections
from ..errors import InputError
from ..pipeline import CalibrationRows, FittedPipeline
from ..tables.rows import Rows
from .content_free import content_free_rows, domain_rows, generated_rows
from .row_groups import row_groups
from .seen_rows import fingerprints


def fit_corrections(
    pipeline: FittedPipeline,
    corrections: Corrections,
    rows: Rows,
    codes: Integers | None,
    shots: list[int],
    sample_weight: Floats | None,
    random_state: Any,
    groups: Integers | None = None,
) -> FittedPipeline:
    """Fit bias and calibrator on the training rows that are not shots and can be scored; without either nothing is asked.

    Rows that belong to a shot (copies of its text, rows of its group) are left out: their answer stands in the prompt.

    Parameters
    ----------
    pipeline : FittedPipeline
        With the shots, and without corrections.
    corrections : Corrections
        Become fitted.
    rows : Rows of length n
    codes : ndarray of int (n,) or None
        True columns.
    shots : list of int
        Row numbers.
    sample_weight : ndarray (n,) or None
    random_state : int, RandomState or None
        Draws the words of ``bias="domain"`` and the texts of ``bias="generative"``.
    groups : ndarray of int (n,), optional
        What the caller says belongs together, besides copies of a text.

    Returns
    -------
    FittedPipeline
        With the corrections, the model that they belong to, and the rows that they were fitted on.

    Raises
    ------
    InputError
        The rows do not suffice; before any of them is scored.
    """
    if corrections.bias is None and corrections.calibrator is None:
        return replace(pipeline, corrections=corrections)
    members = row_groups(rows, pipeline.scorer.shown_fields, groups)
    places = np.flatnonzero(~np.isin(members, members[shots]))
    if not len(places):
        belong = "" if len(shots) == len(rows) else " or belong to one (a copy of its text, or a row of its group)"
        raise InputError(
            f"all {len(rows)} rows are shots{belong}, so none is left to calibrate on; give more rows or fewer shots"
        )
    if corrections.calibrator is not None:
        assert codes is not None
        left_weights = None if sample_weight is None else sample_weight[places]
        corrections.check(codes[places], left_weights, pipeline.labels.classes)
    content_free, scores = None, None
    if corrections.wants_content_free is not None:
        content_free = _content_free_scores(corrections.wants_content_free, pipeline, rows.take(places), random_state)
    if corrections.wants_rows:
        scores = pipeline.scores(rows.take(places)).values
        scored = ~np.isnan(scores).any(axis=1)
        scores, places = scores[scored], places[scored]
    columns = None if codes is None else codes[places]
    weights = None if sample_weight is None else sample_weight[places]
    members = members[places]
    corrections.fit(scores, columns, weights, content_free, members)
    if columns is None or corrections.calibrator is None:
        calibrated = CalibrationRows(places) if corrections.wants_rows else CalibrationRows()
    else:
        hashes = fingerprints([rows.records[i] for i in places], pipeline.scorer.shown_fields)
        is_weighted = weights is not None and bool((weights != weights[0]).any())
        calibrated = CalibrationRows(places, columns, hashes, is_weighted, members)
    return replace(
        pipeline,
        corrections=corrections,
        calibrated_on=pipeline.backend.identity(),
        calibration_rows=calibrated,
    )


def _content_free_scores(method: str, pipeline: FittedPipeline, rows: Rows, random_state: Any) -> Floats:
    """Scores (m, K) of the rows that a bias is fitted on instead of those of the table."""
    if pipeline.prompt.choices is not None:
        raise InputError(
            f"bias={method!r} corrects labels that are the same in all rows, and each row brings its own choices; "
            "scoring='pmi' does that for choices"
        )
    scorer = pipeline.scorer
    fields = scorer.used_fields
    if method == "contextual":
        asked = content_free_rows(rows, fields)
    elif method == "generative":
        asked = generated_rows(pipeline.backend, scorer.renderer, rows, check_random_state(random_state))
    else:
        asked = domain_rows(rows, fields, check_random_state(random_state))
    return pipeline.scores(asked).values
