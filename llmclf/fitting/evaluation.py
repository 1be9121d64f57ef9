"""Reports and thresholds of a fitted classifier that are honest about the rows whose answers it has seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..calibration import Corrections, SelectedThreshold, select_threshold
from ..calibration.selective import check_selectable
from ..errors import CalibrationWarning, InputError, warn
from ..logits import logsumexp, softmax
from ..report import CalibrationReport
from ..scoring.scorer import Scorer
from ..tables.rows import Rows
from .seen_rows import CalibrationRows, SeenRows, shot_fingerprints

Floats = NDArray[np.float64]


def judge(
    scorer: Scorer,
    corrections: Corrections,
    scoring: str,
    rows: Rows,
    truth: NDArray[Any],
    *,
    calibrated: CalibrationRows,
    groups: Any,
    texts: Any,
    metadata: Mapping[str, Any],
    **options: Any,
) -> CalibrationReport:
    """The report of labelled rows; see `llmclf.LLMClassifier.report`.

    Parameters
    ----------
    scorer, corrections, scoring : what makes the classifier's probabilities
    rows : Rows
    truth : ndarray (n,)
        The true class of each row.
    calibrated : CalibrationRows
    groups, texts, metadata, **options
        As `LLMClassifier.report` has them.
    """
    if isinstance(texts, str) and texts != "rows":
        raise InputError(f"texts={texts!r}; expected 'rows', None, or one text per row")
    if isinstance(groups, (str, list, tuple)) and rows.is_table:
        groups = _named_columns(groups, rows)
    seen = SeenRows.among(rows, scorer, calibrated.fingerprints)
    cross_fitted = _cross_fitted(seen, corrections)
    answers = scorer.answers(rows)
    scores = scorer.class_scores(rows, scoring, answers)
    proba = _exchanged(softmax(corrections.apply(scores)), seen, cross_fitted)
    if seen.n_calibrated and cross_fitted is None:
        warn(
            f"the calibrator was fitted on {seen.n_calibrated} of these {len(rows)} rows, so the report is better than the "
            "truth; give rows that it has not seen",
            CalibrationWarning,
        )
    if seen.n_shots:
        warn(
            f"{seen.n_shots} of these {len(rows)} rows stand in the prompt as examples, with their answers; give other rows",
            CalibrationWarning,
        )
    shots = [row for row, _ in scorer.shots]
    # Without texts, a hash stands for each shot.
    shown_shots = shot_fingerprints(scorer) if texts is None else [dict(row) for row in shots]
    return CalibrationReport(
        truth,
        proba,
        classes=scorer.labels.array,
        proba_before=softmax(scores) if corrections.changes_scores else None,
        groups=groups,
        texts=[_shown(record, scorer.shown_fields) for record in rows.records] if isinstance(texts, str) else texts,
        label_mass=np.exp(logsumexp(scorer.class_scores(rows, "sum", answers), axis=1)).clip(0.0, 1.0),
        metadata={
            "model": scorer.backend.identity(),
            "prompt": scorer.prompt.to_dict(),
            "labels": {
                str(label): list(words) for label, words in zip(scorer.labels.classes, scorer.labels.words, strict=True)
            },
            "shots": [{"row": row, "answer": word} for row, (_, word) in zip(shown_shots, scorer.shots, strict=True)],
            "scoring": scoring,
            "processing": None if scorer.processing is None else scorer.processing.to_dict(),
            "bias": _described(corrections.bias),
            "calibrator": _described(corrections.calibrator),
            "log_prior": None if corrections.log_prior is None else corrections.log_prior.tolist(),
            "n_calibration_rows": len(calibrated.fingerprints),
            "judged": seen.counts(cross_fitted is not None),
            **metadata,
        },
        **options,
    )


def choose_threshold(
    scorer: Scorer,
    corrections: Corrections,
    scoring: str,
    rows: Rows,
    columns: NDArray[np.int64],
    *,
    calibrated: CalibrationRows,
    max_error: float,
    confidence: float,
) -> SelectedThreshold:
    """The threshold that labelled rows (n,) with these true columns allow; see `llmclf.LLMClassifier.fit_threshold`.

    Rows that could not be scored are never accepted, so they are left out.
    """
    seen = SeenRows.among(rows, scorer, calibrated.fingerprints)
    if seen.n_shots:
        raise InputError(
            f"{seen.n_shots} of these {len(rows)} rows stand in the prompt as examples, with their answers, so they show nothing "
            "about other rows; leave them out"
        )
    cross_fitted = _cross_fitted(seen, corrections)
    if seen.n_calibrated and cross_fitted is None:
        why = "prior= moved its probabilities" if corrections.has_rows else "its own rows did not outlive save and load"
        raise InputError(
            f"the calibrator was fitted on {seen.n_calibrated} of these {len(rows)} rows, and cannot be cross-fitted to judge "
            f"them, as {why}; give rows that it has not seen"
        )
    proba = _exchanged(softmax(corrections.apply(scorer.class_scores(rows, scoring))), seen, cross_fitted)
    scored = ~np.isnan(proba).any(axis=1)
    return select_threshold(columns[scored], proba[scored], max_error=max_error, confidence=confidence)


def choose_cross_fitted_threshold(
    corrections: Corrections,
    calibrated: CalibrationRows,
    *,
    max_error: float,
    confidence: float,
) -> SelectedThreshold:
    """The threshold that the calibrator's own rows (m,) allow, each judged by a calibrator that did not see it."""
    obstacle = None
    if corrections.calibrator is None:
        obstacle = "there is no calibrator, whose cross-fitted probabilities could serve"
    elif not corrections.has_rows:
        obstacle = "the rows that the calibrator was fitted on did not outlive save and load"
    elif corrections.log_prior is not None:
        obstacle = "prior= says that the rows of the fit have other class frequencies than those to be accepted"
    elif calibrated.is_weighted:
        obstacle = "sample_weight says that the rows of the fit are not drawn like those to be accepted"
    if obstacle is not None:
        raise InputError(f"without X and y no threshold can be chosen: {obstacle}; give labelled rows as X and y")
    check_selectable(len(calibrated.columns), max_error, confidence)
    return select_threshold(calibrated.columns, corrections.out_of_fold(), max_error=max_error, confidence=confidence)


