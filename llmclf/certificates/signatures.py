"""Signatures of certificates: Ed25519, with a private key that its owner made and that is only read here.

``openssl genpkey -algorithm ed25519 -out key.pem`` makes one, and ``openssl pkey -in key.pem -pubout -out public.pem`` its public
key; those of ``ssh-keygen -t ed25519`` will do as well.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import CertificateError, InputError, MissingDependencyError
from ..files.faults import file_fault
from .certificate import Certificate, signed_bytes

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

    from .content import Content, Signature

_CONTEXT = b"llmclf certificate\n"
"""Stands before what is signed, so that nothing else that the key has signed is a certificate."""
_MOST_BYTES = 100_000


def private_key(path: str | os.PathLike[str], password_env: str | None = None) -> Ed25519PrivateKey:
    """The private key in a file, in PEM (PKCS #8) or in the form of OpenSSH.

    Parameters
    ----------
    path : path
    password_env : str, optional
        The environment variable that holds the password of the file.

    Raises
    ------
    InputError
        The file cannot be read, or holds no private Ed25519 key; its content is never quoted.
    MissingDependencyError
        cryptography is not installed.
    """
    _cryptography()
    _check_file(path, "key")
    if password_env is not None and password_env not in os.environ:
        raise InputError(
            f"key_password_env={password_env!r}: the environment has no variable of that name; set it to the key's password"
        )
    # Whatever is raised is raised here, where no variable holds the key or its password: tracebacks may show variables.
    found = _private_key(path, password_env)
    if isinstance(found, str):
        raise InputError(f"the key {os.fspath(path)!r} {found}")
    return found


def _private_key(path: str | os.PathLike[str], password_env: str | None) -> Ed25519PrivateKey | str:
    """The private key in a file, or what is wrong with it, as the end of a sentence."""
    serialization, ed25519 = _cryptography()
    try:
        data = _content(path)
        password = None if password_env is None else os.environ[password_env].encode()
        is_openssh = b"BEGIN OPENSSH PRIVATE KEY" in data
        read = serialization.load_ssh_private_key if is_openssh else serialization.load_pem_private_key
        key = read(data, password=password)
    except TypeError:
        if password_env is None:
            return "has a password; name the variable that holds it, with key_password_env"
        return "has no password; leave key_password_env out"
    except Exception:  # cryptography has errors of its own, whose words may show what the file holds
        return (
            "is no private key that can be read, or its password is another; expected an Ed25519 key, such as openssl genpkey "
            "-algorithm ed25519 makes"
        )
    return key if isinstance(key, ed25519.Ed25519PrivateKey) else "is a private key of another kind; expected Ed25519"


def public_key(path: str | os.PathLike[str]) -> Ed25519PublicKey:
    """The public key in a file, in PEM or in the form of OpenSSH.

    Raises
    ------
    InputError
        The file cannot be read, or holds no public Ed25519 key.
    MissingDependencyError
        cryptography is not installed.
    """
    serialization, ed25519 = _cryptography()
    from cryptography.exceptions import UnsupportedAlgorithm

    _check_file(path, "public key")
    data = _content(path)
    if b"PRIVATE KEY" in data:
        raise InputError(
            f"{os.fspath(path)!r} is a private key, which is needed by nobody but its owner; give the public one, such as "
            "openssl pkey -in KEY -pubout makes"
        )
    read = serialization.load_ssh_public_key if data.startswith(b"ssh-") else serialization.load_pem_public_key
    try:
        key = read(data)
    except (ValueError, UnsupportedAlgorithm):
        raise InputError(
            f"{os.fspath(path)!r} is no public key; expected an Ed25519 key, such as openssl pkey -in KEY -pubout makes"
        ) from None
    if not isinstance(key, ed25519.Ed25519PublicKey):
        raise InputError(f"{os.fspath(path)!r} is a public key of another kind; expected an Ed25519 key")
    found: Ed25519PublicKey = key
    return found


def signature_of(content: Content, key: Ed25519PrivateKey) -> Signature:
    """The signature of a certificate's content."""
    from .content import Signature

    return Signature(
        algorithm="Ed25519",
        public_key=key.public_key().public_bytes_raw().hex(),
        value=key.sign(_CONTEXT + signed_bytes(content.model_dump())).hex(),
    )


def check_signature(certificate: Certificate, path: str | os.PathLike[str] | None = None) -> str | None:
    """Whose signature a certificate bears: the public key in hexadecimal digits; None where it bears none.

    Parameters
    ----------
    certificate : Certificate
    path : path, optional
        The file of the public key that must have signed. Without it the certificate's own one is taken, which shows that
        nothing was changed since, but not by whom it was signed.

    Raises
    ------
    CertificateError
        The signature is wrong, by another key, or absent where one is expected.
    InputError, MissingDependencyError
        As `public_key`.
    """
    expected = None if path is None else public_key(path)
    signature = certificate.signature
    if signature is None:
        if expected is None:
            return None
        raise CertificateError(
            f"the certificate {certificate.id} is not signed, and a signature was expected; sign it, with --key",
            kind="signature",
        )
    _, ed25519 = _cryptography()
    from cryptography.exceptions import InvalidSignature

    own = bytes.fromhex(signature.public_key)
    if expected is not None and expected.public_bytes_raw() != own:
        raise CertificateError(
            f"the certificate {certificate.id} is signed by another key ({signature.public_key[:16]}...) than that of "
            f"{os.fspath(path)!r}; do not rely on it unless you know that key",  # type: ignore[arg-type]
            kind="signature",
        )
    try:
        key = ed25519.Ed25519PublicKey.from_public_bytes(own)
        key.verify(bytes.fromhex(signature.value), _CONTEXT + signed_bytes(certificate.content.model_dump()))
    except (InvalidSignature, ValueError):
        raise CertificateError(
            f"the signature of the certificate {certificate.id} is wrong: whoever holds the key {signature.public_key[:16]}... "
            "has not signed this content; do not rely on it",
            kind="signature",
        ) from None
    return signature.public_key


def _check_file(path: str | os.PathLike[str], what: str) -> None:
    file = Path(path).expanduser()
    fault = file_fault(file)
    if fault is not None:
        raise InputError(f"the {what} {os.fspath(path)!r} {fault}")
    if file.stat().st_size > _MOST_BYTES:
        raise InputError(
            f"the {what} {os.fspath(path)!r} has more than {_MOST_BYTES // 1000} kB; give the file of a key"
        )


def _content(path: str | os.PathLike[str]) -> bytes:
    with Path(path).expanduser().open("rb") as stream:
        return stream.read(_MOST_BYTES)


def _cryptography() -> tuple[Any, Any]:
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError as error:
        raise MissingDependencyError("signatures need the package cryptography: pip install 'llmclf[sign]'") from error
    return serialization, ed25519
