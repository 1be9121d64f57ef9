"""Features of rows and their scalings: learned from some rows, applied to others, never trusted when read."""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
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
        (sparse.csc_array([[0.0, 1.0], [0.0, 0.0], [np.inf, 2.0]]), r"NaN or infinite \(first: row 2\)"),
        (sparse.coo_array([1.0, 2.0, 3.0]), r"have shape \(3,\)"),
        (np.array([["1"], ["2"], ["3"]]), r"are no numbers \(dtype <U1\)"),
        (np.array([["1"], [2], [3]], dtype=object), r"are no numbers \('1' is a str\)"),
        (np.array([[1j], [2], [3]]), r"are no numbers \(dtype complex128\)"),
        (sparse.csr_array([[1j], [2], [3]]), "are no numbers"),
        (np.array([["2026-01-02"]] * 3, dtype="datetime64[D]"), "are no numbers"),
        (pd.DataFrame({"a": [pd.Timestamp(0)] * 3}), "are no numbers"),
        (pd.DataFrame({"a": pd.array([1, None, 2], dtype="Int64")}), r"NaN or infinite \(first: row 1\)"),
        (np.ma.array([[1.0], [2.0], [3.0]], mask=[[0], [0], [1]]), r"NaN or infinite \(first: row 2\)"),
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


NUMBERS = np.array([[1, 0, 3], [0, 0, 120], [0, 5, 0], [7, 0, 0]])
FORMS = {
    **{str(np.dtype(kind)): NUMBERS.astype(kind) for kind in ("f4", "f8", "i1", "u1", "i8", "O")},
    "list": NUMBERS.tolist(),
    "matrix": np.asmatrix(NUMBERS),
    "masked": np.ma.array(NUMBERS, mask=False),
    "pandas": pd.DataFrame(NUMBERS, columns=list("abc"), index=[9, 8, 7, 6]),
    "pandas Int16": pd.DataFrame(NUMBERS, columns=list("abc")).astype("Int16"),
    "pandas object": pd.DataFrame(NUMBERS, columns=list("abc"), dtype=object),
    "pandas sparse": pd.DataFrame(NUMBERS, columns=list("abc")).astype(pd.SparseDtype("int64", 0)),
    "polars": pl.DataFrame(NUMBERS, schema=list("abc")),
    **{name: getattr(sparse, f"{name}_array")(NUMBERS) for name in ("coo", "csc", "csr", "lil", "dok", "bsr")},
    "csr_matrix int8": sparse.csr_matrix(NUMBERS.astype("i1")),
    "coo with a place twice": sparse.coo_array(
        ([1, 2, 1, 120, 5, 7], ([0, 0, 0, 1, 2, 3], [0, 2, 2, 2, 1, 0])), shape=(4, 3)
    ),
}


@pytest.mark.parametrize("then", ["float64", "pandas", "csr", "csr_matrix int8", "int8"])
@pytest.mark.parametrize("now", FORMS)
def test_the_same_numbers_in_another_form(then, now):
    """Dense or sparse, of whatever type and library: what was learned from one form is applied to any."""
    scaling = as_features(FORMS[then], "mine", 4).scaling(COLUMNS[:4], np.ones(4))
    expected = table(scaling, as_features(FORMS[then], "mine", 4))
    assert table(scaling, as_features(FORMS[now], "mine", 4)) == pytest.approx(expected, abs=1e-12)


def test_booleans_are_numbers():
    """Dense and sparse ones are zeros and ones."""
    for values in (NUMBERS > 0, sparse.csr_array(NUMBERS > 0), pd.DataFrame(NUMBERS > 0)):
        features = as_features(values, "mine", 4)
        ones = as_features((NUMBERS > 0).astype(float), "mine", 4)
        scaling = features.scaling(COLUMNS[:4], np.ones(4))
        assert table(scaling, features) == pytest.approx(table(scaling, ones), abs=1e-12)


@pytest.mark.parametrize("kind", ["i1", "u1", "?"])
def test_squares_of_small_types_do_not_overflow(kind):
    """A sparse array's unit is that of the same numbers as 64-bit floats."""
    values = np.where(NUMBERS > 0, 1, 0) if kind == "?" else NUMBERS
    small = as_features(sparse.csr_array(values.astype(kind)), "mine", 4)
    whole = as_features(sparse.csr_array(values.astype(float)), "mine", 4)
    assert small.scaling(COLUMNS[:4], np.ones(4)).unit == whole.scaling(COLUMNS[:4], np.ones(4)).unit


def test_named_columns_stand_in_the_order_of_the_fit():
    """Whatever order they come in."""
    frame = pl.DataFrame(NUMBERS, schema=list("abc"))
    features = as_features(frame, "mine", 4)
    scaling = features.scaling(COLUMNS[:4], np.ones(4))
    turned = as_features(frame[["c", "a", "b"]], "mine", 4)
    assert table(scaling, turned).tolist() == table(scaling, features).tolist()
    assert turned.take(np.arange(2)).names == ("c", "a", "b")


def test_columns_of_other_names_are_refused():
    """As many columns of other names are no features of the fit, as where a table is coded anew for each call."""
    first = as_features(pd.get_dummies(pd.Series(["red", "blue", "red"])), "mine", 3)
    scaling = first.scaling(COLUMNS[:3], np.ones(3))
    for other in (["red", "green", "red"], ["a", "b", "a"]):
        with pytest.raises(InputError, match=r"rows have a feature '(green|a)' where the fit had others"):
            scaling.matrix(as_features(pd.get_dummies(pd.Series(other)), "mine", 3))


@pytest.mark.parametrize("name", ["dense", "sparse"])
def test_another_number_of_features(name):
    """Named with both numbers."""
    scaling = ALL[name].scaling(COLUMNS, np.ones(12))
    other = type(ALL[name])(ALL[name].values[:, :3])
    with pytest.raises(InputError, match="rows have 3 features, and"):
        scaling.matrix(other)
