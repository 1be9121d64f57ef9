"""Every estimate refuses what it cannot use with a message, or gives a finite answer: never numpy's own error, never NaN."""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmclf.errors import EstimationWarning, InputError
from llmclf.estimation import (
    LabelledSample,
    annotator_agreement,
    combine_labels,
    estimate_means,
    estimate_regression,
    estimate_shares,
    next_rows,
    plan_labels,
)

N, LABELLED = 120, 30
RNG = np.random.default_rng(0)
PROBA = RNG.dirichlet([1.0, 1.0, 1.0], N)
ROWS = np.sort(RNG.choice(N, LABELLED, replace=False))
UNLABELLED = np.setdiff1d(np.arange(N), ROWS)
Y = np.arange(LABELLED) % 3
WORDS = np.array(list("abc"))[Y]
X = RNG.normal(size=(N, 2))


def shares(**given):
    return estimate_shares(**{"proba": PROBA, "y": Y, "rows": ROWS, **given})


def means(**given):
    return estimate_means(**{"proba": PROBA, "y": Y, "rows": ROWS, "values": [0.0, 1.0, 2.0], **given})


def regression(**given):
    return estimate_regression(**{"proba": PROBA, "y": Y, "rows": ROWS, "X": X, "event": 1, **given})


def replaced(values, place, value):
    result = list(values)
    result[place] = value
    return result


