"""Reports as Markdown, for a pull request or a terminal."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from .page import FORMATS
from .verdict import p_text, percent

_MOST_LINES = 20


def report_markdown(data: Mapping[str, Any]) -> str:
    """The verdict, the metrics, classes and slices; `data` as in `CalibrationReport.to_dict`."""
    compared = "before" in data["metrics"]["accuracy"]
    parts = [f"## {escaped(data['title'])}", escaped(data["verdict"]["text"])]
    parts.append("\n".join(f"- {escaped(sentence)}" for sentence in data["verdict"]["advice"]))
    shown = {"before": "Before", "after": "After", "change": "Change"} if compared else {"after": "Value"}
    metrics = [
        [entry["title"], *(cell(name, entry[part]) for part in shown), _null(entry)]
        for name, entry in data["metrics"].items()
    ]
    parts.append(table(["Metric", *shown.values(), "If calibrated"], metrics))
    classes = [
        [
            own["class"],
            own["support"],
            cell("accuracy", own["precision"]),
            percent(own["confidence"]),
            cell("accuracy", own["recall"]),
            own["flag"] or "",
        ]
        for own in _first(data["classes"], "support")
    ]
    parts.append(table(["Class", "Rows", "Precision", "Mean confidence", "Recall", "Flag"], classes))
    if data["slices"]:
        slices = [
            [
                f"{own['partition']} = {own['slice']}",
                own["n_rows"],
                cell("accuracy", own["accuracy"]),
                percent(own["expected_accuracy"]),
                own["flag"] or "",
            ]
            for own in _first(data["slices"], "n_rows")
        ]
        parts.append(table(["Slice", "Rows", "Accuracy", "Expected", "Flag"], slices))
    if data["not_computed"]:
        parts.append(
            "\n".join(f"- Not computed: {escaped(own['what'])}: {escaped(own['why'])}." for own in data["not_computed"])
        )
    return "\n\n".join(parts) + "\n"


def cell(name: str, entry: Mapping[str, Any]) -> str:
    """A value with its interval."""
    form = FORMATS[name]
    text = form(entry["value"])
    return (
        text
        if entry["low"] is None or entry["high"] is None
        else f"{text} ({form(entry['low'])} to {form(entry['high'])})"
    )


def table(heading: list[str], lines: list[list[Any]]) -> str:
    """A Markdown table whose cells are data."""
    rows = [heading, ["---"] * len(heading), *([escaped(str(value)) for value in line] for line in lines)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def escaped(text: str) -> str:
    """Text that Markdown shows as it is: no markup, no HTML, no link, one line."""
    shown = re.sub(r"([\\`*_{}\[\]<>#|~!&@])", lambda found: _entity(found[1]), " ".join(text.split()))
    # Bare addresses become links, too.
    return shown.replace("://", ":&#47;/").replace("www.", "www&#46;")


def _entity(character: str) -> str:
    # Some readers take backslashes away before they look for HTML and mentions.
    return f"&#{ord(character)};" if character in "<>&@" else f"\\{character}"


def _null(entry: Mapping[str, Any]) -> str:
    after = entry["after"]
    if "null_mean" in after:
        return f"{percent(after['null_mean'])}, {p_text(after['p_value'])}"
    return str(entry["better"]) if entry["better"] in ("0", "1") else ""


def _first(lines: list[dict[str, Any]], size: str) -> list[dict[str, Any]]:
    """Those that are flagged and the largest, in the order in which they stand."""
    order = sorted(range(len(lines)), key=lambda i: (lines[i]["flag"] is None, -lines[i][size]))[:_MOST_LINES]
    return [lines[i] for i in sorted(order)]
