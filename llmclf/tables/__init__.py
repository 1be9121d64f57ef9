"""Internal: rows of any table that a user may hold, and table files (CSV, JSON Lines, Parquet), read without guessing.

May import ``prompts``, ``atomic_files`` and ``errors``. Another file format goes into ``formats``.
"""

from .rows import Row, Rows, check_fields, read_rows
from .values import is_missing, json_value, plain

__all__ = ["Row", "Rows", "check_fields", "is_missing", "json_value", "plain", "read_rows"]
