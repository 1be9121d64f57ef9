"""Tests of the intervals for counts that need not be whole."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from llmclf.estimation.count_intervals import count_interval
from llmclf.metrics import proportion_interval


def acceptability(x: int, n: int, p: float) -> float:
    """Blaker's definition: the probability of all counts whose smaller tail is at most as probable as that of x."""
    counts = np.arange(n + 1)
    tails = np.minimum(binom.cdf(counts, n, p), binom.sf(counts - 1, n, p))
    return float(binom.pmf(counts, n, p)[tails <= tails[x] * (1 + 1e-9)].sum())


@pytest.mark.parametrize("n", [7, 50, 300])
def test_the_ends_are_those_of_the_definition(n):
    """Just inside an end, a share is kept; just outside, it is not."""
    for x in range(0, n + 1, max(1, n // 9)):
        low, high = (float(end) for end in count_interval(x, n, 0.05))
        for end, outside in ((low, -1), (high, 1)):
            if 0.0 < end < 1.0:
                assert acceptability(x, n, end - outside * 2e-5) > 0.05 - 1e-4
                assert acceptability(x, n, end + outside * 2e-5) <= 0.05 + 1e-4


@pytest.mark.parametrize("n", [50, 100, 300])
@pytest.mark.parametrize("share", [0.01, 0.05, 0.3, 0.5])
def test_the_coverage_is_at_least_what_is_asked_for(n, share):
    """Exactly, by summing over all counts; and it is not far above where counts are not too coarse."""
    low, high = count_interval(np.arange(n + 1), n, 0.05)
    coverage = binom.pmf(np.arange(n + 1), n, share)[(low <= share) & (share <= high)].sum()
    assert 0.95 - 1e-9 <= coverage <= (0.987 if share == 0.01 else 0.98)


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 400), st.floats(0.0, 1.0), st.floats(0.0, 1.0), st.floats(0.01, 0.3))
def test_laws(n, fraction, smoothness, alpha):
    """The interval holds the share, lies within that of Clopper and Pearson, and is mirrored where cases are exchanged."""
    x = fraction * n
    low, high = count_interval(x, n, alpha, smoothness=smoothness)
    assert 0.0 <= low <= x / n + 1e-9
    assert x / n - 1e-9 <= high <= 1.0
    mirrored = count_interval(n - x, n, alpha, smoothness=smoothness)
    assert [1 - float(mirrored[1]), 1 - float(mirrored[0])] == pytest.approx([float(low), float(high)], abs=1e-6)
    whole = round(x)
    exact = proportion_interval(whole, n, confidence_level=1 - alpha)
    low, high = count_interval(whole, n, alpha)
    assert low >= exact[0] - 1e-6
    assert high <= exact[1] + 1e-6


def test_more_rows_make_narrower_intervals():
    """At the same share, whole or not."""
    sizes = np.array([20.0, 41.7, 100.0, 333.3, 5000.0, 1e6])
    low, high = count_interval(0.2 * sizes, sizes, 0.05, smoothness=0.5)
    assert (np.diff(high - low) < 0).all()
    assert high[-1] - low[-1] == pytest.approx(2 * 1.96 * np.sqrt(0.2 * 0.8 / 1e6), rel=0.01)
