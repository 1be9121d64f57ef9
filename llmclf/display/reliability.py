"""Reliability diagram: how often events with a probability of p happen."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit, logit

from ..errors import InputError
from ..metrics import checked_predictions, label_columns
from .drawing import (
    BLUE,
    GREY,
    ORANGE,
    PALE,
    append_strip,
    box_of_columns,
    imported,
    new_axes,
    printable,
    set_title,
    without_frame,
)
from .summary import ReliabilitySummary, SummaryOptions, summarise

_STRIP_BINS = 20
MAX_PANELS = 12
_FEW_EVENTS = 20
_MAX_NAME_LENGTH = 24


class ReliabilityDisplay:
    """Reliability diagram: how often events with a probability of p happen.

    By default, the event is that the predicted class is right, and its probability is the confidence. Make one with
    `from_predictions` or `from_estimator`, then `plot` or `frame` it.

    Parameters
    ----------
    summary : ReliabilitySummary
    before : ReliabilitySummary, optional
        The same rows' probabilities before calibration, drawn behind.
    classwise : dict of class to ReliabilitySummary, optional
        One small diagram per class, each class against the others.
    name : str, optional
        Title, drawn literally.
    pos_label : class, optional
        The class whose probability is shown; None shows the confidence.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The diagram, after `plot`.
    strip_ax_ : matplotlib Axes
        The strip below it, with the distribution of the probability.
    class_axes_ : dict of class to matplotlib Axes
        The small diagrams; empty without `classwise`.
    figure_ : matplotlib Figure

    Examples
    --------
    >>> y, proba = [0, 1, 1], [[0.9, 0.1], [0.2, 0.8], [0.9, 0.1]]
    >>> display = ReliabilityDisplay.from_predictions(y, proba, kind="uniform", n_bins=10)
    >>> display.frame()[["confidence", "accuracy", "count"]].values.round(6).tolist()
    [[0.8, 1.0, 1.0], [0.9, 0.5, 2.0]]
    >>> display.plot().ax_.get_ylabel()
    'Accuracy'
    """

    def __init__(
        self,
        summary: ReliabilitySummary,
        *,
        before: ReliabilitySummary | None = None,
        classwise: dict[Any, ReliabilitySummary] | None = None,
        name: str | None = None,
        pos_label: Any = None,
    ) -> None:
        self.summary = summary
        self.before = before
        self.classwise = classwise or {}
        self.name = name
        self.pos_label = pos_label

    @classmethod
    def from_predictions(
        cls,
        y: ArrayLike,
        proba: ArrayLike,
        *,
        proba_before: ArrayLike | None = None,
        kind: str = "corp",
        n_bins: int = 15,
        band: str | None = "consistency",
        confidence_level: float = 0.95,
        n_resamples: int = 300,
        classwise: bool = False,
        pos_label: Any = None,
        classes: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        name: str | None = None,
        random_state: Any = 0,
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
        kind : {"corp", "mass", "uniform", "smooth"}
            The curve: isotonic regression, whose blocks follow from the data (Dimitriadis, Gneiting & Jordan 2021); bins of
            equal weight or width; or a mean with a Gaussian kernel.
        n_bins : int
            The number of bins of the curve and of the calibration error in the box; the latter's always have equal width.
        band : {"consistency", "confidence"} or None
            "consistency" lies around the diagonal, where the curve of a calibrated model with these probabilities would be
            (Bröcker & Smith 2007). "confidence" lies around the curve and comes from resampled rows; near 0 and 1 and for "corp"
            it is somewhat too narrow.
        confidence_level : float in (0, 1)
            Of the band, the bars and the interval in the box; the band and the bars are pointwise.
        n_resamples : int
            The number of draws for the band.
        classwise : bool
            Add a small diagram for each class against the others, for at most the twelve most frequent classes.
        pos_label : class, optional
            Show the probability of this class instead of the confidence.
        classes, sample_weight
            As in `llmclf.metrics.reliability_curve`.
        name : str, optional
            Title.
        random_state : int, Generator or None
            Seeds the draws for the band and the interval.

        Raises
        ------
        InputError
            An argument cannot be used.
        """
        options = SummaryOptions(kind, n_bins, band, confidence_level, n_resamples, random_state)
        options.check()
        if proba_before is not None:
            checked_predictions(y, proba_before, classes, sample_weight)
        selection = {"pos_label": pos_label, "classes": classes, "sample_weight": sample_weight}
        panels = {}
        if classwise:
            if pos_label is not None:
                raise InputError(
                    f"pos_label={pos_label!r} asks for one class and classwise=True for all; leave one out"
                )
            for label in _panel_classes(y, proba, classes, sample_weight):
                panels[label] = summarise(y, proba, options, **(selection | {"pos_label": label}))
        return cls(
            summarise(y, proba, options, **selection),
            before=None if proba_before is None else summarise(y, proba_before, options, **selection),
            classwise=panels,
            name=name,
            pos_label=pos_label,
        )

    @classmethod
    def from_estimator(
        cls, estimator: Any, X: Any, y: ArrayLike, *, name: str | None = None, **options: Any
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
        name : str, optional
            Title; by default the name of the classifier's class.
        **options
            The other arguments of `from_predictions`, except `classes`.

        Raises
        ------
        InputError
            An argument cannot be used.

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
            classes=estimator.classes_,
            name=type(estimator).__name__ if name is None else name,
            **options,
        )

    def frame(self) -> Any:
        """The points as a pandas DataFrame.

        Returns
        -------
        DataFrame
            One row per point: ``lower`` and ``upper`` edge, mean ``confidence``, ``accuracy``, its Wilson interval
            ``accuracy_lower`` and ``accuracy_upper`` (NaN for weighted rows), ``weight``, ``count``. With probabilities before
            calibration, a first column ``calibration`` says "before" or "after"; with small diagrams, a first column ``class``
            holds the class, and None for the confidence.

        Raises
        ------
        MissingDependencyError
            pandas is not installed.
        """
        pandas = imported("pandas")

        def part(summary: ReliabilitySummary, **first: Any) -> Any:
            frame = pandas.DataFrame(_columns(summary))
            for column, value in first.items():
                frame.insert(0, column, pandas.Series([value] * len(frame), dtype=object))
            return frame

        if self.classwise:
            parts = [part(self.summary, **{"class": None})]
            parts += [part(summary, **{"class": label}) for label, summary in self.classwise.items()]
        elif self.before is not None:
            parts = [part(self.before, calibration="before"), part(self.summary, calibration="after")]
        else:
            return part(self.summary)
        return pandas.concat(parts, ignore_index=True)

    def plot(self, ax: Any = None, *, scale: str = "linear") -> ReliabilityDisplay:
        """Draw the diagram, with the distribution of the probability in a strip below.

        Each point lies at the mean probability and the frequency of its bin; its area grows with the number of rows. Bars are
        Wilson intervals (not drawn for weighted rows, for "smooth" or with a confidence band). Points below the diagonal are
        over-confident. The box shows the calibration error with its interval, the error that a calibrated model would show on
        this many rows, and the parts of the Brier score: miscalibration, discrimination and uncertainty.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw; the strip takes the lower part. None makes a new figure, which the small diagrams need.
        scale : {"linear", "log_odds"}
            With "log_odds", both axes are stretched towards 0 and 1, where the rows of a confident model lie.

        Returns
        -------
        The display itself, with `ax_`, `strip_ax_`, `class_axes_` and `figure_` set.

        Raises
        ------
        MissingDependencyError
            matplotlib is not installed.
        InputError
            `scale` is unknown, or an axes is given for several diagrams.
        """
        imported("matplotlib")
        if scale not in ("linear", "log_odds"):
            raise InputError(f"scale={scale!r} is unknown; expected 'linear' or 'log_odds'")
        if ax is not None and self.classwise:
            raise InputError("classwise diagrams need a figure of their own; leave out ax=")
        self.class_axes_: dict[Any, Any] = {}
        small: list[Any] = []
        figure = None
        if self.classwise:
            figure, ax, right = _halves(len(self.classwise))
            small = _cells(right, len(self.classwise))
        elif ax is None:
            ax = new_axes(5.0, 6.2)
        event = "Accuracy" if self.pos_label is None else "Frequency"
        probability = "Confidence" if self.pos_label is None else f"Probability of {self.pos_label}"
        drawn = [("after" if self.before else "", self.summary, BLUE, "o")]
        if self.before is not None:
            drawn.insert(0, ("before", self.before, ORANGE, "s"))
        strip = append_strip(ax)
        _draw_panel(ax, drawn, scale)
        _draw_strip(strip, drawn, scale)
        ax.set_ylabel(event)
        strip.set_xlabel(printable(probability), parse_math=False)
        strip.set_ylabel("Rows")
        for axes in (ax, strip):
            axes.yaxis.set_label_coords(-0.13, 0.5)
        _draw_numbers(ax, drawn, event.lower())
        self._draw_classes(small, scale)
        without_frame(ax, strip)
        set_title(ax, self.name)
        self.ax_, self.strip_ax_, self.figure_ = ax, strip, figure or ax.figure
        return self

    def plot_classes(self, figure: Any = None) -> ReliabilityDisplay:
        """Draw the small diagrams alone, each class against the others.

        Parameters
        ----------
        figure : matplotlib Figure, optional
            Where to draw. None makes a new figure.

        Returns
        -------
        The display itself, with `class_axes_` and `figure_` set.

        Raises
        ------
        MissingDependencyError
            matplotlib is not installed.
        InputError
            The display was made without ``classwise=True``.
        """
        imported("matplotlib")
        if not self.classwise:
            raise InputError("there are no small diagrams; make the display with classwise=True")
        if figure is None:
            from matplotlib import pyplot

            figure = pyplot.figure(figsize=panels_size(len(self.classwise)), layout="constrained")
        self.class_axes_ = {}
        self._draw_classes(_cells(figure, len(self.classwise)), "linear")
        self.figure_ = figure
        return self

    def _draw_classes(self, cells: list[Any], scale: str) -> None:
        for axes, (label, summary) in zip(cells, self.classwise.items(), strict=True):
            few = min(summary.n_events, summary.n_rows - summary.n_events) < _FEW_EVENTS
            _draw_panel(axes, [("", summary, PALE if few else BLUE, "o")], scale)
            short = str(label) if len(str(label)) <= _MAX_NAME_LENGTH else f"{str(label)[:_MAX_NAME_LENGTH]}…"
            title = f"{short} ({summary.n_events}{', too few' if few else ''})"
            set_title(axes, title, fontsize="small", color=GREY if few else "black")
            axes.tick_params(labelsize="small")
            self.class_axes_[label] = axes
        without_frame(*cells)


