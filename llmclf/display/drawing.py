"""What the diagrams share: colours, boxes of text, strips below a diagram."""

from __future__ import annotations

import importlib
import unicodedata
from types import ModuleType
from typing import Any

from ..errors import MissingDependencyError

# From the palette of Okabe and Ito (2008): colour-blind readers can tell them apart, and they differ in lightness.
BLUE, ORANGE, GREY, PALE = "#0072B2", "#D55E00", "#8C8C8C", "#BFBFBF"


def imported(package: str) -> ModuleType:
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise MissingDependencyError(
            f"{package} is not installed, but the diagram needs it; run: pip install {package}"
        ) from error


def new_axes(width: float, height: float) -> Any:
    from matplotlib import pyplot

    figure, ax = pyplot.subplots(figsize=(width, height), layout="constrained")
    # The layout ignores appended axes, so their last tick label would reach beyond the edge.
    figure.get_layout_engine().set(w_pad=0.12)
    return ax


def divided(ax: Any) -> Any:
    """What takes parts of an axes' place for others; an axes has one."""
    from mpl_toolkits.axes_grid1 import make_axes_locatable

    return make_axes_locatable(ax)


def append_strip(ax: Any, divider: Any) -> Any:
    """Axes below `ax` that share its x axis."""
    strip = divider.append_axes("bottom", size="18%", pad=0.12, sharex=ax)
    ax.tick_params(labelbottom=False)
    return strip


def without_frame(*all_axes: Any) -> None:
    for axes in all_axes:
        axes.spines[["top", "right"]].set_visible(False)


def box_of_columns(ax: Any, columns: list[list[tuple[str, str]]], divider: Any, keys: list[Any] | None = None) -> Any:
    """Columns of coloured text in a box to the right of `ax`, whose place the divider takes from `ax`.

    `keys` are artists to draw before the first line of a column.
    """
    from matplotlib.offsetbox import AnchoredOffsetbox, DrawingArea, HPacker, TextArea, VPacker

    def text(content: str, colour: str) -> Any:
        area = TextArea(content, textprops={"size": "x-small", "color": colour})
        # Class names are data: a dollar sign in one does not start mathematics.
        label: Any = area.get_children()[0]
        label.set_parse_math(False)
        return area

    packed: list[Any] = []
    for number, lines in enumerate(columns):
        areas = [text(content, colour) for content, colour in lines]
        # The empty area makes the first row as high as one that holds a marker.
        key = DrawingArea(8, 8) if number else DrawingArea(0, 8)
        if keys is not None and number and keys[number - 1] is not None:
            key.add_artist(keys[number - 1])
        areas[0] = HPacker(children=[key, areas[0]] if number else [areas[0], key], align="center", pad=0, sep=3)
        packed.append(VPacker(children=areas, align="right" if number else "left", pad=0, sep=3))
    box = AnchoredOffsetbox(
        loc="upper left",
        child=HPacker(children=packed, align="baseline", pad=0, sep=8),
        pad=0.4,
        borderpad=0.0,
        frameon=True,
        zorder=6,
    )
    box.patch.set(edgecolor="#CCCCCC", facecolor="white", alpha=0.9, boxstyle="round,pad=0,rounding_size=0.3")
    ax.add_artist(box)
    box.set_clip_on(False)
    # The place is taken from the axes, so that neither data nor neighbours are covered.
    box.set_in_layout(False)
    width = box.get_window_extent().width / ax.figure.dpi
    beside = divider.append_axes("right", size=width + 0.1, pad=0.1)
    beside.set_axis_off()
    box.set_bbox_to_anchor(beside.bbox)
    return box


def set_title(ax: Any, name: str | None, **options: Any) -> None:
    if name is not None:
        # No wrapping: matplotlib measures the words to wrap as mathematics, whatever parse_math says.
        ax.set_title(printable(name), parse_math=False, **options)


def printable(name: str) -> str:
    """A name without the characters that fonts and XML cannot represent: control characters and lone surrogates."""
    return "".join("\ufffd" if unicodedata.category(letter) in ("Cc", "Cs") else letter for letter in name)
