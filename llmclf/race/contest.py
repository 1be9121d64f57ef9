"""The contest: every contestant learns from the same labelled rows and is judged on the same others."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..arrays import Floats, Integers
from ..calibration import Corrections
from ..calibration.base import ENOUGH_ROWS
from ..errors import CalibrationWarning, InputError, LlmclfWarning, warn
from ..logits import floor_missing
from ..metrics.means import MeanInterval, mean_interval
from ..numerics.folds import fold_weights
from ..numerics.row_features import RowFeatures
from ..progress import track
from .contestants import Contestants

_SERIES = (20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000)
_LARGEST_SHARE = 0.75  # a size nearer to all rows would say the same as these
_LEAST_GROUPS = 10  # fewer give neither folds nor intervals
_ROUNDING = 1e-9
_MOST_LOSS = 36.0  # nats: what a calibrator of the caller calls impossible costs this much, not infinitely much
_DRAWS = {20: 4, 50: 3, 100: 2}  # more for small sizes, where one draw says little and costs little


@dataclass(frozen=True, eq=False)
class LabelledRows:
    """What a contest is held on, n rows.

    Attributes
    ----------
    scores : ndarray (n, K)
        Log-scores before any correction.
    columns : ndarray of int (n,)
        The true classes.
    groups : ndarray of int (n,)
        Rows of one group are never parted.
    features : mapping of name to RowFeatures
        All feature sets that contestants learn from.
    pooled : tuple of str
        Those of them that the pool learns from.
    content_free : ndarray (m, K), optional
        Scores of the rows that a bias is fitted on instead of these.
    """

    scores: Floats
    columns: Integers
    groups: Integers
    features: Mapping[str, RowFeatures]
    pooled: tuple[str, ...]
    content_free: Floats | None = None

    def __len__(self) -> int:
        return len(self.columns)

    def take(self, rows: Integers) -> LabelledRows:
        """Some of the rows."""
        features = {name: values.take(rows) for name, values in self.features.items()}
        return LabelledRows(
            self.scores[rows], self.columns[rows], self.groups[rows], features, self.pooled, self.content_free
        )


@dataclass(frozen=True, eq=False)
class Judged:
    """What one contestant showed with one number of labels, in the mean of its draws.

    Attributes
    ----------
    losses : ndarray (n,)
        The log loss of each row, in nats.
    right : ndarray (n,)
        How often its true class was the most probable one, 0 to 1.
    """

    losses: Floats
    right: Floats


@dataclass(eq=False)
class Contest:
    """The results.

    Attributes
    ----------
    rows : LabelledRows
    sizes : list of int
        Numbers of labels that were learned from, the last one that of all rows outside of a fold.
    draws : list of int
        How many random subsets of each size.
    judged : list of dict of name to Judged
        For each size, each contestant.
    seconds : dict of name to float
        What each contestant took for a row, without the scores and without reading the features.
    """

    rows: LabelledRows
    sizes: list[int]
    draws: list[int]
    judged: list[dict[str, Judged]] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def groups(self) -> Integers | None:
        """The groups of the rows (n,); None where each row is one of its own."""
        groups = self.rows.groups
        return groups if np.unique(groups).size < groups.size else None

    @property
    def names(self) -> list[str]:
        """The contestants."""
        return list(self.judged[-1])

    def log_loss(self, name: str) -> float:
        """The mean log loss with all labels."""
        return float(self.judged[-1][name].losses.mean())

    def difference(
        self, before: str, after: str, *, first: int = -1, confidence_level: float, n_resamples: int = 1000
    ) -> MeanInterval:
        """How much larger the log loss of one contestant is than that of another on the same rows, with an interval.

        It is the studentised bootstrap of the rows' differences (see `llmclf.metrics.mean_interval`), of groups where there are
        any: it speaks of rows like these, and cannot know of rarer ones that would cost more.

        Parameters
        ----------
        before, after : str
            The difference is that of `after` minus that of `before`.
        first : int
            The place of the size that `before` learned from.
        confidence_level : float
        n_resamples : int
        """
        values = self.judged[-1][after].losses - self.judged[first][before].losses
        if not np.abs(values).max() > _ROUNDING:
            return MeanInterval(0.0, 0.0, 0.0)
        return mean_interval(
            values, confidence_level=confidence_level, n_resamples=n_resamples, random_state=0, groups=self.groups
        )


def hold_contest(
    rows: LabelledRows,
    corrections: Corrections,
    *,
    sizes: Sequence[int] | None = None,
    n_draws: int | None = None,
    random_state: int = 0,
) -> Contest:
    """Judge each row by contestants that learned from others, with all labels of these and with random subsets.

    Five folds never part a group. Of the rows outside of a fold, the subsets are the first ones of a random order, so that each
    holds the smaller ones; a draw is one such order.

    Parameters
    ----------
    rows : LabelledRows
    corrections : Corrections
        Not fitted: the bias and the pool.
    sizes : sequence of int, optional
        None: those of 20, 50, 100, 200, 500, ... that are at most three quarters of all. Sizes for which some fold leaves too few
        rows are left out, with a CalibrationWarning.
    n_draws : int, optional
        Of each size; None: four of 20 labels, three of 50, two of 100, and one of more.
    random_state : int
    """
    ones = np.ones(len(rows))
    scores = floor_missing(rows.scores)[0]
    folds = fold_weights(scores, rows.columns, ones, groups=rows.groups).argmax(axis=1)
    outside = {int(fold): np.flatnonzero(folds != fold) for fold in np.unique(folds)}
    least = min(map(len, outside.values()))
    everything = round(float(np.mean([len(places) for places in outside.values()])))
    chosen = default_sizes(least) if sizes is None else sorted({size for size in sizes if size < least})
    dropped = sorted(set(sizes or ()) - set(chosen))
    if dropped:
        warn(
            f"sizes={list(sizes or ())!r}: no race with {', '.join(map(str, dropped))} labels, since some rows are judged by "
            f"what was learned from only {least} others; groups of different sizes, and rows without scores, leave fewer",
            CalibrationWarning,
        )
    draws = [_DRAWS.get(size, 1) if n_draws is None else n_draws for size in chosen]
    contest = Contest(rows, [*chosen, everything], [*draws, 1])
    n_most = max(contest.draws)
    generator = np.random.default_rng(random_state)
    orders = [generator.permutation(len(rows)) for _ in range(n_most)]
    contestants = Contestants(corrections, rows.pooled, rows.scores.shape[1])
    total = len(outside) * sum(contest.draws)
    tasks = (
        (place, draw, fold) for place, number in enumerate(contest.draws) for draw in range(number) for fold in outside
    )
    contest.judged = [{} for _ in contest.sizes]
    with track(tasks, total, "racing") as tracked:
        for place, draw, fold in tracked:
            is_all = place == len(contest.sizes) - 1
            order = orders[draw][np.isin(orders[draw], outside[fold])]
            learned = np.sort(order if is_all else order[: contest.sizes[place]])
            inside = np.flatnonzero(folds == fold)
            with warnings.catch_warnings():
                # That a subset has few rows, or not every class, is what the contest is about.
                warnings.simplefilter("ignore", LlmclfWarning)
                fitted = contestants.fit(rows.take(learned))
            test = rows.take(inside)
            for name, apply in fitted.items():
                began = time.perf_counter()
                logs = apply(test.scores, test.features)
                if is_all:
                    spent = (time.perf_counter() - began) / len(rows)
                    contest.seconds[name] = contest.seconds.get(name, 0.0) + spent
                _note(contest.judged[place], name, rows, inside, logs, contest.draws[place])
    return contest


def default_sizes(least: int) -> list[int]:
    """The numbers of labels to learn from, of at least `least` rows.

    Examples
    --------
    >>> default_sizes(240), default_sizes(60)
    ([20, 50, 100], [20])
    """
    return [size for size in _SERIES if size <= _LARGEST_SHARE * least]


def check_rows(columns: Integers, groups: Integers, classes: Sequence[object], sizes: Sequence[int] | None) -> None:
    """Refuse rows that no contest can be held on, before the model is asked about them.

    Raises
    ------
    InputError
    """
    n_rows = len(columns)
    if n_rows < ENOUGH_ROWS:
        raise InputError(
            f"there are {n_rows} labelled rows to race on (shots, and rows that cannot be asked about, do not count); expected "
            f"at least {ENOUGH_ROWS}"
        )
    found = np.unique(columns)
    if found.size < 2:
        raise InputError(
            f"all {n_rows} labelled rows have the class {classes[int(found[0])]!r}; a race needs rows of at least two classes"
        )
    n_groups = np.unique(groups).size
    if n_groups < _LEAST_GROUPS:
        raise InputError(
            f"the {n_rows} labelled rows belong to {n_groups} group{'s' if n_groups > 1 else ''} (copies of a text are one, as "
            f"are rows of one group of groups=); expected at least {_LEAST_GROUPS}, since rows of a group are never judged by "
            "what was learned from each other"
        )
    most = n_rows - -(-n_rows // 5)
    large = [size for size in sizes or () if size >= most]
    if large:
        raise InputError(
            f"sizes={list(sizes or ())!r}: {large[0]} labels cannot be drawn from {most}, the rows outside of a fold of the "
            f"{n_rows}; give smaller sizes (all labels are always raced), or label more rows"
        )


def _note(sums: dict[str, Judged], name: str, rows: LabelledRows, inside: Integers, logs: Floats, n_draws: int) -> None:
    if name not in sums:
        sums[name] = Judged(np.zeros(len(rows)), np.zeros(len(rows)))
    own = sums[name]
    columns = rows.columns[inside]
    own.losses[inside] += np.minimum(-logs[np.arange(len(columns)), columns], _MOST_LOSS) / n_draws
    own.right[inside] += (logs.argmax(axis=1) == columns) / n_draws
