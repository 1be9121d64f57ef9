"""Internal: where a job's rows come from and where they go: files, data frames and SQL tables.

May import ``tables``, ``atomic_files`` and ``jobs.questions``, but no other part of ``jobs``. Another kind of table is one
more source or sink.
"""
