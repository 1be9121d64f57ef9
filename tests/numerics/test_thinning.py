"""Rows that were drawn unevenly become rows that were drawn evenly."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from llmclf.numerics.thinning import even_prefix, evenly_drawn


def test_every_row_has_the_same_chance() -> None:
    """Drawn with its own probability and then kept or not, each row is left as often as any other."""
    inclusion = np.repeat([0.1, 0.3, 0.9], 20_000)
    drawn = np.flatnonzero(np.random.default_rng(0).random(60_000) < inclusion)
    left = drawn[evenly_drawn(inclusion[drawn], seed=1)]
    counts = np.bincount(left // 20_000)
    assert np.all(np.abs(counts - 2000) < 5 * np.sqrt(2000))


@given(st.lists(st.sampled_from([0.05, 0.2, 0.5, 1.0]), min_size=1, max_size=60), st.integers(0, 99))
def test_rows_of_the_least_probability_stay(values: list[float], seed: int) -> None:
    """They are kept for certain, and a prefix has at least as many rows to expect as any other."""
    inclusion = np.array(values)
    assert evenly_drawn(inclusion, seed)[inclusion == inclusion.min()].all()
    n_rows, kept = even_prefix(inclusion, np.arange(1, len(values) + 1), seed)
    expected = [(inclusion[:r].min() / inclusion[:r]).sum() for r in range(1, len(values) + 1)]
    assert len(kept) == n_rows
    assert expected[n_rows - 1] >= max(expected) - 1e-6
