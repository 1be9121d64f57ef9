"""Internal: what asks a job's questions: this process, a server's Batch API, or actors on a Ray cluster.

May import ``backends`` and ``jobs.questions``. Another way to ask is one more module with an ``Asking``.
"""
