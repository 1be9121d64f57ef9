"""Drawings of how far probabilities can be trusted, in scikit-learn's Display idiom.

Matplotlib and pandas are imported where they are used, and no global setting of matplotlib is changed.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import MissingDependencyError
from .metrics import ReliabilityCurve, accuracy, checked_predictions, reliability_curve

# From the palette of Okabe and Ito (2008), which colour-blind readers can tell apart.
_BLUE, _ORANGE, _GREY = "#0072B2", "#D55E00", "#8C8C8C"

_STRIP_BINS = 20


@dataclass(frozen=True, eq=False)
class ReliabilitySummary:
    """What a reliability diagram shows of one set of probabilities.

    Attributes
    ----------
    curve : ReliabilityCurve
        Accuracy against confidence, bin by bin.
    lower, upper : ndarray (n_filled,)
        Wilson's 95 % interval of each bin's accuracy; NaN where rows are weighted, as weights are no counts.
    strip : ndarray (20,)
        Share of the rows' weight in each twentieth of the confidence.
    n_rows : int
    accuracy, confidence : float
        Weighted means over all rows.
    calibration_error : float
        Expected calibration error of `curve`.
    """

    curve: ReliabilityCurve
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    strip: NDArray[np.float64]
    n_rows: int
    accuracy: float
    confidence: float
    calibration_error: float


class ReliabilityDisplay:
    """Reliability diagram: how often the predicted class is right, against the confidence in it.

    Make one with `from_predictions` or `from_estimator`, then `plot` or `frame` it.

    Parameters
    ----------
    summary : ReliabilitySummary
    before : ReliabilitySummary, optional
        The same rows' probabilities before calibration, drawn behind.
    name : str, optional
        Title, drawn as it is written.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The diagram, after `plot`.
    strip_ax_ : matplotlib Axes
        The strip below it: the distribution of the confidence.
    figure_ : matplotlib Figure

    Examples
    --------
    >>> display = ReliabilityDisplay.from_predictions([0, 1, 1], [[0.9, 0.1], [0.2, 0.8], [0.9, 0.1]], n_bins=10)
    >>> display.frame()[["confidence", "accuracy", "count"]].values.round(6).tolist()
    [[0.8, 1.0, 1.0], [0.9, 0.5, 2.0]]
    >>> display.plot().ax_.get_ylabel()
    'Accuracy'
    """

    def __init__(
        self, summary: ReliabilitySummary, *, before: ReliabilitySummary | None = None, name: str | None = None
    ) -> None:
        self.summary = summary
        self.before = before
        self.name = name

    @classmethod
    def from_predictions(
        cls,
        y: ArrayLike,
        proba: ArrayLike,
        *,
        proba_before: ArrayLike | None = None,
        n_bins: int = 15,
        strategy: str = "uniform",
        classes: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        name: str | None = None,
    ) -> ReliabilityDisplay:
        """A diagram of given probabilities.

        Parameters
        ----------
        y : array-like (n,)
            The true class of each row; see `llmclf.metrics.label_columns`.
        proba : array-like (n, K) or (n,)
            Probabilities, rows summing to 1; one dimension is P(class 1) of two classes.
        proba_before : array-like, optional
            The same rows' probabilities before calibration, for comparison.
        n_bins, strategy, classes, sample_weight
            As in `llmclf.metrics.reliability_curve`.
        name : str, optional
            Title.

        Raises
        ------
        InputError
            Any argument cannot be used.
        """

        def summarise(probabilities: ArrayLike) -> ReliabilitySummary:
            return _summary(y, probabilities, n_bins, strategy, classes, sample_weight)

        before = None if proba_before is None else summarise(proba_before)
        return cls(summarise(proba), before=before, name=name)

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: ArrayLike,
        *,
        proba_before: ArrayLike | None = None,
        n_bins: int = 15,
        strategy: str = "uniform",
        sample_weight: ArrayLike | None = None,
        name: str | None = None,
    ) -> ReliabilityDisplay:
        """A diagram of what a fitted classifier predicts for labelled rows that it was not fitted on.

        Parameters
        ----------
        estimator : fitted classifier
            With `predict_proba` and `classes_`.
        X : table or array-like (n, ...)
            Rows for the classifier.
        y : array-like (n,)
            Their true classes.
        proba_before, n_bins, strategy, sample_weight
            As in `from_predictions`.
        name : str, optional
            Title; the name of the classifier's class unless given.

        Raises
        ------
        InputError
            Any argument cannot be used.

        Examples
        --------
        >>> from sklearn.linear_model import LogisticRegression
        >>> X, y = [[0.0], [1.0], [2.0], [3.0]], ["no", "no", "yes", "yes"]
        >>> ReliabilityDisplay.from_estimator(LogisticRegression().fit(X, y), X, y).name
        'LogisticRegression'
        """
        return cls.from_predictions(
            y,
            estimator.predict_proba(X),
            proba_before=proba_before,
            n_bins=n_bins,
            strategy=strategy,
            classes=estimator.classes_,
            sample_weight=sample_weight,
            name=type(estimator).__name__ if name is None else name,
        )

    def frame(self) -> Any:
        """The bins as a pandas DataFrame.

        Returns
        -------
        DataFrame
            One row per non-empty bin: ``lower`` and ``upper`` edge, mean ``confidence``, ``accuracy``, its Wilson
            interval ``accuracy_lower`` and ``accuracy_upper`` (NaN for weighted rows), ``weight``, ``count``. With
            probabilities before calibration, a first column ``calibration`` says "before" or "after".

        Raises
        ------
        MissingDependencyError
            pandas is not installed.
        """
        pandas = _imported("pandas")
        if self.before is None:
            return pandas.DataFrame(_columns(self.summary))
        parts = []
        for when, summary in (("before", self.before), ("after", self.summary)):
            part = pandas.DataFrame(_columns(summary))
            part.insert(0, "calibration", when)
            parts.append(part)
        return pandas.concat(parts, ignore_index=True)

    def plot(self, ax: Any = None) -> ReliabilityDisplay:
        """Draw the diagram, with the distribution of the confidence in a strip below.

        Points lie at the mean confidence and the accuracy of each bin, with area by number of rows and Wilson's 95 %
        interval as bars (none for weighted rows). Points below the diagonal are over-confident.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw; the strip takes its lower part. None makes a figure.

        Returns
        -------
        The display itself, with `ax_`, `strip_ax_` and `figure_` set.

        Raises
        ------
        MissingDependencyError
            matplotlib is not installed.
        """
        _imported("matplotlib")
        from matplotlib import pyplot
        from matplotlib.ticker import PercentFormatter
        from mpl_toolkits.axes_grid1 import make_axes_locatable

        if ax is None:
            figure, ax = pyplot.subplots(figsize=(5.0, 6.2), layout="constrained")
            # The layout does not see the strip, whose last tick label reaches over the edge.
            figure.get_layout_engine().set(w_pad=0.12)
        strip = make_axes_locatable(ax).append_axes("bottom", size="20%", pad=0.12, sharex=ax)
        ax.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", ylabel="Accuracy")
        ax.tick_params(labelbottom=False)
        ax.plot([0, 1], [0, 1], color=_GREY, linewidth=1, linestyle=(0, (4, 3)), zorder=1)

        if self.before is None:
            drawn = [("", self.summary, _BLUE, "o")]
        else:
            drawn = [("before", self.before, _ORANGE, "s"), ("after", self.summary, _BLUE, "o")]
        for order, (_, summary, colour, marker) in enumerate(drawn):
            _draw_curve(ax, summary, colour, marker, zorder=2 + order)
            last = order == len(drawn) - 1
            strip.stairs(
                summary.strip,
                np.linspace(0, 1, _STRIP_BINS + 1),
                color=colour,
                fill=last,
                alpha=0.45 if last else 1.0,
                linewidth=1.4,
                zorder=3 - order,
            )
        _draw_numbers(ax, drawn)
        strip.set(xlabel="Confidence", ylabel="Rows", ylim=(0, None))
        strip.locator_params(axis="y", nbins=3)
        strip.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        for axes in (ax, strip):
            axes.spines[["top", "right"]].set_visible(False)
            axes.yaxis.set_label_coords(-0.12, 0.5)
        if self.name is not None:
            # No wrapping: matplotlib measures words to wrap as mathematics, whatever parse_math says.
            ax.set_title(self.name, parse_math=False)
        self.ax_, self.strip_ax_, self.figure_ = ax, strip, ax.figure
        return self


def _summary(
    y: ArrayLike,
    proba: ArrayLike,
    n_bins: int,
    strategy: str,
    classes: ArrayLike | None,
    sample_weight: ArrayLike | None,
) -> ReliabilitySummary:
    curve = reliability_curve(y, proba, n_bins=n_bins, strategy=strategy, classes=classes, sample_weight=sample_weight)
    _, probabilities, weights = checked_predictions(y, proba, classes, sample_weight)
    confidence = probabilities.max(axis=1)
    counted = bool((weights == 1).all())
    lower, upper = _wilson(curve) if counted else (np.full(curve.count.size, np.nan),) * 2
    strip, _ = np.histogram(confidence, bins=_STRIP_BINS, range=(0.0, 1.0), weights=weights)
    return ReliabilitySummary(
        curve=curve,
        lower=lower,
        upper=upper,
        strip=strip / weights.sum(),
        n_rows=int((weights > 0).sum()),
        accuracy=accuracy(y, proba, classes=classes, sample_weight=sample_weight),
        confidence=float(np.average(confidence, weights=weights)),
        calibration_error=curve.error(),
    )


def _wilson(curve: ReliabilityCurve) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Wilson's (1927) 95 % interval of each bin's accuracy."""
    from scipy.stats import binomtest

    intervals = [
        binomtest(round(share * count), int(count)).proportion_ci(0.95, method="wilson")
        for share, count in zip(curve.accuracy, curve.count, strict=True)
    ]
    return np.array([interval.low for interval in intervals]), np.array([interval.high for interval in intervals])


