"""A report in words: what its numbers mean, in the order of a reader's questions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_MIN_ROWS_PER_CLASS = 10
_MAX_NAMED = 3


def verdict(data: Mapping[str, Any]) -> dict[str, Any]:
    """One paragraph in plain language, and what to do next.

    Parameters
    ----------
    data : the numbers of a report; see `CalibrationReport.to_dict`

    Returns
    -------
    dict
        ``text`` and ``advice``, a list of sentences.
    """
    return {
        "text": " ".join([_accuracy(data), _calibration(data), _automation(data)]),
        "advice": _advice(data),
    }


def percent(share: float | None, digits: int = 1) -> str:
    """A share as a percentage, such as "78.2 %"; a dash where it is unknown."""
    return "–" if share is None else f"{100 * share:.{digits}f} %"


def p_text(p_value: float | None) -> str:
    """A p-value as "p = 0.03", or "p < 0.001" if it is very small."""
    if p_value is None:
        return "p unknown"
    return f"p = {p_value:.2g}" if p_value >= 0.001 else "p < 0.001"


def span(entry: Mapping[str, Any], digits: int = 1) -> str:
    """The interval of a share: "75.5 to 80.7 %"; empty where it is unknown."""
    if entry.get("low") is None or entry.get("high") is None:
        return ""
    return f"{100 * entry['low']:.{digits}f} to {percent(entry['high'], digits)}"


def rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count:,} rows"


def _accuracy(data: Mapping[str, Any]) -> str:
    entry = data["metrics"]["accuracy"]
    after, n_rows = entry["after"], data["rows"]["n"]
    clusters = f" in {data['rows']['n_clusters']:,} clusters" if "n_clusters" in data["rows"] else ""
    sentence = (
        f"On {n_rows:,} labelled {'row' if n_rows == 1 else 'rows'}{clusters}, the most probable class is right in "
    )
    sentence += f"{percent(after['value'])} of cases ({percent(data['settings']['confidence'], 0)} confidence interval "
    sentence += f"{span(after)})."
    majority = max(data["classes"], key=lambda entry: entry["support"])
    sentence += f" Always predicting {majority['class']!r} would be right in {percent(majority['support'] / n_rows)}."
    change = entry.get("change")
    if change is not None:
        before = percent(entry["before"]["value"])
        if change["low"] is not None and change["low"] > 0:
            sentence += f" Before calibration, accuracy was {before}; calibration improved it."
        elif change["high"] is not None and change["high"] < 0:
            sentence += f" Before calibration, accuracy was {before}; calibration made it worse."
        else:
            sentence += f" Before calibration, accuracy was {before}; the difference is within chance."
    return sentence


def _calibration(data: Mapping[str, Any]) -> str:
    entry = data["metrics"]["ece"]
    after = entry["after"]
    interval = f"; {span(after)}" if span(after) else ""
    sentence = (
        f"Confidence and accuracy differ by {percent(after['value'])} on average (ECE{interval}). A calibrated model "
    )
    sentence += f"would show {percent(after['null_mean'])} on this many rows"
    if after["p_value"] is None or after["p_value"] >= 0.05:
        sentence += f", so no miscalibration can be seen ({p_text(after['p_value'])})."
    else:
        gap = data["metrics"]["confidence"]["after"]["value"] - data["metrics"]["accuracy"]["after"]["value"]
        manner = "over-confident" if gap > 0 else "under-confident"
        sentence += (
            f", so the probabilities are miscalibrated ({p_text(after['p_value'])}) and, on the whole, {manner}."
        )
    if "before" in entry:
        sentence += f" Before calibration, the error was {percent(entry['before']['value'])}."
    return sentence


def _automation(data: Mapping[str, Any]) -> str:
    chosen = data["selection"]
    budget, sure = percent(chosen["max_error"]), percent(chosen["confidence"], 0)
    if chosen["threshold"] is None:
        return (
            f"No row can be accepted automatically: no threshold gives {sure} confidence that at most {budget} of the accepted "
            "rows are wrong."
        )
    start = (
        f"All rows can be accepted automatically ({chosen['n_accepted']:,} of {data['rows']['n']:,})."
        if chosen["threshold"] == 0
        else f"Accepting rows with a confidence of at least {chosen['threshold']:.4g} automatically covers "
        f"{percent(chosen['coverage'])} of the rows."
    )
    return (
        f"{start} Of these, {percent(chosen['error'])} were wrong here. With {sure} confidence, at most {budget} of all future "
        "rows accepted in this way will be wrong, provided that they come from the same source as these rows, and that neither "
        "the model nor the calibrator has seen these labels."
    )


def _advice(data: Mapping[str, Any]) -> list[str]:
    advice = [*_of_calibration(data), *_of_threshold(data), *_of_classes(data), *_of_slices(data), *_of_mass(data)]
    return advice or [
        "Nothing stands out. Label some new rows from time to time and compare: data and models drift, and these numbers "
        "change with them."
    ]


def _of_calibration(data: Mapping[str, Any]) -> list[str]:
    metrics = data["metrics"]
    gain, p_value = metrics["calibration"]["after"]["value"], metrics["ece"]["after"]["p_value"]
    loss = metrics["log_loss"]["after"]["value"]
    if gain is not None and loss is not None and gain > max(0.005, 0.02 * loss):
        return [
            f"Recalibrate: a bias and a temperature alone lower the log loss of {loss:.3g} nats by {gain:.3g}, measured on rows "
            "that they were not fitted on."
        ]
    if loss is None:
        return [
            "Do not use these probabilities as they are: some true classes have probability 0, which no evidence can justify. A "
            "calibrator puts a floor under them."
        ]
    if p_value is not None and p_value < 0.01:
        return [
            "A bias and a temperature do not correct this kind of miscalibration. Try calibrator='auto', 'isotonic' or 'matrix', "
            "and look at the diagram."
        ]
    return []


def _of_threshold(data: Mapping[str, Any]) -> list[str]:
    if data["selection"]["threshold"] is not None:
        return []
    return [f"For automation: {data['selection']['reason']}."]


def _of_classes(data: Mapping[str, Any]) -> list[str]:
    advice = []
    worse = sorted((entry for entry in data["classes"] if entry["flag"] == "worse"), key=lambda entry: entry["p_value"])
    for entry in worse[:_MAX_NAMED]:
        advice.append(
            f"Look at the class {entry['class']!r}: its predictions are right in {percent(entry['precision']['value'])} of "
            f"{rows(entry['predicted'])}; among all rows of the same confidence, {percent(entry['expected_accuracy'])} are right."
        )
    rare = [entry for entry in data["classes"] if entry["support"] < _MIN_ROWS_PER_CLASS]
    if rare and data["rows"]["n"] >= _MIN_ROWS_PER_CLASS:
        names = ", ".join(repr(entry["class"]) for entry in rare[:_MAX_NAMED])
        more = f" and {len(rare) - _MAX_NAMED} others" if len(rare) > _MAX_NAMED else ""
        advice.append(
            f"Label more rows of {names}{more}: fewer than {_MIN_ROWS_PER_CLASS} rows say little about a class."
        )
    return advice


def _of_slices(data: Mapping[str, Any]) -> list[str]:
    worse = sorted((entry for entry in data["slices"] if entry["flag"] == "worse"), key=lambda entry: entry["p_value"])
    return [
        f"Look at {entry['partition']} = {entry['slice']!r}: {percent(entry['accuracy']['value'])} of its "
        f"{rows(entry['n_rows'])} are right; among all rows of the same confidence, {percent(entry['expected_accuracy'])} are "
        "right. A threshold for all rows accepts too many errors there."
        for entry in worse[:_MAX_NAMED]
    ]


def _of_mass(data: Mapping[str, Any]) -> list[str]:
    mass = data["label_mass"]
    if mass is None or mass["median"] >= 0.5:
        return []
    return [
        f"Look at prompt and label words: on the median row, all labels together have a probability of {mass['median']:.2g}. "
        "The model would mostly have written something else."
    ]
