"""Proxies that the environment names: https goes through them, this machine never does, and no key is read by one."""

from __future__ import annotations

import base64
import urllib.parse

import pytest
from faults import FakeServer
from proxy_server import Proxy, Tls, certificate

from llmclf import Embeddings
from llmclf.backends.http import client as client_module
from llmclf.backends.http import transport as transport_module
from llmclf.backends.http.options import ServerOptions
from llmclf.backends.http.proxies import proxy_for
from llmclf.errors import InputError, ServerError

NAME, KEY = "LLMCLF_TEST_KEY", "sk-canary-0123456789"
HOST = "192.0.2.7"  # of no network
VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """A key, no proxies yet, and no waiting."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_CUSTOM_HEADERS", raising=False)
    monkeypatch.setenv(NAME, KEY)
    monkeypatch.setattr(client_module, "_FIRST_WAIT", 0.001)
    return monkeypatch.setenv


def embedded(url: str, *, key: str = NAME, **options) -> int:
    """How many texts a server has embedded."""
    embeddings = Embeddings("openai:tiny", base_url=url, api_key_env=key, max_retries=1, **options)
    return len(embeddings.transform(["a film"]))


def port(server: FakeServer) -> int:
    return urllib.parse.urlsplit(server.url).port


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "HTTPS_PROXY"])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]"])
def test_this_machine_is_asked_directly(variable, host, environment):
    """Whatever variable names a proxy, and however this machine's address is written."""
    with FakeServer("embeddings", key=KEY) as server, Proxy() as proxy:
        environment(variable, proxy.url)
        assert embedded(f"http://{host}:{port(server)}/v1") == 1
        assert server.requests
        assert proxy.heads == []


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"])
def test_https_goes_through_a_tunnel(variable, environment, tmp_path):
    """The proxy is asked for a connection with its own password, and sees neither key nor text; the server gets both."""
    trusted, context = certificate(tmp_path, HOST)
    environment("SSL_CERT_FILE", str(trusted))
    transport_module._trusted.cache_clear()
    try:
        with FakeServer("embeddings", key=KEY) as server, Tls(context, ("127.0.0.1", port(server))) as tls:
            with Proxy({f"{HOST}:443": tls.place}) as proxy:
                environment(variable, proxy.url.replace("http://", "http://me:pass%40word@"))
                assert embedded(f"https://{HOST}/v1") == 1
            assert server.requests[-1].headers["authorization"] == f"Bearer {KEY}"
            assert "proxy-authorization" not in server.requests[-1].headers
    finally:
        transport_module._trusted.cache_clear()
    assert [head.partition("\r\n")[0] for head in proxy.heads] == [f"CONNECT {HOST}:443 HTTP/1.1"]
    assert base64.b64encode(b"me:pass@word").decode() in proxy.heads[0]
    for told in (proxy.heads[0], proxy.passed.decode("latin-1")):
        assert KEY not in told
        assert "a film" not in told
    assert len(proxy.passed) > 500


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_no_key_goes_to_a_proxy_in_clear_text(variable, environment):
    """A key for an address that is not encrypted is refused before anything is sent; without one the proxy is used."""
    with FakeServer("embeddings") as server, Proxy({f"{HOST}:8000": ("127.0.0.1", port(server))}) as proxy:
        environment(variable, proxy.url.replace("http://", "http://me:secret@"))
        with pytest.raises(InputError, match=rf"{NAME} holds what the proxy in {variable} would read") as caught:
            embedded(f"http://{HOST}:8000/v1")
        assert "secret" not in str(caught.value)
        environment("OPENAI_CUSTOM_HEADERS", f"X-Key: {KEY}")
        with pytest.raises(InputError, match="OPENAI_CUSTOM_HEADERS holds what the proxy"):
            embedded(f"http://{HOST}:8000/v1", key="")
        assert proxy.heads == []
        environment("OPENAI_CUSTOM_HEADERS", "")
        assert embedded(f"http://{HOST}:8000/v1", key="") == 1
        assert proxy.heads[0].startswith(f"POST http://{HOST}:8000/v1/embeddings ")
        assert base64.b64encode(b"me:secret").decode() in proxy.heads[0]
        assert KEY not in proxy.heads[0]


