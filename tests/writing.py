"""Written answers of a backend's server, asked for as routes by answers ask."""

from __future__ import annotations

from typing import Any

from llmclf.backends import OpenAIBackend
from llmclf.backends.answers.generates import GeneratedText, GenerationRequest
from llmclf.backends.http.answering_model import AnsweringModel
from llmclf.backends.http.async_bridge import AsyncBridge
from llmclf.backends.http.client import Client
from llmclf.backends.openai.probe import Probe
from llmclf.backends.openai.routes.answered import ChatWriter
from llmclf.backends.openai.routes.base import RouteClient, ServerFacts
from llmclf.backends.usage import Usage
from llmclf.backends.wires.answer_facts import AnswerFacts
from llmclf.prompts.rendered import Span, Turn


def asked(
    backend: OpenAIBackend, *, text: str = "A fine film. Good or bad?", role: str | None = "user", **options: Any
) -> tuple[list[GeneratedText], Usage]:
    """What a model writes about a text, and what that took; nothing is asked beforehand."""
    request = GenerationRequest(**{"turns": (Turn(role, (Span(text, True),)),), "max_tokens": 5, **options})
    client = Client(backend.server_options)
    answers = AnswerFacts(backend.endpoint.wire, backend.provider.limit)
    facts = ServerFacts(Probe(backend.model_name, chat_wire=backend.endpoint.wire, answers=answers))
    models = AnsweringModel(backend.model_name)

    async def ask(client: Client) -> list[GeneratedText]:
        return await ChatWriter(RouteClient(client, facts, backend.extra or {}, models)).generate(request)

    return AsyncBridge(client).call(ask), client.usage


def written(backend: OpenAIBackend, **options: Any) -> list[GeneratedText]:
    """What a model writes about a text."""
    return asked(backend, **options)[0]
