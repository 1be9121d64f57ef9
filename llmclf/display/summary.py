"""The numbers behind a reliability diagram: points, a curve, a band, and the contents of the box."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import norm

from ..arrays import Floats
from ..errors import InputError
from ..metrics import (
    CalibrationInterval,
    CorpDecomposition,
    ReliabilityCurve,
    binned_calibration,
    calibration_interval,
    check_confidence_level,
    check_n_resamples,
    checked_event,
    corp_decomposition,
    recalibrated,
    smooth_calibration_error,
    smooth_curve,
)
from ..metrics.checks import counts_rows, either_weights

KINDS = ("corp", "mass", "uniform", "smooth")
BANDS = ("consistency", "confidence", None)
_GRID = np.linspace(0.0, 1.0, 201)
_MIN_KERNEL_WIDTH = 0.03
_MAX_CELLS = 2000


@dataclass(frozen=True, eq=False)
class ReliabilitySummary:
    """What a reliability diagram shows of one event: that the predicted class is right, or that one class is the true one.

    Attributes
    ----------
    kind : {"corp", "mass", "uniform", "smooth"}
    curve : ReliabilityCurve
        The points: bins, or with "corp" the blocks of equal recalibrated probability, with "smooth" bins of equal mass.
    lower, upper : ndarray (n_points,)
        The Wilson interval of each point's frequency; NaN if rows are weighted, because weights are not counts.
    line : ndarray (2, m)
        Probability and frequency along the curve that is drawn.
    band : ndarray (3, m) or None
        Probability, and the lower and upper end of the band.
    band_kind : {"consistency", "confidence"} or None
        Around the diagonal: where the curve of a calibrated model lies; or around the curve, from resampled rows.
    level : float
        The confidence level of the band and the intervals, pointwise.
    probability, weight : ndarray (n_rows,)
        Of each row with positive weight.
    n_rows, n_events : int
    accuracy, confidence : float
        Weighted means of event and probability over all rows.
    error : CalibrationInterval
        Expected calibration error in bins of equal width, its interval, and the mean that a calibrated model would show;
        `measure_error` computes it on first use.
    corp : CorpDecomposition
        Of the Brier score of the event.
    """

    kind: str
    curve: ReliabilityCurve
    lower: Floats
    upper: Floats
    line: Floats
    band: Floats | None
    band_kind: str | None
    level: float
    probability: Floats
    weight: Floats
    n_rows: int
    n_events: int
    accuracy: float
    confidence: float
    measure_error: Callable[[], CalibrationInterval]
    corp: CorpDecomposition

    @cached_property
    def error(self) -> CalibrationInterval:
        return self.measure_error()

    def shares(self, edges: Floats) -> Floats:
        """Share of the rows' weight between each edge and the next."""
        counts, _ = np.histogram(self.probability, bins=edges, weights=self.weight)
        result: Floats = counts / self.weight.sum()
        return result


@dataclass(frozen=True)
class SummaryOptions:
    """How a summary is made; see `ReliabilityDisplay.from_predictions`."""

    kind: str = "corp"
    n_bins: int = 15
    band: str | None = "consistency"
    confidence_level: float = 0.95
    n_resamples: int = 300
    random_state: Any = 0

    def check(self) -> None:
        if self.kind not in KINDS:
            raise InputError(f"kind={self.kind!r} is unknown; expected one of {', '.join(map(repr, KINDS))}")
        if self.band not in BANDS:
            raise InputError(f"band={self.band!r} is unknown; expected 'consistency', 'confidence' or None")
        check_n_resamples(self.n_resamples)
        check_confidence_level(self.confidence_level)


def summarise(
    y: ArrayLike,
    proba: ArrayLike,
    options: SummaryOptions,
    pos_label: Any = None,
    classes: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    inclusion: ArrayLike | None = None,
) -> ReliabilitySummary:
    """The summary of one event; the predictions are checked here."""
    options.check()
    sample_weight = either_weights(sample_weight, inclusion, y)
    p, event, weights = checked_event(y, proba, classes, sample_weight, pos_label)
    is_drawn_unevenly = inclusion is not None and not counts_rows(weights)
    generator = np.random.default_rng(options.random_state)
    seeded = isinstance(options.random_state, (int, np.integer))
    measure_error = partial(
        calibration_interval,
        event,
        p,
        pos_label=1,
        n_bins=options.n_bins,
        confidence_level=options.confidence_level,
        # With this seed, the metric itself gives the same number.
        random_state=options.random_state if seeded else int(generator.integers(2**63)),
        **({"inclusion": inclusion} if is_drawn_unevenly else {"sample_weight": weights}),
    )
    curve = _points(p, event, weights, options)
    counted = counts_rows(sample_weight)
    lower, upper = _wilson(curve, options.confidence_level) if counted else (np.full(curve.count.size, math.nan),) * 2
    grid, draw = _curve_function(p, event, weights, options, curve)
    return ReliabilitySummary(
        kind=options.kind,
        curve=curve,
        lower=lower,
        upper=upper,
        line=np.stack([grid, draw(p, event, weights)]),
        band=_band(p, event, weights, options, grid, draw, generator, curve, is_drawn_unevenly),
        band_kind=options.band,
        level=options.confidence_level,
        probability=p,
        weight=weights,
        n_rows=len(p),
        n_events=int(event.sum()),
        accuracy=float(np.average(event, weights=weights)),
        confidence=float(np.average(p, weights=weights)),
        measure_error=measure_error,
        corp=corp_decomposition(event, p, pos_label=1, sample_weight=weights),
    )


