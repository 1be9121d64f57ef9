"""Selective classification: the risk-coverage curve, and a confidence threshold with a guarantee."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import binom

from ..arrays import Floats, Integers
from ..checks import check_open_share, is_number, is_whole_number
from ..errors import CalibrationWarning, InputError, warn
from ..metrics import checked_event, exact_bounds
from ..metrics.checks import counts_rows, either_weights, inclusion_weights
from ..numerics.groups import effective_numbers, group_numbers
from ..numerics.thinning import even_prefix
from .tolerated_errors import local_level, tolerated_errors

_ROUNDING = 1e-9  # of weighted counts, which are whole numbers where all groups have one size
_MANY_ROWS = 5000  # a forecast for more rows is an approximation


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
    y: ArrayLike,
    proba: ArrayLike,
    *,
    classes: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    inclusion: ArrayLike | None = None,
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
    groups : array-like (n,), optional
        What each row belongs to, as in `select_threshold`; they widen the intervals.
    inclusion : array-like (n,), optional
        With what probability each row was drawn; each counts ``1 / inclusion``, and where these differ there are no intervals.

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
    sample_weight = either_weights(sample_weight, inclusion, y)
    confidence, is_right, weights = checked_event(y, proba, classes, sample_weight)
    values, group = np.unique(-confidence, return_inverse=True)
    kept_weight = np.cumsum(np.bincount(group, weights))
    wrong_weight = np.cumsum(np.bincount(group, weights * (1.0 - is_right)))
    if counts_rows(sample_weight):
        worth: Any = kept_weight
        if groups is not None:
            counted = slice(None) if sample_weight is None else np.asarray(sample_weight) > 0
            members = group_numbers(groups, np.shape(y)[0])[counted]
            worth = effective_numbers(members[np.argsort(-confidence, kind="stable")])[kept_weight.astype(np.int64) - 1]
        lower, upper = exact_bounds(wrong_weight * worth / kept_weight, worth, 0.025)
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


def rows_needed(max_error: float, alpha: float) -> int:
    """How many rows, all of them right, show an error rate of at most `max_error` with error probability `alpha`.

    Examples
    --------
    >>> rows_needed(0.05, 0.05)
    59
    """
    return math.ceil(math.log(alpha) / math.log1p(-max_error) - 1e-9)


def check_selectable(n_rows: int, max_error: Any, confidence: Any, groups: Integers | None = None) -> None:
    """Refuse what `select_threshold` would refuse, as far as this is known before the rows are scored.

    Parameters
    ----------
    n_rows : int
    max_error, confidence : float
    groups : ndarray of int (n_rows,), optional

    Raises
    ------
    InputError
        A level is not a number between 0 and 1, or there are too few rows or groups even if all rows are right.

    Examples
    --------
    >>> check_selectable(59, 0.05, 0.95)
    """
    _check_levels(max_error, confidence)
    _check_n_rows(n_rows, max_error, confidence)
    if groups is not None:
        _check_n_groups(n_rows, len(np.unique(groups)), max_error, confidence)


def select_threshold(
    y: ArrayLike,
    proba: ArrayLike,
    *,
    max_error: float,
    confidence: float = 0.95,
    classes: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    inclusion: ArrayLike | None = None,
) -> SelectedThreshold:
    r"""The lowest threshold that keeps the error of accepted rows at or below `max_error`, with a guarantee.

    With probability `confidence` over the draw of the labelled rows, the error rate of all future rows accepted by the
    returned threshold is at most `max_error`. This holds in finite samples, for any distribution of confidences (with ties or
    without) and for any relation between confidence and error, provided that the labelled rows are drawn like the future ones,
    and that neither the model nor the calibrator saw their labels.

    Every threshold that separates two rows is tried, and the lowest one passes above which no more rows are wrong than
    `llmclf.calibration.tolerated_errors` tolerates. These numbers belong together: if all rows are wrong with probability
    `max_error`, whatever their confidence, any threshold passes with probability ``1 - confidence`` at most. No other relation
    between confidence and error lets a threshold pass more often above which too many rows are wrong
    (docs/explanation/guarantees.md says why). Taking the best point of `risk_coverage_curve` instead would give no guarantee.

    Rows that are not independent, such as copies of a text or messages of one author, need `groups`. The rows above a threshold
    then count as many as ``n**2 / sum(size**2)`` independent ones (Kish 1965), n rows in groups of these sizes: the number of
    groups where all are of one size. This assumes that the rows of a group say all the same, and is cautious where they do not
    (Korn & Graubard 1998, "Confidence intervals for proportions with small expected number of positive counts estimated from
    survey data"). With groups of different sizes the guarantee is approximate; experiments/grouped_rows.md has simulations.

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
    groups : array-like (n,), optional
        What each row belongs to: rows of different groups are independent. None: each row is independent of all others.
    inclusion : array-like (n,), optional
        With what probability each labelled row was drawn, as `llmclf.estimation.next_rows` says it. Of unequal ones, rows that
        were drawn more often are left out at random until all have been drawn with the same probability, and the promise is about
        the table that was drawn from (`llmclf.numerics.thinning`). Only the most confident rows are looked at, where that
        leaves more of them. ``goal="threshold"`` draws evenly where a threshold may lie, so that hardly any is lost.

    Returns
    -------
    SelectedThreshold
        Its threshold is infinity, with a warning, if no threshold passes.

    Raises
    ------
    InputError
        There are too few rows or groups even if all rows are right (the message says how many are needed), or any argument
        cannot be used.

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
    (0.83, 0.32, True)
    """
    _check_levels(max_error, confidence)
    max_error, confidence = float(max_error), float(confidence)
    certainty, is_right, _ = checked_event(y, proba, classes)
    n_rows = len(is_right)
    members = None if groups is None else group_numbers(groups, n_rows)
    if members is not None and members.max() == n_rows - 1:
        members = None  # each row is a group
    if inclusion is not None:
        weights = inclusion_weights(inclusion, n_rows)
        if (weights != 1.0).any():
            return _of_uneven_rows(certainty, is_right, weights, members, max_error, confidence)
    return _selected(certainty, is_right, members, max_error, confidence)


def _selected(
    certainty: Floats, is_right: Floats, members: Integers | None, max_error: float, confidence: float
) -> SelectedThreshold:
    """The threshold of rows (n,) that were drawn evenly."""
    n_rows, alpha = len(is_right), 1.0 - confidence
    check_selectable(n_rows, max_error, confidence, members)
    order = np.argsort(-certainty, kind="stable")
    certainty = certainty[order]
    # Rows of equal confidence are accepted together, so a rank counts only after the last of them.
    ranks = np.append(np.flatnonzero(np.diff(certainty)) + 1, n_rows)
    n_wrong = np.cumsum(1.0 - is_right[order])[ranks - 1]
    worth = ranks.astype(np.float64) if members is None else effective_numbers(members[order])[ranks - 1]
    size = np.floor(worth + _ROUNDING).astype(np.int64)
    tolerated = tolerated_errors(int(size.max()), max_error, alpha)
    weighted_wrong = n_wrong * worth / ranks
    passed = np.flatnonzero(weighted_wrong <= tolerated[size] + _ROUNDING)
    if not passed.size:
        _warn_no_threshold(ranks, n_wrong, worth, max_error, confidence, members is not None)
        return SelectedThreshold(math.inf, 0.0, math.nan, math.nan, 0, n_rows, max_error, confidence)
    last = int(passed[-1])
    n_kept = int(ranks[last])
    level = local_level(tolerated, int(size[last]), max_error)
    bound = exact_bounds(weighted_wrong[last], worth[last], level)[1]
    return SelectedThreshold(
        0.0 if n_kept == n_rows else float(np.nextafter(certainty[n_kept], 1.0)),
        n_kept / n_rows,
        float(n_wrong[last]) / n_kept,
        min(float(bound), max_error),
        n_kept,
        n_rows,
        max_error,
        confidence,
    )


def _of_uneven_rows(
    certainty: Floats,
    is_right: Floats,
    weights: Floats,
    members: Integers | None,
    max_error: float,
    confidence: float,
) -> SelectedThreshold:
    """The threshold from those of the rows (n,) that were drawn with the same probability."""
    order = np.argsort(-certainty, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(certainty[order])) + 1, len(order))
    n_rows, kept = even_prefix(1.0 / weights[order], ends, seed=0)
    used = order[:n_rows][kept]
    groups = None if members is None else group_numbers(members[used], len(used))
    try:
        chosen = _selected(certainty[used], is_right[used], groups, max_error, confidence)
    except InputError as error:
        raise InputError(
            f"of the {len(order)} labelled rows, drawn with unequal probabilities, {len(used)} count as drawn with the same one: "
            f"{error}"
        ) from None
    if not chosen.n_accepted:
        return chosen
    # Below the last row that was looked at, nothing is known.
    threshold = chosen.threshold or (float(certainty[order[n_rows - 1]]) if n_rows < len(order) else 0.0)
    accepted = certainty >= threshold
    return replace(chosen, threshold=threshold, coverage=float(weights[accepted].sum() / weights.sum()))


def _check_levels(max_error: Any, confidence: Any) -> None:
    for name, value in (("max_error", max_error), ("confidence", confidence)):
        check_open_share(name, value, "0.05 or 0.95")


def _check_n_rows(n_rows: int, max_error: float, confidence: float) -> None:
    needed = rows_needed(max_error, 1.0 - confidence)
    if n_rows < needed:
        raise InputError(
            f"{n_rows} labelled rows cannot show that at most {max_error:.4g} of the accepted ones are wrong with confidence "
            f"{confidence:.4g}; at least {needed} are needed, even if all of them are right"
        )


def _check_n_groups(n_rows: int, n_groups: int, max_error: float, confidence: float) -> None:
    needed = rows_needed(max_error, 1.0 - confidence)
    if n_groups < needed:
        raise InputError(
            f"{n_rows} labelled rows in {n_groups} groups cannot show that at most {max_error:.4g} of the accepted ones are "
            f"wrong with confidence {confidence:.4g}, since the rows of a group (such as the copies of a text) count as "
            f"one; at least {needed} groups are needed, even if all rows are right"
        )


def _share(value: Any) -> float:
    if not is_number(value) or not 0 <= value <= 1:
        raise ValueError(f"a threshold holds {value!r}; expected a number between 0 and 1")
    return float(value)


def _warn_no_threshold(
    ranks: Integers,
    n_wrong: Floats,
    worth: Floats,
    max_error: float,
    confidence: float,
    has_groups: bool,
) -> None:
    alpha = 1.0 - confidence
    most = math.floor(worth.max() + _ROUNDING)
    level = local_level(tolerated_errors(most, max_error, alpha), most, max_error)
    bounds = exact_bounds(n_wrong * worth / ranks, worth, level)[1]
    nearest = int(np.argmin(bounds))
    n_rows, n_kept, rate = int(ranks[-1]), int(ranks[nearest]), float(n_wrong[nearest] / ranks[nearest])
    cure = "even the most confident rows are wrong too often: more labels will not help, a better model or prompt may"
    for factor in 2.0 ** np.arange(0.5, 8.5, 0.5):
        if rate < max_error and _would_pass(rate, worth[nearest] * factor, worth[-1] * factor, max_error, alpha):
            more = math.ceil(n_rows * factor / 50) * 50
            kind = "labelled rows in as many more groups" if has_groups else "labelled rows"
            cure = f"at the same error rate, about {more} {kind} would be enough"
            break
    warn(
        f"no threshold keeps the error at or below {max_error:.4g} with confidence {confidence:.4g} on {n_rows} labelled rows. "
        f"The closest keeps {n_kept} of them, {int(n_wrong[nearest])} wrong, and bounds their error by {bounds[nearest]:.3g}; "
        f"{cure}",
        CalibrationWarning,
    )


def _would_pass(rate: float, n_kept: float, n_rows: float, max_error: float, alpha: float) -> bool:
    """Whether a threshold would pass above which this share of `n_kept` of `n_rows` rows is wrong."""
    kept, wrong = round(n_kept), math.ceil(rate * round(n_kept) - _ROUNDING)
    if n_rows <= _MANY_ROWS:
        return bool(wrong <= tolerated_errors(max(kept, round(n_rows)), max_error, alpha)[kept])
    # The level of a rank alone hardly changes with the number of rows, and is quick to have for any number.
    some = tolerated_errors(_MANY_ROWS, max_error, alpha)
    return bool(binom.cdf(wrong, kept, max_error) <= local_level(some, _MANY_ROWS, max_error))
