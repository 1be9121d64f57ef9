"""The table of providers: addresses, keys and quirks are data, and every option overrides them."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import pytest

from llmclf import open_backend
from llmclf.backends import OpenAIBackend, ProviderBackend
from llmclf.backends.providers import PROVIDERS
from llmclf.backends.wires.registry import WIRES
from llmclf.errors import InputError, ModelNameError, UnknownOptionError

NAMED = [
    "openai", "azure", "anthropic", "gemini", "mistral", "xai", "together", "fireworks", "deepinfra", "nebius", "groq",
    "openrouter", "ollama", "lmstudio", "vllm", "llamacpp",
]  # fmt: skip
PINNED = {"provider": {"only": ["somebody"]}}


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """The environment names no address and no key."""
    for provider in PROVIDERS.values():
        for variable in filter(None, (provider.url_variable, provider.key_variable)):
            monkeypatch.delenv(variable, raising=False)


def opened(scheme: str, **options):
    needed = {"base_url": "http://127.0.0.1:9/v1"} if scheme == "azure" else {}
    pinned = {"extra": PINNED} if scheme == "openrouter" else {}
    return open_backend(f"{scheme}:some/model", **{**needed, **pinned, **options})


@pytest.mark.parametrize("scheme", NAMED)
def test_every_provider_opens_by_its_name(scheme, monkeypatch):
    """With its own address and the key of its own variable, if that is set; its protocols are known."""
    provider = PROVIDERS[scheme]
    backend = opened(scheme)
    assert type(backend) is (OpenAIBackend if scheme == "openai" else ProviderBackend)
    assert backend.model_name == "some/model"
    assert backend.server_options.api_key_env is None
    assert all(endpoint.wire in WIRES for endpoint in provider.endpoints)
    if scheme != "azure":
        assert backend.server_options.base_url == provider.endpoints[0].base_url
    is_local = scheme in ("ollama", "lmstudio", "vllm", "llamacpp")
    assert backend.server_options.base_url.startswith("http://" if is_local or scheme == "azure" else "https://")
    if provider.key_variable:
        monkeypatch.setenv(provider.key_variable, "k")
        assert opened(scheme).server_options.api_key_env == provider.key_variable
        assert opened(scheme, api_key_env="").server_options.api_key_env is None


def test_the_table_has_all():
    """No provider is missing, and no two share a variable for the address."""
    assert list(PROVIDERS) == NAMED
    assert len({provider.url_variable for provider in PROVIDERS.values()}) == len(PROVIDERS)


def test_options_and_the_environment_override_the_table(monkeypatch):
    """An option counts before the environment, and that before the table; limits and prices are the same for all."""
    monkeypatch.setenv("MISTRAL_BASE_URL", "http://proxy.example:8080/v1")
    assert open_backend("mistral:m").server_options.base_url == "http://proxy.example:8080/v1"
    backend = open_backend(
        "mistral:m",
        base_url="http://localhost:1/v1",
        api_key_env="MY_KEY",
        rpm=3,
        price={"input": 1.0, "output": 2.0},
        max_cost=1.0,
    )
    options = backend.server_options
    assert (options.base_url, options.api_key_env, options.rpm) == ("http://localhost:1/v1", "MY_KEY", 3)
    assert options.max_cost == 1.0


def test_a_provider_without_an_address_asks_for_one():
    """Azure's customers have addresses of their own; the message shows how one looks and which variable takes it."""
    with pytest.raises(InputError, match=r"NAME\.openai\.azure\.com/openai/v1.*AZURE_OPENAI_BASE_URL"):
        open_backend("azure:gpt-4o")


def test_a_router_needs_one_provider_behind_it():
    """Each of several has other numbers, so the request has to name one."""
    with pytest.raises(InputError, match=r"'openrouter:org/m'.*extra=\{'provider': \{'only': \['NAME'\]"):
        open_backend("openrouter:org/m")
    assert opened("openrouter").extra == PINNED


def test_wires_are_chosen_by_name():
    """A provider's other protocol has its own address and header; one that it does not speak is refused with those it does."""
    native, compatible = open_backend("gemini:m"), open_backend("gemini:m", wire="chat")
    assert native.server_options.key_header == "x-goog-api-key"
    assert compatible.server_options.key_header == "Authorization"
    assert compatible.server_options.base_url.endswith("/v1beta/openai")
    assert native != compatible
    with pytest.raises(InputError, match=r"wire='anthropic'.*'gemini', 'chat'"):
        open_backend("gemini:m", wire="anthropic")
    with pytest.raises(InputError, match="wire='telex'"):
        open_backend("gemini:m", wire="telex")


def test_handles_are_copied_pickled_and_shown():
    """The description alone travels; no key is in it."""
    backend = open_backend("gemini:m", wire="chat", concurrency=4)
    assert repr(backend) == "ProviderBackend('gemini:m', concurrency=4, wire='chat')"
    assert copy.deepcopy(backend) is backend
    assert pickle.loads(pickle.dumps(backend)) == backend
    assert backend.description["base_url"].endswith("/v1beta/openai")


def test_bad_names_and_options():
    """A name without a model, and an option that nobody has."""
    with pytest.raises(ModelNameError, match="'mistral:NAME'"):
        open_backend("mistral:")
    with pytest.raises(UnknownOptionError, match=r"mistral:m.*base_ulr.*base_url"):
        open_backend("mistral:m", base_ulr="http://localhost:1/v1")


def test_the_reference_has_the_table():
    """Each provider's row says its address, the variable of its key and its protocols."""
    page = (Path(__file__).parents[3] / "docs" / "reference" / "providers.md").read_text(encoding="utf-8")
    rows = {row.split("`")[1]: row for row in page.splitlines() if row.startswith("| `")}
    for scheme, provider in PROVIDERS.items():
        row = rows[f"{scheme}:"]
        wires = ", ".join(f"`{endpoint.wire}`" for endpoint in provider.endpoints)
        for part in (
            provider.title,
            provider.endpoints[0].base_url or "your own",
            provider.key_variable or "none",
            wires,
        ):
            assert f"| {part} |" in row or f"| `{part}` |" in row
