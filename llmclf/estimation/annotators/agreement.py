"""How far annotators agree, with intervals, and what their disagreement leaves for a classifier to reach."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...arrays import Floats, Integers
from ...checks import is_finite_number, random_generator
from ...errors import EstimationWarning, InputError, warn
from ...metrics import check_confidence_level, check_n_resamples, mean_interval, proportion_interval
from ...numerics.groups import effective_number, group_numbers
from .coincidences import Coincidences
from .judgements import Judgements, read_judgements

SCALES = ("nominal", "ordinal", "interval")
_FIELDS = ("value", "low", "high", "n_rows")
_TABLES = ("statistics", "pairs", "annotators")
_BLOCK = 4_000_000  # weights drawn at a time


class Statistic(NamedTuple):
    """A value with its interval, NaN where it is unknown, and the number of rows that it comes from."""

    value: float
    low: float
    high: float
    n_rows: int


@dataclass(frozen=True, eq=False)
class AnnotatorAgreement:
    """What `annotator_agreement` finds.

    Attributes
    ----------
    annotators, classes : tuple
    n_rows : int
        Rows with at least one judgement.
    n_shared : int
        Rows with two judgements or more; only these say anything about agreement.
    scale : str
    confidence_level : float
    statistics : dict of name to Statistic
        ``agreement``, ``fleiss_kappa``, ``alpha_nominal``, for two annotators ``cohen_kappa``, for other scales ``alpha_ordinal``
        or ``alpha_interval``, and ``annotator_accuracy`` and ``accuracy_ceiling``.
    pairs : dict of (annotator, annotator) to (Statistic, Statistic)
        Agreement and Cohen's kappa of two annotators who judged some of the same rows.
    against_others : dict of annotator to Statistic
        How often the annotator gives the label that most of the others give.
    """

    annotators: tuple[Any, ...]
    classes: tuple[Any, ...]
    n_rows: int
    n_shared: int
    scale: str
    confidence_level: float
    statistics: dict[str, Statistic]
    pairs: dict[tuple[Any, Any], tuple[Statistic, Statistic]]
    against_others: dict[Any, Statistic]

    def to_frame(self, table: str = "statistics") -> Any:
        """A pandas DataFrame.

        Parameters
        ----------
        table : {"statistics", "pairs", "annotators"}
            The statistics of all annotators together; agreement and Cohen's kappa of every pair; or each annotator against the
            majority of the others.

        Raises
        ------
        InputError
            There is no such table.
        """
        import pandas as pd

        if table not in _TABLES:
            raise InputError(f"table={table!r}; expected one of {', '.join(map(repr, _TABLES))}")
        if table == "statistics":
            return pd.DataFrame.from_dict(
                {name: dict(zip(_FIELDS, found, strict=True)) for name, found in self.statistics.items()},
                orient="index",
            ).rename_axis("statistic")
        if table == "annotators":
            lines = [
                {"annotator": who, **dict(zip(_FIELDS, found, strict=True))}
                for who, found in self.against_others.items()
            ]
            return pd.DataFrame(lines, columns=["annotator", *_FIELDS])
        ends = [f"{name}{end}" for name in ("agreement", "cohen_kappa") for end in ("", "_low", "_high")]
        return pd.DataFrame(
            [(*pair, *found[:3], *kappa[:3], found.n_rows) for pair, (found, kappa) in self.pairs.items()],
            columns=["annotator", "other", *ends, "n_rows"],
        )

    def __str__(self) -> str:
        heading = f"{len(self.annotators)} annotators, {self.n_shared} rows with two judgements or more"
        lines = [f"  {name:<20}{_shown(found)}" for name, found in self.statistics.items()]
        return "\n".join([f"{heading} ({self.confidence_level:.4g} intervals)", *lines])


def annotator_agreement(
    labels: Any,
    *,
    rows: ArrayLike | None = None,
    annotators: ArrayLike | None = None,
    classes: ArrayLike | None = None,
    scale: str = "nominal",
    groups: ArrayLike | None = None,
    confidence_level: float = 0.95,
    n_resamples: int = 1000,
    random_state: Any = None,
) -> AnnotatorAgreement:
    r"""Agreement of two or more annotators, and the accuracy that a classifier can reach against one of them.

    ``agreement`` is the probability that two annotators of a row give it the same label, and ``fleiss_kappa`` (Fleiss 1971) and
    Krippendorff's ``alpha`` (Krippendorff 2011, "Computing Krippendorff's alpha-reliability") say how much more that is than if
    labels were drawn at random with their frequencies. All three take any number of judgements per row; rows with one are left
    out. ``cohen_kappa`` (Cohen 1960) is that of two annotators.

    ``annotator_accuracy`` is how often an annotator gives the label that most of the others give (one at random of those that
    share the first place): the accuracy of a classifier that always gives this label, so an accuracy that can be reached.
    ``accuracy_ceiling`` is an accuracy against one annotator that no classifier can exceed, however good it is. If a row gets
    class k with probability :math:`q_k`, the best answer is right with probability :math:`\max_k q_k`, and two annotators agree
    with probability :math:`\sum_k q_k^2`. With an agreement of A over all rows, the former is on average at most
    :math:`(1 + \sqrt{(K - 1)(K A - 1)}) / K`. This takes the annotators of a row to judge independently, each as any other would.

    The intervals weight the rows at random, together with one more row, which is as bad as can be for the lower end and as good
    as can be for the upper, as `llmclf.metrics.mean_interval` does with bounds. So thirty rows without a disagreement do not
    prove that there is none. experiments/annotator_agreement.md has their simulated coverage.

    Parameters
    ----------
    labels, rows, annotators
        As in `combine_labels`.
    classes : array-like (K,), optional
        None: those that were given, sorted. For the ordinal scale, from the lowest to the highest.
    scale : {"nominal", "ordinal", "interval"}
        Whether some disagreements are larger than others: not, by the ranks of the classes, or by the squared difference of
        classes that are numbers.
    groups : array-like (number of rows,), optional
        What each row belongs to, such as its author: one entry per row of a table, or per judgement in the long form. Groups are
        then weighted at random in place of rows.
    confidence_level : float in (0, 1)
    n_resamples : int
    random_state : None, int or numpy Generator

    Returns
    -------
    AnnotatorAgreement
        Its `to_frame` has one line per statistic.

    Raises
    ------
    InputError
        An argument cannot be used, or no row has two judgements.

    Warns
    -----
    EstimationWarning
        All judgements are the same, so that kappa and alpha, which compare with chance, are undefined.

    Examples
    --------
    >>> import pandas as pd
    >>> labels = pd.DataFrame({"ann": ["a", "b", "b", "a"] * 20, "bob": ["a", "b", "b", "b"] * 20})
    >>> found = annotator_agreement(labels, random_state=0)
    >>> found.to_frame().loc[["agreement", "cohen_kappa", "accuracy_ceiling"], "value"].round(3).tolist()
    [0.75, 0.5, 0.854]
    """
    check_confidence_level(confidence_level)
    check_n_resamples(n_resamples)
    if scale not in SCALES:
        raise InputError(f"scale={scale!r}; expected one of {', '.join(map(repr, SCALES))}")
    judgements = read_judgements(labels, rows=rows, annotators=annotators, classes=classes)
    values = _values(judgements.classes, scale, classes is not None)
    counts = judgements.counts()
    totals = counts.sum(axis=1)
    shared = totals >= 2
    if not shared.any():
        raise InputError(
            f"none of the {len(counts)} rows has two judgements; agreement needs rows that two annotators have judged"
        )
    members = _row_groups(groups, judgements, rows)
    tail = (1.0 - confidence_level) / 2.0
    resampling = _Resampling(n_resamples, random_generator(random_state), tail)
    table = Coincidences.of(counts[shared], values)
    if table.is_constant:
        label = judgements.classes[int(counts[shared].sum(axis=0).argmax())]
        warn(
            f"all judgements of the {int(shared.sum())} rows are {label!r}; "
            "kappa and alpha compare with chance, so they are undefined",
            EstimationWarning,
        )
    found = resampling.statistics(table, None if members is None else members[shared])
    pairs = _pairs(judgements, members, resampling)
    if len(judgements.annotators) == 2:
        found = {"agreement": found.pop("agreement"), "cohen_kappa": next(iter(pairs.values()))[1], **found}
    hits, judged = _against_others(judgements, counts)
    against = {}
    for place, who in enumerate(judgements.annotators):
        rows_of = judged[:, place]
        number = int(rows_of.sum())
        worth = effective_number(None if members is None else members[rows_of], number) / max(1, number)
        right = hits[rows_of, place].sum()
        low, high = proportion_interval(right * worth, number * worth, confidence_level=confidence_level)
        against[who] = Statistic(right / number if number else math.nan, float(low), float(high), number)
    mean = mean_interval(
        (hits.sum(axis=1) / np.maximum(1, judged.sum(axis=1)))[shared],
        bounds=(0.0, 1.0),
        confidence_level=confidence_level,
        n_resamples=n_resamples,
        random_state=resampling.generator,
        groups=None if members is None else members[shared],
    )
    found["annotator_accuracy"] = Statistic(mean.mean, mean.low, mean.high, int(shared.sum()))
    agreement = found["agreement"]
    n_classes = max(2, len(judgements.classes))
    ceiling = [accuracy_ceiling(end, n_classes) for end in agreement[:3]]
    found["accuracy_ceiling"] = Statistic(ceiling[0], ceiling[1], ceiling[2], agreement.n_rows)
    return AnnotatorAgreement(
        judgements.annotators,
        judgements.classes,
        int((totals > 0).sum()),
        int(shared.sum()),
        scale,
        float(confidence_level),
        found,
        pairs,
        against,
    )


def accuracy_ceiling(agreement: float, n_classes: int) -> float:
    r"""The accuracy against one annotator that no classifier exceeds, from the agreement of two.

    For the probabilities q of one row, :math:`\max q` is largest for a given :math:`S = \sum q^2` where all other classes are
    equally probable; that maximum is concave in S, so by Jensen's inequality the mean of S over the rows bounds the mean of it.

    Examples
    --------
    >>> accuracy_ceiling(0.82, 2), accuracy_ceiling(1.0, 5), accuracy_ceiling(0.2, 5)
    (0.9, 1.0, 0.2)
    """
    excess = max(0.0, (n_classes - 1) * (n_classes * agreement - 1.0))
    return min(1.0, round((1.0 + math.sqrt(excess)) / n_classes, 12))


@dataclass(frozen=True)
class _Resampling:
    """Intervals from random weights of the rows and one more row; see `annotator_agreement`."""

    n_resamples: int
    generator: np.random.Generator
    tail: float

    def statistics(self, table: Coincidences, members: Integers | None) -> dict[str, Statistic]:
        """Every statistic of a table of coincidences (see `Coincidences.statistics`), of rows in these groups."""
        size, n_rows = float(len(table.cell_of)), len(table.cell_of)
        mass = np.bincount(table.cell_of, minlength=table.n_cells).astype(np.float64)
        observed = table.statistics(mass[None, :] / size, size)
        lower: dict[str, list[Floats]] = {name: [] for name in observed}
        upper: dict[str, list[Floats]] = {name: [] for name in observed}
        for weights, unseen in self._weights(table, mass, members):
            for draws, unseen_weights in ((lower, table.worst), (upper, table.best)):
                drawn = table.statistics(weights * (1.0 - unseen) + unseen * unseen_weights, size)
                for name, values in drawn.items():
                    draws[name].append(values)
        found = {}
        for name, (value,) in observed.items():
            low = float(np.quantile(np.concatenate(lower[name]), self.tail))
            high = float(np.quantile(np.concatenate(upper[name]), 1.0 - self.tail))
            known = math.isfinite(value)
            found[name] = Statistic(
                float(value), min(value, low) if known else math.nan, max(value, high) if known else math.nan, n_rows
            )
        return found

    def _weights(self, table: Coincidences, mass: Floats, members: Integers | None) -> Iterator[tuple[Floats, Floats]]:
        """Weights of the cells (b, cells), which sum to 1, and of the row that was not seen (b, 1), some at a time."""
        of_group = None
        total = mass.sum()
        if members is not None:
            numbers = group_numbers(members, len(members))
            of_group = np.zeros((int(numbers.max()) + 1, table.n_cells))
            np.add.at(of_group, (numbers, table.cell_of), 1.0)
            total = effective_number(numbers, len(numbers))
        ranks = (self.generator.permutation(self.n_resamples) + 0.5) / self.n_resamples
        unseen = -np.expm1(np.log1p(-ranks) / total)[:, None]
        width = table.n_cells if of_group is None else len(of_group)
        step = max(1, _BLOCK // width)
        for start in range(0, self.n_resamples, step):
            some = unseen[start : start + step]
            if of_group is None:
                drawn = np.zeros((len(some), table.n_cells))
                drawn[:, mass > 0] = self.generator.standard_gamma(
                    mass[mass > 0], size=(len(some), int((mass > 0).sum()))
                )
            else:
                drawn = self.generator.standard_gamma(1.0, size=(len(some), width)) @ of_group
            yield drawn / drawn.sum(axis=1, keepdims=True), some


def _values(classes: tuple[Any, ...], scale: str, in_order: bool) -> Floats | None:
    """The number that stands for each class; None for the nominal scale, NaN for ranks that depend on the frequencies."""
    if scale == "nominal":
        return None
    are_numbers = all(is_finite_number(label) for label in classes)
    if scale == "interval":
        if not are_numbers:
            raise InputError(f"scale='interval' needs labels that are numbers; got the classes {list(classes)}")
        return np.array(classes, dtype=np.float64)
    if not are_numbers and not in_order:
        raise InputError(
            f"scale='ordinal' needs the order of the classes {list(classes)}; give classes= from the lowest to the highest"
        )
    return np.full(len(classes), np.nan)


def _row_groups(groups: Any, judgements: Judgements, rows: Any) -> Integers | None:
    if groups is None:
        return None
    if rows is None:
        return group_numbers(groups, len(judgements.rows))
    row_of = group_numbers(rows, len(rows), "rows")
    numbers = group_numbers(groups, len(row_of))
    first = np.unique(row_of, return_index=True)[1]
    split = np.flatnonzero(numbers != numbers[first][row_of])
    if split.size:
        raise InputError(f"row {judgements.rows[row_of[split[0]]]!r} belongs to two groups; expected one per row")
    return group_numbers(numbers[first], len(first))


def _pairs(
    judgements: Judgements, members: Integers | None, resampling: _Resampling
) -> dict[tuple[Any, Any], tuple[Statistic, Statistic]]:
    pairs = {}
    for a, b in combinations(range(len(judgements.annotators)), 2):
        both = (judgements.codes[:, a] >= 0) & (judgements.codes[:, b] >= 0)
        if not both.any():
            continue
        table = Coincidences.of_two(judgements.codes[both, a], judgements.codes[both, b], len(judgements.classes))
        found = resampling.statistics(table, None if members is None else members[both])
        pairs[judgements.annotators[a], judgements.annotators[b]] = (found["agreement"], found["cohen_kappa"])
    return pairs


def _against_others(judgements: Judgements, counts: Integers) -> tuple[Floats, NDArray[np.bool_]]:
    """The probability that each annotator says what most of the others say (n, A), and where others judged.

    Where several classes share the first place among the others, one of them at random stands for what most say.
    """
    hits = np.zeros(judgements.codes.shape)
    judged = np.zeros(judgements.codes.shape, dtype=bool)
    for place, codes in enumerate(judgements.codes.T):
        rows = np.flatnonzero((codes >= 0) & (counts.sum(axis=1) >= 2))
        others = counts[rows].copy()
        others[np.arange(len(rows)), codes[rows]] -= 1
        leads = others == others.max(axis=1, keepdims=True)
        judged[rows, place] = True
        hits[rows, place] = leads[np.arange(len(rows)), codes[rows]] / leads.sum(axis=1)
    return hits, judged


def _shown(found: Statistic) -> str:
    if math.isnan(found.value):
        return "undefined"
    return f"{found.value:.3f} ({found.low:.3f} to {found.high:.3f}), {found.n_rows} rows"
