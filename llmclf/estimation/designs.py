"""From counts of rows per cell to a stratified design: strata, and how many rows of each are drawn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..arrays import Floats, Integers
from .allocation import allocate
from .goals import N_LEVELS, CellCounts, Goal

_MOST_LAYERS = 10
_DRAWS_OF_LAYER, _DRAWS_OF_STRATUM = 10.0, 4.0  # expected, of a layer of doubt and of a class within one
_PILOT_ROWS = 10.0  # how many pilot rows of a stratum weigh as much as what the probabilities say of it
_N_BINS = 15  # of calibration errors
_ERROR_MARGIN = 2.0  # a threshold is looked for where the model expects up to so many times the errors allowed


@dataclass(frozen=True, eq=False)
class StratifiedDesign:
    """Strata of cells, and how many rows of each are drawn, by simple random sampling without replacement.

    Attributes
    ----------
    stratum : ndarray of int (C,)
        Of each cell; -1 where a cell has no rows.
    rows, drawn : ndarray of int (H,)
        How many rows each stratum has, and how many of them are drawn, at least 1.
    """

    stratum: Integers
    rows: Integers
    drawn: Integers

    @property
    def inclusion(self) -> Floats:
        """The probability (H,) with which each row of a stratum is drawn."""
        result: Floats = self.drawn / self.rows
        return result

    @property
    def budget(self) -> int:
        """How many rows are drawn."""
        return int(self.drawn.sum())


@dataclass(frozen=True, eq=False)
class PilotSquares:
    """What rows labelled before show of each cell: how many there are, and the sum of their squared residuals.

    Attributes
    ----------
    rows, squares, errors, expected_errors : ndarray (C,)
    """

    rows: Floats
    squares: Floats
    errors: Floats
    expected_errors: Floats


def stratified_design(
    counts: CellCounts,
    goal: Goal,
    budget: int,
    *,
    uniform_share: float,
    most: float = 1.0,
    pilot: PilotSquares | None = None,
) -> StratifiedDesign:
    r"""The design for a goal: strata of equal importance, allocated by size and standard deviation.

    A stratum of N_h rows with the standard deviation s_h gets a part of the budget that is proportional to :math:`N_h s_h` for
    shares and accuracy (Neyman 1934, "On the two different aspects of the representative method"), to
    :math:`N_h^{2/3} s_h^{2/3}` for calibration, which makes the expected sum of the absolute errors of the bins least, and to
    N_h where a threshold may lie and above. The part `uniform_share` of the budget is spread evenly over all rows.

    Parameters
    ----------
    counts : CellCounts
        Of the rows that can be drawn.
    goal : Goal
    budget : int
        At least 1, and at most the number of rows.
    uniform_share : float in (0, 1]
    most : float in (0, 1]
        The largest inclusion probability allowed.
    pilot : PilotSquares, optional

    Returns
    -------
    StratifiedDesign
    """
    total = int(counts.rows.sum())
    if budget >= total:
        stratum = np.where(counts.rows > 0, 0, -1)
        return StratifiedDesign(stratum, np.array([total]), np.array([total]))
    mass = _mass(counts, goal, uniform_share, pilot)
    stratum = _strata(counts, goal, mass, budget, fewest=int(np.ceil(2.0 / most)), pilot=pilot)
    n_strata = int(stratum.max()) + 1
    inside = stratum >= 0

    def summed(values: NDArray[np.float64] | Integers) -> Floats:
        return np.bincount(stratum[inside], values[inside], minlength=n_strata).astype(np.float64)

    rows = summed(counts.rows)
    variance = summed(counts.variance)
    n_pilot = np.zeros(n_strata) if pilot is None else summed(pilot.rows)
    squares = np.zeros(n_strata) if pilot is None else summed(pilot.squares)
    variance = (_PILOT_ROWS * variance / rows + squares) / (_PILOT_ROWS + n_pilot)
    even = rows / rows.sum()
    if goal.name == "threshold":
        wanted = summed(mass)
    else:
        power = 1.0 / 3.0 if goal.name == "calibration" else 0.5
        wanted = rows ** (2.0 / 3.0 if goal.name == "calibration" else 1.0) * np.maximum(variance, 1e-9) ** power
        wanted = (1.0 - uniform_share) * wanted / wanted.sum() + uniform_share * even
    limit = np.maximum(1, np.floor(rows * most + 1e-9)).astype(np.int64)
    if limit.sum() < budget:  # rounding alone can bring this about, where nearly all is drawn
        limit = rows.astype(np.int64)
    return StratifiedDesign(stratum, rows.astype(np.int64), allocate(wanted, limit, budget, least=2))


def _mass(counts: CellCounts, goal: Goal, uniform_share: float, pilot: PilotSquares | None) -> Floats:
    """The part of the budget that each cell would get (C,)."""
    even: Floats = counts.rows / counts.rows.sum()
    if goal.name == "threshold":
        wanted: Floats = np.where(_levels(len(counts.rows)) <= _last_acceptable(counts, goal, pilot), counts.rows, 0.0)
    elif goal.name == "calibration":
        wanted = counts.rows.astype(np.float64)
    else:
        wanted = np.sqrt(counts.rows * np.maximum(counts.variance, 1e-9 * counts.rows))
    if not wanted.any():
        return even
    result: Floats = (1.0 - uniform_share) * wanted / wanted.sum() + uniform_share * even
    return result


def _levels(n_cells: int) -> Integers:
    """The level of doubt of each cell; the last one has no probabilities, and is the most doubtful."""
    levels = np.arange(n_cells, dtype=np.int64) % N_LEVELS
    levels[-1] = N_LEVELS
    return levels


def _last_acceptable(counts: CellCounts, goal: Goal, pilot: PilotSquares | None) -> int:
    """The most doubtful level that a threshold may accept which keeps to the errors allowed, with a margin."""
    levels = _levels(len(counts.rows))
    rows, errors = (np.bincount(levels, values, N_LEVELS + 1) for values in (counts.rows, counts.errors))
    scale = 1.0
    if pilot is not None:
        # How much more often it is wrong than it expects, with as much doubt as few rows leave.
        scale = float((1.0 + pilot.errors.sum()) / (1.0 + pilot.expected_errors.sum()))
    cumulated = np.cumsum(rows)
    rate = scale * np.cumsum(errors) / np.maximum(cumulated, 1)
    passing = np.flatnonzero((rate <= min(1.0, _ERROR_MARGIN * goal.max_error)) & (cumulated > 0))
    return min(N_LEVELS - 1, int(passing[-1]) if passing.size else int(np.flatnonzero(rows)[0]))


def _strata(
    counts: CellCounts, goal: Goal, mass: Floats, budget: int, *, fewest: int, pilot: PilotSquares | None
) -> Integers:
    """The stratum of each cell (C,), -1 where it has no rows: layers of doubt, and in each the classes that are large enough."""
    levels = _levels(len(counts.rows))
    draws = np.bincount(levels, mass, N_LEVELS + 1).astype(np.float64) * budget
    if goal.name == "calibration":
        layer_of_level = np.append(np.arange(N_LEVELS) * _N_BINS // N_LEVELS, _N_BINS)
    elif goal.name == "threshold":
        # One stratum where a threshold may lie: there all rows then have exactly the same probability.
        layer_of_level = (np.arange(N_LEVELS + 1) > _last_acceptable(counts, goal, pilot)).astype(np.int64)
    else:
        layer_of_level = _layers(draws)
    layer = layer_of_level[levels]
    classes = np.arange(len(layer)) // N_LEVELS
    groups: list[Integers] = []
    for number in np.unique(layer[counts.rows > 0]):
        cells = np.flatnonzero((layer == number) & (counts.rows > 0))
        parts = [cells]
        if goal.name in ("share", "accuracy"):
            of_class = [cells[classes[cells] == k] for k in np.unique(classes[cells])]
            large = [part for part in of_class if mass[part].sum() * budget >= _DRAWS_OF_STRATUM]
            small = [part for part in of_class if mass[part].sum() * budget < _DRAWS_OF_STRATUM]
            parts = [*large, *([np.concatenate(small)] if small else [])]
        groups += parts
    groups = _joined(groups, counts, mass * budget, fewest, budget)
    stratum = np.full(len(layer), -1, dtype=np.int64)
    for number, part in enumerate(groups):
        stratum[part] = number
    return stratum


def _layers(draws: Floats) -> Integers:
    """Layers of neighbouring levels (L,) that are expected to have equally many draws."""
    total = float(draws.sum())
    number = int(np.clip(total // _DRAWS_OF_LAYER, 1, _MOST_LAYERS))
    middle = (np.cumsum(draws) - draws / 2.0) / max(total, 1e-300)
    return np.minimum((middle * number).astype(np.int64), number - 1)


def _joined(groups: list[Integers], counts: CellCounts, draws: Floats, fewest: int, budget: int) -> list[Integers]:
    """Groups of cells such that each can have two draws, and has rows enough; one that has not joins its neighbour."""
    groups = list(groups)
    while len(groups) > 1:
        rows = np.array([counts.rows[part].sum() for part in groups])
        expected = np.array([draws[part].sum() for part in groups])
        poor = np.flatnonzero((rows < fewest) | (expected < 1.0))
        if not poor.size and len(groups) <= max(1, budget // 2):
            break
        first = int(poor[np.argmin(rows[poor])]) if poor.size else int(np.argmin(expected))
        other = first - 1 if first > 0 else 1
        low, high = sorted((first, other))
        groups[low : high + 1] = [np.concatenate([groups[low], groups[high]])]
    return groups
