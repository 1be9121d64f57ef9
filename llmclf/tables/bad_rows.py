"""Rows that a model cannot be asked about: why, and one error that names them all."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from ..errors import InputError, type_of
from .values import is_missing, rows_named

N_NAMED = 10
"""How many rows an error names; it counts the others."""

_KINDS = {
    "missing": "a missing value",
    "blank": "a blank text",
    "surrogate": "half of a surrogate pair, which is not a character",
    "infinite": "an infinite number",
    "other": "a row that cannot be asked about",
}
_CURE = "drop these rows or fill them in"
_CURES = {
    "surrogate": "clean them, for example with text.encode('utf-8', 'replace').decode()",
    "other": "mend or drop these rows",
}


class Problem(NamedTuple):
    """Why a row cannot be asked about.

    Attributes
    ----------
    kind : {"missing", "blank", "surrogate", "infinite", "type", "other"}
    reason : str
        As it is kept beside the row.
    shown : str
        The value, for an error that names the row.
    field : str or None
        Where the value stands, in a table.
    """

    kind: str
    reason: str
    shown: str
    field: str | None = None

    @property
    def without_field(self) -> Problem:
        """The same of a row that has one field only, whose name goes without saying."""
        return Problem(self.kind, self.reason, self.shown)


def value_problem(value: Any, name: str, *, is_text: bool) -> Problem | None:
    """Why a row with this value in the field `name` cannot be asked about; `is_text` asks for a text that is not blank.

    Examples
    --------
    >>> value_problem(" ", "review", is_text=True).reason
    "field 'review' is blank"
    >>> value_problem(" ", "review", is_text=False) is None
    True
    """
    if is_missing(value):
        return Problem("missing", f"field {name!r} is missing", _missing_name(value), name)
    if not isinstance(value, str):
        return None
    if is_text and (not value or value.isspace()):
        return Problem("blank", f"field {name!r} is blank", repr(value), name)
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            around = value[max(0, error.start - 20) : error.end + 20]
            reason = f"field {name!r} holds half of a surrogate pair, which is not a character, at {around!r}"
            return Problem("surrogate", reason, repr(around), name)
    return None


def text_problem(value: Any) -> Problem | None:
    """Why a member of a sequence of texts is not a text; None if it is one."""
    if is_missing(value):
        return Problem("missing", "the text is missing", _missing_name(value))
    if not isinstance(value, str):
        kind = type_of(value)
        return Problem("type", f"the text is {kind}; expected a str", f"{reprlib.repr(value)}, {kind}")
    return None


def check_problems(problems: Mapping[int, Problem], *, may_be_left_out: bool = True) -> None:
    """Refuse bad rows, if there are any: the error names the first of them, and says how many there are.

    Parameters
    ----------
    problems : mapping of row number -> Problem
    may_be_left_out : bool
        Whether the caller has an ``on_error``, which is then named as a cure.

    Raises
    ------
    InputError

    Examples
    --------
    >>> check_problems({1: text_problem(None), 4: text_problem(5)})
    Traceback (most recent call last):
    ...
    llmclf.errors.InputError: X contains a missing value (row 1: None); drop these rows or fill them in. Also, row 4 of X is 5, \
an int; expected a str. Texts must be strings in one dimension. Reshape your data to two dimensions if it is a table. Or leave \
bad rows out with on_error='missing'
    """
    if not problems:
        return
    alike: dict[tuple[str, str | None], dict[int, Problem]] = {}
    for number, problem in sorted(problems.items()):
        alike.setdefault((problem.kind, problem.field), {})[number] = problem
    parts = [_of_kind(kind, found) for (kind, _), found in alike.items()]
    cure = ". Or leave bad rows out with on_error='missing'" if may_be_left_out else ""
    raise InputError(". Also, ".join(parts) + cure)


def named_rows(reasons: Mapping[int, str]) -> str:
    """The first bad rows with their reasons, and how many more there are.

    Examples
    --------
    >>> named_rows({3: "field 'text' is missing", 7: "field 'text' is blank"})
    "row 3: field 'text' is missing; row 7: field 'text' is blank"
    """
    return _listed((f"row {number}: {reason}" for number, reason in sorted(reasons.items())), len(reasons), "; ")


def _of_kind(kind: str, found: Mapping[int, Problem]) -> str:
    """The bad rows of one kind and field."""
    (number, first), n = next(iter(found.items())), len(found)
    where = rows_named(list(found))
    if kind == "type":
        more = "" if n == 1 else f" (no texts are {where})"
        return (
            f"row {number} of X is {first.shown}; expected a str{more}. Texts must be strings in one dimension. Reshape your "
            "data to two dimensions if it is a table"
        )
    if kind == "other":
        shown = _listed((f"row {number}, {problem.shown}" for number, problem in found.items()), n, "; ")
        return f"X contains {_KINDS[kind]} ({shown}); {_CURES[kind]}"
    of_field = "" if first.field is None else f", field {first.field!r}"
    return f"X contains {_KINDS[kind]} ({where}{of_field}: {first.shown}); {_CURES.get(kind, _CURE)}"


def _listed(parts: Iterable[str], n: int, separator: str = ", ") -> str:
    shown = separator.join(islice(parts, N_NAMED))
    return shown if n <= N_NAMED else f"{shown}{separator}and {n - N_NAMED} more"


def _missing_name(value: Any) -> str:
    return "NaN" if isinstance(value, (float, np.floating)) else str(value)
