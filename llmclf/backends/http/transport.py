"""The HTTP client that carries requests, and which of its errors say that nothing was sent."""

from __future__ import annotations

import functools
import io
import os
import sys
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, BinaryIO

from ...errors import InputError, MissingDependencyError
from .environment_headers import add_environment_headers
from .options import ServerOptions, read_key
from .proxies import Proxy

if TYPE_CHECKING:
    import ssl

    import aiohttp
    import yarl


_LARGE = 1 << 20  # bytes
_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Ubuntu, Arch, Gentoo
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora, Red Hat
    "/etc/ssl/ca-bundle.pem",  # SUSE
    "/etc/ssl/cert.pem",  # Alpine, BSD
)


class Transport:
    """An HTTP client with what all requests to one server carry, made in the event loop that uses it.

    Parameters
    ----------
    options : ServerOptions
    proxy : Proxy, optional

    Raises
    ------
    InputError
        A variable of the environment holds no key, or no header.
    """

    def __init__(self, options: ServerOptions, proxy: Proxy | None) -> None:
        try:
            import aiohttp
        except ImportError as error:
            raise missing_packages(error) from error
        # No variable holds a key, since a traceback may show variables. Nor does the session, which would show it to a proxy.
        self._headers = {"Accept": "application/json", "User-Agent": "llmclf", **dict(options.headers)}
        if options.openai_headers:
            add_environment_headers(self._headers)
        if options.api_key_env is not None:
            is_bearer = options.key_header == "Authorization"
            self._headers[options.key_header] = f"{'Bearer ' * is_bearer}{read_key(options.api_key_env)}"
        self._to_proxy: dict[str, Any] = {}
        if proxy is not None:
            self._to_proxy = {"proxy": proxy.address, "proxy_headers": proxy.credentials()}
            if options.base_url.lower().startswith("http:"):
                self._headers.update(proxy.credentials())  # without a tunnel the proxy reads the request itself
        self._json_headers = {**self._headers, "Content-Type": "application/json"}
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=options.concurrency, ssl=_trusted()),
            # The sender limits a request's time as a whole: a limit on each read would let a reply trickle in for ever.
            timeout=aiohttp.ClientTimeout(total=None, connect=None, sock_connect=None, sock_read=None),
            cookie_jar=aiohttp.DummyCookieJar(),  # another would log what it cannot read, which may repeat the key
            trust_env=False,  # it would choose a proxy by rules of its own
        )

    def get(self, url: yarl.URL) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        """A request without a body; sent once it is entered, as all of them, and a redirection is not followed."""
        return self._session.get(url, headers=self._headers, allow_redirects=False, **self._to_proxy)

    def post(self, url: yarl.URL, content: bytes) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        """A request whose body is JSON."""
        # As a file where it is large: aiohttp warns of long bytes.
        data = content if len(content) < _LARGE else io.BytesIO(content)
        return self._session.post(url, data=data, headers=self._json_headers, allow_redirects=False, **self._to_proxy)

    def upload(
        self, url: yarl.URL, file: BinaryIO, name: str, fields: Mapping[str, str]
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        """A request whose body is a form with a file, which is closed once it is sent."""
        import aiohttp

        form = aiohttp.FormData(fields)
        form.add_field("file", file, filename=name, content_type="application/jsonl")
        return self._session.post(url, data=form, headers=self._headers, allow_redirects=False, **self._to_proxy)

    async def close(self) -> None:
        await self._session.close()


def missing_packages(error: ImportError) -> MissingDependencyError:
    """The error where the packages that talk to servers are not installed."""
    return MissingDependencyError(
        f"talking to a server needs packages that are not installed ({error}); run: pip install 'llmclf[api]'"
    )


@functools.cache
def _trusted() -> ssl.SSLContext:
    """The certificates that the system trusts; reading them takes longer than a request.

    Python's own context reads them from where OpenSSL looks, as on Linux. Elsewhere the system is asked about each certificate.
    """
    import ssl

    is_named = os.environ.get("SSL_CERT_FILE") or os.environ.get("SSL_CERT_DIR")
    if is_named or sys.platform not in ("win32", "darwin"):
        return _with_bundle(ssl.create_default_context())
    try:
        import truststore
    except ImportError as error:
        raise missing_packages(error) from error
    return truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def _with_bundle(context: ssl.SSLContext) -> ssl.SSLContext:
    """A context with the system's certificates, also where Python was built elsewhere and looks for them in vain."""
    import ssl

    known = ssl.get_default_verify_paths()
    if known.cafile is None and not (known.capath and os.listdir(known.capath)):
        for file in filter(os.path.exists, _BUNDLES):
            context.load_verify_locations(cafile=file)
    return context


@functools.lru_cache(maxsize=64)
def parsed_url(url: str) -> yarl.URL:
    import yarl

    try:
        return yarl.URL(url)
    except ValueError as error:
        raise InputError(f"{url!r} is not an address: {error}; change base_url=") from error


def was_unreachable(error: Exception) -> bool:
    """Whether an error says that a request was not sent, since there was no connection."""
    import aiohttp

    return isinstance(error, aiohttp.ClientConnectorError)


def proxy_refusal(error: Exception) -> int | None:
    """The status with which a proxy refused to connect to a server; None for any other error."""
    import aiohttp

    return error.status if isinstance(error, aiohttp.ClientHttpProxyError) else None
