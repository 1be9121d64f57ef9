"""Which proxy of the environment carries the requests to a server.

HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY (or their names in lower case, which come first) are read as other programs read
them. This machine is never asked through a proxy, and no key goes to one in clear text.
"""

from __future__ import annotations

import base64
import ipaddress
import os
import re
import urllib.parse
import urllib.request
from dataclasses import dataclass, field, replace

from ...errors import InputError
from .environment_headers import CUSTOM
from .options import ServerOptions, is_host

_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Proxy:
    """A proxy, named by a variable.

    Attributes
    ----------
    variable : str
        For messages; the address may hold a password.
    url : str
    """

    variable: str
    url: str = field(repr=False)

    @property
    def address(self) -> str:
        """Without user and password."""
        parts = urllib.parse.urlsplit(self.url)
        return urllib.parse.urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], "", "", ""))

    def credentials(self) -> dict[str, str]:
        """The header with the proxy's own user and password, if it has any."""
        user = urllib.parse.urlsplit(self.url).netloc.rpartition("@")[0].partition(":")
        if not any(user):
            return {}
        words = b":".join(urllib.parse.unquote_to_bytes(word) for word in (user[0], user[2]))
        return {"Proxy-Authorization": f"Basic {base64.b64encode(words).decode()}"}


def proxy_for(options: ServerOptions) -> Proxy | None:
    """The proxy between this machine and a server, if there is one.

    Raises
    ------
    InputError
        It is of a kind that is not known; or the server's address begins with ``http://``, so that the proxy
        would read a key.
    """
    parts = urllib.parse.urlsplit(options.base_url)
    host, port = (parts.hostname or "").lower(), parts.port or _PORTS[parts.scheme]
    # The system's settings, which count on macOS and Windows where the environment has none, are among these.
    known = {kind for kind, url in urllib.request.getproxies().items() if url}
    kind = next((kind for kind in (parts.scheme, "all") if kind in known), None)
    excepted = urllib.request.getproxies().get("no", "")
    if kind is None or _is_excepted(host, port, excepted) or options.is_local:
        return None
    proxy = _named(kind)
    if not _is_usable(proxy):
        raise InputError(
            f"the environment variable {proxy.variable} does not name a proxy that can be used; expected an address such as "
            f"http://proxy.example.com:3128 (of http or https; socks5 is not known), or {host!r} in NO_PROXY"
        )
    is_custom = options.openai_headers and bool(os.environ.get(CUSTOM))
    if parts.scheme == "http" and (options.api_key_env is not None or is_custom):
        raise InputError(
            f"{options.api_key_env or CUSTOM} holds what the proxy in {proxy.variable} would read, since "
            f"{options.base_url} is not encrypted; give an address that begins with https://, add {host!r} to NO_PROXY so that "
            "the proxy is left out, or send no key (api_key_env='')"
        )
    return proxy


def _named(kind: str) -> Proxy:
    """The proxy for a scheme; only the object knows its address, since a traceback may show variables."""
    lower = f"{kind}_proxy"
    variable = lower if os.environ.get(lower) else lower.upper()
    proxy = Proxy(variable, urllib.request.getproxies()[kind])
    return proxy if "://" in proxy.url else replace(proxy, url=f"http://{proxy.url}")


def _is_usable(proxy: Proxy) -> bool:
    try:
        parts = urllib.parse.urlsplit(proxy.url)
        return parts.scheme in _PORTS and is_host(parts.hostname or "") and parts.port != 0 and proxy.url.isprintable()
    except ValueError:  # the port is not a number, or an IPv6 address lacks its end
        return False


def _is_excepted(host: str, port: int, no_proxy: str) -> bool:
    """Whether NO_PROXY has a host: ``*``, a name, which stands for all that end with it, an address, or a range of them.

    Examples
    --------
    >>> [_is_excepted("gpu.example.com", 443, entry) for entry in ("example.com", ".example.com", "*.example.com", "*")]
    [True, True, True, True]
    >>> [_is_excepted("gpu.example.com", 443, entry) for entry in ("ample.com", "gpu", "example.com:80", "")]
    [False, False, False, False]
    >>> [_is_excepted("10.1.2.3", 443, entry) for entry in ("localhost, 10.0.0.0/8", "10.1.2.3:443", "10.1.2")]
    [True, True, False]
    """
    return any(_matches(entry.lower(), host, port) for entry in re.split(r"[,\s]+", no_proxy) if entry)


def _matches(entry: str, host: str, port: int) -> bool:
    if entry == "*":
        return True
    entry = entry.partition("://")[2] or entry
    number = _number(host)
    try:
        if number is not None and "/" in entry:
            return number in ipaddress.ip_network(entry, strict=False)
    except ValueError:
        return False
    name, colon, its_port = entry.rpartition(":")
    if colon and its_port.isdecimal() and (":" not in name or name.endswith("]")):
        if int(its_port) != port:
            return False
        entry = name
    if number is not None:
        return _number(entry.strip("[]")) == number
    entry = entry.removeprefix("*").removeprefix(".")
    return bool(entry) and (host == entry or host.endswith(f".{entry}"))


def _number(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
