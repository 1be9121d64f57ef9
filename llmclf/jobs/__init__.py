"""Labelling jobs: a table of any size, any backend, nothing lost and nothing paid for twice."""

from .api import JobResult, estimate_table, label_table
from .estimate import JobEstimate
from .summary import Summary

__all__ = ["JobEstimate", "JobResult", "Summary", "estimate_table", "label_table"]
