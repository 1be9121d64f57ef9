"""The watch over a classifier in use: reads its decisions, and says whether its certificate still holds."""

from __future__ import annotations

import os
import threading
from collections import Counter
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np

from ..certificates import Certificate
from ..checks import check_open_share, check_whole_number, is_finite_number
from ..errors import InputError
from ..metrics import mean_interval
from ..tables.text_files import USUAL_TEXT, TextFormat
from .advice import advice, region_counts, regions
from .audited import AuditedLabels, AuditedRows, calibration_evidence, error_interval, promise_evidence
from .baseline import Baseline
from .betting import MeanInterval
from .decisions import UNKNOWN, DecisionColumns
from .shifts import ShiftTest
from .sources import source_of
from .statistics import MIN_KNOWN, STATISTICS, columns_of_reference
from .watch_report import WatchReport

_MOST_LABELS = 1_000_000  # that anybody audits
_MAX_KINDS = 50  # of errors that are counted by name


class Watch:
    r"""Compares decisions with a certificate, and may be asked again and again.

    Each `report` reads the rows that are new, and says what one that reads all rows at once would say: the tests are functions of
    the rows in their order, and looking costs nothing. Without labels, each statistic of the rows is tested against the
    certificate's rows at level `alpha` divided by their number; with audited labels, the promise and calibration are tested at
    level `alpha` each. All these are e-processes, so each question's false alarms have a probability of at most `alpha` over the
    whole life of the certificate (docs/explanation/watching.md).

    Parameters
    ----------
    log : DecisionLog, path or DataFrame
        A log or its folder, or a table that `llmclf label` wrote, as a frame or a file.
    certificate : Certificate, Baseline or path
        Or the folder of the certified classifier.
    alpha : float
        The probability of a false alarm, for each of the three questions.
    horizon : int
        The number of accepted audited rows for which the test of the promise is made.
    inclusion_floor : float, optional
        Where rows are audited with different probabilities: the least that the plan of the audit gives any row.
    min_shift : float
        A statistic whose distribution has moved less than this (total variation) raises no alarm.
    calibration_tolerance : float
        How far the share of right rows may be from their confidence: what a few hundred labels calibrate is often off by a few
        points from the start.
    model : str, optional
        Which model's decisions are watched, where several have decided under the certificate; as the log names it, such as
        ``moods@1f0c3a5b7d9e`` (the folder's name and the classifier's version).
    id_column, prefix, text_format
        Of a table: the column of ids, what the names of added columns begin with, and how a file's text is read.

    Examples
    --------
    >>> import pandas as pd
    >>> from llmclf.certificates import ReferenceRows
    >>> rng = np.random.default_rng(0)
    >>> p = rng.uniform(0.5, 1.0, 400)
    >>> reference = ReferenceRows(np.column_stack([p, 1 - p]), p > 0.9, np.ones(400), p < 0.0, rng.random(400) < p)
    >>> baseline = Baseline(reference, ("praise", "complaint"), max_error=0.08, threshold=0.9)
    >>> table = pd.DataFrame({"id": range(2000), "label": "praise", "p_praise": rng.uniform(0.5, 1.0, 2000)})
    >>> table["p_complaint"] = 1 - table["p_praise"]
    >>> print(Watch(table, baseline).report().verdict)
    No alarm: 2,000 rows are like those of the certificate; no row is audited yet.
    """

    def __init__(
        self,
        log: Any,
        certificate: Certificate | Baseline | str | os.PathLike[str],
        *,
        alpha: float = 0.05,
        horizon: int = 250,
        inclusion_floor: float | None = None,
        min_shift: float = 0.05,
        calibration_tolerance: float = 0.05,
        model: str | None = None,
        id_column: str = "id",
        prefix: str = "",
        text_format: TextFormat = USUAL_TEXT,
    ) -> None:
        self.alpha = check_open_share("alpha", alpha, "0.05")
        self.horizon = check_whole_number("horizon", horizon, 1)
        if self.horizon > _MOST_LABELS:
            raise InputError(f"horizon={horizon!r}; expected a number of audited rows, at most {_MOST_LABELS:,}")
        for name, value, most in (("min_shift", min_shift, 1.0), ("calibration_tolerance", calibration_tolerance, 0.5)):
            if not is_finite_number(value) or not 0 <= value < most:
                raise InputError(f"{name}={value!r}; expected a number from 0 to {most:g}")
        if inclusion_floor is not None and (not is_finite_number(inclusion_floor) or not 0 < inclusion_floor <= 1):
            raise InputError(f"inclusion_floor={inclusion_floor!r}; expected a probability, such as 0.05")
        self.inclusion_floor = inclusion_floor
        self.min_shift, self.calibration_tolerance = float(min_shift), float(calibration_tolerance)
        self.baseline = certificate if isinstance(certificate, Baseline) else Baseline.of(certificate)
        self._text_format = text_format
        self._source = source_of(
            log,
            self.baseline,
            model,
            {"id_column": id_column, "prefix": prefix, "text_format": text_format},
        )
        self._lock = threading.Lock()
        n_classes = len(self.baseline.classes)
        reference = columns_of_reference(self.baseline.reference)
        self._means = MeanInterval(n_classes, self.alpha)
        self._reference_regions = region_counts(reference.confidence)
        self._regions = np.zeros_like(self._reference_regions)
        self._reference_predicted = _predicted(reference, n_classes)
        self._predicted = np.zeros(n_classes)
        self._n, self._errors = 0, Counter[str]()
        self._times = [float("inf"), float("-inf")]
        self._shifts = self._shift_tests(reference) if self.baseline.is_even else []

    def report(self, audited: Any = None) -> WatchReport:
        """What all rows so far say.

        Parameters
        ----------
        audited : AuditedLabels, DataFrame, dict of id -> label, or path, optional
            True classes of some rows, in the order in which they were audited: the columns ``id``, ``label`` and, where rows were
            drawn with different probabilities, ``inclusion``. What the labels say is computed anew each time, so rows are added
            at the end.

        Raises
        ------
        InputError
            Audited labels cannot be used, or the table's columns cannot be read.
        StoreError
            The log cannot be read.
        """
        labels = None if audited is None else AuditedLabels.of(audited, self.baseline.classes, self._text_format)
        with self._lock:
            for rows in self._source.new_rows():
                self._update(self._decided(rows))
            found = None if labels is None else self._audited(labels)
            return WatchReport(self._data(labels, found))

    def _shift_tests(self, reference: DecisionColumns) -> list[ShiftTest]:
        values = [(statistic, statistic.values(reference)) for statistic in STATISTICS]
        known = [(statistic, column[~np.isnan(column)]) for statistic, column in values]
        worth = self.baseline.independent_share
        tested = [(statistic, column) for statistic, column in known if len(column) * worth >= MIN_KNOWN]
        threshold = len(tested) / self.alpha
        return [
            ShiftTest(statistic, column, threshold=threshold, min_shift=self.min_shift, seed=number, worth=worth)
            for number, (statistic, column) in enumerate(tested)
        ]

    def _decided(self, rows: DecisionColumns) -> DecisionColumns:
        """Rows whose log does not say whether they were accepted, as the certificate's threshold decides them."""
        threshold = self.baseline.threshold
        if threshold is None:
            return rows
        confidence = rows.confidence
        derived = np.where(np.isnan(confidence), UNKNOWN, confidence >= threshold)
        return replace(rows, accepted=np.where(rows.accepted == UNKNOWN, derived, rows.accepted).astype(np.int8))

    def _update(self, rows: DecisionColumns) -> None:
        for test in self._shifts:
            test.update(rows)
        self._n += len(rows)
        self._means.add(_complete(rows.probabilities))
        self._regions += region_counts(rows.confidence)
        self._predicted += _predicted(rows, len(self._predicted))
        for kind in rows.errors:
            if kind is not None:
                self._errors[kind if kind in self._errors or len(self._errors) < _MAX_KINDS else "others"] += 1
        times = rows.times[np.isfinite(rows.times)]
        if len(times):
            self._times = [min(self._times[0], float(times.min())), max(self._times[1], float(times.max()))]

    def _audited(self, labels: AuditedLabels) -> AuditedRows:
        found = self._decided(self._source.find(labels.ids))
        return AuditedRows.joined(labels, found, self.inclusion_floor, is_begun=bool(self._n))

    def _data(self, labels: AuditedLabels | None, audited: AuditedRows | None) -> dict[str, Any]:
        shifts = [test.to_dict() for test in self._shifts]
        judged = None if labels is None or audited is None else self._judged(labels, audited)
        alarms = _alarms(shifts, judged, self.baseline)
        where = regions(self._reference_regions, self._regions, audited)
        kinds = [alarm["kind"] for alarm in alarms]
        actions = advice(kinds, self.baseline, where, audited, self.horizon)
        return {
            "version": 1,
            "source": str(self._source),
            "models": self._source.models,
            "left_out": [one.to_dict() for one in self._source.left_out],
            "certificate": {
                "id": self.baseline.certificate,
                "expires": None if self.baseline.expires is None else self.baseline.expires.isoformat(),
                "is_expired": self.baseline.is_expired,
                "max_error": self.baseline.max_error,
                "threshold": self.baseline.threshold,
                "n_rows": len(self.baseline.reference),
                "is_even": self.baseline.is_even,
            },
            "settings": {
                "alpha": self.alpha,
                "horizon": self.horizon,
                "inclusion_floor": self.inclusion_floor,
                "min_shift": self.min_shift,
                "calibration_tolerance": self.calibration_tolerance,
            },
            "rows": {
                "n": self._n,
                "n_errors": self._errors.total(),
                "errors": dict(self._errors.most_common()),
                "first": self._times[0] if np.isfinite(self._times[0]) else None,
                "last": self._times[1] if np.isfinite(self._times[1]) else None,
            },
            "shifts": shifts,
            "classes": self._class_shares(),
            "regions": [{**vars(one), "gap": one.gap} for one in where],
            "audited": judged,
            "alarms": alarms,
            "actions": [action.to_dict() for action in actions],
        }

    def _judged(self, labels: AuditedLabels, audited: AuditedRows) -> dict[str, Any]:
        accepted = audited.accepted
        wrong = 1.0 - accepted.right
        is_even = audited.inclusion is None
        promise = promise_evidence(
            wrong,
            accepted.weights,
            max_error=self.baseline.max_error,
            alpha=self.alpha,
            horizon=self.horizon,
            is_even=is_even,
        )
        calibration = calibration_evidence(
            audited.decisions.confidence,
            audited.right,
            audited.weights,
            tolerance=self.calibration_tolerance,
            alpha=self.alpha,
        )
        return {
            "n": len(labels),
            "n_used": len(audited),
            "n_repeated": labels.n_repeated,
            "n_unknown": audited.n_unknown,
            "n_ambiguous": audited.n_ambiguous,
            "n_unanswered": audited.n_unanswered,
            "n_accepted": len(accepted),
            "n_wrong": int(wrong.sum()),
            "is_even": is_even,
            "error": error_interval(accepted, self.alpha),
            "promise": promise.to_dict(),
            "calibration": calibration.to_dict(),
            "history": {"promise": promise.curve(), "calibration": calibration.curve()},
        }

    @cached_property
    def _reference_shares(self) -> tuple[Any, Any, Any]:
        """Mean probability of each class in the certificate's rows, which are looked at once, and its interval."""
        proba, groups = self.baseline.reference.probabilities, self.baseline.groups
        is_scored, n_classes = ~np.isnan(proba).any(axis=1), proba.shape[1]
        if not is_scored.any():
            return np.full(n_classes, np.nan), np.zeros(n_classes), np.ones(n_classes)
        found = [
            mean_interval(
                column,
                bounds=(0.0, 1.0),
                confidence_level=1.0 - self.alpha / n_classes,
                random_state=0,
                groups=None if groups is None else groups[is_scored],
            )
            for column in proba[is_scored].clip(0.0, 1.0).T
        ]
        means, lows, highs = (np.array([one[k] for one in found]) for k in range(3))
        return means, lows, highs

    def _class_shares(self) -> list[dict[str, Any]]:
        before, now = self._reference_shares, self._means.interval()
        n_before, n_now = self._reference_predicted.sum(), self._predicted.sum()
        return [
            {
                "class": one,
                "reference_predicted": float(self._reference_predicted[k] / n_before) if n_before else None,
                "predicted": float(self._predicted[k] / n_now) if n_now else None,
                "reference": _interval(before, k),
                "expected": _interval(now, k),
            }
            for k, one in enumerate(self.baseline.classes)
        ]


