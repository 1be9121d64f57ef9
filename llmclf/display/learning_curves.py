"""Learning curves: what each way of using labels gives, against the number of labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .drawing import BLUE, GREY, ORANGE, printable, without_frame

# From the palette of Okabe and Ito (2008) and that of Tol (2021), those that are visible on white and on black.
_COLOURS = ("#009E73", ORANGE, "#CC79A7", "#E69F00", "#AA7744")
_MARKERS = ("s", "^", "v", "D", "X")
MEASURES = {"accuracy": "Accuracy", "log_loss": "Log loss (nats)"}


def draw_learning_curves(
    curve: Sequence[Mapping[str, Any]], figure: Any = None, measures: Sequence[str] = tuple(MEASURES)
) -> Any:
    """Accuracy and log loss against the number of labels, one line per contestant.

    The last contestant is drawn in blue and on top, the first one in grey.

    Parameters
    ----------
    curve : sequence of mappings
        With ``contestant``, ``labels``, ``accuracy`` and ``log_loss``.
    figure : matplotlib Figure, optional
        An empty one; by default a new one of pyplot.
    measures : sequence of str
        One panel each.

    Returns
    -------
    Figure
    """
    if figure is None:
        from matplotlib import pyplot

        figure = pyplot.figure(figsize=(8.4, 4.2), layout="constrained")
    panels = figure.subplots(1, len(measures), squeeze=False)[0]
    names = list(dict.fromkeys(point["contestant"] for point in curve))
    labels = sorted({point["labels"] for point in curve})
    lines: list[Any] = []
    for ax, measure in zip(panels, measures, strict=True):
        lines = []
        for place, name in enumerate(names):
            points = [point for point in curve if point["contestant"] == name]
            (line,) = ax.plot(
                [point["labels"] for point in points],
                [point[measure] for point in points],
                label=printable(name),
                **_style(place, len(names)),
            )
            lines.append(line)
        ax.set_xscale("log")
        ax.set_xticks(labels, [str(number) for number in labels])
        ax.minorticks_off()
        ax.set(xlabel="Labels learned from", ylabel=MEASURES[measure])
        without_frame(ax)
    legend = figure.legend(
        handles=lines, loc="outside lower center", ncols=1 + len(measures), frameon=False, fontsize="small"
    )
    for text in legend.get_texts():
        text.set_parse_math(False)
    return figure


def _style(place: int, number: int) -> dict[str, Any]:
    if place == number - 1:
        return {"color": BLUE, "marker": "o", "linewidth": 2.2, "zorder": 4}
    if place == 0:
        return {"color": GREY, "linestyle": "--", "linewidth": 1.2, "zorder": 2}
    colour = _COLOURS[(place - 1) % len(_COLOURS)]
    return {"color": colour, "marker": _MARKERS[(place - 1) % len(_MARKERS)], "markersize": 4.5, "linewidth": 1.3}
