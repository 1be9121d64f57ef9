"""OpenAI-compatible servers: the probe finds out what a server tells, and a route turns that into label scores.

Users import `OpenAIBackend`; the rest is internal. May import ``backends.http``, ``backends.tokens``, ``backends.answers`` and
the modules directly in ``backends``, neither ``local`` nor ``decisions``. Another way to a label's log-probability is one more
module in ``routes``.
"""

from .backend import OpenAIBackend

__all__ = ["OpenAIBackend"]
