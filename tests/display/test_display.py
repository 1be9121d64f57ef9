"""Tests of llmclf.display: the numbers behind the drawing, and the drawing itself on matplotlib's Agg canvas."""

from __future__ import annotations

import sys

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.collections import FillBetweenPolyCollection, PathCollection
from matplotlib.colors import to_hex
from matplotlib.offsetbox import AnchoredOffsetbox, TextArea
from matplotlib.patches import StepPatch
from scipy.stats import binomtest
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from llmclf.calibration import risk_coverage_curve, select_threshold
from llmclf.display import ReliabilityDisplay, RiskCoverageDisplay
from llmclf.errors import InputError, LlmclfError, MissingDependencyError
from llmclf.logits import softmax
from llmclf.metrics import (
    accuracy,
    aurc,
    calibration_interval,
    corp_decomposition,
    expected_calibration_error,
    reliability_curve,
)


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
        frame = ReliabilityDisplay.from_predictions(y, before, kind="uniform", n_bins=10).frame()
        curve = reliability_curve(y, before, n_bins=10)
        names = ["lower", "upper", "confidence", "accuracy", "accuracy_lower", "accuracy_upper", "weight", "count"]
        assert frame.columns.tolist() == names
        for name in ("lower", "upper", "confidence", "accuracy", "weight", "count"):
            assert frame[name].tolist() == getattr(curve, name).tolist()
        row = frame.iloc[-1]
        interval = binomtest(round(row["accuracy"] * row["count"]), int(row["count"])).proportion_ci(0.95, "wilson")
        assert (row["accuracy_lower"], row["accuracy_upper"]) == pytest.approx((interval.low, interval.high), abs=1e-12)
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
        kwargs = {"n_bins": 5, "classes": names, "sample_weight": weights}
        frame = ReliabilityDisplay.from_predictions(names[y], proba, kind="mass", **kwargs).frame()
        curve = reliability_curve(names[y], proba, strategy="mass", **kwargs)
        assert frame["weight"].tolist() == curve.weight.tolist()
        assert frame["accuracy"].tolist() == curve.accuracy.tolist()

    def test_corp_blocks(self, predictions):
        """By default the points are the blocks of isotonic regression: rising, and on the curve of the decomposition."""
        y, proba, _ = predictions
        display = ReliabilityDisplay.from_predictions(y, proba)
        frame = display.frame()
        assert (frame["accuracy"].diff().dropna() > 0).all()
        assert (frame["lower"] <= frame["confidence"]).all()
        assert (frame["upper"] >= frame["confidence"]).all()
        assert frame["count"].sum() == 400
        expected = IsotonicRegression().fit(proba.max(axis=1), proba.argmax(axis=1) == y)
        assert display.summary.line[1] == pytest.approx(expected.predict(display.summary.line[0]), abs=1e-12)

    def test_a_class(self, predictions):
        """With pos_label the event is that the class is the true one."""
        y, proba, _ = predictions
        display = ReliabilityDisplay.from_predictions(y, proba, pos_label=2, kind="mass")
        curve = reliability_curve(y, proba, pos_label=2, strategy="mass")
        assert display.frame()["accuracy"].tolist() == curve.accuracy.tolist()
        assert display.plot().strip_ax_.get_xlabel() == "Probability of 2"

    def test_small_diagrams(self, predictions):
        """The frame of a classwise display holds the confidence and every class."""
        y, proba, _ = predictions
        names = np.array(["b", "c", "a"])
        display = ReliabilityDisplay.from_predictions(names[y], proba, classes=names, classwise=True)
        frame = display.frame()
        assert frame["class"].drop_duplicates().tolist() == [None, "b", "c", "a"]
        alone = ReliabilityDisplay.from_predictions(names[y], proba, classes=names, pos_label="c").frame()
        pd.testing.assert_frame_equal(frame[frame["class"] == "c"].drop(columns="class").reset_index(drop=True), alone)

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

    @pytest.mark.parametrize(
        ("options", "match"),
        [
            ({"kind": "bars"}, "kind='bars' is unknown; expected one of 'corp'"),
            ({"band": "grey"}, "band='grey' is unknown"),
            ({"n_resamples": 0}, "n_resamples=0"),
            ({"confidence_level": 95}, "confidence_level=95"),
            ({"classwise": True, "pos_label": 1}, "leave one out"),
            ({"pos_label": "x"}, "pos_label='x' is not one of the classes"),
        ],
    )
    def test_bad_options_are_refused(self, options, match):
        """Options are named with what was expected."""
        with pytest.raises(InputError, match=match):
            ReliabilityDisplay.from_predictions([0, 1], [0.2, 0.7], **options)


