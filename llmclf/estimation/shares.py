"""What share of all rows each class has: from probabilities of all rows, and labels by hand of a few."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..arrays import Floats, Integers
from ..checks import check_truth, check_whole_number, is_finite_number
from ..errors import InputError
from ..metrics import check_confidence_level
from .groups import sorted_groups, warn_of_small_groups
from .labelled_sample import LabelledSample
from .recalibration import Recalibration
from .share_estimates import PartEstimate, ShareEstimates

_UNSEEN_BY_HAND, _UNSEEN_BY_MODEL = 0.5, 2.0
"""How many cases that were not seen, of which the model knows nothing, count beside those that were; chosen by simulation."""

_BAD_CLUSTERS = 1.0
"""How many clusters that were not seen, and in which the model is wrong about all that is there, count beside those that were."""

_LEAST_REST = 0.95
"""If more of the variance is left, the correction of it is left out (Cochran 1977, "Sampling techniques", section 2.6)."""


def estimate_shares(
    proba: ArrayLike,
    y: ArrayLike,
    rows: ArrayLike,
    *,
    classes: ArrayLike | None = None,
    inclusion: ArrayLike | None = None,
    strata: Iterable[Any] | None = None,
    clusters: Iterable[Any] | None = None,
    weights: ArrayLike | None = None,
    groups: Iterable[Any] | None = None,
    confidence_level: float = 0.95,
    simultaneous: bool = False,
    recalibrate: bool = True,
    tuning: float | None = None,
    n_folds: int = 5,
) -> ShareEstimates:
    r"""The share of each class among all rows, with intervals that hold whatever the model is worth.

    With the hand labels :math:`y_{ik}` (1 if row i is of class k) and the model's probabilities :math:`m_{ik}`, recalibrated, the
    share is :math:`\lambda_k \bar m_k + \sum_i d_i (y_{ik} - \lambda_k m_{ik}) / \sum_i d_i`: the mean probability of all rows,
    corrected by what the labelled rows show it to be wrong by. It is the difference estimator of survey sampling (Särndal,
    Swensson & Wretman 1992, "Model assisted survey sampling", chapter 6), and the prediction-powered estimate (Angelopoulos et
    al. 2023, "Prediction-powered inference") with power tuning (Angelopoulos, Duchi & Zrnic 2023, "PPI++"). The probabilities
    may be wrong in any way: that costs width and never the right to the interval.

    The probabilities are recalibrated on the labelled rows, each labelled row by a map that did not see its label, and
    :math:`\lambda_k` in [0, 1] is the one with the least variance. The shares are then moved to a sum of 1, each in proportion to
    its variance.

    The interval is exact for a count of as many rows as the estimate is worth (`count_interval`), so it is right for rare
    classes, too, and for classes without any labelled row. The worth is found from the design-based variances
    (`LabelledSample.contributions`), as if half a case more had been seen, of the weight of a typical row; and the gain over the
    labels alone as if there were two more cases of which the model knows nothing. So a model cannot look better than a handful
    of cases can show, and no interval is wider than that of the labels alone at the same share.

    With clusters, a case that was not seen weighs as much as the labels show the rows of a cluster to be alike. A model may
    be wrong about whole clusters, though, in all texts of an author, where labels are as mixed as elsewhere, and twenty or sixty
    clusters cannot show that there are none: :math:`\lambda_k` is chosen, and the interval made, as if there were one more such
    cluster. Where a good model is wrong in single rows alone, 95 % intervals from so few clusters therefore cover 97 to 100 %;
    without this, they would cover less than 90 % where a tenth of the clusters is misjudged. Where more than a
    twentieth was drawn, the ends are nearer by the finite population correction, and at least the labelled rows count.
    experiments/share_coverage.md has coverage and width.

    Parameters
    ----------
    proba, y, rows, classes, inclusion, strata, clusters, weights
        As in `LabelledSample.checked`. The probabilities must come from a model, and a calibrator, that did not see the labels of
        the labelled rows; give cross-fitted ones (`LLMClassifier.calibration_proba_`) of rows that it saw.
    groups : array-like (N,), optional
        The part of the table that each row belongs to, such as a year; each gets estimates of its own.
    confidence_level : float in (0, 1)
    simultaneous : bool
        Whether all intervals of a table hold together with this probability (Bonferroni: over classes, and over groups), rather
        than each on its own.
    recalibrate : bool
        Whether the probabilities are recalibrated. Labels of a model, rather than probabilities, never are.
    tuning : float in [0, 1], optional
        A :math:`\lambda` for all classes instead of the best ones: 0 is the labels alone, 1 plain prediction-powered inference.
        The estimates are then what the formula says, which may be less than 0.
    n_folds : int
        Of the cross-fitting.

    Returns
    -------
    ShareEstimates

    Raises
    ------
    InputError
        Any argument cannot be used; see `LabelledSample.checked`.

    Warns
    -----
    EstimationWarning
        What holds only in part; see `LabelledSample.checked`. Groups with fewer than ten labelled rows.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> proba = rng.beta(0.5, 1.0, 2000)
    >>> truth = rng.random(2000) < proba
    >>> rows = rng.choice(2000, 200, replace=False)
    >>> estimates = estimate_shares(proba, truth[rows].astype(int), rows, classes=[0, 1])
    >>> frame = estimates.to_frame().set_index("class")
    >>> frame.loc[1, ["share", "low", "high", "by_hand", "worth"]].astype(float).round(3).tolist()
    [0.286, 0.242, 0.334, 0.29, 350.191]
    >>> float(truth.mean().round(3))
    0.34
    """
    check_confidence_level(confidence_level)
    check_whole_number("n_folds", n_folds, 2)
    for name, value in (("simultaneous", simultaneous), ("recalibrate", recalibrate)):
        check_truth(name, value)
    if tuning is not None and not (is_finite_number(tuning) and 0.0 <= tuning <= 1.0):
        raise InputError(
            f"tuning={tuning!r}; expected a number from 0 (the labels alone) to 1, or None for the best one"
        )
    sample = LabelledSample.checked(
        proba, y, rows, classes=classes, inclusion=inclusion, strata=strata, clusters=clusters, weights=weights
    )
    names: list[Any] = []
    numbers = np.zeros(sample.n_rows, dtype=np.int64)
    if groups is not None:
        names, numbers = sorted_groups(groups, sample.n_rows)
        warn_of_small_groups(names, numbers[sample.rows[sample.counted]])
    is_recalibrated = recalibrate and bool(((sample.proba > 0.0) & (sample.proba < 1.0)).any())
    if is_recalibrated:
        recalibration = Recalibration.fitted(sample, n_folds)
        labelled, table = recalibration.labelled(sample), recalibration.table(sample)
    else:
        labelled, table = sample.labelled_proba, sample.proba
    predicted = sample.proba.argmax(axis=1)
    everybody = _part(sample, labelled, sample.target_mean(table), predicted, None, tuning)
    by_group = {}
    if names:
        means = _group_means(table, numbers, sample.weights, len(names))
        by_group = {
            name: _part(sample, labelled, means[g], predicted, numbers == g, tuning) for g, name in enumerate(names)
        }
    return ShareEstimates(
        classes=sample.classes,
        overall=everybody,
        groups=by_group,
        confidence_level=confidence_level,
        simultaneous=simultaneous,
        is_recalibrated=is_recalibrated,
    )


def _part(
    sample: LabelledSample,
    labelled: Floats,
    mean: Floats,
    predicted: Integers,
    inside: Any,
    tuning: float | None,
) -> PartEstimate:
    """The estimates for all rows, or for those `inside` (N,) a group, from recalibrated probabilities and their mean (K,)."""
    v = sample.weights if inside is None else sample.weights * inside
    total = v.sum()
    domain = None if inside is None else inside[sample.rows]
    d = sample.design_weights if domain is None else sample.design_weights * domain
    k = sample.n_classes
    naive = np.bincount(predicted, v, minlength=k) / total if total else np.full(k, np.nan)
    raw = v @ sample.proba / total if total else np.full(k, np.nan)
    n_labelled = int((d > 0).sum())
    if not n_labelled:
        return PartEstimate.without_labels(naive, raw)
    d = d / d.max()  # the squares of a group's small weights would be 0
    by_hand = sample.mean(sample.one_hot, domain)
    of_labels, of_model = (
        sample.contributions(values, domain, finite_population=False) for values in (sample.one_hot, labelled)
    )
    m = len(np.unique(sample.units[d > 0]))
    parts = np.bincount(sample.units, d) / d.sum()  # of the units
    if m < 2:
        of_labels = of_model = np.zeros((sample.n_units, k))
    elif sample.clusters is not None:
        # The jackknife's weights: leaving out a large cluster changes more than its part says.
        jackknife = np.where(parts > 0, (1.0 - 1.0 / m) / (1.0 - np.minimum(parts, 0.5)), 1.0)[:, None]
        of_labels, of_model = jackknife * of_labels, jackknife * of_model
    # Variances as of draws with replacement, and with the units of simple counting: m / (m - 1) belongs to them alone.
    n_counted = m if sample.strata is None else sample.n_units
    counting = (n_counted - 1) / n_counted
    variance_by_hand, spread, together = (
        counting * np.einsum("uk,uk->k", one, other)
        for one, other in ((of_labels, of_labels), (of_model, of_model), (of_labels, of_model))
    )
    unseen, unseen_by_hand, bad_clusters = _unseen(sample, d / d.sum(), parts, m)
    # The slope of one on the other has the least variance; clusters in which the model is wrong call for a smaller one.
    spread = spread + bad_clusters
    best = np.clip(np.divide(together, spread, out=np.zeros(k), where=spread > 1e-18), 0.0, 1.0)
    power = best if tuning is None else np.full(k, float(tuning))
    share = by_hand + power * (mean - sample.mean(labelled, domain))
    residuals = of_labels - power * of_model
    fitted = (m - 1) / (m - 2) if tuning is None and m > 2 else 1.0
    variance = counting * fitted * np.einsum("uk,uk->k", residuals, residuals) + power**2 * bad_clusters
    if tuning is None:
        variance = np.minimum(variance, variance_by_hand)
    share = _summing_to_one(share, variance)

    worth_by_hand = (by_hand * (1.0 - by_hand) + _UNSEEN_BY_HAND * unseen_by_hand) / (
        variance_by_hand + _UNSEEN_BY_HAND * unseen_by_hand**2
    )
    remaining = (variance + unseen) / (variance_by_hand + unseen)
    finite = np.einsum(
        "uk,uk->k",
        *(2 * [sample.contributions(sample.one_hot - power * labelled, domain)]),
    )
    left = float((d**2 * (1.0 - sample.inclusion)).sum() / (d**2).sum())
    rest = (np.nan_to_num(finite * counting) + unseen * left) / (
        counting * np.einsum("uk,uk->k", residuals, residuals) + unseen
    )
    known = (sample.weights[sample.rows] * (d > 0)) @ sample.one_hot / total
    degrees = float(sample.degrees_of_freedom(domain))
    if sample.clusters is not None:  # those of unlike sizes count as fewer (Kish 1965)
        degrees = max(min(degrees, 2.0), degrees / (m * float(parts @ parts)))
    return PartEstimate(
        share=_beyond_known(share, known) if tuning is None else share,
        by_hand=by_hand,
        naive=naive,
        mean_probability=raw,
        power=power,
        size_by_hand=worth_by_hand,
        remaining=remaining,
        rest=np.sqrt(np.where(rest > _LEAST_REST, 1.0, np.maximum(rest, 0.0))),
        known=known,
        n_labelled=n_labelled,
        cases=sample.one_hot[d > 0].sum(axis=0).astype(np.int64),
        degrees_of_freedom=degrees,
        contributions=residuals,
        population=_population(sample, inside),
    )


def _unseen(sample: LabelledSample, rows: Floats, units: Floats, m: int) -> tuple[Floats, Floats, Floats]:
    r"""What cases that were not seen add (K,): to the variance of the estimate, their weight, and bad clusters to that variance.

    A unit that a row of the table meets has the relative weight T on average, and one of the m labelled ones 1 / m. Without
    clusters, a case has the weight T. With clusters, the rows of one are hardly ever all of one class: a case weighs as much as
    the labels show rows of a cluster to be alike, by the design effect, the variance of their mean over that of independent
    rows (Kish 1965, "Survey sampling").

    The errors of a model may be alike where labels are not: it may miss all cases of an author whose language it does not know.
    In a bad cluster, it is wrong about the part of a cluster that is of the class, or that is not (their geometric mean).
    Half a cluster more that is all of one class stands for what few cases do not show.

    Parameters
    ----------
    sample : LabelledSample
    rows : ndarray (n,)
        The relative weights of the labelled rows.
    units : ndarray (number of units,)
        Their sums.
    m : int
        How many units count.
    """
    typical, k = float(units @ units), sample.n_classes
    if sample.clusters is None or m < 2:
        weight = np.full(k, typical)
        return _UNSEEN_BY_MODEL * weight / m, weight, np.zeros(k)
    row, doubt = float(rows @ rows), _UNSEEN_BY_HAND * typical

    def summed(values: Floats) -> Floats:
        sums = np.zeros((sample.n_units, k))
        np.add.at(sums, sample.units, values)
        return sums

    apart = rows[:, None] * (sample.one_hot - rows @ sample.one_hot)
    together = m / (m - 1) * (summed(apart) ** 2).sum(axis=0)
    effect = (together + doubt * typical) / ((apart**2).sum(axis=0) + doubt * row)
    weight = np.clip(row * effect, row, typical)
    of_class = summed(rows[:, None] * sample.one_hot)
    likeness = np.ones(k)
    for part in (of_class, units[:, None] - of_class):
        likeness *= ((part**2).sum(axis=0) + doubt * typical) / (units @ part + doubt * typical)
    unseen = _UNSEEN_BY_MODEL * weight**2 / (typical * m)
    return unseen, weight, np.maximum(_BAD_CLUSTERS * typical * likeness / m - unseen, 0.0)


def _population(sample: LabelledSample, inside: Any) -> int | None:
    """How many rows there are, where some of them were simply drawn and count alike; None in any other design."""
    if sample.strata is not None or sample.clusters is not None:
        return None
    is_simple = np.ptp(sample.weights) == 0.0 and np.ptp(sample.inclusion) == 0.0
    return None if not is_simple else sample.n_rows if inside is None else int(np.count_nonzero(inside))


def _summing_to_one(shares: Floats, variances: Floats) -> Floats:
    """Shares moved to a sum of 1 where they are least certain: the generalised least squares of independent ones."""
    excess, total = shares.sum() - 1.0, variances.sum()
    if not total > 0.0 or abs(excess) < 1e-15:
        return shares
    result: Floats = shares - excess * variances / total
    return result


def _beyond_known(shares: Floats, known: Floats) -> Floats:
    """Shares of at least the part of the table that is labelled so, with a sum of 1."""
    spare = np.maximum(shares - known, 0.0)
    if not spare.sum() > 0.0:
        return shares
    result: Floats = known + spare * (1.0 - known.sum()) / spare.sum()
    return result


def _group_means(table: Floats, numbers: Integers, weights: Floats, n_groups: int) -> Floats:
    """The weighted means (G, K) of a table (N, K) in each group; NaN where all weights are 0."""
    totals = np.bincount(numbers, weights, minlength=n_groups)
    sums = [np.bincount(numbers, weights * column, minlength=n_groups) for column in table.T]
    with np.errstate(invalid="ignore"):
        result: Floats = np.column_stack(sums) / totals[:, None]
    return result
