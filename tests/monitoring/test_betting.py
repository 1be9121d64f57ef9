"""Bets are fair under the null hypothesis: what a player has is, on average over all outcomes, never more than the start."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmclf.monitoring.audited import calibration_evidence, promise_evidence
from llmclf.monitoring.betting import BettingMixture, HorizonBet, MeanInterval, first_reached, share_interval, thinned

N = 7
PATHS = np.array(list(itertools.product([0.0, 1.0], repeat=N)))


def chance(paths, p):
    """The probability of each path whose steps are 1 with probability p."""
    return np.prod(np.where(paths == 1.0, p, 1.0 - np.asarray(p)), axis=1)


@settings(max_examples=8, deadline=None)
@given(st.floats(0.01, 0.4), st.sampled_from([0.0, 0.5, 0.9, 1.0]), st.integers(1, N + 3))
def test_the_promise_is_no_game_to_win_while_it_is_kept(max_error, part, horizon):
    """After each row, the mean capital over all outcomes is at most 1, for the promised error and for smaller ones."""
    capital = np.exp(
        [
            promise_evidence(path, np.ones(N), max_error=max_error, alpha=0.2, horizon=horizon).log_values
            for path in PATHS
        ]
    )
    means = chance(PATHS, part * max_error) @ capital
    assert means.max() <= 1 + 1e-9
    if part == 1.0:
        np.testing.assert_allclose(means, 1.0)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.floats(0.0, 0.2), min_size=N, max_size=N))
def test_errors_may_vary_from_row_to_row(errors):
    """As long as each row is wrong with at most the promised probability."""
    capital = np.exp(
        [promise_evidence(path, np.ones(N), max_error=0.2, alpha=0.2, horizon=5).log_values[-1] for path in PATHS]
    )
    assert chance(PATHS, errors) @ capital <= 1 + 1e-9


@settings(max_examples=25, deadline=None)
@given(st.floats(0.05, 0.4), st.floats(0.0, 1.0), st.floats(0.05, 1.0), st.floats(0.05, 1.0), st.floats(0.0, 1.0))
def test_an_audit_that_prefers_wrong_rows_does_not_break_a_promise(max_error, common, often, rarely, share):
    """Two kinds of rows with errors that are just promised together, however differently they are audited."""
    # The first kind has errors up to the most that the promise allows it alone.
    first = common * min(1.0, max_error / share if share else 1.0)
    second = min(1.0, max((max_error - share * first) / (1.0 - share), 0.0)) if share < 1 else 0.0
    assert share * first + (1 - share) * second <= max_error + 1e-9
    floor = min(often, rarely)
    mean = 0.0
    for kind, error, drawn in ((share, first, often), (1 - share, second, rarely)):
        for wrong, p in ((1.0, error), (0.0, 1.0 - error)):
            evidence = promise_evidence(
                np.array([wrong]), np.array([floor / drawn]), max_error=max_error, alpha=0.05, horizon=9, is_even=False
            )
            mean += kind * drawn * p * math.exp(evidence.log_values[0])
        mean += kind * (1 - drawn)
    assert mean <= 1 + 1e-9


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0.02, 1.0), st.floats(-1.0, 1.0)), min_size=N, max_size=N),
    st.sampled_from([0.0, 0.02, 0.1]),
)
def test_calibration_is_no_game_to_win_within_its_tolerance(rows, tolerance):
    """Whatever the confidences, and wherever the true shares are between the limits."""
    p = np.array([one for one, _ in rows]).clip(1e-6, 1 - 1e-6)
    truth = np.clip(p + tolerance * np.array([one for _, one in rows]), 1e-6, 1 - 1e-6)
    capital = np.exp(
        [
            calibration_evidence(p, path == 1.0, np.ones(N), tolerance=tolerance, alpha=0.05).log_values[-1]
            for path in PATHS
        ]
    )
    assert chance(PATHS, truth) @ capital <= 1 + 1e-6


def test_a_thinned_bet_never_loses_more_than_the_whole():
    """And of the least weight, next to nothing."""
    factors = np.log([0.01, 1.0, 20.0])
    np.testing.assert_array_equal(thinned(factors, 1.0), factors)
    assert np.isfinite(thinned(factors, 0.3)).all()
    assert np.abs(thinned(factors, 1e-9)).max() < 1e-6


@pytest.mark.parametrize(("null", "level", "horizon"), [(0.05, 0.05, 250), (0.3, 0.01, 40), (0.001, 0.0425, 250)])
def test_the_bet_on_a_horizon_is_the_exact_test(null, level, horizon):
    """It ends with what the test's level is worth if the test rejects, and with nothing otherwise; no bet costs more."""
    bet = HorizonBet.best(null, 2 * null, level, horizon)
    assert bet is not None
    assert bet.level <= level
    assert bet.n_rows <= horizon
    wrong = np.zeros(bet.n_rows + 5)
    wrong[: bet.n_wrong] = 1.0
    np.testing.assert_allclose(bet.log_values(wrong)[bet.n_wrong :], -math.log(bet.level))
    wrong[0] = 0.0
    assert (bet.log_values(wrong)[bet.n_rows - 1 :] == -np.inf).all()
    assert len(bet.log_values(wrong[:3])) == 3


