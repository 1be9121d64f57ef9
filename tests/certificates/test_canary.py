"""The canary's comparison of scores: what is exact is compared to the last digit, and what is bounded by its bounds."""

from __future__ import annotations

import numpy as np

from llmclf.certificates.canary import Asked, chosen_places


def asked(scores, lower=None, upper=None, probabilities=None) -> Asked:
    """Answers about rows of two classes."""
    values = np.array(scores, dtype=float)
    proba = np.full(values.shape, 0.5) if probabilities is None else np.array(probabilities, dtype=float)
    return Asked(values, proba, *(values if one is None else np.array(one, dtype=float) for one in (lower, upper)))


def test_exact_scores_are_compared():
    """The largest difference of all rows and classes counts."""
    one, other = asked([[-1.0, -2.0], [-3.0, -np.inf]]), asked([[-1.0, -2.5], [-3.0, -np.inf]])
    assert one.distance(one) == (0.0, 0.0)
    assert one.distance(other) == other.distance(one) == (0.5, 0.0)


def test_bounds_that_overlap_do_not_differ():
    """Whatever stands between them; where they lie apart, the gap counts."""
    kept = asked([[-1.0, -5.7]], [[-1.0, -np.inf]], [[-1.0, -5.0]], [[0.9, 0.1]])
    near = asked([[-1.0, -6.3]], [[-1.0, -7.0]], [[-1.0, -6.0]], [[0.95, 0.05]])
    far = asked([[-1.0, -4.0]], [[-1.0, -4.5]], [[-1.0, -3.5]], [[0.8, 0.2]])
    exact = asked([[-1.0, -4.0]], probabilities=[[0.8, 0.2]])
    assert kept.distance(near) == near.distance(kept) == (0.0, 0.0)
    assert kept.distance(far) == far.distance(kept) == (0.5, 0.0)
    assert kept.distance(exact) == (1.0, 0.0)


def test_a_score_that_is_exact_counts_in_a_row_with_bounds():
    """Only the other one is known by bounds alone."""
    kept = asked([[-1.0, -5.7]], [[-1.0, -np.inf]], [[-1.0, -5.0]])
    moved = asked([[-1.2, -5.7]], [[-1.2, -np.inf]], [[-1.2, -5.0]])
    assert kept.distance(moved)[0] == np.float64(-1.0) - np.float64(-1.2)


def test_a_row_that_cannot_be_scored_any_more_differs():
    """With bounds or without."""
    kept = asked([[-1.0, -5.7]], [[-1.0, -np.inf]], [[-1.0, -5.0]])
    gone = asked([[np.nan, np.nan]], probabilities=[[np.nan, np.nan]])
    for one, other in ((kept, gone), (gone, kept)):
        assert one.distance(other) == (np.inf, np.inf)
    assert gone.distance(gone) == (0.0, 0.0)


def test_rows_with_exact_scores_are_chosen_first():
    """Different ones, by their hashes, and those with bounds only where others are too few."""
    hashes = [f"{100 - i:03d}" for i in range(100)] + ["001"]
    is_bounded = np.arange(101) < 60
    places = chosen_places(hashes, np.ones(101, dtype=bool), is_bounded)
    assert len(places) == 50
    assert not is_bounded[places[:40]].any()
    assert is_bounded[places[40:]].all()
