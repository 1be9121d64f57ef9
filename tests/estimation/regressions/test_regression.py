"""Regressions with a label that people gave to some rows and a model to all."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
from estimation.regression_data import gold_rows, labelled_rows
from hypothesis import given, settings
from hypothesis import strategies as st

from llmclf.errors import EstimationWarning, InputError
from llmclf.estimation import estimate_regression
from llmclf.estimation.regressions.fit import Fit, with_unseen_errors


@pytest.fixture(scope="module")
def data():
    return labelled_rows()


def test_a_matrix_a_frame_and_a_formula_agree(data):
    """The same covariates in four forms give the same coefficients."""
    given = data.proba, data.y, data.rows
    frame = pd.DataFrame(data.X)
    by_frame = estimate_regression(*given, frame)
    assert list(by_frame.params.index) == ["Intercept", "age", "north"]
    for other in (
        estimate_regression(*given, data.matrix[:, 1:]),
        estimate_regression(*given, data.matrix, intercept=False),
        estimate_regression(*given, pl.DataFrame(data.X)),
        estimate_regression(*given, frame, formula="label ~ age + north"),
    ):
        np.testing.assert_allclose(other.params, by_frame.params.to_numpy())
        np.testing.assert_allclose(other.cov_params(), by_frame.cov_params().to_numpy())


def test_a_label_as_covariate_agrees_between_matrix_and_formula(data):
    """The columns of its classes, compared with a reference."""
    table = pd.DataFrame({**data.X, "shares": data.shares})
    given = data.proba, data.y, data.rows
    by_matrix = estimate_regression(*given, table, outcome="shares")
    by_formula = estimate_regression(*given, table, formula="shares ~ label + age + north")
    assert list(by_matrix.params.index) == ["Intercept", "label[T.1]", "age", "north"] == list(by_formula.params.index)
    np.testing.assert_allclose(by_matrix.params, by_formula.params)
    np.testing.assert_allclose(by_matrix.bse, by_formula.bse)
    turned = estimate_regression(*given, table, formula="shares ~ label + age + north", reference=1)
    assert turned.params["label[T.0]"] == pytest.approx(-by_matrix.params["label[T.1]"])
    as_number = estimate_regression(*given, table, outcome="shares", event=1)
    assert as_number.params["label"] == pytest.approx(by_matrix.params["label[T.1]"])


def test_an_interaction_with_the_label(data):
    """Its columns are the covariate where the label is of the class; right predictions give the regression on all rows."""
    table = pd.DataFrame({**data.X, "shares": data.shares})
    certain = np.column_stack([1 - data.label, data.label])
    result = estimate_regression(certain, data.y, data.rows, table, formula="shares ~ label * north", tuning=1.0)
    X = np.column_stack([np.ones(len(table)), data.label, table.north, data.label * table.north])
    expected = np.linalg.lstsq(X, data.shares)[0]
    assert list(result.params.index) == ["Intercept", "label[T.1]", "north", "label[T.1]:north"]
    # The calibrators keep a little doubt, and the labels correct it.
    np.testing.assert_allclose(result.params, expected, atol=0.05)


def test_useless_predictions_cost_next_to_nothing_and_good_ones_help():
    """The standard error is at most 5 % above that of the hand labels; with good predictions it is far below."""
    useless, good = (labelled_rows(seed=3, signal=signal) for signal in (0.0, 3.0))
    without = estimate_regression(useless.proba, useless.y, useless.rows, useless.X)
    assert (without.bse / without.by_hand.bse < 1.05).all()
    result = estimate_regression(good.proba, good.y, good.rows, good.X)
    assert (result.bse / result.by_hand.bse < 0.8).all()
    assert (result.worth > 1.5 * len(good.y)).all()
    assert (result.tuning > 0.5).all()


def test_naive_labels_bias_the_coefficients_and_the_estimate_does_not():
    """Where errors depend on a covariate, predicted labels say the opposite of the truth, and hand labels correct it."""
    data = labelled_rows(n_rows=4000, n_labelled=400, seed=1)
    shifted = np.log(data.proba[:, 1] / data.proba[:, 0]) + 3 * (data.X["north"] - 0.4)
    p = 1 / (1 + np.exp(-shifted))
    result = estimate_regression(p, data.y, data.rows, data.X)
    truth = np.linalg.lstsq(data.matrix, data.label)[0][2]
    low, high = result.conf_int().loc["north"]
    assert low < truth < high
    assert result.naive.conf_int().loc["north", 0] > truth


@pytest.mark.parametrize("model", ["linear", "logistic"])
@pytest.mark.parametrize("role", ["outcome", "covariate"])
def test_intervals_cover(role, model):
    """In forty samples of 60 labels, at least 85 % of the intervals of each coefficient hold the value of all rows."""
    inside = []
    for seed in range(40):
        data = labelled_rows(n_rows=400, n_labelled=60, seed=seed)
        outcome = None if role == "outcome" else data.shares if model == "linear" else data.clicked
        X = data.matrix[:, 1:] * [0.1, 1.0]
        result = estimate_regression(data.proba, data.y, data.rows, X, outcome=outcome, model=model, target="rows")
        everything = np.arange(400)
        truth = estimate_regression(
            data.proba, data.label, everything, X, outcome=outcome, model=model, tuning=0.0
        ).params
        ends = result.conf_int()
        inside.append((ends[0] <= truth) & (truth <= ends[1]))
    assert (np.mean(inside, axis=0) >= 0.85).all()


def test_the_result_speaks_statsmodels(data):
    """Names, indices and relations are those of statsmodels' results."""
    result = estimate_regression(data.proba, data.y, data.rows, data.X, model="logistic")
    np.testing.assert_allclose(result.tvalues, result.params / result.bse)
    np.testing.assert_allclose(result.bse**2, np.diag(result.cov_params()))
    ends, wider = result.conf_int(), result.conf_int(alpha=0.01)
    assert list(ends.columns) == [0, 1]
    assert (wider[0] < ends[0]).all()
    assert (wider[1] > ends[1]).all()
    assert ((result.pvalues < 0.05) == ((ends[0] > 0) | (ends[1] < 0))).all()
    assert result.nobs == 1500
    assert result.n_labelled == 150


