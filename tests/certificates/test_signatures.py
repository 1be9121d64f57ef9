"""Signatures: made with a key that a user has, checked with its public part, and never more of the key than that."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from certificates import made
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from llmclf.certificates import Certificate, certificate_of
from llmclf.certificates.signatures import check_signature, private_key, public_key, signature_of
from llmclf.errors import CertificateError, InputError

NONE = serialization.NoEncryption()
PEM, SSH = serialization.Encoding.PEM, serialization.Encoding.OpenSSH


def write_keys(folder: Path, name: str = "key", kind: str = "pem", password: bytes | None = None) -> tuple[Path, Path]:
    """A new key of a kind, and its public part, as files."""
    key = ed25519.Ed25519PrivateKey.generate()
    hidden = NONE if password is None else serialization.BestAvailableEncryption(password)
    form = serialization.PrivateFormat.PKCS8 if kind == "pem" else serialization.PrivateFormat.OpenSSH
    private, public = folder / name, folder / f"{name}.pub"
    private.write_bytes(key.private_bytes(PEM, form, hidden))
    as_public = (
        (PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        if kind == "pem"
        else (SSH, serialization.PublicFormat.OpenSSH)
    )
    public.write_bytes(key.public_key().public_bytes(*as_public))
    return private, public


@pytest.fixture
def certificate(tmp_path: Path) -> Certificate:
    made.saved(tmp_path / "clf")
    return made.certificate(tmp_path / "clf")


def signed(certificate: Certificate, private: Path, password_env: str | None = None) -> Certificate:
    return replace(certificate, signature=signature_of(certificate.content, private_key(private, password_env)))


@pytest.mark.parametrize("kind", ["pem", "ssh"])
def test_a_signature_is_right_for_its_key_alone(tmp_path, certificate, kind):
    """Keys of openssl and of ssh-keygen; another key is told from the right one; saving and reading keeps it."""
    private, public = write_keys(tmp_path, kind=kind)
    _, other = write_keys(tmp_path, "other", kind)
    signed(certificate, private).save(tmp_path / "clf")
    read = certificate_of(tmp_path / "clf")
    assert check_signature(read, public) == check_signature(read) == read.signature.public_key
    assert read.id == certificate.id
    with pytest.raises(CertificateError, match="signed by another key") as caught:
        check_signature(read, other)
    assert caught.value.kind == "signature"


def test_a_signature_is_not_that_of_other_content(tmp_path, certificate):
    """One that was moved from another certificate is wrong, with the key or without."""
    private, public = write_keys(tmp_path)
    moved = replace(made.certificate(tmp_path / "clf", expires=None), signature=signed(certificate, private).signature)
    for path in (public, None):
        with pytest.raises(CertificateError, match="is wrong"):
            check_signature(moved, path)


def test_a_signature_that_is_expected_must_be_there(tmp_path, certificate):
    """Without an expectation, none is none."""
    assert check_signature(certificate) is None
    with pytest.raises(CertificateError, match="not signed"):
        check_signature(certificate, write_keys(tmp_path)[1])


def test_a_key_with_a_password_is_opened_by_the_name_of_its_variable(tmp_path, certificate, monkeypatch):
    """The password stands in no argument; without it, with another, or needlessly given, the error says what to do."""
    private, public = write_keys(tmp_path, password=b"open sesame")
    bare, _ = write_keys(tmp_path, "bare")
    monkeypatch.setenv("KEY_PASSWORD", "open sesame")
    monkeypatch.setenv("OTHER", "abracadabra")
    assert check_signature(signed(certificate, private, "KEY_PASSWORD"), public)
    for path, variable, words in (
        (private, None, "has a password"),
        (private, "OTHER", "its password is another"),
        (private, "ABSENT", "no variable of that name"),
        (bare, "KEY_PASSWORD", "has no password"),
    ):
        with pytest.raises(InputError, match=words) as caught:
            private_key(path, variable)
        assert "sesame" not in str(caught.value)


@pytest.mark.parametrize(
    "content", [b"", b"not a key", b"-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n"]
)
def test_what_is_no_key_is_refused(tmp_path, content):
    """And nothing of it is shown."""
    file = tmp_path / "key"
    file.write_bytes(content)
    for read in (private_key, public_key):
        with pytest.raises(InputError, match=r"key") as caught:
            read(file)
        assert "c2VjcmV0" not in str(caught.value)
        assert caught.value.__cause__ is None
    with pytest.raises(InputError, match="does not exist"):
        private_key(tmp_path / "absent")
    with pytest.raises(InputError, match="is a folder"):
        public_key(tmp_path)


def test_keys_of_other_kinds_are_refused(tmp_path):
    """RSA keys, private and public; and a private key where a public one is expected."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private, public = tmp_path / "rsa", tmp_path / "rsa.pub"
    private.write_bytes(key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, NONE))
    public.write_bytes(key.public_key().public_bytes(PEM, serialization.PublicFormat.SubjectPublicKeyInfo))
    with pytest.raises(InputError, match="of another kind"):
        private_key(private)
    with pytest.raises(InputError, match="of another kind"):
        public_key(public)
    with pytest.raises(InputError, match="is a private key"):
        public_key(private)


def test_no_private_key_is_written_anywhere(tmp_path, certificate):
    """Neither its bytes nor its digits stand in the folder of a signed certificate, nor in what it shows of itself."""
    private, _ = write_keys(tmp_path)
    secret = private_key(private).private_bytes_raw()
    written = signed(certificate, private)
    written.save(tmp_path / "clf")
    found = b"".join(file.read_bytes() for file in (tmp_path / "clf").iterdir()) + repr(written).encode()
    assert secret not in found
    assert secret.hex().encode() not in found
    assert json.loads((tmp_path / "clf" / "certificate.json").read_text())["signature"]["algorithm"] == "Ed25519"


@pytest.mark.parametrize("fault", ["password", "no password", "kind", "cut"])
def test_no_frame_of_an_error_holds_the_key(tmp_path, monkeypatch, fault):
    """A report that shows the variables of a traceback shows neither the key nor its password."""
    monkeypatch.setenv("WORD", "abracadabra")
    private, _ = write_keys(tmp_path, password=b"open sesame" if fault in ("password", "no password") else None)
    variable = "WORD" if fault in ("password", "kind") else None
    text = private.read_bytes()
    if fault == "cut":
        private.write_bytes(text[:-40])
    with pytest.raises(InputError) as caught:
        private_key(private, variable)
    shown = [repr(entry.frame.f_locals) for entry in caught.traceback if "llmclf" in str(entry.path)]
    assert shown
    assert not any("abracadabra" in one or repr(text)[40:80] in one for one in shown)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


@pytest.mark.parametrize("kind", ["pem", "ssh"])
@given(data=st.data())
@settings(max_examples=300, deadline=None)
def test_a_damaged_public_key_is_named(tmp_path_factory, kind, data):
    """Whatever cryptography says of it: the file is another key, or no key."""
    folder = tmp_path_factory.mktemp("keys")
    _, public = write_keys(folder, kind=kind)
    content = bytearray(public.read_bytes())
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=4)):
        content[place] = data.draw(st.integers(0, 255))
    public.write_bytes(content)
    try:
        public_key(public)
    except InputError as error:
        assert "expected an Ed25519 key" in str(error) or "private key" in str(error)
