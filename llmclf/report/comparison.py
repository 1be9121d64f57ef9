"""Two runs side by side: which is better on the same rows, or what has changed between two sets of rows."""

from __future__ import annotations

import copy
import json
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..arrays import Floats, Integers
from ..errors import InputError, type_of
from ..metrics import calibration_interval, checked_probability_rows
from ..pages import in_notebook, written
from .changed_rows import changed_rows
from .drift import calibration_change, score_shift
from .evidence import Evidence
from .markdown import cell, escaped, table
from .measures import METRICS, Settings, change, entry
from .page import comparison_page
from .report import SCHEMA_VERSION, CalibrationReport
from .run_names import run_names
from .verdict import p_text, percent, points, rows

_MEANS = ("accuracy", "log_loss", "brier")
_MAX_MARKDOWN_ROWS = 10
_MAX_MARKDOWN_TEXT = 200


def compare(
    report_a: CalibrationReport,
    report_b: CalibrationReport | ArrayLike,
    *,
    paired: bool | None = None,
    names: Sequence[str] | None = None,
) -> Comparison:
    """Put two runs side by side: two prompts or models on the same rows, or last month's rows and this month's.

    On the same rows, the differences are paired row by row, so that the difficulty of a row cancels out. On different rows, the
    question is drift: have the probabilities moved (which needs no labels), and are rows of the same confidence right as often
    as before (which needs labels)? Where rows of a report belong together (its ``clusters``, or copies of a text), these two
    tests look at the first row of each cluster.

    Parameters
    ----------
    report_a : CalibrationReport
    report_b : CalibrationReport, or array-like (n, K)
        Another report on the same classes; or the probabilities of rows without labels, with columns in the order of the first
        report's classes, for which only the part that needs no labels is computed.
    paired : bool, optional
        Whether both are about the same rows in the same order. With None, they are if the labels are equal, and the texts where
        both have them.
    names : two str, optional
        What to call the two runs. By default, the titles of the reports if they differ, else what tells them apart (the model,
        the prompt, the calibrator), else "A" and "B".

    Raises
    ------
    InputError
        The classes differ, or rows cannot be paired.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> p = rng.random(500)
    >>> y = (rng.random(500) < p).astype(int)
    >>> comparison = compare(CalibrationReport(y, p), CalibrationReport(y, 0.5 + (p - 0.5) / 4))
    >>> comparison.to_dict()["paired"], comparison.verdict[:31]
    (True, 'On the same 500 rows, accuracy:')
    """
    if not isinstance(report_a, CalibrationReport):
        raise InputError(f"report_a is {type_of(report_a)}; expected a CalibrationReport")
    a, level = report_a.evidence, report_a.settings.confidence
    data: dict[str, Any] = {
        "schema": "llmclf.comparison",
        "version": SCHEMA_VERSION,
        "a": _head(report_a),
        "b": None,
        "confidence": level,
        "paired": False,
        "why_paired": "the rows of B have no labels",
        "metrics": {},
        "agreement": None,
        "changed": None,
        "shift": None,
        "calibration_change": None,
    }
    if not isinstance(report_b, CalibrationReport):
        if paired:
            raise InputError("paired=True needs labels: give report_b as a CalibrationReport")
        proba = checked_probability_rows(report_b)
        if proba.shape[1] != len(a.classes):
            raise InputError(
                f"report_b has {proba.shape[1]} columns and report_a {len(a.classes)} classes; expected one column per class"
            )
        data["a"]["name"], name = run_names(names, data["a"], None)
        data["b"] = {"name": name, "title": "Rows without labels", "n": len(proba), "provenance": None}
        data["shift"] = score_shift(a, proba, level)
        return Comparison({**data, "verdict": _verdict(data)})
    b = report_b.evidence
    for name in ("confidence", "n_bins"):
        value_a, value_b = (getattr(report.settings, name) for report in (report_a, report_b))
        if value_a != value_b:
            raise InputError(f"the reports have {name}={value_a} and {name}={value_b}; make both with the same value")
    order = _order(a, b)
    proba, columns = b.proba[:, order], np.argsort(order)[b.columns]
    same, why = _same_rows(a, b, columns) if paired is None else (paired, "the caller said so")
    if same and a.n_rows != b.n_rows:
        raise InputError(f"paired=True, but the reports have {a.n_rows} and {b.n_rows} rows; expected the same rows")
    if same and not np.array_equal(a.columns, columns):
        raise InputError(
            "paired=True, but the true classes of the two reports differ; give the same rows in the same order"
        )
    data |= {"b": _head(report_b), "paired": same, "why_paired": why}
    data["a"]["name"], data["b"]["name"] = run_names(names, data["a"], data["b"])
    data["metrics"] = _metrics(report_a, report_b, (proba, columns), same)
    if same:
        data["changed"] = changed_rows(a, proba)
        data["agreement"] = 1.0 - data["changed"]["n"] / a.n_rows
    else:
        data["shift"] = score_shift(a, proba, level, b.clusters)
        data["calibration_change"] = calibration_change(a, proba, columns, level, report_a.settings.seed, b.clusters)
    return Comparison({**data, "verdict": _verdict(data)})


