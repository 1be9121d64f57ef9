"""plan_labels: how many rows to label for an interval of a share, for a threshold, or for a calibration error."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ...arrays import Integers
from ...checks import check_open_share, check_whole_number, is_number, random_generator
from ...errors import InputError
from ...metrics.checks import class_column
from .by_hand import plan_by_hand
from .goals import CalibrationGoal, Goal, ShareGoal, ThresholdGoal
from .pilot import Pilot, read_pilot
from .search import Search, sizes_between
from .worlds import World

_PROBED = 4  # worlds that say where to begin


class PlannedSize(NamedTuple):
    """What a number of labels gives: the median and the 10th and 90th percentile of the simulations, and the chance."""

    n_labels: int
    achieved: float
    low: float
    high: float
    chance: float


@dataclass(frozen=True, eq=False)
class LabelPlan:
    """How many labels a wish needs.

    Attributes
    ----------
    goal : str
        The wish, as part of a sentence.
    n_labels : int
        The number of labelled rows in all, those of the pilot included. It allows for what the pilot leaves open.
    low, high : float
        The interval of the number that would be named if nothing were left open. `high` is infinite if it may be that no number
        is enough.
    n_pilot : int
        The labelled rows that there are.
    chance : float
        The probability that the wish is fulfilled by `n_labels`, if some number fulfils it.
    possible : float
        The probability that some number of labels fulfils the wish, as far as the pilot tells.
    measure : str
        What is achieved: ``"half_width"`` or ``"coverage"``.
    sizes : tuple of PlannedSize
    """

    goal: str
    n_labels: int
    low: float
    high: float
    n_pilot: int
    chance: float
    possible: float
    measure: str
    sizes: tuple[PlannedSize, ...]

    @property
    def n_more(self) -> int:
        """How many rows are still to be labelled, if the pilot was drawn as the others will be."""
        return max(0, self.n_labels - self.n_pilot)

    def to_frame(self) -> Any:
        """A pandas DataFrame with one line per number of labels.

        Returns
        -------
        DataFrame
            ``n_labels``, what is achieved (the median, named like `measure`, and ``low`` and ``high``, between which four fifths
            of the simulations lie), and the ``chance`` that the wish is fulfilled.
        """
        import pandas as pd

        return pd.DataFrame(self.sizes, columns=["n_labels", self.measure, "low", "high", "chance"])

    def __str__(self) -> str:
        if not self.n_pilot:
            return f"About {self.n_labels:,} labels by hand alone give {self.goal} with a probability of {self.chance:.4g}."
        supposed = "" if self.possible == 1.0 else f", supposing that enough labels do ({self.possible:.0%} probable)"
        high = "no number may be enough" if math.isinf(self.high) else f"{self.high:,.0f}"
        return (
            f"About {self.n_labels:,} labels give {self.goal} with a probability of {self.chance:.4g}{supposed}. With a larger "
            f"pilot, the number may turn out between {self.low:,.0f} and {high}. {self.n_pilot:,} are there, so "
            f"{self.n_more:,} more."
        )


def plan_labels(
    *,
    half_width: float | None = None,
    max_error: float | None = None,
    ece_half_width: float | None = None,
    min_coverage: float | None = None,
    pilot: Any = None,
    classes: ArrayLike | None = None,
    label: Any = None,
    share: float | None = None,
    n_rows: int | None = None,
    confidence_level: float = 0.95,
    chance: float = 0.8,
    n_bins: int = 15,
    n_worlds: int = 40,
    max_labels: int = 20_000,
    random_state: Any = None,
) -> LabelPlan:
    """How many labels are needed for an interval of a share, for a threshold with a guarantee, or for a calibration error.

    The number is found by simulation from a few labelled rows, the pilot: samples of several sizes are drawn from worlds from
    which it may have come, and given to `estimate_shares`, `llmclf.calibration.select_threshold` or
    `llmclf.metrics.calibration_interval`. The answer is the size at which the wish is fulfilled with the probability `chance`,
    over the worlds and the samples together (the assurance of O'Hagan, Stevens & Campbell 2005, "Assurance in clinical trial
    design"): a small pilot leaves more open, and asks for more labels. `low` and `high` hold the numbers of the single worlds.

    The worlds are the pilot's rows, of which each stands for a random share (the Bayesian bootstrap, Rubin 1981). For shares, the
    rows are drawn with their labels and probabilities. For thresholds and calibration errors, confidences are drawn between those
    of the pilot, and whether a row is right by a logistic regression on the log-odds of the confidence: drawn again and again,
    the rows themselves would promise that their luck will last. experiments/plan_labels.md shows how often the planned number was
    enough.

    Parameters
    ----------
    half_width : float, optional
        The wish for shares: half of the width of the interval.
    max_error : float in (0, 1), optional
        The wish for a threshold: the share of errors among accepted rows that is guaranteed with `confidence_level`.
    ece_half_width : float, optional
        The wish for the expected calibration error: half of the width of its interval. Exactly one of the three wishes is given.
    min_coverage : float in (0, 1), optional
        With `max_error`: the share of the rows that the threshold must accept. None: any row at all.
    pilot : LabelledSample or (y, proba), optional
        Rows that are labelled already, drawn at random: fifty or more. As a pair, the labels (n,) and the probabilities (n, K) of
        these rows alone, which all had the same chance; a `LabelledSample` holds the inclusion probabilities of others.
    classes : array-like (K,), optional
        The class of each column, of a pilot that is a pair.
    label : class, optional
        With `half_width`: the class whose share is wanted. None: every class, so that the widest interval counts.
    share : float in (0, 1), optional
        Without a pilot, the share to expect. None: one half, which needs the most labels.
    n_rows : int, optional
        How many rows there are in all, where the pilot does not tell. None: so many that their number does not matter.
    confidence_level : float in (0, 1)
        Of the interval or the guarantee, and of `low` and `high`.
    chance : float in (0, 1)
        The probability with which the wish shall be fulfilled, if it can be.
    n_bins : int
        Of the calibration error.
    n_worlds : int
        The number of worlds.
    max_labels : int
        The largest number that is considered.
    random_state : None, int or numpy Generator

    Returns
    -------
    LabelPlan

    Raises
    ------
    InputError
        An argument cannot be used; no number of labels, or none up to `max_labels`, fulfils the wish, with the reason; or there
        is no pilot and the wish is not one for a share.

    Warns
    -----
    EstimationWarning
        The pilot has fewer than fifty rows.

    Examples
    --------
    >>> plan = plan_labels(half_width=0.05, share=0.3)  # by hand alone: nothing is known of the classifier
    >>> plan.n_labels
    353
    >>> rng = np.random.default_rng(0)
    >>> p = rng.beta(4, 1, size=200)  # the confidences of a classifier, which are right as often as they say
    >>> y = rng.random(200) < p
    >>> plan = plan_labels(max_error=0.1, min_coverage=0.25, pilot=(y, p), n_worlds=5, random_state=0)
    >>> plan.low < plan.n_labels < plan.high
    True
    """
    check_open_share("confidence_level", confidence_level, "0.95")
    check_open_share("chance", chance, "0.8")
    for name, value, least in (("n_bins", n_bins, 1), ("n_worlds", n_worlds, 2), ("max_labels", max_labels, 10)):
        check_whole_number(name, value, least)
    if n_rows is not None:
        check_whole_number("n_rows", n_rows, 1)
    _check_wishes(half_width, max_error, ece_half_width, min_coverage, label, share, pilot)
    if pilot is None:
        if half_width is None:
            raise InputError(_why_a_pilot(max_error, confidence_level))
        found = plan_by_hand(
            half_width, 0.5 if share is None else share, n_rows, confidence_level, chance, max_labels=max_labels
        )
        return LabelPlan(
            found.goal,
            found.n_labels,
            float(found.n_labels),
            float(found.n_labels),
            0,
            float(chance),
            1.0,
            "half_width",
            tuple(PlannedSize(*one) for one in found.sizes),
        )
    read = read_pilot(pilot, classes, n_rows)
    goal = _goal(half_width, max_error, ece_half_width, min_coverage, label, read, confidence_level, n_bins)
    why = goal.why_impossible(World.likeliest(read))
    if why is not None:
        raise InputError(why)
    return _planned(goal, read, chance, confidence_level, n_worlds, max_labels, random_generator(random_state))


def _planned(
    goal: Goal,
    pilot: Pilot,
    chance: float,
    confidence_level: float,
    n_worlds: int,
    max_labels: int,
    generator: np.random.Generator,
) -> LabelPlan:
    most = max_labels if pilot.n_rows is None else min(max_labels, pilot.n_rows)
    sizes = sizes_between(min(goal.least, most), most)
    worlds = [World.drawn(pilot, generator) for _ in range(n_worlds)]
    possible = [world for world in worlds if goal.why_impossible(world) is None]
    probe = Search(goal, possible[:_PROBED] or [World.likeliest(pilot)], sizes, chance, generator)
    probe.walk(_place(sizes, pilot.size))
    search = Search(goal, possible or probe.worlds, sizes, chance, generator)
    search.walk(_place(sizes, probe.needed()))
    number = search.needed()
    if math.isinf(number):
        best = search.achieved[max(search.achieved)]
        raise InputError(
            f"{most:,} labels do not give {goal.text} with a probability of {chance:.4g} (the median there is a {goal.measure} "
            f"of {np.median(best):.3g}); ask for less, give a larger max_labels={max_labels}, or a larger pilot, which "
            "leaves less open"
        )
    numbers = np.concatenate([search.needed_in_worlds(), np.full(n_worlds - len(possible), math.inf)])
    tail = (1.0 - confidence_level) / 2.0
    low, high = np.quantile(numbers, tail, method="lower"), np.quantile(numbers, 1.0 - tail, method="higher")
    place = _place(sizes, number)
    shown = tuple(_planned_size(search, near) for near in sorted(search.achieved) if abs(near - place) <= 3)
    n_labels = min(math.ceil(number), most)
    return LabelPlan(
        goal.text,
        n_labels,
        min(float(low), n_labels),
        max(float(high), n_labels),
        pilot.size,
        float(chance),
        len(possible) / n_worlds,
        goal.measure,
        shown,
    )


def _place(sizes: Integers, number: float) -> int:
    """The first of the sizes that is at least the number, or the last one."""
    return int(np.searchsorted(sizes, number).clip(max=len(sizes) - 1))


def _planned_size(search: Search, place: int) -> PlannedSize:
    middle, low, high = (float(value) for value in np.quantile(search.achieved[place], [0.5, 0.1, 0.9]))
    return PlannedSize(int(search.sizes[place]), middle, low, high, search.fulfilled(place))


def _goal(
    half_width: float | None,
    max_error: float | None,
    ece_half_width: float | None,
    min_coverage: float | None,
    label: Any,
    pilot: Pilot,
    confidence_level: float,
    n_bins: int,
) -> Goal:
    if half_width is not None:
        if label is None:
            return ShareGoal(float(half_width), None, "the share of every class", float(confidence_level))
        column = class_column(label, [], pilot.proba.shape[1], pilot.classes)
        return ShareGoal(float(half_width), column, f"the share of {label!r}", float(confidence_level))
    if max_error is not None:
        return ThresholdGoal(float(max_error), float(confidence_level), min_coverage)
    assert ece_half_width is not None
    return CalibrationGoal(float(ece_half_width), float(confidence_level), int(n_bins))


def _check_wishes(
    half_width: Any, max_error: Any, ece_half_width: Any, min_coverage: Any, label: Any, share: Any, pilot: Any
) -> None:
    wishes = {"half_width": half_width, "max_error": max_error, "ece_half_width": ece_half_width}
    given = [name for name, value in wishes.items() if value is not None]
    if len(given) != 1:
        raise InputError(
            f"{' and '.join(given) or 'no wish'} {'are' if given else 'is'} given; expected exactly one of half_width, max_error "
            "and ece_half_width. Plan for each, and label the largest number"
        )
    for name in ("half_width", "ece_half_width"):
        value = wishes[name]
        if value is not None and (not is_number(value) or not 0 < value < 0.5):
            raise InputError(f"{name}={value!r}; expected a number above 0 and below 0.5, such as 0.02 for ±2 points")
    if max_error is not None:
        check_open_share("max_error", max_error, "0.05")
    for name, value, wish in (("min_coverage", min_coverage, "max_error"), ("label", label, "half_width")):
        if value is not None and wishes[wish] is None:
            raise InputError(f"{name}={value!r} belongs to {wish}, which is not given")
    if min_coverage is not None:
        check_open_share("min_coverage", min_coverage, "0.5")
    if share is not None:
        check_open_share("share", share, "0.3")
        if pilot is not None:
            raise InputError(f"share={share!r} is given beside a pilot, which tells the shares; leave one of them out")
    if pilot is None and label is not None:
        raise InputError(f"label={label!r} needs a pilot; without one, give the share to expect as share=")


def _why_a_pilot(max_error: float | None, confidence_level: float) -> str:
    cure = "label fifty rows or more at random, and give them as pilot=(y, proba)"
    if max_error is None:
        return f"how well a calibration error can be known depends on the classifier's confidences, so a pilot is needed; {cure}"
    least = ThresholdGoal(float(max_error), float(confidence_level), None).least
    return (
        f"which rows a threshold accepts depends on how often the classifier is right, so a pilot is needed; {cure}. All "
        f"that can be said without one: fewer than {least} labels are never enough, even if all of the rows are right"
    )