def _points(p: Floats, event: Floats, weights: Floats, options: SummaryOptions) -> ReliabilityCurve:
    if options.kind != "corp":
        strategy = "uniform" if options.kind == "uniform" else "mass"
        return binned_calibration(p, event, n_bins=options.n_bins, strategy=strategy, sample_weight=weights)
    level = recalibrated(p, event, weights)
    _, block = np.unique(level, return_inverse=True)
    mass = np.bincount(block, weights)
    lower, upper = np.ones(mass.size), np.zeros(mass.size)
    np.minimum.at(lower, block, p)
    np.maximum.at(upper, block, p)
    return ReliabilityCurve(
        lower=lower,
        upper=upper,
        confidence=np.bincount(block, weights * p) / mass,
        accuracy=np.bincount(block, weights * event) / mass,
        weight=mass.astype(np.float64),
        count=np.bincount(block),
        closed="both",
    )


def _curve_function(
    p: Floats, event: Floats, weights: Floats, options: SummaryOptions, curve: ReliabilityCurve
) -> tuple[Floats, Callable[[Floats, Floats, Floats], Floats]]:
    """Where the curve is drawn, and a function from probabilities, outcomes and weights to its height there."""
    if options.kind == "corp":
        grid = np.unique(p)
        if grid.size > 400:
            grid = grid[np.unique(np.linspace(0, grid.size - 1, 400).round().astype(int))]

        def stepped(sample_p: Floats, sample_event: Floats, sample_weights: Floats) -> Floats:
            values, first = np.unique(sample_p, return_index=True)
            heights: Floats = np.interp(grid, values, recalibrated(sample_p, sample_event, sample_weights)[first])
            return heights

        return grid, stepped
    if options.kind == "smooth":
        inside = _GRID[(p.min() <= _GRID) & (p.max() >= _GRID)]
        grid = inside if inside.size > 1 else np.array([p.min(), p.max()])
        # The kernel width of the smooth calibration error, but wide enough that single rows do not show.
        width = max(smooth_calibration_error(event, p, pos_label=1, sample_weight=weights), _MIN_KERNEL_WIDTH)
        return grid, lambda sample_p, sample_event, sample_weights: smooth_curve(
            sample_p, sample_event, sample_weights, grid, width
        )
    edges = curve.upper[:-1]

    def binned(sample_p: Floats, sample_event: Floats, sample_weights: Floats) -> Floats:
        members = np.searchsorted(edges, sample_p, side="left")
        mass = np.bincount(members, sample_weights, curve.confidence.size)
        with np.errstate(invalid="ignore", divide="ignore"):
            heights: Floats = np.bincount(members, sample_weights * sample_event, curve.confidence.size) / mass
        return heights

    return curve.confidence, binned


def _band(
    p: Floats,
    event: Floats,
    weights: Floats,
    options: SummaryOptions,
    grid: Floats,
    draw: Callable[[Floats, Floats, Floats], Floats],
    generator: np.random.Generator,
    curve: ReliabilityCurve,
    is_drawn_unevenly: bool,
) -> Floats | None:
    """Pointwise quantiles of the curve: of outcomes drawn from the probabilities themselves, or of resampled rows."""
    if options.band is None:
        return None
    if is_drawn_unevenly:
        # Each row is one draw, however many rows of the table it stands for: all are drawn alike, and keep their weights.
        mean, rate, shares, each = p, event, np.full(len(p), 1.0 / len(p)), weights
    else:
        # Rows are drawn in proportion to their weights; then an outcome is drawn for each.
        mean, rate, mass = _cells(p, event, weights, curve if options.kind in ("mass", "uniform") else None)
        shares, each = mass / mass.sum(), np.ones(len(mass))
    chance = rate if options.band == "confidence" else mean
    curves = []
    for _ in range(options.n_resamples):
        counts = generator.multinomial(len(p), shares)
        drawn = counts > 0
        hits = generator.binomial(counts[drawn], chance[drawn])
        curves.append(draw(mean[drawn], hits / counts[drawn], counts[drawn] * each[drawn]))
    tail = (1.0 - options.confidence_level) / 2.0
    low, high = np.nanquantile(np.array(curves), [tail, 1.0 - tail], axis=0)
    return np.stack([grid, low, high])


def _cells(p: Floats, event: Floats, weights: Floats, bins: ReliabilityCurve | None) -> tuple[Floats, Floats, Floats]:
    """Probability, frequency of the event and weight of groups of rows that are drawn together.

    The rows of one bin, or of one probability, form a group. If there are more distinct probabilities than a picture can show,
    neighbours are merged.
    """
    if bins is not None:
        members = np.searchsorted(bins.upper[:-1], p, side="left")
    else:
        distinct, members = np.unique(p, return_inverse=True)
        if distinct.size > _MAX_CELLS:
            rank = np.cumsum(np.bincount(members, weights)) / weights.sum()
            members = np.unique(np.ceil(rank * _MAX_CELLS), return_inverse=True)[1][members]
    mass: Floats = np.bincount(members, weights).astype(np.float64)
    lowest, highest = np.ones(mass.size), np.zeros(mass.size)
    np.minimum.at(lowest, members, p)
    np.maximum.at(highest, members, p)
    # Rounding may put the mean of equal numbers beyond them, and over the edge of a bin.
    mean = (np.bincount(members, weights * p) / mass).clip(lowest, highest)
    return mean, np.bincount(members, weights * event) / mass, mass


def _wilson(curve: ReliabilityCurve, level: float) -> tuple[Floats, Floats]:
    """The interval of Wilson (1927) for each point's frequency."""
    n, share, z = curve.count, curve.accuracy, float(norm.ppf((1.0 + level) / 2.0))
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return (middle - half).clip(0.0, 1.0), (middle + half).clip(0.0, 1.0)