def _panel_classes(
    y: ArrayLike, proba: ArrayLike, classes: ArrayLike | None, sample_weight: ArrayLike | None
) -> list[Any]:
    """The most frequent classes, as `pos_label` names them, in the order of the columns."""
    columns, probabilities, weights = checked_predictions(y, proba, classes, sample_weight)
    n_columns = probabilities.shape[1]
    if classes is not None:
        known = np.asarray(classes, dtype=object).tolist()
    elif np.asarray(y).dtype.kind in "buif":
        known = list(range(n_columns))
    else:
        known = sorted(set(np.asarray(y, dtype=object).tolist()))
        assert (label_columns(known, n_columns) == np.arange(n_columns)).all()
    counts = np.bincount(columns, weights, minlength=n_columns)
    return [known[k] for k in sorted(np.argsort(-counts, kind="stable")[:MAX_PANELS])]


def _columns(summary: ReliabilitySummary) -> dict[str, Any]:
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


def panels_size(n_panels: int) -> tuple[float, float]:
    """Width and height of a figure of small diagrams, in inches."""
    n_rows, n_columns = _grid(n_panels)
    return 2.1 * n_columns, 2.3 * n_rows


def _grid(n_panels: int) -> tuple[int, int]:
    n_columns = min(4, math.ceil(math.sqrt(n_panels)))
    return math.ceil(n_panels / n_columns), n_columns


