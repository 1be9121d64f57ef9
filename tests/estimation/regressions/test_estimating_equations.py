"""The estimating equations of regressions with a label that is seen on some rows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from estimation.regression_data import gold_rows
from hypothesis import given
from hypothesis import strategies as st

from llmclf.estimation.regressions.estimating_equations import EstimatingEquations, LabelDesign, NoSolutionError

N_LABELLED = 60


def gold_equations(is_logistic=True, weights=None):
    X, y, p = gold_rows()
    proba = np.column_stack([1 - p, p])
    d = np.ones(N_LABELLED) if weights is None else weights
    return EstimatingEquations(
        LabelDesign(X, values=np.array([0.0, 1.0])),
        is_logistic,
        proba,
        proba[:N_LABELLED],
        y[:N_LABELLED].astype(int),
        np.arange(N_LABELLED),
        np.full(400, 1 / 400),
        d / d.sum(),
    )


@pytest.mark.parametrize(
    ("tuning", "params"),
    [
        (0.0, [-0.8683917885752707, 1.056822760801359, -0.07487370234776586]),
        (0.4, [-0.7417523764884811, 0.7582486687525367, -0.10541969012597421]),
        (1.0, [-0.5827048825796944, 0.43107042823138775, -0.139157948153062]),
    ],
)
def test_logistic_coefficients_are_those_of_ppi_python(tuning, params):
    """ppi_logistic_pointestimate of ppi-python 0.2.3, with all rows as its unlabelled ones; its optimiser stops at 3e-8."""
    np.testing.assert_allclose(gold_equations().solve(tuning), params, atol=3e-8)


def test_weights_are_those_of_ppi_python():
    """With weights on the labelled rows."""
    X, _, _ = gold_rows()
    params = [-0.4939485071533034, 0.4552369216264025, -0.32212939996098966]
    np.testing.assert_allclose(gold_equations(weights=1 + X[:N_LABELLED, 2]).solve(1.0), params, atol=1e-8)


def test_by_hand_alone_linear_coefficients_are_those_of_least_squares():
    """Of the labelled rows, as ppi-python and statsmodels have them."""
    params = [0.32644304460040374, 0.1822927185390028, -0.00986964898118593]
    np.testing.assert_allclose(gold_equations(is_logistic=False).solve(0.0), params, atol=1e-12)


@pytest.mark.parametrize("is_logistic", [True, False])
def test_full_tuning_is_design_based_supervised_learning(is_logistic):
    """Tuning 1 solves the regression of the pseudo-outcome g + R / pi (y - g) of Egami et al. on all rows."""
    X, y, p = gold_rows()
    pseudo = p.copy()
    pseudo[:N_LABELLED] += 400 / N_LABELLED * (y - p)[:N_LABELLED]
    beta = gold_equations(is_logistic).solve(1.0)
    mean = 1 / (1 + np.exp(-X @ beta)) if is_logistic else X @ beta
    np.testing.assert_allclose(X.T @ (pseudo - mean) / 400, 0, atol=1e-10)
    if not is_logistic:
        np.testing.assert_allclose(beta, np.linalg.lstsq(X, pseudo)[0], atol=1e-10)


@given(st.floats(0, 1), st.integers(0, 10**6))
def test_right_predictions_give_the_regression_on_all_rows(tuning, seed):
    """With full tuning, predictions that are always right leave nothing of the labels' noise, as outcome and as covariate."""
    rng = np.random.default_rng(seed)
    X, y, _ = gold_rows()
    rows = rng.choice(400, 80, replace=False)
    certain = np.column_stack([1 - y, y])
    codes, shares, d = y[rows].astype(int), np.full(400, 1 / 400), np.full(80, 1 / 80)
    outcome = LabelDesign(X, values=np.array([0.0, 1.0]))
    covariate = LabelDesign(
        X, y=rng.normal(size=400) + y, varying=np.array([2]), by_class=(np.zeros((1, 1)), np.ones((1, 1)))
    )
    for design in (outcome, covariate):
        equations = EstimatingEquations(design, False, certain, certain[rows], codes, rows, shares, d)
        everything = EstimatingEquations(design, False, certain, certain, y.astype(int), np.arange(400), shares, shares)
        np.testing.assert_allclose(equations.solve(1.0), everything.solve(0.0), atol=1e-8)
        # In between, it is the regression on both with weights.
        mixed = equations.solve(tuning)
        here = everything.seen_scores(mixed)[0].mean(axis=0), equations.seen_scores(mixed)[0].mean(axis=0)
        np.testing.assert_allclose(tuning * here[0] + (1 - tuning) * here[1], 0, atol=1e-8)


def test_bias_reduction_of_one_mean_adds_half_a_row_to_each_side():
    """Firth's logistic intercept is log((k + 1/2) / (n - k + 1/2)), finite for k = 0 too."""
    for k in (0, 3):
        y = np.zeros(20, dtype=int)
        y[:k] = 1
        nothing = np.full((20, 2), 0.5)
        design = LabelDesign(np.ones((20, 1)), values=np.array([0.0, 1.0]))
        shares = np.full(20, 0.05)
        equations = EstimatingEquations(design, True, nothing, nothing, y, np.arange(20), shares, shares)
        assert equations.solve(0.0, spread=np.eye(1) / np.sqrt(20.0)) == pytest.approx(
            np.log((k + 0.5) / (20 - k + 0.5))
        )
        if not k:
            with pytest.raises(NoSolutionError):
                equations.solve(0.0)


def test_a_design_by_row_and_class_agrees_with_one_by_class():
    """Values (N, K) that are the same in all rows give what values (K,) give."""
    equations = gold_equations(is_logistic=False)
    by_row = replace(equations, design=LabelDesign(equations.design.X, values=np.tile([0.0, 1.0], (400, 1))))
    np.testing.assert_allclose(by_row.solve(0.7), equations.solve(0.7))
    beta = equations.solve(0.7)
    np.testing.assert_allclose(by_row.all_scores(beta), equations.all_scores(beta))
    identity = np.eye(3)
    np.testing.assert_allclose(by_row.expected_squares(beta, identity), equations.expected_squares(beta, identity))


def test_slopes_of_rows_add_up_to_the_slope():
    """The derivatives of the labelled rows' parts, and of all rows' part, are that of the equations."""
    equations = gold_equations()
    beta = np.array([0.1, 0.5, -0.3])
    step = 1e-6
    numeric = np.column_stack(
        [(_value(equations, beta - e) - _value(equations, beta + e)) / (2 * step) for e in step * np.eye(3)]
    )
    np.testing.assert_allclose(equations.slope(0.4, beta), numeric, atol=1e-8)
    by_hand = equations.seen_slopes(0.0, beta).sum(axis=0)
    np.testing.assert_allclose(by_hand, equations.slope(0.0, beta), atol=1e-12)


def _value(equations, beta):
    psi, expected = equations.seen_scores(beta)
    d, shares = equations.design_shares, equations.shares
    return 0.4 * shares @ equations.all_scores(beta) + d @ (psi - 0.4 * expected)