def watch(
    log: Any,
    certificate: Certificate | Baseline | str | os.PathLike[str],
    audited: Any = None,
    **options: Any,
) -> WatchReport:
    """Whether a certificate still holds for the decisions of a log, looked at once; `Watch` is asked again and again.

    Parameters
    ----------
    log : DecisionLog, path or DataFrame
    certificate : Certificate, Baseline or path
    audited : AuditedLabels, DataFrame, dict of id -> label, or path, optional
    **options
        Of `Watch`.

    Raises
    ------
    InputError, CertificateError, StoreError
        As `Watch` and `Watch.report`.
    """
    return Watch(log, certificate, **options).report(audited)


def _alarms(shifts: list[dict[str, Any]], judged: dict[str, Any] | None, baseline: Baseline) -> list[dict[str, Any]]:
    """The most urgent first."""
    found: list[dict[str, Any]] = []
    if judged is not None and judged["promise"]["alarm"] is not None:
        row, error = judged["promise"]["alarm"]["row"], judged["error"]
        found.append(
            {
                "kind": "promise",
                "row": row,
                "text": f"More than {baseline.max_error:.4g} of the accepted rows are wrong: {judged['n_wrong']} of "
                f"{judged['n_accepted']} audited ones are ({error['low']:.1%} to {error['high']:.1%}); the evidence was "
                f"sufficient after {row}.",
            }
        )
    if judged is not None and judged["calibration"]["alarm"] is not None:
        row = judged["calibration"]["alarm"]["row"]
        found.append(
            {
                "kind": "calibration",
                "row": row,
                "text": "The probabilities are no longer those of being right; the evidence was sufficient after "
                f"{row} audited rows.",
            }
        )
    for shift in shifts:
        if shift["alarm"] is not None:
            found.append(
                {
                    "kind": "shift",
                    "statistic": shift["name"],
                    "row": shift["alarm"]["row"],
                    "text": f"{shift['title']}: no longer as in the certificate's rows (distance "
                    f"{shift['alarm']['distance']:.2f}, after {shift['alarm']['row']:,} rows).",
                }
            )
    if baseline.is_expired:
        assert baseline.expires is not None
        found.append(
            {"kind": "expired", "text": f"The certificate has expired, on {baseline.expires.date().isoformat()} (UTC)."}
        )
    return found


def _complete(probabilities: Any) -> Any:
    return probabilities[~np.isnan(probabilities).any(axis=1)]


def _predicted(rows: DecisionColumns, n_classes: int) -> Any:
    return np.bincount(rows.labels[rows.labels >= 0], minlength=n_classes).astype(np.float64)


def _interval(values: Any, k: int) -> dict[str, float | None]:
    mean, low, high = (float(one[k]) for one in values)
    return {"value": None if np.isnan(mean) else mean, "low": low, "high": high}
