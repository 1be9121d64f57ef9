"""Internal: rows asked about through a server's Batch API, so that nothing that was submitted is lost or paid for twice.

May import ``backends.http``, ``backends.base`` and ``errors``, but no route: the connection hands it the requests to send.
Another provider's protocol is a subclass of `endpoints.BatchEndpoints` in a module of its own, and its line in ``registry``.
"""

from .options import BatchOptions
from .store import BatchStore

__all__ = ["BatchOptions", "BatchStore"]
