"""Tests of what every estimate takes: rows, probabilities, and labels of rows drawn with known probabilities."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmclf.errors import EstimationWarning, InputError
from llmclf.estimation import LabelledSample, estimate_means, estimate_regression

N, LABELLED = 200, 40
RNG = np.random.default_rng(0)
PROBA = RNG.dirichlet([1.0, 1.0, 1.0], N)
ROWS = RNG.permutation(N)[:LABELLED]
Y = np.arange(LABELLED) % 3


def sample(proba=PROBA, y=Y, rows=ROWS, **options) -> LabelledSample:
    return LabelledSample.checked(proba, y, rows, **options)


def test_a_simple_random_sample_has_the_textbook_variance():
    """That of a mean drawn without replacement: (1 - n / N) s^2 / n."""
    values = RNG.normal(size=(LABELLED, 2))
    drawn = sample()
    assert drawn.mean(values) == pytest.approx(values.mean(axis=0))
    expected = (1 - LABELLED / N) * values.var(axis=0, ddof=1) / LABELLED
    assert drawn.variance(values) == pytest.approx(expected)
    covariance = (1 - LABELLED / N) * np.cov(values.T) / LABELLED
    contributions = drawn.contributions(values)
    assert contributions.T @ contributions == pytest.approx(covariance)


def test_strata_have_the_textbook_mean_and_variance():
    """Each stratum counts by its size among all rows, and only differences within strata are uncertain."""
    strata = np.where(np.arange(N) < 50, "small", "large")
    rows = np.r_[0:20, 60:80]
    values = RNG.normal(size=(LABELLED, 1)) + 5.0 * (rows < 50)[:, None]
    drawn = sample(rows=rows, strata=strata)
    small, large = values[:20], values[20:]
    assert drawn.mean(values) == pytest.approx(0.25 * small.mean() + 0.75 * large.mean())
    expected = 0.25**2 * (1 - 20 / 50) * small.var(ddof=1) / 20 + 0.75**2 * (1 - 20 / 150) * large.var(ddof=1) / 20
    assert drawn.variance(values) == pytest.approx([expected])
    assert drawn.degrees_of_freedom() == LABELLED - 2


def test_a_table_that_is_labelled_whole_leaves_no_uncertainty():
    """All rows were certain to be drawn, with and without clusters."""
    y, rows = np.arange(N) % 3, np.arange(N)
    for clusters in (None, np.arange(N) // 4):
        drawn = sample(y=y, rows=rows, clusters=clusters)
        assert drawn.variance(drawn.one_hot) == pytest.approx(np.zeros(3))


def test_copies_in_clusters_count_once():
    """Five copies of each row, in a cluster of its own, have the variance of the single rows drawn with replacement."""
    values = RNG.normal(size=(LABELLED, 1))
    copied = np.repeat(PROBA, 5, axis=0)
    rows = np.concatenate([np.arange(5 * row, 5 * row + 5) for row in ROWS])
    drawn = sample(copied, np.repeat(Y, 5), rows, clusters=np.repeat(np.arange(N), 5))
    assert drawn.n_units == LABELLED
    assert drawn.variance(values.repeat(5, axis=0)) == pytest.approx(sample().variance(values))


def test_unequal_probabilities_are_unbiased_and_their_variance_is_true():
    """Over many draws with each row's own probability."""
    rng = np.random.default_rng(1)
    values = rng.random(400)
    pi = 0.05 + 0.3 * values
    means, variances = [], []
    for _ in range(400):
        rows = np.flatnonzero(rng.random(400) < pi)
        drawn = sample(np.full((400, 2), 0.5), rows % 2, rows, inclusion=pi)
        means.append(float(drawn.mean(values[rows])))
        variances.append(float(drawn.variance(values[rows][:, None])[0]))
    error = np.std(means) / np.sqrt(400)
    assert abs(np.mean(means) - values.mean()) < 4 * error + 0.002
    assert np.mean(variances) == pytest.approx(np.var(means), rel=0.25)