def _cross_fitted(seen: SeenRows, corrections: Corrections) -> Floats | None:
    """Probabilities (m, K) of the calibrator's rows, where some of them are to be judged and can be."""
    # A prior is about other rows than those of the fit, so cross-fitted probabilities leave it out.
    if not seen.n_calibrated or not corrections.has_rows or corrections.log_prior is not None:
        return None
    return corrections.out_of_fold()


def _exchanged(proba: Floats, seen: SeenRows, cross_fitted: Floats | None) -> Floats:
    """Probabilities (n, K), those of rows that the calibrator saw exchanged for cross-fitted ones where there are any.

    Warns
    -----
    CalibrationWarning
        Some were exchanged.
    """
    if cross_fitted is None:
        return proba
    known = seen.place >= 0
    proba = proba.copy()
    proba[known] = cross_fitted[seen.place[known]]
    warn(
        f"the calibrator was fitted on {seen.n_calibrated} of these {len(proba)} rows; they are judged by calibrators that did "
        "not see them (calibration_proba_). Rows that no calibrator saw judge the one that you use",
        CalibrationWarning,
    )
    return proba


def _shown(record: Mapping[str, Any], fields: Sequence[str]) -> str:
    """What the prompt shows of a row."""
    if len(fields) == 1:
        return str(record[fields[0]])
    return "\n".join(f"{name}: {record[name]}" for name in fields)


def _described(correction: Any) -> Any:
    """A bias or calibrator with what it learned, or as it writes itself where it has no JSON form."""
    if correction is None:
        return None
    return correction.to_dict() if hasattr(correction, "to_dict") else repr(correction)


def _named_columns(names: Any, rows: Rows) -> Any:
    """Columns of a table by their names; what is no list of column names is the slices themselves."""
    wanted = [names] if isinstance(names, str) else list(names)
    if not all(isinstance(name, str) for name in wanted) or not set(wanted) <= set(rows.field_names):
        if isinstance(names, str):
            raise InputError(f"groups={names!r} is no column of the table; its columns: {list(rows.field_names)!r}")
        return names
    return {name: [record[name] for record in rows.records] for name in wanted}
