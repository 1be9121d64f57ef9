"""Who may ask: a key that is compared in constant time, and without one nobody but this machine."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import os
import re
from collections.abc import Mapping

from ..errors import InputError
from .refusals import RefusalError

_SHORTEST_KEY = 8
_HOST = re.compile(r"(\[[^\]]*\]|[^:]*)(:[0-9]*)?")  # with or without a port
_HINT = {"WWW-Authenticate": "Bearer"}


class Access:
    """Checks the head of a request; holds the hash of the key alone, and shows none of it.

    Parameters
    ----------
    key : str, optional
    is_local : bool
        Only names of this machine are accepted in the header ``Host``, so that no page in a browser can reach the server under a
        name of its own.
    """

    def __init__(self, key: str | None, *, is_local: bool) -> None:
        self._digest = None if key is None else _digest(key)
        self._is_local = is_local

    def __repr__(self) -> str:
        return f"Access({'with' if self._digest else 'without'} a key)"

    @property
    def needs_key(self) -> bool:
        return self._digest is not None

    def check_host(self, headers: Mapping[str, str]) -> None:
        """Refuse a request for another machine.

        Raises
        ------
        RefusalError
        """
        if self._is_local and not is_loopback(_host_name(headers.get("host", ""))):
            raise RefusalError(
                421,
                "wrong_host",
                "this server serves its own machine alone; ask it as localhost or 127.0.0.1, or start it with a key",
            )

    def check_key(self, headers: Mapping[str, str]) -> None:
        """Refuse a request without the key.

        Raises
        ------
        RefusalError
            401 for a wrong key, 403 for none.
        """
        if self._digest is None:
            return
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not given.strip():
            raise RefusalError(
                403, "authentication_error", "a key is needed; send Authorization: Bearer KEY", headers=dict(_HINT)
            )
        if not hmac.compare_digest(_digest(given.strip()), self._digest):
            raise RefusalError(
                401, "authentication_error", "the key is not the one of this server", headers=dict(_HINT)
            )


def opened(host: str, key_env: str | None, *, without_key: bool) -> Access:
    """Who may ask a server that listens on `host`.

    Parameters
    ----------
    host : str
    key_env : str, optional
        Name of the environment variable that holds the key.
    without_key : bool
        Whether whoever reaches the server may ask, from other machines, too.

    Raises
    ------
    InputError
        The variable holds no key, or there is none and other machines could ask.
    """
    if key_env is not None:
        if without_key:
            raise InputError("--access-key-env and --without-key exclude each other; leave one of them out")
        key = os.environ.get(key_env, "")
        if len(key.strip()) < _SHORTEST_KEY or key != key.strip() or not key.isascii() or not key.isprintable():
            raise InputError(
                f"the environment variable {key_env!r} {'holds no key' if key else 'is not set'}; expected at least "
                f"{_SHORTEST_KEY} printable ASCII characters without spaces around them"
            )
        return Access(key, is_local=False)
    is_local = is_loopback(host)
    if not is_local and not without_key:
        raise InputError(
            f"--host {host} lets other machines ask, and there is no key; give --access-key-env VARIABLE, or say --without-key"
        )
    return Access(None, is_local=is_local)


def is_loopback(host: str) -> bool:
    """Whether a name or an address is this machine's own.

    Examples
    --------
    >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("0.0.0.0")
    (True, True, False)
    """
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _host_name(stated: str) -> str:
    """The host of a header, without its port; empty where it is no host."""
    found = _HOST.fullmatch(stated)
    return "" if found is None else found[1]


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
