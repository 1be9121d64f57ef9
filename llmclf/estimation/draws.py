"""Which rows a stratified design draws, read piece by piece: the same ones whatever the size of the pieces."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..arrays import Floats, Integers
from .designs import StratifiedDesign


class StratifiedDraw:
    """A simple random sample of each stratum of a table that is read from top to bottom.

    Which places in its stratum are drawn is decided beforehand, so memory grows with the number of rows drawn, and not with that
    of the table.

    Parameters
    ----------
    design : StratifiedDesign
    generator : numpy Generator

    Examples
    --------
    >>> design = StratifiedDesign(np.array([0, 1]), np.array([3, 2]), np.array([1, 2]))
    >>> draw = StratifiedDraw(design, np.random.default_rng(0))
    >>> chosen, inclusion, strata = draw.read(np.array([0, 1, 0, 1, 0]))
    >>> int(chosen.sum()), chosen[[1, 3]].tolist(), inclusion.round(2).tolist()
    (3, [True, True], [0.33, 1.0, 0.33, 1.0, 0.33])
    """

    def __init__(self, design: StratifiedDesign, generator: np.random.Generator) -> None:
        self.design = design
        self._places = [
            np.sort(generator.choice(int(rows), size=int(drawn), replace=False, shuffle=False))
            for rows, drawn in zip(design.rows, design.drawn, strict=True)
        ]
        self._read = np.zeros(len(design.rows), dtype=np.int64)

    def read(self, cells: Integers) -> tuple[NDArray[np.bool_], Floats, Integers]:
        """Of the next rows (n,) of the table, by their cells: whether they are drawn, with what probability, their stratum."""
        strata = self.design.stratum[cells]
        chosen = np.zeros(len(cells), dtype=bool)
        for stratum in np.unique(strata):
            members = np.flatnonzero(strata == stratum)
            start = self._read[stratum]
            places = self._places[stratum]
            first, last = np.searchsorted(places, [start, start + len(members)])
            chosen[members[places[first:last] - start]] = True
            self._read[stratum] += len(members)
        return chosen, self.design.inclusion[strata], strata
