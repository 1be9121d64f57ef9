"""A model string that names nothing is answered with what may have been meant."""

from __future__ import annotations

import pytest

from llmclf import open_backend
from llmclf.backends.model_hints import model_hint
from llmclf.backends.providers import PROVIDERS
from llmclf.errors import ModelNameError


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("org/name", "did you mean 'hf:org/name'?"),
        ("Qwen/Qwen2.5-0.5B-Instruct@main", "did you mean 'hf:Qwen/Qwen2.5-0.5B-Instruct@main'?"),
        ("openai/gpt-oss-20b", "did you mean 'openai:gpt-oss-20b'?"),
        ("HF:org/name", "did you mean 'hf:org/name'?"),
        ("huggingface:org/name", "did you mean 'hf:org/name'?"),
        ("opnai:gpt-4o", "did you mean 'openai:gpt-4o'?"),
        ("https://models.example/org/name/tree/main", "did you mean 'hf:org/name'?"),
        ("hf:https://models.example/org/name", "did you mean 'hf:org/name'?"),
        ("http://localhost:8000/v1", "'openai:NAME' with base_url='http://localhost:8000/v1' (--base-url)"),
        ("llama3:8b", "did you mean 'ollama:llama3:8b'?"),
        ("qwen2.5:0.5b-instruct-q4_0", "did you mean 'ollama:qwen2.5:0.5b-instruct-q4_0'?"),
        ("olama:llama3", "did you mean 'ollama:llama3'?"),
        ("sglang:org/name", "did you mean 'openai:org/name' with base_url='http://localhost:30000/v1'?"),
        ("llama.cpp:name", "did you mean 'llamacpp:name'?"),
        ("gpt-4o-mini", "did you mean 'openai:gpt-4o-mini'?"),
        ("gpt-4o", "did you mean 'openai:gpt-4o'?"),
        ("o3-mini", "did you mean 'openai:o3-mini'?"),
        ("azure/gpt-4o", "did you mean 'azure:gpt-4o'?"),
        ("claude-sonnet-4", "did you mean 'anthropic:claude-sonnet-4'?"),
        ("anthropic/claude-sonnet-4", "did you mean 'anthropic:claude-sonnet-4'?"),
        ("gemini-2.5-flash", "did you mean 'gemini:gemini-2.5-flash'?"),
        ("google/gemma-3-4b-it", "did you mean 'hf:google/gemma-3-4b-it'?"),
        ("mistral-small-latest", "did you mean 'mistral:mistral-small-latest'?"),
        ("mistralai/Mistral-7B-Instruct-v0.3", "did you mean 'hf:mistralai/Mistral-7B-Instruct-v0.3'?"),
        ("grok-4", "did you mean 'xai:grok-4'?"),
        ("deepseek-chat", "did you mean 'openai:deepseek-chat' with base_url="),
        ("model.gguf", "did you mean 'gguf:model.gguf'?"),
        ("hf:some/where/model.GGUF", "did you mean 'gguf:some/where/model.GGUF'?"),
        ("smollm", "did you mean 'smollm2'?"),
        ("SmolLM2-135M", "did you mean 'smollm2'?"),
        (
            "llama3",
            "did you mean 'ollama:llama3' (a model of Ollama), 'openai:llama3' (of another server) or 'hf:ORG/llama3'",
        ),
    ],
)
def test_hints(name, hint):
    """Names of the hub, of Ollama, of hosted models, addresses, files and mistyped prefixes each have their hint."""
    with pytest.raises(ModelNameError) as caught:
        open_backend(name)
    assert hint in str(caught.value)


def test_an_unknown_scheme_lists_all():
    """The message names every provider."""
    with pytest.raises(ModelNameError) as caught:
        open_backend("nobody:name")
    assert all(f"{scheme}:NAME" in str(caught.value) for scheme in PROVIDERS)


def test_hints_of_what_is_on_the_disk(tmp_path):
    """A folder of a model, a folder with a GGUF file, and a weight file are recognised."""
    model, ggufs = tmp_path / "model", tmp_path / "ggufs"
    for folder, name in ((model, "config.json"), (ggufs, "a.gguf")):
        folder.mkdir()
        (folder / name).write_bytes(b"GGUF")
    (model / "model.safetensors").touch()
    assert model_hint(str(model)) == f"did you mean 'hf:{model}'?"
    assert model_hint(f"gguf:{model}") == f"did you mean 'hf:{model}'?"
    for name in (str(ggufs), f"hf:{ggufs}"):
        assert model_hint(name) == f"did you mean 'gguf:{ggufs / 'a.gguf'}'?"
    assert f"'hf:{model}', the folder that holds the file" in model_hint(str(model / "model.safetensors"))
    with pytest.raises(ModelNameError, match=r"config\.json.*'gguf:.*a\.gguf'"):
        open_backend(f"hf:{ggufs}")


@pytest.mark.parametrize("name", ["", " ", ":", "hf:", "?", "a b c", "gguf:"])
def test_no_hint_where_nothing_can_be_guessed(name):
    """Without an idea nothing is said."""
    assert model_hint(name) == ""