def test_the_frame_and_the_text_show_what_else_one_might_report(data):
    """By hand alone and naive stand beside every coefficient."""
    result = estimate_regression(data.proba, data.y, data.rows, data.X)
    frame = result.to_frame()
    assert frame.term.tolist() == ["Intercept", "age", "north"]
    np.testing.assert_allclose(frame.by_hand, result.by_hand.params)
    np.testing.assert_allclose(frame.naive, result.naive.params)
    assert (frame.low < frame.estimate).all()
    assert (frame.estimate < frame.high).all()
    text = str(result.summary())
    assert "Linear regression of label on 1,500 rows, 150 of them labelled by hand" in text
    assert all(word in text for word in ("by hand", "naive", "worth", "age", "north"))
    assert repr(result.summary()) == text == str(result)
    assert "linear regression of label on 3 columns" in repr(result)


def test_by_hand_alone_is_the_regression_on_the_labelled_rows(data):
    """And tuning=0 is the same."""
    result = estimate_regression(data.proba, data.y, data.rows, data.X, tuning=0.0)
    expected = np.linalg.lstsq(data.matrix[data.rows], data.y)[0]
    np.testing.assert_allclose(result.by_hand.params, expected)
    np.testing.assert_allclose(result.params, expected)
    np.testing.assert_allclose(result.bse, result.by_hand.bse)


def test_a_logistic_regression_without_bias_reduction_is_maximum_likelihood(data):
    """The score of the labelled rows is zero; with bias reduction the coefficients are nearer to zero."""
    given = data.proba, data.y, data.rows, data.X
    plain = estimate_regression(*given, model="logistic", bias_reduction=False).by_hand.params
    X = data.matrix[data.rows]
    np.testing.assert_allclose(X.T @ (data.y - 1 / (1 + np.exp(-X @ plain))) / 150, 0, atol=1e-8)
    reduced = estimate_regression(*given, model="logistic").by_hand.params
    assert abs(reduced["age"]) < abs(plain["age"])


@settings(max_examples=10)
@given(st.floats(0.01, 1000), st.floats(-100, 100))
def test_units_of_a_covariate_do_not_matter(scale, shift):
    """A covariate in other units has a coefficient in these units, and the same t value."""
    data = labelled_rows(n_rows=300, n_labelled=60)
    X = data.matrix[:, 1:] - [50, 0]
    plain = estimate_regression(data.proba, data.y, data.rows, X)
    moved = estimate_regression(data.proba, data.y, data.rows, X * [scale, 1] + [shift, 0])
    assert moved.params["x0"] * scale == pytest.approx(plain.params["x0"], rel=1e-5)
    assert moved.tvalues["x0"] == pytest.approx(plain.tvalues["x0"], rel=1e-5)


