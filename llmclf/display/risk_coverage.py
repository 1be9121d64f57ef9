"""Risk-coverage diagram: the error among the rows that are kept when the least confident ones are sent to a person."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..calibration import RiskCoverageCurve, SelectedThreshold, risk_coverage_curve
from ..metrics import Aurc, aurc
from .drawing import BLUE, GREY, ORANGE, box_of_columns, divided, imported, new_axes, set_title, without_frame

_MAX_POINTS = 2000


class RiskCoverageDisplay:
    """Error rate against the share of rows that are kept.

    Make one with `from_predictions` or `from_estimator`, then `plot` or `frame` it.

    Parameters
    ----------
    curve : RiskCoverageCurve
    area : Aurc
    before : RiskCoverageCurve, optional
        The curve of the same rows' probabilities before calibration.
    area_before : Aurc, optional
    selected : SelectedThreshold, optional
        A threshold to mark; see `llmclf.calibration.select_threshold`.
    name : str, optional
        Title, drawn literally.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    Examples
    --------
    >>> y, proba = [0, 0, 1], [[0.9, 0.1], [0.8, 0.2], [0.7, 0.3]]
    >>> display = RiskCoverageDisplay.from_predictions(y, proba)
    >>> display.frame()[["threshold", "coverage", "risk"]].values.round(2).tolist()
    [[0.9, 0.33, 0.0], [0.8, 0.67, 0.0], [0.7, 1.0, 0.33]]
    >>> display.plot().ax_.get_xlabel()
    'Share of rows kept'
    """

    def __init__(
        self,
        curve: RiskCoverageCurve,
        area: Aurc,
        *,
        before: RiskCoverageCurve | None = None,
        area_before: Aurc | None = None,
        selected: SelectedThreshold | None = None,
        name: str | None = None,
    ) -> None:
        self.curve = curve
        self.area = area
        self.before = before
        self.area_before = area_before
        self.selected = selected
        self.name = name

    @classmethod
    def from_predictions(
        cls,
        y: ArrayLike,
        proba: ArrayLike,
        *,
        proba_before: ArrayLike | None = None,
        selected: SelectedThreshold | None = None,
        classes: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        groups: ArrayLike | None = None,
        inclusion: ArrayLike | None = None,
        name: str | None = None,
    ) -> RiskCoverageDisplay:
        """A diagram of given probabilities.

        Parameters
        ----------
        y : array-like (n,)
            The true class of each row; see `llmclf.metrics.label_columns`.
        proba : array-like (n, K) or (n,)
        proba_before : array-like, optional
            The same rows' probabilities before calibration, for comparison.
        selected : SelectedThreshold, optional
            The threshold to mark, as `select_threshold` returns it.
        classes, sample_weight, groups, inclusion
            As in `llmclf.calibration.risk_coverage_curve`.
        name : str, optional
            Title.

        Raises
        ------
        InputError
            An argument cannot be used.
        """
        options = {"classes": classes, "sample_weight": sample_weight, "inclusion": inclusion}
        before = None if proba_before is None else risk_coverage_curve(y, proba_before, groups=groups, **options)
        return cls(
            risk_coverage_curve(y, proba, groups=groups, **options),
            aurc(y, proba, **options),
            before=before,
            area_before=None if proba_before is None else aurc(y, proba_before, **options),
            selected=selected,
            name=name,
        )

    @classmethod
    def from_estimator(
        cls, estimator: Any, X: Any, y: ArrayLike, *, name: str | None = None, **options: Any
    ) -> RiskCoverageDisplay:
        """A diagram of what a fitted classifier predicts for labelled rows that it was not fitted on.

        Parameters
        ----------
        estimator : fitted classifier
            With `predict_proba` and `classes_`.
        X : rows for the classifier
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
        """
        return cls.from_predictions(
            y,
            estimator.predict_proba(X),
            classes=estimator.classes_,
            name=type(estimator).__name__ if name is None else name,
            **options,
        )

    def frame(self) -> Any:
        """The curve as a pandas DataFrame: ``threshold``, ``coverage``, ``risk``, ``lower``, ``upper``.

        With probabilities before calibration, a first column ``calibration`` says "before" or "after".

        Raises
        ------
        MissingDependencyError
            pandas is not installed.
        """
        pandas = imported("pandas")
        names = ("threshold", "coverage", "risk", "lower", "upper")
        parts = []
        for when, curve in (("before", self.before), ("after", self.curve)):
            if curve is not None:
                part = pandas.DataFrame({name: getattr(curve, name) for name in names})
                if self.before is not None:
                    part.insert(0, "calibration", when)
                parts.append(part)
        return pandas.concat(parts, ignore_index=True)

    def plot(self, ax: Any = None, *, box: bool = True) -> RiskCoverageDisplay:
        """Draw the curve, its pointwise 95 % interval as a band, and the areas under it in a box.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw. None makes a new figure.
        box : bool
            Put the areas in a box to the right of the diagram, in the place of `ax`.

        Returns
        -------
        The display itself, with `ax_` and `figure_` set.

        Raises
        ------
        MissingDependencyError
            matplotlib is not installed.
        """
        imported("matplotlib")
        from matplotlib.lines import Line2D
        from matplotlib.ticker import PercentFormatter

        ax = new_axes(7.8 if box else 5.6, 4.4) if ax is None else ax
        curve, dark = _drawn(self.curve), "#333333"
        compared = self.before is not None
        if self.before is not None:
            earlier = _drawn(self.before)
            ax.plot(earlier.coverage, earlier.risk, color=ORANGE, linewidth=1.4, linestyle=(0, (5, 2)), zorder=2)
        if not np.isnan(curve.upper).any():
            ax.fill_between(curve.coverage, curve.lower, curve.upper, color=BLUE, alpha=0.15, linewidth=0, zorder=1)
        # A single point has no line.
        ax.plot(
            curve.coverage,
            curve.risk,
            marker="o" if len(curve.coverage) == 1 else None,
            color=BLUE,
            linewidth=1.8,
            zorder=3,
        )
        top = max(curve.risk[-1], *(part.risk[-1] for part in (self.before,) if part is not None), 0.02)
        shown = curve.risk[curve.coverage >= 0.05]
        ax.set(xlim=(0, 1), ylim=(0, min(1.0, 1.35 * max(top, shown.max(initial=0.0)))))
        ax.set(xlabel="Share of rows kept", ylabel="Error among them")
        ax.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0 if ax.get_ylim()[1] > 0.08 else 1))
        labels = ["AURC", "excess", "AUGRC", "error of all rows"]
        columns = [[(label, dark) for label in [" ", *labels]]]
        keys = []
        for when, area, colour, drawn in (
            ("before", self.area_before, ORANGE, self.before),
            ("after" if compared else " ", self.area, BLUE, curve),
        ):
            if area is not None and drawn is not None:
                values = [area.aurc, area.excess, area.augrc, drawn.risk[-1]]
                columns.append([(when, colour), *((f"{value:.3f}", dark) for value in values)])
                keys.append(Line2D([1, 7], [4, 4], color=colour) if compared else None)
        chosen = self.selected
        if chosen is not None and chosen.n_accepted:
            ax.axhline(chosen.max_error, color=GREY, linewidth=1, linestyle=(0, (4, 3)), zorder=1.5)
            ax.plot([chosen.coverage] * 2, [0, chosen.max_error], color=GREY, linewidth=1, zorder=1.5)
            ax.plot(chosen.coverage, chosen.error, "o", color=BLUE, markeredgecolor="white", markersize=8, zorder=4)
            note = [f"accept from {chosen.threshold:.3f}:", f"{chosen.coverage:.0%} of rows,"]
            note += [f"at most {chosen.max_error:.1%} wrong", f"({chosen.confidence:.0%} confidence)"]
            columns[0] += [(line, dark) for line in note]
            for column in columns[1:]:
                column += [(" ", dark)] * len(note)
        if box:
            box_of_columns(ax, columns, divided(ax), keys)
        without_frame(ax)
        set_title(ax, self.name)
        self.ax_, self.figure_ = ax, ax.figure
        return self


def _drawn(curve: RiskCoverageCurve) -> RiskCoverageCurve:
    """The curve, thinned to as many evenly spaced points as a picture can show."""
    if curve.coverage.size <= _MAX_POINTS:
        return curve
    kept = np.unique(np.linspace(0, curve.coverage.size - 1, _MAX_POINTS).round().astype(int))
    return RiskCoverageCurve(
        curve.threshold[kept], curve.coverage[kept], curve.risk[kept], curve.lower[kept], curve.upper[kept]
    )
