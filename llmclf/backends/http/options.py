"""How a server is reached and what may be asked of it; keys are named here, never held."""

from __future__ import annotations

import math
import os
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...errors import InputError
from .usage import check_price

if TYPE_CHECKING:
    pass


@dataclass(frozen=True)
class ServerOptions:
    """How a server is reached and what may be asked of it. Nothing here is secret: a key is named, never held.

    Parameters
    ----------
    base_url : str
        With the path's version, as in ``http://localhost:8000/v1``.
    api_key_env : str, optional
        The *name* of the environment variable that holds the key; None for a server without keys.
    timeout : float
        Seconds until a request counts as lost. One that was lost may have been paid for.
    max_retries : int
        How often a request that failed is repeated.
    concurrency : int
        Most requests under way at once.
    rpm, tpm : int, optional
        Most requests, and most tokens, in any sixty seconds.
    price : mapping, optional
        ``{"input": ..., "output": ..., "cached": ...}`` per million tokens.
    max_cost : float, optional
        No request is sent that could bring the cost above this.
    """

    base_url: str
    api_key_env: str | None = None
    timeout: float = 60.0
    max_retries: int = 5
    concurrency: int = 32
    rpm: int | None = None
    tpm: int | None = None
    price: Mapping[str, float] | None = None
    max_cost: float | None = None

    def __post_init__(self) -> None:
        check_url(self.base_url)
        for name, least in (("max_retries", 0), ("concurrency", 1), ("rpm", 1), ("tpm", 1)):
            value = getattr(self, name)
            if value is None and name in ("rpm", "tpm"):
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise InputError(f"{name}={value!r}: expected a whole number of at least {least}")
        is_number = isinstance(self.timeout, (int, float)) and not isinstance(self.timeout, bool)
        if not is_number or not 0 < self.timeout < math.inf:
            raise InputError(f"timeout={self.timeout!r}: expected a positive number of seconds")
        check_price(self.price, self.max_cost)

    @property
    def is_local(self) -> bool:
        """Whether the server is on this machine."""
        host = urllib.parse.urlsplit(self.base_url).hostname or ""
        return host == "localhost" or host == "::1" or host.startswith("127.")

    @property
    def root(self) -> str:
        """The server's address without the path of its version."""
        return self.base_url.rstrip("/").removesuffix("/v1")


def read_key(api_key_env: str | None) -> str:
    """The key that an environment variable holds; a placeholder, never sent, where no variable is named."""
    if api_key_env is None:
        return "none"
    if not os.environ.get(api_key_env):
        raise InputError(
            f"the environment variable {api_key_env} is not set; put the server's key into it, or give api_key_env= the name of "
            "another"
        )
    if not (os.environ[api_key_env].isascii() and os.environ[api_key_env].isprintable()):
        raise InputError(
            f"the environment variable {api_key_env} holds characters that no key has (a line break, perhaps); set it anew"
        )
    return os.environ[api_key_env]


def check_url(url: Any) -> None:
    try:
        parts = urllib.parse.urlsplit(url if isinstance(url, str) and url.isprintable() and " " not in url else "")
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number, half an IPv6 address
        is_address = False
    if not is_address:
        raise InputError(f"base_url={url!r}: expected an address such as 'http://localhost:8000/v1'")
    if parts.username or parts.password or parts.query:
        shown = urllib.parse.urlunsplit((parts.scheme, parts.hostname, parts.path, "", ""))
        raise InputError(
            f"base_url ({shown!r}) holds a user name, a password or a query; it is stored and shown, so keys belong into an "
            "environment variable (api_key_env=)"
        )
