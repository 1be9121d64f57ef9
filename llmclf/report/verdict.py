"""The words of a report: what its numbers say, in the order in which a reader asks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_FEW_ROWS_OF_A_CLASS = 10
_MOST_NAMED = 3


def verdict(data: Mapping[str, Any]) -> dict[str, Any]:
    """One paragraph of plain language, and what to do next.

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
    """A share of rows as people say it: 78.2 %, and a dash where it is unknown."""
    return "–" if share is None else f"{100 * share:.{digits}f} %"


def p_text(p_value: float | None) -> str:
    """A p-value as "p = 0.03"; very small ones are all alike."""
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
    sentence = f"On {n_rows:,} labelled {'row' if n_rows == 1 else 'rows'} the most probable class is the true one in "
    sentence += (
        f"{percent(after['value'])} ({span(after)} with {percent(data['settings']['confidence'], 0)} confidence)"
    )
    most = max(data["classes"], key=lambda own: own["support"])
    sentence += f"; always saying {most['class']!r} would be right in {percent(most['support'] / n_rows)}."
    change = entry.get("change")
    if change is not None:
        before = percent(entry["before"]["value"])
        if change["low"] is not None and change["low"] > 0:
            sentence += f" Before calibration it was {before}: calibration made it better."
        elif change["high"] is not None and change["high"] < 0:
            sentence += f" Before calibration it was {before}: calibration made it worse."
        else:
            sentence += f" Before calibration it was {before}, no more of a difference than chance makes."
    return sentence


def _calibration(data: Mapping[str, Any]) -> str:
    entry = data["metrics"]["ece"]
    after = entry["after"]
    sentence = f"Confidence and accuracy differ by {percent(after['value'])} on average (ECE; {span(after)})"
    if after["p_value"] is None or after["p_value"] >= 0.05:
        sentence += (
            f", and a calibrated model shows {percent(after['null_mean'])} on as few rows: no miscalibration can be seen on "
            f"these ({p_text(after['p_value'])})."
        )
    else:
        gap = data["metrics"]["confidence"]["after"]["value"] - data["metrics"]["accuracy"]["after"]["value"]
        manner = "over-confident" if gap > 0 else "under-confident"
        sentence += (
            f", where a calibrated model would show {percent(after['null_mean'])} on as few rows: the probabilities are "
            f"miscalibrated ({p_text(after['p_value'])}), on the whole {manner}."
        )
    if "before" in entry:
        sentence += f" Before calibration the error was {percent(entry['before']['value'])}."
    return sentence


def _automation(data: Mapping[str, Any]) -> str:
    chosen = data["selection"]
    budget, sure = percent(chosen["max_error"]), percent(chosen["confidence"], 0)
    if chosen["threshold"] is None:
        return f"No row can be accepted automatically with {sure} confidence that at most {budget} of those accepted are wrong."
    start = (
        f"All rows can be accepted automatically ({chosen['n_accepted']:,} of {data['rows']['n']:,})"
        if chosen["threshold"] == 0
        else f"Accepting the rows with a confidence of at least {chosen['threshold']:.4g} automatically covers "
        f"{percent(chosen['coverage'])} of the rows"
    )
    return (
        f"{start}; {percent(chosen['error'])} of these were wrong here, and with {sure} confidence at most {budget} of all "
        "future rows accepted so will be, provided that they are drawn like these, that neither model nor calibrator saw these "
        "labels, and that more confident rows are not more often wrong."
    )


def _advice(data: Mapping[str, Any]) -> list[str]:
    advice = [*_of_calibration(data), *_of_threshold(data), *_of_classes(data), *_of_slices(data), *_of_mass(data)]
    return advice or [
        "Nothing stands out. Label new rows now and then and compare: data and models drift, and these numbers with them."
    ]


def _of_calibration(data: Mapping[str, Any]) -> list[str]:
    metrics = data["metrics"]
    gain, p_value = metrics["calibration"]["after"]["value"], metrics["ece"]["after"]["p_value"]
    loss = metrics["log_loss"]["after"]["value"]
    if gain is not None and loss is not None and gain > max(0.005, 0.02 * loss):
        return [
            f"Recalibrate: a bias and a temperature alone take {gain:.3g} of {loss:.3g} nats off the log loss, judged on rows "
            "that they were not fitted on."
        ]
    if loss is None:
        return [
            "Do not use these probabilities as they are: some true classes have probability 0, which no evidence can justify. A "
            "calibrator puts a floor under them."
        ]
    if p_value is not None and p_value < 0.01:
        return [
            "The miscalibration is of a shape that a bias and a temperature do not mend: try calibrator='auto', 'isotonic' or "
            "'matrix', and look at the diagram."
        ]
    return []


def _of_threshold(data: Mapping[str, Any]) -> list[str]:
    if data["selection"]["threshold"] is not None:
        return []
    return [f"For automation: {data['selection']['reason']}."]


def _of_classes(data: Mapping[str, Any]) -> list[str]:
    advice = []
    worse = sorted((own for own in data["classes"] if own["flag"] == "worse"), key=lambda own: own["p_value"])
    for own in worse[:_MOST_NAMED]:
        advice.append(
            f"Look at the class {own['class']!r}: where it is predicted it is right in {percent(own['precision']['value'])} of "
            f"{rows(own['predicted'])}, and other rows of such confidence are in {percent(own['expected_accuracy'])}."
        )
    rare = [own for own in data["classes"] if own["support"] < _FEW_ROWS_OF_A_CLASS]
    if rare and data["rows"]["n"] >= _FEW_ROWS_OF_A_CLASS:
        names = ", ".join(repr(own["class"]) for own in rare[:_MOST_NAMED])
        more = f" and {len(rare) - _MOST_NAMED} others" if len(rare) > _MOST_NAMED else ""
        advice.append(f"Label more rows of {names}{more}: fewer than {_FEW_ROWS_OF_A_CLASS} say little about a class.")
    return advice


def _of_slices(data: Mapping[str, Any]) -> list[str]:
    worse = sorted((own for own in data["slices"] if own["flag"] == "worse"), key=lambda own: own["p_value"])
    return [
        f"Look at {own['partition']} = {own['slice']!r}: {percent(own['accuracy']['value'])} of its {rows(own['n_rows'])} are "
        f"right, and other rows of such confidence are in {percent(own['expected_accuracy'])}; a threshold for all rows accepts "
        "too many errors there."
        for own in worse[:_MOST_NAMED]
    ]


def _of_mass(data: Mapping[str, Any]) -> list[str]:
    mass = data["label_mass"]
    if mass is None or mass["median"] >= 0.5:
        return []
    return [
        f"Look at prompt and label words: on the median row all labels together have a probability of {mass['median']:.2g}, so "
        "the model mostly wanted to say something else."
    ]
