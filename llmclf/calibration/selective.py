"""Selective classification: the risk-coverage curve, and a confidence threshold with a guarantee."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import binom

from ..arrays import Floats
from ..checks import check_open_share, is_number, is_whole_number
from ..errors import CalibrationWarning, InputError, warn
from ..metrics import checked_event, exact_bounds
from ..metrics.checks import counts_rows

# Coverages to test: more of them leave less error probability for each, fewer may miss the best one.
_MIN_STEPS, _MAX_STEPS = 10, 100


@dataclass(frozen=True, eq=False)
class RiskCoverageCurve:
    """The error rate among the rows that are kept, for every threshold that keeps a different set of rows.

    Attributes
    ----------
    threshold : ndarray (m,)
        In decreasing order; rows with at least this confidence are kept.
    coverage : ndarray (m,)
        Weighted share of the rows that are kept.
    risk : ndarray (m,)
        Weighted share of wrong rows among them.
    lower, upper : ndarray (m,)
        Pointwise 95 % interval of each risk (Clopper & Pearson 1934); NaN if rows are weighted, since weights are not counts.
        Do not choose a threshold by it, since the best of many points is partly luck; see `select_threshold`.
    """

    threshold: Floats
    coverage: Floats
    risk: Floats
    lower: Floats
    upper: Floats


def risk_coverage_curve(
    y: ArrayLike, proba: ArrayLike, *, classes: ArrayLike | None = None, sample_weight: ArrayLike | None = None
) -> RiskCoverageCurve:
    """Error rate against the share of rows kept, as the least confident rows are left to a person.

    Rows of equal confidence are kept or left out together, so the order of the rows does not matter (El-Yaniv & Wiener 2010,
    "On the foundations of noise-free selective classification").

    Parameters
    ----------
    y : array-like (n,)
        True classes; see `llmclf.metrics.label_columns`.
    proba : array-like (n, K) or (n,)
        Probabilities; the confidence of a row is its largest probability.
    classes : array-like (K,), optional
        The class of each column.
    sample_weight : array-like (n,), optional
        Non-negative.

    Returns
    -------
    RiskCoverageCurve

    Raises
    ------
    InputError
        Any argument cannot be used.

    Examples
    --------
    >>> curve = risk_coverage_curve([0, 0, 1], [[0.9, 0.1], [0.8, 0.2], [0.8, 0.2]])
    >>> curve.threshold.tolist(), curve.coverage.round(3).tolist(), curve.risk.round(3).tolist()
    ([0.9, 0.8], [0.333, 1.0], [0.0, 0.333])
    """
    confidence, is_right, weights = checked_event(y, proba, classes, sample_weight)
    values, group = np.unique(-confidence, return_inverse=True)
    kept_weight = np.cumsum(np.bincount(group, weights))
    wrong_weight = np.cumsum(np.bincount(group, weights * (1.0 - is_right)))
    if counts_rows(sample_weight):
        lower, upper = exact_bounds(wrong_weight, kept_weight, 0.025)
    else:
        lower = upper = np.full(len(values), math.nan)
    return RiskCoverageCurve(-values, kept_weight / kept_weight[-1], wrong_weight / kept_weight, lower, upper)


@dataclass(frozen=True)
class SelectedThreshold:
    """A threshold on the confidence, and what is known about the rows at or above it.

    Attributes
    ----------
    threshold : float
        Accept a row if its confidence is at least this. 0 accepts all rows, infinity none.
    coverage : float
        Share of the labelled rows that are accepted.
    error : float
        Share of wrong rows among the accepted ones; NaN if none is accepted.
    error_bound : float
        Upper confidence bound on the error rate of future accepted rows, at most `max_error`; NaN if none is accepted.
    n_accepted, n_rows : int
        The number of labelled rows accepted, and of all labelled rows.
    max_error, confidence : float
        The values requested.
    """

    threshold: float
    coverage: float
    error: float
    error_bound: float
    n_accepted: int
    n_rows: int
    max_error: float
    confidence: float

    def to_dict(self) -> dict[str, Any]:
        """Its attributes, ready for JSON, with None for infinity and NaN.

        Examples
        --------
        >>> SelectedThreshold(math.inf, 0.0, math.nan, math.nan, 0, 80, 0.05, 0.95).to_dict()["threshold"] is None
        True
        """
        return {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in asdict(self).items()
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> SelectedThreshold:
        """The inverse of `to_dict`.

        Raises
        ------
        KeyError, TypeError, ValueError
            The values are not a result of `to_dict`.
        """
        n_accepted, n_rows = values["n_accepted"], values["n_rows"]
        if not is_whole_number(n_accepted, 0) or not is_whole_number(n_rows, n_accepted):
            raise ValueError(f"a threshold accepts {n_accepted!r} of {n_rows!r} rows")
        # If no row is accepted, these three are stored as None.
        threshold, error, error_bound = math.inf, math.nan, math.nan
        stored = [values[name] for name in ("threshold", "error", "error_bound")]
        if n_accepted:
            threshold, error, error_bound = map(_share, stored)
        elif stored != [None, None, None]:
            raise ValueError(f"a threshold that accepts no row holds {stored!r}; expected None three times")
        coverage, max_error, confidence = (_share(values[name]) for name in ("coverage", "max_error", "confidence"))
        return cls(threshold, coverage, error, error_bound, int(n_accepted), int(n_rows), max_error, confidence)


def check_selectable(n_rows: int, max_error: Any, confidence: Any) -> None:
    """Refuse what `select_threshold` would refuse, as far as this is known before the rows are scored.

    Raises
    ------
    InputError
        A level is not a number between 0 and 1, or there are too few rows even if all of them are right.

    Examples
    --------
    >>> check_selectable(59, 0.05, 0.95)
    """
    _check_levels(max_error, confidence)
    _check_n_rows(n_rows, max_error, confidence)


def select_threshold(
    y: ArrayLike,
    proba: ArrayLike,
    *,
    max_error: float,
    confidence: float = 0.95,
    classes: ArrayLike | None = None,
) -> SelectedThreshold:
    r"""The lowest threshold that keeps the error of accepted rows at or below `max_error`, with a guarantee.

    With probability `confidence` over the draw of the labelled rows, the error rate of all future rows accepted by the
    returned threshold is at most `max_error`. This holds in finite samples and for any distribution of confidences, provided
    that the labelled rows are drawn like the future ones, that neither the model nor the calibrator saw their labels, and that
    more confident rows are not wrong more often. (Without the last condition, the guarantee holds for the mean error rate of
    rows with these same confidences.)

    Ten coverages (up to a hundred with more than a thousand rows) are tested with the exact binomial p-value, the strictest
    first. Each test has its share of the error probability, and a test that passes hands its share on to the next (learn then
    test: Angelopoulos et al. 2025, "Learn then test: calibrating predictive algorithms to achieve risk control"; the fallback
    procedure of Wiens & Dmitrienko 2005). Taking the best point of `risk_coverage_curve` instead would give no guarantee.

    Parameters
    ----------
    y : array-like (n,)
        True classes of rows that nothing was fitted on.
    proba : array-like (n, K) or (n,)
        Their probabilities.
    max_error : float in (0, 1)
    confidence : float in (0, 1)
    classes : array-like (K,), optional
        The class of each column.

    Returns
    -------
    SelectedThreshold
        Its threshold is infinity, with a warning, if no coverage passes.

    Raises
    ------
    InputError
        There are too few rows even if all of them are right (the message says how many are needed), or any argument cannot
        be used.

    Warns
    -----
    CalibrationWarning
        No threshold passes; the message says how close the closest one came, and how many labels might be enough.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> p = rng.random(1000)
    >>> chosen = select_threshold(rng.random(1000) < p, p, max_error=0.1)
    >>> round(chosen.threshold, 2), round(chosen.coverage, 2), chosen.error < chosen.error_bound <= 0.1
    (0.86, 0.26, True)
    """
    _check_levels(max_error, confidence)
    max_error, confidence = float(max_error), float(confidence)
    certainty, is_right, _ = checked_event(y, proba, classes)
    n_rows, alpha = len(is_right), 1.0 - confidence
    _check_n_rows(n_rows, max_error, confidence)
    ranks = _ranks(n_rows, max_error, alpha)
    order = np.argsort(-certainty, kind="stable")
    sorted_confidence = certainty[order]
    n_wrong_before = np.concatenate([[0.0], np.cumsum(1.0 - is_right[order])])
    level, passed, nearest = 0.0, None, (math.inf, 0, 0)
    for rank in ranks:
        # Given the next confidence and the number of rows above it, those rows are distributed like future rows above it,
        # with or without ties.
        n_kept = rank
        if rank < n_rows:
            n_kept = int(np.searchsorted(-sorted_confidence, -sorted_confidence[rank], side="left"))
        n_wrong = int(n_wrong_before[n_kept])
        level += alpha / len(ranks)
        if n_kept and binom.cdf(n_wrong, n_kept, max_error) <= level:
            bound = float(exact_bounds(np.array([n_wrong]), np.array([n_kept]), level)[1][0])
            passed = rank, n_kept, n_wrong, bound
        else:
            bound = float(exact_bounds(np.array([n_wrong]), np.array([n_kept]), level)[1][0]) if n_kept else 1.0
            nearest = min(nearest, (bound, n_kept, n_wrong)) if n_kept else nearest
            level = 0.0
    if passed is None:
        _warn_no_threshold(nearest, n_rows, max_error, confidence, alpha / len(ranks))
        return SelectedThreshold(math.inf, 0.0, math.nan, math.nan, 0, n_rows, max_error, confidence)
    rank, n_kept, n_wrong, bound = passed
    threshold = 0.0 if rank == n_rows else float(np.nextafter(sorted_confidence[rank], 1.0))
    return SelectedThreshold(
        threshold, n_kept / n_rows, n_wrong / n_kept, min(bound, max_error), n_kept, n_rows, max_error, confidence
    )


def _check_levels(max_error: Any, confidence: Any) -> None:
    for name, value in (("max_error", max_error), ("confidence", confidence)):
        check_open_share(name, value, "0.05 or 0.95")


def _check_n_rows(n_rows: int, max_error: float, confidence: float) -> None:
    needed = _rows_needed(max_error, 1.0 - confidence)
    if n_rows < needed:
        raise InputError(
            f"{n_rows} labelled rows cannot show that at most {max_error:.4g} of the accepted ones are wrong with confidence "
            f"{confidence:.4g}; at least {needed} are needed, even if all of them are right"
        )


def _ranks(n_rows: int, max_error: float, alpha: float) -> list[int]:
    """How many of the most confident rows each tested threshold keeps: evenly spaced, as many steps as the rows allow."""
    max_steps = min(_MAX_STEPS, max(_MIN_STEPS, int(math.sqrt(n_rows) / 3.0)))
    n_steps = max(steps for steps in range(1, max_steps + 1) if _rows_needed(max_error, alpha / steps) <= n_rows)
    first = _rows_needed(max_error, alpha / n_steps)
    return [int(rank) for rank in np.unique(np.linspace(first, n_rows, n_steps).round())]


def _rows_needed(max_error: float, alpha: float) -> int:
    """How many rows, all of them right, show an error rate of at most `max_error` with error probability `alpha`."""
    return math.ceil(math.log(alpha) / math.log1p(-max_error) - 1e-9)


def _share(value: Any) -> float:
    if not is_number(value) or not 0 <= value <= 1:
        raise ValueError(f"a threshold holds {value!r}; expected a number between 0 and 1")
    return float(value)


def _warn_no_threshold(
    nearest: tuple[float, int, int], n_rows: int, max_error: float, confidence: float, level: float
) -> None:
    bound, n_kept, n_wrong = nearest
    rate = n_wrong / n_kept if n_kept else 1.0
    cure = "even the most confident rows are wrong too often: more labels will not help, a better model or prompt may"
    for factor in 2.0 ** np.arange(0.5, 8.5, 0.5):
        size: Any = round(n_kept * factor)
        if rate < max_error and binom.cdf(math.ceil(rate * size), size, max_error) <= level:
            cure = f"at the same error rate, about {math.ceil(n_rows * factor / 50) * 50} labelled rows would be enough"
            break
    warn(
        f"no threshold keeps the error at or below {max_error:.4g} with confidence {confidence:.4g} on {n_rows} labelled rows. "
        f"The closest keeps {n_kept} of them, {n_wrong} wrong, and bounds their error by {bound:.3g}; {cure}",
        CalibrationWarning,
    )
