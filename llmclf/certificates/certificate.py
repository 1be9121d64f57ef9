"""A certificate as an object, and as files beside a saved classifier."""

from __future__ import annotations

import json
import os
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..arrays import Floats, Integers
from ..atomic_files import write_file, write_text
from ..errors import CertificateError, InputError, StoreError
from ..files.bounded_json import parsed_json
from ..files.faults import file_fault
from ..pages import written
from ..saved_folder import array_bytes, array_of_bytes, classifier_sha256

if TYPE_CHECKING:
    from ..pipeline import FittedPipeline
    from .content import Content, Signature

FILE, PAGE, ATTEMPTS = "certificate.json", "certificate.html", "certificate-attempts.json"
_MOST_BYTES = 64_000_000
_MOST_ROW_BYTES = 1_000_000_000
_ROWS_PATTERN = "certificate-*.npy"
_ATTEMPTS = 3  # at reading a folder into which somebody else is writing
_CLOCKS_DIFFER = timedelta(days=1)
_MASKS = 3  # of the last columns of the rows' array


@dataclass(frozen=True, eq=False)
class ReferenceRows:
    """What each of the n judged rows got: what later rows are compared with.

    Attributes
    ----------
    probabilities : ndarray (n, K)
        NaN in rows that could not be scored.
    accepted : ndarray of bool (n,)
    label_mass : ndarray (n,)
        The probability that the model gave to all labels together; NaN in rows that could not be scored.
    undecided : ndarray of bool (n,)
        Whether a server's bounds leave open which class is the most probable.
    correct : ndarray of bool (n,)
        Whether the most probable class is the true one; false in rows that could not be scored.
    groups : ndarray of int (n,), optional
        Which rows belong together, such as copies of a text; None: each row is alone.
    """

    probabilities: Floats
    accepted: NDArray[np.bool_]
    label_mass: Floats
    undecided: NDArray[np.bool_]
    correct: NDArray[np.bool_]
    groups: Integers | None = None

    def __len__(self) -> int:
        return len(self.accepted)

    def to_array(self) -> Floats:
        """All of it as one array (n, K + 4), or (n, K + 5) where rows belong together."""
        masks = (self.accepted, self.undecided, self.correct)
        more = () if self.groups is None else (self.groups,)
        return np.column_stack([self.probabilities, self.label_mass, *masks, *more]).astype(np.float64)

    @classmethod
    def from_array(cls, values: Floats, n_classes: int) -> ReferenceRows:
        """The inverse of `to_array`.

        Raises
        ------
        ValueError
            These are not the rows of so many classes.
        """
        least = n_classes + 1 + _MASKS
        if values.ndim != 2 or values.shape[1] not in (least, least + 1):
            raise ValueError(f"it has the shape {values.shape}; expected {least} columns, or {least + 1} with groups")
        proba, mass, masks = values[:, :n_classes], values[:, n_classes], values[:, n_classes + 1 : least]
        is_share = np.isnan(proba) | ((proba >= 0) & (proba <= 1))
        if not is_share.all() or not np.isin(masks, (0.0, 1.0)).all() or np.isinf(mass).any():
            raise ValueError("it holds numbers that are no probabilities, or no truth values")
        accepted, undecided, correct = (masks[:, k] == 1.0 for k in range(_MASKS))
        groups = None
        if values.shape[1] > least:
            if not np.isin(values[:, least], np.arange(len(values))).all():
                raise ValueError("it holds groups that are no numbers below that of the rows")
            groups = values[:, least].astype(np.int64)
        return cls(proba, accepted, mass, undecided, correct, groups)


