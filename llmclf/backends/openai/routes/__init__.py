"""Internal: the ways to a label's log-probability on an OpenAI-compatible server, one module each.

May import ``backends.http``, ``backends.tokens`` and the probe. Add a route as one more module with one class, and register it.
"""
