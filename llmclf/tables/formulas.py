"""Cells of a CSV file that a spreadsheet would run as formulas, and how they are written and read as the texts that they are."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..errors import FormulaWarning, warn

ESCAPE = "'"
"""Stands before a cell that a spreadsheet would run; spreadsheets take such a cell for text."""
_STARTS = frozenset("=+-@\t\r\n\0\uff1d\uff0b\uff0d\uff20")  # the last four are the wide forms of the first
_SUSPECTS = _STARTS | {ESCAPE}
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?%?|[+-]?(?:inf|infinity|nan)", re.I)


def is_formula(text: str) -> bool:
    """Whether a spreadsheet would run a cell, by its beginning; a number with a sign is a number.

    Examples
    --------
    >>> [is_formula(text) for text in ("=1+1", "@SUM(A1)", "-x", "-3.5", "+4e2", "a=b", "")]
    [True, True, True, False, False, False, False]
    """
    return text[:1] in _STARTS and not _NUMBER.fullmatch(text)


def escaped(text: str) -> str:
    """A cell with an apostrophe before it if a spreadsheet would run it, or if it looks as if it had been escaped already.

    Examples
    --------
    >>> print(escaped("=1+1"), escaped("'=1+1"), escaped("'tis"), escaped("-3"))
    '=1+1 ''=1+1 'tis -3
    """
    return ESCAPE + text if is_formula(text.lstrip(ESCAPE)) else text


def unescaped(text: str) -> str:
    """The inverse of `escaped`, for every text.

    Examples
    --------
    >>> print(unescaped("'=1+1"), unescaped("''=1+1"), unescaped("'tis"), unescaped("=1+1"))
    =1+1 '=1+1 'tis =1+1
    """
    return text[1:] if text[:1] == ESCAPE and is_formula(text.lstrip(ESCAPE)) else text


@dataclass
class FormulaCells:
    """What becomes of such cells in the CSV files that are written together, and how many there are.

    Parameters
    ----------
    escape : bool
        Whether an apostrophe is written before them.

    Attributes
    ----------
    count : int
        Cells that a spreadsheet would run, names of columns included.
    first : str
        Where the first of them is.
    file : str
        What is written now, where there are several files.
    """

    escape: bool = False
    count: int = 0
    first: str = ""
    file: str = ""

    def header(self, names: list[str]) -> list[str]:
        """The names of columns as they are written."""
        return self._written(names, lambda place: f"the name of the column {names[place]!r}")

    def column(self, name: Any, cells: list[Any], start: int) -> list[Any]:
        """The cells of a column as they are written; the first of them is in row `start`, counted from 0."""
        return self._written(cells, lambda place: f"row {start + place} of the column {name!r}")

    def warn(self, where: str) -> None:
        """Warn, once for all, of cells that were written as they are.

        Warns
        -----
        FormulaWarning
            Says how many there are, where the first is, and the cure.
        """
        if self.count and not self.escape:
            many = (
                "a cell that a spreadsheet would run as a formula"
                if self.count == 1
                else (f"{self.count} cells that a spreadsheet would run as formulas")
            )
            warn(
                f"{where} has {many} ({'' if self.count == 1 else 'the first: '}{self.first}); escape_formulas=True "
                "(--escape-formulas) writes an apostrophe before each, which unescape_formulas=True (--unescape-formulas) takes "
                "off again when the file is read",
                FormulaWarning,
            )

    def _written(self, cells: list[Any], where: Callable[[int], str]) -> list[Any]:
        suspects = [(place, text) for place, cell in enumerate(cells) if (text := _text(cell))[:1] in _SUSPECTS]
        if not suspects:
            return cells
        formulas = [place for place, text in suspects if is_formula(text)]
        if formulas and not self.count:
            self.first = where(formulas[0]) + (f" of {self.file!r}" if self.file else "")
        self.count += len(formulas)
        if self.escape:
            cells = list(cells)
            for place, text in suspects:
                cells[place] = escaped(text)
        return cells


def _text(cell: Any) -> str:
    """What is written of a cell; nothing of a plain number, which is no formula."""
    if type(cell) is str:
        return cell
    return "" if type(cell) in (int, float, bool) else str(cell)
