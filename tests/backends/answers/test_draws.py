"""Bounds from draws hold as often as they claim, whatever decides when to stop."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmclf.backends.answers.draws import share_bounds


def drawn(random, p, n_first, n_most):
    """Counts and draws of one row, by the rule of the route: n_first at a time until the best label is decided."""
    counts, n = np.zeros(len(p), dtype=int), 0
    while n < n_most:
        new = random.multinomial(n_first, [*p, max(0.0, 1.0 - sum(p))])
        counts, n = counts + new[:-1], n + n_first
        if counts.sum() and share_bounds(counts, n).is_decided:
            break
    return counts, n


@pytest.mark.parametrize(
    "p", [(0.5, 0.5), (0.9, 0.1), (0.55, 0.3), (0.98, 0.01, 0.01), (0.3, 0.3, 0.3), (0.12,) * 8], ids=str
)
def test_all_bounds_of_a_row_hold_together(p):
    """At least 95 % of rows, stopped as soon as they are decided, have all their labels between their bounds."""
    random = np.random.default_rng(0)
    held = decided_wrongly = 0
    n_rows = 400
    for _ in range(n_rows):
        counts, n = drawn(random, p, 1, 40)
        if not counts.sum():
            held += 1
            continue
        found = share_bounds(counts, n)
        held += bool(np.all((np.exp(found.lower) <= p) & (p <= np.exp(found.upper))))
        decided_wrongly += found.is_decided and p[int(np.argmax(found.lower))] < max(p)
    assert held >= 0.95 * n_rows
    assert decided_wrongly <= 0.05 * n_rows


@given(st.lists(st.integers(0, 30), min_size=1, max_size=6).filter(any), st.integers(0, 20))
def test_scores_lie_between_their_bounds(counts, n_none):
    """And the labels' probability together is exactly the share of draws that are labels."""
    n = sum(counts) + n_none
    found = share_bounds(counts, n)
    assert np.all(found.lower <= found.logp)
    assert np.all(found.logp <= found.upper)
    assert np.all(found.upper <= 0.0)
    assert np.exp(found.logp).sum() == pytest.approx(sum(counts) / n)
    assert np.all(np.isfinite(found.logp))


def test_more_draws_narrow_the_bounds():
    """A thousand draws leave a few hundredths."""
    found = share_bounds([700, 300], 1000)
    assert np.all(np.exp(found.upper) - np.exp(found.lower) < 0.12)
    few = share_bounds([7, 3], 10)
    assert np.all(np.exp(few.upper) - np.exp(few.lower) > 0.5)
