"""The names of columns that are added to a table, which may have columns of these names already."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import ColumnNameWarning, InputError, warn

STAND_IN = "predicted_"
"""Begins the name of an added column whose own name is taken."""
CERTIFICATE = "certificate"
"""The column with the id of the certificate under which rows were decided, where there is one."""
PER_CLASS = ("p_", "logprob_")
"""Begin the names of columns that belong to a class, by which a report knows them."""


def added_names(taken: Sequence[str], added: Sequence[str], *, prefix: str | None, where: str) -> dict[str, str]:
    """What each added column is called.

    Parameters
    ----------
    taken : sequence of str
        The columns of the table.
    added : sequence of str
        The columns to be added.
    prefix : str or None
        Begins the name of every added column. None leaves the names as they are, and calls a column ``predicted_NAME`` whose name
        is taken; ``p_CLASS`` and ``logprob_CLASS`` keep their names, since two sets of them could be confused.
    where : str
        The table, for messages.

    Raises
    ------
    InputError
        A name is taken or would be given twice.

    Warns
    -----
    ColumnNameWarning
        A column was given another name.

    Examples
    --------
    >>> added_names(["text"], ["label", "p_a"], prefix="new_", where="in.csv")
    {'label': 'new_label', 'p_a': 'new_p_a'}
    """
    twice = [name for i, name in enumerate(added) if name in added[:i]]
    if twice:
        raise InputError(f"two columns of the name {twice[0]!r} would be added; rename the class behind it")
    names = {name: f"{prefix or ''}{name}" for name in added}
    own = [name for name in added if prefix is None and name in taken and not name.startswith(PER_CLASS)]
    names |= {name: f"{STAND_IN}{name}" for name in own}
    clashes = [new for new in names.values() if new in taken or list(names.values()).count(new) > 1]
    if clashes:
        raise InputError(
            f"{where} already has a column {clashes[0]!r}, which would be added; name the new columns with prefix= "
            "(--prefix new_), or rename or drop it first"
        )
    if own:
        renamed = ", ".join(f"{name!r} is called {names[name]!r}" for name in own)
        warn(
            f"{where} has columns of these names already, so the new column {renamed}; prefix= (--prefix) names them otherwise",
            ColumnNameWarning,
        )
    return names