class TestBand:
    @pytest.mark.slow
    @pytest.mark.parametrize("kind", ["corp", "mass", "uniform", "smooth"])
    def test_a_calibrated_model_lies_within_its_consistency_band(self, kind):
        """Point by point, some nineteen of twenty places of calibrated models' curves are inside."""
        rng = np.random.default_rng(0)
        inside = []
        for _ in range(10):
            p = rng.random(500)
            summary = ReliabilityDisplay.from_predictions(rng.random(500) < p, p, pos_label=1, kind=kind).summary
            _, low, high = summary.band
            inside.append(np.mean((low - 1e-9 <= summary.line[1]) & (summary.line[1] <= high + 1e-9)))
            assert summary.band_kind == "consistency"
        assert 0.85 < np.mean(inside) <= 1

    @pytest.mark.slow
    @pytest.mark.parametrize("kind", ["corp", "mass", "smooth"])
    def test_a_confidence_band_holds_the_truth(self, kind):
        """Point by point, most of the true frequencies of an over-confident model are inside its band."""
        rng = np.random.default_rng(1)
        inside = []
        for _ in range(10):
            p = rng.random(800)
            summary = ReliabilityDisplay.from_predictions(
                rng.random(800) < 0.25 + p / 2, p, pos_label=1, kind=kind, band="confidence"
            ).summary
            x, low, high = summary.band
            middle = (x > 0.1) & (x < 0.9)
            inside.append(np.mean((low <= 0.25 + x / 2)[middle] & (0.25 + x / 2 <= high)[middle]))
        assert np.mean(inside) > 0.8

    def test_none(self, predictions):
        """Without a band nothing is resampled and nothing filled."""
        y, proba, _ = predictions
        display = ReliabilityDisplay.from_predictions(y, proba, band=None).plot()
        assert display.summary.band is None
        assert not [c for c in display.ax_.collections if isinstance(c, FillBetweenPolyCollection)]

    def test_the_box_says_which_it_is(self, predictions):
        """The label of the band names what it is a band of."""
        y, proba, _ = predictions
        for band, words in (("consistency", "band: 95% if calibrated"), ("confidence", "band: 95% of the curve")):
            assert words in box_texts(ReliabilityDisplay.from_predictions(y, proba, band=band).plot().ax_)

    def test_the_same_seed_gives_the_same_band(self, predictions):
        """Band and interval are reproducible."""
        y, proba, _ = predictions
        one, two = (ReliabilityDisplay.from_predictions(y, proba).summary for _ in range(2))
        assert (one.band == two.band).all()
        assert one.error == two.error