def _halves(n_panels: int) -> tuple[Any, Any, Any]:
    """A figure, one large axes on the left, and a subfigure for small ones on the right."""
    from matplotlib import pyplot

    width, height = panels_size(n_panels)
    figure = pyplot.figure(figsize=(5.6 + width, max(6.2, height)), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=[5.4, width])
    left.set_facecolor("none")
    right.set_facecolor("none")
    return figure, left.subplots(), right


def _cells(figure: Any, n_panels: int) -> list[Any]:
    cells: list[Any] = figure.subplots(*_grid(n_panels), squeeze=False).ravel().tolist()
    for cell in cells[n_panels:]:
        cell.set_visible(False)
    return cells[:n_panels]


def _draw_panel(ax: Any, drawn: list[tuple[str, ReliabilitySummary, str, str]], scale: str) -> None:
    low, high = _limits([summary for _, summary, _, _ in drawn], scale)
    ax.set(xlim=(low, high), ylim=(low, high))
    if scale == "log_odds":
        ax.set(xscale="logit", yscale="logit", xlim=(low, high), ylim=(low, high))
        _log_odds_ticks(ax, low, high)
    ax.set_aspect("equal")
    ax.plot([low, high], [low, high], color=GREY, linewidth=1, linestyle=(0, (4, 3)), zorder=1)

    def inside(values: Any) -> Any:
        return np.clip(values, low, high)

    for order, (_, summary, colour, marker) in enumerate(drawn):
        last, zorder = order == len(drawn) - 1, 2 + order
        if summary.band is not None and (last or summary.band_kind == "confidence"):
            x, bottom, top = summary.band
            of_curve = summary.band_kind == "confidence"
            step = "post" if summary.kind == "corp" and of_curve else None
            ax.fill_between(
                x,
                inside(bottom),
                inside(top),
                color=colour if of_curve else GREY,
                alpha=0.18 if of_curve else 0.22,
                linewidth=0,
                zorder=0.5,
                step=step,
            )
        x, height = summary.line
        style: dict[str, Any] = {"drawstyle": "steps-post"} if summary.kind == "corp" else {}
        style["linestyle"] = "solid" if last else (0, (5, 1.5))
        ax.plot(inside(x), inside(height), color=colour, linewidth=1.4, alpha=0.8, zorder=zorder, **style)
        curve = summary.curve
        if summary.kind != "smooth" and summary.band_kind != "confidence":
            # Rounding can put the end of an interval just inside the point, and error bars cannot have negative lengths.
            middle = inside(curve.accuracy)
            below, above = inside(summary.lower), inside(summary.upper)
            ax.errorbar(
                inside(curve.confidence),
                middle,
                yerr=[np.maximum(middle - below, 0.0), np.maximum(above - middle, 0.0)],
                fmt="none",
                ecolor=colour,
                elinewidth=1.0,
                alpha=0.55,
                zorder=zorder,
            )
        ax.scatter(
            inside(curve.confidence),
            inside(curve.accuracy),
            s=14 + 110 * curve.count / curve.count.max(),
            color=colour,
            marker=marker,
            edgecolors="white",
            linewidths=0.8,
            zorder=zorder + 0.5,
            clip_on=False,
        )


