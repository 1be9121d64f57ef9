"""What a job did, in numbers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Summary:
    """The outcome of a labelling job.

    Attributes
    ----------
    input, output, journal : str
    rows, labelled, failed : int
        Rows of the table, those with a label, and those with an error instead.
    questions : int
        Different questions that the rows asked.
    answered_before, asked : int
        Questions that the journal could answer, and those that were asked in this run.
    accepted : int or None
        Rows whose confidence reaches the threshold; None without one.
    classes : dict
        Rows of each label.
    truncated, undecided : int
        Rows whose text was shortened, and rows whose label the bounds of a server leave open.
    seconds : float
        Of this run.
    usage : dict
        Requests, retries, tokens and cost of this run, where the model is a server's.
    total_cost : float or None
        Of all runs with this journal.
    model : dict
        The model that answered.
    fingerprint : str
        A hash of all that the labels depend on.
    """

    input: str
    output: str
    journal: str
    rows: int
    labelled: int
    failed: int
    questions: int
    answered_before: int
    asked: int
    accepted: int | None
    classes: Mapping[str, int]
    truncated: int
    undecided: int
    seconds: float
    usage: Mapping[str, Any] = field(default_factory=dict)
    total_cost: float | None = None
    model: Mapping[str, Any] = field(default_factory=dict)
    fingerprint: str = ""

    def __repr__(self) -> str:
        """The line for a person; `to_dict` has all numbers."""
        return f"<Summary: {self.line}>"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), indent=1, ensure_ascii=False) + "\n"

    @property
    def line(self) -> str:
        """One line for a person."""
        parts = [f"labelled {self.labelled} of {self.rows} rows"]
        if self.failed:
            parts.append(f"{self.failed} failed")
        if self.accepted is not None:
            parts.append(f"{self.accepted} accepted")
        parts.append(f"asked {self.asked} questions, {self.answered_before} were answered before")
        cost = self.usage.get("cost")
        if cost is not None:
            parts.append(f"cost {cost:.6g}")
        return "; ".join(parts) + f"; written to {self.output}"
