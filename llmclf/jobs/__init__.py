"""Labelling jobs: a table of any size, any backend, nothing lost and nothing paid for twice.

May import ``loading``, ``classifier`` and what lies below them, but neither ``inspector`` nor ``cli``. Another way to ask
goes into ``jobs.asking``, another kind of table into ``jobs.tables``, another argument of a job into ``api``.
"""

from .api import JobResult, estimate_table, label_table
from .estimate import JobEstimate
from .summary import Summary

__all__ = ["JobEstimate", "JobResult", "Summary", "estimate_table", "label_table"]
