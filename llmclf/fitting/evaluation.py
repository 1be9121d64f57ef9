"""The report of a fitted pipeline that is honest about the rows whose answers its fit has seen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..calibration import Corrections, PooledCalibrator, StackedCalibrator
from ..errors import CalibrationWarning, InputError, warn
from ..logits import logsumexp, softmax
from ..pipeline import FittedPipeline
from ..report import CalibrationReport
from ..tables.rows import Rows
from .row_groups import read_groups
from .seen_rows import SeenRows, shot_fingerprints, shown_text


def judge(
    pipeline: FittedPipeline,
    rows: Rows,
    truth: NDArray[Any],
    *,
    groups: Any,
    clusters: Any = None,
    texts: Any,
    metadata: Mapping[str, Any],
    shares: Any = None,
    **options: Any,
) -> CalibrationReport:
    """The report of labelled rows; see `llmclf.LLMClassifier.report`.

    Parameters
    ----------
    pipeline : FittedPipeline
    rows : Rows
    truth : ndarray (n,)
        The true class of each row; None where it is unknown.
    groups, clusters, texts, metadata, shares, **options
        As `LLMClassifier.report` has them.
    """
    if isinstance(texts, str) and texts != "rows":
        raise InputError(f"texts={texts!r}; expected 'rows', None, or one text per row")
    groups = named_columns(groups, rows)
    scorer, corrections = pipeline.scorer, pipeline.corrections
    members = read_groups(clusters, rows, "clusters")
    seen = SeenRows.among(rows, pipeline)
    answers = scorer.answers(rows)
    scores = pipeline.scores(rows, answers)
    proba = seen.exchanged(pipeline.probabilities(scores))
    if seen.n_unfair and shares is True:
        raise InputError(
            f"the calibrator was fitted on {seen.n_unfair} of these {len(rows)} rows, and what it says of them is no evidence of "
            "what it says of others; fit it in this process, so that cross-fitted probabilities are there, or on other rows"
        )
    if seen.n_unfair:
        warn(
            f"the calibrator was fitted on {seen.n_unfair} of these {len(rows)} rows, so the report is better than the "
            "truth; give rows that it has not seen",
            CalibrationWarning,
        )
    if seen.n_shots:
        warn(
            f"{seen.n_shots} of these {len(rows)} rows stand in the prompt as examples, with their answers; give other rows",
            CalibrationWarning,
        )
    # Without texts, a hash stands for each shot.
    shown_shots = shot_fingerprints(pipeline) if texts is None else [dict(row) for row, _ in pipeline.shots]
    labels = pipeline.labels
    return CalibrationReport(
        truth,
        proba,
        classes=labels.array,
        proba_before=softmax(scores.values) if corrections.changes_scores else None,
        groups=groups,
        clusters=seen.groups(rows, pipeline, members),
        texts=[shown_text(record, scorer.shown_fields) for record in rows.records] if isinstance(texts, str) else texts,
        members=_members(corrections),
        shares=shares,
        label_mass=np.exp(logsumexp(scorer.class_scores(rows, "sum", answers), axis=1)).clip(0.0, 1.0),
        metadata={
            "model": pipeline.backend.identity(),
            "prompt": pipeline.prompt.to_dict(),
            "labels": {str(label): list(words) for label, words in zip(labels.classes, labels.words, strict=True)},
            "shots": [{"row": row, "answer": word} for row, (_, word) in zip(shown_shots, pipeline.shots, strict=True)],
            "scoring": pipeline.scoring,
            "processing": None if pipeline.processing is None else pipeline.processing.to_dict(),
            "bias": _described(corrections.bias),
            "calibrator": _described(corrections.calibrator),
            "log_prior": None if corrections.log_prior is None else corrections.log_prior.tolist(),
            "n_calibration_rows": len(pipeline.calibration_rows.fingerprints),
            "judged": seen.counts(),
            **metadata,
        },
        **options,
    )


def _members(corrections: Corrections) -> Any:
    """What each member of a pool is worth, where its rows are there to tell."""
    calibrator = corrections.calibrator
    return calibrator.to_frame() if isinstance(calibrator, StackedCalibrator) and corrections.has_rows else None


def _described(correction: Any) -> Any:
    """A bias or calibrator with its fitted values, or its repr where it has no JSON form."""
    if correction is None:
        return None
    if isinstance(correction, PooledCalibrator):
        return correction.described()
    return correction.to_dict() if hasattr(correction, "to_dict") else repr(correction)


def named_columns(names: Any, rows: Rows) -> Any:
    """Columns of a table by their names; what is not a list of column names is the slices themselves.

    Raises
    ------
    InputError
        A name is not that of a column.
    """
    if not isinstance(names, (str, list, tuple)) or not rows.is_table:
        return names
    wanted = [names] if isinstance(names, str) else list(names)
    if not all(isinstance(name, str) for name in wanted) or not set(wanted) <= set(rows.field_names):
        if isinstance(names, str):
            raise InputError(f"groups={names!r} is not a column of the table; its columns: {list(rows.field_names)!r}")
        return names
    return {name: [record[name] for record in rows.records] for name in wanted}
