"""Certificates as objects and as files: what is written is read again, and what was changed is refused."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from certificates import made

from llmclf.certificates import Certificate, certificate_of
from llmclf.certificates.certificate import page_fault, remove_certificate
from llmclf.errors import CertificateError, StoreError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made.saved(tmp_path / "clf")
    return tmp_path / "clf"


@pytest.fixture
def certificate(folder: Path) -> Certificate:
    written = made.certificate(folder)
    written.save(folder)
    return written


def test_a_folder_without_one_has_none(folder):
    """A classifier that nobody certified has no certificate, and that is no error."""
    assert certificate_of(folder) is None


def test_what_is_written_is_read_again(folder, certificate):
    """Id, content and every row come back as they were."""
    read = certificate_of(folder)
    assert read.id == certificate.id
    assert read.to_dict() == certificate.to_dict()
    np.testing.assert_array_equal(read.reference.to_array(), certificate.reference.to_array())
    assert read.reference.accepted.dtype == bool
    assert read.classes == ("bad", "good")
    assert (read.max_error, read.confidence, read.threshold, read.coverage) == (0.1, 0.95, 0.8, 0.5)
    assert read.model_identity == {"model": "any"}


def test_it_expires_when_it_says(certificate):
    """Not a second before, and never where no date is given."""
    assert not certificate.is_expired(datetime(2027, 1, 31, 11, 59, 59, tzinfo=UTC))
    assert certificate.is_expired(datetime(2027, 1, 31, 12, tzinfo=UTC))


def test_without_a_date_it_never_expires(folder):
    """None means never."""
    assert not made.certificate(folder, expires=None).is_expired(datetime(2999, 1, 1, tzinfo=UTC))


def test_a_new_one_replaces_the_old_one_and_its_rows(folder, certificate):
    """One certificate and one file of rows lie in a folder."""
    other = Certificate(made.content(folder, made.reference_rows(60), rows=_rows(60)), made.reference_rows(60))
    other.save(folder)
    assert certificate_of(folder).id == other.id != certificate.id
    assert len(list(folder.glob("certificate-*.npy"))) == 1


def _rows(n: int) -> dict:
    counts = {"n_unscored": 1, "n_undecided": 3, "n_even": n, "n_groups": n}
    return {"sha256": 64 * "0", "n": n, **counts, "is_grouped": False, "is_uneven": False}


def test_another_classifier_is_told_from_the_certified_one(folder, certificate):
    """One byte more in classifier.json, and the certificate is about another classifier."""
    (folder / "classifier.json").write_text((folder / "classifier.json").read_text() + "\n")
    with pytest.raises(CertificateError, match="not the one that was certified on 2026-01-31") as caught:
        certificate_of(folder)
    assert caught.value.kind == "classifier"
    with pytest.raises(CertificateError):
        certificate.save(folder)


def test_a_certificate_needs_a_classifier(tmp_path, certificate):
    """It is not written into a folder that holds none."""
    with pytest.raises(StoreError, match="belongs to a saved classifier"):
        certificate.save(tmp_path)


def _changed(values: dict, path: str, value: object) -> dict:
    *way, last = path.split(".")
    inner = values
    for name in way:
        inner = inner[name]
    inner[last] = value
    return values


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("content.guarantee.max_error", 0.01, "somebody has changed it"),
        ("content.expires", "2031-01-31T12:00:00+00:00", "somebody has changed it"),
        ("content.expires", "2031-01-31T12:00:00", "no time zone"),
        ("content.expires", "soon", "Invalid isoformat"),
        ("id", "0" * 16, "somebody has changed it"),
        ("sha256", "0" * 64, "somebody has changed it"),
        (
            "content.format",
            3,
            "format 3, of a newer version of llmclf; this one reads format 2 alone, so update it, or certify",
        ),
        ("content.format", 1, "format 1, of an earlier version of llmclf; this one reads format 2 alone, so certify"),
        ("content.format", 10**400, "of format 1000"),
        ("content.format", True, "content.format is True; expected the number 2"),
        ("content.format", "2", "content.format is '2'; expected the number 2"),
        ("content.format", 2.0, "content.format is 2.0; expected the number 2"),
        ("content.format", None, "content.format is None; expected the number 2"),
        ("content.format", 0, "content.format is 0; expected the number 2"),
        ("content.guarantee.max_error", "0.1", "valid number"),
        ("content.guarantee.error_bound", 1.5, "less than or equal to 1"),
        ("content.more", 1, "Extra inputs"),
        ("content.reference.file", "../../x.npy", "match pattern"),
        ("content.reference.sha256", "0" * 64, "is not what was written"),
        ("content", None, "valid dictionary"),
        ("signature", {"algorithm": "none"}, "Ed25519"),
    ],
)
def test_what_was_changed_is_refused(folder, certificate, path, value, words):
    """By a hand or a bad disk; the message names the file, what is wrong and the cure."""
    file = folder / "certificate.json"
    file.write_text(json.dumps(_changed(json.loads(file.read_text()), path, value)))
    with pytest.raises(CertificateError, match=words) as caught:
        certificate_of(folder)
    assert caught.value.kind == "broken"
    assert "certificate.json" in str(caught.value)
    assert "certify the classifier again" in str(caught.value)


@pytest.mark.parametrize(("number", "cure"), [(1, "so certify the classifier again"), (3, "so update it, or certify")])
def test_a_certificate_of_another_version_is_whole(folder, certificate, number, cure):
    """It is not called broken, and to restore it is no cure."""
    file = folder / "certificate.json"
    file.write_text(json.dumps(_changed(json.loads(file.read_text()), "content.format", number)))
    with pytest.raises(
        CertificateError, match=rf"certificate\.json' is a certificate of format {number}, .*{cure}"
    ) as caught:
        certificate_of(folder)
    assert "broken" not in str(caught.value).replace(str(folder), "")
    assert "restore" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "3",
        '{"content": []}',
        "[" * 100_000,
        '{"content": NaN}',
        "\ufeff{}",
        "version https://git-lfs",
    ],
)
def test_what_is_no_certificate_is_refused(folder, certificate, text):
    """Whatever lies there in its place: an error of ours, never a traceback of another kind."""
    (folder / "certificate.json").write_text(text)
    with pytest.raises(CertificateError, match=r"certificate\.json"):
        certificate_of(folder)


def test_bytes_that_are_no_text_are_refused(folder, certificate):
    """A file of another encoding is broken, too."""
    (folder / "certificate.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CertificateError):
        certificate_of(folder)


@pytest.mark.parametrize("change", ["gone", "short", "other"])
def test_its_rows_belong_to_it(folder, certificate, change):
    """A certificate whose rows are lost, cut or exchanged is broken."""
    [file] = folder.glob("certificate-*.npy")
    data = file.read_bytes()
    file.unlink()
    if change != "gone":
        file.write_bytes(data[:-8] if change == "short" else data[:-8] + data[:8])
    with pytest.raises(CertificateError, match=file.name):
        certificate_of(folder)


def test_a_link_to_nowhere_is_a_broken_certificate(folder):
    """Not one that is absent."""
    (folder / "certificate.json").symlink_to(folder / "elsewhere.json")
    with pytest.raises(CertificateError, match="does not exist"):
        certificate_of(folder)


@pytest.mark.parametrize("name", ["certificate.json", "certificate.html"])
def test_a_link_in_a_folder_of_somebody_else_is_not_followed_when_it_is_written(folder, certificate, tmp_path, name):
    """What it leads to stays as it was."""
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(victim)
    certificate.save(folder)
    assert victim.read_text() == "precious"
    assert not (folder / name).is_symlink()
    assert certificate_of(folder).id == certificate.id


def test_folders_that_are_called_like_its_rows_stay(folder, certificate):
    """Whether a certificate is written or removed."""
    own = folder / "certificate-notes.npy"
    own.mkdir()
    certificate.save(folder)
    remove_certificate(folder)
    assert own.is_dir()
    assert certificate_of(folder) is None


def test_a_page_that_says_something_else_is_told(folder, certificate):
    """Whatever it looks like; line ends that a system has changed do not count, nor does a page that is not there."""
    certificate.save(folder)
    page = folder / "certificate.html"
    assert page_fault(certificate, folder) is None
    page.write_bytes(page.read_bytes().replace(b"\n", b"\r\n"))
    assert page_fault(certificate, folder) is None
    page.write_text(certificate.to_html().replace("10.0", "0.1"))
    assert "is not the page of the certificate" in page_fault(certificate, folder)
    page.unlink()
    assert page_fault(certificate, folder) is None
    page.symlink_to(folder / "nowhere")
    assert "is not the page of the certificate" in page_fault(certificate, folder)


def test_a_reader_sees_one_certificate_or_the_other(folder, certificate):
    """While somebody writes one after the other into the same folder."""
    others = [
        Certificate(made.content(folder, rows, rows=_rows(n)), rows)
        for n in (50, 60)
        for rows in [made.reference_rows(n)]
    ]
    known = {certificate.id, *(other.id for other in others)}
    ended = threading.Event()

    def write() -> None:
        while not ended.is_set():
            for other in others:
                other.save(folder)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(60):
            assert certificate_of(folder).id in known
    finally:
        ended.set()
        writer.join()
