"""Tests of the agreement of annotators: published values, other libraries, laws, and what disagreement leaves to reach."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from llmclf.errors import EstimationWarning, InputError
from llmclf.estimation import annotator_agreement
from llmclf.estimation.annotators.agreement import accuracy_ceiling

_ = np.nan
FOUR_OBSERVERS = np.array(  # Krippendorff 2011, "Computing Krippendorff's alpha-reliability", example C
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, _, _, _],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, _, 3],
        [_, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, _],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, _],
    ]
).T
FLEISS = np.array(  # Fleiss 1971, "Measuring nominal scale agreement among many raters", as in its article of Wikipedia
    [
        [0, 0, 0, 0, 14],
        [0, 2, 6, 4, 2],
        [0, 0, 3, 5, 6],
        [0, 3, 9, 2, 0],
        [2, 2, 8, 1, 1],
        [7, 7, 0, 0, 0],
        [3, 2, 6, 3, 0],
        [2, 5, 3, 2, 2],
        [6, 5, 2, 1, 0],
        [0, 2, 2, 3, 7],
    ]
)


def drawn(n_rows: int, n_annotators: int, accuracy: float, seed: int):
    """Labels of annotators who see the truth with a probability, and else guess."""
    rng = np.random.default_rng(seed)
    truth = rng.choice(3, n_rows, p=[0.5, 0.3, 0.2])
    sees = rng.random((n_rows, n_annotators)) < accuracy
    return np.where(sees, truth[:, None], rng.choice(3, (n_rows, n_annotators), p=[0.5, 0.3, 0.2])), truth


@pytest.mark.parametrize(("scale", "alpha"), [("nominal", 0.743421), ("ordinal", 0.815388), ("interval", 0.849107)])
def test_alpha_of_the_published_example(scale, alpha):
    """The values of Krippendorff's paper, to the digits that the library `krippendorff` 0.9.0 gives."""
    found = annotator_agreement(FOUR_OBSERVERS, scale=scale, random_state=0)
    assert found.statistics[f"alpha_{scale}"].value == pytest.approx(alpha, abs=1e-6)
    assert (found.n_rows, found.n_shared) == (12, 11)


def test_fleiss_kappa_of_the_published_example():
    """0.210 for fourteen raters and ten subjects."""
    labels = [np.repeat(np.arange(5), line).tolist() for line in FLEISS]
    found = annotator_agreement(labels, n_resamples=10)
    assert found.statistics["fleiss_kappa"].value == pytest.approx(0.2099, abs=5e-5)
    assert found.statistics["agreement"].value == pytest.approx(0.378, abs=5e-4)


