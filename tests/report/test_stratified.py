"""Tests of parts of the rows against the other rows of the same confidence."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import hypergeom, norm

from llmclf.report.stratified import compare_parts, strata_of


def smallest_p(confidence, right, *partitions, alpha=0.05):
    tests = compare_parts(confidence, right, partitions, alpha=alpha)
    return min(own.p_value for part in tests for own in part if not np.isnan(own.p_value))


def mantel_haenszel(confidence, right, member):
    """The usual p-value, without a correction for continuity, in ten bins of equally many rows."""
    stratum = np.searchsorted(np.quantile(confidence, np.arange(1, 10) / 10), confidence)
    total, n, k = (np.bincount(stratum[rows], minlength=10) for rows in (right >= 0, member, right))
    both = np.bincount(stratum[member & right], minlength=10)
    variance = (n * (total - n) * k * (total - k) / (total**2 * (total - 1))).sum()
    return 2 * norm.sf(abs((both - n * k / total).sum()) / np.sqrt(variance))


@given(st.lists(st.sampled_from([0.5, 0.6, 0.7, 0.7001, 0.99]), min_size=1, max_size=200))
@settings(max_examples=50, deadline=None)
def test_equal_confidences_share_a_stratum(values):
    """Strata are ranges of confidence: they rise with it, and none parts equal rows."""
    confidence = np.array(values)
    members = strata_of(confidence)
    order = np.argsort(confidence)
    assert (np.diff(members[order]) >= 0).all()
    assert all(np.unique(members[confidence == value]).size == 1 for value in values)
    assert np.unique(members).tolist() == list(range(members.max() + 1))


def test_one_stratum_is_fishers_setting():
    """With one confidence, the p-value of two halves is the hypergeometric one: mid-p, as far from the mean or farther."""
    right = np.arange(40) % 4 > 0
    member = np.where(np.arange(40) < 16, 1, 0)
    right[:5] = False
    (first, second), law = (
        compare_parts(np.full(40, 0.8), right, [(member, 2)], alpha=0.05)[0],
        hypergeom(40, int(right.sum()), 16),
    )
    numbers = np.arange(17)
    distance, own = np.abs(numbers - law.mean()), abs(right[:16].sum() - law.mean())
    exact = law.pmf(numbers)[distance > own + 1e-9].sum() + 0.5 * law.pmf(numbers)[np.isclose(distance, own)].sum()
    # Simulated from 9,999 draws; and the smallest of p-values is itself a mid-p-value.
    assert first.p_value == second.p_value == pytest.approx(exact, abs=4 * np.sqrt(exact / 9999))
    assert second.accuracy - second.expected == pytest.approx(right[:16].mean() - right[16:].mean())


def test_the_law_is_that_of_all_rearrangements():
    """In two strata, the surprise at a part is that of every way to deal the right rows of each."""
    confidence = np.repeat([0.6, 0.9], 10)
    right = np.array([1, 0, 0, 1, 0, 0, 0, 1, 1, 0, 1, 1, 1, 1, 1, 1, 0, 1, 1, 0], bool)
    member = (np.arange(20) % 3 == 0).astype(int)
    ways = [
        [
            sum(member[start + i] for i in chosen)
            for chosen in itertools.combinations(range(10), right[start : start + 10].sum())
        ]
        for start in (0, 10)
    ]
    sums = np.add.outer(*ways).ravel()
    distance, own = np.abs(sums - sums.mean()), abs(right[member == 1].sum() - sums.mean())
    exact = (distance > own + 1e-9).mean() + 0.5 * np.isclose(distance, own).mean()
    assert smallest_p(confidence, right, (member, 2)) == pytest.approx(exact, abs=0.02)


def test_many_rows_use_the_normal_law():
    """Where exact distributions end, p-values go on as those of the usual test."""
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.5, 1.0, 12_000)
    member = rng.integers(0, 2, 12_000)
    right = rng.random(12_000) < confidence - 0.02 * member
    assert smallest_p(confidence, right, (member, 2)) == pytest.approx(
        mantel_haenszel(confidence, right, member == 1), rel=0.15
    )


@pytest.mark.parametrize("right", [np.ones(30, bool), np.zeros(30, bool)])
def test_rows_that_are_all_right_or_all_wrong(right):
    """Nothing differs, and chance allows nothing else."""
    for own in compare_parts(np.linspace(0.5, 1, 30), right, [(np.arange(30) % 3, 3)], alpha=0.05)[0]:
        assert own.p_value == 1.0
        assert own.low <= own.accuracy == own.expected <= own.high


def test_parts_that_cannot_be_compared():
    """All rows, rows of other confidences than all others, and no row at all: there is nothing to compare them with."""
    right = np.arange(40) % 2 > 0
    alone = compare_parts(np.full(40, 0.7), right, [(np.zeros(40, int), 2)], alpha=0.05)[0]
    apart = compare_parts(np.repeat([0.6, 0.9], 20), right, [(np.repeat([0, 1], 20), 2)], alpha=0.05)[0]
    assert np.isnan([own.p_value for own in (*alone, *apart)]).all()
    assert np.isnan(alone[1].accuracy)


def test_the_same_question_twice_counts_once():
    """A partition given twice, or under other names, leaves the p-values as they are; other parts raise them."""
    rng = np.random.default_rng(4)
    confidence, member = rng.uniform(0.5, 1, 300), rng.integers(0, 2, 300)
    right = rng.random(300) < confidence - 0.15 * member
    once = smallest_p(confidence, right, (member, 2))
    assert 0.001 < once < 0.05
    assert smallest_p(confidence, right, (member, 2), (1 - member, 2)) == pytest.approx(once, rel=0.3)
    assert smallest_p(confidence, right, (member, 2), (rng.integers(0, 40, 300), 40)) > 5 * once


SETTINGS = {
    "two halves": lambda rng, confidence: (rng.integers(0, 2, confidence.size), 2),
    "five": lambda rng, confidence: (rng.integers(0, 5, confidence.size), 5),
    "one large and two small": lambda rng, confidence: (rng.choice(3, confidence.size, p=[0.9, 0.05, 0.05]), 3),
    "four slices of five rows": lambda rng, confidence: (
        rng.permutation(np.minimum(np.arange(confidence.size) // 5, 4)),
        5,
    ),
    "mostly unsure rows": lambda rng, confidence: (
        (rng.random(confidence.size) < 1 / (1 + np.exp(16 * (confidence - 0.75)))).astype(int),
        2,
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SETTINGS)
def test_size(name):
    """If no part differs, 5 % of 400 data sets find one: between 12 and 31, where chance gives 20 with a deviation of 4.4."""
    rng = np.random.default_rng(2)
    found = 0
    for _ in range(400):
        confidence = rng.uniform(0.5, 1.0, 300)
        right = rng.random(300) < 0.5 + 0.5 * confidence**6
        found += smallest_p(confidence, right, SETTINGS[name](rng, confidence)) < 0.05
    assert 12 <= found <= 31


@pytest.mark.slow
@pytest.mark.parametrize(("n", "share", "drop"), [(300, 0.5, 0.12), (300, 0.1, 0.25)])
def test_power(n, share, drop):
    """A part that is worse is found about as often as by the test of Mantel and Haenszel in ten bins, or more often."""
    rng = np.random.default_rng(3)
    found = []
    for _ in range(300):
        confidence, member = rng.uniform(0.5, 1.0, n), rng.random(n) < share
        right = rng.random(n) < confidence - drop * member
        ours = smallest_p(confidence, right, (member.astype(int), 2))
        found.append((ours < 0.05, mantel_haenszel(confidence, right, member) < 0.05))
    ours, theirs = np.mean(found, axis=0)
    assert ours > 0.5
    assert ours >= theirs - 0.01
