"""Labelling jobs: a table of any size, any backend, nothing lost and nothing paid for twice."""

from .estimate import JobEstimate
from .summary import Summary
from .table import JobResult, estimate_table, label_table

__all__ = ["JobEstimate", "JobResult", "Summary", "estimate_table", "label_table"]
