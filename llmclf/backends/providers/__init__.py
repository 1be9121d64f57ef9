"""The providers that a model string may name: where each is, which key it takes, which protocol it speaks, and its quirks.

It may import ``errors`` alone. Another provider is one more entry in ``table``; what it really does, the probe finds out.
"""

from .provider import Endpoint, Provider
from .table import PROVIDERS

__all__ = ["PROVIDERS", "Endpoint", "Provider"]