BAD_SAMPLES = {
    "ragged proba": ({"proba": [[0.5, 0.5, 0.0], [0.1, 0.9]] * 60}, r"proba\[1\] has another length than proba\[0\]"),
    "deeply ragged proba": (
        {"proba": [[0.5, 0.5, 0.0], [0.1, [0.9], 0.0]] * 60},
        "proba holds lists of different lengths",
    ),
    "proba without columns": ({"proba": np.ones((N, 0))}, r"proba is empty, of shape \(120, 0\)"),
    "one column": ({"proba": np.ones((N, 1))}, "proba has 1 column"),
    "no rows": ({"proba": np.ones((0, 3))}, "proba is empty"),
    "complex proba": ({"proba": PROBA.astype(complex)}, "proba holds values of type complex128"),
    "NaN in proba": ({"proba": np.where(np.arange(N)[:, None] == 3, np.nan, PROBA)}, "row 3 of proba holds nan"),
    "infinite proba": ({"proba": np.where(np.arange(N)[:, None] == 3, np.inf, PROBA)}, "row 3 of proba holds inf"),
    "predicted None": ({"proba": ["a", "b", None] * 40, "y": ["a", "b"] * 15}, r"proba\[2\]=None is missing"),
    "predicted NaN": ({"proba": ["a", "b", np.nan] * 40, "y": ["a", "b"] * 15}, r"proba\[2\]=nan is missing"),
    "predicted NaN, array": (
        {"proba": np.array(["a", np.nan] * 60), "y": ["a", "b"] * 15},
        r"proba\[1\]='nan' is missing",
    ),
    "predicted NaN beside classes": (
        {"proba": ["a", "b", np.nan] * 40, "y": ["a", "b"] * 15, "classes": ["a", "b"]},
        r"proba\[2\]=nan is missing",
    ),
    "predicted NaN among numbers": (
        {"proba": np.array([0, 1, np.nan] * 40, dtype=object), "y": [0, 1] * 15},
        r"proba\[2\]=nan is missing",
    ),
    "ragged rows": ({"rows": [[1], [1, 2]]}, r"rows\[1\] has another length than rows\[0\]"),
    "rows of two kinds": ({"rows": [1, [2, 3]]}, r"rows\[1\] has another length than rows\[0\]"),
    "whole floats as rows": ({"rows": ROWS.astype(float)}, r"rows holds values such as \d+\.0; expected whole numbers"),
    "a missing row": ({"rows": replaced(ROWS.tolist(), 4, None)}, "rows holds values such as None"),
    "NA among rows": (
        {"rows": pd.array(replaced(ROWS.tolist(), 4, pd.NA), dtype="Int64")},
        "rows holds values such as",
    ),
    "negative rows": ({"rows": ROWS - N}, r"rows\[0\]=-\d+, and proba has the rows 0 to 119"),
    "rows out of range": ({"rows": ROWS + N}, "labels of other rows say nothing"),
    "a set of rows": ({"rows": set(ROWS.tolist())}, "rows is a set"),
    "rows by name": ({"rows": [f"r{i}" for i in ROWS]}, "rows holds values such as 'r"),
    "no labelled rows": ({"rows": np.zeros(N, dtype=bool), "y": []}, "0 labelled rows"),
    "ragged labels": ({"y": [[1], [1, 2]] * 15}, r"y\[1\] has another length than y\[0\]"),
    "one label for all": ({"y": 1}, r"y has shape \(\)"),
    "mixed labels without classes": ({"y": [1, "b", "c"] * 10}, "cannot be sorted; give the classes"),
    "blank labels": ({"y": ["a", "b", " "] * 10}, r"y\[2\]=' ' is missing"),
    "labels of lists": (
        {"y": pd.Series([["a"], ["b"], ["c"]] * 10), "classes": list("abc")},
        r"y\[0\]=\['a'\] is not one of",
    ),
    "labels by another order": (
        {"y": pd.Series(Y, index=ROWS[::-1])},
        "the index of y holds the places .* in another order",
    ),
    "categories in another order": (
        {"y": pd.Categorical(WORDS, categories=list("cab"))},
        r"categories \['c', 'a', 'b'\]",
    ),
    "classes of one word": ({"y": WORDS, "classes": "abc"}, "classes='abc'; expected a list"),
    "a set of classes": ({"y": WORDS, "classes": {"a", "b", "c"}}, "expected a list of the classes in the order"),
    "ragged classes": ({"y": WORDS, "classes": [["a"], ["b", "c"], "d"]}, r"classes\[0\]=\['a'\] is a list"),
    "unhashable classes": ({"y": WORDS, "classes": [{1}, {2}, {3}]}, r"classes\[0\]=\{1\} is a set"),
    "a missing class": ({"y": ["a", "b"] * 15, "classes": ["a", "b", None]}, r"classes\[2\]=None is missing"),
    "a NaN class": ({"y": ["a", "b"] * 15, "classes": ["a", "b", np.nan]}, r"classes\[2\]=nan is missing"),
    "one number for classes": ({"classes": 3}, "classes=3; expected a list"),
    "ragged inclusion": ({"inclusion": [[0.1], [0.1, 0.2]] * 15}, r"inclusion\[1\] has another length"),
    "inclusion of others": ({"inclusion": np.full(7, 0.2)}, r"inclusion has shape \(7,\)"),
    "complex inclusion": ({"inclusion": np.full(LABELLED, 0.2j)}, "inclusion holds values of type complex128"),
    "ragged weights": ({"weights": [[1], [1, 2]] * 60}, r"weights\[1\] has another length"),
    "weights of dates": (
        {"weights": np.full(N, np.datetime64("2020-01-01"))},
        "weights holds values of type datetime64",
    ),
    "a dict of weights": ({"weights": {0: 1}}, "weights is a dict"),
    "one stratum for all": ({"strata": 1}, "strata=1; expected one group per row"),
    "strata of one word": ({"strata": "a"}, "strata='a'; expected one group per row"),
    "one cluster for all": ({"clusters": 1}, "clusters=1; expected one group per row"),
    "missing strata": ({"strata": [None] * N}, r"strata\[0\]=None is missing"),
    "missing clusters": ({"clusters": pd.array([1, pd.NA] * 60, dtype="Int64")}, r"clusters\[1\]=<NA> is missing"),
    "a level in per cent": ({"confidence_level": 95}, "confidence_level=95; expected a number between 0 and 1"),
    "a word for no": ({"recalibrate": "no"}, "recalibrate='no'; expected True or False"),
}


