"""Features of rows and their scalings: learned from some rows, applied to others, never trusted when read."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from llmclf.errors import InputError
from llmclf.numerics.row_features import DenseFeatures, SparseFeatures, TermCounts, as_features, scaling_from_dict

RNG = np.random.default_rng(0)
DENSE = DenseFeatures(RNG.normal(size=(12, 20)) * [1, 100, 0, 1e-6, *[3] * 16] + 7)
COUNTS = TermCounts([sparse.random_array((12, 30), density=0.3, rng=RNG, data_sampler=lambda size: RNG.integers(1, 4, size))
                     .tocsr() for _ in range(2)])  # fmt: skip
SPARSE = SparseFeatures(sparse.random_array((12, 30), density=0.3, rng=RNG).tocsr())
ALL = {"dense": DENSE, "terms": COUNTS, "sparse": SPARSE}
COLUMNS = np.arange(12) % 2


def table(scaling, features):
    matrix = scaling.matrix(features)
    return matrix.toarray() if sparse.issparse(matrix) else matrix


@pytest.mark.parametrize("name", ALL)
def test_scaled_rows_have_length_one_on_average(name):
    """Whatever the features, inner products are of the order of 1."""
    matrix = table(ALL[name].scaling(COLUMNS, np.ones(12)), ALL[name])
    assert (matrix**2).sum(axis=1).mean() == pytest.approx(1.0, abs=0.3)


@pytest.mark.parametrize("name", ALL)
def test_a_scaling_knows_only_the_rows_that_it_was_learned_from(name):
    """Other rows change nothing in it, and are scaled by it."""
    features = ALL[name]
    some = features.take(np.arange(8)).scaling(COLUMNS[:8], np.ones(8))
    whole = table(some, features)
    assert whole[:8] == pytest.approx(table(some, features.take(np.arange(8))), abs=1e-12)
    assert len(whole) == 12


@pytest.mark.parametrize("name", ALL)
def test_a_weight_of_two_is_two_rows(name):
    """In means, spreads and rarities alike."""
    features, repeats = ALL[name], np.arange(12) % 3 + 1
    rows = np.repeat(np.arange(12), repeats)
    weighted = features.scaling(COLUMNS, repeats.astype(float))
    repeated = features.take(rows).scaling(COLUMNS[rows], np.ones(len(rows)))
    assert table(weighted, features) == pytest.approx(table(repeated, features), abs=1e-9)


@pytest.mark.parametrize("name", ALL)
def test_round_trip(name):
    """A scaling that was read gives the same numbers."""
    scaling = ALL[name].scaling(COLUMNS, np.ones(12))
    assert (table(scaling_from_dict(scaling.to_dict()), ALL[name]) == table(scaling, ALL[name])).all()


def test_a_term_that_no_row_taught_counts_nothing():
    """Unknown words make the known ones of a row no smaller."""
    known = TermCounts([sparse.csr_array([[1, 0, 0], [0, 1, 0]])])
    scaling = known.scaling(np.array([0, 1]), np.ones(2))
    other = TermCounts([sparse.csr_array([[1, 0, 5]])])
    assert table(scaling, other).tolist() == [[1.0, 0.0, 0.0]]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([[1.0], [2.0]], "have 2 rows, and there are 3"),
        ([[1.0], [np.nan], [np.inf]], r"hold 2 values that are NaN or infinite \(first: row 1\)"),
        ([["a"], ["b"], ["c"]], "are no numbers"),
        ([[{}], [1.0], [2.0]], "are no numbers"),
        ([1.0, 2.0, 3.0], r"have shape \(3,\)"),
        (np.zeros((3, 0)), r"have shape \(3, 0\)"),
        (sparse.csr_array([[np.nan], [1.0], [2.0]]), "NaN or infinite"),
    ],
)
def test_what_are_no_features_is_refused(values, message):
    """By the name of the set."""
    with pytest.raises(InputError, match="features 'mine'.*" + message):
        as_features(values, "mine", 3)


@pytest.mark.parametrize(
    "values",
    [
        {"kind": "standardised", "mean": [0.0], "unit": [0.0]},
        {"kind": "standardised", "mean": [0.0, 1.0], "unit": [1.0]},
        {"kind": "standardised", "mean": [float("inf")], "unit": [1.0]},
        {"kind": "term weights", "rarity": []},
        {"kind": "term weights", "rarity": [[-1.0]]},
        {"kind": "common unit", "unit": 0.0, "n_features": 3},
        {"kind": "standardised", "mean": [1e300], "unit": [1e-300]},
        {"kind": "standardised", "mean": ["0"], "unit": [1.0]},
        {"kind": "standardised", "mean": [], "unit": []},
        {"kind": "standardised", "mean": [0.0]},
        {"kind": "standardised", "mean": [0.0], "unit": [1.0], "more": 1},
        {"kind": "term weights", "rarity": [[]]},
        {"kind": "term weights", "rarity": "12"},
        {"kind": "term weights", "rarity": None},
        {"kind": "common unit", "unit": True, "n_features": 3},
        {"kind": "common unit", "unit": 1.0, "n_features": 0},
        {"kind": "common unit", "unit": 1.0, "n_features": 2.0},
        {"kind": "pickle"},
        {"kind": ["standardised"]},
        {},
        None,
        "standardised",
    ],
)
def test_what_fitting_cannot_produce_is_refused(values):
    """A folder may come from anybody."""
    with pytest.raises(InputError, match="fitting cannot produce"):
        scaling_from_dict(values)


@pytest.mark.parametrize("name", ["dense", "sparse"])
def test_another_number_of_features(name):
    """Named with both numbers."""
    scaling = ALL[name].scaling(COLUMNS, np.ones(12))
    other = type(ALL[name])(ALL[name].values[:, :3])
    with pytest.raises(InputError, match="rows have 3 features, and"):
        scaling.matrix(other)
