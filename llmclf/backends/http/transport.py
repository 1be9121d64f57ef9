"""The HTTP client that carries requests, and which of its errors say that nothing was sent."""

from __future__ import annotations

import functools
import importlib.util
from typing import TYPE_CHECKING

from ...errors import InputError, MissingDependencyError
from .options import ServerOptions, read_key
from .proxies import Proxy

if TYPE_CHECKING:
    import ssl

    import httpx2


def connect(options: ServerOptions, proxy: Proxy | None) -> httpx2.AsyncClient:
    """The openai package's HTTP client, with the headers that its API client would send.

    The API client itself takes three times the processor time per request, mostly to build typed objects that have to be checked
    here all the same. It is made once per connection for its headers: organisation, project and further headers come from the
    environment, by rules that belong to the package.
    """
    try:
        import httpx2
        import openai
    except ImportError as error:
        raise missing_packages(error) from error
    kind = openai.DefaultAioHttpClient if importlib.util.find_spec("aiohttp") else openai.DefaultAsyncHttpx2Client
    n = options.concurrency
    # The sender limits a request's time as a whole: a limit on each read would let a reply trickle in for ever.
    http: httpx2.AsyncClient = kind(
        limits=httpx2.Limits(max_connections=n, max_keepalive_connections=n),
        timeout=None,
        verify=_trusted(),
        follow_redirects=False,  # texts go where the caller said, and nowhere else
        # Its password in a header, since one of the clients has no other way that lasts.
        proxy=None if proxy is None else httpx2.Proxy(proxy.address, headers=proxy.credentials()),
        trust_env=False,  # each client would choose a proxy by rules of its own
    )
    api = openai.AsyncOpenAI(base_url=options.base_url, api_key="none", http_client=http)
    # No variable holds a key, which OPENAI_CUSTOM_HEADERS may, too: a traceback may show variables.
    for name in api.default_headers:
        # Those describe the caller's system, and cost processor time on every request.
        if isinstance(api.default_headers[name], str) and not name.lower().startswith("x-stainless"):
            http.headers[name] = str(api.default_headers[name])
    if proxy is not None and options.base_url.lower().startswith("http:"):
        http.headers.update(proxy.credentials())  # without a tunnel the proxy reads the request itself
    if options.api_key_env is not None:
        http.headers["Authorization"] = f"Bearer {read_key(options.api_key_env)}"
    return http


def missing_packages(error: ImportError) -> MissingDependencyError:
    """The error where the packages that talk to servers are not installed."""
    return MissingDependencyError(f"an API server needs the openai package ({error}); run: pip install 'llmclf[api]'")


@functools.cache
def _trusted() -> ssl.SSLContext:
    """The certificates that the system trusts; reading them takes longer than a request."""
    import httpx2

    return httpx2.create_ssl_context()


@functools.lru_cache(maxsize=64)
def parsed_url(url: str) -> httpx2.URL:
    import httpx2

    try:
        return httpx2.URL(url)
    except httpx2.InvalidURL as error:
        raise InputError(f"{url!r} is not an address: {error}; change base_url=") from error


@functools.cache
def unreachable_errors() -> tuple[type[Exception], ...]:
    """Errors of requests that were not sent; with aiohttp's own, since openai's client calls all of aiohttp's errors timeouts."""
    import httpx2

    if not importlib.util.find_spec("aiohttp"):
        return (httpx2.ConnectError,)
    import aiohttp

    return httpx2.ConnectError, aiohttp.ClientConnectorError


def proxy_refusal(error: Exception) -> int | None:
    """The status with which a proxy refused to connect to a server; None for any other error, 0 where it gave no number."""
    import httpx2

    if not isinstance(error, httpx2.ProxyError):
        return None
    number = str(getattr(error.__cause__, "status", None) or str(error)[:3])
    return int(number) if number.isdecimal() else 0
