"""Means of functions of label and row."""

from __future__ import annotations

import numpy as np
import pytest
from estimation.regression_data import gold_rows, labelled_rows

from llmclf.errors import EstimationWarning, InputError
from llmclf.estimation import estimate_means


@pytest.fixture(scope="module")
def data():
    return labelled_rows()


def test_values_by_class_by_name_and_by_row_agree(data):
    """A number per class may be given in four forms."""
    given = data.proba, data.y, data.rows
    frames = [
        estimate_means(*given, values).to_frame().drop(columns="value")
        for values in ([1, 15], {0: 1, 1: 15}, {"minutes": {0: 1, 1: 15}}, np.tile([1, 15], (1500, 1)))
    ]
    for frame in frames[1:]:
        np.testing.assert_allclose(frame, frames[0])
    several = estimate_means(*given, {"minutes": {0: 1, 1: 15}, "urgent": [0, 1]}).to_frame()
    assert several["value"].tolist() == ["minutes", "urgent"]
    np.testing.assert_allclose(1 + 14 * several["mean"][1], several["mean"][0])
    np.testing.assert_allclose(1 + 14 * several[["low", "high"]].loc[1], several[["low", "high"]].loc[0])


@pytest.mark.parametrize(("tuning", "mean"), [(0.0, 0.3), (0.4, 0.3203438726474654), (1.0, 0.35085968161866343)])
def test_the_mean_with_raw_probabilities_is_that_of_ppi_python(tuning, mean):
    """ppi_mean_pointestimate of ppi-python 0.2.3, on the level of the equations, where nothing is recalibrated."""
    from llmclf.estimation.regressions.estimating_equations import EstimatingEquations, LabelDesign

    _, y, p = gold_rows()
    proba = np.column_stack([1 - p, p])
    design = LabelDesign(np.ones((400, 1)), values=np.array([0.0, 1.0]))
    shares, d = np.full(400, 1 / 400), np.full(60, 1 / 60)
    equations = EstimatingEquations(design, False, proba, proba[:60], y[:60].astype(int), np.arange(60), shares, d)
    assert equations.solve(tuning)[0] == pytest.approx(mean, abs=1e-12)


def test_good_predictions_narrow_the_interval_and_the_truth_is_inside(data):
    """Beside it stand the mean by hand, the naive mean and the mean under the model's probabilities."""
    frame = estimate_means(data.proba, data.y, data.rows, [0, 1]).to_frame().loc[0]
    assert frame.low < data.label.mean() < frame.high
    assert frame.high - frame.low < frame.by_hand_high - frame.by_hand_low
    assert frame.by_hand == pytest.approx(data.y.mean())
    assert frame.naive == pytest.approx(data.proba.argmax(axis=1).mean())
    assert frame.mean_probability == pytest.approx(data.proba[:, 1].mean())
    assert len(data.y) < frame.worth <= 1500


def test_no_labelled_case_still_leaves_room_above():
    """With no case among 50 labels the interval is about that of 50 hand labels, not of length zero."""
    rng = np.random.default_rng(0)
    p = rng.random(2000) * 0.1
    with pytest.warns(EstimationWarning, match="all 50 labels are 0"):
        result = estimate_means(p, np.zeros(50, dtype=int), np.arange(50), [0, 1], classes=[0, 1])
    frame = result.to_frame().loc[0]
    assert frame.by_hand_low == 0
    assert 0.03 < frame.by_hand_high < 0.09
    assert frame.low == 0
    assert 0.0 < frame.high < 0.1


def test_every_row_labelled_leaves_no_doubt(data):
    """The mean is that of the labels, for these rows."""
    frame = estimate_means(data.proba, data.label, np.arange(1500), [0, 1]).to_frame().loc[0]
    assert frame.low == frame["mean"] == frame.high == pytest.approx(data.label.mean())


def test_values_of_rows_count_in_their_rows(data):
    """A cost that depends on row and label, with predictions that are certain and right."""
    certain = np.column_stack([1 - data.label, data.label])
    costs = np.column_stack([np.zeros(1500), np.arange(1500.0)])
    frame = estimate_means(certain, data.y, data.rows, costs).to_frame().loc[0]
    truth = (np.arange(1500) * data.label).mean()
    assert frame.low < truth < frame.high
    assert frame.std_error < 0.4 * (frame.by_hand_high - frame.by_hand_low) / 4


def test_a_constant_is_known(data):
    """A function that does not depend on anything has no interval."""
    frame = estimate_means(data.proba, data.y, data.rows, [2, 2]).to_frame().loc[0]
    assert frame["mean"] == frame.low == frame.high == 2


def test_intervals_cover_with_fifty_labels():
    """Of a hundred samples, at least 90 intervals hold the mean of all rows."""
    inside = 0
    for seed in range(100):
        data = labelled_rows(n_rows=800, n_labelled=50, seed=seed)
        frame = estimate_means(data.proba, data.y, data.rows, [0, 1]).to_frame().loc[0]
        inside += frame.low <= data.label.mean() <= frame.high
    assert inside >= 90


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1, 2, 3], r"have shape \(3,\); expected \(2,\), one per class, or \(1500, 2\)"),
        ({0: 1}, "expected a number for each of the classes"),
        ({"cost": {0: 1}}, r"the values of 'cost' are for \[0\]"),
        (["a", "b"], "are not numbers"),
        ([0, np.nan], "are not all finite"),
    ],
)
def test_values_that_cannot_be_used_are_refused(data, values, message):
    """The message says what was expected."""
    with pytest.raises(InputError, match=message):
        estimate_means(data.proba, data.y, data.rows, values)


def test_the_text_says_what_it_is_about(data):
    """Numbers of rows, and every function."""
    result = estimate_means(data.proba, data.y, data.rows, {"urgent": [0, 1]})
    assert "Means over 1,500 rows, 150 of them labelled by hand" in str(result)
    assert "urgent" in str(result)
    assert repr(result) == "<MeansResult: 1 means over 1500 rows>"
