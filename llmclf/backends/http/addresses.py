"""Where an address leads: whether to this machine, and whether two addresses are of one server."""

from __future__ import annotations

import ipaddress
import re
import socket
import threading
import urllib.parse

_PATIENCE = 2.0  # seconds for the resolver; a name that it does not know by then is not local
_NAME = re.compile(r"[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?")
_PORTS = {"http": 80, "https": 443}


def origin(url: str) -> tuple[str, str, int | None]:
    """Scheme, host and port of an address, each in one spelling: who gets what is sent there.

    Examples
    --------
    >>> origin("HTTPS://API.example.com/v1") == origin("https://api.example.com:443/")
    True
    >>> origin("http://[0:0::1]:8000/v1")
    ('http', '::1', 8000)
    """
    parts = urllib.parse.urlsplit(url)
    scheme, host = parts.scheme.lower(), (parts.hostname or "").lower()
    number = _ip(host)
    return scheme, host if number is None else str(number), parts.port or _PORTS.get(scheme)


def is_loopback(host: str) -> bool:
    """Whether a host is this machine: a loopback address as it is usually written, or a name that leads to nothing else.

    The resolver is asked about names only, ``localhost`` not among them, and not for long.

    Examples
    --------
    >>> [is_loopback(host) for host in ("127.0.0.1", "::1", "::ffff:127.0.0.1", "localhost")]
    [True, True, True, True]
    >>> [is_loopback(host) for host in ("0x7f.1", "2130706433", "127.1", "0.0.0.0", "::1%lo")]
    [False, False, False, False, False]
    """
    host = host.lower()
    number = _ip(host)
    if number is not None:
        return number.is_loopback
    if host == "localhost":
        return True
    # Systems read a name that ends in a number as an address in one of its odd spellings.
    last = host.rpartition(".")[2]
    if not _NAME.fullmatch(host) or last.isdecimal() or last.startswith("0x"):
        return False
    found = _resolved(host)
    return bool(found) and all(_is_loopback_number(address) for address in found)


def _ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address that a host is, if it is one; one with a zone is none."""
    try:
        number = ipaddress.ip_address(host)
    except ValueError:
        return None
    if isinstance(number, ipaddress.IPv6Address):
        return None if number.scope_id is not None else number.ipv4_mapped or number
    return number


def _is_loopback_number(text: str) -> bool:
    number = _ip(text)
    return number is not None and number.is_loopback


def _resolved(host: str) -> list[str]:
    """The addresses of a name; none if there are none, or the resolver takes too long."""
    found: list[str] = []

    def ask() -> None:
        try:
            entries = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            return
        found.extend(str(entry[4][0]) for entry in entries)

    thread = threading.Thread(target=ask, daemon=True)  # nothing ends a question to the resolver
    thread.start()
    thread.join(_PATIENCE)
    return [] if thread.is_alive() else found
