"""Means of any function of label and row, such as a cost or a score, from predictions of all rows and hand labels of some."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..arrays import Floats
from ..checks import check_truth, is_finite_number
from ..errors import InputError
from ..metrics import check_confidence_level
from ..tables.array_arguments import as_numbers
from .groups import sorted_groups, warn_of_small_groups
from .labelled_sample import LabelledSample
from .mean_estimates import MeanEstimate, MeansResult, PartMeans
from .regressions import checked_target, checked_tuning, probabilities
from .regressions.estimating_equations import EstimatingEquations, LabelDesign
from .regressions.fit import Fit, fit_by_hand, fit_powered
from .sample_checks import check_units

_PRIOR_CASES = 2.0
"""Of how many labels away from either bound the variance speaks that a value of 0 or 1 would have."""

_LARGEST = 1e100
"""Of values: their squares stay far from the largest and the smallest numbers that a computer has."""


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
    groups: Iterable[Any] | None = None,
    target: str = "rows",
    confidence_level: float = 0.95,
    simultaneous: bool = False,
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
    groups : array-like (N,), optional
        The part of the table that each row belongs to, such as a year; each gets estimates of its own. With strata, those of a
        group are as wide as if there were none, since how many rows of a stratum lie in it is chance.
    simultaneous : bool
        Whether all intervals of a table hold together with this probability (Bonferroni: over functions, and over groups).
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
        As in `LabelledSample.checked`. Groups with fewer than ten labelled rows.

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
    for name, value in (("simultaneous", simultaneous), ("recalibrate", recalibrate)):
        check_truth(name, value)
    sample = LabelledSample.checked(
        proba, y, rows, classes=classes, inclusion=inclusion, strata=strata, clusters=clusters, weights=weights
    )
    check_units(sample)
    functions = {name: _table(given, sample, name) for name, given in _functions(values, sample).items()}
    names: list[Any] = []
    numbers = np.zeros(sample.n_rows, dtype=np.int64)
    if groups is not None:
        names, numbers = sorted_groups(groups, sample.n_rows)
        warn_of_small_groups(names, numbers[sample.rows[sample.counted]])
    q = probabilities(sample, recalibrate)
    tables = list(functions.values())
    return MeansResult(
        list(functions),
        _part(sample, *q, tables, None, fixed, of_rows_alone),
        {name: _part(sample, *q, tables, numbers == g, fixed, of_rows_alone) for g, name in enumerate(names)},
        target,
        confidence_level,
        simultaneous,
    )


def _part(
    whole: LabelledSample,
    q_all: Floats,
    q_seen: Floats,
    tables: list[Floats],
    inside: NDArray[np.bool_] | None,
    tuning: float | None,
    of_rows_alone: bool,
) -> PartMeans:
    """The means of functions, tables (K,) or (N, K), over all rows, or over those `inside` (N,) a group."""
    sample, domain = whole, None
    if inside is not None:
        sample, domain = _within(whole, inside), inside[whole.rows]
        q_all, q_seen = q_all[inside], q_seen[domain]
        tables = [table if table.ndim == 1 else table[inside] for table in tables]
    total = sample.weights.sum()
    shares = sample.weights / total if total else np.full(sample.n_rows, np.nan)
    predicted = np.eye(sample.n_classes)[sample.proba.argmax(axis=1)]
    in_rows = [np.atleast_2d(table) for table in tables]
    means, by_hand = list[MeanEstimate](), list[MeanEstimate]()
    contributions = np.zeros((whole.n_units, len(tables)))
    is_known = sample.n_labelled > 0 and len(np.unique(sample.units[sample.counted])) > 1
    d = sample.design_weights if is_known else np.zeros(0)
    for j, table in enumerate(tables):
        if not is_known:
            for found in (means, by_hand):
                found.append(MeanEstimate.unknown(float(table.min()), float(table.max())))
            continue
        design = LabelDesign(np.ones((sample.n_rows, 1)), values=table)
        equations = EstimatingEquations(design, False, q_all, q_seen, sample.columns, sample.rows, shares, d / d.sum())
        hand_fit = fit_by_hand(equations, sample, of_rows_alone=of_rows_alone, reduce_bias=False)
        fit = fit_powered(equations, sample, hand_fit.params, tuning, of_rows_alone=of_rows_alone, reduce_bias=False)
        means.append(_estimate(fit, equations, sample, of_rows_alone))
        by_hand.append(_estimate(hand_fit, equations, sample, of_rows_alone))
        errors = np.zeros((len(whole.rows), 1))
        observed, expected = (
            design.observed(sample.columns, sample.rows)[1],
            (q_seen * design.of_rows(sample.rows)).sum(axis=1),
        )
        errors[slice(None) if domain is None else domain, 0] = observed - fit.tuning[0] * expected
        contributions[:, j] = whole.contributions(errors, domain, finite_population=of_rows_alone)[:, 0]
    return PartMeans(
        means,
        by_hand,
        np.array([shares @ (predicted * values).sum(axis=1) for values in in_rows]),
        np.array([shares @ (sample.proba * values).sum(axis=1) for values in in_rows]),
        sample.n_rows,
        sample.n_labelled,
        contributions,
    )


def _within(sample: LabelledSample, inside: NDArray[np.bool_]) -> LabelledSample:
    """The rows inside a group (N,) as a sample, without strata, whose numbers of rows inside are chance."""
    domain = inside[sample.rows]
    place = np.cumsum(inside) - 1
    return replace(
        sample,
        proba=sample.proba[inside],
        columns=sample.columns[domain],
        rows=place[sample.rows[domain]],
        inclusion=sample.inclusion[domain],
        weights=sample.weights[inside],
        strata=None,
        clusters=None if sample.clusters is None else sample.clusters[inside],
    )


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


def _estimate(fit: Fit, equations: EstimatingEquations, sample: LabelledSample, of_rows_alone: bool) -> MeanEstimate:
    """A mean within the range of its values; see `estimate_means`."""
    table = equations.design.of_rows(None)
    low, high = float(table.min()), float(table.max())
    tuning, width = float(fit.tuning[0]), high - low
    if not width:
        return MeanEstimate(low, 0.0, low, high, 0.0, np.inf, 1.0, tuning)
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
        return MeanEstimate(low + width * share, 0.0, low, high, share, np.inf, 1.0, tuning)
    weight = cases / (cases + _PRIOR_CASES)
    variance = weight * variance + (1.0 - weight) * max(greatest, variance)
    return MeanEstimate(
        low + width * share,
        width * float(np.sqrt(variance)),
        low,
        high,
        share,
        drawn * (1.0 - drawn) / variance,
        float(fit.degrees[0]),
        tuning,
    )