@pytest.mark.parametrize("estimate", [shares, means, regression])
@pytest.mark.parametrize("name", BAD_SAMPLES)
def test_what_no_estimate_can_use_is_named(estimate, name):
    """The same message from shares, means and regressions."""
    options, message = BAD_SAMPLES[name]
    with pytest.raises(InputError, match=message):
        estimate(**options)


GOOD_SAMPLES = {
    "mixed labels": {"y": [1, "b", "c"] * 10, "classes": [1, "b", "c"]},
    "mixed predictions": {"proba": [1, "b", "c"] * 40, "y": [1, "b", "c"] * 10, "classes": [1, "b", "c"]},
    "whole numbers among objects": {"y": Y.astype(object), "rows": ROWS.astype(object)},
    "truth values among objects": {"rows": np.isin(np.arange(N), ROWS).astype(object)},
    "extension arrays": {
        "y": pd.array(Y, dtype="Int64"),
        "rows": pd.array(np.isin(np.arange(N), ROWS), dtype="boolean"),
    },
    "polars": {"proba": pl.DataFrame(PROBA, schema=list("abc")), "y": pl.Series(WORDS), "rows": pl.Series(ROWS)},
    "a frame with its own index": {"proba": pd.DataFrame(PROBA, index=np.arange(N) + 7)},
    "labels by place": {"y": pd.Series(Y, index=ROWS)},
    "classes read once": {"y": WORDS, "classes": iter("abc")},
    "probabilities of rows that were not drawn": {"inclusion": np.where(np.isin(np.arange(N), ROWS), 0.25, np.nan)},
}


@pytest.mark.parametrize("name", GOOD_SAMPLES)
def test_the_same_sample_in_other_forms_gives_the_same_shares(name):
    """Whatever library the arrays come from."""
    wanted = shares(proba=np.eye(3)[np.arange(N) % 3]) if name == "mixed predictions" else shares()
    found = shares(**GOOD_SAMPLES[name])
    np.testing.assert_allclose(found.overall.share, wanted.overall.share, atol=1e-12)
    np.testing.assert_allclose(found.overall.interval(0.05), wanted.overall.interval(0.05), atol=1e-12)


def test_rows_of_weight_0_count_nowhere():
    """Neither in n, nor in the warnings of few rows and of classes that were never seen, nor in the report of a result."""
    weights = np.ones(N)
    weights[ROWS[5:]] = 0.0
    with pytest.warns(
        EstimationWarning, match="5 labelled rows that count .of weight above 0.; the intervals are wide"
    ):
        sample = LabelledSample.checked(PROBA, Y, ROWS, weights=weights)
    assert sample.n_labelled == 5
    with pytest.warns(EstimationWarning):
        assert means(weights=weights).n_labelled == shares(weights=weights).overall.n_labelled == 5
    weights = np.ones(N)
    weights[ROWS[Y == 2]] = 0.0
    with pytest.warns(EstimationWarning, match="no labelled row that counts .of weight above 0. is 2"):
        shares(weights=weights)
    weights[ROWS[Y == 1]] = 0.0
    with pytest.warns(EstimationWarning, match="all 10 labels that count .of weight above 0. are 0"):
        shares(weights=weights)
    two = np.where(np.isin(np.arange(N), ROWS[2:]), 0.0, 1.0)
    with (
        pytest.raises(InputError, match="2 labelled rows cannot carry 3 coefficients"),
        pytest.warns(EstimationWarning),
    ):
        regression(weights=two)


def test_a_stratum_whose_labelled_rows_have_no_weight_leaves_finite_numbers():
    """Its rows weigh nothing, so nothing has to be known of them."""
    strata = np.arange(N) % 2
    weights = np.where(strata == 0, 1.0, 0.0)
    for found in (means(strata=strata, weights=weights).to_frame()[["mean", "low", "high", "std_error"]],):
        assert np.isfinite(found.to_numpy()).all()
    result = regression(strata=strata, weights=weights)
    assert np.isfinite(result.conf_int().to_numpy()).all()
    assert np.isfinite(shares(strata=strata, weights=weights).to_frame()[["low", "high"]].to_numpy()).all()