class TestPlot:
    def test_one_set(self, predictions):
        """Points lie at mean confidence and accuracy, larger where there are more rows, on square axes from 0 to 1."""
        y, proba, _ = predictions
        display = ReliabilityDisplay.from_predictions(y, proba, kind="uniform")
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
        """The box shows rows, accuracy, mean confidence, the error with interval and null mean, and the parts of the score."""
        y, proba, _ = predictions
        display = ReliabilityDisplay.from_predictions(y, proba)
        texts = box_texts(display.plot().ax_)
        labels = [
            "n = 400",
            "accuracy",
            "mean confidence",
            "ECE",
            "  95% interval",
            "  if calibrated",
            "MCB / DSC",
            "UNC",
        ]
        assert texts[:9] == [*labels, "band: 95% if calibrated"]
        event = (proba.argmax(axis=1) == y).astype(int)
        found = calibration_interval(event, proba.max(axis=1), pos_label=1, random_state=0)
        parts = corp_decomposition(y, proba)
        assert texts[10:17] == [
            f"{accuracy(y, proba):.3f}",
            f"{proba.max(axis=1).mean():.3f}",
            f"{expected_calibration_error(y, proba):.3f}",
            f"{found.low:.3f}–{found.high:.3f}",
            f"{found.null_mean:.3f}",
            f"{parts.miscalibration:.3f} / {parts.discrimination:.3f}",
            f"{parts.uncertainty:.3f}",
        ]

    def test_overlay(self, predictions):
        """Before and after have different colours and markers, and the box names both."""
        y, before, after = predictions
        display = ReliabilityDisplay.from_predictions(y, after, proba_before=before).plot()
        first, second = points(display.ax_)
        colours = [to_hex(collection.get_facecolor()[0]).upper() for collection in (first, second)]
        assert colours == ["#D55E00", "#0072B2"]
        assert not np.array_equal(first.get_paths()[0].vertices, second.get_paths()[0].vertices)
        texts = box_texts(display.ax_)
        for when, proba in (("before", before), ("after", after)):
            place = texts.index(when)
            values = accuracy(y, proba), proba.max(axis=1).mean(), expected_calibration_error(y, proba)
            assert texts[place + 1 : place + 4] == [f"{value:.3f}" for value in values]

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
        display = ReliabilityDisplay.from_predictions(y, proba, kind="uniform").plot()
        display.figure_.canvas.draw()
        (box,) = [artist for artist in display.ax_.artists if isinstance(artist, AnchoredOffsetbox)]
        (drawn,) = points(display.ax_)
        area = box.get_window_extent()
        assert not any(area.contains(*display.ax_.transData.transform(point)) for point in drawn.get_offsets())

    @pytest.mark.slow
    @pytest.mark.parametrize("kind", ["corp", "mass", "uniform", "smooth"])
    @pytest.mark.parametrize("band", ["consistency", "confidence", None])
    @pytest.mark.parametrize("scale", ["linear", "log_odds"])
    def test_every_form_is_drawn(self, predictions, kind, band, scale):
        """All kinds, bands and scales draw without complaint, and nothing leaves the axes."""
        y, before, after = predictions
        options = {"proba_before": before, "kind": kind, "band": band, "n_resamples": 20}
        display = ReliabilityDisplay.from_predictions(y, after, **options).plot(scale=scale)
        display.figure_.canvas.draw()
        low, high = display.ax_.get_xlim()
        for collection in points(display.ax_):
            assert (collection.get_offsets() >= low).all()
            assert (collection.get_offsets() <= high).all()
        assert display.ax_.get_xscale() == ("logit" if scale == "log_odds" else "linear")

    def test_log_odds_shows_confidences_near_one(self):
        """Rows at 0.99 and 0.999 lie well apart, the diagonal stays straight, and the strip holds all rows."""
        rng = np.random.default_rng(0)
        p = rng.choice([0.9, 0.99, 0.999], 3000)
        display = ReliabilityDisplay.from_predictions(rng.random(3000) < p, p, kind="uniform", n_bins=2000, pos_label=1)
        display.plot(scale="log_odds").figure_.canvas.draw()
        (drawn,) = points(display.ax_)
        places = display.ax_.transAxes.inverted().transform(display.ax_.transData.transform(drawn.get_offsets()))[:, 0]
        assert (np.diff(places) > 0.15).all()
        (steps,) = [patch for patch in display.strip_ax_.patches if isinstance(patch, StepPatch)]
        assert steps.get_data().values.sum() == pytest.approx(1)
        with pytest.raises(InputError, match="scale='log' is unknown"):
            display.plot(scale="log")

    def test_small_diagrams(self, predictions):
        """One per class, named as it is written, and greyed where it has too few rows to say anything."""
        y, proba, _ = predictions
        names = np.array(["$b$", "c", "rare"])
        kept = (y < 2) | (np.cumsum(y == 2) <= 10)
        display = ReliabilityDisplay.from_predictions(
            names[y[kept]], proba[kept], classes=names, classwise=True, n_resamples=20, name="All"
        ).plot()
        display.figure_.canvas.draw()
        assert list(display.class_axes_) == ["$b$", "c", "rare"]
        titles = [axes.get_title() for axes in display.class_axes_.values()]
        assert titles == [f"$b$ ({np.sum(y == 0)})", f"c ({np.sum(y == 1)})", "rare (10, too few)"]
        assert not display.class_axes_["$b$"].title.get_parse_math()
        assert to_hex(points(display.class_axes_["rare"])[0].get_facecolor()[0]).upper() == "#BFBFBF"
        with pytest.raises(InputError, match="a figure of their own"):
            display.plot(plt.figure().subplots())

    def test_many_classes(self):
        """Of many classes the twelve most frequent have a diagram."""
        rng = np.random.default_rng(0)
        y = np.minimum(rng.geometric(0.1, 500) - 1, 29)
        display = ReliabilityDisplay.from_predictions(
            y, softmax(rng.normal(size=(500, 30))), classwise=True, n_resamples=5
        )
        assert list(display.classwise) == sorted(np.argsort(-np.bincount(y, minlength=30), kind="stable")[:12].tolist())

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
    display = ReliabilityDisplay.from_estimator(model, X, y, kind="mass", n_bins=6)
    expected = ReliabilityDisplay.from_predictions(y, model.predict_proba(X), kind="mass", n_bins=6)
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


