"""The canary's comparison of scores: what is exact is compared to the last digit, and what is bounded by its bounds."""

from __future__ import annotations

import numpy as np

from llmclf import LLMClassifier
from llmclf.backends import FakeBackend
from llmclf.backends.requests import RowScores
from llmclf.certificates.canary import Asked, chosen_places, kept_answers, make_canary
from llmclf.certificates.content import Canary
from llmclf.tables.rows import read_rows


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


class LikeliestOnly(FakeBackend):
    """Shows the score of the likeliest completion; of the others only that theirs is lower."""

    def score(self, requests):
        for place, answer in super().score(requests):
            sums = [sum(words) for words in answer.token_logprobs]
            lower = tuple(value if value == max(sums) else -np.inf for value in sums)
            upper = tuple(max(sums) for _ in sums)
            yield place, RowScores(answer.token_logprobs, lower, upper)


def test_a_difference_of_bounded_scores_is_told_again():
    """A score minus one that has no lower bound has no upper bound, and the same model is still the same."""
    pipeline = LLMClassifier(LikeliestOnly(), labels=["a", "b"], scoring="pmi").fit(["any text"]).pipeline_
    rows = read_rows([f"text {i}" for i in range(60)])
    known = Asked.of(pipeline, rows)
    assert np.isposinf(known.upper).any()
    written = make_canary(pipeline, rows, known, "texts").model_dump_json()
    canary = Canary.model_validate_json(written)
    again = Asked.of(pipeline, read_rows([row["text"] for row in canary.rows]))
    kept = kept_answers(canary)
    for name in ("scores", "lower", "upper"):
        np.testing.assert_array_equal(getattr(kept, name), getattr(again, name))
    assert kept.distance(again) == (0.0, 0.0)


def test_rows_that_would_be_read_back_otherwise_are_not_kept():
    """Those whose numbers have no sign in the file, or could be two things there."""
    inf, nan = np.inf, np.nan
    cases = [
        ((-1.0, -1.0, -1.0), True),
        ((-1.0, -inf, inf), True),
        ((-inf, -inf, -inf), True),
        ((-inf, -inf, -2.0), True),
        ((-inf, -inf, inf), False),
        ((inf, inf, inf), False),
        ((-1.0, -2.0, nan), False),
        ((nan, nan, nan), False),
    ]
    rows = asked(*(np.array([[one[place], -1.0] for one, _ in cases]) for place in range(3)))
    assert rows.is_kept.tolist() == [kept for _, kept in cases]
    told = rows.take(np.flatnonzero(rows.is_kept))

    def written(values):
        return [[value if np.isfinite(value) else None for value in row] for row in values.tolist()]

    canary = Canary(
        kind="hashes",
        rows=None,
        hashes=["1" * 64] * 4,
        scores=written(told.scores),
        lower=written(told.lower),
        upper=written(told.upper),
        probabilities=told.probabilities.tolist(),
        score_noise=0.0,
        probability_noise=0.0,
    )
    kept = kept_answers(canary)
    for name in ("scores", "lower", "upper"):
        np.testing.assert_array_equal(getattr(kept, name), getattr(told, name))
