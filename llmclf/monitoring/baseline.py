"""What later rows are held against: the promise, and the rows on which it rests."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from ..arrays import Integers
from ..certificates import Certificate, ReferenceRows, certificate_of
from ..checks import check_open_share, is_number, is_whole_number
from ..errors import InputError
from ..numerics.groups import effective_number
from ..saved_folder import holds_classifier


@dataclass(frozen=True, eq=False)
class Baseline:
    """A promise about accepted rows, and the judged rows; `of` takes it from a certificate.

    Attributes
    ----------
    reference : ReferenceRows
        What the n judged rows got.
    classes : tuple of K
        In the order of the columns.
    max_error : float
        The share of accepted rows that is wrong at most.
    threshold : float or None
        From which confidence on rows are accepted.
    confidence : float
        With which that holds.
    certificate : str or None
        Its id.
    expires : datetime or None
    is_even : bool
        Whether the judged rows were drawn with the same probability each; others are not like later rows.
    n_groups : int or None
        How many independent groups the judged rows make, such as authors, where `reference` does not say which; None: each row
        is one.
    """

    reference: ReferenceRows
    classes: tuple[Any, ...]
    max_error: float
    threshold: float | None = None
    confidence: float = 0.95
    certificate: str | None = None
    expires: datetime | None = None
    is_even: bool = True
    n_groups: int | None = None

    def __post_init__(self) -> None:
        check_open_share("max_error", self.max_error, "0.05")
        check_open_share("confidence", self.confidence, "0.95")
        if self.threshold is not None and (not is_number(self.threshold) or math.isnan(self.threshold)):
            raise InputError(f"threshold={self.threshold!r}; expected a number, or None")
        shape = self.reference.probabilities.shape
        if len(shape) != 2 or shape[1] != len(self.classes) or not shape[0]:
            raise InputError(
                f"the reference rows have probabilities of shape {shape}; expected (n, {len(self.classes)})"
            )
        if self.n_groups is not None and not is_whole_number(self.n_groups, 1):
            raise InputError(f"n_groups={self.n_groups!r}; expected a positive number of groups, or None")

    @property
    def groups(self) -> Integers | None:
        """Which judged rows (n,) belong together; None: each is alone. Where only their number is known, they are of one size."""
        n = len(self.reference)
        if self.reference.groups is not None or self.n_groups is None or self.n_groups >= n:
            return self.reference.groups
        return np.arange(n) * self.n_groups // n

    @property
    def independent_share(self) -> float:
        """How many independent rows each judged row is worth, at most 1; see `llmclf.numerics.groups.effective_number`."""
        n = len(self.reference)
        return effective_number(self.groups, n) / n

    @classmethod
    def of(cls, certificate: Certificate | str | os.PathLike[str]) -> Baseline:
        """That of a certificate, or of the one in the folder of a saved classifier.

        Raises
        ------
        InputError
            There is no such folder, or it has no certificate.
        CertificateError
            It is broken, or about another classifier.
        """
        if isinstance(certificate, Certificate):
            content = certificate.content
            return cls(
                certificate.reference,
                certificate.classes,
                certificate.max_error,
                certificate.threshold,
                certificate.confidence,
                certificate.id,
                certificate.expires,
                not content.rows.is_uneven,
                content.rows.n_groups,
            )
        if not isinstance(certificate, (str, os.PathLike)):
            raise InputError(
                f"certificate={certificate!r}; expected a Certificate, a Baseline, or a folder with a certificate"
            )
        is_classifier = holds_classifier(certificate)
        found = certificate_of(certificate)
        if found is None:
            has_none = "has no certificate" if is_classifier else "holds no saved classifier, and has no certificate"
            one = "it" if is_classifier else "the folder of a classifier"
            raise InputError(
                f"{os.fspath(certificate)!r} {has_none}; run llmclf certify on {one} first, with labelled rows"
            )
        return cls.of(found)

    @property
    def is_expired(self) -> bool:
        """Whether it has expired by now."""
        return self.expires is not None and datetime.now(UTC) >= self.expires
