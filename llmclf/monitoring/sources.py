"""Where decisions come from: a log, or a table that `llmclf label` or `llmclf predict` wrote."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd

from ..arrays import Floats
from ..errors import InputError
from ..numerics.class_matching import as_code, match_classes
from ..tables.endings import check_suffix
from ..tables.formats import read_chunks
from ..tables.predictions import read_number
from ..tables.text_files import USUAL_TEXT, TextFormat
from ..tables.values import is_missing
from .decision_log import DecisionLog, LogPosition, logs_in
from .decisions import NO_LABEL, UNKNOWN, DecisionColumns, joined

_FAILED = "failed"
_ROUNDING = 1e-6


class DecisionSource(Protocol):
    """Decisions that can be read from the beginning, from where one was, or by their ids."""

    def __str__(self) -> str:
        """What it is called in a report."""
        ...

    def new_rows(self) -> Iterator[DecisionColumns]:
        """Rows that were not read yet, in blocks, in their order."""
        ...

    def find(self, ids: Sequence[str]) -> DecisionColumns:
        """The decisions of some ids, in their order; an id may have several, or none."""
        ...


class LogSource:
    """Decisions of one certificate in a log; those of several models follow each other.

    Parameters
    ----------
    logs : sequence of DecisionLog
        All with the same classes.
    """

    def __init__(self, logs: Sequence[DecisionLog]) -> None:
        self._logs = tuple(logs)
        self._positions = [LogPosition() for _ in self._logs]

    def __str__(self) -> str:
        return str(self._logs[0].folder)

    @property
    def models(self) -> list[str]:
        """The models that have answered."""
        return [log.model for log in self._logs]

    def new_rows(self) -> Iterator[DecisionColumns]:
        for place, log in enumerate(self._logs):
            for rows, position in log.chunks(self._positions[place]):
                self._positions[place] = position
                yield rows

    def find(self, ids: Sequence[str]) -> DecisionColumns:
        return joined([log.find(ids) for log in self._logs], len(self._logs[0].classes))


class TableSource:
    """Decisions in a table with the columns that `llmclf label` adds.

    Parameters
    ----------
    table : DataFrame or path
        A .csv, .tsv, .jsonl or .parquet file; it is read in pieces.
    classes : sequence of K
    id_column : str
    prefix : str
        Begins the names of the added columns.
    text_format : TextFormat
        Of a file.
    """

    def __init__(
        self,
        table: pd.DataFrame | str | os.PathLike[str],
        classes: Sequence[Any],
        *,
        id_column: str = "id",
        prefix: str = "",
        text_format: TextFormat = USUAL_TEXT,
    ) -> None:
        self._table = table
        self._classes = tuple(classes)
        self._id_column = id_column
        self._prefix = prefix
        self._text_format = text_format
        self._is_read = False

    def __str__(self) -> str:
        return "a table" if isinstance(self._table, pd.DataFrame) else os.fspath(self._table)

    def new_rows(self) -> Iterator[DecisionColumns]:
        if not self._is_read:
            yield from self._all_rows()
            self._is_read = True

    def find(self, ids: Sequence[str]) -> DecisionColumns:
        wanted = set(ids)
        parts = [rows.take([one in wanted for one in rows.ids]) for rows in self._all_rows()]
        return joined(parts, len(self._classes))

    def _all_rows(self) -> Iterator[DecisionColumns]:
        if isinstance(self._table, pd.DataFrame):
            yield self._columns(self._table, 0)
            return
        start = 0
        for frame in read_chunks(Path(self._table), check_suffix(self._table), text=self._text_format):
            yield self._columns(frame, start)
            start += len(frame)

    def _columns(self, frame: pd.DataFrame, start: int) -> DecisionColumns:
        prefix, n = self._prefix, len(frame)
        names = {name: f"{prefix}{name}" for name in ("label", "accepted", "label_mass", "undecided", "error")}
        of_classes = {str(one): f"{prefix}p_{one}" for one in self._classes}
        needed = [names["label"], *of_classes.values(), self._id_column]
        absent = [name for name in needed if name not in frame.columns]
        if absent:
            raise InputError(
                f"{self} has no column {absent[0]!r}, which llmclf label writes; its columns: "
                f"{', '.join(map(repr, frame.columns))}"
                + ("; name the column of ids with id_column= (--id-column)" if absent == [self._id_column] else "")
            )

        def numbers(name: str) -> Any:
            if name not in frame.columns:
                return np.full(n, np.nan)
            return np.array([read_number(value, name, start + row) for row, value in enumerate(frame[name])])

        def truths(name: str) -> list[bool | None]:
            if name not in frame.columns:
                return [None] * n
            return [_truth(value, name, start + row) for row, value in enumerate(frame[name])]

        labels = np.full(n, NO_LABEL, dtype=np.int64)
        answered = [row for row, value in enumerate(frame[names["label"]]) if not _is_blank(value)]
        values = [frame[names["label"]].iloc[row] for row in answered]
        labels[answered] = match_classes(values, self._classes, is_y=False) if values else []
        proba = np.column_stack([numbers(name) for name in of_classes.values()])
        mass = numbers(names["label_mass"])
        _check_shares(of_classes.values(), proba, start)
        _check_shares([names["label_mass"]], mass[:, None], start)
        blank = np.flatnonzero((labels != NO_LABEL) & np.isnan(proba).any(axis=1))
        if len(blank):
            row = int(blank[0])
            column = list(of_classes.values())[int(np.isnan(proba[row]).argmax())]
            raise InputError(
                f"column {column!r}, row {start + row} is empty, and the row has a label; expected probabilities of all classes"
            )
        errors = frame[names["error"]].tolist() if names["error"] in frame.columns else [None] * n
        return DecisionColumns(
            tuple(id_text(value) for value in frame[self._id_column]),
            np.full(n, np.nan),
            labels,
            proba,
            np.array([UNKNOWN if one is None else one for one in truths(names["accepted"])], dtype=np.int8),
            mass,
            np.array([one is True for one in truths(names["undecided"])], dtype=np.bool_),
            # What a table says of an error may quote its text.
            tuple(None if _is_blank(error) else _FAILED for error in errors),
        )


def source_of(
    log: Any, classes: Sequence[Any], certificate: str | None, table_options: Mapping[str, Any]
) -> DecisionSource:
    """A log, its folder, a table or its file as a source of decisions.

    Raises
    ------
    InputError
        It holds no decisions, or those of another certificate or of other classes.
    """
    if isinstance(log, DecisionLog):
        if log.certificate != certificate:
            raise InputError(
                f"{log!r} has decisions made under another certificate than {certificate}; give the log or the certificate that "
                "belongs to the other"
            )
        _check_classes(log, classes)
        return LogSource([log])
    if isinstance(log, pd.DataFrame):
        return TableSource(log, classes, **table_options)
    if not isinstance(log, (str, os.PathLike)):
        raise InputError(f"log={type(log).__name__}; expected a DecisionLog, its folder, a table, or its file")
    if Path(log).expanduser().is_file():
        return TableSource(Path(log).expanduser(), classes, **table_options)
    logs = logs_in(log)
    chosen = [one for one in logs if one.certificate == certificate]
    if not chosen:
        there = ", ".join(sorted({"no certificate" if one.certificate is None else one.certificate for one in logs}))
        raise InputError(
            f"the decision log {os.fspath(log)!r} has no decisions made under the certificate {certificate}; it has those of: "
            f"{there}. Give the folder of the classifier as it was when it made them"
        )
    for one in chosen:
        _check_classes(one, classes)
    return LogSource(chosen)


def id_text(value: Any) -> str:
    """An id as a text: a whole number that a table keeps as 7.0 is the 7 of the log.

    Examples
    --------
    >>> id_text(7.0), id_text("7"), id_text("007")
    ('7', '7', '007')
    """
    if is_missing(value):
        return ""
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        return str(int(value))
    return str(value)


def _check_classes(log: DecisionLog, classes: Sequence[Any]) -> None:
    if tuple(log.classes) != tuple(classes):
        raise InputError(f"{log!r} has the classes {list(log.classes)!r}, and the certificate {list(classes)!r}")


def _is_blank(value: Any) -> bool:
    return is_missing(value) or (isinstance(value, str) and not value.strip())


def _check_shares(names: Iterable[str], values: Floats, start: int) -> None:
    """Refuse percentages and other numbers (n, columns) that are no probabilities; NaN is unknown."""
    for column, name in enumerate(names):
        # Sums of rounded numbers may pass 1 by their last digit.
        wrong = np.flatnonzero((values[:, column] < 0) | (values[:, column] > 1 + _ROUNDING))
        if len(wrong):
            row = int(wrong[0])
            raise InputError(
                f"column {name!r}, row {start + row}: {float(values[row, column]):g}; expected a probability, from 0 to 1"
            )


def _truth(value: Any, column: str, row: int) -> bool | None:
    if _is_blank(value):
        return None
    code = as_code(value)
    if code not in (0, 1):
        raise InputError(f"column {column!r}, row {row}: {value!r} is neither True nor False")
    return bool(code)
