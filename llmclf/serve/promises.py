"""What every answer says of a classifier's certificate: whose it is, and whether it still holds."""

from __future__ import annotations

from collections.abc import Mapping
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

    @property
    def status(self) -> str:
        """``"valid"``, ``"expired"``, ``"broken"``, or ``"none"`` where there is no certificate; as it is now."""
        if self.fault:
            return "broken"
        if self.certificate is None:
            return "none"
        return "expired" if self.certificate.is_expired() else "valid"

    def to_dict(self) -> dict[str, Any]:
        """Its id and its status.

        Examples
        --------
        >>> Promise().to_dict()
        {'id': None, 'status': 'none'}
        """
        return {"id": self.id, "status": self.status}


class PromisesKept:
    """Notices which certificates have expired since the last look, so that each is said once.

    Parameters
    ----------
    promises : mapping of name to Promise
    """

    def __init__(self, promises: Mapping[str, Promise]) -> None:
        self._valid = {name: one for name, one in promises.items() if one.status == "valid"}

    def expired(self) -> dict[str, Promise]:
        """Those that were valid at the last look, or at the beginning, and are no more."""
        found = {name: one for name, one in self._valid.items() if one.status != "valid"}
        for name in found:
            del self._valid[name]
        return found