def test_unequal_inclusion_weights_the_labelled_rows(data):
    """The regression by hand weighs each row by the inverse of its inclusion probability."""
    inclusion = np.where(data.X["north"] == 1, 0.15, 0.07)
    result = estimate_regression(data.proba, data.y, data.rows, data.X, inclusion=inclusion)
    root = np.sqrt(1 / inclusion[data.rows])
    expected = np.linalg.lstsq(data.matrix[data.rows] * root[:, None], data.y * root)[0]
    np.testing.assert_allclose(result.by_hand.params, expected)


def test_clusters_widen_the_errors_of_what_is_alike_within_them():
    """Labels that are the same within a cluster count once."""
    data = labelled_rows(n_rows=600, n_labelled=150)
    clusters = np.arange(600) // 10
    label = data.label[clusters * 10]
    north = data.X["north"][clusters * 10]
    rows = np.flatnonzero(clusters % 4 == 0)
    p = np.where(label == 1, 0.7, 0.3)
    alone = estimate_regression(p, label[rows], rows, north)
    together = estimate_regression(p, label[rows], rows, north, clusters=clusters)
    assert (together.by_hand.bse > 2 * alone.by_hand.bse).all()
    assert (together.by_hand.df < 18).all()  # there are 15 clusters


def test_strata_take_the_differences_between_them_out():
    """Where each stratum was drawn from on its own, a mean that differs between them is surer."""
    data = labelled_rows(n_rows=1000, n_labelled=100)
    stratum = data.label  # an extreme case: the strata tell the label
    rows = np.concatenate([np.flatnonzero(stratum == k)[:50] for k in (0, 1)])
    useless = np.full(1000, 0.5)
    plain = estimate_regression(useless, data.label[rows], rows, target="rows")
    parted = estimate_regression(useless, data.label[rows], rows, strata=stratum, target="rows")
    assert parted.bse["Intercept"] < 1e-6 < plain.bse["Intercept"]
    assert parted.params["Intercept"] == pytest.approx(data.label.mean())


def test_the_rows_as_target_are_surer_than_a_population(data):
    """Labels of a tenth of the rows leave nine tenths of the variance of the draw."""
    population = estimate_regression(data.proba, data.y, data.rows, data.X)
    rows = estimate_regression(data.proba, data.y, data.rows, data.X, target="rows")
    assert (rows.bse < population.bse).all()
    np.testing.assert_allclose(rows.params, population.params)


def test_a_score_of_several_classes_as_outcome():
    """values= makes a number of each class, and event= the frequency of one."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=1200)
    code = np.clip(np.round(1 + 0.5 * x + rng.normal(0, 0.7, 1200)), 0, 2).astype(int)
    classes = np.array(["bad", "fair", "good"])
    proba = 0.7 * np.eye(3)[code] + 0.1
    rows = np.arange(0, 1200, 10)
    y = classes[code[rows]]
    score = estimate_regression(
        proba, y, rows, x, values={"bad": -1, "fair": 0, "good": 1}, classes=classes, tuning=1.0
    )
    expected = np.polyfit(x, code - 1.0, 1)
    assert score.params["x0"] == pytest.approx(expected[0], abs=0.03)
    event = estimate_regression(proba, y, rows, x, event=["fair", "good"], classes=classes, model="logistic")
    assert event.params["x0"] > 0
    covariate = estimate_regression(proba, y, rows, None, outcome=x, classes=classes)
    assert list(covariate.params.index) == ["Intercept", "label[T.fair]", "label[T.good]"]
    with pytest.raises(InputError, match="3 classes, and an outcome is a number; give event=CLASS"):
        estimate_regression(proba, y, rows, x, classes=classes)


def test_separated_labels_are_warned_of():
    """A covariate that tells the labels apart has a finite coefficient, with a warning; maximum likelihood has none."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=500)
    rows = np.arange(40)
    y = (x[rows] > 0).astype(int)
    p = np.full(500, 0.5)
    with pytest.warns(EstimationWarning, match="separate the labelled rows"):
        result = estimate_regression(p, y, rows, x, model="logistic")
    assert np.isfinite(result.params).all()
    with pytest.warns(EstimationWarning, match="separate"), pytest.raises(InputError, match="bias_reduction=True"):
        estimate_regression(p, y, rows, x, model="logistic", bias_reduction=False)


