"""Members of a pool judged on rows that they have not seen, strengths included."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ...arrays import Floats, Integers
from ...errors import InputError
from .members import FittedMember, Labelled, Member, Observed

_PATIENCE = 2  # strengths in a row that may be worse than the best before the search for a better one ends


class CrossFits:
    """Members fitted on the rows outside of folds, each fit once, and what they say of the rows inside.

    Parameters
    ----------
    labelled : Labelled
    folds : ndarray of int (n,)
        The fold of each row.
    """

    def __init__(self, labelled: Labelled, folds: Integers) -> None:
        self.labelled = labelled
        self.folds = folds
        self.numbers = tuple(np.unique(folds).tolist())
        self._training: dict[tuple[int, ...], Labelled] = {}
        self._inside: dict[tuple[int, ...], Observed] = {}
        self._paths: dict[tuple[str, tuple[int, ...]], Iterator[FittedMember]] = {}
        self._known: dict[tuple[str, tuple[int, ...]], list[Floats]] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Without what can be fitted again: half-walked paths have no other form."""
        return {**vars(self), "_training": {}, "_inside": {}, "_paths": {}, "_known": {}}

    def inside(self, numbers: tuple[int, ...]) -> Integers:
        """The rows of some folds."""
        return np.flatnonzero(np.isin(self.folds, numbers))

    def log_proba(self, member: Member, without: tuple[int, ...], step: int) -> Floats | None:
        """What a member fitted without some folds says of the rows inside of them; None where it has no such step."""
        key = member.name, without
        if without not in self._training:
            self._training[without] = self.labelled.take(np.flatnonzero(~np.isin(self.folds, without)))
            self._inside[without] = self.labelled.rows.take(self.inside(without))
        if key not in self._paths:
            self._paths[key], self._known[key] = member.path(self._training[without]), []
        known = self._known[key]
        while len(known) <= step:
            try:
                fitted = next(self._paths[key], None)
            except InputError:
                del self._paths[key], self._known[key]  # a path that failed has ended, which must not look like its end
                raise
            if fitted is None:
                return None
            known.append(fitted.log_proba(self._inside[without]))
        return known[step]

    def judged(self, member: Member, outside: tuple[int, ...] = ()) -> tuple[int, Floats]:
        """The best strength of a member in the world without the folds `outside`, and what it says there of each row.

        Parameters
        ----------
        member : Member
        outside : tuple of at most one fold

        Returns
        -------
        step : int
        log_proba : ndarray (n, K)
            Each row's from a fit without its fold; NaN in the rows outside.
        """
        columns, weights = self.labelled.columns, self.labelled.weights
        inner = [number for number in self.numbers if number not in outside]
        best: tuple[float, int, Floats] | None = None
        step = 0
        while True:
            logs = np.full((len(columns), self.labelled.classes.size), np.nan)
            for number in inner:
                without = tuple(sorted({number, *outside}))
                found = self.log_proba(member, without, step)
                if found is None:
                    assert best is not None
                    return best[1], best[2]
                rows = self.inside(without)
                own = self.folds[rows] == number
                logs[rows[own]] = found[own]
            seen = ~np.isin(self.folds, outside)
            loss = -float(weights[seen] @ logs[seen, columns[seen]]) / float(weights[seen].sum())
            if best is None or loss < best[0]:
                best = loss, step, logs
            elif step - best[1] >= _PATIENCE:
                return best[1], best[2]
            step += 1
