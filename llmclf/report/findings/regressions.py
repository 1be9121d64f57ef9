"""Regressions with the label, beside what hand labels and predictions alone would say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from ...errors import InputError, type_of
from .lines import ends, finite

REGRESSIONS_HEADING = "What goes with what?"


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
                    **{key: ends(line, key) for key in ("estimate", "by_hand", "naive")},
                    "p_value": finite(line["p_value"]),
                    "labels_worth": finite(line["labels_worth"]),
                }
                for line in one.to_frame().to_dict("records")
            ],
        }
        for name, one in named.items()
    ]
