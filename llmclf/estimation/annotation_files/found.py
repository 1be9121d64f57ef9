"""What a file of annotations says, before anything is known to be right."""

from __future__ import annotations

from typing import Any, NamedTuple


class Found(NamedTuple):
    """One annotator's label of a row, as a file has it.

    Attributes
    ----------
    where : str
        The place in the file, for messages.
    id : object
        The row's id.
    inclusion, stratum : object
        The row's inclusion probability and stratum; None where the file does not repeat them.
    annotator : str or None
    label : object
        None where there is none.
    """

    where: str
    id: Any
    inclusion: Any
    stratum: Any
    annotator: str | None
    label: Any
