"""How a server is reached and what may be asked of it; keys are named here, never held."""

from __future__ import annotations

import os
import unicodedata
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ...errors import InputError
from ..options import check_options, option, positive_seconds, whole_number
from .addresses import is_loopback
from .usage import check_price, parse_price


def _is_variable_name(name: str, value: Any) -> None:
    if not isinstance(value, str):
        raise InputError(f"{name}={value!r}: expected the name of an environment variable, '' to send no key, or None")


def is_host(host: str) -> bool:
    """Whether a host is one, and every program reads it alike; some take letters that look like others for those.

    Examples
    --------
    >>> [is_host(host) for host in ("example.com", "127.0.0.1", "::1", "b\N{LATIN SMALL LETTER U WITH DIAERESIS}cher.example")]
    [True, True, True, True]
    >>> [is_host(host) for host in ("", "a..b", "a" * 64, "\N{CIRCLED LATIN SMALL LETTER L}ocalhost")]
    [False, False, False, False]
    """
    try:
        return bool(host.encode("idna")) and unicodedata.normalize("NFKC", host) == host
    except UnicodeError:  # a part is empty or too long
        return False


def check_url(name: str, url: Any) -> None:
    """Refuse what is not an address, and an address that holds a secret."""
    try:
        # A backslash is a slash to some programs, and part of a name to others.
        is_plain = isinstance(url, str) and url.isprintable() and not set(url) & {" ", "\\"}
        parts = urllib.parse.urlsplit(url if is_plain else "")
        is_address = parts.scheme in ("http", "https") and is_host(parts.hostname or "") and parts.port != 0
    except ValueError:  # a port that is not a number, half an IPv6 address
        is_address = False
    if not is_address:
        shown = "(hidden, since it holds an @)" if isinstance(url, str) and "@" in url else repr(url)
        raise InputError(f"{name}={shown}: expected an address such as 'http://localhost:8000/v1'")
    if "@" in parts.netloc or "?" in url or "#" in url:
        shown = urllib.parse.urlunsplit((parts.scheme, parts.hostname, parts.path, "", ""))
        raise InputError(
            f"{name} ({shown!r}) holds a user name, a password, a query or a fragment; it is stored and shown, so keys belong "
            "into an environment variable (api_key_env=)"
        )


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class RequestOptions:
    """Where requests go, and how many, how fast and at what price. Nothing here is secret: a key is named, never held.

    Every backend behind a server has these options. Another one for all of them is one more field here.
    """

    base_url: str | None = option(
        None,
        help="Where the server is, such as http://localhost:8000/v1. Default: the provider's address, or what the environment "
        "variable OPENAI_BASE_URL names for openai: and decisions: (TYPESAFE_BASE_URL for systemone:, MISTRAL_BASE_URL for "
        "mistral:, and so on).",
        check=check_url,
        commands="model",
        metavar="URL",
    )
    api_key_env: str | None = option(
        None,
        help="The environment variable that holds the server's key; '' sends none. The key itself is never an option. Default: "
        "OPENAI_API_KEY (TYPESAFE_API_KEY for systemone:, MISTRAL_API_KEY for mistral:, and so on) where that is set.",
        moves_scores=False,
        check=_is_variable_name,
        commands="model",
        metavar="VARIABLE",
    )
    timeout: float = option(
        60.0,
        help="Seconds until a request counts as lost. One that was lost may have been paid for.",
        moves_scores=False,
        check=positive_seconds,
        commands="job",
        metavar="SECONDS",
        above=0,
    )
    max_retries: int = option(
        5,
        help="How often a request that failed is repeated.",
        moves_scores=False,
        check=whole_number(0, 1000),
        commands="job",
        least=0,
        most=1000,
    )
    concurrency: int = option(
        32,
        help="Largest number of requests under way at once.",
        moves_scores=False,
        check=whole_number(1, 10_000),
        commands="job",
        least=1,
        most=10_000,
    )
    max_reply_mb: int = option(
        64,
        help="Largest reply that is read, in megabytes after decompression.",
        moves_scores=False,
        check=whole_number(1),
        commands="job",
        metavar="MB",
        least=1,
    )
    rpm: int | None = option(
        None,
        help="Largest number of requests in any minute.",
        moves_scores=False,
        check=whole_number(1),
        commands="job",
        least=1,
    )
    tpm: int | None = option(
        None,
        help="Largest number of tokens, read and written, in any minute.",
        moves_scores=False,
        check=whole_number(1),
        commands="job",
        least=1,
    )
    price: Mapping[str, float] | None = option(
        None,
        help="The price of a million tokens read, written, and read from the server's cache; in Python and in job files a table "
        "with the keys input, output and cached.",
        moves_scores=False,
        commands="job",
        metavar="IN,OUT[,CACHED]",
        parse=parse_price,
    )
    max_cost: float | None = option(
        None,
        help="No request is sent that could bring the cost above this, in the unit of the price, which it needs. The limit of a "
        "job holds for all its runs together.",
        moves_scores=False,
        commands="job",
        above=0,
    )


@dataclass(frozen=True)
class ServerOptions(RequestOptions):
    """How one server is reached, checked; `base_url` is the whole address, with the path's version.

    Attributes
    ----------
    key_header : str
        The header that carries the key; ``Authorization`` carries it as a bearer's.
    headers : tuple of pairs of str
        What every request also says.
    openai_headers : bool
        The variables of the environment that add headers for OpenAI count here.
    """

    base_url: str = field(metadata=RequestOptions.__dataclass_fields__["base_url"].metadata)
    api_key_env: str | None = field(default=None, metadata=RequestOptions.__dataclass_fields__["api_key_env"].metadata)
    key_header: str = "Authorization"
    headers: tuple[tuple[str, str], ...] = ()
    openai_headers: bool = True

    def __post_init__(self) -> None:
        check_options(self)
        check_price(self.price, self.max_cost)

    @property
    def is_local(self) -> bool:
        """Whether the server is on this machine; to know that of a name, the resolver is asked."""
        return is_loopback(urllib.parse.urlsplit(self.base_url).hostname or "")

    @property
    def root(self) -> str:
        """The server's address without the path of its version."""
        return self.base_url.rstrip("/").removesuffix("/v1")


def read_key(api_key_env: str | None) -> str:
    """The key that an environment variable holds; a placeholder, never sent, where no variable is named.

    Raises
    ------
    InputError
        The variable is not set, or holds what cannot be a key.
    """
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
