"""The number of labels at which a wish is fulfilled often enough, from simulations that are noisy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from sklearn.isotonic import isotonic_regression

from ...arrays import Floats, Integers
from .goals import Goal
from .worlds import World

_RATIO = math.sqrt(2.0)  # of neighbouring numbers of labels
_MANY_LABELS = 1000
_LEAST_DRAWS = 4


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
    """Simulations of a goal in some worlds, at some numbers of labels.

    Attributes
    ----------
    goal : Goal
    worlds : sequence of World (w,)
    sizes : ndarray of int (m,)
    chance : float
        How often the wish must be fulfilled.
    generator : numpy Generator
    achieved : dict of int to ndarray (w, number of draws)
        What was achieved at each place among the sizes.
    """

    goal: Goal
    worlds: Sequence[World]
    sizes: Integers
    chance: float
    generator: np.random.Generator
    achieved: dict[int, Floats] = field(default_factory=dict)
    _margins: dict[int, Floats] = field(default_factory=dict, init=False, repr=False)

    def simulate(self, place: int) -> None:
        """Draw at a size, in every world."""
        if place not in self.achieved:
            size = int(self.sizes[place])
            # What many labels give varies little from draw to draw.
            number = min(self.goal.n_draws, max(_LEAST_DRAWS, round(self.goal.n_draws * _MANY_LABELS / size)))
            values = [[self.goal.achieved(world, size, self.generator) for _ in range(number)] for world in self.worlds]
            self.achieved[place] = np.array(values)
            self._margins[place] = np.array([[self.goal.margin(value) for value in line] for line in values])

    def margins(self) -> Floats:
        """The margins (number of places, w) that are reached with the probability `chance` at each place, in each world."""
        values = [self._margins[place] for place in sorted(self.achieved)]
        if not self.goal.is_additive:
            return np.array([self._quantile(one) for one in values])
        # Few draws tell a mean better than a quantile, and all worlds and sizes together what is left.
        means = np.array([one.mean(axis=1) for one in values])
        levels = means.mean(axis=1)
        worlds = (means - levels[:, None]).mean(axis=0)
        luck = [
            self._quantile((one - level - worlds[:, None]).ravel()) for one, level in zip(values, levels, strict=True)
        ]
        result: Floats = levels[:, None] + worlds + np.array(luck)[:, None]
        return result

    def _quantile(self, margins: Floats) -> Floats:
        """That of the last axis which is reached with the probability `chance`."""
        result: Floats = np.quantile(margins, 1.0 - self.chance, axis=-1, method="median_unbiased")
        return result

    def margin(self, place: int) -> float:
        """The margin that is reached with the probability `chance`, whichever the world is."""
        return float(self._quantile(self._margins[place].ravel()))

    def fulfilled(self, place: int) -> float:
        """The share of all draws that fulfil the wish."""
        return float((self._margins[place] >= 0.0).mean())

    def walk(self, start: int) -> None:
        """Simulate from one place up and down until the wish is fulfilled in every world, and in none."""
        low = high = start
        self.simulate(start)
        while True:
            margins = self.margins()
            if margins[-1].min() < 0.0 and high < len(self.sizes) - 1:
                high += 1
                self.simulate(high)
            elif margins[0].max() >= 0.0 and low > 0:
                low -= 1
                self.simulate(low)
            else:
                return

    def needed(self) -> float:
        """The number of labels, whichever the world is; infinity if no size is enough."""
        return self._crossing(np.array([self.margin(place) for place in sorted(self.achieved)]))

    def needed_in_worlds(self) -> Floats:
        """The number of labels (w,) in each world."""
        return np.array([self._crossing(line) for line in self.margins().T])

    def _crossing(self, margins: Floats) -> float:
        """Where margins at the simulated sizes become positive, by a monotone regression."""
        sizes = self.sizes[sorted(self.achieved)]
        fitted: NDArray[np.float64] = isotonic_regression(margins)
        enough = np.flatnonzero(fitted >= 0.0)
        if not enough.size:
            return math.inf
        first = int(enough[0])
        high = float(sizes[first])
        if first == 0:
            return high
        low, below, above = float(sizes[first - 1]), float(fitted[first - 1]), float(fitted[first])
        return float(low * (high / low) ** (-below / (above - below)))
