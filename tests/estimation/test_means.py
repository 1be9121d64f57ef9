"""Means of functions of label and row."""

from __future__ import annotations

import numpy as np
import pytest
from estimation.regression_data import gold_rows, labelled_rows

from llmclf.errors import EstimationWarning, InputError
from llmclf.estimation import estimate_means, estimate_shares


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


def test_groups_have_means_of_their_own(data):
    """Each is about the rows of its group, in sorted order, and says how many of them are labelled."""
    groups = np.array(["late", "early", "middle"])[np.arange(1500) % 3]
    result = estimate_means(data.proba, data.y, data.rows, {"cost": [1, 15]}, groups=groups)
    frame = result.group_frame()
    assert frame["group"].tolist() == ["early", "late", "middle"]
    for line in frame.to_dict(orient="records"):
        inside = groups == line["group"]
        assert line["low"] < (1 + 14 * data.label[inside]).mean() < line["high"]
        assert line["labelled"] == inside[data.rows].sum()
        assert line["by_hand"] == pytest.approx((1 + 14 * data.y[inside[data.rows]]).mean())
        assert line["naive"] == pytest.approx(1 + 14 * data.proba.argmax(axis=1)[inside].mean())
    plain = estimate_means(data.proba, data.y, data.rows, {"cost": [1, 15]}).to_frame()
    np.testing.assert_allclose(result.to_frame().drop(columns="value"), plain.drop(columns="value"))
    assert "early" in str(result)
    assert repr(result) == "<MeansResult: 1 means over 1500 rows, in 3 groups>"


def test_one_group_of_all_rows_is_the_table(data):
    """Whatever the functions."""
    result = estimate_means(data.proba, data.y, data.rows, {"cost": [1, 15], "no": [1, 0]}, groups=["all"] * 1500)
    np.testing.assert_allclose(
        result.group_frame().drop(columns=["value", "group"]), result.to_frame().drop(columns="value")
    )


def test_differences_are_those_of_shares(data):
    """The mean of 0 and 1 is a share: differences, and what they are compared with, agree with estimate_shares."""
    groups = np.where(np.arange(1500) % 2, "odd", "even")
    options = {"groups": groups, "confidence_level": 0.9}
    means = estimate_means(data.proba, data.y, data.rows, [0, 1], **options).difference_frame()
    shares = estimate_shares(data.proba, data.y, data.rows, **options).difference_frame()
    (one,), (other,) = (frame.to_dict("records") for frame in (means, shares[shares["class"] == 1]))
    assert (one["group"], one["reference"]) == (other["group"], other["reference"]) == ("odd", "even")
    assert one["difference"] == pytest.approx(other["difference"], abs=0.01)
    assert one["high"] - one["low"] == pytest.approx(other["high"] - other["low"], rel=0.1)
    assert not one["differs"]


def test_differences_hold_together_and_are_found(data):
    """A group whose labels are others differs; the level is shared by all pairs and functions."""
    groups = np.array(["a", "b", "c"])[np.arange(1500) % 3]
    y = np.where(groups[data.rows] == "c", 1 - data.y, data.y)
    proba = np.where((groups == "c")[:, None], data.proba[:, ::-1], data.proba)
    result = estimate_means(proba, y, data.rows, {"cost": [0, 100], "one": [0, 1]}, groups=groups)
    frame = result.difference_frame().set_index(["value", "group", "reference"]).sort_index()
    assert len(frame) == 6
    np.testing.assert_allclose(frame.loc["cost", "difference"], 100 * frame.loc["one", "difference"])
    np.testing.assert_allclose(frame.loc["cost", "high"], 100 * frame.loc["one", "high"])
    single = estimate_means(proba, y, data.rows, [0, 1], groups=groups).difference_frame("previous")
    width = frame.loc[("one", "b", "a"), "high"] - frame.loc[("one", "b", "a"), "low"]
    assert width > single["high"][0] - single["low"][0]
    assert "intervals that hold together for all 6" in result.difference_text()
    with pytest.raises(InputError, match="to estimate_means as groups="):
        estimate_means(proba, y, data.rows, [0, 1]).difference_frame()


def test_simultaneous_intervals_are_wider(data):
    """Over functions, and in the table of groups over these, too."""
    groups = np.arange(1500) % 2
    given = (data.proba, data.y, data.rows, {"cost": [1, 15], "no": [1, 0]})
    one, both = (estimate_means(*given, groups=groups, simultaneous=both) for both in (False, True))
    level = estimate_means(*given, groups=groups, confidence_level=1 - 0.05 / 4)
    assert (both.to_frame()["high"] > one.to_frame()["high"]).all()
    np.testing.assert_allclose(both.group_frame()["high"], level.group_frame()["high"])
    assert "intervals that hold together" in str(both)
    with pytest.raises(InputError, match="simultaneous='no'"):
        estimate_means(*given, simultaneous="no")


def test_a_group_without_labels_may_have_any_mean(data):
    """Within the range of the values; a single label is not enough either."""
    groups = np.full(1500, "a", dtype=object)
    others = np.setdiff1d(np.arange(1500), data.rows)
    groups[others[:50]] = "b"
    groups[[*others[50:80], data.rows[0]]] = "c"
    with pytest.warns(EstimationWarning, match=r"'b' \(0\) and 'c' \(1\)"):
        result = estimate_means(data.proba, data.y, data.rows, [2, 5], groups=groups)
    frame = result.group_frame().set_index("group")
    assert frame.loc[["b", "c"], "mean"].isna().all()
    assert frame.loc[["b", "c"], ["low", "high"]].to_numpy().tolist() == [[2, 5], [2, 5]]
    unknown = result.difference_frame("first").set_index("group").loc["b"]
    assert (unknown["low"], unknown["high"], unknown["differs"]) == (-3, 3, False)
    assert "-" in result.difference_text()


def test_groups_cover():
    """Of a hundred samples in strata, intervals of groups and of their difference hold as often as they should."""
    inside = []
    for seed in range(100):
        data = labelled_rows(n_rows=800, n_labelled=100, seed=seed)
        groups = np.arange(800) % 2
        strata = (data.proba[:, 1] > 0.5).astype(int)
        result = estimate_means(data.proba, data.y, data.rows, [0, 1], groups=groups, strata=strata)
        truth = [data.label[groups == g].mean() for g in (0, 1)]
        frame, difference = result.group_frame(), result.difference_frame().loc[0]
        inside += [frame.low[g] <= truth[g] <= frame.high[g] for g in (0, 1)]
        inside.append(difference.low <= truth[1] - truth[0] <= difference.high)
    assert np.mean(inside) >= 0.93


def test_clusters_in_both_groups_are_correlated(data):
    """Rows of an author lie in both groups, and say the same in them: the difference is surer than of other authors."""
    rng = np.random.default_rng(0)
    authors = np.repeat(np.arange(750), 2)
    label = np.repeat(rng.integers(0, 2, 750), 2)
    rows = np.flatnonzero(np.isin(authors, rng.choice(750, 60, replace=False)))
    proba = np.full((1500, 2), 0.5)
    groups = np.arange(1500) % 2
    widths = []
    for clusters in (authors, None):
        frame = estimate_means(proba, label[rows], rows, [0, 1], groups=groups, clusters=clusters).difference_frame()
        widths.append(float(frame["high"][0] - frame["low"][0]))
    assert widths[0] < 0.5 * widths[1]
