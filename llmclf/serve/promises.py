"""What every answer says of a classifier's certificate: whose it is, and whether it still holds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..certificates import Certificate, certificate_of
from ..errors import CertificateError


@dataclass(frozen=True)
class Promise:
    """The certificate of a classifier as it was when the server began; that it expires is noticed meanwhile.

    Attributes
    ----------
    certificate : Certificate or None
    fault : str
        Why there is none that could be read; empty where nothing is wrong.
    """

    certificate: Certificate | None = None
    fault: str = ""

    @classmethod
    def of(cls, folder: Path) -> Promise:
        """That of the classifier in a folder; a certificate that is broken, or another classifier's, is a fault."""
        try:
            return cls(certificate_of(folder))
        except CertificateError as error:
            return cls(fault=str(error))

    @property
    def id(self) -> str | None:
        return None if self.certificate is None else self.certificate.id

    def to_dict(self) -> dict[str, Any]:
        """Its id, and whether it is ``"valid"``, ``"expired"``, ``"broken"``, or there is ``"none"``.

        Examples
        --------
        >>> Promise().to_dict()
        {'id': None, 'status': 'none'}
        """
        if self.fault:
            return {"id": None, "status": "broken"}
        if self.certificate is None:
            return {"id": None, "status": "none"}
        return {"id": self.id, "status": "expired" if self.certificate.is_expired() else "valid"}
