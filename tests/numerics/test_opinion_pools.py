"""Pools of probabilities: weights that follow the evidence, and no member that can ruin them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmclf.errors import InputError
from llmclf.logits import log_softmax
from llmclf.numerics.opinion_pools import OpinionPool, averaging_weights


def members(seed, n, k, m):
    """Members (m, n, k) of rising skill, and labels (n,)."""
    rng = np.random.default_rng(seed)
    columns = rng.integers(0, k, n)
    skill = np.linspace(0.0, 3.0, m)[:, None, None]
    return log_softmax(rng.normal(size=(m, n, k)) + skill * np.eye(k)[columns]), columns


@given(st.integers(0, 10**6), st.integers(2, 60), st.integers(2, 5), st.integers(1, 5))
@settings(max_examples=50, deadline=None)
def test_weights(seed, n, k, m):
    """Weights are non-negative, those of the linear pool sum to 1, and pooled rows are distributions."""
    logs, columns = members(seed, n, k, m)
    pool = OpinionPool.fit(logs, columns, np.ones(n))
    assert pool.linear.sum() == pytest.approx(1.0)
    assert (pool.linear >= 0).all()
    assert (pool.logarithmic >= 0).all()
    assert 0.0 <= pool.share <= 1.0
    assert np.exp(pool(logs)).sum(axis=1) == pytest.approx(np.ones(n))


@given(st.integers(0, 10**6))
@settings(max_examples=20, deadline=None)
def test_neither_the_order_of_rows_nor_of_members_matters(seed):
    """Rows and members in another order have the same weights."""
    logs, columns = members(seed, 40, 3, 4)
    rows, order = np.random.default_rng(seed).permutation(40), np.random.default_rng(seed + 1).permutation(4)
    pool, other = (
        OpinionPool.fit(logs, columns, np.ones(40)),
        OpinionPool.fit(logs[:, rows], columns[rows], np.ones(40)),
    )
    assert other.linear == pytest.approx(pool.linear, abs=1e-9)
    assert other.logarithmic == pytest.approx(pool.logarithmic, abs=1e-5)
    moved = OpinionPool.fit(logs[order], columns, np.ones(40))
    # The draws of the normal distribution belong to the members' places, so they differ by their noise.
    assert moved.linear == pytest.approx(pool.linear[order], abs=0.05)


def test_a_weight_of_two_is_two_rows():
    """So is a group of two rows with one of weight 2."""
    logs, columns = members(3, 30, 3, 3)
    repeats = np.arange(30) % 2 + 1
    rows = np.repeat(np.arange(30), repeats)
    weighted = OpinionPool.fit(logs, columns, repeats.astype(float))
    repeated = OpinionPool.fit(logs[:, rows], columns[rows], np.ones(len(rows)))
    assert weighted.linear == pytest.approx(repeated.linear, abs=1e-9)
    grouped = averaging_weights(logs[:, np.arange(30), columns].T, repeats.astype(float), np.arange(30))
    copied = averaging_weights(logs[:, rows, columns[rows]].T, np.ones(len(rows)), rows)
    assert grouped == pytest.approx(copied, abs=1e-9)


def test_copies_are_no_more_evidence():
    """Ten copies of each row have the weights of one of each, where the caller says that they belong together."""
    logs, columns = members(0, 20, 3, 3)
    rows = np.repeat(np.arange(20), 10)
    alone = OpinionPool.fit(logs, columns, np.ones(20))
    copied = OpinionPool.fit(logs[:, rows], columns[rows], np.ones(200), rows)
    apart = OpinionPool.fit(logs[:, rows], columns[rows], np.ones(200))
    assert copied.linear == pytest.approx(alone.linear, abs=1e-9)
    assert copied.logarithmic == pytest.approx(alone.logarithmic, abs=1e-5)
    assert copied.share == pytest.approx(alone.share, abs=1e-6)
    assert apart.linear.max() > alone.linear.max()


def test_one_bad_member_does_little_harm():
    """A member that is certain and wrong in half of the rows costs the pool almost nothing."""
    logs, columns = members(5, 200, 3, 3)
    rng = np.random.default_rng(0)
    certain = log_softmax(60.0 * np.eye(3)[np.where(rng.random(200) < 0.5, columns, (columns + 1) % 3)])
    without = OpinionPool.fit(logs, columns, np.ones(200))
    with_it = OpinionPool.fit(np.concatenate([logs, certain[None]]), columns, np.ones(200))
    both = np.concatenate([logs, certain[None]])
    loss = [-pool(some)[np.arange(200), columns].mean() for pool, some in ((without, logs), (with_it, both))]
    assert loss[1] < loss[0] + 0.02


def test_independent_witnesses_are_sharper_together():
    """Two members that know different things: the pool beats both."""
    rng = np.random.default_rng(0)
    columns = rng.integers(0, 2, 2000)
    evidence = 1.5 * (2 * columns - 1)[None] + rng.normal(size=(2, 2000)) * 1.5
    logs = np.stack([log_softmax(np.stack([-one, one], axis=1) * (1.5 / 1.5**2)) for one in evidence])
    pool = OpinionPool.fit(logs[:, :1000], columns[:1000], np.ones(1000))
    test = np.arange(1000, 2000)
    losses = [-one[test, columns[test]].mean() for one in logs]
    assert -pool(logs)[test, columns[test]].mean() < min(losses) - 0.05
    assert pool.share > 0.9


def test_a_prior_decides_where_there_is_no_evidence():
    """Members that say the same keep the weights that they had."""
    same = np.log(np.full((3, 10, 2), 0.5))
    pool = OpinionPool.fit(same, np.zeros(10, dtype=int), np.ones(10), prior=np.array([0.7, 0.2, 0.1]))
    assert pool.linear == pytest.approx([0.7, 0.2, 0.1])


def test_a_discount_counts_rows_for_less():
    """With a discount of n rows, n rows say half as much: what half of the weights would have said."""
    logs, columns = members(3, 40, 3, 4)
    discounted = OpinionPool.fit(logs, columns, np.ones(40), discount=40.0)
    halved = OpinionPool.fit(logs, columns, np.full(40, 0.5))
    plain = OpinionPool.fit(logs, columns, np.ones(40))
    assert discounted.to_dict() == halved.to_dict()
    assert discounted.linear.max() < plain.linear.max()


@pytest.mark.parametrize(
    "values",
    [
        {"linear": [1.0], "logarithmic": [1.0, 2.0], "share": 0.5},
        {"linear": [-1.0], "logarithmic": [1.0], "share": 0.5},
        {"linear": [1.0], "logarithmic": [float("nan")], "share": 0.5},
        {"linear": [1.0], "logarithmic": [1.0], "share": 1.5},
        {"linear": [1.0], "logarithmic": [1.0], "share": float("nan")},
        {"linear": [1.0], "logarithmic": [1.0], "share": True},
        {"linear": [1.0], "logarithmic": [1.0], "share": "0.5"},
        {"linear": [0.5], "logarithmic": [1.0], "share": 0.5},
        {"linear": [0.5, 0.6], "logarithmic": [1.0, 1.0], "share": 0.5},
        {"linear": ["1"], "logarithmic": [1.0], "share": 0.5},
        {"linear": [], "logarithmic": [], "share": 0.5},
        {"linear": [1.0], "logarithmic": [1.0]},
        None,
    ],
)
def test_what_is_no_pool_is_refused(values):
    """Weights that fitting cannot produce."""
    with pytest.raises(InputError, match="no weights of a pool"):
        OpinionPool.from_dict(values)
