"""Labels by hand beside a model's probabilities, as `llmclf estimate-share` and `llmclf report` read them from one table."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import EstimationWarning, InputError, warn
from ..numerics.class_matching import match_classes
from ..tables.added_columns import STAND_IN
from ..tables.predictions import audited_rows, read_number, read_probabilities
from ..tables.values import is_missing, rows_named
from .options import column

if TYPE_CHECKING:
    from ..estimation import ShareEstimates


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
        from ..estimation import estimate_shares

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


def read_hand_labels(
    frame: Any,
    path: Path,
    name: str,
    option: str,
    *,
    prefix: str,
    inclusion_column: str | None,
    strata_column: str | None = None,
) -> HandLabels:
    """The labels in the column `name`, which was given as `option`, with what the audit wrote unless other columns are named.

    Raises
    ------
    InputError
    """
    truths = [value.strip() if isinstance(value, str) else value for value in column(frame, name, option).tolist()]
    _check_not_predicted(frame, name, option, prefix)
    classes, proba = read_probabilities(frame, path, prefix)
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
    labels = _matched(truths, rows.tolist(), classes, f"{option} {name!r}")
    inclusion = None
    if inclusion_column is not None:
        chances = column(frame, inclusion_column, "--inclusion-column").tolist()
        # Only those of labelled rows matter; what stands beside the others may be missing.
        inclusion = np.full(len(frame), np.nan)
        inclusion[rows] = [read_number(chances[row], inclusion_column, row) for row in rows.tolist()]
    strata = None if strata_column is None else filled_column(frame, strata_column, "--strata-column")
    return HandLabels(classes, proba, rows, labels, inclusion, strata, n_drawn)


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
