"""Shares of classes among all rows, beside what hand labels and predictions alone would say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...arrays import Floats
from ...errors import InputError, listed, type_of
from ...estimation import ShareEstimates, estimate_shares
from ..evidence import Evidence
from ..measures import entry
from ..verdict import percent
from .lines import ends, finite

SHARES_HEADING = "What share is it?"
_MOST_NAMES = 4  # of classes in a sentence


def read_shares(
    shares: Any, evidence: Evidence, proba: Any, clusters: Any, confidence: float, inclusion: Any = None
) -> dict[str, Any] | None:
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
    inclusion : array-like (n,), optional
        With what probability each row was drawn to be labelled.

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
            inclusion=None if inclusion is None else np.asarray(inclusion, dtype=np.float64)[evidence.rows],
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
            {
                "group": str(line["group"]),
                **_share_line(names[i % len(names)], line),
                "n_labelled": int(line["labelled"]),
            }
            for i, line in enumerate(frame)
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


def weighing_text(data: Mapping[str, Any]) -> str | None:
    """What the shares of a report use, where all else uses fewer labelled rows; `data` as in `CalibrationReport.to_dict`."""
    if data["shares"] is None or "n_thinned" not in data["rows"]:
        return None
    n, n_labelled = data["rows"]["n"], data["shares"]["n_labelled"]
    return (
        f"These shares weigh all {n_labelled:,} labelled rows by how they were drawn. The rest of the report is about {n:,} of "
        "them, kept at random so that all had the same probability to be drawn."
    )


def shares_alt(shares: Mapping[str, Any]) -> str:
    """What the figure shows, for readers who cannot see it."""
    return f"Shares of the classes with intervals, estimated in four ways. {shares['text']}"


def _share_line(name: str, line: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "class": name,
        "share": ends(line, "share"),
        "by_hand": ends(line, "by_hand"),
        "naive": entry(float(line["naive"])),
        "mean_probability": entry(float(line["mean_probability"])),
        "labels_worth": finite(line["worth"]),
        "n_cases": int(line["cases"]),
    }


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
