"""Certificates: what a classifier was promised to do, on which rows that was shown, and whether it is still the same one.

May import ``fitting``, ``pipeline``, ``pages``, ``calibration``, ``metrics`` and what lies below them, but no estimator. What a
certificate says is a field of `content`, from which its schema follows; whoever says more adds it there, and to the page.
"""

from .certificate import Certificate, ReferenceRows, certificate_of
from .status import CertificateStatus, certificate_status
from .verification import Comparison, Verification

__all__ = [
    "Certificate",
    "CertificateStatus",
    "Comparison",
    "ReferenceRows",
    "Verification",
    "certificate_of",
    "certificate_status",
]