@pytest.mark.filterwarnings("ignore::llmclf.errors.EstimationWarning")
@pytest.mark.parametrize("small", [1e-10, 1e-160, 1e-200, 1e-300])
def test_the_unit_of_the_labelled_rows_does_not_matter(small):
    """Weights and probabilities so small that their squares are 0 give the same ends as others in their ratio."""
    wanted = shares().to_frame()[["share", "low", "high", "by_hand_low", "by_hand_high"]].to_numpy()
    weights = np.full(N, small)
    np.testing.assert_allclose(shares(weights=weights).to_frame()[["share", "low", "high"]].to_numpy(), wanted[:, :3])
    found = shares(inclusion=np.full(LABELLED, small)).to_frame()[["by_hand_low", "by_hand_high"]].to_numpy()
    endless = shares(inclusion=np.full(LABELLED, 1e-9)).to_frame()[["by_hand_low", "by_hand_high"]].to_numpy()
    np.testing.assert_allclose(found, endless)


@pytest.mark.filterwarnings("ignore::llmclf.errors.EstimationWarning")
@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(0, 300), min_size=4, max_size=4),
    st.lists(st.floats(0, 300), min_size=4, max_size=4),
    st.sampled_from(["weights", "inclusion", "both"]),
    st.booleans(),
    st.booleans(),
)
def test_no_weights_give_nan(exponents, others, which, is_grouped, is_clustered):
    """However unlike: the ends are numbers around the share, in groups, too."""
    weights = 10.0 ** -np.array(exponents)[np.arange(N) % 4]
    options = {} if which == "inclusion" else {"weights": weights}
    if which != "weights":
        options["inclusion"] = (10.0 ** -np.array(others))[np.arange(LABELLED) % 4]
    if is_clustered:
        options["clusters"] = np.arange(N) // 3
    try:
        found = shares(groups=np.arange(N) % 4 if is_grouped else None, **options)
    except InputError:
        return
    frame = found.group_frame() if is_grouped else found.to_frame()
    assert np.isfinite(frame[["low", "high", "by_hand_low", "by_hand_high"]].to_numpy()).all()
    known = frame[np.isfinite(frame["share"])]
    assert (known["low"] <= known["share"] + 1e-9).all()
    assert (known["share"] <= known["high"] + 1e-9).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"groups": 1}, "groups=1; expected one group per row"),
        ({"groups": "a"}, "groups='a'; expected one group per row"),
        ({"groups": [None] * N}, r"groups\[0\]=None is missing"),
        ({"groups": np.zeros((N, 2))}, "is a list; expected text or a number"),
        ({"simultaneous": "no"}, "simultaneous='no'; expected True or False"),
        ({"n_folds": 1.5}, "n_folds=1.5; expected a whole number"),
        ({"n_folds": 0, "recalibrate": False}, "n_folds=0; expected a whole number"),
    ],
)
def test_what_shares_cannot_use_is_named(options, message):
    """Before anything is computed."""
    with pytest.raises(InputError, match=message):
        shares(**options)


