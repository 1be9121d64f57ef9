"""Tests of llmclf.display: the numbers behind the drawing, and the drawing itself on matplotlib's Agg canvas."""

from __future__ import annotations

import sys

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.collections import PathCollection
from matplotlib.colors import to_hex
from matplotlib.offsetbox import AnchoredOffsetbox, TextArea
from matplotlib.patches import StepPatch
from scipy.stats import binomtest
from sklearn.linear_model import LogisticRegression

from llmclf.display import ReliabilityDisplay
from llmclf.errors import InputError, LlmclfError, MissingDependencyError
from llmclf.logits import softmax
from llmclf.metrics import accuracy, expected_calibration_error, reliability_curve


@pytest.fixture(autouse=True)
def agg():
    """Every figure on a canvas without a screen, closed afterwards."""
    before = matplotlib.get_backend()
    plt.switch_backend("Agg")
    yield
    plt.close("all")
    plt.switch_backend(before)


@pytest.fixture
def predictions():
    """Labels, over-confident probabilities, and those made milder."""
    rng = np.random.default_rng(3)
    y = rng.integers(0, 3, 400)
    logits = rng.normal(size=(400, 3))
    logits[np.arange(400), y] += 1
    return y, softmax(3 * logits), softmax(logits)


def box_texts(ax):
    """All texts in the box of numbers, in drawing order."""
    (box,) = [artist for artist in ax.artists if isinstance(artist, AnchoredOffsetbox)]
    return [area.get_text() for area in box.findobj(TextArea)]


def points(ax):
    return [collection for collection in ax.collections if isinstance(collection, PathCollection)]


class TestFrame:
    def test_bins(self, predictions):
        """The frame holds the curve and Wilson's interval of each bin."""
        y, before, _ = predictions
        frame = ReliabilityDisplay.from_predictions(y, before, n_bins=10).frame()
        curve = reliability_curve(y, before, n_bins=10)
        names = ["lower", "upper", "confidence", "accuracy", "accuracy_lower", "accuracy_upper", "weight", "count"]
        assert frame.columns.tolist() == names
        for name in ("lower", "upper", "confidence", "accuracy", "weight", "count"):
            assert frame[name].tolist() == getattr(curve, name).tolist()
        row = frame.iloc[-1]
        interval = binomtest(round(row["accuracy"] * row["count"]), int(row["count"])).proportion_ci(0.95, "wilson")
        assert (row["accuracy_lower"], row["accuracy_upper"]) == (interval.low, interval.high)
        assert frame["count"].sum() == 400

    def test_before_and_after(self, predictions):
        """With probabilities before calibration, a first column tells the two apart."""
        y, before, after = predictions
        frame = ReliabilityDisplay.from_predictions(y, after, proba_before=before).frame()
        assert frame.columns[0] == "calibration"
        assert frame["calibration"].unique().tolist() == ["before", "after"]
        kept = frame[frame["calibration"] == "before"].drop(columns="calibration").reset_index(drop=True)
        pd.testing.assert_frame_equal(kept, ReliabilityDisplay.from_predictions(y, before).frame())

    def test_options_reach_the_curve(self, predictions):
        """Bins, strategy, classes and weights are those of the curve."""
        y, proba, _ = predictions
        names = np.array(["b", "c", "a"])
        weights = np.arange(400) % 3
        kwargs = {"n_bins": 5, "strategy": "mass", "classes": names, "sample_weight": weights}
        frame = ReliabilityDisplay.from_predictions(names[y], proba, **kwargs).frame()
        curve = reliability_curve(names[y], proba, **kwargs)
        assert frame["weight"].tolist() == curve.weight.tolist()
        assert frame["accuracy"].tolist() == curve.accuracy.tolist()

    def test_weighted_rows_have_no_interval(self, predictions):
        """Weights are no counts, so no interval is claimed."""
        y, proba, _ = predictions
        display = ReliabilityDisplay.from_predictions(y, proba, sample_weight=np.full(400, 0.5))
        assert display.frame()[["accuracy_lower", "accuracy_upper"]].isna().all(axis=None)
        display.plot().figure_.canvas.draw()

    def test_bad_predictions_are_refused(self):
        """Probabilities that are none are refused before anything is drawn."""
        with pytest.raises(InputError, match="sums to"):
            ReliabilityDisplay.from_predictions([0], [[0.5, 0.4]])
        with pytest.raises(InputError, match="y has 1 labels"):
            ReliabilityDisplay.from_predictions([0], [[0.5, 0.5]], proba_before=[[0.5, 0.5]] * 2)


