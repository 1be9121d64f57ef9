"""`next_rows`: which rows to label next, drawn with known probabilities, so that what follows from the labels stays valid."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from ..arrays import Floats, Integers
from ..checks import check_whole_number, is_number, is_whole_number, random_generator
from ..errors import EstimationWarning, InputError, type_of, warn
from ..metrics import checked_probability_rows, label_columns
from ..metrics.checks import class_column
from ..numerics.groups import group_numbers
from ..tables.array_arguments import as_array, as_numbers, class_list
from .designs import PilotSquares, stratified_design
from .draws import StratifiedDraw
from .goals import CellCounts, Goal
from .sample_checks import checked_inclusion, checked_labels, checked_rows
from .waves import combined_inclusion, earlier_share, is_drawn

UNIFORM_SHARE = 0.5
"""The part of the budget that is spread evenly over all rows, whatever the probabilities say of them."""


@dataclass(frozen=True, eq=False)
class NextRows:
    """Rows to be labelled, and with what probability each of them was drawn; see `next_rows`.

    Attributes
    ----------
    rows : ndarray of int (n,)
        The places of the rows to be labelled now, rising.
    inclusion : ndarray (N,)
        For a row without a label: the probability with which it was to be drawn now, above 0 and at most 1. For one that was
        labelled before: what stood for its inclusion probability until now.
    strata : ndarray of int (N,)
        From which part each row was drawn; rows of earlier waves are in strata of their own.
    earlier_rows : ndarray of int (m,)
        The places of the rows that were labelled before.
    earlier_labels : ndarray (m,)
        Their labels, as they were given.
    earlier_share : float
        How much the estimate from them counts beside that from the new rows; see `llmclf.estimation.waves`.
    goal : str
    random_state : object
        As they were given.
    """

    rows: Integers
    inclusion: Floats
    strata: Integers
    earlier_rows: Integers
    earlier_labels: NDArray[Any]
    earlier_share: float
    goal: str
    random_state: Any = None

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        pi = self.inclusion[self.rows]
        before = f", beside {len(self.earlier_rows)} labelled before" if self.earlier_rows.size else ""
        return (
            f"<NextRows: {len(self.rows)} of {len(self.inclusion)} rows for goal={self.goal!r}, in "
            f"{len(np.unique(self.strata[self.rows]))} strata, with probabilities from {pi.min():.3g} to {pi.max():.3g}{before}>"
        )

    def sample(self, y: Any) -> dict[str, Any]:
        """All labels so far with their rows and inclusion probabilities, as `estimate_shares` and `next_rows` take them.

        Parameters
        ----------
        y : array-like (n,), or mapping of place to label
            The labels of `rows`, in their order. A Series whose index holds their places is taken by it.

        Returns
        -------
        dict
            ``y``, ``rows``, ``inclusion`` (one each per labelled row) and ``strata`` (N,).

        Raises
        ------
        InputError
            A label is missing: what remains would no longer be a sample of known probabilities.

        Examples
        --------
        >>> rng = np.random.default_rng(0)
        >>> proba = rng.dirichlet([1.0, 1.0], 1000)
        >>> first = next_rows(proba, 50, random_state=0)
        >>> second = next_rows(proba, 100, random_state=1, **first.sample((first.rows % 2)))
        >>> sample = second.sample(second.rows % 2)
        >>> len(sample["y"]), round(float((1 / sample["inclusion"]).sum()))
        (150, 1000)
        """
        by_place = isinstance(y, pd.Series) and not isinstance(y.index, pd.RangeIndex)
        if by_place and sorted(y.index.tolist(), key=str) == sorted(self.rows.tolist(), key=str):
            y = dict(zip(y.index.tolist(), y.tolist(), strict=True))
        if isinstance(y, Mapping):
            absent = [int(row) for row in self.rows if int(row) not in y]
            if absent:
                raise InputError(
                    f"y has no label for row {absent[0]}, and {len(absent) - 1} more; label all rows drawn"
                )
            y = [y[int(row)] for row in self.rows]
        new = checked_labels(y, self.rows)
        before, now = combined_inclusion(
            self.inclusion[self.earlier_rows], self.inclusion[self.rows], self.earlier_share
        )
        labels = new if not self.earlier_rows.size else _joined_labels(self.earlier_labels, new)
        return {
            "y": labels,
            "rows": np.concatenate([self.earlier_rows, self.rows]),
            "inclusion": np.concatenate([before, now]),
            "strata": self.strata,
        }

    def to_frame(self, data: Any = None, *, id_column: str | None = None) -> pd.DataFrame:
        """The rows to be labelled, with their inclusion probabilities: a line for each, without a label yet.

        Parameters
        ----------
        data : DataFrame, sequence of texts or None
            The table (N rows), whose columns stand beside. Texts become the column ``text``.
        id_column : str, optional
            The column of `data` that becomes ``id``; without it ``id`` is the place of the row, from 0.

        Returns
        -------
        DataFrame (n, ...)
            ``id``, ``label`` (None), ``inclusion``, ``stratum``, and the columns of `data`.

        Raises
        ------
        InputError
            `data` has another number of rows, or lacks the column.

        Examples
        --------
        >>> chosen = next_rows([[0.9, 0.1], [0.5, 0.5]], 2, random_state=0)
        >>> chosen.to_frame(["fine", "so so"])[["id", "inclusion", "text"]].values.tolist()
        [[0, 1.0, 'fine'], [1, 1.0, 'so so']]
        """
        frame = pd.DataFrame(
            {
                "id": self.rows,
                "label": pd.Series([None] * len(self.rows), dtype=object),
                "inclusion": self.inclusion[self.rows],
                "stratum": self.strata[self.rows],
            }
        )
        if data is None:
            if id_column is not None:
                raise InputError(f"id_column={id_column!r} names a column of data, and no data is given")
            return frame
        table = _table(data, len(self.inclusion)).iloc[self.rows].reset_index(drop=True)
        if id_column is not None:
            if id_column not in table.columns:
                raise InputError(f"id_column={id_column!r}; the columns are {', '.join(map(repr, table.columns))}")
            ids = _table(data, len(self.inclusion))[id_column]
            twice = ids[ids.duplicated()]
            if len(twice) or ids.isna().any():
                what = "is missing in some rows" if ids.isna().any() else f"holds {twice.tolist()[0]!r} more than once"
                raise InputError(f"the column {id_column!r} {what}; expected a different value in every row")
            frame["id"] = table.pop(id_column)
        clash = [name for name in table.columns if name in frame.columns]
        if clash:
            raise InputError(f"data has a column {clash[0]!r} itself; rename or drop it, or name it as id_column")
        return pd.concat([frame, table], axis=1)


def next_rows(
    proba: ArrayLike,
    budget: int,
    goal: str = "share",
    *,
    y: ArrayLike | None = None,
    rows: ArrayLike | None = None,
    inclusion: ArrayLike | float | None = None,
    strata: ArrayLike | None = None,
    classes: ArrayLike | None = None,
    pos_label: Any = None,
    max_error: float = 0.05,
    uniform_share: float = UNIFORM_SHARE,
    random_state: Any = None,
) -> NextRows:
    r"""Which rows to label next: where a label says most for a goal, and drawn with known probabilities.

    Labelling the least certain rows, as active learning does, gives labels that speak for these rows alone. Here every row has a
    chance that is known and never 0, so that shares, errors and thresholds computed from the labels with these
    inclusion probabilities are those of the whole table, whatever the model is worth. A poor model costs precision and
    never validity.

    The rows are divided into strata by predicted class and confidence. A fixed number of each is drawn by simple random
    sampling without replacement: more where labels vary more (Neyman 1934, "On the two different aspects of the representative
    method"; the standard deviations are those that the probabilities expect, corrected by the residuals of the rows labelled
    before), and a part of the budget evenly over all rows, in case the probabilities are wrong. ``experiments/next_rows.md``
    has what that gains.

    Rows that are labelled already are not asked again. They are used together with the new ones by `NextRows.sample`, without
    bias although the new design depends on the labels seen; `llmclf.estimation.waves` says how.

    Parameters
    ----------
    proba : array-like (N, K) or (N,)
        The model's probabilities for every row. A row of NaN could not be scored; it is drawn, too.
    budget : int
        How many rows to label now.
    goal : {"share", "threshold", "calibration", "accuracy"}
        What the labels are for: the shares of the classes among all rows; a threshold above which at most `max_error` of the rows
        are wrong; calibration errors, and fitting a calibrator, at every confidence; the accuracy of the predicted classes.
    y : array-like (m,), optional
        Labels of rows that are labelled already.
    rows : array-like of int (m,), optional
        Their places among the N.
    inclusion : array-like (m,) or (N,) or 1.0, optional
        With what probability each of them was drawn. None: they are a simple random sample. 1.0: they were chosen and not
        drawn; then they guide the design, and count for themselves alone.
    strata : array-like of int (N,), optional
        The strata of an earlier `NextRows`, of which those of labelled rows are kept.
    classes : array-like (K,), optional
        The class of each column; see `llmclf.metrics.label_columns`.
    pos_label : class, optional
        Of goal ``"share"``: the class whose share matters. None: all alike.
    max_error : float in (0, 1)
        Of goal ``"threshold"``.
    uniform_share : float in (0, 1]
        The part of the budget that is spread evenly over all rows. No row is then drawn with less than about this part of the
        probability that it would have in a simple random sample; 1 draws evenly from each stratum.
    random_state : None, int or numpy Generator

    Returns
    -------
    NextRows

    Raises
    ------
    InputError
        There are fewer rows without a label than `budget`, or any argument cannot be used.

    Warns
    -----
    EstimationWarning
        So many rows are labelled that those from before count for themselves alone, or the budget is a single row.

    Examples
    --------
    >>> proba = np.random.default_rng(0).dirichlet([0.2, 0.2], 10_000)
    >>> chosen = next_rows(proba, 200, random_state=0)
    >>> len(chosen.rows), round(float(chosen.inclusion.sum()), 6)
    (200, 200.0)
    >>> doubtful = proba.max(axis=1) < 0.9
    >>> bool(chosen.inclusion[doubtful].mean() > 2 * chosen.inclusion[~doubtful].mean() > 0)
    True
    """
    budget = check_whole_number("budget", budget, 1)
    if not is_number(uniform_share) or not 0 < uniform_share <= 1:
        raise InputError(
            f"uniform_share={uniform_share!r}; expected above 0, so that every row has a chance, and at most 1"
        )
    table = _probabilities(proba)
    n_rows, n_classes = table.shape
    known = None if classes is None else class_list(classes)
    if known is not None:
        label_columns([], n_classes, known)
    column = None
    if pos_label is not None:
        if known is None and not is_whole_number(pos_label):
            raise InputError(f"pos_label={pos_label!r} is a class by name; give the class of each column as classes=")
        column = class_column(pos_label, [], n_classes, known)
    aim = Goal.checked(goal, column, max_error)
    pilot = _Pilot.checked(table, y, rows, inclusion, strata, known)
    is_open = np.ones(n_rows, dtype=bool)
    is_open[pilot.rows] = False
    n_open = int(is_open.sum())
    if budget > n_open:
        raise InputError(
            f"budget={budget}, and {n_open} rows have no label yet (of {n_rows}); expected at most as many"
        )
    share = earlier_share(len(pilot.rows), budget, n_rows, pilot.is_random)
    if pilot.rows.size and pilot.is_random and share == 0.0:
        warn(
            f"{len(pilot.rows)} of {n_rows} rows are labelled and {budget} more are asked for: so large a part that the "
            f"rows labelled "
            "before count for themselves, and the new ones for all others; estimates are valid",
            EstimationWarning,
        )
    cells, variance = aim.read(table)
    counts = CellCounts.empty(aim.n_cells(n_classes))
    counts.add(cells[is_open], variance[is_open], table.max(axis=1)[is_open])
    design = stratified_design(
        counts,
        aim,
        budget,
        uniform_share=float(uniform_share),
        most=1.0 - share,
        pilot=pilot.squares(table, cells, aim, len(counts.rows)),
    )
    draw = StratifiedDraw(design, random_generator(random_state))
    chosen, probabilities, numbers = draw.read(cells[is_open])
    places = np.flatnonzero(is_open)
    included = np.empty(n_rows)
    included[pilot.rows] = pilot.inclusion
    included[places] = probabilities
    first = int(pilot.strata.max()) + 1 if pilot.strata.size else 0
    stratum = np.empty(n_rows, dtype=np.int64)
    stratum[pilot.rows] = pilot.strata
    stratum[places] = first + numbers
    return NextRows(places[chosen], included, stratum, pilot.rows, pilot.labels, share, aim.name, random_state)


@dataclass(frozen=True, eq=False)
class _Pilot:
    """The rows labelled before."""

    labels: NDArray[Any]
    columns: NDArray[np.intp]
    rows: Integers
    inclusion: Floats
    strata: Integers
    is_random: bool

    @classmethod
    def checked(
        cls, table: Floats, y: Any, rows: Any, inclusion: Any, strata: Any, classes: list[Any] | None
    ) -> _Pilot:
        if (y is None) != (rows is None):
            given, absent = ("y", "rows") if rows is None else ("rows", "y")
            raise InputError(
                f"{given}= is given without {absent}=; expected the labels y and their places rows, or neither"
            )
        n_rows = len(table)
        if y is None:
            if inclusion is not None:
                raise InputError("inclusion= is about rows labelled before; give them as y= and rows=, or leave it out")
            nothing = np.empty(0, dtype=np.int64)
            return cls(np.empty(0, dtype=object), nothing.astype(np.intp), nothing, np.empty(0), nothing, True)
        places = _places(rows, n_rows)
        labels = checked_labels(y, places, classes)
        columns = label_columns(labels, table.shape[1], classes)
        if inclusion is not None and as_array(inclusion, "inclusion").ndim == 0:
            if inclusion != 1.0:
                raise InputError(
                    f"inclusion={inclusion!r}; expected a probability per labelled row, or 1.0 for rows chosen by hand"
                )
            pi = np.ones(len(places))
        elif inclusion is None:
            pi = np.full(len(places), len(places) / n_rows)
        else:
            pi = checked_inclusion(inclusion, places, n_rows)
        kept = np.zeros(len(places), dtype=np.int64)
        if strata is not None:
            of_labelled = group_numbers(strata, n_rows, "strata")[places]
            kept = np.unique(of_labelled, return_inverse=True)[1].reshape(-1).astype(np.int64)
        return cls(labels, columns, places, pi, kept, is_drawn(pi, n_rows))

    def squares(self, table: Floats, cells: Integers, goal: Goal, n_cells: int) -> PilotSquares | None:
        """What their labels show of each cell; rows without probabilities show nothing."""
        known = ~np.isnan(table[self.rows]).any(axis=1)
        if not known.any():
            return None
        rows, columns = self.rows[known], self.columns[known]
        proba = table[rows]
        place = cells[rows]

        def summed(values: Any = None) -> Floats:
            return np.bincount(place, values, minlength=n_cells).astype(np.float64)

        wrong = (proba.argmax(axis=1) != columns).astype(np.float64)
        return PilotSquares(
            summed(), summed(goal.residual_squares(proba, columns)), summed(wrong), summed(1.0 - proba.max(axis=1))
        )


def _probabilities(proba: ArrayLike) -> Floats:
    """Probabilities (N, K), where rows of NaN may stand."""
    values = as_numbers(proba, "proba")
    missing = np.isnan(values) if values.ndim == 1 else np.isnan(values).any(axis=-1)
    if values.ndim not in (1, 2) or not missing.any():
        return checked_probability_rows(values)
    if missing.all():
        raise InputError("proba is NaN in every row; expected the probabilities of at least one")
    table = checked_probability_rows(values[~missing])
    result = np.full((len(values), table.shape[1]), np.nan)
    result[~missing] = table
    return result


def _places(rows: ArrayLike, n_rows: int) -> Integers:
    """The places of labelled rows, also of a single one or of none."""
    places = as_array(rows, "rows")
    if places.ndim == 1 and places.dtype.kind == "b" and places.size == n_rows:
        places = np.flatnonzero(places)
    if places.ndim == 1 and places.size < 2:
        values = [place for place in places.tolist() if is_whole_number(place, 0) and place < n_rows]
        if len(values) < places.size:
            raise InputError(
                f"rows={places.tolist()}; expected whole numbers, places of the rows 0 to {n_rows - 1} of proba"
            )
        return np.array(values, dtype=np.int64)
    return checked_rows(rows, n_rows)


def _table(data: Any, n_rows: int) -> pd.DataFrame:
    if isinstance(data, pd.DataFrame):
        frame = data.reset_index(drop=True)
    elif isinstance(native := nw.from_native(data, pass_through=True), nw.DataFrame):
        frame = native.to_pandas().reset_index(drop=True)
    elif isinstance(data, Mapping):
        try:
            frame = pd.DataFrame(dict(data))
        except ValueError as error:
            raise InputError(f"data is a dict that is no table ({error}); expected {n_rows} values in each") from None
    elif isinstance(data, np.ndarray) and data.ndim != 1:
        raise InputError(f"data has shape {data.shape}; expected a data frame, whose columns have names, or texts")
    elif isinstance(data, Iterable) and not isinstance(data, (str, bytes)):
        frame = pd.DataFrame({"text": pd.Series(list(data), dtype=object)})
    else:
        raise InputError(f"data is {type_of(data)}; expected the table, or its texts, with {n_rows} rows")
    if len(frame) != n_rows:
        raise InputError(f"data has {len(frame)} rows, and {n_rows} have probabilities; expected the same table")
    if not frame.columns.is_unique:
        twice = frame.columns[frame.columns.duplicated()].tolist()[0]
        raise InputError(f"data has two columns {twice!r}; rename one of them")
    return frame


def _joined_labels(before: NDArray[Any], new: NDArray[Any]) -> NDArray[Any]:
    if before.dtype == new.dtype or (before.dtype.kind in "biuf" and new.dtype.kind in "biuf"):
        return np.concatenate([before, new])
    if before.dtype.kind == new.dtype.kind == "U":
        return np.concatenate([before, new])
    objects = np.empty(len(before) + len(new), dtype=object)
    objects[:] = [*before.tolist(), *new.tolist()]
    return objects