def _columns(summary: ReliabilitySummary) -> dict[str, NDArray[Any]]:
    curve = summary.curve
    return {
        "lower": curve.lower,
        "upper": curve.upper,
        "confidence": curve.confidence,
        "accuracy": curve.accuracy,
        "accuracy_lower": summary.lower,
        "accuracy_upper": summary.upper,
        "weight": curve.weight,
        "count": curve.count,
    }


def _draw_curve(ax: Any, summary: ReliabilitySummary, colour: str, marker: str, zorder: int) -> None:
    curve = summary.curve
    ax.plot(curve.confidence, curve.accuracy, color=colour, linewidth=1, alpha=0.6, zorder=zorder)
    # Rounding can put the end of an interval a hair inside the point, and error bars refuse negative lengths.
    below = np.maximum(curve.accuracy - summary.lower, 0.0)
    above = np.maximum(summary.upper - curve.accuracy, 0.0)
    ax.errorbar(
        curve.confidence,
        curve.accuracy,
        yerr=[below, above],
        fmt="none",
        ecolor=colour,
        elinewidth=1.1,
        alpha=0.7,
        zorder=zorder,
    )
    ax.scatter(
        curve.confidence,
        curve.accuracy,
        s=14 + 130 * curve.count / curve.count.max(),
        color=colour,
        marker=marker,
        edgecolors="white",
        linewidths=0.8,
        zorder=zorder + 0.5,
        clip_on=False,
    )


