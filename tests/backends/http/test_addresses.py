"""Which addresses lead to this machine, and which are of one server."""

from __future__ import annotations

import socket
import time

import pytest

from llmclf.backends.http import addresses
from llmclf.backends.http.addresses import is_loopback, origin
from llmclf.backends.http.options import ServerOptions
from llmclf.errors import InputError

LOCAL = ["127.0.0.1", "127.8.7.6", "localhost", "LOCALHOST", "[::1]", "[0:0:0:0:0:0:0:1]", "[::ffff:127.0.0.1]"]
FAR = [
    *("127.example.test", "127.0.0.1.nip.io", "localhost.evil.example", "evil.example", "xn--a.test", "127"),
    *("0x7f.1", "0x7f000001", "2130706433", "017700000001", "127.1", "127.0.1", "127.0.0.01", "127.0.0.1."),
    *("localhost.", "0.0.0.0", "[::]", "[::1%25lo]", "[fe80::1%25lo]", "[::ffff:8.8.8.8]", "10.0.0.1", "8.8.8.8"),
    *("１２７.0.0.1", "ⓛocalhost", "127.0.0.1．evil.example", "l\u00f6calhost"),
]


@pytest.fixture
def names(monkeypatch):
    """What the resolver knows, to be filled by a test, and which names it was asked for."""
    known: dict[str, list[str]] = {}
    asked: list[str] = []

    def getaddrinfo(host, *_, **__):
        asked.append(host)
        if host not in known:
            raise socket.gaierror("no such name")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in known[host]]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return known, asked


@pytest.mark.parametrize("host", LOCAL)
def test_this_machine(host, names):
    """Loopback addresses as they are usually written, and localhost; the resolver is not asked."""
    assert ServerOptions(f"http://{host}:8000/v1").is_local
    assert not names[1]


@pytest.mark.parametrize("host", FAR)
def test_other_machines(host, names):
    """Names and numbers that only look like this machine, in every spelling that some program would take for it."""
    for name in ("127.0.0.1", "localhost", "evil.example"):
        names[0][name] = ["8.8.8.8"]
    try:
        assert not ServerOptions(f"http://{host}:8000/v1").is_local
    except InputError:
        pass  # no address at all


@pytest.mark.parametrize("url", ["http://127.0.0.1@evil.example/v1", "http://localhost:80@evil.example", "http://@evil.example",
                                 "http://evil.example\\@localhost/v1", "http://evil.example#@localhost/v1", "http://e.example?@localhost",
                                 "http://user:secret@localhost:99999/v1"])  # fmt: skip
def test_addresses_that_two_programs_read_differently_are_none(url):
    """Nor is a password in one repeated."""
    with pytest.raises(InputError) as caught:
        ServerOptions(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (["127.0.0.1"], True),
        (["127.0.0.1", "::1"], True),
        (["127.0.0.1", "8.8.8.8"], False),
        (["fe80::1%2"], False),
        ([], False),
    ],
)
def test_a_name_is_local_if_it_leads_nowhere_else(found, expected, names):
    """Every address of it is one of this machine."""
    names[0]["models.example.test"] = found
    assert is_loopback("Models.Example.test") is expected
    assert names[1] == ["models.example.test"]


def test_the_resolver_is_not_waited_for(monkeypatch):
    """A name that it takes long for is not local."""
    monkeypatch.setattr(addresses, "_PATIENCE", 0.05)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: time.sleep(1.0) or [])
    begun = time.monotonic()
    assert not is_loopback("slow.example.test")
    assert time.monotonic() - begun < 0.9


def test_the_resolver_is_asked_for_a_saved_address_alone(names):
    """Not when a backend is made."""
    ServerOptions("http://models.example.test/v1")
    assert not names[1]


def test_one_server_in_two_spellings():
    """Scheme, host and port count; the path does not."""
    one = origin("https://api.example.com/v1")
    for same in ("HTTPS://API.example.com:443", "https://api.example.com/other"):
        assert origin(same) == one
    for other in (
        "http://api.example.com",
        "https://api.example.com:444",
        "https://api.example.com.",
        "https://example.com",
    ):
        assert origin(other) != one
    assert origin("http://[0:0::1]/v1") == origin("http://[::1]:80")