class TestRiskCoverage:
    def test_frame(self, predictions):
        """The frame is the curve; with probabilities before calibration a first column tells the two apart."""
        y, before, after = predictions
        frame = RiskCoverageDisplay.from_predictions(y, after).frame()
        curve = risk_coverage_curve(y, after)
        for name in frame.columns:
            assert frame[name].tolist() == getattr(curve, name).tolist()
        both = RiskCoverageDisplay.from_predictions(y, after, proba_before=before).frame()
        assert both["calibration"].drop_duplicates().tolist() == ["before", "after"]

    def test_drawing(self, predictions):
        """Line and band are the curve's, the box holds the areas and the error of all rows."""
        y, before, after = predictions
        settings = dict(matplotlib.rcParams)
        display = RiskCoverageDisplay.from_predictions(y, after, proba_before=before, name="$a$").plot()
        display.figure_.canvas.draw()
        assert dict(matplotlib.rcParams) == settings
        curve = risk_coverage_curve(y, after)
        assert display.ax_.lines[1].get_xydata() == pytest.approx(np.column_stack([curve.coverage, curve.risk]))
        texts = box_texts(display.ax_)
        place = texts.index("after")
        area = aurc(y, after)
        values = area.aurc, area.excess, area.augrc, curve.risk[-1]
        assert texts[place + 1 : place + 5] == [f"{value:.3f}" for value in values]
        assert display.ax_.get_title() == "$a$"

    def test_a_selected_threshold_is_marked(self, predictions):
        """The point of the threshold is marked, and the box says what it promises."""
        y, _, after = predictions
        selected = select_threshold(y, after, max_error=0.6)
        figure, ax = plt.subplots()
        display = RiskCoverageDisplay.from_predictions(y, after, selected=selected).plot(ax)
        figure.canvas.draw()
        assert display.figure_ is figure
        assert any(line.get_xydata().tolist() == [[selected.coverage, selected.error]] for line in ax.lines)
        assert any("accept from" in text for text in box_texts(ax))

    def test_from_estimator(self):
        """An estimator's probabilities, classes and name are used."""
        rng = np.random.default_rng(0)
        X, y = rng.normal(size=(80, 2)), np.array(["no", "yes"])[rng.integers(0, 2, 80)]
        model = LogisticRegression().fit(X, y)
        display = RiskCoverageDisplay.from_estimator(model, X, y)
        assert display.name == "LogisticRegression"
        assert display.area == aurc(y, model.predict_proba(X), classes=model.classes_)

    def test_weighted_rows_and_one_row(self):
        """Weights have no band, one row is drawn."""
        RiskCoverageDisplay.from_predictions([0, 1], [0.2, 0.4], sample_weight=[1, 2]).plot().figure_.canvas.draw()
        RiskCoverageDisplay.from_predictions([1], [0.2]).plot().figure_.canvas.draw()
