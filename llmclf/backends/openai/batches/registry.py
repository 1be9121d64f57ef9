"""The protocols for batches, by the wire that a provider speaks."""

from __future__ import annotations

from .endpoints import BatchEndpoints
from .file_batches import FileBatches
from .message_batches import MessageBatches

BATCHES: dict[str, type[BatchEndpoints]] = {
    "chat": FileBatches,
    "responses": FileBatches,
    "anthropic": MessageBatches,
}
