"""Whether a classifier is still the one that was certified: its files, its signature, its date, and its model."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import numpy as np

from ..backends.identity import differing
from ..errors import CertificateError
from ..pipeline import FittedPipeline
from ..tables.rows import Rows
from .canary import SAME, Asked, canary_rows, kept_answers, tolerance
from .certificate import Certificate

Outcome = Literal["same", "within noise", "another model", "expired", "changed", "broken", "signature", "none"]
EXIT_CODES: dict[Outcome, int] = {
    "same": 0,
    "within noise": 3,
    "another model": 4,
    "expired": 5,
    "changed": 6,
    "broken": 7,
    "signature": 8,
    "none": 9,
}
"""With which `llmclf verify` ends; 1 and 2 are those of all commands."""


@dataclass(frozen=True)
class Comparison:
    """The answers of a model to the canary rows, compared with those that were kept.

    Attributes
    ----------
    n_rows : int
    score_difference, probability_difference : float
        The largest ones; infinite where a row can no longer be scored.
    score_tolerance, probability_tolerance : float
        How far the same model may move.
    n_other_labels, n_other_decisions : int
        Rows that get another label, and rows of which another decision is made: to accept them or not.
    n_bounded : int
        Rows of which a server showed only bounds, then or now: these are compared in place of scores and probabilities.
    other_fact : str or None
        In which fact the model's description differs, with both values.
    """

    n_rows: int
    score_difference: float
    probability_difference: float
    score_tolerance: float
    probability_tolerance: float
    n_other_labels: int
    n_other_decisions: int
    n_bounded: int
    other_fact: str | None

    @property
    def is_same(self) -> bool:
        """Whether all scores and probabilities are those that were kept, to 1e-6."""
        differs = max(self.score_difference, self.probability_difference) > SAME
        return self.other_fact is None and not differs and not self.n_bounded

    @property
    def is_within_noise(self) -> bool:
        """Whether they moved no further than those of the same model may."""
        return (
            self.other_fact is None
            and self.score_difference <= self.score_tolerance
            and self.probability_difference <= self.probability_tolerance
        )

    @property
    def line(self) -> str:
        """What was found, in one sentence."""
        moved = (
            f"scores by up to {self.score_difference:.2g} (tolerated: {self.score_tolerance:.2g}), probabilities by up to "
            f"{self.probability_difference:.2g} ({self.probability_tolerance:.2g})"
        )
        if self.is_same:
            return f"the same model: all scores of {self.n_rows} canary rows are the same to {SAME:g}"
        if self.is_within_noise:
            weak = (
                f"; of {self.n_bounded} rows the server shows only bounds, within which a model may change unnoticed"
                if self.n_bounded
                else ""
            )
            return f"the same model within the noise of its route: {self.n_rows} canary rows have moved, {moved}{weak}"
        fact = "" if self.other_fact is None else f"its {self.other_fact}; "
        return (
            f"another model: {fact}{self.n_rows} canary rows have moved, {moved}; {self.n_other_labels} get another label, and "
            f"of {self.n_other_decisions} another decision is made. The certificate is not about it: certify again"
        )


@dataclass(frozen=True)
class Verification:
    """What `llmclf.verify` found.

    Attributes
    ----------
    outcome : str
        ``"same"``, ``"within noise"``, ``"another model"``, ``"expired"``, ``"changed"`` (the classifier's files),
        ``"broken"`` (the certificate), ``"signature"`` (wrong, of another key, or absent where expected) or ``"none"``
        (there is no certificate).
    message : str
        The same in words, with numbers.
    certificate : Certificate or None
        None if there is none that can be read.
    signed_by : str or None
        The public key of a right signature, in hexadecimal digits.
    comparison : Comparison or None
        None if the model was not asked.
    """

    outcome: Outcome
    message: str
    certificate: Certificate | None = None
    signed_by: str | None = None
    comparison: Comparison | None = None

    @classmethod
    def of_broken(cls, error: CertificateError) -> Verification:
        """What an error says of a certificate that cannot be relied on."""
        outcomes: dict[str, Outcome] = {"classifier": "changed", "signature": "signature"}
        return cls(outcomes.get(error.kind, "broken"), str(error))

    @property
    def exit_code(self) -> int:
        """With which the command ends."""
        return EXIT_CODES[self.outcome]

    def to_dict(self) -> dict[str, Any]:
        """As values of JSON; infinity is null."""
        found = self.comparison
        numbers = {} if found is None else {name: _finite(value) for name, value in vars(found).items()}
        certificate = self.certificate
        return {
            "outcome": self.outcome,
            "exit_code": self.exit_code,
            "message": self.message,
            "certificate": None if certificate is None else certificate.id,
            "issued": None if certificate is None else certificate.content.issued,
            "expires": None if certificate is None else certificate.content.expires,
            "signed_by": self.signed_by,
            "comparison": numbers or None,
        }


def verification(
    certificate: Certificate,
    pipeline: FittedPipeline,
    rows: Rows | None,
    signed_by: str | None,
    now: datetime | None = None,
) -> Verification:
    """Ask the canary rows again, and look at the date.

    Parameters
    ----------
    certificate : Certificate
        Whose signature is right.
    pipeline : FittedPipeline
        The classifier that it is about.
    rows : Rows or None
        Among which the canary rows are found, where it keeps only their hashes.
    signed_by : str or None
    now : datetime, optional

    Raises
    ------
    InputError
        The canary rows are not there.
    ModelError
        The model cannot be asked.
    """
    if list(certificate.classes) != pipeline.to_dict()["classes"]:
        fault = f"the certificate {certificate.id} is about other classes than those of the classifier beside it"
        return Verification("broken", f"{fault}; certify again", certificate, signed_by)
    found = compared(certificate, pipeline, rows)
    words = [f"certificate {certificate.id} of {certificate.content.issued[:10]}"]
    words[0] += ", not signed" if signed_by is None else f", signed by {signed_by[:16]}..."
    outcome: Outcome = "same" if found.is_same else "within noise" if found.is_within_noise else "another model"
    words.append(found.line)
    if certificate.is_from_future(now):
        words.append(
            f"it is dated in the future ({certificate.content.issued}): the clock of this machine is wrong, or that of whoever "
            "made it was, so do not rely on its dates"
        )
    if certificate.is_expired(now):
        words.append(f"it has expired ({certificate.content.expires}): certify again, on new rows")
        outcome = "another model" if outcome == "another model" else "expired"
    return Verification(outcome, "; ".join(words), certificate, signed_by, found)


def compared(certificate: Certificate, pipeline: FittedPipeline, rows: Rows | None) -> Comparison:
    """The model's answers to the canary rows, and those that were kept; see `verification`."""
    content = certificate.content
    canary = content.canary
    own = canary_rows(canary, pipeline, rows)
    identity = pipeline.backend.identity()
    fact = differing(content.model, identity)
    asked, kept = Asked.of(pipeline, own), kept_answers(canary)
    score_difference, probability_difference = kept.distance(asked)
    before, after = kept.probabilities, np.nan_to_num(asked.probabilities, nan=0.0)
    accepted_before = before.max(axis=1) >= certificate.threshold
    return Comparison(
        n_rows=len(own),
        score_difference=score_difference,
        probability_difference=probability_difference,
        score_tolerance=tolerance(canary.score_noise, content.model),
        probability_tolerance=tolerance(canary.probability_noise, content.model),
        n_other_labels=int((before.argmax(axis=1) != after.argmax(axis=1)).sum()),
        n_other_decisions=int((accepted_before != (after.max(axis=1) >= certificate.threshold)).sum()),
        n_bounded=int((kept.is_bounded | asked.is_bounded).sum()),
        other_fact=None if fact is None else f"{fact} was {content.model.get(fact)!r} and is {identity.get(fact)!r}",
    )


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not np.isfinite(value) else value
