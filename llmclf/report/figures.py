"""The figures of a report, as SVG that takes its colours from the page around it, and as PNG files."""

from __future__ import annotations

import io
import os
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from ..atomic_files import write_file
from ..calibration import SelectedThreshold
from ..display import ReliabilityDisplay, RiskCoverageDisplay
from ..display.drawing import BLUE, imported, without_frame
from ..display.learning_curves import MEASURES, draw_learning_curves
from ..display.panels import LEFT_WIDTH, MAX_PANELS, panels_size
from ..display.shares import draw_shares, shares_size, shown_lines
from .evidence import Evidence
from .findings import SHARES_HEADING, shares_alt
from .labels_worth import curve_alt
from .measures import Settings
from .verdict import percent

_SVG = "http://www.w3.org/2000/svg"
_XLINK = "http://www.w3.org/1999/xlink"


_SCALE = 1.5  # page pixels per point: a page has larger letters than a figure
_MAX_PANEL_ROWS = 20_000


@dataclass(frozen=True)
class Drawing:
    """A figure that has not been drawn yet.

    Attributes
    ----------
    name : str
        The name of its file, without a suffix.
    title : str
    alt : str
        What it shows, for readers who cannot see it.
    plot : callable
        Returns a matplotlib Figure; whether the numbers stand beside the diagram in a box is its argument.
    """

    name: str
    title: str
    alt: str
    plot: Callable[[bool], Any]


def drawings(evidence: Evidence, settings: Settings, data: Mapping[str, Any]) -> list[Drawing]:
    """The figures of a report, in the order in which they are shown."""
    figures = [_reliability(evidence, settings, data), _risk_coverage(evidence, data), _classes(evidence, settings)]
    if evidence.label_mass is not None:
        figures.append(_label_mass(evidence, data))
    if data["race"] is not None:
        figures += learning_curves(data["race"])
    if data["shares"] is not None:
        figures.append(_shares(data["shares"]))
    return figures


def svg(drawing: Drawing) -> str:
    """The figure as an element for a page: text stays text, without scripts or styles that the page's policy would refuse."""
    figure = _figure(drawing, box=False)  # the page has the numbers in a table
    buffer = io.StringIO()
    matplotlib = imported("matplotlib")
    with _quiet(), matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": drawing.name}):
        figure.savefig(
            buffer, format="svg", metadata={"Date": None, "Creator": None}, transparent=True, bbox_inches="tight"
        )
    return _inline(buffer.getvalue(), drawing)


def png(drawing: Drawing, folder: str | os.PathLike[str]) -> Path:
    """Write the figure into a folder, and return the path."""
    path = Path(folder) / f"{drawing.name}.png"
    figure = _figure(drawing, box=True)
    with _quiet():
        write_file(lambda target: figure.savefig(target, format="png", dpi=150, bbox_inches="tight"), path)
    return path


def _figure(drawing: Drawing, *, box: bool) -> Any:
    imported("matplotlib")
    with _quiet():
        return drawing.plot(box)


@contextmanager
def _quiet() -> Iterator[None]:
    # Class names can be in any script. Where matplotlib's font lacks a letter, the browser finds a font that has it.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        yield


def _new_figure(width: float, height: float) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # Not pyplot's figure: no window, no global state.
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _reliability(evidence: Evidence, settings: Settings, data: Mapping[str, Any]) -> Drawing:
    def plot(box: bool) -> Any:
        figure = _new_figure(LEFT_WIDTH if box else 5.2, 6.2)
        ReliabilityDisplay.from_predictions(
            evidence.columns,
            evidence.proba,
            proba_before=evidence.proba_before,
            n_bins=settings.n_bins,
            confidence_level=settings.confidence,
            random_state=settings.seed,
        ).plot(ax=figure.add_subplot(), box=box)
        return figure

    ece = data["metrics"]["ece"]
    alt = f"Reliability diagram: accuracy against confidence. The calibration error is {percent(ece['after']['value'])}"
    alt += f"; before calibration it was {percent(ece['before']['value'])}." if "before" in ece else "."
    return Drawing("reliability", "Reliability", alt, plot)


def _risk_coverage(evidence: Evidence, data: Mapping[str, Any]) -> Drawing:
    chosen = data["selection"]

    def plot(box: bool) -> Any:
        selected = None
        if chosen["threshold"] is not None:
            selected = SelectedThreshold(
                **{name: chosen[name] for name in ("threshold", "coverage", "error", "error_bound", "n_accepted")},
                n_rows=evidence.n_rows,
                max_error=chosen["max_error"],
                confidence=chosen["confidence"],
            )
        display = RiskCoverageDisplay.from_predictions(
            evidence.columns,
            evidence.proba,
            proba_before=evidence.proba_before,
            selected=selected,
            groups=evidence.clusters,
        )
        figure = _new_figure(7.8 if box else 5.6, 4.6)
        display.plot(ax=figure.add_subplot(), box=box)
        return figure

    if chosen["threshold"] is None:
        end = "No threshold is marked: none keeps the error budget with the requested confidence."
    else:
        end = f"The threshold marked, a confidence of {chosen['threshold']:.4g}, accepts {percent(chosen['coverage'])} of rows."
    alt = f"Risk-coverage curve: error among the rows kept against the share of rows kept. {end}"
    return Drawing("risk_coverage", "Risk and coverage", alt, plot)


