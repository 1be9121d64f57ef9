"""What the labels say of all rows: shares of classes and regressions, beside what hand labels and predictions alone would say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ..arrays import Floats
from ..errors import InputError, listed, type_of
from ..estimation import ShareEstimates, estimate_shares
from .evidence import Evidence
from .measures import entry
from .verdict import percent

SHARES_HEADING = "What share is it?"
REGRESSIONS_HEADING = "What goes with what?"
_MOST_NAMES = 4  # of classes in a sentence


@runtime_checkable
class RegressionLike(Protocol):
    """A regression: what `llmclf.estimation.estimate_regression` gives to a report."""

    @property
    def model(self) -> str:
        """Linear or logistic."""
        ...

    @property
    def outcome(self) -> str:
        """The name of what is regressed."""
        ...

    @property
    def nobs(self) -> int:
        """The number of all rows."""
        ...

    @property
    def n_labelled(self) -> int:
        """The number of rows with labels by hand."""
        ...

    @property
    def confidence_level(self) -> float:
        """Of the intervals."""
        ...

    def to_frame(self) -> Any:
        """One line per coefficient."""
        ...


def read_shares(shares: Any, evidence: Evidence, proba: Any, clusters: Any, confidence: float) -> dict[str, Any] | None:
    """The section on shares of a report.

    Parameters
    ----------
    shares : ShareEstimates, True or None
        True: estimated from the rows of the report, of which only some have labels.
    evidence : Evidence
        The labelled rows.
    proba : array-like
        The probabilities of all rows, as the report was given them.
    clusters : array-like or None
        What each of all rows belongs to.
    confidence : float
        Of the intervals, where they are estimated here.

    Raises
    ------
    InputError
        `shares` is something else, or is True and every row has a label.
    """
    if shares is None or shares is False:
        return None
    n_rows: int | None = None
    if shares is True:
        given = np.asarray(proba, dtype=np.float64)
        table: Floats = np.column_stack([1.0 - given, given]) if given.ndim == 1 else given
        scored: NDArray[np.bool_] = np.asarray(~np.isnan(table).any(axis=1))
        if evidence.n_unlabelled == 0:
            raise InputError(
                "shares=True needs rows without a label, whose shares the labelled ones tell; give all rows, with None as the "
                "label of those that nobody labelled, or the result of estimate_shares"
            )
        places = np.cumsum(scored) - 1
        n_rows = int(scored.sum())
        members = (
            None if clusters is None else [one for one, kept in zip(clusters, scored.tolist(), strict=True) if kept]
        )
        shares = estimate_shares(
            table[scored],
            evidence.columns,
            places[evidence.rows],
            classes=range(table.shape[1]),
            clusters=members,
            confidence_level=confidence,
        )
        names: Sequence[Any] = evidence.names
    elif isinstance(shares, ShareEstimates):
        names = [str(label) for label in shares.classes.tolist()]
    else:
        raise InputError(f"shares is {type_of(shares)}; expected True, or what estimate_shares returns")
    lines = [_share_line(name, line) for name, line in zip(names, shares.to_frame().to_dict("records"), strict=True)]
    groups = []
    if shares.groups:
        frame = shares.group_frame().to_dict("records")
        groups = [
            {"group": str(line["group"]), **_share_line(names[i % len(names)], line)} for i, line in enumerate(frame)
        ]
    section = {
        "n_rows": n_rows,
        "n_labelled": int(shares.overall.n_labelled),
        "confidence": float(shares.confidence_level),
        "method": shares.method,
        "lines": lines,
        "groups": groups,
    }
    return {**section, "text": _shares_text(section)}


def read_regressions(regressions: Any) -> list[dict[str, Any]] | None:
    """The section on regressions of a report.

    Parameters
    ----------
    regressions : RegressionResult, mapping of name to RegressionResult, or None

    Raises
    ------
    InputError
        It is something else.
    """
    if regressions is None:
        return None
    named = regressions if isinstance(regressions, Mapping) else {None: regressions}
    for one in named.values():
        if not isinstance(one, RegressionLike):
            raise InputError(
                f"regressions hold {type_of(one)}; expected what estimate_regression returns, or a dict of names and such results"
            )
    return [
        {
            "name": f"{one.model.capitalize()} regression of {one.outcome}" if name is None else str(name),
            "model": str(one.model),
            "outcome": str(one.outcome),
            "n_rows": int(one.nobs),
            "n_labelled": int(one.n_labelled),
            "confidence": float(one.confidence_level),
            "terms": [
                {
                    "term": str(line["term"]),
                    **{key: _ends(line, key) for key in ("estimate", "by_hand", "naive")},
                    "p_value": _number(line["p_value"]),
                    "labels_worth": _number(line["labels_worth"]),
                }
                for line in one.to_frame().to_dict("records")
            ],
        }
        for name, one in named.items()
    ]


def findings_section(data: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the page shows of both; None where there is neither."""
    if data["shares"] is None and data["regressions"] is None:
        return None
    return {
        "shares_heading": SHARES_HEADING,
        "regressions_heading": REGRESSIONS_HEADING,
        "shares": data["shares"],
        "regressions": data["regressions"] or [],
    }


def shares_alt(shares: Mapping[str, Any]) -> str:
    """What the figure shows, for readers who cannot see it."""
    return f"Shares of the classes with intervals, estimated in four ways. {shares['text']}"


def _share_line(name: str, line: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "class": name,
        "share": _ends(line, "share"),
        "by_hand": _ends(line, "by_hand"),
        "naive": entry(float(line["naive"])),
        "mean_probability": entry(float(line["mean_probability"])),
        "labels_worth": _number(line["worth"]),
        "n_cases": int(line["cases"]),
    }


def _ends(line: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A value with its interval; the ends of the estimate itself have no name before theirs."""
    prefix = "" if name in ("share", "estimate") else f"{name}_"
    return entry(float(line[name]), float(line[f"{prefix}low"]), float(line[f"{prefix}high"]))


def _number(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None


def _shares_text(section: Mapping[str, Any]) -> str:
    lines = section["lines"]
    of = f"{section['n_rows']:,} rows" if section["n_rows"] is not None else "all rows"
    known = [line for line in lines if line["share"]["value"] is not None]
    first = max(known, key=lambda line: line["share"]["value"], default=None)
    if first is None:
        return f"Nothing is known of the shares among {of}."
    # Of two classes, one says all; the second is the one that a question is about.
    shown = known[-1] if len(known) == 2 else first
    share = shown["share"]
    text = (
        f"Of {of}, {percent(share['value'])} are {shown['class']} ({percent(section['confidence'], 0)} interval: "
        f"{percent(share['low'])} to {percent(share['high'])}), from {section['n_labelled']:,} labels by hand."
    )
    outside = [line["class"] for line in known if _is_outside(line["naive"], line["share"])]
    text += f" Counting the predicted labels gives {percent(shown['naive']['value'])}"
    if outside:
        intervals = "interval" if len(outside) == 1 else "intervals"
        text += (
            f". Such counts lie outside of the {intervals} of {listed(outside, _MOST_NAMES)}, so do not report them."
        )
    else:
        text += ", without any interval that holds."
    worth = shown["labels_worth"]
    if worth is not None:
        text += f" With the probabilities, the labels say as much as {worth:,.0f} labels by hand alone would."
    return text


def _is_outside(one: Mapping[str, Any], interval: Mapping[str, Any]) -> bool:
    return one["value"] is not None and not interval["low"] <= one["value"] <= interval["high"]