class Comparison:
    """The result of `compare`.

    Parameters
    ----------
    data : dict
        See `to_dict`.
    """

    def __init__(self, data: Mapping[str, Any]) -> None:
        self._data = dict(data)

    @property
    def verdict(self) -> str:
        """What the numbers say, in a paragraph."""
        text: str = self._data["verdict"]
        return text

    def to_dict(self) -> dict[str, Any]:
        """Everything that the comparison says, in JSON types.

        Returns
        -------
        dict
            ``schema``, ``version``, ``a`` and ``b`` (``name``, ``title``, ``n`` rows, ``provenance``), ``paired`` and
            ``why_paired``, ``verdict``, ``metrics`` (name to ``a``, ``b`` and ``difference`` with ``low`` and ``high``;
            empty without labels), ``agreement`` (the share of the same rows that get the same prediction), ``changed`` (how many
            of the same rows get another, and which), ``shift`` (of the probabilities; needs no labels), ``calibration_change``
            and ``confidence`` (the confidence level of the intervals).
        """
        return copy.deepcopy(self._data)

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """`to_dict` as JSON text, also written to a file if `path` is given."""
        return written(json.dumps(self._data, indent=1, allow_nan=False) + "\n", path)

    def to_frame(self) -> Any:
        """The metrics as a pandas DataFrame with the columns ``a``, ``b``, ``difference``, ``low`` and ``high``."""
        import pandas as pd

        lines = {
            name: {
                "a": entry["a"]["value"],
                "b": entry["b"]["value"],
                "difference": entry["difference"]["value"],
                "low": entry["difference"]["low"],
                "high": entry["difference"]["high"],
            }
            for name, entry in self._data["metrics"].items()
        }
        columns = ["a", "b", "difference", "low", "high"]
        return pd.DataFrame.from_dict(lines, orient="index", dtype=float, columns=columns).rename_axis("metric")

    def to_markdown(self, path: str | os.PathLike[str] | None = None) -> str:
        """The comparison as Markdown, also written to a file if `path` is given."""
        names = [escaped(self._data[side]["name"]) for side in ("a", "b")]
        parts = [f"## {' / '.join(names)}", escaped(self.verdict)]
        if self._data["metrics"]:
            lines = [
                [entry["title"], cell(name, entry["a"]), cell(name, entry["b"]), cell(name, entry["difference"], True)]
                for name, entry in self._data["metrics"].items()
            ]
            parts.append(table(["Metric", *names, "Difference"], lines))
        if self._data["changed"] is not None and self._data["changed"]["rows"]:
            shown = self._data["changed"]["rows"][:_MAX_MARKDOWN_ROWS]
            with_texts = "text" in shown[0]
            lines = [
                [
                    row["row"],
                    *([row["text"][:_MAX_MARKDOWN_TEXT]] if with_texts else []),
                    row["true"],
                    row["a"],
                    row["b"],
                ]
                for row in shown
            ]
            parts.append(table(["Row", *(["Text"] if with_texts else []), "True", *names], lines))
        return written("\n\n".join(parts) + "\n", path)

    def to_html(self, path: str | os.PathLike[str] | None = None) -> str:
        """The comparison as one HTML page without scripts, also written to a file if `path` is given."""
        return written(comparison_page(self._data), path)

    def _repr_html_(self) -> str:
        return in_notebook(self.to_html(), "llmclf report")

    def __repr__(self) -> str:
        return f"<Comparison: {self.verdict}>"


