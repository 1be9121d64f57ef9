"""Labelling jobs: a table of any size, any backend, nothing lost and nothing paid for twice.

May import ``loading``, ``classifier`` and what lies below them, but neither ``inspector`` nor ``cli``. Another way to ask
goes into ``jobs.asking``, another kind of table into ``jobs.tables``, another argument of a job into ``api``.
"""

from .api import JobResult, estimate_table, label_table
from .estimate import JobEstimate
from .journal.exporting import export_journal
from .journal.inspection import JournalReport, check_journal
from .journal.merging import Merged, merge_journals
from .journal.salvaging import Salvaged, salvage_journal
from .summary import Summary

__all__ = [
    "JobEstimate",
    "JobResult",
    "JournalReport",
    "Merged",
    "Salvaged",
    "Summary",
    "check_journal",
    "estimate_table",
    "export_journal",
    "label_table",
    "merge_journals",
    "salvage_journal",
]
