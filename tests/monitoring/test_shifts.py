"""Shifts without labels: the rules of the bet are exact, and what has moved is found."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from llmclf.monitoring import DecisionColumns
from llmclf.monitoring.shifts import ShiftTest
from llmclf.monitoring.statistics import STATISTICS, ReferenceBins, Statistic

NUMBER = Statistic("number", "Number", False, lambda rows: rows.label_mass)
CATEGORY = Statistic("category", "Category", True, lambda rows: rows.label_mass)


def rows(values) -> DecisionColumns:
    """Decisions of which only one number matters."""
    n = len(values)
    empty = np.full(n, np.nan)
    return DecisionColumns(
        ("",) * n,
        np.arange(n, dtype=float),
        np.full(n, -1),
        empty[:, None].repeat(2, axis=1),
        np.full(n, -1, dtype=np.int8),
        np.asarray(values, dtype=float),
        np.zeros(n, dtype=bool),
        (None,) * n,
    )


def a_test(reference, statistic=NUMBER, **options) -> ShiftTest:
    return ShiftTest(
        statistic, np.asarray(reference, dtype=float), **{"threshold": 20.0, "min_shift": 0.05, "seed": 0, **options}
    )


@pytest.mark.parametrize("is_category", [False, True])
def test_rows_fall_into_bins_as_the_urn_says(is_category):
    """The first and the second row, among 40 of few different values: each pair of bins is as frequent as it must be."""
    rng = np.random.default_rng(0)
    counts, expected = np.zeros(0), np.zeros(0)
    for seed in range(4000):
        values = rng.choice([0.0, 1.0, 2.0], p=[0.6, 0.3, 0.1], size=42)
        bins = ReferenceBins(values[:40], is_category, np.random.default_rng(seed))
        first, second = bins.bins(values[40:])
        if not len(counts):
            counts, expected = np.zeros(64), np.zeros(64)
        # Sizes of categories differ from draw to draw, so what each draw expects is summed.
        places = bins.sizes.sum()
        for one, size in enumerate(bins.sizes):
            for other, another in enumerate(bins.sizes):
                expected[8 * one + other] += size / places * (another + (one == other)) / (places + 1)
        counts[8 * first + second] += 1
    known = expected > 5
    assert (
        chisquare(
            np.append(counts[known], counts[~known].sum() + 1e-9),
            np.append(expected[known], expected[~known].sum() + 1e-9),
        ).pvalue
        > 1e-3
    )


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 200), max_size=8), st.integers(0, 2**32 - 1), st.booleans())
def test_what_is_found_does_not_depend_on_when_one_looks(sizes, seed, is_category):
    """Rows in any blocks give the same report, bit by bit."""
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 4, sum(sizes)).astype(float)
    reference = rng.integers(0, 3, 100)
    statistic = CATEGORY if is_category else NUMBER
    whole, parts = a_test(reference, statistic), a_test(reference, statistic)
    whole.update(rows(values))
    for stop, size in zip(np.cumsum(sizes), sizes, strict=True):
        parts.update(rows(values[stop - size : stop]))
        parts.to_dict()
    one, other = whole.to_dict(), parts.to_dict()
    assert one.pop("mean") == pytest.approx(other.pop("mean"))
    for found in (one, other):
        found["alarm"] = None if found["alarm"] is None else found["alarm"]["row"]
    assert one == other


@pytest.mark.parametrize(("n_reference", "shift"), [(60, 1.5), (1000, 0.5)])
def test_a_shift_is_found_and_like_rows_are_not(n_reference, shift):
    """Of ten tests of either kind."""
    rng = np.random.default_rng(0)
    false, found = 0, 0
    for _ in range(10):
        like, moved = a_test(rng.normal(size=n_reference)), a_test(rng.normal(size=n_reference))
        like.update(rows(rng.normal(size=3000)))
        moved.update(rows(rng.normal(shift, size=3000)))
        false += like.to_dict()["alarm"] is not None
        found += moved.to_dict()["alarm"] is not None
    assert false == 0
    assert found == 10


def test_a_shift_that_comes_late_is_found():
    """After thousands of rows that were like the certificate's, within some hundreds."""
    rng = np.random.default_rng(0)
    test = a_test(rng.normal(size=500))
    test.update(rows(np.concatenate([rng.normal(size=20_000), rng.normal(0.8, size=2000)])))
    alarm = test.to_dict()["alarm"]
    assert 20_000 < alarm["row"] < 21_000
    assert alarm["time"] == alarm["row"] - 1


def test_a_class_that_no_row_of_the_certificate_has_is_found():
    """One in twenty of the rows is enough."""
    rng = np.random.default_rng(0)
    test = a_test(np.repeat([0, 1], 100), CATEGORY, min_shift=0.02)
    test.update(rows(rng.choice([0, 1, 5], p=[0.475, 0.475, 0.05], size=1500)))
    assert test.to_dict()["alarm"] is not None


def test_a_certain_but_small_shift_raises_no_alarm():
    """Where it moves fewer rows than was asked for."""
    rng = np.random.default_rng(0)
    values = np.concatenate([np.zeros(9000), np.ones(1000)])
    live = rng.permutation(np.concatenate([np.zeros(9300 * 3), np.ones(700 * 3)]))
    strict, lenient = a_test(values, CATEGORY, min_shift=0.0), a_test(values, CATEGORY, min_shift=0.2)
    for test in (strict, lenient):
        test.update(rows(live))
    assert strict.to_dict()["alarm"] is not None
    assert lenient.to_dict()["alarm"] is None
    assert lenient.to_dict()["largest_log_e_value"] > np.log(20)


def test_each_statistic_reads_its_column():
    """Rows without an answer count among the errors alone."""
    columns = DecisionColumns(
        ("a", "b", "c"),
        np.zeros(3),
        np.array([1, 0, -1]),
        np.array([[0.25, 0.75], [0.5, 0.5], [np.nan, np.nan]]),
        np.array([1, 0, -1], dtype=np.int8),
        np.array([0.5, np.nan, np.nan]),
        np.array([False, True, False]),
        (None, None, "RowError"),
    )
    found = {one.name: one.values(columns).tolist() for one in STATISTICS}
    nan = pytest.approx(np.nan, nan_ok=True)
    assert found == {
        "confidence": [0.75, 0.5, nan],
        "classes": [1.0, 0.0, nan],
        "accepted": [1.0, 0.0, nan],
        "label_mass": [0.5, nan, nan],
        "undecided": [0.0, 1.0, nan],
        "errors": [0.0, 0.0, 1.0],
    }
