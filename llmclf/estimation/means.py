"""Means of any function of label and row, such as a cost or a score, from predictions of all rows and hand labels of some."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.stats import beta, norm
from scipy.stats import t as t_distribution

from ..arrays import Floats
from ..checks import check_truth, is_finite_number
from ..errors import InputError
from ..metrics import check_confidence_level
from ..tables.array_arguments import as_numbers
from .labelled_sample import LabelledSample
from .regressions import checked_target, checked_tuning, probabilities
from .regressions.estimating_equations import EstimatingEquations, LabelDesign
from .regressions.fit import Fit, fit_by_hand, fit_powered
from .sample_checks import check_units

_PRIOR_CASES = 2.0
"""Of how many labels away from either bound the variance speaks that a value of 0 or 1 would have."""

_LARGEST = 1e100
"""Of values: their squares stay far from the largest and the smallest numbers that a computer has."""


class _Mean(NamedTuple):
    """A mean, its standard error, the ends of its interval, and its tuning."""

    mean: float
    std_error: float
    low: float
    high: float
    tuning: float


@dataclass(frozen=True, eq=False)
class MeansResult:
    """Means over all rows, each with its interval, and beside it what else one might report.

    Attributes
    ----------
    table : DataFrame
        See `to_frame`.
    target : {"rows", "population"}
    confidence_level : float
    n_rows, n_labelled : int
        N and n.
    """

    table: pd.DataFrame
    target: str
    confidence_level: float
    n_rows: int
    n_labelled: int

    def to_frame(self) -> pd.DataFrame:
        """One row per function.

        Returns
        -------
        DataFrame
            Columns value (the name of the function), mean, low, high, std_error, tuning, worth, by_hand, by_hand_low,
            by_hand_high, naive (the most probable class taken for the label), mean_probability (the mean of the expectations
            under the model's own probabilities).
        """
        return self.table.copy()

    def __str__(self) -> str:
        lines = [f"Means over {self.n_rows:,} rows, {self.n_labelled:,} of them labelled by hand", ""]
        shown = self.table.to_string(index=False, float_format=lambda value: f"{value:.4g}")
        return "\n".join([*lines, shown])

    def __repr__(self) -> str:
        return f"<MeansResult: {len(self.table)} means over {self.n_rows} rows>"


def estimate_means(
    proba: ArrayLike,
    y: ArrayLike,
    rows: ArrayLike,
    values: Any,
    *,
    classes: ArrayLike | None = None,
    inclusion: ArrayLike | None = None,
    strata: Iterable[Any] | None = None,
    clusters: Iterable[Any] | None = None,
    weights: ArrayLike | None = None,
    target: str = "rows",
    confidence_level: float = 0.95,
    recalibrate: bool = True,
    tuning: float | None = None,
) -> MeansResult:
    r"""The means over all rows of functions of label and row, which a model predicts and people know of some rows.

    With the value :math:`v_{ik}` of row i if its label is k, the expectation :math:`m_i = \sum_k q_{ik} v_{ik}` under
    cross-fitted recalibrated probabilities q, and :math:`\lambda` tuned in [0, 1], the estimate is the difference estimator
    :math:`\lambda \sum_i \omega_i m_i + \sum_{i \in s} d_i (v_{i y_i} - \lambda m_i)` (Särndal, Swensson & Wretman 1992, "Model
    assisted survey sampling", section 6.3; tuned as in Angelopoulos, Duchi & Zrnic 2023, "PPI++").

    The values of all rows and classes are known, so no mean can lie outside their range. The interval is that of a beta
    distribution on this range whose variance is the estimate's, as Korn & Graubard 1998 ("Confidence intervals for proportions
    with small expected number of positive counts estimated from survey data") do for shares. Where fewer than some labelled rows
    lie away from a bound, their variance is drawn towards the greatest that a mean like this can have.

    Parameters
    ----------
    proba, y, rows, classes, inclusion, strata, clusters, weights
        As in `LabelledSample.checked`.
    values : dict, or array-like (K,) or (N, K)
        The number for each class: as a dict of class -> number, or in the order of the columns; or for each row and class. Or
        several such functions: a dict of name -> one of these.
    target : {"rows", "population"}
        Whether the interval is about the mean over these rows, or over a population that they are a sample of.
    confidence_level, recalibrate, tuning
        As in `estimate_regression`.

    Returns
    -------
    MeansResult

    Raises
    ------
    InputError
        Any argument cannot be used.

    Warns
    -----
    EstimationWarning
        As in `LabelledSample.checked`.

    Examples
    --------
    What wrongly filed messages cost, if one in three is urgent:

    >>> generator = np.random.default_rng(0)
    >>> urgent = generator.random(3000) < 1 / 3
    >>> p = np.where(urgent, 0.9, 0.2)
    >>> rows = np.arange(0, 3000, 20)
    >>> result = estimate_means(p, urgent[rows].astype(int), rows, {"minutes": {0: 1, 1: 15}})
    >>> frame = result.to_frame().set_index("value")
    >>> bool(frame.low["minutes"] < 1 + 14 * urgent.mean() < frame.high["minutes"])
    True
    """
    of_rows_alone = checked_target(target) == "rows"
    check_confidence_level(confidence_level)
    fixed = checked_tuning(tuning)
    check_truth("recalibrate", recalibrate)
    sample = LabelledSample.checked(
        proba, y, rows, classes=classes, inclusion=inclusion, strata=strata, clusters=clusters, weights=weights
    )
    check_units(sample)
    functions = {name: _table(given, sample, name) for name, given in _functions(values, sample).items()}
    q_all, q_seen = probabilities(sample, recalibrate)
    shares, d = sample.weights / sample.weights.sum(), sample.design_weights
    predicted = np.eye(sample.n_classes)[sample.proba.argmax(axis=1)]
    records = []
    for name, table in functions.items():
        design = LabelDesign(np.ones((sample.n_rows, 1)), values=table)
        equations = EstimatingEquations(design, False, q_all, q_seen, sample.columns, sample.rows, shares, d / d.sum())
        hand_fit = fit_by_hand(equations, sample, of_rows_alone=of_rows_alone, reduce_bias=False)
        fit = fit_powered(equations, sample, hand_fit.params, fixed, of_rows_alone=of_rows_alone, reduce_bias=False)
        mean, by_hand = (
            _with_interval(one, equations, sample, of_rows_alone, confidence_level) for one in (fit, hand_fit)
        )
        in_rows = design.of_rows(None)
        records.append(
            {
                "value": name,
                "mean": mean.mean,
                "low": mean.low,
                "high": mean.high,
                "std_error": mean.std_error,
                "tuning": mean.tuning,
                "worth": _worth(mean, by_hand, sample),
                "by_hand": by_hand.mean,
                "by_hand_low": by_hand.low,
                "by_hand_high": by_hand.high,
                "naive": float(shares @ (predicted * in_rows).sum(axis=1)),
                "mean_probability": float(shares @ (sample.proba * in_rows).sum(axis=1)),
            }
        )
    return MeansResult(pd.DataFrame(records), target, confidence_level, sample.n_rows, sample.n_labelled)


def _functions(values: Any, sample: LabelledSample) -> dict[Any, Any]:
    """The functions by name: one is called "mean"."""
    if isinstance(values, Mapping) and values and set(values) != set(sample.classes.tolist()):
        if not all(isinstance(name, str) and not is_finite_number(given) for name, given in values.items()):
            raise InputError(
                f"values={values!r}; expected a number for each of the classes {sample.classes.tolist()!r}, or a dict of name -> "
                "such numbers"
            )
        return dict(values)
    return {"mean": values}


def _table(given: Any, sample: LabelledSample, name: Any) -> Floats:
    """The numbers (K,) or (N, K) of one function."""
    known, shapes = sample.classes.tolist(), ((sample.n_classes,), (sample.n_rows, sample.n_classes))
    if isinstance(given, Mapping):
        if set(given) != set(known):
            raise InputError(
                f"the values of {name!r} are for {list(given)!r}; expected a number for each of the classes {known!r}"
            )
        given = [given[label] for label in known]
    try:
        table = as_numbers(given, "values")
    except InputError:
        raise InputError(f"the values of {name!r} are not numbers") from None
    if table.shape not in shapes:
        raise InputError(
            f"the values of {name!r} have shape {table.shape}; expected {shapes[0]}, one per class, or {shapes[1]}, one per row "
            "and class"
        )
    if not np.isfinite(table).all():
        raise InputError(f"the values of {name!r} are not all finite; expected a finite number for every class")
    if np.abs(table).max() > _LARGEST or 0.0 < np.ptp(table) < 1.0 / _LARGEST:
        raise InputError(
            f"the values of {name!r} reach from {table.min():.3g} to {table.max():.3g}, beyond what can be computed with; give "
            "them in another unit"
        )
    return table


def _with_interval(
    fit: Fit, equations: EstimatingEquations, sample: LabelledSample, of_rows_alone: bool, confidence_level: float
) -> _Mean:
    """The interval of a mean, within the range of its values; see `estimate_means`."""
    table = equations.design.of_rows(None)
    low, high = float(table.min()), float(table.max())
    tuning, width = float(fit.tuning[0]), high - low
    if not width:
        return _Mean(low, 0.0, low, low, tuning)
    share = float(np.clip((fit.params[0] - low) / width, 0.0, 1.0))
    variance = float(fit.covariance[0, 0]) / width**2
    _, seen = equations.design.observed(equations.codes, equations.rows)
    d = equations.design_shares
    n = float(1.0 / (d @ d))
    away = (seen - low) / width
    cases = float(min(away.sum(), (1.0 - away).sum()))
    drawn = (n * share + 0.5) / (n + 1.0)
    left = 1.0 - float(sample.inclusion.mean()) if of_rows_alone else 1.0
    greatest = drawn * (1.0 - drawn) / n * left
    if variance <= 0.0 and not left:
        return _Mean(low + width * share, 0.0, low + width * share, low + width * share, tuning)
    weight = cases / (cases + _PRIOR_CASES)
    variance = weight * variance + (1.0 - weight) * max(greatest, variance)
    tail = (1.0 - confidence_level) / 2.0
    heavier = float((norm.ppf(tail) / t_distribution.ppf(tail, fit.degrees[0])) ** 2)
    worth = drawn * (1.0 - drawn) / variance * heavier
    ends = beta.ppf([tail, 1.0 - tail], share * worth + 0.5, (1.0 - share) * worth + 0.5)
    ends = [0.0 if share == 0.0 else ends[0], 1.0 if share == 1.0 else ends[1]]
    return _Mean(
        low + width * share,
        width * float(np.sqrt(variance)),
        low + width * float(min(ends[0], share)),
        low + width * float(max(ends[1], share)),
        tuning,
    )


def _worth(mean: _Mean, by_hand: _Mean, sample: LabelledSample) -> float:
    if not mean.std_error:
        return float(sample.n_rows)
    return float(min(sample.n_rows, sample.n_labelled * (by_hand.std_error / mean.std_error) ** 2))
