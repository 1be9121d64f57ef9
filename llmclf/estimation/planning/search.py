"""The number of labels at which a wish is fulfilled often enough, from simulations that are noisy."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from sklearn.isotonic import isotonic_regression

from ...arrays import Floats, Integers
from .goals import Goal
from .pilot import Pilot

_RATIO = math.sqrt(2.0)  # of neighbouring numbers of labels
_MANY_LABELS = 1000
_LEAST_DRAWS = 8


def sizes_between(least: int, most: int) -> Integers:
    """Numbers of labels from the least to the most, each about 1.4 times the one before.

    Examples
    --------
    >>> sizes_between(10, 60).tolist()
    [10, 14, 20, 28, 40, 57, 60]
    """
    steps = math.ceil(math.log(max(1.0, most / least)) / math.log(_RATIO) - 1e-9)
    sizes = np.round(least * _RATIO ** np.arange(steps + 1)).astype(np.int64)
    return np.unique(np.minimum(sizes, most))


@dataclass(eq=False)
class Search:
    """Simulations of a goal in one world, at some numbers of labels.

    Attributes
    ----------
    goal : Goal
    pilot : Pilot
        The world.
    sizes : ndarray of int (m,)
    chance : float
        How often the wish must be fulfilled.
    n_draws : int
    generator : numpy Generator
    achieved : dict of int to list of float
        What was achieved at each place among the sizes.
    """

    goal: Goal
    pilot: Pilot
    sizes: Integers
    chance: float
    n_draws: int
    generator: np.random.Generator
    achieved: dict[int, list[float]] = field(default_factory=dict)

    def simulate(self, place: int) -> None:
        """Draw at one more size."""
        size = int(self.sizes[place])
        # What many labels give varies little from draw to draw.
        number = min(self.n_draws, max(_LEAST_DRAWS, round(self.n_draws * _MANY_LABELS / size)))
        values = [self.goal.achieved(self.pilot, size, self.generator) for _ in range(number)]
        self.achieved.setdefault(place, []).extend(values)

    def margin(self, place: int) -> float:
        """The margin that is reached with the probability `chance`."""
        margins = [self.goal.margin(value) for value in self.achieved[place]]
        return float(np.quantile(margins, 1.0 - self.chance))

    def fulfilled(self, place: int) -> float:
        """The share of the draws that fulfil the wish."""
        return float(np.mean([self.goal.margin(value) >= 0.0 for value in self.achieved[place]]))

    def walk(self, start: int) -> int:
        """Simulate from one place up or down until the wish is fulfilled on one side and not on the other.

        Returns
        -------
        int
            The last place looked at.
        """
        place, step, last = start, 0, len(self.sizes) - 1
        while True:
            if place not in self.achieved:
                self.simulate(place)
            direction = -1 if self.margin(place) >= 0.0 else 1
            if step == -direction or not 0 <= place + direction <= last:
                return place
            place, step = place + direction, direction

    def needed(self) -> float:
        """The number of labels, by a monotone regression of the margins; infinity if no size is enough."""
        places = sorted(self.achieved)
        weights = [float(len(self.achieved[place])) for place in places]
        fitted: Floats = isotonic_regression([self.margin(place) for place in places], sample_weight=weights)
        enough = np.flatnonzero(fitted >= 0.0)
        if not enough.size:
            return math.inf
        first = int(enough[0])
        high = float(self.sizes[places[first]])
        if first == 0:
            return high
        low, below, above = float(self.sizes[places[first - 1]]), float(fitted[first - 1]), float(fitted[first])
        return float(low * (high / low) ** (-below / (above - below)))