@pytest.mark.filterwarnings("ignore::llmclf.errors.EstimationWarning")
def test_a_thousand_classes_have_intervals():
    """Nine in ten of them were never seen."""
    proba = np.random.default_rng(0).dirichlet(np.ones(1000), 300)
    frame = estimate_shares(proba, np.arange(100) * 7, np.arange(100)).to_frame()
    assert np.isfinite(frame[["share", "low", "high"]].to_numpy()).all()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            [1e308, -1e308, 0.0],
            "reach from -1e.308 to 1e.308, beyond what can be computed with; give them in another unit",
        ),
        ([1e-320, 0.0, 0.0], "give them in another unit"),
        ([10**400, 1, 2], "are not numbers"),
        ([1j, 2, 3], "are not numbers"),
        ({0, 1, 2}, "are not numbers"),
        ([[1], [1, 2], 3], "are not numbers"),
    ],
)
def test_values_beyond_computing_are_refused(values, message):
    """In place of NaN, or of an error of Python."""
    with pytest.raises(InputError, match=message):
        means(values=values)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"X": {"a": [1], "b": [1, 2]}}, "X is a dict that is no table"),
        ({"X": {"a": 1}}, "X is a dict that is no table"),
        ({"X": X * 1e200}, "column 0 of X reaches .*e.200, beyond what can be computed with; give it in another unit"),
        ({"X": X * 1e-200}, "column 0 of X reaches .*e-20., beyond what can be computed with"),
        ({"event": {"a": 1}}, "is not a class"),
        ({"event": [[1]]}, r"\[1\] is not a class"),
        ({"event": [{1}]}, "is not a class"),
        ({"X": None, "event": None, "outcome": "zz"}, "and so does an outcome by name"),
        ({"X": pd.DataFrame(X, columns=["a", "b"]), "formula": "label ~~ a"}, "cannot be read .Operator"),
        ({"X": pd.DataFrame(X, columns=["a", "b"]), "formula": ""}, "expected 'outcome ~ covariates'"),
        ({"intercept": "no"}, "intercept='no'; expected True or False"),
    ],
)
def test_what_a_regression_cannot_use_is_named(options, message):
    """Tables that are none, numbers beyond computing, and formulas; without colours."""
    with pytest.raises(InputError, match=message) as caught:
        regression(**options)
    assert "\x1b" not in str(caught.value)


def test_an_event_may_be_an_array():
    """Like a list."""
    wanted = regression(event=[0, 1]).params
    assert (
        regression(event=np.array([0, 1])).params.tolist()
        == regression(event=range(2)).params.tolist()
        == wanted.tolist()
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"proba": [[0.5, 0.5], [1.0]]}, r"proba\[1\] has another length"),
        ({"proba": ["a"] * N}, r"proba\[0\]='a' is not a number"),
        ({"y": [[1], [1, 2]], "rows": [1, 2]}, r"y\[1\] has another length"),
        ({"y": Y, "rows": [[1], [1, 2]]}, r"rows\[1\] has another length"),
        ({"y": ["a"], "rows": ["b"]}, r"rows=\['b'\]; expected whole numbers"),
        ({"y": Y, "rows": ROWS, "inclusion": [[1], [1, 2]]}, r"inclusion\[1\] has another length"),
        ({"y": Y, "rows": ROWS, "strata": [[1], [1, 2]] * 60}, r"strata\[0\]=\[1\] is a list"),
        ({"y": Y, "rows": ROWS, "strata": [None] * N}, r"strata\[0\]=None is missing"),
        ({"classes": ["a"]}, "got 1 classes for 3 columns"),
        ({"classes": "abc"}, "classes='abc'; expected a list"),
        ({"pos_label": 9}, "pos_label=9 is not one of the classes"),
        ({"pos_label": [1], "classes": list("abc")}, r"pos_label=\[1\] is not one of the classes"),
        ({"random_state": 1.5}, "random_state=1.5; expected a whole number"),
    ],
)
def test_what_rows_cannot_be_drawn_from_is_named(options, message):
    """Probabilities, labels and strata."""
    with pytest.raises(InputError, match=message):
        next_rows(**{"proba": PROBA, "budget": 20, "random_state": 0, **options})


def test_rows_are_drawn_from_any_table():
    """Probabilities among objects, a single labelled row in a mask, and no labelled rows."""
    wanted = next_rows(PROBA, 20, random_state=0)
    assert next_rows(PROBA.astype(object), 20, random_state=0).rows.tolist() == wanted.rows.tolist()
    nobody = next_rows(PROBA, 20, random_state=0, y=[], rows=np.zeros(N, dtype=bool))
    assert nobody.rows.tolist() == wanted.rows.tolist()
    one = next_rows(PROBA, 20, random_state=0, y=[1], rows=np.arange(N) == 3)
    assert one.earlier_rows.tolist() == [3]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("text", "data is a str; expected the table, or its texts, with 120 rows"),
        (3, "data is an int"),
        ({"a": ["x"], "b": [1, 2]}, "data is a dict that is no table"),
        (np.ones((N, 2)), r"data has shape \(120, 2\)"),
        (pd.DataFrame(np.ones((N, 2)), columns=["a", "a"]), "data has two columns 'a'"),
    ],
)
def test_what_is_no_table_is_named(data, message):
    """When a file to annotate is made of it."""
    with pytest.raises(InputError, match=message):
        next_rows(PROBA, 20, random_state=0).to_frame(data)


