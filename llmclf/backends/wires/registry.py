"""The protocols by their names."""

from __future__ import annotations

from .anthropic import AnthropicMessages
from .base import Wire
from .chat_completions import ChatCompletions
from .gemini import GeminiContent
from .ollama import Ollama
from .responses import Responses

WIRES: dict[str, Wire] = {
    wire.name: wire for wire in (ChatCompletions(), Responses(), AnthropicMessages(), GeminiContent(), Ollama())
}