def test_labels_that_are_all_equal_are_warned_of():
    """The outcome of all labelled rows is 0: what follows rests on the bias reduction."""
    data = labelled_rows(n_rows=400, n_labelled=40)
    rows = np.flatnonzero(data.label == 0)[:30]
    with (
        pytest.warns(EstimationWarning, match="the outcome is 0 in all labelled rows"),
        pytest.warns(EstimationWarning, match="all 30 labels are 0"),
    ):
        estimate_regression(data.proba, data.label[rows], rows, data.X, model="logistic")


def test_a_coefficient_of_few_labels_is_warned_of(data):
    """A category with two labelled rows."""
    rare = np.zeros(1500)
    rare[data.rows[:2]] = 1
    rare[np.setdiff1d(np.arange(1500), data.rows)[:20]] = 1
    with pytest.warns(EstimationWarning, match="'rare' rest on very few labelled rows"):
        estimate_regression(data.proba, data.y, data.rows, {"rare": rare})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"X": {"age": np.ones(1500)}}, "the column 'age' is a combination of the columns before it"),
        ({"X": {"age": np.ones(7)}}, "X has 7 rows and proba 1500"),
        ({"X": np.ones((1500, 2, 2))}, r"X has shape \(1500, 2, 2\)"),
        ({"X": {"age": ["old"] * 1500}}, r"column 'age' of X holds a str, such as 'old'.*C\(age\)"),
        ({"X": np.full((1500, 1), np.inf)}, "column 0 of X is infinite in row 0"),
        ({"X": {"a": np.arange(1500.0)}, "outcome": "b"}, "X has no column 'b'"),
        ({"X": None, "intercept": False}, "no covariates and no intercept"),
        ({"model": "probit"}, "model='probit'; expected 'linear' or 'logistic'"),
        ({"target": "all"}, "target='all'"),
        ({"tuning": 1.5}, "tuning=1.5; expected a number between 0 and 1"),
        ({"confidence_level": 95}, "confidence_level=95"),
        ({"event": 2}, "event=2: 2 is not a class"),
        ({"event": [0, 1]}, "it holds no class, or all of them"),
        ({"event": 1, "values": {0: 1, 1: 2}}, "give one of them"),
        ({"values": {0: 1}}, "a number for each of the classes"),
        ({"values": {0: 0, 1: 2}, "model": "logistic"}, "has the value 2; a logistic regression needs 0 and 1"),
        ({"formula": "label ~ age", "outcome": np.ones(1500)}, "give one of them"),
        ({"X": {"age": np.arange(1500.0)}, "outcome": np.arange(1500.0), "reference": 7}, "reference=7 is not a class"),
        ({"formula": "label ~ aeg"}, "names 'aeg', which the data do not have; they have 'age' and 'north'"),
        ({"formula": "age ~ north"}, "which stands for the label, on exactly one side"),
        ({"formula": "label ~ label + age"}, "on exactly one side"),
        ({"formula": "label ~ age +"}, "cannot be read"),
        ({"formula": "age"}, "cannot be read"),
        ({"formula": "label ~ age", "X": np.ones((1500, 1))}, "a formula needs a data frame"),
        (
            {"formula": "label ~ age", "X": {"age": np.ones(1500), "label": np.ones(1500)}},
            "a column 'label' of their own",
        ),
        ({"formula": "log(label) ~ age"}, "the label 'label' itself as outcome|cannot be"),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, str) else "",
)
def test_what_cannot_be_used_is_refused_with_a_cure(data, options, message):
    """The message names what was given and what to do."""
    with pytest.raises(InputError, match=message):
        estimate_regression(data.proba, data.y, data.rows, **{"X": data.X, **options})


@pytest.mark.parametrize("formula", [None, "label ~ age + north"])
def test_a_missing_covariate_is_named(data, formula):
    """With its column, how many rows lack it, and the first of them."""
    X = pd.DataFrame(data.X)
    X.loc[[17, 30], "age"] = np.nan
    with pytest.raises(InputError, match=r"age.* is missing in 2 rows, the first of them row 17; leave these rows out"):
        estimate_regression(data.proba, data.y, data.rows, X, formula=formula)


def test_a_category_without_labelled_rows_is_refused(data):
    """Its coefficient would rest on predictions that no label corrects."""
    region = np.zeros(1500)
    region[np.setdiff1d(np.arange(1500), data.rows)[:100]] = 1
    with pytest.raises(InputError, match="the labelled rows do not determine 'region'"):
        estimate_regression(data.proba, data.y, data.rows, {"region": region})