def test_texts_may_come_in_any_sequence():
    """They are the column text, also of a Series."""
    drawn = next_rows(PROBA, 2, random_state=0)
    texts = [f"t{i}" for i in range(N)]
    for data in (
        texts,
        tuple(texts),
        np.array(texts),
        pd.Series(texts),
        pl.Series(texts),
        pl.DataFrame({"text": texts}),
    ):
        assert drawn.to_frame(data)["text"].tolist() == [texts[row] for row in drawn.rows]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pilot": ([[1], [1, 2]], [0.5, 0.5])}, r"y\[1\] has another length"),
        ({"pilot": ([0, 1] * 30, [[0.5, 0.5], [1.0]])}, r"proba\[1\] has another length"),
        ({"pilot": (["a", "b", np.nan] * 20, np.full((60, 3), 1 / 3))}, r"y\[2\]=nan is missing"),
        ({"n_rows": 5}, "n_rows=5, and the pilot has 60 of the rows"),
        ({"random_state": "a"}, "random_state='a'; expected a whole number"),
    ],
)
def test_what_cannot_be_planned_from_is_named(options, message):
    """Pilots with gaps, and of fewer rows than they have."""
    pilot = (np.arange(60) % 2, np.where(np.arange(60) % 2, 0.8, 0.2))
    with pytest.raises(InputError, match=message):
        plan_labels(**{"half_width": 0.1, "pilot": pilot, "n_worlds": 2, "max_labels": 200, **options})


@pytest.mark.parametrize("of_labels", [annotator_agreement, combine_labels])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": np.array([["a", np.nan], ["b", "b"]])}, "the word 'nan', which numpy makes of NaN"),
        ({"labels": pd.DataFrame([["x", "y"]] * 2, columns=["ann", "ann"])}, "two annotators are called 'ann'"),
        ({"labels": [["a", "b"]] * 3, "classes": ["a", "b", np.nan]}, r"classes\[2\]=nan is missing"),
        ({"labels": [["a", "b"]] * 3, "classes": [["a"], ["b", "c"]]}, r"classes\[0\]=\['a'\] is a list"),
        ({"labels": 3, "rows": [1], "annotators": ["x"]}, "labels=3; expected one judgement per entry"),
        ({"labels": None, "rows": [1], "annotators": ["x"]}, "labels=None; expected one judgement per entry"),
        ({"labels": "ab", "rows": [1, 1], "annotators": ["x", "y"]}, "labels='ab'; expected one judgement per entry"),
        ({"labels": ["a", "b"], "rows": 1, "annotators": ["x", "y"]}, "rows=1; expected one group per row"),
    ],
)
def test_judgements_that_cannot_be_read_are_named(of_labels, options, message):
    """Of both functions."""
    with pytest.raises(InputError, match=message):
        of_labels(**options)


def test_judgements_may_be_read_once():
    """From generators."""
    found = combine_labels(iter("aab"), rows=iter([1, 1, 2]), annotators=iter("xyx"))
    assert found.rows == (1, 2)
    assert found.majority.tolist() == ["a", "b"]


def test_a_seed_that_is_none_is_refused():
    """Everywhere with the same words."""
    for of_labels in (annotator_agreement, combine_labels):
        options = {"ties": "random"} if of_labels is combine_labels else {}
        with pytest.raises(InputError, match="random_state='a'; expected a whole number"):
            of_labels([["a", "b"], ["b", "b"]], random_state="a", **options)
