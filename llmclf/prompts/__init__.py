"""Prompts: how a table row becomes the text that a model reads, and how a label's words continue it.

Users import `Prompt`; the rest is internal. May import ``errors`` alone. What templates can do goes into ``templates``, what
they may take into ``limits``, and another parameter of a prompt into ``prompt``.
"""

from .prompt import Prompt, PromptRenderer
from .rendered import TEXT_FIELD, RenderedPrompt, Span, Turn
from .templates import mark_turns

__all__ = ["TEXT_FIELD", "Prompt", "PromptRenderer", "RenderedPrompt", "Span", "Turn", "mark_turns"]
