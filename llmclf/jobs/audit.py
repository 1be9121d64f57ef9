"""The rows of a job's output that people are to check: drawn with known probabilities from what the journal holds.

The answers of all rows are known when the output is written. They are read twice: once to count rows by class and confidence,
from which the design follows, and once to write them. Between the two readings only the counts and the places drawn are kept,
so memory does not grow with the table.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ..arrays import Floats
from ..checks import check_whole_number
from ..estimation.designs import StratifiedDesign, stratified_design
from ..estimation.draws import StratifiedDraw
from ..estimation.goals import CellCounts, Goal
from ..estimation.next_rows import UNIFORM_SHARE

COLUMNS = {"audit": "bool", "audit_inclusion": "float", "audit_stratum": "str"}
"""The columns that say which rows to check: whether this one is drawn, with what probability, and in which stratum."""


@dataclass(frozen=True)
class Audit:
    """What rows of an output are to be checked.

    Attributes
    ----------
    n_rows : int
        How many, at least 1; all, if the table has fewer.
    goal : Goal
        What the labels are for; see `llmclf.estimation.next_rows`.
    seed : int
    part : str
        Begins the names of the strata: a part of a table is drawn from by itself.
    """

    n_rows: int
    goal: Goal
    seed: int = 0
    part: str = ""

    @classmethod
    def checked(cls, n_rows: Any, goal: Any, seed: Any, part: str = "") -> Audit:
        """The audit that a caller names.

        Raises
        ------
        InputError
        """
        return cls(
            check_whole_number("audit", n_rows, 1), Goal.checked(goal), check_whole_number("audit_seed", seed, 0), part
        )

    def draw(self, pieces: Iterable[Floats], n_classes: int) -> AuditDraw:
        """The draw from a table, by the probabilities of its pieces (n, K)."""
        counts = CellCounts.empty(self.goal.n_cells(n_classes))
        for proba in pieces:
            cells, variance = self.goal.read(proba)
            counts.add(cells, variance, proba.max(axis=1))
        total = int(counts.rows.sum())
        design = stratified_design(counts, self.goal, min(self.n_rows, total), uniform_share=UNIFORM_SHARE)
        return AuditDraw(self, design)


class AuditDraw:
    """The rows drawn from a table, which is read from top to bottom."""

    def __init__(self, audit: Audit, design: StratifiedDesign) -> None:
        self._audit = audit
        self._draw = StratifiedDraw(design, np.random.default_rng(audit.seed))
        self._names = np.array([f"{audit.part}{number}" for number in range(len(design.rows))], dtype=object)

    def columns(self, proba: Floats) -> dict[str, Any]:
        """What the next rows (n,) of the table get, by their probabilities (n, K): see `COLUMNS`."""
        cells, _ = self._audit.goal.read(proba)
        chosen, inclusion, strata = self._draw.read(cells)
        return {
            "audit": chosen,
            "audit_inclusion": inclusion,
            "audit_stratum": pd.Series(self._names[strata], dtype=object),
        }
