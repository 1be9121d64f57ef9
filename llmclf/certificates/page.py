"""A certificate as one HTML page, for whoever signs off automation."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from typing import TYPE_CHECKING, Any

from ..pages import render_page
from ..report.page import lines_of
from ..report.verdict import p_text, percent

if TYPE_CHECKING:
    from .certificate import Certificate

_FINDINGS = {"kept": "kept", "open": "not shown", "broken": "broken"}
_FROM = {
    "before": "was there before the judged rows were looked at",
    "these rows": "was chosen on the judged rows, with all thresholds tried and allowed for",
}


def certificate_page(certificate: Certificate) -> str:
    """The page of a certificate; the texts of its canary are not on it."""
    content = certificate.content
    values = content.model_dump()
    return render_page(
        resources.files(__package__) / "templates",
        "certificate.html.j2",
        style="certificate.css",
        script=None,
        data=values,
        id=certificate.id,
        sha256=certificate.sha256,
        signature=certificate.signature,
        promise=promise(certificate),
        threshold_from=_FROM[content.guarantee.threshold_from],
        findings=_FINDINGS,
        pct=percent,
        p_text=p_text,
        chance=1.0 - content.guarantee.confidence,
        provenance=lines_of(_provenance(values)),
    )


def promise(certificate: Certificate) -> str:
    """The promise of a certificate in one sentence.

    Parameters
    ----------
    certificate : Certificate
    """
    guarantee = certificate.content.guarantee
    attempts = certificate.content.attempts
    tried = ""
    if attempts.n_not_shown:
        tried = (
            f" {attempts.n_not_shown} earlier attempt{'s' if attempts.n_not_shown > 1 else ''} did not show what was asked; that "
            f"none promised too much has {percent(attempts.confidence_of_all, 0)} confidence."
        )
    return (
        f"Of future rows that are accepted from confidence {guarantee.threshold:.4g} on, at most {percent(guarantee.max_error)} "
        f"are wrong, with {percent(guarantee.confidence, 0)} confidence.{tried}"
    )


def _provenance(values: Mapping[str, Any]) -> dict[str, Any]:
    classifier = {name: value for name, value in values["classifier"].items() if name != "words"}
    words = zip(map(str, values["classifier"]["classes"]), values["classifier"]["words"], strict=True)
    return {
        "model": values["model"],
        "classifier": {**classifier, "words": dict(words)},
        "rows": values["rows"],
        "reference": values["reference"],
        "attempts": {name: one for name, one in values["attempts"].items() if name != "record"},
        "llmclf": values["llmclf"],
    }