def test_groups_share_units():
    """The covariance between the means of two groups is zero without clusters, and not where clusters lie in both."""
    values = RNG.normal(size=(LABELLED, 1))
    first = np.arange(LABELLED) % 2 == 0
    for clusters, is_zero in ((None, True), (np.searchsorted(np.sort(ROWS), np.arange(N)) // 2, False)):
        order = np.argsort(ROWS)
        drawn = sample(y=Y[order], rows=ROWS[order], clusters=clusters)
        a, b = drawn.contributions(values, first), drawn.contributions(values, ~first)
        assert (abs(float((a.T @ b)[0, 0])) < 1e-15) == is_zero


def test_a_group_without_labels_has_no_mean():
    """Nor a variance; nothing is divided by zero."""
    nobody = np.zeros(LABELLED, dtype=bool)
    assert np.isnan(sample().mean(sample().one_hot, nobody)).all()
    assert np.isnan(sample().variance(sample().one_hot, nobody)).all()


def test_weights_are_about_the_target():
    """A row of weight 2 counts twice among all rows and among those labelled; the unit of the weights does not matter."""
    v = np.where(np.arange(N) < 100, 2.0, 1.0)
    drawn = sample(weights=v)
    assert drawn.target_mean(PROBA) == pytest.approx(np.average(PROBA, axis=0, weights=v))
    assert drawn.mean(drawn.one_hot) == pytest.approx(np.average(np.eye(3)[Y], axis=0, weights=v[ROWS]))
    assert sample(weights=1000 * v).variance(drawn.one_hot) == pytest.approx(drawn.variance(drawn.one_hot))


@settings(max_examples=30, deadline=None)
@given(st.permutations(range(LABELLED)))
def test_the_order_of_the_labels_does_not_matter(order):
    """Means and variances stay, and each row its fold."""
    first, second = sample(), sample(y=Y[order], rows=ROWS[order])
    assert second.mean(second.one_hot) == pytest.approx(first.mean(first.one_hot))
    assert second.variance(second.one_hot) == pytest.approx(first.variance(first.one_hot))
    assert second.folds().tolist() == first.folds()[order].tolist()


def test_folds_keep_clusters_whole():
    """No cluster is parted, and the folds are of about one size."""
    drawn = sample(clusters=np.arange(N) // 5)
    folds = drawn.folds(4)
    for unit in range(drawn.n_units):
        assert len(set(folds[drawn.units == unit])) == 1
    assert np.bincount(folds, minlength=4).min() >= 7


def test_predicted_labels_become_columns():
    """A label per row, and a probability of the second class, are read as what they are."""
    drawn = LabelledSample.checked(["b", "a", "b", "c"] * 5, ["a", "b", "c", "b", "a"] * 2, range(10))
    assert drawn.classes.tolist() == ["a", "b", "c"]
    assert drawn.proba[:2].tolist() == [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]
    drawn = LabelledSample.checked([0.25] * 20, [0, 1] * 5, range(10))
    assert drawn.proba[0].tolist() == [0.75, 0.25]
    drawn = LabelledSample.checked(PROBA, list("abc") * 10, np.arange(N) < 30)
    assert drawn.rows.tolist() == list(range(30))
    assert drawn.classes.tolist() == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rows": ROWS + N}, "proba has the rows 0 to 199; labels of other rows"),
        ({"rows": -1 - ROWS}, r"rows\[0\]=-"),
        ({"rows": np.r_[ROWS[:-1], ROWS[0]]}, "occurs 2 times in rows"),
        ({"rows": ROWS.astype(float)}, "expected whole numbers"),
        ({"rows": ROWS[:5]}, r"y has shape \(40,\) for 5 labelled rows"),
        ({"rows": ROWS[:1], "y": Y[:1]}, "1 labelled row; two are the fewest"),
        ({"rows": np.zeros(7, dtype=bool)}, "7 truth values for 200 rows"),
        ({"y": [*Y[:-1], None]}, r"y\[39\]=None is missing"),
        ({"y": np.r_[Y[:-1], np.nan]}, r"y\[39\]=nan is missing"),
        ({"y": Y + 1}, "not a column number"),
        ({"y": ["a", "b"] * 20}, "2 different labels for 3 columns; give the class of each column"),
        ({"proba": PROBA * 0.9}, "sums to 0.9; expected 1"),
        ({"inclusion": np.zeros(LABELLED)}, r"inclusion\[0\]=0; expected above 0"),
        ({"inclusion": np.full(LABELLED, 1.5)}, r"inclusion\[0\]=1.5; expected probabilities of at most 1"),
        ({"inclusion": np.full(N, np.nan)}, "is missing, and the row is labelled"),
        ({"inclusion": np.full(3, 0.2)}, r"inclusion has shape \(3,\)"),
        ({"strata": np.where(np.isin(np.arange(N), ROWS), "a", "b")}, "no row of the strata 'b' is labelled"),
        ({"weights": np.full(N, -1.0)}, r"weights\[0\]=-1.0"),
        ({"weights": np.zeros(N)}, "all weights are 0"),
        ({"weights": np.ones(3)}, "what each row counts, labelled or not"),
        ({"clusters": ["a"] * 3}, "clusters has 3 entries for 200 rows"),
        ({"inclusion": 0.1 + PROBA[:, 0] / 2, "weights": 1 / (0.1 + PROBA[:, 0] / 2)}, "each row would count twice"),
    ],
)
def test_bad_input_is_named(options, message):
    """The value, what was expected and the cure, before anything is computed."""
    with pytest.raises(InputError, match=message):
        sample(**options)


def test_labels_that_are_no_classes_are_named():
    """Of predicted labels, too."""
    with pytest.raises(InputError, match=r"proba holds a label per row, and proba\[1\]='z' is not one of the classes"):
        LabelledSample.checked(["a", "z", "b"] * 5, ["a", "b"] * 5, range(10), classes=["a", "b"])
    with pytest.raises(InputError, match="cannot be sorted together"):
        LabelledSample.checked([1, 2] * 5, ["a", "b"] * 5, range(10))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"y": Y[:9], "rows": ROWS[:9]}, "9 labelled rows; the intervals are wide"),
        ({"y": Y * 0}, "all 40 labels are 0"),
        ({"y": Y % 2}, "no labelled row is 2; the intervals of such classes hold"),
        ({"inclusion": np.full(LABELLED, 0.9)}, "sum to 44.4444, and there are 200 rows"),
        (
            {"inclusion": np.full(LABELLED, 0.2), "weights": np.arange(N) % 2 + 1.0},
            "a labelled row counts weight / inclusion",
        ),
        ({"strata": np.arange(N) == ROWS[0]}, "one row of the strata True is labelled"),
    ],
)
def test_doubtful_input_is_warned_of(options, message):
    """Each warning says what still holds."""
    with pytest.warns(EstimationWarning, match=message):
        sample(**options)


