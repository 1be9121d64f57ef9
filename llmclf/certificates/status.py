"""Whether outputs of a pipeline may name a certificate: valid, expired, broken, or none."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from ..errors import CertificateError, CertificateWarning, MissingDependencyError, StoreError, warn
from ..pipeline import FittedPipeline
from .certificate import Certificate, certificate_of
from .signatures import check_signature

Status = Literal["valid", "expired", "broken", "none"]


@dataclass(frozen=True)
class CertificateStatus:
    """What outputs say of a classifier's certificate.

    Attributes
    ----------
    status : {"valid", "expired", "broken", "none"}
        Broken, too, if it is about another classifier, or about another threshold.
    certificate : Certificate or None
        None if there is none, or it cannot be read.
    reason : str or None
        What is wrong with it, or that its signature could not be checked.
    """

    status: Status
    certificate: Certificate | None = None
    reason: str | None = None

    @property
    def id(self) -> str | None:
        """That of the certificate, as far as it can be relied on to be about this classifier."""
        return None if self.certificate is None else self.certificate.id

    def to_dict(self) -> dict[str, Any]:
        """As outputs have it."""
        return {"id": self.id, "status": self.status}

    def warn(self) -> None:
        """Tell whoever relies on the certificate what is wrong with it, if anything is.

        Warns
        -----
        CertificateWarning
            It is expired or broken, or its signature could not be checked.
        """
        if self.reason is not None:
            warn(self.reason, CertificateWarning)


NONE = CertificateStatus("none")
"""Of a classifier that nobody has certified."""


def certificate_status(
    pipeline: FittedPipeline, threshold: float | None = None, now: datetime | None = None
) -> CertificateStatus:
    """The certificate in the folder that a pipeline was read from, and whether it is about what the pipeline decides now.

    Parameters
    ----------
    pipeline : FittedPipeline
    threshold : float, optional
        From which confidence on rows are accepted, if not from the pipeline's own threshold on.
    now : datetime, optional
        With a time zone.

    Examples
    --------
    >>> from llmclf import LLMClassifier
    >>> from llmclf.backends import FakeBackend
    >>> clf = LLMClassifier(FakeBackend(), labels=["good", "bad"]).fit(["any text"])
    >>> certificate_status(clf.pipeline_).to_dict()
    {'id': None, 'status': 'none'}
    """
    if pipeline.folder is None:
        return NONE
    try:
        certificate = certificate_of(pipeline.folder)
    except CertificateError as error:
        return CertificateStatus("broken", None, f"nothing is certified: {error}")
    except StoreError as error:  # the classifier has gone since it was read
        return CertificateStatus("broken", None, f"nothing is certified: {error}")
    if certificate is None:
        return NONE
    if not certificate.is_about(pipeline):
        return CertificateStatus(
            "broken",
            None,
            f"the certificate {certificate.id} is about the classifier as it was saved in {pipeline.folder!r}, which has been "
            "changed since it was read; save and certify it again",
        )
    if threshold is not None and threshold != certificate.threshold:
        return CertificateStatus(
            "broken",
            None,
            f"the certificate {certificate.id} is about rows accepted from confidence {certificate.threshold:.6g} on, and not "
            f"from {threshold:.6g} on; nothing is promised of these",
        )
    unchecked = None
    try:
        check_signature(certificate)
    except CertificateError as error:
        return CertificateStatus("broken", None, f"nothing is certified: {error}")
    except MissingDependencyError as error:
        unchecked = f"the signature of the certificate {certificate.id} was not checked: {error}"
    if certificate.is_from_future(now):
        dated = f"the certificate {certificate.id} of {pipeline.folder!r} is dated in the future ({certificate.content.issued})"
        unchecked = f"{dated}: some clock is wrong, so do not rely on its dates" + (
            f"; {unchecked}" if unchecked else ""
        )
    if certificate.is_expired(now):
        return CertificateStatus(
            "expired",
            certificate,
            f"the certificate {certificate.id} of {pipeline.folder!r} has expired ({certificate.content.expires}); certify the "
            "classifier again, on new rows",
        )
    return CertificateStatus("valid", certificate, unchecked)
