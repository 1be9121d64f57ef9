"""What the labels buy: the numbers of a race and of the members of a pool, as texts for a page, Markdown or a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .measures import entry
from .verdict import percent

HEADING = "What do the labels buy?"


def member_rows(members: Any) -> list[dict[str, Any]]:
    """The members of a pool as JSON values; `members` as in `StackedCalibrator.to_frame`."""
    return [
        {
            "member": str(name),
            "weight": float(line["weight"]),
            **{
                measure: entry(*(float(line[f"{measure}{end}"]) for end in ("", "_low", "_high")))
                for measure in ("accuracy", "log_loss")
            },
        }
        for name, line in members.iterrows()
    ]


def fixed3(value: float | None) -> str:
    """A log loss with three decimal places (one from 10 on), or a dash."""
    return "–" if value is None else f"{value:.{_digits(value)}f}"


def signed3(value: float | None) -> str:
    """A difference of log losses with its sign.

    Examples
    --------
    >>> signed3(0.25), signed3(-0.0001), signed3(None)
    ('+0.250', '0.000', '–')
    """
    if value is None:
        return "–"
    text = f"{value:+.{_digits(value)}f}"
    return text[1:] if float(text) == 0 else text


def price_texts(one: Mapping[str, Any]) -> tuple[str, str]:
    """What a contestant costs, and what else is known of that.

    Examples
    --------
    >>> unknown = {"rows_per_second": None, "cost_per_1000_rows": None, "tokens_per_1000_rows": None}
    >>> price_texts({"needs_model": True, "price": {**unknown, "rows_per_second": 31.4}})
    ('31 rows/s', '')
    >>> price_texts({"needs_model": False, "price": unknown})
    ('no model', '')
    >>> price_texts({"needs_model": True, "price": {**unknown, "cost_per_1000_rows": 0.0213, "tokens_per_1000_rows": 84000}})
    ('0.0213', '84,000 tokens')
    """
    price = one["price"]
    rate, cost, tokens = (price[name] for name in ("rows_per_second", "cost_per_1000_rows", "tokens_per_1000_rows"))
    speed = "" if rate is None else f"{_rounded(rate)} rows/s"
    if not one["needs_model"]:
        return "no model", speed
    counted = "" if tokens is None else f"{_rounded(tokens)} tokens"
    if cost is not None:
        return f"{cost:.3g}", counted
    return (counted, speed) if counted else (speed or "–", "")


def price_note(race: Mapping[str, Any]) -> str:
    """How prices were found."""
    served = [one for one in race["contestants"] if one["price"]["tokens_per_1000_rows"] is not None]
    served += [one for one in race["contestants"] if one["price"]["cost_per_1000_rows"] is not None]
    models = [one["price"]["rows_per_second"] for one in race["contestants"] if one["needs_model"]]
    notes = []
    if served:
        notes.append("cost (by the price table given) and tokens are the server's count, for 1,000 rows")
    if any(rate is not None for rate in models):
        notes.append("rows per second were measured on this machine while the race was held, with the model loaded")
    else:
        notes.append("all scores came from the cache, so the model's speed was not measured")
    return f"Price: {'; '.join(notes)}."


def curve_table(race: Mapping[str, Any]) -> tuple[list[int], list[tuple[str, list[str]]]]:
    """The learning curves as a table: the numbers of labels, and each contestant's accuracy and log loss at these."""
    sizes = list(race["settings"]["sizes"])
    lines: dict[str, list[str]] = {}
    for point in race["curve"]:
        cell = f"{percent(point['accuracy'])} / {fixed3(point['log_loss'])}"
        lines.setdefault(point["contestant"], []).append(cell)
    return sizes, list(lines.items())


def curve_note(race: Mapping[str, Any]) -> str:
    """How the points of the curves were found."""
    draws = [
        f"{number} random {'subset' if number == 1 else 'subsets'} of {size}"
        for size, number in zip(race["settings"]["sizes"][:-1], race["settings"]["draws"][:-1], strict=True)
    ]
    some = (
        f"each point is the mean over {', '.join(draws)} labels, nested and drawn anew in each fold; " if draws else ""
    )
    return f"Learning curves: {some}the last one is that of all labels outside of the fold."


def rows_note(race: Mapping[str, Any]) -> str:
    """Which rows were judged, and how."""
    rows = race["rows"]
    parts = [
        f"{rows['n']:,} labelled rows, each judged by contestants that learned from {rows['n_learned_from']:,} others (five "
        "folds)."
    ]
    if rows["n_groups"] is not None:
        parts.append(f"They are {rows['n_groups']:,} groups, such as copies of a text, which are never parted.")
    if rows["n_shots"]:
        parts.append(f"{rows['n_shots']} shots are neither learned from nor judged.")
    if rows["n_unscored"]:
        parts.append(f"Left out: {rows['n_unscored']} rows that could not be scored.")
    if rows.get("n_thinned"):
        parts.append(
            f"{rows['n_thinned']:,} more were drawn with higher probabilities and left out at random, so that all that race had "
            "the same."
        )
    level = percent(race["settings"]["confidence"], 0)
    parts.append(f"Intervals have {level} confidence; so have all statements of the verdict together.")
    return " ".join(parts)


def section(race: Mapping[str, Any] | None, members: Sequence[Mapping[str, Any]] | None) -> dict[str, Any] | None:
    """What the section of a page shows; None where there is nothing."""
    if race is None and not members:
        return None
    shown: dict[str, Any] = {"heading": HEADING, "race": None, "members": members or []}
    if race is not None:
        sizes, lines = curve_table(race)
        shown["race"] = {
            "verdict": race["verdict"]["text"],
            "use": race["verdict"]["use"],
            "rows": rows_note(race),
            "prices": price_note(race),
            "contestants": [{**one, "price_texts": price_texts(one)} for one in race["contestants"]],
            "sizes": sizes,
            "curve": lines,
            "curve_note": curve_note(race),
        }
    return shown


def curve_alt(race: Mapping[str, Any], measure: str) -> str:
    """What a figure shows, for readers who cannot see it."""
    sizes = race["settings"]["sizes"]
    return f"Learning curves: {measure} of each contestant with {sizes[0]} to {sizes[-1]} labels. The table has the numbers."


def _digits(value: float) -> int:
    """Decimal places of a log loss."""
    return 3 if abs(value) < 10 else 1


def _rounded(value: float) -> str:
    """Two or three digits that matter, in thousands with commas."""
    if value < 10:
        return f"{value:.2g}"
    digits = max(0, int(np.floor(np.log10(value))) - 2)
    return f"{round(value, -digits):,.0f}"