def _order(a: Evidence, b: Evidence) -> NDArray[np.intp]:
    """The position in `b` of each column of `a`."""
    columns = {label: k for k, label in enumerate(b.classes)}
    absent = [label for label in a.classes if label not in columns]
    if absent or len(a.classes) != len(b.classes):
        raise InputError(
            f"the reports have different classes ({list(a.names)} and {list(b.names)}); compare runs with the same classes"
        )
    return np.array([columns[label] for label in a.classes], dtype=np.intp)


def _same_rows(a: Evidence, b: Evidence, columns_b: NDArray[Any]) -> tuple[bool, str]:
    if not np.array_equal(a.columns, columns_b) or not np.array_equal(a.rows, b.rows):
        return False, "their labels differ"
    if a.texts is not None and b.texts is not None:
        if a.texts == b.texts:
            return True, "labels and texts are equal"
        return False, "their texts differ"
    return True, "the labels are equal row by row; pass paired=False if the rows differ"


def _head(report: CalibrationReport) -> dict[str, Any]:
    data = report.to_dict()
    return {"title": data["title"], "n": data["rows"]["n"], "provenance": data["provenance"]}


def _metrics(
    report_a: CalibrationReport, report_b: CalibrationReport, second: tuple[Floats, NDArray[Any]], same: bool
) -> dict[str, Any]:
    """Each metric of both reports, and its difference; `second` holds the second report's rows, with the first one's columns."""
    a, settings = report_a.evidence, report_a.settings
    metrics_b = report_b.to_dict()["metrics"]
    metrics = {}
    for name, metric in report_a.to_dict()["metrics"].items():
        entry_a, entry_b = metric["after"], metrics_b[name]["after"]
        if same:
            difference = change(
                name, a.columns, a.proba, second[0], settings, entry_a["value"], entry_b["value"], a.clusters
            )
        else:
            clusters = a.clusters, report_b.evidence.clusters
            difference = _unpaired(name, (a.proba, a.columns), second, settings, entry_a, entry_b, clusters)
        shown = {key: metric[key] for key in ("title", "unit", "better", "meaning")}
        metrics[name] = {**shown, "a": entry_a, "b": entry_b, "difference": difference}
    return metrics


def _unpaired(
    name: str,
    first: tuple[Floats, NDArray[Any]],
    second: tuple[Floats, NDArray[Any]],
    settings: Settings,
    entry_a: Mapping[str, Any],
    entry_b: Mapping[str, Any],
    clusters: tuple[Integers | None, Integers | None],
) -> dict[str, Any]:
    """The difference on different rows. Its interval combines the intervals of the two, by the method of variance estimates
    recovery (Zou & Donner 2008, "Construction of confidence limits about effect measures"), for the calibration error by
    Bonferroni's bound."""
    value_a, value_b = entry_a["value"], entry_b["value"]
    if value_a is None or value_b is None:
        return entry(math.nan)
    value = value_b - value_a
    if name == "ece":
        low, high = (
            calibration_interval(
                columns,
                proba,
                n_bins=settings.n_bins,
                confidence_level=(1.0 + settings.confidence) / 2.0,
                random_state=settings.seed,
                groups=members,
            )
            for (proba, columns), members in zip((first, second), clusters, strict=True)
        )
        return entry(value, high.low - low.high, high.high - low.low)
    if name not in _MEANS or None in (entry_a["low"], entry_a["high"], entry_b["low"], entry_b["high"]):
        return entry(value)
    return entry(
        value,
        value - math.hypot(value_b - entry_b["low"], entry_a["high"] - value_a),
        value + math.hypot(entry_b["high"] - value_b, value_a - entry_a["low"]),
    )