def test_more_coefficients_than_labels_are_refused():
    """Twelve labels do not carry twelve coefficients."""
    rng = np.random.default_rng(0)
    with pytest.raises(InputError, match="12 labelled rows cannot carry 13 coefficients"):
        estimate_regression(rng.random(200), [0, 1] * 6, np.arange(12), rng.normal(size=(200, 12)))


def test_categories_in_a_formula(data):
    """Text columns become columns of their values, and transformations are those of all rows."""
    region = np.array(["east", "south", "west"])[np.arange(1500) % 3]
    table = pd.DataFrame({**data.X, "region": region, "shares": data.shares})
    given = data.proba, data.y, data.rows
    result = estimate_regression(*given, table, formula="label ~ region + center(age)")
    assert list(result.params.index) == ["Intercept", "region[T.south]", "region[T.west]", "center(age)"]
    covariate = estimate_regression(*given, table, formula="shares ~ topic + center(age)", label="topic")
    assert list(covariate.params.index) == ["Intercept", "topic[T.1]", "center(age)"]


def test_predictions_may_be_labels(data):
    """A label per row in place of probabilities."""
    predicted = np.array(["no", "yes"])[data.proba.argmax(axis=1)]
    y = np.array(["no", "yes"])[data.y]
    result = estimate_regression(predicted, y, data.rows, data.X)
    assert (result.bse < 1.05 * result.by_hand.bse).all()
    assert result.bse["north"] < 0.9 * result.by_hand.bse["north"]


def test_no_warning_without_reason(data):
    """An ordinary regression is silent."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        estimate_regression(data.proba, data.y, data.rows, data.X, model="logistic")


@pytest.mark.parametrize("outcome", [None, "shares"])
def test_an_event_of_several_classes_is_the_regression_on_the_joined_class(data, outcome):
    """Two classes of three that count as one have the probabilities of both."""
    rng = np.random.default_rng(0)
    part = rng.random(1500)
    split = np.column_stack([data.proba[:, 0], data.proba[:, 1] * part, data.proba[:, 1] * (1 - part)])
    y = np.where(data.y == 0, 0, rng.integers(1, 3, 150))
    table = pd.DataFrame({"age": data.X["age"], "shares": data.shares} if outcome else data.X)
    options = {"outcome": outcome, "recalibrate": False, "tuning": 0.7}
    joined = estimate_regression(data.proba, data.y, data.rows, table, event=1, **options)
    parted = estimate_regression(split, y, data.rows, table, event=[1, 2], **options)
    np.testing.assert_allclose(parted.params, joined.params)
    np.testing.assert_allclose(parted.bse, joined.bse)


def test_with_probabilities_as_they_are_the_coefficients_are_those_of_ppi_python():
    """ppi_logistic_pointestimate of ppi-python 0.2.3 with lam=1, of the first sixty rows of the golden data."""
    X, y, p = gold_rows()
    options = {"model": "logistic", "bias_reduction": False, "recalibrate": False, "tuning": 1.0, "intercept": False}
    result = estimate_regression(p, y[:60].astype(int), np.arange(60), X, **options)
    expected = [-0.5827048825796944, 0.43107042823138775, -0.139157948153062]
    np.testing.assert_allclose(result.params, expected, atol=1e-8)


def test_predictions_without_a_seen_error_leave_some_doubt() -> None:
    """However good they look, n labels vouch for at most n / 2 times as many; a tuning that is given is taken as it is."""
    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, 2000)
    age = rng.normal(size=2000)
    outcome = age + 0.5 * label + rng.normal(size=2000)
    proba = np.eye(2)[label]
    rows = rng.choice(2000, 200, replace=False)
    options = {"outcome": outcome, "target": "rows", "recalibrate": False}
    result = estimate_regression(proba, label[rows], rows, pd.DataFrame({"age": age}), **options)
    assert (result.bse >= result.by_hand.bse * np.sqrt(2 / 200) * (1 - 1e-9)).all()
    exact = estimate_regression(proba, label[rows], rows, pd.DataFrame({"age": age}), **options, tuning=1.0)
    assert (exact.bse < 1e-6).all()


def test_the_doubt_makes_no_interval_wider_than_by_hand() -> None:
    """Of four units, two more that are wrong would be half of all."""
    powered = Fit(np.zeros(3), np.diag([0.2, 0.9, 1.2]), np.ones(3), np.ones(3))
    found = with_unseen_errors(powered, Fit(np.zeros(3), np.eye(3), np.ones(3), np.zeros(3)), 4)
    assert np.diag(found.covariance) == pytest.approx([0.7, 1.0, 1.2])