@dataclass(frozen=True, eq=False)
class Certificate:
    """What a classifier was certified for.

    Attributes
    ----------
    content : Content
        All that it says.
    reference : ReferenceRows
        What each judged row got.
    signature : Signature or None
        See `llmclf.certificates.signatures`.
    """

    content: Content
    reference: ReferenceRows
    signature: Signature | None = None

    def __repr__(self) -> str:
        """Its id and the promise, in one line."""
        guarantee = self.content.guarantee
        return (
            f"<Certificate {self.id}: at most {guarantee.max_error:.4g} of the rows accepted from confidence "
            f"{guarantee.threshold:.4g} on are wrong (confidence {guarantee.confidence:.4g}); "
            f"{'no expiry' if self.content.expires is None else f'expires {self.content.expires}'}>"
        )

    @cached_property
    def sha256(self) -> str:
        """The hash of its content."""
        return sha256(signed_bytes(self.content.model_dump())).hexdigest()

    @property
    def id(self) -> str:
        """By which outputs and logs call it: the first 16 digits of its hash."""
        return self.sha256[:16]

    @property
    def issued(self) -> datetime:
        """When it was made."""
        return datetime.fromisoformat(self.content.issued)

    @property
    def expires(self) -> datetime | None:
        """From when on nobody should rely on it; None: never."""
        return None if self.content.expires is None else datetime.fromisoformat(self.content.expires)

    def is_expired(self, now: datetime | None = None) -> bool:
        """Whether it has expired at a time, by default now."""
        return self.expires is not None and (datetime.now(UTC) if now is None else now) >= self.expires

    def is_from_future(self, now: datetime | None = None) -> bool:
        """Whether it says that it was made more than a day after a time, by default now: then some clock is wrong."""
        return self.issued > (datetime.now(UTC) if now is None else now) + _CLOCKS_DIFFER

    @property
    def classes(self) -> tuple[Any, ...]:
        """The K classes, in the order of the columns of `reference`."""
        return tuple(self.content.classifier.classes)

    @property
    def max_error(self) -> float:
        """The share of future accepted rows that is wrong at most."""
        return self.content.guarantee.max_error

    @property
    def confidence(self) -> float:
        """With which that holds."""
        return self.content.guarantee.confidence

    @property
    def threshold(self) -> float:
        """From which confidence on rows are accepted."""
        return self.content.guarantee.threshold

    @property
    def coverage(self) -> float:
        """The share of the judged rows that was accepted."""
        value = self.content.guarantee.coverage.value
        assert value is not None
        return value

    @property
    def model_identity(self) -> dict[str, Any]:
        """What the scores depend on, as the model's backend says it."""
        return self.content.model

    def is_about(self, pipeline: FittedPipeline) -> bool:
        """Whether it is about what this pipeline decides, wherever its model is reached."""
        from .issuing import pipeline_sha256

        try:
            return self.content.classifier.pipeline_sha256 == pipeline_sha256(pipeline)
        except InputError:  # what cannot be saved was never certified
            return False

    def to_dict(self) -> dict[str, Any]:
        """As values of JSON, in the form of ``certificate.schema.json``."""
        signature = None if self.signature is None else self.signature.model_dump()
        return {"id": self.id, "sha256": self.sha256, "content": self.content.model_dump(), "signature": signature}

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write it into the folder of the classifier that it is about, in place of an earlier one.

        Raises
        ------
        CertificateError
            The folder holds another classifier.
        StoreError
            The folder holds no classifier, or cannot be written.
        """
        target = Path(folder).expanduser()
        _check_classifier(target, self.content)
        data = array_bytes(self.reference.to_array())
        rows = target / self.content.reference.file
        for file in (rows, target / FILE, target / PAGE):
            if file.is_symlink():  # whose target may be any file of the user's, if the folder came from somebody else
                file.unlink()
        write_file(lambda file: file.write_bytes(data), rows)
        write_text(json.dumps(self.to_dict(), indent=1, ensure_ascii=True, allow_nan=False) + "\n", target / FILE)
        self.to_html(target / PAGE)
        for file in _row_files(target):
            if file != rows:
                file.unlink(missing_ok=True)

    def to_html(self, path: str | os.PathLike[str] | None = None) -> str:
        """The certificate as one HTML page, also written to a file if `path` is given.

        The page loads nothing and runs nothing.

        Raises
        ------
        StoreError
            The file cannot be written.
        """
        from .page import certificate_page

        return written(certificate_page(self), path)


def remove_certificate(folder: str | os.PathLike[str]) -> None:
    """Remove the certificate that lies in a folder, with its page and rows."""
    place = Path(folder).expanduser()
    for file in (place / FILE, place / PAGE, *_row_files(place)):
        file.unlink(missing_ok=True)


def page_fault(certificate: Certificate, folder: str | os.PathLike[str]) -> str | None:
    """Why the page in a folder is not that of a certificate, as a sentence; None if it is, or if there is no page.

    No hash of it is signed: it says nothing but what the certificate says, so the page is written anew and compared.
    """
    path = Path(folder).expanduser() / PAGE
    if not path.exists() and not path.is_symlink():
        return None
    expected = certificate.to_html().encode("utf-8")
    fault = f"is not the page of the certificate {certificate.id}"
    try:
        if path.is_file():  # a pipe would keep its reader waiting
            with path.open("rb") as stream:
                found = stream.read(2 * len(expected))
            if found.replace(b"\r\n", b"\n") == expected:
                return None
    except OSError as error:
        fault = f"cannot be read ({error})"
    return f"{str(path)!r} {fault}; rely on {FILE} alone, and write the page anew, with certificate_of(folder).to_html(path)"


def record_fault(certificate: Certificate, folder: str | os.PathLike[str]) -> str | None:
    """Why the record of attempts in a folder is not the one that a certificate knew, as a sentence; None if it is.

    The record may have grown since; what the certificate vouches for must still be there.
    """
    from .attempts import AttemptRecord

    path = Path(folder).expanduser() / ATTEMPTS
    try:
        known = set(AttemptRecord.read(folder).hashes)
    except CertificateError as error:
        return str(error)
    absent = sum(one not in known for one in certificate.content.attempts.record)
    if not absent:
        return None
    return (
        f"{str(path)!r} lacks {absent} of the {len(certificate.content.attempts.record)} attempts that the certificate "
        f"{certificate.id} knew of, or they were changed; restore it: it says which rows were judged before"
    )


def signed_bytes(content: Mapping[str, Any]) -> bytes:
    """The content of a certificate as the bytes that its hash and its signature are about.

    Examples
    --------
    >>> signed_bytes({"b": 1.5, "a": ["ü"]})
    b'{"a":["\\\\u00fc"],"b":1.5}'
    """
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode()


def certificate_of(folder: str | os.PathLike[str]) -> Certificate | None:
    """The certificate in the folder of a saved classifier; None if there is none.

    It is checked to be whole and about the classifier that lies there now. Whether it has expired, `Certificate.is_expired`
    says; whether its signature is right and the model still the same one, `llmclf.verify`.

    Parameters
    ----------
    folder : path

    Raises
    ------
    CertificateError
        It is broken, or about another classifier; its `kind` says which.

    Examples
    --------
    >>> import tempfile
    >>> certificate_of(tempfile.mkdtemp()) is None
    True
    """
    place = Path(folder).expanduser()
    certificate = _read(place)
    if certificate is not None:
        _check_classifier(place, certificate.content)
    return certificate


def _read(place: Path) -> Certificate | None:
    """The certificate in a folder, whichever classifier lies there."""
    path = place / FILE
    for attempt in range(_ATTEMPTS):
        if not path.exists() and not path.is_symlink():
            return None
        fault = file_fault(path)
        if fault is not None:
            raise CertificateError(f"{str(path)!r} {fault}")
        try:
            return _parsed(_text(path), place)
        except CertificateError:  # of another version, which no other attempt mends
            raise
        except (OSError, ValueError, MemoryError) as error:
            # Whoever writes another certificate here removes the rows of this one: then the next attempt sees the other.
            if attempt == _ATTEMPTS - 1:
                raise CertificateError(
                    f"{str(path)!r} is broken: {_reason(error)}; certify the classifier again, or restore the file"
                ) from error
    raise AssertionError("the last attempt returns or raises")


def _text(path: Path) -> str:
    size = path.stat().st_size
    if size > _MOST_BYTES:
        raise ValueError(f"it has {size / 1e6:,.0f} MB; expected at most {_MOST_BYTES / 1e6:,.0f}")
    return path.read_text(encoding="utf-8")


def _parsed(text: str, place: Path) -> Certificate:
    """The certificate that a text says.

    Raises
    ------
    OSError, ValueError
        It says none.
    CertificateError
        It is that of another version.
    """
    # Imported here, since pydantic takes a tenth of a second, and most classifiers have no certificate.
    from .content import FORMAT, File

    values = parsed_json(text, parse_constant=_refuse_constant)
    content = values["content"] if isinstance(values, dict) and isinstance(values.get("content"), dict) else {}
    number = content.get("format", FORMAT)
    if type(number) is not int or number < 1:
        raise ValueError(f"content.format is {reprlib.repr(number)}; expected the number {FORMAT}")
    if number != FORMAT:
        is_newer = number > FORMAT
        raise CertificateError(
            f"{str(place / FILE)!r} is a certificate of format {reprlib.repr(number)}, of "
            f"{'a newer' if is_newer else 'an earlier'} version of llmclf; this one reads format {FORMAT} alone, so "
            f"{'update it, or ' if is_newer else ''}certify the classifier again"
        )
    file = File.model_validate(values)
    found = Certificate(file.content, _read_rows(place, file.content), file.signature)
    if (found.sha256, found.id) != (file.sha256, file.id):
        raise ValueError("its content is not what was written; somebody has changed it")
    return found


def _read_rows(place: Path, content: Content) -> ReferenceRows:
    path = place / content.reference.file
    fault = file_fault(path)
    if fault is not None:
        raise ValueError(f"{path.name} {fault}")
    if path.stat().st_size > _MOST_ROW_BYTES:
        raise ValueError(f"{path.name} has more than {_MOST_ROW_BYTES / 1e9:,.0f} GB")
    data = path.read_bytes()
    if sha256(data).hexdigest() != content.reference.sha256:
        raise ValueError(f"the content of {path.name} is not what was written")
    rows = ReferenceRows.from_array(array_of_bytes(data), len(content.classifier.classes))
    if len(rows) != content.rows.n:
        raise ValueError(f"{path.name} holds {len(rows)} rows; expected {content.rows.n}")
    return rows


def _check_classifier(place: Path, content: Content) -> None:
    """Refuse a certificate of another classifier than the one in the folder."""
    try:
        found = classifier_sha256(place)
    except StoreError as error:
        raise StoreError(f"a certificate belongs to a saved classifier: {error}") from error
    if found != content.classifier.sha256:
        raise CertificateError(
            f"the classifier in {str(place)!r} is not the one that was certified on {content.issued[:10]} (its file "
            "classifier.json has changed since, or the certificate is that of another folder); certify it again, or restore the "
            "file",
            kind="classifier",
        )


def _row_files(place: Path) -> list[Path]:
    """The files of judged rows in a folder; a folder of such a name is somebody's own."""
    return [file for file in place.glob(_ROWS_PATTERN) if file.is_symlink() or not file.is_dir()]


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"it holds {name}, which is not a finite number")


def _reason(error: Exception) -> str:
    """What is wrong, in one line; pydantic's own words name every field and quote its value."""
    from pydantic import ValidationError

    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        more = error.error_count() - 1
        return f"{where or 'it'}: {first['msg']}{f' (and {more} more)' if more else ''}"
    return str(error) or "not enough memory"
