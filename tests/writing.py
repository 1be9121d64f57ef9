"""Written answers of a backend's server, asked for as routes by answers ask."""

from __future__ import annotations

from llmclf.backends import OpenAIBackend
from llmclf.backends.answers.generates import GeneratedText, GenerationRequest
from llmclf.backends.http.answering_model import AnsweringModel
from llmclf.backends.http.async_bridge import AsyncBridge
from llmclf.backends.http.client import Client
from llmclf.backends.usage import Usage
from llmclf.backends.wires.generator import TextGenerator
from llmclf.backends.wires.registry import WIRES
from llmclf.prompts.rendered import Span, Turn


def asked(
    backend: OpenAIBackend, *, text: str = "A fine film. Good or bad?", role: str | None = "user", **options: object
) -> tuple[list[GeneratedText], Usage]:
    """What a model writes about a text, and what that took."""
    request = GenerationRequest(**{"turns": (Turn(role, (Span(text, True),)),), "max_tokens": 5, **options})  # type: ignore[arg-type]
    client = Client(backend.server_options)

    async def ask(client: Client) -> list[GeneratedText]:
        wire, models = WIRES[backend.endpoint.wire], AnsweringModel(backend.model_name)
        generator = TextGenerator(client, wire, backend.provider, backend.model_name, backend.extra or {}, models)
        return await generator.generate(request)

    return AsyncBridge(client).call(ask), client.usage


def written(backend: OpenAIBackend, **options: object) -> list[GeneratedText]:
    """What a model writes about a text."""
    return asked(backend, **options)[0]  # type: ignore[arg-type]
