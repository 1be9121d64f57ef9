"""Decisions in a table that `llmclf label` or `llmclf predict` wrote."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..arrays import Floats
from ..errors import InputError
from ..files.bounded_json import parsed_json
from ..numerics.class_matching import as_code, match_classes
from ..tables.added_columns import CERTIFICATE, STAND_IN
from ..tables.endings import check_suffix
from ..tables.formats import read_chunks, read_metadata
from ..tables.predictions import read_number
from ..tables.text_files import USUAL_TEXT, TextFormat, other_delimiter
from ..tables.values import is_missing
from .decisions import NO_LABEL, UNKNOWN, DecisionColumns, joined
from .left_out import LeftOut, named

_FAILED = "failed"
_ROUNDING = 1e-6


class TableSource:
    """Decisions under one certificate in a table with the columns that `llmclf label` adds.

    The column ``certificate``, or the metadata of a Parquet file, say under which certificate rows were decided; those of others
    are left out. All rows must be accepted from the certificate's threshold on.

    Parameters
    ----------
    table : DataFrame or path
        A .csv, .tsv, .jsonl or .parquet file; it is read in pieces.
    classes : sequence of K
    certificate : str or None
    threshold : float or None
        From which confidence on the certificate accepts rows.
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
        certificate: str | None = None,
        threshold: float | None = None,
        id_column: str = "id",
        prefix: str = "",
        text_format: TextFormat = USUAL_TEXT,
    ) -> None:
        self._table = table
        self._classes = tuple(classes)
        self._certificate, self._threshold = certificate, threshold
        self._id_column = id_column
        self._prefix = prefix
        self._text_format = text_format
        self._is_read = False
        self._others: Counter[str] = Counter()
        self.models: list[str] = []

    def __str__(self) -> str:
        return "a table" if isinstance(self._table, pd.DataFrame) else os.fspath(self._table)

    @property
    def left_out(self) -> list[LeftOut]:
        """Rows that were decided under other certificates."""
        return [LeftOut("certificate", name or None, n) for name, n in self._others.items()]

    def new_rows(self) -> Iterator[DecisionColumns]:
        if self._is_read:
            return
        n_rows, others = 0, Counter[str]()
        for rows, of_others in self._all_rows():
            n_rows += len(rows)
            others.update(of_others)
            yield rows
        if others and not n_rows:
            there = ", ".join(named("certificate", one) for one in sorted(others))
            raise InputError(
                f"{self} has no decisions made under the certificate {self._certificate}; it has those of: {there}. Give the "
                "folder of the classifier as it was when it made them"
            )
        self._is_read, self._others = True, others

    def find(self, ids: Sequence[str]) -> DecisionColumns:
        wanted = set(ids)
        parts = [rows.take([one in wanted for one in rows.ids]) for rows, _ in self._all_rows()]
        return joined(parts, len(self._classes))

    def _all_rows(self) -> Iterator[tuple[DecisionColumns, list[str]]]:
        """The rows in blocks, each with the certificates of those that it lacks."""
        if isinstance(self._table, pd.DataFrame):
            yield self._kept(self._table, 0, {})
            return
        path, suffix = Path(self._table), check_suffix(self._table)
        start, metadata = 0, None
        for frame in read_chunks(path, suffix, text=self._text_format):
            metadata = read_metadata(path, suffix) if metadata is None else metadata
            yield self._kept(frame, start, metadata)
            start += len(frame)

    def _kept(self, frame: pd.DataFrame, start: int, metadata: Mapping[str, str]) -> tuple[DecisionColumns, list[str]]:
        rows = self._columns(frame, start)
        certificates = self._certificates(frame, metadata)
        own = np.ones(len(frame), dtype=bool)
        if certificates is not None:
            own = np.array([one == (self._certificate or "") for one in certificates], dtype=bool)
        self._check_decisions(rows, own, start)
        others = [] if certificates is None else [one for one, flag in zip(certificates, own, strict=True) if not flag]
        return rows.take(own), others

    def _certificates(self, frame: pd.DataFrame, metadata: Mapping[str, str]) -> list[str] | None:
        """Under which certificate each row was decided, empty for none; None where nothing says so."""
        for name in (f"{self._prefix}{STAND_IN}{CERTIFICATE}", f"{self._prefix}{CERTIFICATE}"):
            if name in frame.columns:
                return [id_text(value).strip() for value in frame[name]]
        try:
            said = parsed_json(metadata["llmclf"])["certificate"]["id"]
        except (KeyError, TypeError, ValueError):
            return None
        return [said if isinstance(said, str) else ""] * len(frame)

    def _check_decisions(self, rows: DecisionColumns, own: Any, start: int) -> None:
        """Refuse rows that another threshold has decided than the certificate's."""
        if self._threshold is None:
            return
        confidence = rows.confidence
        is_decided = own & (rows.accepted != UNKNOWN) & ~np.isnan(confidence)
        is_other = (confidence >= self._threshold) != (rows.accepted == 1)
        wrong = np.flatnonzero(is_decided & is_other & (np.abs(confidence - self._threshold) > _ROUNDING))
        if len(wrong):
            row = int(wrong[0])
            raise InputError(
                f"row {start + row} of {self} has the confidence {confidence[row]:.6g} and is "
                f"{'accepted' if rows.accepted[row] == 1 else 'not accepted'}, and the certificate accepts rows from "
                f"{self._threshold:.6g} on, so it was decided by another threshold ({len(wrong)} such rows in this block of "
                f"{len(rows)}); give rows that were decided under the certificate, or leave the column "
                f"{self._prefix}accepted out to have all decided by its threshold"
            )

    def _columns(self, frame: pd.DataFrame, start: int) -> DecisionColumns:
        prefix, n = self._prefix, len(frame)
        names = {name: f"{prefix}{name}" for name in ("label", "accepted", "label_mass", "undecided", "error")}
        of_classes = {str(one): f"{prefix}p_{one}" for one in self._classes}
        needed = [names["label"], *of_classes.values(), self._id_column]
        absent = [name for name in needed if name not in frame.columns]
        if absent:
            raise InputError(
                f"{self} has no column {absent[0]!r}, which llmclf label writes; its columns: "
                f"{', '.join(map(repr, frame.columns))}{other_delimiter(frame.columns)}"
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
