"""Tests of plans: numbers of labels that fulfil wishes, their uncertainty, and wishes that nothing fulfils."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from scipy.stats import binom

from llmclf.calibration import select_threshold
from llmclf.errors import InputError, LlmclfWarning
from llmclf.estimation import LabelledSample, plan_labels
from llmclf.estimation.planning.goals import CalibrationGoal, ShareGoal, ThresholdGoal, selected_coverage
from llmclf.estimation.planning.pilot import read_pilot
from llmclf.estimation.planning.worlds import World
from llmclf.metrics import proportion_interval


def pilot(n_rows: int = 200, spread: float = 2.5, shift: float = 0.0, slope: float = 1.0, seed: int = 0):
    """Labels of rows with normal log-odds, and their probabilities."""
    rng = np.random.default_rng(seed)
    t = rng.normal(shift, spread, n_rows)
    p = expit(slope * t)
    return (rng.random(n_rows) < expit(t)).astype(int), np.column_stack([1 - p, p])


@pytest.mark.parametrize(("half_width", "share"), [(0.05, 0.3), (0.02, 0.02), (0.1, None)])
def test_by_hand_the_number_is_the_least_that_is_enough(half_width, share):
    """With it, the exact interval is narrow enough with the probability wanted; with a tenth less it is not."""
    plan = plan_labels(half_width=half_width, share=share, chance=0.8)

    def chance(n_labels: int) -> float:
        hits = np.arange(n_labels + 1)
        low, high = proportion_interval(hits, np.full(n_labels + 1, n_labels))
        return float(binom.pmf(hits, n_labels, share or 0.5)[(high - low) / 2 <= half_width].sum())

    assert chance(plan.n_labels) >= 0.8 > chance(round(0.9 * plan.n_labels))
    assert plan.low == plan.high == plan.n_labels
    assert "by hand alone" in str(plan)
    frame = plan.to_frame()
    assert frame.columns.tolist() == ["n_labels", "half_width", "low", "high", "chance"]
    assert frame["half_width"].is_monotonic_decreasing


def test_of_few_rows_fewer_have_to_be_labelled():
    """The finite population correction: never more than there are, and the textbook's number."""
    endless = plan_labels(half_width=0.05).n_labels
    some = plan_labels(half_width=0.05, n_rows=1000).n_labels
    assert some == pytest.approx(endless / (1 + (endless - 1) / 1000), rel=0.02)
    assert plan_labels(half_width=0.05, n_rows=20).n_labels <= 20


def test_a_good_classifier_saves_labels():
    """Sure probabilities make fewer labels enough than by hand alone, useless ones save none."""
    wish = {"half_width": 0.08, "label": 1, "n_worlds": 2, "random_state": 0}
    good, useless = pilot(spread=6.0), pilot()
    rng = np.random.default_rng(0)
    useless = (useless[0], useless[1][rng.permutation(200)])
    by_hand = plan_labels(half_width=0.08).n_labels
    assert plan_labels(pilot=good, **wish).n_labels < 0.6 * by_hand
    assert plan_labels(pilot=useless, **wish).n_labels == pytest.approx(by_hand, rel=0.12)


def test_small_pilots_ask_for_more():
    """What they leave open costs labels: of the same rows, each four times, fewer are enough."""
    y, proba = pilot(60)
    wish = {"half_width": 0.06, "label": 1, "n_worlds": 20, "random_state": 0}
    small = plan_labels(pilot=(y, proba), **wish)
    large = plan_labels(pilot=(np.tile(y, 8), np.tile(proba, (8, 1))), **wish)
    assert large.n_labels < 0.95 * small.n_labels
    assert large.high - large.low < 0.7 * (small.high - small.low)


def test_of_an_endless_table_the_width_is_that_of_a_very_large_one():
    """A small table that stands for it gives the same half-widths, without a finite population correction."""
    y, proba = pilot(300)
    goal = ShareGoal(0.05, 1, "", 0.95)
    endless, large = (World.likeliest(read_pilot((y, proba), None, n_rows)) for n_rows in (None, 25 * 120))
    widths = [
        [goal.achieved(world, 120, np.random.default_rng(seed)) for seed in range(30)] for world in (endless, large)
    ]
    assert np.mean(widths[0]) == pytest.approx(np.mean(widths[1]), rel=0.02)
    nearly_all = World.likeliest(read_pilot((y[:100], proba[:100]), None, 130))
    assert goal.achieved(nearly_all, 120, np.random.default_rng(0)) < 0.5 * np.mean(widths[0])


def test_narrower_intervals_and_surer_plans_need_more():
    """The numbers are in the order of the wishes, and lie between low and high."""
    numbers = []
    for half_width, chance in ((0.12, 0.5), (0.12, 0.95), (0.08, 0.95)):
        plan = plan_labels(ece_half_width=half_width, pilot=pilot(100), chance=chance, n_worlds=2, random_state=0)
        assert plan.low <= plan.n_labels <= plan.high
        numbers.append(plan.n_labels)
    assert numbers == sorted(numbers)
    assert plan.n_more == max(0, plan.n_labels - 100)
    assert plan.measure == "half_width"