class TestPlot:
    def test_one_set(self, predictions):
        """Points lie at mean confidence and accuracy, larger where there are more rows, on square axes from 0 to 1."""
        y, proba, _ = predictions
        display = ReliabilityDisplay.from_predictions(y, proba)
        assert display.plot() is display
        curve = reliability_curve(y, proba)
        (drawn,) = points(display.ax_)
        assert drawn.get_offsets().data == pytest.approx(np.column_stack([curve.confidence, curve.accuracy]))
        assert (np.argsort(drawn.get_sizes(), kind="stable") == np.argsort(curve.count, kind="stable")).all()
        assert display.ax_.get_aspect() == 1
        assert display.ax_.get_xlim() == display.ax_.get_ylim() == (0, 1)
        assert display.ax_.lines[0].get_xydata().tolist() == [[0, 0], [1, 1]]
        assert display.figure_ is display.ax_.figure
        assert display.ax_.get_title() == ""

    def test_numbers(self, predictions):
        """The box shows the number of rows, the accuracy, the mean confidence and the calibration error."""
        y, proba, _ = predictions
        texts = box_texts(ReliabilityDisplay.from_predictions(y, proba).plot().ax_)
        values = accuracy(y, proba), proba.max(axis=1).mean(), expected_calibration_error(y, proba)
        assert texts[:5] == ["n = 400", "accuracy", "mean confidence", "ECE", " "]
        assert texts[5:] == [f"{value:.3f}" for value in values]

    def test_overlay(self, predictions):
        """Before and after have different colours and markers, and the box names both."""
        y, before, after = predictions
        display = ReliabilityDisplay.from_predictions(y, after, proba_before=before).plot()
        first, second = points(display.ax_)
        colours = [to_hex(collection.get_facecolor()[0]).upper() for collection in (first, second)]
        assert colours == ["#D55E00", "#0072B2"]
        assert not np.array_equal(first.get_paths()[0].vertices, second.get_paths()[0].vertices)
        texts = box_texts(display.ax_)
        expected = []
        for when, proba in (("before", before), ("after", after)):
            values = accuracy(y, proba), proba.max(axis=1).mean(), expected_calibration_error(y, proba)
            expected += [when, *(f"{value:.3f}" for value in values)]
        assert texts[4:] == expected

    def test_strip(self, predictions):
        """The strip shows the distribution of the confidence, shares the diagram's x axis and lies below it."""
        y, proba, _ = predictions
        display = ReliabilityDisplay.from_predictions(y, proba).plot()
        (steps,) = [patch for patch in display.strip_ax_.patches if isinstance(patch, StepPatch)]
        counts, _ = np.histogram(proba.max(axis=1), bins=20, range=(0, 1))
        assert steps.get_data().values == pytest.approx(counts / 400)
        assert display.ax_.get_shared_x_axes().joined(display.ax_, display.strip_ax_)
        display.figure_.canvas.draw()
        strip, diagram = display.strip_ax_.get_position(), display.ax_.get_position()
        assert strip.y1 < diagram.y0
        assert (strip.x0, strip.x1) == pytest.approx((diagram.x0, diagram.x1), abs=1e-3)

    @pytest.mark.parametrize(("lowest", "highest", "accuracy"), [(0.6, 1.0, 0.2), (0.2, 0.4, 0.9)])
    def test_the_box_covers_no_point(self, lowest, highest, accuracy):
        """The box stands where the points are not, for over-confident and for under-confident models."""
        p = np.linspace(lowest, highest, 60)
        proba = np.column_stack([p, *[(1 - p) / 4] * 4])
        y = (np.arange(60) % 10 >= 10 * accuracy).astype(int)
        display = ReliabilityDisplay.from_predictions(y, proba).plot()
        display.figure_.canvas.draw()
        (box,) = [artist for artist in display.ax_.artists if isinstance(artist, AnchoredOffsetbox)]
        (drawn,) = points(display.ax_)
        area = box.get_window_extent()
        assert not any(area.contains(*display.ax_.transData.transform(point)) for point in drawn.get_offsets())

    def test_text_stays_text(self, predictions):
        """A title with dollar signs is drawn as written, not read as mathematics."""
        y, proba, _ = predictions
        display = ReliabilityDisplay.from_predictions(y, proba, name=r"$5 \undefined$ _a_").plot()
        display.figure_.canvas.draw()
        assert display.ax_.get_title() == r"$5 \undefined$ _a_"
        assert not display.ax_.title.get_parse_math()

    def test_given_axes(self, predictions):
        """A given axes is drawn into, and no other figure is made."""
        y, proba, _ = predictions
        figure, (left, right) = plt.subplots(1, 2)
        display = ReliabilityDisplay.from_predictions(y, proba).plot(right)
        figure.canvas.draw()
        assert display.ax_ is right
        assert display.figure_ is figure
        assert not left.lines
        assert plt.get_fignums() == [figure.number]

    def test_settings_stay(self, predictions):
        """Plotting leaves matplotlib's settings as they were."""
        y, before, after = predictions
        settings = dict(matplotlib.rcParams)
        ReliabilityDisplay.from_predictions(y, after, proba_before=before, name="a").plot().figure_.canvas.draw()
        assert dict(matplotlib.rcParams) == settings

    @pytest.mark.parametrize("y", [[0], [1]])
    def test_one_row(self, y):
        """One row, right or wrong, is drawn without complaint."""
        ReliabilityDisplay.from_predictions(y, [[1.0, 0.0]]).plot().figure_.canvas.draw()