def _limits(summaries: list[ReliabilitySummary], scale: str) -> tuple[float, float]:
    """0 and 1; on the stretched scale, far enough to show the mean probability of every point, but not of every row."""
    if scale == "linear":
        return 0.0, 1.0
    size = max(summary.n_rows for summary in summaries)

    def end(values: list[float]) -> float:
        return float(np.clip(min(values) / 1.5, max(0.2 / size, 1e-6), 0.08))

    heights = [np.clip(summary.curve.accuracy, 0.5 / size, 1.0 - 0.5 / size) for summary in summaries]
    low = end([min(s.curve.confidence.min(), height.min()) for s, height in zip(summaries, heights, strict=True)])
    high = end(
        [1.0 - max(s.curve.confidence.max(), height.max()) for s, height in zip(summaries, heights, strict=True)]
    )
    return low, 1.0 - high


def _log_odds_ticks(ax: Any, low: float, high: float) -> None:
    from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

    small = [0.1**power for power in range(1, 7)]
    ticks = [tick for tick in sorted([*small, 0.5, *(1.0 - tick for tick in small)]) if low <= tick <= high]
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(FixedLocator(ticks))
        axis.set_major_formatter(FixedFormatter([f"{tick:.10g}" for tick in ticks]))
        axis.set_minor_locator(NullLocator())


