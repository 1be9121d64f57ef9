"""The report as one HTML file that loads nothing from the network and runs only its own script."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from typing import Any

from markupsafe import Markup

from ..pages import render_page
from .figures import learning_curves, svg
from .findings import findings_section
from .labels_worth import fixed3, section, signed3
from .measures import METRICS
from .verdict import p_text, percent, points

_MAX_MATRIX_CLASSES = 20
_MAX_CONFUSIONS = 30
_SHADES = 8


def short(value: float | None) -> str:
    """A number with four significant digits, or a dash where it is unknown."""
    return "–" if value is None else f"{value:.4g}"


def fixed(value: float | None) -> str:
    """A number with four decimal places, or a dash where it is unknown."""
    return "–" if value is None else f"{value:.4f}"


_OF_DISTANCES = {"ece", "smooth_ece", "classwise_ece"}
FORMATS = {
    name: points if name in _OF_DISTANCES else percent if unit == "share" else fixed
    for name, (_, unit, _, _) in METRICS.items()
}
"""How each metric is written: a distance between two shares is one of percentage points."""
DIFFERENCES = {name: points if unit == "share" else fixed for name, (_, unit, _, _) in METRICS.items()}
"""How a difference of each metric is written."""


def _hundredths(share: float | None) -> str:
    return points(share).removesuffix(" points")


_BARE = {name: _hundredths if unit == "share" else fixed for name, (_, unit, _, _) in METRICS.items()}
"""How the ends of an interval are written below their value, which has the unit."""


def report_page(data: Mapping[str, Any], figures: Mapping[str, Mapping[str, str]]) -> str:
    """The page of a report.

    Parameters
    ----------
    data : dict
        See `CalibrationReport.to_dict`.
    figures : dict of name to dict
        ``svg`` and ``title``.
    """
    counts = data["confusion"]["counts"]
    small = len(counts) <= _MAX_MATRIX_CLASSES
    chosen = data["selection"]["threshold"]
    return _page(
        "report.html.j2",
        "report.js",
        data={**data, "before": "before" in data["metrics"]["accuracy"]},
        figures={name: {**figure, "svg": Markup(figure["svg"])} for name, figure in figures.items()},
        formats=FORMATS,
        signed={name: _signed(form) for name, form in DIFFERENCES.items()},
        bare=_BARE,
        ends={name: _signed(form) for name, form in _BARE.items()},
        points=_some(data["thresholds"], chosen),
        worth=_worth(
            data["race"],
            data["members"],
            [figure["svg"] for name, figure in figures.items() if name.startswith("learning_curve")],
        ),
        findings=findings_section(data),
        **_LABELS_WORTH,
        matrix=_shaded(counts) if small else None,
        confusions=_confusions(data["confusion"]) if not small else [],
        provenance=lines_of(data["provenance"]),
        # Only numbers: nothing here can be mistaken for markup.
        payload=json.dumps(
            {
                "n": data["rows"]["n"],
                "points": [
                    [p["threshold"], p["n_accepted"], p["n_wrong"], p["low"], p["high"]] for p in data["thresholds"]
                ],
                "recommended": next((i for i, p in enumerate(data["thresholds"]) if p["threshold"] == chosen), None),
            },
            allow_nan=False,
        ),
    )


def comparison_page(data: Mapping[str, Any]) -> str:
    """The page of a comparison; `data` as in `Comparison.to_dict`."""
    return _page(
        "comparison.html.j2",
        None,
        data=data,
        formats=FORMATS,
        signed={name: _signed(form) for name, form in DIFFERENCES.items()},
        bare=_BARE,
        ends={name: _signed(form) for name, form in _BARE.items()},
        provenance=[
            (data[side]["name"], lines_of(data[side]["provenance"])) for side in ("a", "b") if data[side]["provenance"]
        ],
    )


def race_page(race: Mapping[str, Any]) -> str:
    """The page of a race; `race` as in `llmclf.race.Race.to_dict`."""
    return _page(
        "race.html.j2",
        None,
        worth=_worth(race, None, [svg(drawing) for drawing in learning_curves(race)]),
        provenance=lines_of(race["provenance"]),
        **_LABELS_WORTH,
    )


_LABELS_WORTH: dict[str, Any] = {"hundredths": _hundredths, "fixed3": fixed3, "signed3": signed3}
"""How the section on labels writes its numbers."""


def _worth(race: Mapping[str, Any] | None, members: Any, curves: Sequence[str]) -> dict[str, Any] | None:
    shown = section(race, members)
    return None if shown is None else {**shown, "curves": [Markup(curve) for curve in curves]}


def lines_of(provenance: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """A nested dict as lines of a table: names are joined by dots, lists become JSON."""
    lines: list[tuple[str, str]] = []
    for name, value in provenance.items():
        if isinstance(value, Mapping):
            lines += lines_of(value, f"{prefix}{name}.")
        elif value is not None:
            lines.append(
                (f"{prefix}{name}", value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
            )
    return lines


def _page(template: str, script: str | None, **content: Any) -> str:
    return render_page(
        resources.files(__package__) / "templates",
        template,
        style="report.css",
        script=script,
        pct=percent,
        p_text=p_text,
        short=short,
        sortable=lambda value: "" if value is None else repr(float(value)),
        **content,
    )


def _signed(form: Callable[[float | None], str]) -> Callable[[float | None], str]:
    return lambda value: f"+{form(value)}" if value is not None and value > 0 else form(value)


def _some(points: list[dict[str, Any]], chosen: float | None) -> list[dict[str, Any]]:
    """The points nearest to coverages of 100 %, 90 %, ... 10 %, and the chosen one."""
    kept = {min(range(len(points)), key=lambda i: abs(points[i]["coverage"] - tenths / 10)) for tenths in range(1, 11)}
    kept |= {i for i, point in enumerate(points) if point["threshold"] == chosen}
    return [points[i] for i in sorted(kept)]


def _shaded(counts: list[list[int]]) -> list[list[dict[str, int]]]:
    return [
        [{"count": count, "shade": math.ceil(_SHADES * count / max(1, sum(row)))} for count in row] for row in counts
    ]


def _confusions(confusion: Mapping[str, Any]) -> list[dict[str, Any]]:
    names = confusion["classes"]
    pairs = [
        {"true": names[i], "predicted": names[j], "count": count}
        for i, row in enumerate(confusion["counts"])
        for j, count in enumerate(row)
        if i != j and count
    ]
    return sorted(pairs, key=lambda pair: -pair["count"])[:_MAX_CONFUSIONS]
