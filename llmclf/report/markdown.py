"""Reports as Markdown, for a pull request or a terminal."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from .findings import REGRESSIONS_HEADING, SHARES_HEADING, weighing_text
from .labels_worth import HEADING, curve_note, curve_table, fixed3, price_note, price_texts, rows_note, signed3
from .page import DIFFERENCES, FORMATS, short
from .verdict import p_text, percent, points

_MAX_ROWS = 20


def report_markdown(data: Mapping[str, Any]) -> str:
    """The verdict, the metrics, the classes and the slices; `data` as in `CalibrationReport.to_dict`."""
    compared = "before" in data["metrics"]["accuracy"]
    parts = [f"## {escaped(data['title'])}", escaped(data["verdict"]["text"])]
    parts.append("\n".join(f"- {escaped(sentence)}" for sentence in data["verdict"]["advice"]))
    parts.append("\n".join(escaped(sentence) for sentence in data["verdict"]["details"]))
    shown = {"before": "Before", "after": "After", "change": "Change"} if compared else {"after": "Value"}
    metrics = [
        [entry["title"], *(cell(name, entry[part], part == "change") for part in shown), _null(entry)]
        for name, entry in data["metrics"].items()
    ]
    parts.append(table(["Metric", *shown.values(), "If calibrated"], metrics))
    classes = [
        [
            entry["class"],
            entry["support"],
            cell("accuracy", entry["precision"]),
            percent(entry["confidence"]),
            cell("accuracy", entry["recall"]),
            entry["flag"] or "",
        ]
        for entry in _first(data["classes"], "support")
    ]
    parts.append(table(["Class", "Rows", "Precision", "Mean confidence", "Recall", "Flag"], classes))
    if data["slices"]:
        slices = [
            [
                f"{entry['partition']} = {entry['slice']}",
                entry["n_rows"],
                cell("accuracy", entry["accuracy"]),
                percent(entry["expected_accuracy"]),
                entry["flag"] or "",
            ]
            for entry in _first(data["slices"], "n_rows")
        ]
        parts.append(table(["Slice", "Rows", "Accuracy", "Expected", "Flag"], slices))
    if data["shares"] is not None:
        parts += shares_markdown(data["shares"])
        weighing = weighing_text(data)
        if weighing is not None:
            parts.append(escaped(weighing))
    for one in data["regressions"] or []:
        parts += regression_markdown(one)
    if data["members"]:
        parts += [f"### {escaped(HEADING)}", members_markdown(data["members"])]
    if data["race"] is not None:
        parts.append(race_markdown(data["race"]).rstrip())
    if data["not_computed"]:
        parts.append(
            "\n".join(
                f"- Not computed: {escaped(entry['what'])}: {escaped(entry['why'])}." for entry in data["not_computed"]
            )
        )
    return "\n\n".join(parts) + "\n"


def shares_markdown(shares: Mapping[str, Any]) -> list[str]:
    """The shares of the classes among all rows, and by group, as a heading, a sentence and tables."""
    heading = ["Class", "Corrected", "By hand alone", "Counted predictions", "Mean probability", "Worth"]

    def cells(one: Mapping[str, Any]) -> list[Any]:
        return [
            one["class"],
            _with_ends(percent, one["share"]),
            _with_ends(percent, one["by_hand"]),
            percent(one["naive"]["value"]),
            percent(one["mean_probability"]["value"]),
            "" if one["labels_worth"] is None else f"{one['labels_worth']:,.0f}",
        ]

    parts = [f"### {escaped(SHARES_HEADING)}", escaped(shares["text"])]
    parts.append(table(heading, [cells(one) for one in shares["lines"][:_MAX_ROWS]]))
    if shares["groups"]:
        lines = [[one["group"], *cells(one), one["n_labelled"]] for one in shares["groups"][: 2 * _MAX_ROWS]]
        parts.append(table(["Group", *heading, "Labelled"], lines))
    return parts


def regression_markdown(one: Mapping[str, Any]) -> list[str]:
    """A regression as a heading and a table."""
    lines = [
        [
            term["term"],
            _with_ends(short, term["estimate"]),
            p_text(term["p_value"]),
            _with_ends(short, term["by_hand"]),
            short(term["naive"]["value"]),
            "" if term["labels_worth"] is None else f"{term['labels_worth']:,.0f}",
        ]
        for term in one["terms"]
    ]
    return [
        f"### {escaped(REGRESSIONS_HEADING)}",
        escaped(f"{one['name']}: {one['n_rows']:,} rows, {one['n_labelled']:,} of them labelled by hand."),
        table(["Coefficient", "Estimate", "p", "By hand alone", "With predictions for labels", "Worth"], lines),
    ]


def race_markdown(race: Mapping[str, Any], heading: str = HEADING) -> str:
    """Verdict, table and curve of a race; `race` as in `llmclf.race.Race.to_dict`."""
    lines = [
        [
            one["name"],
            _with_ends(percent, one["accuracy"]),
            _with_ends(fixed3, one["log_loss"]),
            "" if one["name"] == "pool" else _with_ends(signed3, one["vs_pool"]),
            ", ".join(filter(None, price_texts(one))),
        ]
        for one in race["contestants"]
    ]
    sizes, curve = curve_table(race)
    parts = [
        f"## {escaped(heading)}",
        escaped(race["verdict"]["text"]),
        table(["Contestant", "Accuracy", "Log loss", "Beyond the pool", "Price"], lines),
        escaped(f"{rows_note(race)} {price_note(race)}"),
        table(["Labels", *map(str, sizes)], [[name, *cells] for name, cells in curve]),
        escaped(curve_note(race)),
    ]
    return "\n\n".join(parts) + "\n"


def members_markdown(members: Sequence[Mapping[str, Any]]) -> str:
    """The members of a pool as a table."""
    lines = [
        [
            one["member"],
            f"{one['weight']:.2f}",
            _with_ends(percent, one["accuracy"]),
            _with_ends(fixed3, one["log_loss"]),
        ]
        for one in members
    ]
    return table(["Member of the pool", "Weight", "Accuracy", "Log loss"], lines)


def cell(name: str, entry: Mapping[str, Any], is_difference: bool = False) -> str:
    """A value with its interval."""
    form = DIFFERENCES[name] if is_difference else FORMATS[name]
    text = form(entry["value"])
    return (
        text
        if entry["low"] is None or entry["high"] is None
        else f"{text} ({form(entry['low'])} to {form(entry['high'])})"
    )


def table(heading: list[str], lines: list[list[Any]]) -> str:
    """A Markdown table; its cells are data, never markup."""
    rows = [heading, ["---"] * len(heading), *([escaped(str(value)) for value in line] for line in lines)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def escaped(text: str) -> str:
    """Text that Markdown shows as it is: no markup, no HTML, no link, one line."""
    shown = re.sub(r"([\\`*_{}\[\]<>#|~!&@])", lambda match: _entity(match[1]), " ".join(text.split()))
    # Renderers turn bare addresses into links, too.
    return shown.replace("://", ":&#47;/").replace("www.", "www&#46;")


def _entity(character: str) -> str:
    # Some renderers remove backslashes before they look for HTML and mentions.
    return f"&#{ord(character)};" if character in "<>&@" else f"\\{character}"


def _null(entry: Mapping[str, Any]) -> str:
    after = entry["after"]
    if "null_mean" in after:
        return f"{points(after['null_mean'])}, {p_text(after['p_value'])}"
    return str(entry["better"]) if entry["better"] in ("0", "1") else ""


def _first(entries: list[dict[str, Any]], size: str) -> list[dict[str, Any]]:
    """The flagged and the largest entries, in their original order."""
    order = sorted(range(len(entries)), key=lambda i: (entries[i]["flag"] is None, -entries[i][size]))[:_MAX_ROWS]
    return [entries[i] for i in sorted(order)]


def _with_ends(form: Any, one: Mapping[str, Any]) -> str:
    text: str = form(one["value"])
    if one["low"] is None or one["high"] is None:
        return text
    return f"{text} ({form(one['low'])} to {form(one['high'])})"
