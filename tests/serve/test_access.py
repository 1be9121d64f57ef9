"""Keys by the name of their variable, and who may ask without one."""

from __future__ import annotations

import pytest

from llmclf.errors import InputError
from llmclf.serve.access import Access, is_loopback, opened
from llmclf.serve.refusals import RefusalError


def test_without_a_key_only_this_machine_is_served(monkeypatch):
    """Another address needs a key, or the flag that says that none is needed."""
    for host in ("127.0.0.1", "localhost", "::1", "127.8.8.8"):
        assert not opened(host, None, without_key=False).needs_key
    for host in ("0.0.0.0", "::", "192.168.0.7", "example.org", ""):
        with pytest.raises(InputError, match="--access-key-env VARIABLE, or say --without-key"):
            opened(host, None, without_key=False)
        assert not opened(host, None, without_key=True).needs_key
    monkeypatch.setenv("LLMCLF_TEST_KEY", "a-long-enough-key")
    access = opened("0.0.0.0", "LLMCLF_TEST_KEY", without_key=False)
    assert access.needs_key
    assert "long" not in repr(access)


@pytest.mark.parametrize("key", [None, "", "short", " a-long-enough-key", "a-long-enough-key\n", "a-long-enough-kéy"])
def test_a_variable_without_a_usable_key_is_refused(monkeypatch, key):
    """It is named, and what it holds is not."""
    monkeypatch.delenv("LLMCLF_TEST_KEY", raising=False)
    if key is not None:
        monkeypatch.setenv("LLMCLF_TEST_KEY", key)
    with pytest.raises(InputError, match="'LLMCLF_TEST_KEY'") as caught:
        opened("127.0.0.1", "LLMCLF_TEST_KEY", without_key=False)
    assert "enough" not in str(caught.value)


def test_a_key_and_no_key_exclude_each_other(monkeypatch):
    """Both at once are refused."""
    monkeypatch.setenv("LLMCLF_TEST_KEY", "a-long-enough-key")
    with pytest.raises(InputError, match="exclude each other"):
        opened("127.0.0.1", "LLMCLF_TEST_KEY", without_key=True)


def test_names_of_this_machine():
    """Addresses of the loopback network and localhost, whatever their case."""
    assert all(map(is_loopback, ("localhost", "Localhost.", "127.0.0.1", "[::1]", "127.1.2.3")))
    assert not any(
        map(is_loopback, ("", "localhost.evil.example", "10.0.0.1", "0.0.0.0", "1", "127.0.0.1.evil.example"))
    )


@pytest.mark.parametrize("host", ["127.0.0.1:80", "localhost", "[::1]", "[::1]:8000", "LOCALHOST:1"])
def test_a_request_for_this_machine_is_heard(host):
    """With a port, or without."""
    Access(None, is_local=True).check_host({"host": host})


@pytest.mark.parametrize(
    "host", ["evil.example", "[::1]evil.example", "localhost:80@evil.example", "127.0.0.1:80/x", ""]
)
def test_a_request_for_another_machine_is_not(host):
    """Whatever its name begins with."""
    with pytest.raises(RefusalError, match="its own machine alone"):
        Access(None, is_local=True).check_host({"host": host})
