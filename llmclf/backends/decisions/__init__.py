"""Decision models behind ``/v1/systemone`` or ``/v1/decisions``: servers that state probabilities of options.

Users import `SystemOneBackend` and `DecisionsBackend`; the rest is internal. May import ``backends.http`` and the modules
directly in ``backends``, neither ``local`` nor ``openai``. Another wire format is one more class in ``protocols``.
"""

from .backend import DecisionsBackend, SystemOneBackend

__all__ = ["DecisionsBackend", "SystemOneBackend"]
