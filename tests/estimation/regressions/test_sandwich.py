"""How much coefficients vary."""

from __future__ import annotations

import numpy as np
import pytest
from estimation.regression_data import gold_rows

from llmclf.estimation.labelled_sample import LabelledSample
from llmclf.estimation.regressions.estimating_equations import EstimatingEquations, LabelDesign
from llmclf.estimation.regressions.sandwich import influence, tuned


def whole_sample(**options):
    """All 400 rows of the golden data labelled, and their equations."""
    X, y, p = gold_rows()
    sample = LabelledSample.checked(np.column_stack([1 - p, p]), y.astype(int), np.arange(400), **options)
    shares = np.full(400, 1 / 400)
    design = LabelDesign(X, values=np.array([0.0, 1.0]))
    return sample, EstimatingEquations(
        design, False, sample.proba, sample.proba, sample.columns, sample.rows, shares, shares
    )


def test_all_rows_labelled_gives_statsmodels_hc3():
    """HC3 of statsmodels 0.15, but for the factor n / (n - 1)."""
    sample, equations = whole_sample()
    beta = equations.solve(0.0)
    covariance, _ = influence(equations, sample, 0.0, beta, is_tuned=False).covariance(False)
    hc3 = [0.02828194166961114, 0.01920639635652753, 0.046781572120773295]
    np.testing.assert_allclose(np.sqrt(np.diag(covariance)), hc3, rtol=0.002)


def test_all_rows_labelled_by_cluster_is_near_the_clustered_errors_of_statsmodels():
    """Clustered errors without correction, which ours exceed by what leaving out a cluster changes: here little."""
    sample, equations = whole_sample(clusters=np.arange(400) // 5)
    beta = equations.solve(0.0)
    covariance, _ = influence(equations, sample, 0.0, beta, is_tuned=False).covariance(False)
    plain = np.array([0.031927719193743036, 0.01956778653232114, 0.049352607639291196])
    ratio = np.sqrt(np.diag(covariance)) / plain
    assert (ratio > 1.0).all()
    assert (ratio < 1.05).all()


def test_all_rows_labelled_leave_no_doubt_about_these_rows():
    """With the rows alone as target, nothing is left to vary."""
    sample, equations = whole_sample()
    found = influence(equations, sample, 0.0, equations.solve(0.0), is_tuned=False)
    np.testing.assert_allclose(found.covariance(True)[0], 0, atol=1e-20)


def test_leaving_out_a_unit_changes_the_coefficients_as_its_influence_says():
    """Of a regression by hand alone, the influence of a unit is exactly what the jackknife finds, but for the common mean."""
    X, y, p = gold_rows()
    rows = np.arange(0, 400, 10)
    sample = LabelledSample.checked(np.column_stack([1 - p, p]), y[rows].astype(int), rows)
    design, shares, d = LabelDesign(X, values=np.array([0.0, 1.0])), np.full(400, 1 / 400), np.full(40, 1 / 40)
    proba = sample.proba
    equations = EstimatingEquations(design, False, proba, proba[rows], sample.columns, rows, shares, d)
    beta = equations.solve(0.0)
    found = influence(equations, sample, 0.0, beta, is_tuned=False)
    for i in (0, 7, 21):
        kept = np.delete(rows, i)
        without = np.linalg.lstsq(X[kept], y[kept])[0]
        np.testing.assert_allclose(found.drawn[i], (beta - without) * np.sqrt(40 / 39), atol=1e-12)


def test_one_row_that_determines_a_coefficient_leaves_few_degrees_of_freedom():
    """A dummy of one labelled row: its interval rests on one label."""
    X, y, p = gold_rows()
    X[:, 2] = 0.0
    X[[0, 1, 2, 3], 2] = 1.0
    rows = np.array([0, *range(10, 60)])
    sample = LabelledSample.checked(np.column_stack([1 - p, p]), y[rows].astype(int), rows)
    design, shares, d = LabelDesign(X, values=np.array([0.0, 1.0])), np.full(400, 1 / 400), np.full(51, 1 / 51)
    equations = EstimatingEquations(design, False, sample.proba, sample.proba[rows], sample.columns, rows, shares, d)
    found = influence(equations, sample, 0.0, equations.solve(0.0), is_tuned=False)
    assert found.leverage_degrees[2] < 2
    assert np.isfinite(found.drawn).all()


def test_tuning_is_1_for_right_predictions_and_0_for_opposite_ones():
    """Predictions that are always right are relied on; predictions that mislead are not."""
    X, y, _ = gold_rows()
    rows = np.arange(0, 400, 4)
    shares, d = np.full(400, 1 / 400), np.full(100, 1 / 100)
    for right, wanted in ((y, 1.0), (1 - y, 0.0)):
        proba = np.column_stack([1 - right, right])
        sample = LabelledSample.checked(proba, y[rows].astype(int), rows)
        design = LabelDesign(X, values=np.array([0.0, 1.0]))
        equations = EstimatingEquations(design, False, proba, proba[rows], sample.columns, rows, shares, d)
        each, pooled = tuned(equations, sample, 0.0, equations.solve(0.0))
        np.testing.assert_allclose(each, wanted, atol=1e-9)
        assert pooled == pytest.approx(wanted)
