"""What asks a job's questions: this process, a server's Batch API, or actors on a Ray cluster.

Users import ``BatchAsking`` from ``batches`` and ``RayAsking`` from ``ray``; the rest is internal. May import ``backends``,
``pipeline``, ``jobs.recipe`` and ``jobs.journal.plan``. Another way to ask is one more module with an ``Asking``.
"""
