"""Probabilities that no longer fit, put right by new labelled rows; nothing is asked about the rows of the fit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..arrays import Floats, Integers
from ..calibration import AutoCalibrator
from ..calibration.base import ENOUGH_ROWS
from ..errors import CalibrationWarning, InputError, ModelError, warn
from ..pipeline import CalibrationRows, FittedPipeline
from ..tables.bad_rows import named_rows
from ..tables.rows import Rows
from .fit_corrections import warn_of_left_out
from .row_groups import row_groups
from .seen_rows import SeenRows, fingerprints


def recalibrated(
    pipeline: FittedPipeline,
    rows: Rows,
    columns: Integers,
    *,
    sample_weight: Floats | None = None,
    groups: Integers | None = None,
) -> FittedPipeline:
    """The pipeline with a recalibration fitted on new labelled rows (n,); see `llmclf.LLMClassifier.recalibrate`.

    Parameters
    ----------
    pipeline : FittedPipeline
    rows : Rows
    columns : ndarray of int (n,)
        Their true columns.
    sample_weight : ndarray (n,), optional
    groups : ndarray of int (n,), optional
        What the caller says belongs together, besides copies of a text.

    Raises
    ------
    InputError
        There are fewer than 20 rows; or some are shots, or were seen by what the recalibration would correct.
    ModelError
        None could be scored.

    Warns
    -----
    CalibrationWarning
        Rows were left out; or a threshold went, as it belonged to other probabilities.
    """
    earlier = pipeline.corrections.without_recalibration()
    _check_rows(pipeline, rows)
    bad = pipeline.scorer.problems(rows)
    _check_number(len(rows) - len(bad))
    pipeline.check_model_identity()
    answers = pipeline.scorer.answers(rows)
    scores = pipeline.scores(rows, answers)
    reasons = {i: str(one.error) for i, one in enumerate(scores.reasons(answers)) if one.error is not None}
    kept = np.flatnonzero(~np.isnan(scores.values).any(axis=1))
    if not kept.size:
        raise ModelError(f"none of the {len(rows)} rows could be scored ({named_rows(reasons)})")
    if sample_weight is not None:
        kept = kept[sample_weight[kept] > 0]
    _check_number(len(kept))
    warn_of_left_out(reasons, len(rows))
    members = row_groups(rows, pipeline.scorer.shown_fields, groups, without_text=bad)[kept]
    weights = None if sample_weight is None else sample_weight[kept]
    heads = None if scores.heads is None else {name: logits[kept] for name, logits in scores.heads.items()}
    corrections = earlier.recalibrated(AutoCalibrator(), scores.values[kept], columns[kept], weights, members, heads)
    if pipeline.threshold is not None:
        warn(
            "the threshold belonged to the probabilities before this recalibration, and is gone; choose another with "
            "fit_threshold, on rows that were not given here",
            CalibrationWarning,
        )
    seen = pipeline.calibration_rows
    before = seen.fingerprints if pipeline.corrections.recalibration is None else []
    is_weighted = weights is not None and bool((weights != weights[0]).any())
    hashes = fingerprints([rows.records[i] for i in kept], pipeline.read_fields)
    return replace(
        pipeline,
        corrections=corrections,
        threshold=None,
        threshold_fingerprints=(),
        calibrated_on=pipeline.calibrated_on or pipeline.backend.identity(),
        calibration_rows=CalibrationRows(
            kept, columns[kept], hashes, is_weighted, members, list(dict.fromkeys([*seen.earlier, *before]))
        ),
        fitted_on_scores=pipeline.fitted_on_scores if earlier.changes_scores else pipeline.kind_of_scores,
        folder=None,
    )


def _check_rows(pipeline: FittedPipeline, rows: Rows) -> None:
    """Refuse rows whose probabilities are better than those of others."""
    seen = SeenRows.among(rows, pipeline)
    is_first = pipeline.corrections.recalibration is None
    # The rows of an earlier recalibration, which goes, may be given again.
    n_seen = int(seen.is_earlier.sum()) + (seen.n_calibrated if is_first else 0)
    if seen.n_shots or n_seen:
        what = [f"{seen.n_shots} stand in the prompt as examples"] if seen.n_shots else []
        what += [f"the calibrator was fitted on {n_seen}"] if n_seen else []
        raise InputError(
            f"of these {len(rows)} rows {' and '.join(what)}, so their probabilities are better than those of new rows; leave "
            "them out, or fit again on all rows"
        )


def _check_number(n_rows: int) -> None:
    if n_rows < ENOUGH_ROWS:
        raise InputError(
            f"{n_rows} labelled rows are too few to recalibrate on; expected at least {ENOUGH_ROWS}, and a hundred or more to "
            "notice much"
        )
