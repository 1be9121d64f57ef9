"""Headers that the environment adds to all requests."""

from __future__ import annotations

import pytest
from faults import FakeServer

from llmclf import Embeddings
from llmclf.backends.http.environment_headers import VARIABLES
from llmclf.errors import InputError

SECRET = "canary-0123456789"


@pytest.fixture
def environment(no_waiting, monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    return monkeypatch.setenv


def sent(**options) -> dict[str, str]:
    """The headers of a request."""
    with FakeServer("embeddings") as server:
        Embeddings("openai:tiny", base_url=server.url, api_key_env="", **options).transform(["a text"])
        return server.requests[-1].headers


def test_none_without_variables(environment):
    headers = sent()
    assert headers["user-agent"] == "llmclf"
    assert not any(name.startswith(("openai", "authorization", "cookie")) for name in headers)


def test_organisation_project_and_others(environment):
    environment("OPENAI_ORG_ID", "org-1")
    environment("OPENAI_PROJECT_ID", "proj-1")
    environment("OPENAI_CUSTOM_HEADERS", "X-Team: a b\n\n  api-key :  k:1 \r\nX-Empty:\nUser-Agent: mine")
    headers = sent()
    assert headers["openai-organization"] == "org-1"
    assert headers["openai-project"] == "proj-1"
    assert headers["x-team"] == "a b"
    assert headers["api-key"] == "k:1"
    assert headers["x-empty"] == ""
    assert headers["user-agent"] == "mine"


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("OPENAI_CUSTOM_HEADERS", f"X-Team: a\n{SECRET}", "line 2 of OPENAI_CUSTOM_HEADERS is no header; expected"),
        ("OPENAI_CUSTOM_HEADERS", f": {SECRET}", "line 1 of OPENAI_CUSTOM_HEADERS is no header"),
        ("OPENAI_CUSTOM_HEADERS", f"two words: {SECRET}", "line 1 of OPENAI_CUSTOM_HEADERS is no header"),
        ("OPENAI_CUSTOM_HEADERS", f"X-Team: {SECRET}é", "line 1 of OPENAI_CUSTOM_HEADERS is no header"),
        ("OPENAI_ORG_ID", f"{SECRET}\nX-Other: 1", "OPENAI_ORG_ID holds characters that no header may have"),
        ("OPENAI_PROJECT_ID", f"{SECRET}\t\x7f", "OPENAI_PROJECT_ID holds characters that no header may have"),
    ],
)
def test_what_is_no_header(variable, value, said, environment):
    """One error before anything is sent; it names the place and does not repeat what stands there."""
    environment(variable, value)
    with FakeServer("embeddings") as server:
        with pytest.raises(InputError, match=said) as caught:
            Embeddings("openai:tiny", base_url=server.url, api_key_env="").transform(["a text"])
        assert not server.requests
    assert SECRET not in str(caught.value)
