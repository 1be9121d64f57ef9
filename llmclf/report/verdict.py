"""A report in words: what its numbers mean, in the order of a reader's questions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..metrics.means import MIN_ROWS

_MIN_ROWS_PER_CLASS = 10
_MAX_NAMED = 3
_STRICT_SHARE = 0.2  # of the level, for the second of two tests of calibration


def verdict(data: Mapping[str, Any]) -> dict[str, Any]:
    """Three short sentences, the same as a row of numbers, details, and what to do next.

    Parameters
    ----------
    data : the numbers of a report; see `CalibrationReport.to_dict`

    Returns
    -------
    dict
        ``text``; ``headlines``, a list of dicts with ``name``, ``title``, ``value`` and ``note``; ``details`` and ``advice``,
        lists of sentences. Where the probabilities say nothing about the labels, the text begins with that.
    """
    uninformative = _uninformative(data)
    # What says nothing cannot be taken at its word, even if its frequencies are right.
    calibration = "" if uninformative and _state(data) in ("calibrated", "unknown") else _calibration(data)
    sentences = [uninformative, _accuracy(data), calibration, _automation(data)]
    return {
        "text": " ".join(filter(None, sentences)),
        "headlines": _headlines(data),
        "details": _details(data),
        "advice": _advice(data),
    }


def points(share: float | None, digits: int = 1) -> str:
    """A difference between two shares, in percentage points, such as "4.5 points"; a dash where it is unknown."""
    return "–" if share is None else f"{round(100 * share, digits) or 0.0:.{digits}f} points"


def percent(share: float | None, digits: int = 1) -> str:
    """A share as a percentage, such as "78.2 %"; a dash where it is unknown."""
    return "–" if share is None else f"{100 * share:.{digits}f} %"


def p_text(p_value: float | None) -> str:
    """A p-value as "p = 0.03", or "p < 0.001" if it is very small."""
    if p_value is None:
        return "p unknown"
    if p_value < 0.001:
        return "p < 0.001"
    # Not rounded to 0.05, which would leave open on which side it lies.
    return f"p = {p_value:.3g}" if 0.045 < p_value < 0.055 else f"p = {p_value:.2g}"


def span(entry: Mapping[str, Any], digits: int = 1) -> str:
    """The interval of a share: "75.5 to 80.7 %"; empty where it is unknown."""
    if entry.get("low") is None or entry.get("high") is None:
        return ""
    low = f"{100 * entry['low']:.{digits}f}"
    if entry["low"] > 0.0 and not float(low):
        low = "above 0"
    return f"{low} to {percent(entry['high'], digits)}"


def rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count:,} rows"


def _uninformative(data: Mapping[str, Any]) -> str:
    information = data["information"]
    if information["contradicts"]:
        return "These scores contradict the labels: a row's true class gets less probability than chance would give it."
    if information["is_informative"] is not False:
        return ""
    only = information["only_predicted"]
    if information["constant"]:
        sentence = "These scores say nothing about the labels: every row gets the same probabilities."
    else:
        sentence = (
            f"On {rows(data['rows']['n'])}, these scores are not seen to say anything about the labels beyond how "
        )
        sentence += "frequent each class is" + (
            f", and every row is predicted to be {only!r}." if only is not None else "."
        )
    if information["bag_of_words"] is not None:
        sentence += " The words of the texts do: with these labels, TF-IDF and logistic regression are right in "
        sentence += f"{percent(information['bag_of_words']['accuracy'])}."
    return sentence


def _accuracy(data: Mapping[str, Any]) -> str:
    after, n_rows = data["metrics"]["accuracy"]["after"], data["rows"]["n"]
    clusters = f" in {data['rows']['n_clusters']:,} clusters" if "n_clusters" in data["rows"] else ""
    return (
        f"On {n_rows:,} labelled {'row' if n_rows == 1 else 'rows'}{clusters}, the most probable class is right in "
        f"{percent(after['value'])} of cases ({percent(data['settings']['confidence'], 0)} confidence interval {span(after)})."
    )


def _calibration(data: Mapping[str, Any]) -> str:
    state, p_value = _state(data), p_text(data["metrics"]["ece"]["after"]["p_value"])
    if state == "unknown":
        return "Too few rows to tell whether the probabilities can be taken at their word."
    if state == "calibrated":
        return f"The probabilities can be taken at their word: no miscalibration can be seen ({p_value})."
    if state == "miscalibrated":
        gain = data["information"]["recalibration"]["value"]
        return (
            f"The probabilities cannot be taken at their word: a bias and a temperature lower the log loss by {gain:.3g} nats on "
            "rows that they were not fitted on."
        )
    error = points(data["metrics"]["ece"]["after"]["value"])
    return (
        f"The probabilities cannot be taken at their word: the confidence is {error} off on average, and on the whole the model "
        f"is {state} ({p_value})."
    )


def _automation(data: Mapping[str, Any]) -> str:
    chosen = data["selection"]
    budget, sure = percent(chosen["max_error"]), percent(chosen["confidence"], 0)
    if chosen["threshold"] is None:
        return f"No row can be accepted without review: no threshold keeps errors to {budget} with {sure} confidence."
    share = "All rows" if chosen["threshold"] == 0 else f"{percent(chosen['coverage'])} of the rows"
    return f"{share} can be accepted without review: with {sure} confidence, at most {budget} of such rows are wrong."


def _state(data: Mapping[str, Any]) -> str:
    """What can be said of the probabilities: "calibrated", "over-confident", "under-confident", "unknown", or "miscalibrated" in
    a way that the confidence alone does not show.

    A test of the confidence and one of the log loss decide together, so that verdict and advice cannot contradict each other.
    """
    metrics = data["metrics"]
    p_value = metrics["ece"]["after"]["p_value"]
    # The interval begins above 0 if and only if the p-value is below this.
    level = round(1.0 - data["settings"]["confidence"], 12)
    if p_value is not None and p_value < level:
        gap = metrics["confidence"]["after"]["value"] - metrics["accuracy"]["after"]["value"]
        return "over-confident" if gap > 0 else "under-confident"
    recalibration = data["information"]["recalibration"]
    p_recalibration = recalibration["p_value"]
    is_worth = recalibration["value"] is not None and recalibration["value"] > 0.0
    if is_worth and p_recalibration is not None and p_recalibration < _STRICT_SHARE * level:
        return "miscalibrated"
    independent = data["rows"].get("n_clusters", data["rows"]["n"])
    return "unknown" if independent < MIN_ROWS else "calibrated"


def _headlines(data: Mapping[str, Any]) -> list[dict[str, str]]:
    accuracy, ece, chosen = data["metrics"]["accuracy"]["after"], data["metrics"]["ece"]["after"], data["selection"]
    majority = max(data["classes"], key=lambda entry: entry["support"])
    share = percent(majority["support"] / data["rows"]["n"])
    words = {
        "calibrated": "no more than chance explains",
        "miscalibrated": "yet the log loss shows miscalibration",
        "unknown": "too few rows to judge",
    }
    budget, sure = percent(chosen["max_error"]), percent(chosen["confidence"], 0)
    promise = f"at most {budget} of them wrong, with {sure} confidence"
    return [
        {
            "name": "accuracy",
            "title": "Right",
            "value": percent(accuracy["value"]),
            "note": f"{span(accuracy)}; always {majority['class']!r}: {share}",
        },
        {
            "name": "calibration",
            "title": "Confidence off by",
            "value": points(ece["value"]),
            "note": words.get(_state(data), f"the model is {_state(data)}"),
        },
        {
            "name": "automation",
            "title": "Accepted without review",
            "value": "0 %" if chosen["threshold"] is None else percent(chosen["coverage"]),
            "note": f"no threshold promises {promise}" if chosen["threshold"] is None else promise,
        },
    ]


def _details(data: Mapping[str, Any]) -> list[str]:
    majority = max(data["classes"], key=lambda entry: entry["support"])
    share = percent(majority["support"] / data["rows"]["n"])
    accuracy = f"Always predicting {majority['class']!r} would be right in {share} of cases."
    entry = data["metrics"]["accuracy"]
    change = entry.get("change")
    if change is not None:
        before = percent(entry["before"]["value"])
        if change["low"] is not None and change["low"] > 0:
            accuracy += f" Before calibration, accuracy was {before}; calibration improved it."
        elif change["high"] is not None and change["high"] < 0:
            accuracy += f" Before calibration, accuracy was {before}; calibration made it worse."
        else:
            accuracy += f" Before calibration, accuracy was {before}; the difference is within chance."
    ece = data["metrics"]["ece"]
    after = ece["after"]
    interval = f"; {span(after).replace(' %', ' points')}" if span(after) else ""
    calibration = (
        f"Confidence and accuracy differ by {points(after['value'])} on average (ECE{interval}); a calibrated model "
    )
    calibration += f"would show {points(after['null_mean'])} on this many rows."
    if "before" in ece:
        calibration += f" Before calibration, it was {points(ece['before']['value'])}."
    chosen = data["selection"]
    details = [accuracy, calibration]
    if chosen["threshold"] is not None:
        which = (
            "all rows" if chosen["threshold"] == 0 else f"rows with a confidence of at least {chosen['threshold']:.4g}"
        )
        details.append(
            f"The promise is about {which} ({chosen['n_accepted']:,} of {data['rows']['n']:,} here, {percent(chosen['error'])} "
            "of them wrong). It holds if future rows come from the same source as these, and if neither the model nor the "
            "calibrator has seen these labels."
        )
    return details


def _advice(data: Mapping[str, Any]) -> list[str]:
    advice = [
        *_of_information(data),
        *_of_calibration(data),
        *_of_threshold(data),
        *_of_classes(data),
        *_of_slices(data),
        *_of_mass(data),
    ]
    return advice or [
        "Nothing stands out. Label some new rows from time to time and compare: data and models drift, and these numbers "
        "change with them."
    ]


def _of_information(data: Mapping[str, Any]) -> list[str]:
    if data["information"]["contradicts"]:
        return [
            "Check that rows and labels belong together, that the columns of the probabilities are in the order of the classes, "
            "and which class each label word stands for."
        ]
    if data["information"]["is_informative"] is not False:
        return []
    return [
        "Change what is asked before anything else: another prompt, other label words, examples in the prompt (n_shots), or a "
        "larger model; or let the labels teach more than the scores hold (features='auto'). No calibrator can put into the "
        "scores what is not in them."
    ]


def _of_calibration(data: Mapping[str, Any]) -> list[str]:
    state, loss = _state(data), data["metrics"]["log_loss"]["after"]["value"]
    if loss is None:
        return [
            "Do not use these probabilities as they are: some true classes have probability 0, which no evidence can justify. A "
            "calibrator puts a floor under them."
        ]
    gain = data["information"]["recalibration"]
    if data["information"]["contradicts"]:
        return []
    if state not in ("calibrated", "unknown") and gain["value"] is not None and gain["value"] > 0.0:
        return [
            f"Recalibrate: a bias and a temperature alone lower the log loss of {loss:.3g} nats by {gain['value']:.3g}, measured "
            "on rows that they were not fitted on."
        ]
    if state in ("over-confident", "under-confident"):
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
            f"{rows(entry['predicted'])}; among the other rows of the same confidence, "
            f"{percent(entry['expected_accuracy'])} are right. {_allowed(entry)}"
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
        f"{rows(entry['n_rows'])} are right; among the other rows of the same confidence, "
        f"{percent(entry['expected_accuracy'])} are right. {_allowed(entry)} A threshold for all rows accepts too many "
        "errors there."
        for entry in worse[:_MAX_NAMED]
    ]


def _allowed(entry: Mapping[str, Any]) -> str:
    return f"Chance alone would keep it between {percent(entry['expected_low'])} and {percent(entry['expected_high'])}."


def _of_mass(data: Mapping[str, Any]) -> list[str]:
    mass = data["label_mass"]
    if mass is None or mass["median"] >= 0.5:
        return []
    return [
        f"Look at prompt and label words: on the median row, all labels together have a probability of {mass['median']:.2g}. "
        "The model would mostly have written something else."
    ]