def test_from_estimator():
    """An estimator's probabilities, classes and class name are used, and a name replaces the last."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(80, 2))
    y = np.array(["no", "yes"])[(X[:, 0] + rng.normal(size=80) > 0).astype(int)]
    model = LogisticRegression().fit(X, y)
    display = ReliabilityDisplay.from_estimator(model, X, y, n_bins=6)
    expected = ReliabilityDisplay.from_predictions(y, model.predict_proba(X), n_bins=6)
    pd.testing.assert_frame_equal(display.frame(), expected.frame())
    assert display.name == "LogisticRegression"
    of_one_class = ReliabilityDisplay.from_estimator(model, X[y == "yes"], y[y == "yes"])
    assert of_one_class.summary.n_rows == (y == "yes").sum()
    assert ReliabilityDisplay.from_estimator(model, X, y, name="mine").name == "mine"
    raw = np.full((80, 2), 0.5)
    assert ReliabilityDisplay.from_estimator(model, X, y, proba_before=raw).before.confidence == 0.5


@pytest.mark.parametrize(("package", "method"), [("matplotlib", "plot"), ("pandas", "frame")])
def test_a_missing_package_is_named(package, method, predictions, monkeypatch):
    """Without matplotlib or pandas the error says what to install."""
    y, proba, _ = predictions
    display = ReliabilityDisplay.from_predictions(y, proba)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingDependencyError, match=f"pip install {package}") as caught:
        getattr(display, method)()
    assert isinstance(caught.value, LlmclfError)
    assert isinstance(caught.value, ImportError)