def _verdict(data: Mapping[str, Any]) -> str:
    name_a, name_b = data["a"]["name"], data["b"]["name"]
    if data["paired"]:
        changed = data["changed"]
        others = (
            f"; of the {changed['n']:,} others, {name_a} is right about {changed['n_broken']:,} and {name_b} about "
            f"{changed['n_mended']:,}"
            if changed["n"]
            else ""
        )
        return (
            f"On the same {rows(data['a']['n'])}, {_changes(data)}. Both predict the same class in "
            f"{percent(data['agreement'])} of the rows{others}."
        )
    shift, n_a, n_b = data["shift"], data["a"]["n"], data["b"]["n"]
    mean_a, mean_b = shift["mean_confidence"]
    moved = (
        f"The probabilities have moved between the {n_a:,} rows of {name_a} and the {n_b:,} rows of {name_b}"
        if shift["moved"]
        else f"No shift of the probabilities can be seen between the {n_a:,} rows of {name_a} and the {n_b:,} rows of {name_b}"
    )
    sentences = [
        f"{moved} ({p_text(shift['p_value'])}): the mean confidence is {percent(mean_a)} in {name_a} and {percent(mean_b)} in "
        f"{name_b}, and the shares of the predicted classes differ by {points(shift['predicted_distance'])}."
    ]
    if not data["metrics"]:
        sentences.append(
            "Without labels, nothing more can be said. A shift is a reason to label new rows; the absence of a shift does not "
            "prove that the accuracy is the same."
        )
        return " ".join(sentences)
    change = data["calibration_change"]
    if change["changed"] is None:
        sentences.append(
            f"Too few rows of {name_a} and {name_b} have the same confidence to tell whether these are right equally often."
        )
    elif change["changed"]:
        sentences.append(
            f"Rows of the same confidence are no longer right as often ({p_text(change['p_value'])}): calibrate again, on "
            f"rows like those of {name_b}."
        )
    else:
        sentences.append(
            f"Rows of the same confidence seem to be right as often as before ({p_text(change['p_value'])})."
        )
    sentences.append(f"From {name_a} to {name_b}, {_changes(data)}.")
    return " ".join(sentences)


def _changes(data: Mapping[str, Any]) -> str:
    parts = []
    for name in ("accuracy", "log_loss", "ece"):
        entry = data["metrics"][name]
        difference = entry["difference"]
        if difference["value"] is None:
            parts.append(f"{_short_name(name)}: unknown")
            continue
        text = f"{_short_name(name)}: {cell(name, _bare(entry['a']))} and {cell(name, _bare(entry['b']))}"
        parts.append(f"{text} ({_judged(data, name, difference)})")
    return "; ".join(parts)


def _bare(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {"value": entry["value"], "low": None, "high": None}


def _short_name(name: str) -> str:
    return {"accuracy": "accuracy", "log_loss": "log loss", "ece": "calibration error"}[name]


def _judged(data: Mapping[str, Any], name: str, difference: Mapping[str, Any]) -> str:
    low, high = difference["low"], difference["high"]
    if low is None or high is None:
        return "no interval"
    if low <= 0.0 <= high:
        return "no difference beyond chance"
    better = "b" if (low > 0.0) == (METRICS[name][2] == "higher") else "a"
    return f"{data[better]['name']} is better"
