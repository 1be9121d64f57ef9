"""The table of providers. Addresses and variables are the providers' own; what they return is probed, not believed."""

from __future__ import annotations

from .provider import Endpoint, Provider

_ANTHROPIC = (("anthropic-version", "2023-06-01"),)

_ENTRIES = (
    Provider(
        "openai",
        "OpenAI",
        (Endpoint("chat", "https://api.openai.com/v1"), Endpoint("responses", "https://api.openai.com/v1")),
        url_variable="OPENAI_BASE_URL",
        key_variable="OPENAI_API_KEY",
        limit="max_completion_tokens",
        effort="none",
        openai_headers=True,
    ),
    Provider(
        "azure",
        "Azure OpenAI",
        (Endpoint("chat", key_header="api-key"), Endpoint("responses", key_header="api-key")),
        url_variable="AZURE_OPENAI_BASE_URL",
        example_url="https://NAME.openai.azure.com/openai/v1",
        key_variable="AZURE_OPENAI_API_KEY",
        limit="max_completion_tokens",
        effort="none",
    ),
    Provider(
        "anthropic",
        "Anthropic",
        (Endpoint("anthropic", "https://api.anthropic.com/v1", key_header="x-api-key", headers=_ANTHROPIC),),
        url_variable="ANTHROPIC_BASE_URL",
        key_variable="ANTHROPIC_API_KEY",
        top_logprobs=0,
    ),
    Provider(
        "gemini",
        "Google Gemini",
        (
            Endpoint("gemini", "https://generativelanguage.googleapis.com/v1beta", key_header="x-goog-api-key"),
            Endpoint("chat", "https://generativelanguage.googleapis.com/v1beta/openai"),
        ),
        url_variable="GEMINI_BASE_URL",
        key_variable="GEMINI_API_KEY",
        effort="none",
    ),
    Provider(
        "mistral",
        "Mistral",
        (Endpoint("chat", "https://api.mistral.ai/v1"),),
        url_variable="MISTRAL_BASE_URL",
        key_variable="MISTRAL_API_KEY",
        top_logprobs=0,
    ),
    Provider(
        "xai",
        "xAI",
        (Endpoint("chat", "https://api.x.ai/v1"), Endpoint("responses", "https://api.x.ai/v1")),
        url_variable="XAI_BASE_URL",
        key_variable="XAI_API_KEY",
        limit="max_completion_tokens",
        top_logprobs=8,
        effort="none",
    ),
    Provider(
        "together",
        "Together",
        (Endpoint("chat", "https://api.together.xyz/v1"),),
        url_variable="TOGETHER_BASE_URL",
        key_variable="TOGETHER_API_KEY",
        takes_one_text=True,
    ),
    Provider(
        "fireworks",
        "Fireworks",
        (Endpoint("chat", "https://api.fireworks.ai/inference/v1"),),
        url_variable="FIREWORKS_BASE_URL",
        key_variable="FIREWORKS_API_KEY",
        top_logprobs=5,
    ),
    Provider(
        "deepinfra",
        "DeepInfra",
        (Endpoint("chat", "https://api.deepinfra.com/v1/openai"),),
        url_variable="DEEPINFRA_BASE_URL",
        key_variable="DEEPINFRA_API_KEY",
    ),
    Provider(
        "nebius",
        "Nebius",
        (Endpoint("chat", "https://api.studio.nebius.com/v1"),),
        url_variable="NEBIUS_BASE_URL",
        key_variable="NEBIUS_API_KEY",
    ),
    Provider(
        "groq",
        "Groq",
        (Endpoint("chat", "https://api.groq.com/openai/v1"),),
        url_variable="GROQ_BASE_URL",
        key_variable="GROQ_API_KEY",
        limit="max_completion_tokens",
        top_logprobs=0,
    ),
    Provider(
        "openrouter",
        "OpenRouter",
        (Endpoint("chat", "https://openrouter.ai/api/v1"),),
        url_variable="OPENROUTER_BASE_URL",
        key_variable="OPENROUTER_API_KEY",
        pin={"provider": {"only": ["NAME"], "require_parameters": True}},
    ),
    Provider(
        "ollama",
        "Ollama",
        (Endpoint("ollama", "http://localhost:11434"), Endpoint("chat", "http://localhost:11434/v1")),
        url_variable="OLLAMA_BASE_URL",
    ),
    Provider(
        "lmstudio",
        "LM Studio",
        (Endpoint("chat", "http://localhost:1234/v1"), Endpoint("responses", "http://localhost:1234/v1")),
        url_variable="LMSTUDIO_BASE_URL",
    ),
    Provider(
        "vllm",
        "vLLM",
        (Endpoint("chat", "http://localhost:8000/v1"),),
        url_variable="VLLM_BASE_URL",
        key_variable="VLLM_API_KEY",
        limit="max_completion_tokens",
    ),
    Provider(
        "llamacpp",
        "llama.cpp's server",
        (Endpoint("chat", "http://localhost:8080/v1"),),
        url_variable="LLAMACPP_BASE_URL",
        key_variable="LLAMA_API_KEY",
    ),
)

PROVIDERS = {provider.scheme: provider for provider in _ENTRIES}
"""The providers by the scheme of their model strings."""