def _draw_strip(strip: Any, drawn: list[tuple[str, ReliabilitySummary, str, str]], scale: str) -> None:
    from matplotlib.ticker import PercentFormatter

    low, high = strip.get_xlim()
    edges = np.linspace(0.0, 1.0, _STRIP_BINS + 1)
    bounds = edges
    if scale == "log_odds":
        # The outermost bins also hold everything beyond them.
        bounds = expit(np.linspace(logit(low), logit(high), _STRIP_BINS + 1))
        edges = np.concatenate([[0.0], bounds[1:-1], [1.0]])
    for order, (_, summary, colour, _) in enumerate(drawn):
        last = order == len(drawn) - 1
        strip.stairs(
            summary.shares(edges),
            bounds,
            color=colour,
            fill=last,
            alpha=0.45 if last else 1.0,
            linewidth=1.4,
            zorder=3 - order,
        )
    strip.set(ylim=(0, None))
    strip.locator_params(axis="y", nbins=3)
    strip.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))


def _draw_numbers(ax: Any, drawn: list[tuple[str, ReliabilitySummary, str, str]], event: str) -> None:
    """Legend and numbers in one box, in whichever of two corners hides less of the curves."""
    from matplotlib.lines import Line2D

    dark = "#333333"
    last = drawn[-1][1]
    labels = [f"n = {last.n_rows:,}", event, "mean probability" if event != "accuracy" else "mean confidence", "ECE"]
    labels += [f"  {last.level:.0%} interval", "  if calibrated", "MCB / DSC", "UNC"]
    columns = [[(label, dark) for label in labels]]
    keys = []
    for when, summary, colour, marker in drawn:
        lines = [(when or " ", colour), (f"{summary.accuracy:.3f}", dark), (f"{summary.confidence:.3f}", dark)]
        lines += [(f"{summary.error.error:.3f}", dark), (f"{summary.error.low:.3f}–{summary.error.high:.3f}", dark)]
        lines += [(f"{summary.error.null_mean:.3f}", dark)]
        lines += [(f"{summary.corp.miscalibration:.3f} / {summary.corp.discrimination:.3f}", dark)]
        lines += [(f"{summary.corp.uncertainty:.3f}", dark)]
        columns.append(lines)
        keys.append(
            Line2D([4], [4], marker=marker, color=colour, markersize=6, markeredgecolor="white") if when else None
        )
    if last.band is not None:
        what = "if calibrated" if last.band_kind == "consistency" else "of the curve"
        columns[0].append((f"band: {last.level:.0%} {what}", GREY))
        for column in columns[1:]:
            column.append((" ", dark))
    low, high = ax.get_xlim()
    covered = []
    for _, summary, _, _ in drawn:
        points = np.column_stack([summary.curve.confidence, summary.curve.accuracy])
        # A large point counts more than a small one, and every point more than a piece of the line.
        covered += [
            summary.line.T,
            np.repeat(points, 1 + 40 * summary.curve.count // summary.curve.count.max(), axis=0),
        ]
    box_of_columns(ax, columns, np.clip(np.concatenate(covered), low, high), keys)