@given(seed=st.integers(0, 10**6), n_classes=st.integers(2, 5))
@settings(max_examples=20, deadline=None)
def test_cohens_kappa_is_that_of_scikit_learn(seed, n_classes):
    """For any two annotators, also where they left rows out."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, n_classes, (30, 2)).astype(float)
    labels[rng.random(30) < 0.5, 1] = labels[0, 0]
    labels[:2] = [[0, 1], [1, 0]]
    both = rng.random(30) < 0.8
    both[:2] = True
    labels[~both, 1] = np.nan
    found = annotator_agreement(labels, n_resamples=10)
    kappa = cohen_kappa_score(labels[both, 0], labels[both, 1])
    assert found.statistics["cohen_kappa"].value == pytest.approx(kappa, abs=1e-10)
    assert found.pairs[0, 1][1].value == found.statistics["cohen_kappa"].value


@given(seed=st.integers(0, 10**6))
@settings(max_examples=15, deadline=None)
def test_the_order_of_rows_and_annotators_does_not_matter(seed):
    """The statistics stay, and so do the names of the classes."""
    labels, _ = drawn(40, 3, 0.6, seed)
    rng = np.random.default_rng(seed)
    moved = labels[rng.permutation(40)][:, rng.permutation(3)]
    first, second = (
        annotator_agreement(x, scale="ordinal", n_resamples=10, random_state=0).statistics for x in (labels, moved)
    )
    for name, found in first.items():
        assert second[name].value == pytest.approx(found.value, abs=1e-10), name


def test_ranks_matter_on_the_ordinal_scale_alone():
    """Numbers whose order is the same give the same ordinal alpha, and another one of intervals."""
    first, second = (
        annotator_agreement(np.array(values)[labels], scale=scale, n_resamples=10).statistics[f"alpha_{scale}"].value
        for labels, _ in [drawn(60, 2, 0.6, 1)]
        for scale in ("ordinal",)
        for values in ([1, 2, 3], [1, 2, 30])
    )
    assert first == pytest.approx(second, abs=1e-12)
    near = annotator_agreement(drawn(60, 2, 0.6, 1)[0], scale="interval", n_resamples=10)
    assert near.statistics["alpha_interval"].value != pytest.approx(first, abs=1e-3)


def test_rows_without_a_disagreement_do_not_prove_that_there_is_none():
    """Thirty such rows give the exact lower end of Clopper and Pearson for the agreement, and no width of 0 for kappa."""
    found = annotator_agreement([["a", "a"], ["b", "b"]] * 15, n_resamples=4000, random_state=0).statistics
    assert found["agreement"].low == pytest.approx(0.025 ** (1 / 30), abs=2e-3)
    for name in ("cohen_kappa", "fleiss_kappa", "alpha_nominal"):
        assert found[name].value == pytest.approx(1.0, abs=1e-9)
        assert 0.6 < found[name].low < 0.9


def test_one_label_alone_leaves_kappa_undefined():
    """With a warning; the agreement itself is known."""
    with pytest.warns(EstimationWarning, match="kappa and alpha compare with chance"):
        found = annotator_agreement([["a", "a"]] * 20, n_resamples=100)
    assert math.isnan(found.statistics["alpha_nominal"].value)
    assert math.isnan(found.statistics["cohen_kappa"].low)
    assert found.statistics["agreement"].value == 1.0
    assert "undefined" in str(found)


def test_intervals_hold():
    """In sixty draws of forty rows, intervals of 90 % miss the value of the population in few, and they are not idle."""
    truth = annotator_agreement(drawn(200_000, 3, 0.7, 0)[0], n_resamples=1).statistics
    missed, width = dict.fromkeys(truth, 0), 0.0
    for seed in range(60):
        labels, _ = drawn(40, 3, 0.7, seed + 1)
        found = annotator_agreement(labels, n_resamples=200, confidence_level=0.9, random_state=seed).statistics
        for name, value in truth.items():
            missed[name] += not found[name].low <= value.value <= found[name].high
        width += (found["alpha_nominal"].high - found["alpha_nominal"].low) / 60
    assert max(missed.values()) <= 13
    assert width < 0.4


def test_copies_in_groups_count_once():
    """Five copies of each row, in groups, give intervals about as wide as the rows alone do."""
    labels, _ = drawn(40, 2, 0.7, 3)
    alone = annotator_agreement(labels, random_state=0).statistics
    grouped = annotator_agreement(labels.repeat(5, axis=0), groups=np.arange(40).repeat(5), random_state=0).statistics
    copied = annotator_agreement(labels.repeat(5, axis=0), random_state=0).statistics
    for name in ("agreement", "cohen_kappa", "fleiss_kappa", "annotator_accuracy"):
        width = alone[name].high - alone[name].low
        assert grouped[name].value == pytest.approx(alone[name].value)
        assert grouped[name].high - grouped[name].low == pytest.approx(width, rel=0.12)
        assert copied[name].high - copied[name].low < 0.6 * width


@given(
    st.lists(st.floats(0.01, 1.0), min_size=2, max_size=6),
    st.lists(st.floats(0.01, 1.0), min_size=2, max_size=6),
    st.floats(0, 1),
)
def test_no_classifier_exceeds_the_ceiling(first, second, mix):
    """Whatever the probabilities of two kinds of rows, the best answers are right at most as often as the agreement allows."""
    n_classes = min(len(first), len(second))
    kinds = [np.array(q[:n_classes]) / sum(q[:n_classes]) for q in (first, second)]
    agreement = sum(share * float(q @ q) for share, q in zip((mix, 1 - mix), kinds, strict=True))
    best = sum(share * float(q.max()) for share, q in zip((mix, 1 - mix), kinds, strict=True))
    assert best <= accuracy_ceiling(agreement, n_classes) + 1e-9


def test_the_majority_of_many_others_is_near_what_can_be_reached():
    """With nine annotators it finds the truth, and agrees with one of them as often as the truth does."""
    labels, truth = drawn(4000, 9, 0.7, 5)
    found = annotator_agreement(labels, n_resamples=200, random_state=0)
    reached = float((labels == truth[:, None]).mean())
    assert found.statistics["annotator_accuracy"].value == pytest.approx(reached, abs=0.01)
    assert reached < found.statistics["accuracy_ceiling"].value
    frame = found.to_frame("annotators")
    assert frame["n_rows"].tolist() == [4000] * 9
    assert ((frame["low"] < reached) & (reached < frame["high"])).sum() >= 7
    assert len(found.to_frame("pairs")) == 36


def test_what_says_nothing_about_agreement_is_refused():
    """Rows with one judgement each, ranks without an order, numbers that are words, a row in two groups."""
    with pytest.raises(InputError, match="none of the 2 rows has two judgements"):
        annotator_agreement([["a", None], [None, "b"]])
    with pytest.raises(InputError, match="needs the order of the classes"):
        annotator_agreement([["low", "high"]], scale="ordinal")
    with pytest.raises(InputError, match="labels that are numbers"):
        annotator_agreement([["low", "high"]], scale="interval")
    long = {"rows": [1, 1, 2, 2], "annotators": ["x", "y", "x", "y"]}
    with pytest.raises(InputError, match="row 1 belongs to two groups"):
        annotator_agreement(["a", "b", "a", "b"], groups=["u", "v", "w", "w"], **long)
    found = annotator_agreement(["a", "b", "a", "a"], groups=["u", "u", "w", "w"], n_resamples=50, **long)
    assert found.statistics["agreement"].value == 0.5