@pytest.mark.parametrize("refusal", ["407 Proxy Authentication Required", "403 Forbidden", "503 Service Unavailable"])
def test_a_proxy_that_refuses(refusal, environment):
    """One error that names the variable and the status, and no password; what may heal is tried again."""
    with Proxy(refusal=refusal) as proxy:
        environment("HTTPS_PROXY", proxy.url.replace("http://", "http://me:secret@"))
        with pytest.raises(
            ServerError, match=f"through the proxy in HTTPS_PROXY, which answered {refusal[:3]}"
        ) as caught:
            embedded(f"https://{HOST}/v1")
        assert caught.value.is_final
        assert "secret" not in f"{caught.value}{caught.value!r}"
        assert len(proxy.heads) == (2 if refusal.startswith("5") else 1)


def test_a_proxy_that_is_not_there(environment):
    """The error names the variable."""
    with Proxy() as proxy:
        gone = proxy.url
    environment("HTTPS_PROXY", gone)
    with pytest.raises(ServerError, match=f"cannot be reached at https://{HOST}/v1 through the proxy in HTTPS_PROXY"):
        embedded(f"https://{HOST}/v1")


@pytest.mark.parametrize(
    "value", ["socks5://h:1", "socks5://me:secret@h", "http://", "http://me:secret@h:port", "ftp://h"]
)
def test_what_is_no_proxy(value, environment):
    """A proxy of a kind that is not known is an error, since going around it may be what nobody wants."""
    environment("ALL_PROXY", value)
    with pytest.raises(InputError, match="ALL_PROXY does not name a proxy that can be used") as caught:
        embedded(f"https://{HOST}/v1")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "variables", "used"),
    [
        ("https://192.0.2.7/v1", {"HTTP_PROXY": "http://a"}, None),
        ("http://192.0.2.7/v1", {"HTTPS_PROXY": "http://a"}, None),
        ("https://192.0.2.7/v1", {"HTTPS_PROXY": "http://a", "ALL_PROXY": "http://b"}, "http://a"),
        ("https://192.0.2.7/v1", {"HTTPS_PROXY": "http://a", "https_proxy": "http://b"}, "http://b"),
        ("https://192.0.2.7/v1", {"HTTPS_PROXY": "", "ALL_PROXY": "b:3128"}, "http://b:3128"),
        ("https://192.0.2.7/v1", {"HTTPS_PROXY": "http://a", "NO_PROXY": "192.0.2.0/24"}, None),
        ("https://192.0.2.7/v1", {"HTTPS_PROXY": "http://a", "no_proxy": "x, 192.0.2.7"}, None),
        ("https://192.0.2.7/v1", {"HTTPS_PROXY": "http://a", "NO_PROXY": "192.0.2.7:8443"}, "http://a"),
        ("https://[2001:db8::7]/v1", {"HTTPS_PROXY": "http://a", "NO_PROXY": "[2001:db8:0::7]:443"}, None),
        ("https://[2001:db8::7]/v1", {"HTTPS_PROXY": "http://a", "NO_PROXY": "2001:db8::/32"}, None),
        ("https://gpu.example.invalid/v1", {"HTTPS_PROXY": "http://a", "NO_PROXY": "example.invalid"}, None),
        ("https://gpu.example.invalid/v1", {"HTTPS_PROXY": "http://a", "NO_PROXY": "*"}, None),
        (
            "https://192.0.2.7/v1",
            {"HTTPS_PROXY": "http://a", "NO_PROXY": "example.invalid,2.7,192.0.2.0/x"},
            "http://a",
        ),
    ],
)
def test_which_proxy(url, variables, used, environment):
    """The scheme's own comes before ALL_PROXY, lower case before upper, and NO_PROXY before all."""
    for name, value in variables.items():
        environment(name, value)
    proxy = proxy_for(ServerOptions(base_url=url))
    assert (None if proxy is None else proxy.url) == used
