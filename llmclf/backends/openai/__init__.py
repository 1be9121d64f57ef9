"""Models behind servers: the probe finds out what a server tells, and a route turns that into label scores.

Most servers speak OpenAI's protocols; chats go through a wire, so that others are asked as well. Users import `OpenAIBackend`
and `ProviderBackend`; the rest is internal. May import ``backends.wires``, ``backends.answers``, ``backends.http``,
``backends.tokens`` and the modules directly in ``backends``, neither ``local`` nor ``decisions``. Another way to a label's
log-probability is one more module in ``routes``.
"""

from .backend import OpenAIBackend, ProviderBackend

__all__ = ["OpenAIBackend", "ProviderBackend"]
