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
    outcome : {"finished", "failed", "interrupted"}
        In the last two nothing was written; the counts are those of the run until then.
    error : str or None
        Why it did not finish.
    input, output, journal : str
    input_version, output_version : int or None
        Those of Delta tables: the one that was read, and the one that was written.
    rows, labelled, failed : int
        Rows of the table, those with a label, and those with an error instead; where nothing was written, no row is labelled,
        and the questions are counted that have failed.
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
    max_cost : float or None
        What they may cost together.
    model : dict
        The model that answered.
    fingerprint : str
        A hash of all that the labels depend on.
    certificate : str or None
        The id of the classifier's certificate; None where there is none that is about this job.
    certificate_status : {"valid", "expired", "broken", "none"}
        Whether labels may be relied on as certified; broken, too, where it is about another threshold.
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
    max_cost: float | None = None
    model: Mapping[str, Any] = field(default_factory=dict)
    fingerprint: str = ""
    input_version: int | None = None
    output_version: int | None = None
    certificate: str | None = None
    certificate_status: str = "none"
    outcome: str = "finished"
    error: str | None = None

    @classmethod
    def unfinished(cls, outcome: str, error: str | None, **known: Any) -> Summary:
        """That of a run that did not finish: what is not known is empty."""
        nothing: dict[str, Any] = {
            "input": "",
            "output": "",
            "journal": "",
            **dict.fromkeys(("rows", "labelled", "failed", "questions", "answered_before", "asked"), 0),
            "accepted": None,
            "classes": {},
            "truncated": 0,
            "undecided": 0,
            "seconds": 0.0,
        }
        return cls(**{**nothing, **known}, outcome=outcome, error=error)

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
        if self.certificate_status != "none":
            name = "" if self.certificate is None else f" {self.certificate}"
            parts.append(f"certificate{name} {self.certificate_status}")
        parts.append(f"asked {self.asked} questions, {self.answered_before} were answered before")
        cost = self.usage.get("cost")
        if cost is not None:
            parts.append(f"cost {cost:.6g}")
            if self.max_cost is not None and self.total_cost is not None:
                left = max(0.0, self.max_cost - self.total_cost)
                parts.append(f"{self.total_cost:.6g} of max_cost={self.max_cost:g} spent, {left:.6g} left")
        return "; ".join(parts) + f"; written to {self.output}"
