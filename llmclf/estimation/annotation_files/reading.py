"""Reading annotated rows back, with every fault named by its row."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ...checks import is_number
from ...errors import InputError
from ...files.bounded_json import parsed_json
from ...files.faults import file_fault
from ...numerics.class_matching import match_classes
from ...tables.array_arguments import as_numbers, class_list
from ...tables.files import read_table
from ...tables.text_files import TextFormat
from ...tables.values import is_missing
from .forms import PLATFORMS, check_frame, form_of
from .found import Found
from .platforms import argilla_found, label_studio_found

_FOUND = {"label-studio": label_studio_found, "argilla": argilla_found}
_MOST_SHOWN = 10
_TOLERANCE = 1e-6  # a spreadsheet keeps fewer digits
_HEADED = (".csv", ".tsv")


@dataclass(frozen=True, eq=False)
class Annotations:
    """Labels by hand of drawn rows.

    Attributes
    ----------
    frame : DataFrame
        A line per label: ``item`` (the row's number among those drawn), ``id``, ``annotator`` and ``label``.
    drawn : DataFrame
        A line per row that was drawn: ``id``, ``inclusion`` and ``stratum``.
    classes : tuple
    """

    frame: pd.DataFrame
    drawn: pd.DataFrame
    classes: tuple[Any, ...]

    @property
    def n_rows(self) -> int:
        """How many rows were drawn."""
        return len(self.drawn)

    @property
    def unlabelled(self) -> list[int]:
        """The numbers, among the rows drawn, of those that nobody labelled."""
        return sorted(set(range(self.n_rows)) - set(self.frame["item"].tolist()))

    def labels(self) -> list[Any]:
        """One label per drawn row: that of its annotators, or of most of them; None where nobody labelled it.

        Raises
        ------
        InputError
            No label has the most votes; the message names the rows, for somebody to decide.

        Examples
        --------
        >>> lines = pd.DataFrame({"item": [0, 0, 0, 1], "id": [7, 7, 7, 8], "annotator": list("abca"), "label": list("xxyy")})
        >>> drawn = pd.DataFrame({"id": [7, 8, 9], "inclusion": 0.1, "stratum": 0})
        >>> Annotations(lines, drawn, ("x", "y")).labels()
        ['x', 'y', None]
        """
        result: list[Any] = [None] * self.n_rows
        ties = []
        for item, lines in self.frame.groupby("item", sort=True):
            votes = lines["label"].value_counts(sort=False)
            first = votes[votes == votes.max()].index.tolist()
            if len(first) > 1:
                ties.append(f"{lines['id'].iloc[0]!r} ({' and '.join(map(repr, first))})")
            result[int(item)] = first[0]
        if ties:
            raise InputError(
                f"{len(ties)} rows have no label that most annotators gave, with the ids {_listed(ties)}; have somebody "
                f"decide, and "
                "write one label for each"
            )
        return result


def read_annotations(
    path: str | os.PathLike[str],
    drawn: pd.DataFrame | None = None,
    *,
    classes: Sequence[Any],
    form: str | None = None,
    text_format: TextFormat | None = None,
) -> Annotations:
    """Read the labels of drawn rows from an annotated file.

    A row that stands in the file without a label, or not at all, is not labelled. A table may have a column ``annotator``; then
    a row may stand in it once for each annotator. Exports of Label Studio may be JSON or JSON-MIN; annotations that were
    cancelled do not count, nor do responses that are drafts or discarded in Argilla.

    Parameters
    ----------
    path : path
    drawn : DataFrame, optional
        The rows as they were drawn, from `NextRows.to_frame`. None: those that the file holds, with the inclusion probabilities
        in it; what has changed there, or is no longer there, cannot be told then.
    classes : sequence (K,)
        A label in the file may have changed its type on the way: the text "1" is the class 1.
    form : {"label-studio", "argilla"}, optional
        Of a ``.json`` file.
    text_format : TextFormat, optional
        Of a CSV file from a spreadsheet: its delimiter and encoding, and whether formulas were escaped.

    Returns
    -------
    Annotations

    Raises
    ------
    InputError
        Ids that were not drawn, labels that are no classes, inclusion probabilities that have changed, a row that one annotator
        labelled twice: all of them, each with its place in the file: the row that a spreadsheet shows, with the header as row 1,
        or the line, task or record, from 1. Or the file cannot be read, lacks inclusion probabilities, or holds no label at all.

    Examples
    --------
    >>> import tempfile
    >>> from llmclf.estimation import next_rows
    >>> drawn = next_rows([[0.9, 0.1], [0.5, 0.5]], 2, random_state=0).to_frame()
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(f"{folder}/rows.csv").write_text("id,label,inclusion\\n1,bad,1.0\\n0,good,1.0\\n")
    ...     read_annotations(f"{folder}/rows.csv", drawn, classes=["good", "bad"]).labels()
    ['good', 'bad']
    """
    if drawn is not None:
        check_frame(drawn)
    known = class_list(classes)
    kind = form_of(path, form)
    found = list(_of_platform(path, kind) if kind in PLATFORMS else _of_table(path, text_format))
    if drawn is None:
        drawn = _drawn_in(found, path)
    place_of = {str(one): i for i, one in enumerate(drawn["id"].tolist())}
    inclusion = as_numbers(drawn["inclusion"], "inclusion")
    ids = drawn["id"].tolist()
    faults: list[str] = []
    first_of: dict[tuple[int, str | None], str] = {}
    lines = []
    for one in found:
        item = place_of.get(id_text(one.id))
        if item is None:
            faults.append(f"{one.where}: the id {_plain(one.id)!r} is not that of a row that was drawn")
            continue
        if not is_missing(one.inclusion) and not _is_same(one.inclusion, inclusion[item]):
            faults.append(
                f"{one.where}: the inclusion probability of {ids[item]!r} is {_plain(one.inclusion)!r}, and it was drawn with "
                f"{inclusion[item]:.9g}"
            )
        if is_missing(one.label) or not str(one.label).strip():
            continue
        label = one.label.strip() if isinstance(one.label, str) else one.label
        try:
            column = int(match_classes([label], known, is_y=False)[0])
        except InputError:
            faults.append(f"{one.where}: the label {_plain(one.label)!r} of {ids[item]!r} is not one of {known!r}")
            continue
        if (item, one.annotator) in first_of:
            who = "" if one.annotator is None else f" by {one.annotator!r}"
            faults.append(f"{one.where}: {ids[item]!r} is labelled{who} already, at {first_of[item, one.annotator]}")
            continue
        first_of[item, one.annotator] = one.where
        lines.append((item, ids[item], one.annotator, known[column]))
    if faults:
        header = " (row 1 is the header)" if Path(path).suffix.lower() in _HEADED else ""
        how_many = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
        raise InputError(f"{str(path)!r} has {how_many}{header}: {_listed(faults)}")
    if not lines:
        raise InputError(f"{str(path)!r} holds no label; expected one for each row that was annotated")
    frame = pd.DataFrame(lines, columns=["item", "id", "annotator", "label"])
    frame["label"] = pd.Series([label for *_, label in lines], dtype=object)
    return Annotations(frame, drawn[["id", "inclusion", "stratum"]].reset_index(drop=True), tuple(known))


def _drawn_in(found: Sequence[Found], path: str | os.PathLike[str]) -> pd.DataFrame:
    """The rows that a file holds, as it says that they were drawn.

    Raises
    ------
    InputError
        The probability of a row is missing, or none.
    """
    rows: dict[str, Found] = {}
    for one in found:
        key = id_text(one.id)
        if key not in rows or is_missing(rows[key].inclusion):
            rows[key] = one
    inclusion = [_probability(one.inclusion) for one in rows.values()]
    bad = [one for one, pi in zip(rows.values(), inclusion, strict=True) if not 0.0 < pi <= 1.0]
    if bad:
        raise InputError(
            f"{str(path)!r}, {bad[0].where}: the inclusion probability of {_plain(bad[0].id)!r} is "
            f"{_plain(bad[0].inclusion)!r}, and of {len(bad) - 1} more it is none either; expected the file that was written for "
            "the draw, with its column inclusion, filled in"
        )
    strata = [id_text(one.stratum) for one in rows.values()]
    return pd.DataFrame({"id": list(rows), "inclusion": inclusion, "stratum": strata})


def _of_table(path: str | os.PathLike[str], text_format: TextFormat | None) -> Iterator[Found]:
    frame = read_table(path, text_format or TextFormat())
    absent = [name for name in ("id", "label") if name not in frame.columns]
    if absent:
        raise InputError(
            f"{str(path)!r} has no column {absent[0]!r}; its columns are {', '.join(map(repr, frame.columns))}. A spreadsheet "
            "may have saved it with another delimiter"
        )
    nothing = [None] * len(frame)
    names = ("id", "inclusion", "stratum", "annotator", "label")
    columns = [frame[name].tolist() if name in frame.columns else nothing for name in names]
    suffix = Path(path).suffix.lower()
    word, first = ("row", 2) if suffix in _HEADED else ("line" if suffix == ".jsonl" else "row", 1)
    for number, (row_id, inclusion, stratum, annotator, label) in enumerate(zip(*columns, strict=True)):
        # Cells of a CSV file are texts, of which an empty one says nothing.
        given = None if isinstance(inclusion, str) and not inclusion.strip() else inclusion
        who = None if is_missing(annotator) or not str(annotator).strip() else str(annotator).strip()
        yield Found(f"{word} {first + number}", row_id, given, stratum, who, label)


def _of_platform(path: str | os.PathLike[str], kind: str) -> Iterator[Found]:
    file = Path(path).expanduser()
    fault = file_fault(file) if file.exists() else "does not exist"
    if fault is not None:
        raise InputError(f"{str(path)!r} {fault}")
    try:
        value = parsed_json(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise InputError(f"{str(path)!r} cannot be read as JSON: {error}") from error
    if not isinstance(value, list):
        raise InputError(f"{str(path)!r} holds {type(value).__name__}; expected a list, as {kind} exports it")
    yield from _FOUND[kind](value)


def id_text(value: Any) -> str:
    """An id as text, by which files and tables agree; a spreadsheet or a data frame may have made 7.0 of 7."""
    value = _plain(value)
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _is_same(given: Any, drawn: float) -> bool:
    number = _probability(given)
    return is_number(number) and math.isclose(number, drawn, rel_tol=_TOLERANCE)


def _probability(given: Any) -> float:
    """The number in a cell, where a spreadsheet may have written a decimal comma; NaN if there is none."""
    try:
        return float(given) if not isinstance(given, str) else float(given.replace(",", "."))
    except (TypeError, ValueError):
        return math.nan


def _listed(faults: Sequence[str]) -> str:
    shown = "; ".join(faults[:_MOST_SHOWN])
    return f"{shown}; and {len(faults) - _MOST_SHOWN} more" if len(faults) > _MOST_SHOWN else shown