def _draw_numbers(ax: Any, drawn: list[tuple[str, ReliabilitySummary, str, str]]) -> None:
    """Legend and numbers in one box, in whichever of two corners holds fewer points."""
    from matplotlib.lines import Line2D
    from matplotlib.offsetbox import AnchoredOffsetbox, DrawingArea, HPacker, TextArea, VPacker

    def text(content: str, colour: str = "#333333") -> Any:
        return TextArea(content, textprops={"size": "small", "color": colour})

    def row(*children: Any) -> Any:
        return HPacker(children=list(children), align="center", pad=0, sep=3)

    compared = len(drawn) > 1
    names = VPacker(
        children=[
            # The empty area makes this row as high as one that holds a marker.
            row(text(f"n = {drawn[-1][1].n_rows:,}"), DrawingArea(0, 8)),
            text("accuracy"),
            text("mean confidence"),
            text("ECE"),
        ],
        align="left",
        pad=0,
        sep=3,
    )
    columns = []
    for when, summary, colour, marker in drawn:
        key = DrawingArea(8, 8)
        key.add_artist(Line2D([4], [4], marker=marker, color=colour, markersize=6, markeredgecolor="white"))
        numbers = (summary.accuracy, summary.confidence, summary.calibration_error)
        columns.append(
            VPacker(
                children=[
                    row(key, text(when, colour)) if compared else row(DrawingArea(0, 8), text(" ")),
                    *(text(f"{number:.3f}") for number in numbers),
                ],
                align="right",
                pad=0,
                sep=3,
            )
        )
    curves = [summary.curve for _, summary, _, _ in drawn]
    upper_left = sum(((curve.confidence < 0.6) & (curve.accuracy > 0.75)).sum() for curve in curves)
    lower_right = sum(((curve.confidence > 0.4) & (curve.accuracy < 0.25)).sum() for curve in curves)
    box = AnchoredOffsetbox(
        loc="upper left" if upper_left <= lower_right else "lower right",
        child=HPacker(children=[names, *columns], align="baseline", pad=0, sep=10),
        pad=0.5,
        borderpad=0.6,
        frameon=True,
        zorder=6,
    )
    box.patch.set(edgecolor="#CCCCCC", facecolor="white", alpha=0.9, boxstyle="round,pad=0,rounding_size=0.3")
    ax.add_artist(box)


def _imported(package: str) -> ModuleType:
    import importlib

    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise MissingDependencyError(
            f"{package} is not installed, and the reliability diagram needs it; pip install {package}"
        ) from error
