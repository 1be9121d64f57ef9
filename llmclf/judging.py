"""A report on a fitted classifier that is honest about the rows whose answers it has seen."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .calibration import Corrections
from .errors import CalibrationWarning, InputError
from .logits import logsumexp, softmax
from .report import CalibrationReport
from .scorer import Scorer
from .tables import Rows

Floats = NDArray[np.float64]


def judge(
    scorer: Scorer,
    corrections: Corrections,
    scoring: str,
    rows: Rows,
    truth: NDArray[Any],
    *,
    calibrated_on: Sequence[str],
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
    calibrated_on : fingerprints of the rows that the calibrator was fitted on
    groups, texts, metadata, **options
        As `LLMClassifier.report` has them.
    """
    if isinstance(texts, str) and texts != "rows":
        raise InputError(f"texts={texts!r}; expected 'rows', None, or one text per row")
    if isinstance(groups, (str, list, tuple)) and rows.is_table:
        groups = _named_columns(groups, rows)
    answers = scorer.answers(rows)
    scores = scorer.class_scores(rows, scoring, answers)
    shots = Rows([row for row, _ in scorer.shots], (), True)
    own, shot_fingerprints = fingerprints(rows, scorer), fingerprints(shots, scorer)
    proba, judged = _without_seen(
        softmax(corrections.apply(scores)),
        own,
        calibrated_on,
        corrections.out_of_fold() if corrections.has_rows and corrections.log_prior is None else None,
        len(set(own) & set(shot_fingerprints)),
    )
    # Without texts, a hash stands for each shot.
    shown_shots = shot_fingerprints if texts is None else [dict(row) for row in shots.records]
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
            "bias": _described(corrections.bias),
            "calibrator": _described(corrections.calibrator),
            "log_prior": None if corrections.log_prior is None else corrections.log_prior.tolist(),
            "n_calibration_rows": len(calibrated_on),
            "judged": judged,
            **metadata,
        },
        **options,
    )


def fingerprints(rows: Rows, scorer: Scorer) -> list[str]:
    """One short hash per row of what the model sees of it; the row itself cannot be read from it."""
    fields = sorted(scorer.shown_fields)
    return [
        hashlib.blake2b(
            json.dumps({name: record[name] for name in fields}, default=repr).encode(), digest_size=8
        ).hexdigest()
        for record in rows.records
    ]


def _without_seen(
    proba: Floats, own: Sequence[str], seen: Sequence[str], cross_fitted: Floats | None, n_shots: int
) -> tuple[Floats, dict[str, int]]:
    """Probabilities of rows to be judged, those that the calibrator saw exchanged for cross-fitted ones where there are any.

    Parameters
    ----------
    proba : ndarray (n, K)
    own : n fingerprints of these rows
    seen : m fingerprints of the rows that the calibrator was fitted on
    cross_fitted : ndarray (m, K) or None
    n_shots : int
        How many of the rows stand in the prompt as examples.

    Returns
    -------
    proba : ndarray (n, K)
    counts : dict
        ``held_out``, ``cross_fitted``, ``seen_by_calibrator`` and ``shots``: numbers of rows.

    Warns
    -----
    CalibrationWarning
        Some rows were seen.
    """
    place = {fingerprint: i for i, fingerprint in enumerate(seen)}
    found = np.array([place.get(fingerprint, -1) for fingerprint in own], dtype=np.int64)
    known = found >= 0
    n_seen, n_rows = int(known.sum()), len(own)
    if n_seen and cross_fitted is not None:
        proba = proba.copy()
        proba[known] = cross_fitted[found[known]]
        warnings.warn(
            f"the calibrator was fitted on {n_seen} of these {n_rows} rows; they are judged by calibrators that did not see them "
            "(calibration_proba_). Rows that no calibrator saw judge the one that you use",
            CalibrationWarning,
            stacklevel=4,
        )
    elif n_seen:
        warnings.warn(
            f"the calibrator was fitted on {n_seen} of these {n_rows} rows, so the report is better than the truth; give rows "
            "that it has not seen",
            CalibrationWarning,
            stacklevel=4,
        )
    if n_shots:
        warnings.warn(
            f"{n_shots} of these {n_rows} rows stand in the prompt as examples, with their answers; give other rows",
            CalibrationWarning,
            stacklevel=4,
        )
    replaced = n_seen if cross_fitted is not None else 0
    counts = {
        "held_out": n_rows - n_seen - n_shots,
        "cross_fitted": replaced,
        "seen_by_calibrator": n_seen - replaced,
        "shots": n_shots,
    }
    return proba, counts


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
