"""Reliability diagram: how often events with a probability of p happen."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..errors import InputError
from ..metrics import checked_predictions, label_columns
from ..metrics.checks import either_weights
from .drawing import (
    BLUE,
    GREY,
    ORANGE,
    PALE,
    append_strip,
    divided,
    imported,
    new_axes,
    printable,
    set_title,
    without_frame,
)
from .panels import (
    FEW_EVENTS,
    LEFT_WIDTH,
    MAX_NAME_LENGTH,
    MAX_PANELS,
    draw_numbers,
    draw_panel,
    draw_strip,
    panel_axes,
    panels_size,
    split_figure,
)
from .summary import ReliabilitySummary, SummaryOptions, summarise


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
        inclusion: ArrayLike | None = None,
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
        classes, sample_weight, inclusion
            As in `llmclf.metrics.reliability_curve`. With `inclusion` the band comes from rows drawn as these were, and the bars
            are left out, as with weights.
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
        weights = either_weights(sample_weight, inclusion, y)
        if proba_before is not None:
            checked_predictions(y, proba_before, classes, weights)
        selection = {
            "pos_label": pos_label,
            "classes": classes,
            "sample_weight": sample_weight,
            "inclusion": inclusion,
        }
        panels = {}
        if classwise:
            if pos_label is not None:
                raise InputError(
                    f"pos_label={pos_label!r} asks for one class and classwise=True for all; leave one out"
                )
            for label in _panel_classes(y, proba, classes, weights):
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

    def plot(self, ax: Any = None, *, scale: str = "linear", box: bool = True) -> ReliabilityDisplay:
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
        box : bool
            Put the numbers in a box to the right of the diagram, in the place of `ax`.

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
            figure, ax, right = split_figure(len(self.classwise))
            small = panel_axes(right, len(self.classwise))
        elif ax is None:
            ax = new_axes(LEFT_WIDTH if box else 5.0, 6.2)
        event = "Accuracy" if self.pos_label is None else "Frequency"
        probability = "Confidence" if self.pos_label is None else f"Probability of {self.pos_label}"
        drawn = [("after" if self.before else "", self.summary, BLUE, "o")]
        if self.before is not None:
            drawn.insert(0, ("before", self.before, ORANGE, "s"))
        divider = divided(ax)
        strip = append_strip(ax, divider)
        draw_panel(ax, drawn, scale)
        draw_strip(strip, drawn, scale)
        ax.set_ylabel(event)
        strip.set_xlabel(printable(probability), parse_math=False)
        strip.set_ylabel("Rows")
        for axes in (ax, strip):
            axes.yaxis.set_label_coords(-0.13, 0.5)
        if box:
            draw_numbers(ax, drawn, event.lower(), divider)
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
        self._draw_classes(panel_axes(figure, len(self.classwise)), "linear")
        self.figure_ = figure
        return self

    def _draw_classes(self, cells: list[Any], scale: str) -> None:
        for axes, (label, summary) in zip(cells, self.classwise.items(), strict=True):
            few = min(summary.n_events, summary.n_rows - summary.n_events) < FEW_EVENTS
            draw_panel(axes, [("", summary, PALE if few else BLUE, "o")], scale)
            short = str(label) if len(str(label)) <= MAX_NAME_LENGTH else f"{str(label)[:MAX_NAME_LENGTH]}…"
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