def test_the_planned_threshold_is_found_where_it_was_planned():
    """In new samples of the world, of a size that a large pilot names, about as many accept enough as were promised."""
    plan = plan_labels(max_error=0.1, min_coverage=0.5, pilot=pilot(3000), n_worlds=2, random_state=0)
    found = []
    for seed in range(100):
        y, proba = pilot(plan.n_labels, seed=seed + 1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", LlmclfWarning)
            found.append(select_threshold(y, proba, max_error=0.1).coverage >= 0.5)
    assert 0.6 <= np.mean(found) <= 0.97
    assert plan.to_frame()["chance"].iloc[-1] > 0.8


@given(seed=st.integers(0, 10**6), n_rows=st.integers(40, 300))
@settings(max_examples=30, deadline=None)
def test_the_quick_coverage_is_that_of_select_threshold(seed, n_rows):
    """For any rows that are right or not, with different confidences."""
    rng = np.random.default_rng(seed)
    confidence = 0.5 + rng.permutation(n_rows) / (2.0 * n_rows) + 1e-4
    is_right = (rng.random(n_rows) < confidence).astype(float)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LlmclfWarning)
        wanted = select_threshold(is_right.astype(int), confidence, max_error=0.2).coverage
    assert selected_coverage(confidence, is_right, 0.2, 0.95) == pytest.approx(wanted)


def test_impossible_thresholds_are_refused_with_the_reason():
    """A classifier that is wrong too often can never accept so many rows, however many labels there are."""
    with pytest.raises(
        InputError, match=r"no number of labels gives a threshold .* is about 0\.\d+, however well it is known"
    ):
        plan_labels(max_error=0.01, min_coverage=0.9, pilot=pilot(), random_state=0)
    with pytest.raises(InputError, match=r"300 labels do not give .* larger max_labels=300, or a larger pilot"):
        plan_labels(ece_half_width=0.005, pilot=pilot(), max_labels=300, random_state=0)
    with pytest.raises(InputError, match="100 labels by hand alone do not give"):
        plan_labels(half_width=0.01, max_labels=100)


def test_a_pilot_that_doubts_the_wish_makes_high_infinite():
    """Where it may be that no number is enough, that is said."""
    y, proba = pilot(60)
    goal = ThresholdGoal(0.1, 0.95, None)
    reachable = goal.reachable(World.likeliest(read_pilot((y, proba), None, None)))
    plan = plan_labels(max_error=0.1, min_coverage=0.5 * reachable, pilot=(y, proba), n_worlds=20, random_state=0)
    assert math.isinf(plan.high)
    assert 0.5 < plan.possible < 1.0
    assert f"supposing that enough labels do ({plan.possible:.0%} probable)" in str(plan)
    assert "no number may be enough" in str(plan)


def test_a_labelled_sample_is_a_pilot():
    """Its table says how many rows there are: to label them all leaves nothing uncertain."""
    y, proba = pilot(400, spread=1.0)
    rows = np.random.default_rng(0).choice(400, 80, replace=False)
    sample = LabelledSample.checked(proba, y[rows], rows)
    plan = plan_labels(half_width=0.01, pilot=sample, n_worlds=2, random_state=0)
    assert 200 < plan.n_labels <= 400
    with pytest.raises(InputError, match="n_rows=400 is given beside a LabelledSample"):
        plan_labels(half_width=0.01, pilot=sample, n_rows=400)


def test_every_wish_is_fulfilled_more_often_by_more_labels():
    """In the mean, for each kind of goal."""
    world = World.likeliest(read_pilot(pilot(), None, None))
    rng = np.random.default_rng(0)
    for goal in (ShareGoal(0.05, 1, "", 0.95), ThresholdGoal(0.1, 0.95, 0.3), CalibrationGoal(0.05, 0.95, 15)):
        margins = [np.mean([goal.margin(goal.achieved(world, n, rng)) for _ in range(12)]) for n in (100, 300, 900)]
        assert margins == sorted(margins), goal


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "no wish is given"),
        ({"half_width": 0.02, "max_error": 0.05}, "half_width and max_error are given; expected exactly one"),
        ({"half_width": -0.02}, r"half_width=-0\.02; expected a number above 0"),
        ({"half_width": 0.7}, r"half_width=0\.7"),
        ({"ece_half_width": 0.0}, r"ece_half_width=0\.0"),
        ({"max_error": 1.5, "pilot": pilot()}, r"max_error=1\.5"),
        ({"half_width": 0.02, "min_coverage": 0.5}, "min_coverage=0.5 belongs to max_error"),
        ({"max_error": 0.05, "label": 1}, "label=1 belongs to half_width"),
        ({"half_width": 0.02, "label": 1}, "label=1 needs a pilot"),
        ({"half_width": 0.02, "label": 7, "pilot": pilot()}, "7"),
        ({"half_width": 0.02, "share": 0.3, "pilot": pilot()}, "share=0.3 is given beside a pilot"),
        ({"half_width": 0.02, "share": 0}, "share=0"),
        ({"half_width": 0.02, "chance": 1}, "chance=1"),
        ({"half_width": 0.02, "n_worlds": 1}, "n_worlds=1"),
        ({"max_error": 0.05}, "fewer than 59 labels are never enough"),
        ({"ece_half_width": 0.05}, "so a pilot is needed"),
        ({"half_width": 0.02, "pilot": "rows.csv"}, "pilot is a str"),
        ({"half_width": 0.02, "pilot": ([0, 1], [0.2, 0.9])}, "the pilot has 2 labelled rows"),
    ],
)
def test_what_cannot_be_planned_is_refused(arguments, message):
    """Before anything is simulated, with the name, the value and the cure."""
    with pytest.raises(InputError, match=message):
        plan_labels(**arguments)


def test_the_seed_decides():
    """The same seed gives the same plan."""
    first, second = (
        plan_labels(max_error=0.1, min_coverage=0.3, pilot=pilot(), n_worlds=3, random_state=5) for _ in range(2)
    )
    assert (first.n_labels, first.low, first.high, first.sizes) == (
        second.n_labels,
        second.low,
        second.high,
        second.sizes,
    )
