"""Labels by hand beside a model's probabilities: in a column of the table, or in files that people have filled in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import EstimationWarning, InputError, warn
from ...numerics.class_matching import match_classes
from ...tables.added_columns import STAND_IN
from ...tables.predictions import audited_rows, read_number, read_probabilities, warn_of_unlabelled
from ...tables.text_files import TextFormat
from ...tables.values import is_missing, rows_named
from ..options import column

if TYPE_CHECKING:
    from ...estimation import ShareEstimates

_INCLUSION = ("inclusion", "audit_inclusion")
"""What columns with inclusion probabilities are called, by whoever writes them here."""

_NOT_DRAWN = "(not drawn)"
"""The stratum of the rows that no file asks for: an empty one would be a missing one."""


@dataclass(frozen=True)
class HandLabels:
    """The rows that people labelled, among all rows of a table.

    Attributes
    ----------
    classes : list of str
    proba : ndarray (N, K)
        NaN in rows that could not be scored.
    rows : ndarray of int (n,)
        The places of the labelled rows.
    labels : list of str (n,)
    inclusion : ndarray (N,) or None
        With what probability each row was to be labelled; NaN in rows without a label. None: all had the same.
    strata : list (N,) or None
        From which part of the table each row was drawn.
    n_drawn : int
        How many rows were to be labelled, as far as the table says.
    """

    classes: list[str]
    proba: Any
    rows: Any
    labels: list[str]
    inclusion: Any
    strata: list[Any] | None
    n_drawn: int

    def shares(self, **options: Any) -> ShareEstimates:
        """The shares of the classes among all rows, with `options` of `llmclf.estimation.estimate_shares`.

        Raises
        ------
        InputError
            The table holds only rows that were drawn from a larger one, or `estimate_shares` refuses it.
        """
        from ...estimation import estimate_shares

        self._check_whole()
        return estimate_shares(
            _filled(self.proba),
            self.labels,
            self.rows,
            classes=self.classes,
            inclusion=self.inclusion,
            strata=self.strata,
            **options,
        )

    def _check_whole(self) -> None:
        """Refuse the drawn rows alone, among which all is known: their intervals would have no width."""
        if self.inclusion is None or self.n_drawn < len(self.proba):
            return
        pi = self.inclusion[self.rows]
        if (pi > 0).all() and (pi < 1 - 1e-9).any():
            standing = (1 / pi).sum() * self.n_drawn / len(self.rows)
            raise InputError(
                f"the table holds only the rows that were drawn ({self.n_drawn}, standing for about {standing:.0f}); give the "
                "whole table that label wrote, with the labels joined by id"
            )


@dataclass(frozen=True)
class AnnotatedFiles:
    """Files that people have filled in, and how to read them.

    Attributes
    ----------
    paths : sequence of Path
        In the order in which their rows were drawn.
    id_column : str or None
        The column of the table that holds the ids.
    form : str or None
        Of ``.json`` files.
    unescape_formulas : bool
        Of CSV files.
    """

    paths: Sequence[Path]
    id_column: str | None
    form: str | None
    unescape_formulas: bool


def read_hand_labels(
    frame: Any,
    path: Path,
    name: str | None,
    option: str,
    *,
    prefix: str,
    inclusion_column: str | None,
    strata_column: str | None = None,
    annotated: AnnotatedFiles | None = None,
) -> HandLabels:
    """The labels in the column `name`, which was given as `option`, and in annotated files.

    Of the column it is known how its rows were drawn by what the audit wrote, unless other columns are named; annotated files say
    it themselves.

    Raises
    ------
    InputError

    Warns
    -----
    EstimationWarning
        There are inclusion probabilities that are not used, or rows that were drawn and have no label.
    """
    files = () if annotated is None else annotated.paths
    if name is None and not files:
        raise InputError(f"give the labels by hand: {option} COLUMN of the table, or --annotations FILE")
    if name is None and (inclusion_column is not None or strata_column is not None):
        raise InputError(
            f"--inclusion-column and --strata-column are about the labels of {option}; annotated files have their own"
        )
    classes, proba = read_probabilities(frame, path, prefix)
    nothing = HandLabels(classes, proba, np.empty(0, dtype=np.int64), [], None, None, 0)
    waves = [] if name is None else [_of_column(frame, nothing, name, option, prefix, inclusion_column, strata_column)]
    if annotated is not None and files:
        waves += _of_files(frame, nothing, annotated)
    return waves[0] if name is not None and len(waves) == 1 else _joined(waves)


def _of_column(
    frame: Any,
    nothing: HandLabels,
    name: str,
    option: str,
    prefix: str,
    inclusion_column: str | None,
    strata_column: str | None,
) -> HandLabels:
    truths = [value.strip() if isinstance(value, str) else value for value in column(frame, name, option).tolist()]
    _check_not_predicted(frame, name, option, prefix)
    is_labelled = np.array([not is_missing(value) and value != "" for value in truths])
    audit = f"{prefix}audit_inclusion"
    n_drawn = int(is_labelled.sum())
    if inclusion_column is None and audit in frame.columns:
        is_drawn = audited_rows(frame, prefix, is_labelled, name)
        n_drawn = int(is_drawn.sum()) if f"{prefix}audit" in frame.columns else n_drawn
        is_labelled &= is_drawn
        inclusion_column = audit
        if strata_column is None and f"{prefix}audit_stratum" in frame.columns:
            strata_column = f"{prefix}audit_stratum"
    if not is_labelled.any():
        raise InputError(f"{option} {name!r} is empty in all rows; label some of them by hand, drawn at random")
    rows = np.flatnonzero(is_labelled)
    warn_of_unused_inclusion(frame, inclusion_column, rows)
    labels = _matched(truths, rows.tolist(), nothing.classes, f"{option} {name!r}")
    inclusion = None if inclusion_column is None else read_inclusion(frame, inclusion_column, rows)
    strata = None if strata_column is None else filled_column(frame, strata_column, "--strata-column")
    return replace(nothing, rows=rows, labels=labels, inclusion=inclusion, strata=strata, n_drawn=n_drawn)


def _of_files(frame: Any, nothing: HandLabels, annotated: AnnotatedFiles) -> list[HandLabels]:
    """The labels of each file, at the places of the rows that have their ids."""
    from ...estimation import read_annotations
    from ...estimation.annotation_files.reading import id_text

    if annotated.id_column is None:
        raise InputError("--annotations needs --id-column, the column of the table that holds the ids of the rows")
    ids = column(frame, annotated.id_column, "--id-column")
    place_of = {id_text(value): place for place, value in enumerate(ids.tolist())}
    if len(place_of) < len(frame):
        raise InputError(
            f"--id-column {annotated.id_column!r} holds an id more than once; expected a different one in every row"
        )
    waves, first = [], dict[int, Path]()
    for path in annotated.paths:
        try:
            found = read_annotations(
                path,
                classes=nothing.classes,
                form=annotated.form if path.suffix.lower() == ".json" else None,
                text_format=_text_format(path, annotated.unescape_formulas),
            )
        except InputError as error:
            if not isinstance(error.__cause__, UnicodeError):
                raise
            raise InputError(
                f"{str(path)!r} is not UTF-8 text ({error.__cause__}); save it again with this encoding, which spreadsheets call "
                "CSV UTF-8. --encoding is that of the table alone"
            ) from error
        unknown = [one for one in found.drawn["id"].tolist() if one not in place_of]
        if unknown:
            raise InputError(
                f"{str(path)!r} has the id {unknown[0]!r}, and {len(unknown) - 1} more, which --id-column "
                f"{annotated.id_column!r} of the table does not have; give the table that its rows were drawn from"
            )
        places = np.array([place_of[one] for one in found.drawn["id"].tolist()], dtype=np.int64)
        labels = found.labels()
        known = np.array([label is not None for label in labels])
        warn_of_unlabelled(int((~known).sum()), len(known), f"{str(path)!r} asks for")
        rows = places[known]
        twice = [row for row in rows.tolist() if row in first]
        if twice:
            raise InputError(
                f"the row with the id {ids.tolist()[twice[0]]!r} is labelled in {str(first[twice[0]])!r} and in {str(path)!r}; "
                "leave one of the labels empty, that of the later draw"
            )
        first |= dict.fromkeys(rows.tolist(), path)
        inclusion, strata = np.full(len(frame), np.nan), np.full(len(frame), _NOT_DRAWN, dtype=object)
        inclusion[places], strata[places] = found.drawn["inclusion"], found.drawn["stratum"]
        waves.append(
            replace(
                nothing,
                rows=rows,
                labels=[label for label in labels if label is not None],
                inclusion=inclusion,
                strata=strata.tolist(),
                n_drawn=len(known),
            )
        )
    return waves


def _text_format(path: Path, unescape_formulas: bool) -> TextFormat:
    """That of a file of next-rows as a spreadsheet may have saved it: its header is known, so the delimiter shows."""
    delimiter = None
    if path.suffix.lower() in (".csv", ".tsv"):
        try:
            with path.expanduser().open(encoding="utf-8-sig", errors="replace") as file:
                header = file.readline(10_000)
        except OSError:
            header = ""  # whoever reads the file says what is wrong with it
        names = {mark: [name.strip().strip('"') for name in header.split(mark)] for mark in (";", "\t", ",")}
        delimiter = next((mark for mark, cells in names.items() if {"id", "label"} <= set(cells)), None)
    return TextFormat(delimiter, None, unescape_formulas)


def _joined(waves: list[HandLabels]) -> HandLabels:
    """The labels of several draws together; see `llmclf.estimation.waves`."""
    from ...estimation.waves import joined_inclusion

    n_rows = len(waves[0].proba)
    drawn = [
        (
            np.full(len(wave.rows), len(wave.rows) / n_rows) if wave.inclusion is None else wave.inclusion[wave.rows],
            wave.n_drawn,
        )
        for wave in waves
    ]
    inclusion, strata = np.full(n_rows, np.nan), np.full(n_rows, _NOT_DRAWN, dtype=object)
    for number, (wave, pi) in enumerate(zip(waves, joined_inclusion(drawn, n_rows), strict=True)):
        inclusion[wave.rows] = pi
        # Each draw has strata of its own, whatever they are called.
        strata[wave.rows] = [
            f"{number}:{'' if wave.strata is None else wave.strata[row]}" for row in wave.rows.tolist()
        ]
    rows = np.concatenate([wave.rows for wave in waves])
    if len(set(rows.tolist())) < len(rows):
        raise InputError("a row is labelled in the table and in an annotated file; leave one of the labels empty")
    return replace(
        waves[0],
        rows=rows,
        labels=[label for wave in waves for label in wave.labels],
        inclusion=inclusion,
        strata=strata.tolist(),
        n_drawn=sum(wave.n_drawn for wave in waves),
    )


def read_inclusion(frame: Any, name: str, rows: Any) -> Any:
    """The probabilities (N,) in the column `name`, NaN but for some rows: what stands beside the others may be missing.

    Raises
    ------
    InputError
    """
    chances = column(frame, name, "--inclusion-column").tolist()
    inclusion = np.full(len(frame), np.nan)
    inclusion[rows] = [read_number(chances[row], name, row) for row in rows.tolist()]
    return inclusion


def warn_of_unused_inclusion(frame: Any, used: str | None, rows: Any) -> None:
    """Say that a table has unequal inclusion probabilities, if no option names their column."""
    for name in [] if used is not None else frame.columns:
        if not str(name).endswith(_INCLUSION):
            continue
        values = {str(value) for value in frame[name].iloc[rows].tolist() if not is_missing(value) and value != ""}
        if len(values) > 1:
            warn(
                f"the table has a column {name!r}, with what probability each row was drawn, and no option names it, so that all "
                f"rows count alike; give --inclusion-column {name}, or drop the column",
                EstimationWarning,
            )


def filled_column(frame: Any, name: str, option: str) -> list[Any]:
    """The values of a column, none of which is empty: rows without a group would become a group.

    Raises
    ------
    InputError
    """
    values: list[Any] = column(frame, name, option).tolist()
    empty = [
        row for row, value in enumerate(values) if is_missing(value) or (isinstance(value, str) and not value.strip())
    ]
    if empty:
        raise InputError(
            f"{option} {name!r} is empty in {rows_named(empty)}; fill these cells, each with a value of its own where the rows "
            "belong to no others"
        )
    return values


def _matched(truths: list[Any], rows: list[int], classes: list[str], where: str) -> list[str]:
    """The classes that the labelled rows name."""
    try:
        return [classes[k] for k in match_classes([truths[row] for row in rows], classes, is_y=False).tolist()]
    except InputError:
        for row in rows:
            try:
                match_classes([truths[row]], classes, is_y=False)
            except InputError:
                raise InputError(
                    f"{where}, row {row}: {truths[row]!r} is not one of the classes {classes}; correct the cell. For rows that "
                    "cannot be decided, label with a class for them, --labels a,b,undecided, before"
                ) from None
        raise


def _check_not_predicted(frame: Any, name: str, option: str, prefix: str) -> None:
    """Refuse the model's own answers: they agree with its probabilities, whatever the truth is."""
    stand_in = f"{STAND_IN}label"
    own = stand_in if not prefix and stand_in in frame.columns else f"{prefix}label"
    if name == own and (own == stand_in or f"{prefix}confidence" in frame.columns):
        raise InputError(
            f"{option} {name!r} is the column in which label wrote the model's answers; name the column that people filled in"
        )


def _filled(proba: Any) -> Any:
    """Probabilities with rows that could not be scored like the average row: what stands there costs width alone."""
    missing = np.isnan(proba).any(axis=1)
    if not missing.any():
        return proba
    if missing.all():
        raise InputError("no row has probabilities; label the table first")
    warn(
        f"{int(missing.sum())} rows have no probabilities and count as average rows; the intervals hold, since labels by hand "
        "correct what the model does not know",
        EstimationWarning,
    )
    proba = proba.copy()
    proba[missing] = proba[~missing].mean(axis=0)
    return proba
