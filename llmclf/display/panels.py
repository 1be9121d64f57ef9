"""The parts of a reliability diagram: panels, the strip of confidences, the box of numbers, and a grid of small panels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.special import expit, logit

from .drawing import (
    GREY,
    box_of_columns,
)
from .summary import ReliabilitySummary

_STRIP_BINS = 20
MAX_PANELS = 12
LEFT_WIDTH = 7.2
"""Width in inches of a diagram with its box of numbers."""
FEW_EVENTS = 20
MAX_NAME_LENGTH = 24


def panels_size(n_panels: int) -> tuple[float, float]:
    """Width and height of a figure of small diagrams, in inches."""
    n_rows, n_columns = _grid(n_panels)
    return 2.1 * n_columns, 2.3 * n_rows


def _grid(n_panels: int) -> tuple[int, int]:
    n_columns = min(4, math.ceil(math.sqrt(n_panels)))
    return math.ceil(n_panels / n_columns), n_columns


def split_figure(n_panels: int) -> tuple[Any, Any, Any]:
    """A figure, one large axes on the left, and a subfigure for small ones on the right."""
    from matplotlib import pyplot

    width, height = panels_size(n_panels)
    figure = pyplot.figure(figsize=(LEFT_WIDTH + 0.2 + width, max(6.2, height)), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=[LEFT_WIDTH, width])
    left.set_facecolor("none")
    right.set_facecolor("none")
    return figure, left.subplots(), right


def panel_axes(figure: Any, n_panels: int) -> list[Any]:
    cells: list[Any] = figure.subplots(*_grid(n_panels), squeeze=False).ravel().tolist()
    for cell in cells[n_panels:]:
        cell.set_visible(False)
    return cells[:n_panels]


def draw_panel(ax: Any, drawn: list[tuple[str, ReliabilitySummary, str, str]], scale: str) -> None:
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


def draw_strip(strip: Any, drawn: list[tuple[str, ReliabilitySummary, str, str]], scale: str) -> None:
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


def draw_numbers(ax: Any, drawn: list[tuple[str, ReliabilitySummary, str, str]], event: str, divider: Any) -> None:
    """Legend and numbers in one box beside the diagram."""
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
    box_of_columns(ax, columns, divider, keys)
