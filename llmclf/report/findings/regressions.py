"""Regressions with the label, beside what hand labels and predictions alone would say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...errors import InputError, type_of
from ...estimation import RegressionResult
from .lines import ends, finite

REGRESSIONS_HEADING = "What goes with what?"


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
        if not isinstance(one, RegressionResult):
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
                    **{key: ends(line, key) for key in ("estimate", "by_hand", "naive")},
                    "p_value": finite(line["p_value"]),
                    "labels_worth": finite(line["worth"]),
                }
                for line in one.to_frame().to_dict("records")
            ],
        }
        for name, one in named.items()
    ]
