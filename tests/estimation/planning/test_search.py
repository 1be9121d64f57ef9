"""Tests of the search for a number of labels, with wishes of which the right number is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from llmclf.estimation.planning.pilot import read_pilot
from llmclf.estimation.planning.search import Search, sizes_between
from llmclf.estimation.planning.worlds import World

CHANCE = 0.8


class Wish:
    """A mean of a class that is known to within 0.05, with some luck; what is achieved is the standard error."""

    measure, text, least = "half_width", "a wish", 10

    def __init__(self, is_additive: bool, luck: float, n_draws: int = 2) -> None:
        self.is_additive, self.luck, self.n_draws = is_additive, luck, n_draws

    def why_impossible(self, world):
        return None

    def achieved(self, world, n_labels, generator):
        share = world.shares @ world.pilot.columns
        return math.sqrt(share * (1.0 - share) / n_labels) * math.exp(self.luck * generator.normal())

    def margin(self, achieved):
        return math.log(0.05 / achieved)


def read(n_cases: int, n_rows: int):
    """A pilot with some rows of the second class."""
    y = np.repeat([1, 0], [n_cases, n_rows - n_cases])
    return read_pilot((y, np.full((n_rows, 2), 0.5)), [0, 1], None)


@pytest.mark.parametrize("is_additive", [True, False])
@pytest.mark.parametrize("start", [0, 8, 22])
def test_the_margin_is_interpolated(is_additive, start):
    """Where the wish is fulfilled exactly at a size, that size is named; above all sizes, infinity."""
    sizes = sizes_between(10, 20_000)
    world = World.likeliest(read(50, 100))
    search = Search(Wish(is_additive, 0.0), [world], sizes, CHANCE, np.random.default_rng(0))
    search.walk(min(start, len(sizes) - 1))
    assert search.needed() == pytest.approx(100.0, rel=1e-3)
    assert search.needed_in_worlds() == pytest.approx(100.0, rel=1e-3)
    few = Search(Wish(is_additive, 0.0), [world], sizes[:3], CHANCE, np.random.default_rng(0))
    few.walk(2)
    assert math.isinf(few.needed())


@pytest.mark.parametrize(("is_additive", "n_draws"), [(True, 2), (False, 40)])
def test_the_luck_of_the_draw_is_allowed_for(is_additive, n_draws):
    """The number is that of the margin's quantile, and not of its mean, also where each world is drawn from twice."""
    worlds = 40 * [World.likeliest(read(50, 100))]
    search = Search(
        Wish(is_additive, 0.2, n_draws), worlds, sizes_between(10, 20_000), CHANCE, np.random.default_rng(0)
    )
    search.walk(8)
    exact = 100.0 * math.exp(2 * 0.2 * 0.8416)
    assert search.needed() == pytest.approx(exact, rel=0.06)
    assert np.median(search.needed_in_worlds()) == pytest.approx(exact, rel=0.06)


@pytest.mark.parametrize("n_pilot", [60, 200])
def test_planned_numbers_are_enough_as_often_as_they_promise(n_pilot):
    """Over pilots from a known world, the wish is fulfilled in four fifths, and the interval nearly always holds the truth."""
    rng = np.random.default_rng(n_pilot)
    sizes = sizes_between(20, 2000)
    share, luck = 0.2, 0.05
    per_label = share * (1.0 - share) / 0.05**2
    true = per_label * math.exp(2 * luck * 0.8416)
    reached, covered, price = [], [], []
    for _ in range(100):
        pilot = read(int(rng.binomial(n_pilot, share)), n_pilot)
        search = Search(Wish(True, luck), [World.drawn(pilot, rng) for _ in range(40)], sizes, CHANCE, rng)
        search.walk(5)
        number = search.needed()
        low, high = np.quantile(search.needed_in_worlds(), [0.0, 1.0])
        reached.append(math.log(number / per_label) / 2 >= luck * rng.normal())
        covered.append(low <= true <= high)
        price.append(number / true)
    assert 0.74 <= np.mean(reached) <= 0.9
    assert np.mean(covered) >= 0.9
    assert np.median(price) < 1.25