def test_sound_input_is_not_warned_of():
    """Inclusion probabilities of a real draw are no reason for doubt."""
    rng = np.random.default_rng(5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(50):
            pi = 0.02 + 0.4 * rng.random(N) ** 3
            rows = np.flatnonzero(rng.random(N) < pi)
            if len(rows) >= 12:
                sample(y=np.arange(len(rows)) % 3, rows=rows, inclusion=pi)


def small(seed: int = 0):
    """Probabilities of 400 rows, and labels of 60 of them."""
    rng = np.random.default_rng(seed)
    proba = rng.dirichlet([1, 1], 400)
    rows = rng.choice(400, 60, replace=False)
    return proba, (rng.random(60) < proba[rows, 1]).astype(int), rows


@pytest.mark.parametrize("missing", [None, float("nan"), np.nan, pd.NA, pd.NaT])
def test_a_missing_label_is_named_whatever_stands_beside_it(missing):
    """Among words, too, where numpy makes a word of it."""
    proba, y, rows = small()
    for words in (y.tolist(), ["ab"[k] for k in y]):
        words[3] = missing
        for labels in (words, pd.Series(words, dtype=object), np.array(words, dtype=object)):
            with pytest.raises(InputError, match=r"y\[3\]=.* is missing"):
                LabelledSample.checked(proba, labels, rows)


def test_probabilities_in_a_column_of_objects_are_probabilities():
    """As they come from a table with gaps elsewhere; whole numbers and words stay labels."""
    proba, y, rows = small()
    wanted = LabelledSample.checked(proba[:, 1], y, rows)
    found = LabelledSample.checked(pd.Series(proba[:, 1], dtype=object), y, rows)
    np.testing.assert_array_equal(found.proba, wanted.proba)
    labels = pd.Series((proba[:, 1] > 0.5).astype(int).tolist(), dtype=object)
    assert LabelledSample.checked(labels, y, rows).proba.max(axis=1).tolist() == [1.0] * 400


@pytest.mark.parametrize("name", ["weights", "inclusion"])
def test_what_is_no_number_is_named(name):
    """Words, and missing values of pandas."""
    proba, y, rows = small()
    with pytest.raises(InputError, match=rf"{name}\[0\]='x' is not a number"):
        LabelledSample.checked(proba, y, rows, **{name: ["x"] * 400})
    with pytest.raises(InputError, match=rf"{name}\[0\]"):
        LabelledSample.checked(
            proba, y, rows, **{name: [pd.NA, *[0.5] * 399]} if name == "weights" else {name: [pd.NA] * 60}
        )


def test_labelled_rows_without_weight_say_nothing():
    """Neither do those whose weight is nothing beside another's."""
    proba, y, rows = small()
    weights = np.ones(400)
    weights[rows] = 0
    for some in (weights, np.where(np.arange(400) == rows[0], 1e300, 1e-300)):
        with pytest.raises(InputError, match="of the 60 labelled rows have a weight above 0"):
            LabelledSample.checked(proba, y, rows, weights=some)


def test_strata_are_taken_as_they_come():
    """A column of a table, and what can be read once; names in messages are those of the column."""
    proba, y, rows = small()
    strata = np.zeros(400, dtype=int)
    strata[rows[0]] = 1
    for column in (strata, pd.Series(strata), (one for one in strata.tolist())):
        with pytest.warns(EstimationWarning, match="the strata 1 is labelled"):
            LabelledSample.checked(proba, y, rows, strata=column)
    strata[:] = 0
    strata[np.setdiff1d(np.arange(400), rows)[:5]] = 1
    with pytest.raises(InputError, match="no row of the strata 1 is labelled"):
        LabelledSample.checked(proba, y, rows, strata=pd.Series(strata))


def test_weights_that_repeat_inclusion_are_refused_though_rounded():
    """As a file has them."""
    proba, y, rows = small()
    pi = np.linspace(0.1, 0.3, 400)
    with pytest.raises(InputError, match="weights are the inverse of inclusion"):
        LabelledSample.checked(proba, y, rows, inclusion=pi[rows], weights=np.round(1 / pi, 2))


def test_one_cluster_is_too_few_for_means_and_regressions():
    """Nothing shows how clusters differ."""
    proba, y, rows = small()
    with pytest.raises(InputError, match="lie in 1 cluster"):
        estimate_means(proba, y, rows, [0, 1], clusters=[0] * 400)
    with pytest.raises(InputError, match="lie in 1 cluster"):
        estimate_regression(proba, y, rows, np.random.default_rng(0).normal(size=(400, 1)), clusters=[0] * 400)


def test_weights_that_repeat_inclusion_are_refused_beside_rows_that_do_not_count():
    """A weight of 0 says nothing of the others."""
    proba, y, rows = small()
    pi = np.linspace(0.1, 0.3, 400)
    weights = 1 / pi
    weights[rows[0]] = 0.0
    with pytest.raises(InputError, match="weights are the inverse of inclusion"):
        LabelledSample.checked(proba, y, rows, inclusion=pi[rows], weights=weights)
