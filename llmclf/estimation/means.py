"""Means of any function of label and row, such as a cost or a score, from predictions of all rows and hand labels of some."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.stats import beta, norm
from scipy.stats import t as t_distribution

from ..arrays import Floats
from ..checks import check_truth, is_finite_number
from ..errors import InputError
from ..metrics import check_confidence_level
from ..tables.array_arguments import as_numbers
from .groups import (
    Estimates,
    aligned,
    check_groups,
    difference_records,
    group_pairs,
    sorted_groups,
    warn_of_small_groups,
)
from .labelled_sample import LabelledSample
from .regressions import checked_target, checked_tuning, probabilities
from .regressions.estimating_equations import EstimatingEquations, LabelDesign
from .regressions.fit import Fit, fit_by_hand, fit_powered
from .sample_checks import check_units

_PRIOR_CASES = 2.0
"""Of how many labels away from either bound the variance speaks that a value of 0 or 1 would have."""

_LARGEST = 1e100
"""Of values: their squares stay far from the largest and the smallest numbers that a computer has."""


@dataclass(frozen=True, eq=False)
class MeanEstimate:
    """A mean, before a confidence level is chosen.

    Attributes
    ----------
    mean, std_error : float
    lowest, highest : float
        The range of the values.
    share : float
        Where the mean lies in it, from 0 to 1.
    worth : float
        Of how many values of 0 or 1 the variance speaks; infinite where there is no doubt.
    degrees : float
        Of freedom, of the variance.
    tuning : float
    """

    mean: float
    std_error: float
    lowest: float
    highest: float
    share: float
    worth: float
    degrees: float
    tuning: float

    @classmethod
    def unknown(cls, lowest: float, highest: float) -> MeanEstimate:
        """Of too few labels: anywhere in the range of the values."""
        return cls(np.nan, np.nan, lowest, highest, np.nan, np.nan, 1.0, np.nan)

    def interval(self, alpha: float) -> tuple[float, float]:
        """The ends of the interval at the level 1 - `alpha`."""
        if np.isnan(self.share):
            return self.lowest, self.highest
        if np.isinf(self.worth):
            return self.mean, self.mean
        tail, width = alpha / 2.0, self.highest - self.lowest
        worth = self.worth * float((norm.ppf(tail) / t_distribution.ppf(tail, self.degrees)) ** 2)
        low, high = beta.ppf([tail, 1.0 - tail], self.share * worth + 0.5, (1.0 - self.share) * worth + 0.5)
        low, high = 0.0 if self.share == 0.0 else low, 1.0 if self.share == 1.0 else high
        return self.lowest + width * float(min(low, self.share)), self.lowest + width * float(max(high, self.share))


@dataclass(frozen=True, eq=False)
class PartMeans:
    """The means of M functions over a table, or over a group.

    Attributes
    ----------
    means, by_hand : list of MeanEstimate (M,)
        The estimates; those of the labelled rows alone.
    naive, mean_probability : ndarray (M,)
        With the most probable class for the label; the expectations under the model's own probabilities.
    n_rows, n_labelled : int
        N and n, of the group.
    contributions : ndarray (number of units, M)
        As `LabelledSample.contributions`, of the errors of the estimates.
    """

    means: list[MeanEstimate]
    by_hand: list[MeanEstimate]
    naive: Floats
    mean_probability: Floats
    n_rows: int
    n_labelled: int
    contributions: Floats

    def worth(self, j: int) -> float:
        """As many labels by hand, drawn in the same way, would give such an interval for function j."""
        mean, by_hand = self.means[j], self.by_hand[j]
        if not mean.std_error:
            return float(self.n_rows)
        return float(np.minimum(self.n_rows, self.n_labelled * (by_hand.std_error / mean.std_error) ** 2))


@dataclass(frozen=True, eq=False)
class MeansResult:
    """Means over all rows, each with its interval, and beside it what else one might report.

    Attributes
    ----------
    names : list (M,)
        Of the functions.
    overall : PartMeans
        For all rows.
    groups : dict of group -> PartMeans
        Empty without groups.
    target : {"rows", "population"}
    confidence_level : float
    simultaneous : bool
        Whether the intervals of a table hold together.
    n_rows, n_labelled : int
        N and n.
    """

    names: list[Any]
    overall: PartMeans
    groups: dict[Any, PartMeans]
    target: str
    confidence_level: float
    simultaneous: bool

    @property
    def n_rows(self) -> int:
        return self.overall.n_rows

    @property
    def n_labelled(self) -> int:
        return self.overall.n_labelled

    def to_frame(self) -> pd.DataFrame:
        """One row per function, for all rows of the table.

        Returns
        -------
        DataFrame
            Columns value (the name of the function), mean, low, high, std_error, tuning, worth, by_hand, by_hand_low,
            by_hand_high, naive (the most probable class taken for the label), mean_probability (the mean of the expectations
            under the model's own probabilities), labelled (how many labelled rows there are).
        """
        return self._frame({None: self.overall}).drop(columns="group")

    def group_frame(self) -> pd.DataFrame:
        """The same per group, in the column group.

        Raises
        ------
        InputError
            The estimates were made without groups.
        """
        check_groups(self.groups, "estimate_means")
        return self._frame(self.groups)

    def difference_frame(self, contrasts: str = "pairs") -> pd.DataFrame:
        """Differences of means between groups, with intervals that hold together (Bonferroni).

        Parameters
        ----------
        contrasts : str
            As in `ShareEstimates.difference_frame`.

        Returns
        -------
        DataFrame
            Columns value, difference (the mean in group less that in reference), low, high, group, reference, and differs:
            whether 0 lies outside.

        Raises
        ------
        InputError
            There are no two groups, or no such contrasts.
        """
        check_groups(self.groups, "estimate_means")
        pairs = group_pairs(list(self.groups), contrasts)
        alpha = (1.0 - self.confidence_level) / (len(pairs) * len(self.names))
        estimates = {}
        for name, part in self.groups.items():
            low, high = np.array([one.interval(alpha) for one in part.means]).T
            estimates[name] = Estimates(np.array([one.mean for one in part.means]), low, high, part.contributions)
        widest = np.array([one.highest - one.lowest for one in self.overall.means])
        return pd.DataFrame(difference_records(estimates, pairs, "value", self.names, widest))

    def _frame(self, parts: dict[Any, PartMeans]) -> pd.DataFrame:
        alpha = 1.0 - self.confidence_level
        if self.simultaneous:
            alpha /= len(self.names) * len(parts)
        records = []
        for group, part in parts.items():
            for j, name in enumerate(self.names):
                mean, by_hand = part.means[j], part.by_hand[j]
                ends, ends_by_hand = mean.interval(alpha), by_hand.interval(alpha)
                records.append(
                    {
                        "value": name,
                        "mean": mean.mean,
                        "low": ends[0],
                        "high": ends[1],
                        "group": group,
                        "std_error": mean.std_error,
                        "tuning": mean.tuning,
                        "worth": part.worth(j),
                        "by_hand": by_hand.mean,
                        "by_hand_low": ends_by_hand[0],
                        "by_hand_high": ends_by_hand[1],
                        "naive": float(part.naive[j]),
                        "mean_probability": float(part.mean_probability[j]),
                        "labelled": part.n_labelled,
                    }
                )
        return pd.DataFrame(records)

    def difference_text(self, contrasts: str = "pairs") -> str:
        """`difference_frame` as a table for people."""
        frame = self.difference_frame(contrasts)
        table = [["group", "reference", "value", "difference", "interval", ""]]
        for row in frame.to_dict(orient="records"):
            ends = f"{row['low']:+.4g} to {row['high']:+.4g}"
            difference = "-" if np.isnan(row["difference"]) else f"{row['difference']:+.4g}"
            names = [str(row["group"]), str(row["reference"]), str(row["value"])]
            table.append([*names, difference, ends, "differs" if row["differs"] else ""])
        title = (
            f"Group less reference, {100 * self.confidence_level:g} % intervals that hold together for all {len(frame)}"
        )
        return f"{title}\n{aligned(table, 3)}"

    def __str__(self) -> str:
        together = f", with {100 * self.confidence_level:g} % intervals that hold together" if self.simultaneous else ""
        title = f"Means over {self.n_rows:,} rows, {self.n_labelled:,} of them labelled by hand{together}"
        tables = [self.to_frame()]
        if self.groups:
            frame = self.group_frame()
            tables.append(frame[["group", *(name for name in frame.columns if name != "group")]])
        shown = (table.to_string(index=False, float_format=lambda value: f"{value:.4g}") for table in tables)
        return "\n\n".join([title, *shown])

    def __repr__(self) -> str:
        parts = f", in {len(self.groups)} groups" if self.groups else ""
        return f"<MeansResult: {len(self.names)} means over {self.n_rows} rows{parts}>"


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