def test_a_capital_may_grow_and_shrink_beyond_the_range_of_floats():
    """And is as large as one whose logarithms were added up."""
    mixture, expected = BettingMixture(np.array([0.5, 0.5]), pace=1e12), 0.0
    for steps, factor in ((300, 8.0), (290, -8.0), (2, 900.0), (1, -1e4)):
        for _ in range(steps):
            mixture.bet(np.array([factor, -1.0]))
            expected += factor
        assert mixture.log_value == pytest.approx(max(expected + math.log(0.25), math.log(0.5)), abs=0.3)


def test_no_bet_where_no_number_of_wrong_rows_is_improbable():
    """A single row cannot contradict an error of one half."""
    assert HorizonBet.best(0.5, 0.75, 0.01, 1) is None


def test_adding_rows_goes_on_with_the_same_process():
    """What was said after some rows stays true when there are more."""
    rng = np.random.default_rng(0)
    wrong = (rng.random(400) < 0.1).astype(float)
    options = {"max_error": 0.05, "alpha": 0.05, "horizon": 250}
    whole = promise_evidence(wrong, np.ones(400), **options)
    for n in (0, 1, 100, 249, 250, 300):
        part = promise_evidence(wrong[:n], np.ones(n), **options)
        np.testing.assert_allclose(part.log_values, whole.log_values[:n])
    assert whole.alarm == first_reached(whole.log_values, 0.05)


def test_an_interval_of_a_share_holds_the_share():
    """It narrows with rows, and is everything without any."""
    assert share_interval(np.empty(0), np.empty(0), 0.05) == (0.0, 1.0)
    widths = []
    for n in (20, 200, 2000):
        low, high = share_interval(np.repeat([1.0, 0.0], [n // 10, n - n // 10]), np.ones(n), 0.05)
        assert low < 0.1 < high
        widths.append(high - low)
    assert widths == sorted(widths, reverse=True)
    assert share_interval(np.zeros(100), np.ones(100), 0.05)[0] == 0.0
    assert share_interval(np.ones(100), np.ones(100), 0.05)[1] == 1.0


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 40), max_size=6), st.integers(0, 2**32 - 1))
def test_means_do_not_depend_on_the_blocks(sizes, seed):
    """Rows may come one by one or all at once."""
    values = np.random.default_rng(seed).random((sum(sizes), 3))
    whole, parts = MeanInterval(3, 0.05), MeanInterval(3, 0.05)
    whole.add(values)
    for stop, size in zip(np.cumsum(sizes), sizes, strict=True):
        parts.add(values[stop - size : stop])
    for one, other in zip(whole.interval(), parts.interval(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9)


def test_means_are_inside_their_intervals_at_all_times():
    """In 100 runs of 500 rows, hardly any interval ever misses a mean; and they narrow."""
    rng = np.random.default_rng(0)
    missed = 0
    for _ in range(100):
        interval, is_missed = MeanInterval(2, 0.05), False
        for _ in range(50):
            interval.add(rng.beta(1, 3, (10, 2)))
            _, low, high = interval.interval()
            is_missed |= bool((low > 0.25).any() or (high < 0.25).any())
        missed += is_missed
    assert missed <= 5
    assert (high - low).max() < 0.12
