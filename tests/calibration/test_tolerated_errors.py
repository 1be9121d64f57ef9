"""Tests of the numbers of wrong rows that a threshold tolerates."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from llmclf.calibration.tolerated_errors import local_level, tolerated_errors

CASES = [(59, 0.05, 0.05), (100, 0.05, 0.05), (100, 0.1, 0.05), (300, 0.3, 0.2), (1000, 0.1, 0.01), (400, 0.01, 0.05)]


@pytest.mark.parametrize("case", CASES)
def test_the_chance_that_any_rank_passes(case):
    """Followed rank by rank without cutting anything off, it is at most the level, and most of it is used."""
    n, limit, alpha = case
    tolerated = tolerated_errors(*case)
    chance, passed = np.zeros(n + 2), 0.0
    chance[0] = 1.0
    for rank in range(1, n + 1):
        chance = (1 - limit) * chance + limit * np.concatenate([[0.0], chance[:-1]])
        passed += chance[: tolerated[rank] + 1].sum()
        chance[: tolerated[rank] + 1] = 0.0
    assert 0.6 * alpha < passed <= alpha + 1e-12


@pytest.mark.parametrize("case", CASES)
def test_one_more_at_most(case):
    """From rank to rank the number stays or rises by 1, as the proof of the guarantee needs it."""
    tolerated = tolerated_errors(*case)
    assert (tolerated[0], len(tolerated)) == (-1, case[0] + 1)
    assert set(np.diff(tolerated)) <= {0, 1}
    with pytest.raises(ValueError, match="read-only"):
        tolerated[0] = 3


def test_fewer_rows_than_any_outcome_could_convince_with():
    """Below 59 rows nothing passes at 5 % and 95 %; at 59 all must be right."""
    assert (tolerated_errors(58, 0.05, 0.05) == -1).all()
    assert tolerated_errors(59, 0.05, 0.05)[-2:].tolist() == [-1, 0]


def test_it_is_monte_carlo_in_the_limit():
    """Drawn rows at the limit pass somewhere as often as the recursion says."""
    tolerated = tolerated_errors(200, 0.1, 0.05)
    wrong = np.random.default_rng(0).random((10_000, 200)) < 0.1
    assert (np.cumsum(wrong, axis=1) <= tolerated[1:]).any(axis=1).mean() == pytest.approx(0.047, abs=0.007)


@pytest.mark.parametrize("rate", [0.01, 0.03, 0.05, 0.07, 0.09])
def test_bounds_at_the_local_levels_hold_jointly(rate):
    """Where the error rate is below the limit, the bound at the level of the rank misses it at any rank in 5 % at most."""
    tolerated = tolerated_errors(300, 0.1, 0.05)
    levels = np.array([local_level(tolerated, rank, 0.1) for rank in range(1, 301)])
    wrong = np.random.default_rng(1).random((2000, 300)) < rate
    missed = binom.cdf(np.cumsum(wrong, axis=1), np.arange(1, 301), rate) < levels
    assert missed.any(axis=1).mean() <= 0.05