def _classes(evidence: Evidence, settings: Settings) -> Drawing:
    n_panels = min(len(evidence.classes), MAX_PANELS)
    thinned = evidence.n_rows > _MAX_PANEL_ROWS

    def plot(_: bool) -> Any:
        drawn = np.arange(evidence.n_rows)
        if thinned:
            drawn = np.sort(np.random.default_rng(settings.seed).choice(drawn, _MAX_PANEL_ROWS, replace=False))
        display = ReliabilityDisplay.from_predictions(
            evidence.labels[drawn],
            evidence.proba[drawn],
            classwise=True,
            classes=_as_objects(evidence.classes),
            n_bins=settings.n_bins,
            confidence_level=settings.confidence,
            n_resamples=100,
            random_state=settings.seed,
        )
        return display.plot_classes(_new_figure(*panels_size(n_panels))).figure_

    which = "each class" if n_panels == len(evidence.classes) else f"each of the {n_panels} most frequent classes"
    alt = f"Small reliability diagrams of {which} against the others: frequency against probability. The table has the numbers."
    title = f"Reliability of {which}"
    return Drawing(
        "classes", f"{title}, from {_MAX_PANEL_ROWS:,} rows drawn at random" if thinned else title, alt, plot
    )


def _label_mass(evidence: Evidence, data: Mapping[str, Any]) -> Drawing:
    def plot(_: bool) -> Any:
        figure = _new_figure(5.6, 2.2)
        ax = figure.add_subplot()
        ax.hist(evidence.label_mass, bins=np.linspace(0.0, 1.0, 41), color=BLUE, alpha=0.6)
        ax.set(xlim=(0, 1), xlabel="Probability of all labels together", ylabel="Rows")
        without_frame(ax)
        return figure

    alt = "Histogram of the total probability that the model gave to all labels; "
    alt += f"the median is {data['label_mass']['median']:.3g}."
    return Drawing("label_mass", "Label mass", alt, plot)


def _shares(shares: Mapping[str, Any]) -> Drawing:
    lines = shown_lines(shares["lines"])

    def plot(_: bool) -> Any:
        return draw_shares(lines, _new_figure(*shares_size(len(lines))))

    return Drawing("shares", SHARES_HEADING, shares_alt(shares), plot)


def learning_curves(race: Mapping[str, Any]) -> list[Drawing]:
    """The figures of a race, one for each measure, so that they can stand below each other on a narrow page.

    Parameters
    ----------
    race : mapping
        As in `llmclf.race.Race.to_dict`.
    """

    def plot(measure: str, _: bool) -> Any:
        return draw_learning_curves(race["curve"], _new_figure(4.6, 4.0), [measure])

    return [
        Drawing(f"learning_curve_{measure}", title, curve_alt(race, title), partial(plot, measure))
        for measure, title in MEASURES.items()
    ]


def _as_objects(classes: tuple[Any, ...]) -> NDArray[Any]:
    objects = np.empty(len(classes), dtype=object)
    objects[:] = classes
    return objects


def _inline(text: str, drawing: Drawing) -> str:
    """An SVG document as an element: styles become attributes, ids become unique, and what is not drawn is removed."""
    root = ElementTree.fromstring(text)
    names = {node: f"{drawing.name}-{node}" for node in (element.get("id") for element in root.iter()) if node}
    for parent in root.iter():
        for child in list(parent):
            if child.tag.endswith(("}metadata", "}style")):
                parent.remove(child)
    for node in root.iter():
        for key, value in list(node.attrib.items()):
            if key == "style":
                del node.attrib[key]
                for name, setting in _declarations(value):
                    node.set(name, setting)
            elif key == "id":
                node.set(key, names[value])
            elif key in ("href", f"{{{_XLINK}}}href"):
                # All references point into the drawing itself; HTML needs no namespace for them.
                del node.attrib[key]
                node.set("href", f"#{names[value[1:]]}")
            elif "url(#" in value:
                node.set(key, _renamed(value, names))
        for key, value in list(node.attrib.items()):
            if "url(#" in value:
                node.set(key, _renamed(value, names))
    root.set("stroke-linejoin", "round")
    root.set("stroke-linecap", "butt")
    root.set("role", "img")
    root.set("aria-labelledby", f"{drawing.name}-title")
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    width = root.get("viewBox", "").split()[2]
    root.set("class", "figure")
    root.set("width", f"{_SCALE * float(width):.0f}")
    title = ElementTree.Element(f"{{{_SVG}}}title", {"id": f"{drawing.name}-title"})
    title.text = drawing.alt
    root.insert(0, title)
    ElementTree.register_namespace("", _SVG)
    return ElementTree.tostring(root, encoding="unicode", short_empty_elements=False)


def _declarations(style: str) -> list[tuple[str, str]]:
    """The declarations of a style attribute, without white space, which pages collapse; of a font shorthand, only the size."""
    declarations = []
    for declaration in filter(None, (part.strip() for part in style.split(";"))):
        name, value = (part.strip() for part in declaration.split(":", 1))
        if name == "font":
            size = re.search(r"([\d.]+px)", value)
            if size:
                declarations.append(("font-size", size[1]))
        elif name in ("font-size", "text-anchor", "fill", "stroke", "opacity") or name.startswith(("fill-", "stroke-")):
            declarations.append((name, value))
    return declarations


def _renamed(value: str, names: Mapping[str, str]) -> str:
    return re.sub(r"url\(#([^)]+)\)", lambda match: f"url(#{names.get(match[1], match[1])})", value)
