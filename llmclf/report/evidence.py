"""The labelled rows behind a report, checked once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..arrays import Floats, Integers
from ..errors import InputError
from ..metrics import checked_predictions, inclusion_weights
from ..numerics.groups import effective_number, group_numbers
from ..numerics.thinning import evenly_drawn
from ..tables.array_arguments import as_numbers
from ..tables.values import is_missing

_MAX_SLICES = 200


@dataclass(frozen=True, eq=False)
class Evidence:
    """Labelled rows with their probabilities.

    Attributes
    ----------
    columns : ndarray of int (n,)
        The column of each row's true class.
    proba : ndarray (n, K)
    proba_before : ndarray (n, K) or None
    classes : tuple of K objects
    rows : ndarray of int (n,)
        The position of each row in the input; rows without a label or without probabilities are left out.
    n_unlabelled, n_unscored, n_thinned : int
        How many rows were left out: those without a label, those with a label but without probabilities, and those with both
        that were drawn with a higher probability than others.
    texts : list of n str, or None
    groups : dict of name to ndarray (n,)
        Each a partition of the rows into slices.
    label_mass : ndarray (n,) or None
    clusters : ndarray of int (n,) or None
        Which rows belong together; None if each stands for itself.
    """

    columns: NDArray[np.intp]
    proba: Floats
    proba_before: Floats | None
    classes: tuple[Any, ...]
    rows: NDArray[np.intp]
    n_unlabelled: int
    n_unscored: int
    n_thinned: int
    texts: list[str] | None
    groups: dict[str, NDArray[Any]]
    label_mass: Floats | None
    clusters: Integers | None = None

    @property
    def n_rows(self) -> int:
        return len(self.columns)

    @property
    def n_clusters(self) -> int:
        """How many groups of rows are independent of each other: all rows if there are no clusters."""
        return self.n_rows if self.clusters is None else int(self.clusters.max()) + 1

    def worth(self, rows: Any = slice(None)) -> float:
        """How many independent rows one of these rows counts for on average: 1, or less with clusters.

        Parameters
        ----------
        rows : slice, or ndarray of bool or int
            Of the n rows.
        """
        if self.clusters is None:
            return 1.0
        members = self.clusters[rows]
        return effective_number(members, len(members)) / max(1, len(members))

    @property
    def names(self) -> list[str]:
        """The classes as a report shows them."""
        return [str(label) for label in self.classes]

    @property
    def labels(self) -> NDArray[Any]:
        """The true classes (n,), as objects."""
        known = np.empty(len(self.classes), dtype=object)
        known[:] = self.classes
        return known[self.columns]

    @cached_property
    def predicted(self) -> NDArray[np.intp]:
        """The most probable column (n,), the first one in a tie."""
        columns: NDArray[np.intp] = self.proba.argmax(axis=1)
        return columns

    @cached_property
    def confidence(self) -> Floats:
        maxima: Floats = self.proba.max(axis=1)
        return maxima

    @cached_property
    def right(self) -> NDArray[np.bool_]:
        hits: NDArray[np.bool_] = self.predicted == self.columns
        return hits


def even_rows(
    inclusion: ArrayLike, y: ArrayLike | Sequence[Any], seed: int
) -> tuple[NDArray[np.bool_], dict[str, str]]:
    """Of labelled rows that were drawn with unequal probabilities, some that were drawn with the same one: which, and a note.

    Probabilities of rows without a label need not be there.

    Raises
    ------
    InputError
        As `llmclf.metrics.inclusion_weights`.

    Examples
    --------
    >>> kept, note = even_rows([0.5, 0.1, 0.1, None], ["a", "b", "a", None], seed=0)
    >>> kept[1:].tolist(), list(note)
    ([True, True, False], ['inclusion'])
    """
    labelled = np.array([not is_missing(label) for label in np.asarray(y, dtype=object)], dtype=bool)
    pi = as_numbers(inclusion, "inclusion")
    if pi.shape != labelled.shape:
        raise InputError(
            f"inclusion has shape {pi.shape}; expected {labelled.shape}, the probability with which each row was drawn"
        )
    if not labelled.any():
        return labelled, {}
    inclusion_weights(np.where(labelled, pi, 1.0), len(pi))
    kept = labelled.copy()
    kept[labelled] = evenly_drawn(pi[labelled], seed)
    if kept.sum() == labelled.sum():
        return kept, {}
    return kept, {
        "inclusion": f"{kept.sum()} of {labelled.sum()} labelled rows are used, so that each row of the table had the same "
        f"probability, {pi[labelled].min():.3g}, to be among them"
    }


def read_evidence(
    y: ArrayLike | Sequence[Any],
    proba: ArrayLike,
    *,
    classes: ArrayLike | None,
    proba_before: ArrayLike | None,
    groups: Any,
    texts: Sequence[Any] | None,
    label_mass: ArrayLike | None,
    clusters: Any = None,
    drawn: NDArray[np.bool_] | None = None,
) -> Evidence:
    """Check everything that a report is made from; rows (n,) that are not `drawn` are left out.

    Raises
    ------
    InputError
        An argument cannot be used; see `llmclf.metrics.checked_predictions`.
    """
    given = _probabilities(proba, "proba")
    scored: NDArray[np.bool_] = np.asarray(~np.isnan(given).any(axis=1))
    if not len(given):
        raise InputError("proba is empty; expected at least one row")
    if not scored.any():
        raise InputError("no row of proba has probabilities (all are NaN); a report needs rows that could be scored")
    truth = np.asarray(y, dtype=object)
    if truth.ndim != 1:
        raise InputError(f"y has shape {truth.shape}; expected one label per row")
    if len(truth) != len(given):
        raise InputError(f"y has {len(truth)} labels and proba {len(given)} rows; expected one label per row")
    labelled = np.array([not is_missing(label) for label in truth])
    kept = scored & labelled
    if drawn is not None and drawn.shape == kept.shape:
        kept &= drawn
    if not kept.any():
        raise InputError("no row has both a label and probabilities; a report needs labelled rows")
    labels = _labels(truth[kept])
    known = _known_classes(labels, given.shape[1], classes)
    columns, checked, _ = checked_predictions(labels, given[kept], known)
    before = None
    if proba_before is not None:
        earlier = _probabilities(proba_before, "proba_before")
        if earlier.shape != given.shape:
            raise InputError(
                f"proba_before has shape {earlier.shape} and proba {given.shape}; expected the same rows and classes"
            )
        lost = kept & np.isnan(earlier).any(axis=1)
        if lost.any():
            raise InputError(
                f"row {np.flatnonzero(lost)[0]} has probabilities after calibration but not before; leave such rows out"
            )
        before = checked_predictions(labels, earlier[kept], known)[1]
    shown = _texts(texts, kept)
    return Evidence(
        columns=columns,
        proba=checked,
        proba_before=before,
        classes=tuple(known),
        rows=np.flatnonzero(kept),
        n_unlabelled=int((~labelled).sum()),
        n_unscored=int((labelled & ~scored).sum()),
        n_thinned=int((scored & labelled).sum()) - int(kept.sum()),
        texts=shown,
        groups={name: values[kept] for name, values in partitions(groups, len(given)).items()},
        label_mass=_mass(label_mass, kept),
        clusters=_clusters(clusters, shown, kept),
    )


def _labels(truth: NDArray[Any]) -> NDArray[Any]:
    """Numeric labels as numbers, which are columns unless `classes` is given; others as objects, so that 1 and "a" stay apart."""
    compact = np.asarray(truth.tolist())
    return compact if compact.dtype.kind in "biuf" and compact.ndim == 1 else truth


def _probabilities(proba: ArrayLike, name: str) -> Floats:
    try:
        given = np.asarray(proba, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} holds a value that is not a number ({error}); expected probabilities") from None
    if given.ndim == 1:
        given = np.column_stack([1.0 - given, given])
    if given.ndim != 2:
        raise InputError(f"{name} has shape {given.shape}; expected (n, K), or (n,) for P(class 1)")
    return given


def _known_classes(labels: NDArray[Any], n_columns: int, classes: ArrayLike | None) -> list[Any]:
    """The class of each column; without `classes`, inferred from the labels as in the metrics."""
    if classes is not None:
        if np.ndim(classes) != 1:
            raise InputError(f"classes={classes!r}; expected one class per column")
        return list(np.asarray(classes, dtype=object))
    if labels.dtype.kind in "biuf":
        return list(range(n_columns))
    try:
        known = sorted(set(labels.tolist()))
    except TypeError:
        known = []
    if len(known) != n_columns:
        raise InputError(
            f"y holds {len(set(map(repr, labels.tolist())))} different labels for {n_columns} columns; give the class of each "
            "column, in order, as classes="
        )
    return known


def _texts(texts: Sequence[Any] | None, kept: NDArray[np.bool_]) -> list[str] | None:
    if texts is None:
        return None
    if isinstance(texts, str) or len(texts) != len(kept):
        raise InputError(f"texts has {len(texts)} entries and proba {len(kept)} rows; expected one text per row")
    return [str(text) for text, is_kept in zip(texts, kept, strict=True) if is_kept]


def _clusters(clusters: Any, texts: list[str] | None, kept: NDArray[np.bool_]) -> Integers | None:
    """What belongs together (n_kept,); without `clusters` these are the copies of a text."""
    if clusters is not None:
        given = group_numbers(clusters, len(kept), "clusters")[kept]
    elif texts is not None:
        # Rows without a text say nothing about which of them are copies.
        given = np.array([" ".join(text.casefold().split()) or row for row, text in enumerate(texts)], dtype=object)
    else:
        return None
    members = group_numbers(given, len(given))
    return None if int(members.max()) == len(members) - 1 else members


def partitions(groups: Any, n_rows: int) -> dict[str, NDArray[Any]]:
    """One column of slice names per partition; `groups` is one column, or a table or dict of several.

    Raises
    ------
    InputError
        There is not one name per row.

    Examples
    --------
    >>> {name: names.tolist() for name, names in partitions({"year": [2024, None]}, 2).items()}
    {'year': ['2024', '(missing)']}
    """
    if groups is None:
        return {}
    if hasattr(groups, "columns") or isinstance(groups, dict):
        given = list(groups.columns if hasattr(groups, "columns") else groups)
        parts = {str(name): groups[name] for name in given}
        if len(parts) < len(given):
            raise InputError(
                f"groups has the names {given!r}, of which some read the same; expected a name of its own for each"
            )
    else:
        name = getattr(groups, "name", None)
        parts = {"slice" if name is None else str(name): groups}
    named = {}
    for name, values in parts.items():
        column = np.asarray(values, dtype=object)
        if column.shape != (n_rows,):
            raise InputError(f"groups {name!r} has shape {column.shape}; expected ({n_rows},), one slice name per row")
        names = np.array(["(missing)" if is_missing(value) else str(value) for value in column], dtype=object)
        named[name] = _largest(names)
    return named


def _largest(names: NDArray[Any]) -> NDArray[Any]:
    """The slice names; if there are too many, the smallest slices share one name."""
    distinct, members = np.unique(names, return_inverse=True)
    if distinct.size <= _MAX_SLICES:
        return names
    kept = np.argsort(-np.bincount(members), kind="stable")[: _MAX_SLICES - 1]
    rest = f"({distinct.size - kept.size} smaller slices)"
    return np.where(np.isin(members, kept), names, rest)


def _mass(label_mass: ArrayLike | None, kept: NDArray[np.bool_]) -> Floats | None:
    if label_mass is None:
        return None
    mass = np.asarray(label_mass, dtype=np.float64)
    if mass.shape != kept.shape:
        raise InputError(f"label_mass has shape {mass.shape}; expected ({len(kept)},), one probability per row")
    mass = mass[kept]
    bad = np.flatnonzero(~((mass >= 0.0) & (mass <= 1.0 + 1e-4)))
    if bad.size:
        raise InputError(
            f"label_mass holds {mass[bad[0]]}; expected probabilities, as LLMClassifier.label_mass returns them"
        )
    return mass.clip(0.0, 1.0)
