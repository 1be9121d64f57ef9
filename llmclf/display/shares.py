"""Shares of classes: the estimate beside what hand labels alone, counted predictions and mean probabilities say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .drawing import BLUE, GREY, ORANGE, printable, without_frame

MAX_LINES = 12
_HEIGHT, _BASE = 0.62, 1.15  # inches per class, and around all of them
# name -> (label, marker, colour, offset within the line of a class)
_MARKS = {
    "share": ("corrected", "o", BLUE, 0.0),
    "by_hand": ("by hand alone", "s", GREY, -0.2),
    "naive": ("counted predictions", "X", ORANGE, 0.2),
    "mean_probability": ("mean probability", "d", "#CC79A7", 0.34),
}


def shown_lines(lines: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The lines that a figure has room for: those of the largest shares, in their order.

    Examples
    --------
    >>> len(shown_lines([{"share": {"value": 0.05}}] * 20))
    12
    """
    if len(lines) <= MAX_LINES:
        return list(lines)
    order = sorted(range(len(lines)), key=lambda i: -(lines[i]["share"]["value"] or 0.0))[:MAX_LINES]
    return [lines[i] for i in sorted(order)]


def shares_size(n_lines: int, width: float = 7.4) -> tuple[float, float]:
    """Width and height of the figure in inches."""
    return width, _BASE + _HEIGHT * n_lines


def draw_shares(lines: Sequence[Mapping[str, Any]], figure: Any = None) -> Any:
    """The share of each class as a point with its interval, estimated in several ways.

    Parameters
    ----------
    lines : sequence of mappings
        With ``class``, and ``share``, ``by_hand``, ``naive`` and ``mean_probability``, each a mapping with ``value``, ``low`` and
        ``high`` (None where unknown).
    figure : matplotlib Figure, optional
        An empty one; by default a new one of pyplot.

    Returns
    -------
    Figure
    """
    if figure is None:
        from matplotlib import pyplot

        figure = pyplot.figure(figsize=shares_size(len(lines)), layout="constrained")
    ax = figure.add_subplot()
    for name, (label, marker, colour, offset) in _MARKS.items():
        known = [(place, one[name]) for place, one in enumerate(lines) if one[name]["value"] is not None]
        for place, entry in known:
            if entry["low"] is not None and entry["high"] is not None:
                ends = [100.0 * entry["low"], 100.0 * entry["high"]]
                ax.plot(ends, [place + offset] * 2, color=colour, linewidth=2.6 if name == "share" else 1.6, zorder=2)
        ax.plot(
            [100.0 * entry["value"] for _, entry in known],
            [place + offset for place, _ in known],
            linestyle="none",
            marker=marker,
            markersize=8 if name == "share" else 6.5,
            color=colour,
            label=label,
            zorder=3,
        )
    for place in range(1, len(lines)):
        ax.axhline(place - 0.5, color="#cccccc", linewidth=0.8, zorder=1)
    ax.set_yticks(range(len(lines)), [printable(str(one["class"])) for one in lines])
    ax.set(ylim=(len(lines) - 0.45, -0.55), xlabel="Share of the rows in %")
    for text in ax.get_yticklabels():
        text.set_parse_math(False)
    ax.tick_params(axis="y", length=0)
    ax.margins(x=0.04)
    without_frame(ax)
    figure.legend(*ax.get_legend_handles_labels(), loc="outside upper center", ncols=len(_MARKS), frameon=False)
    return figure
