"""Checks of what a caller gives to an estimate: each error names the value, what was expected and the cure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from ..arrays import Floats, Integers
from ..checks import is_number, is_whole_number
from ..errors import EstimationWarning, InputError, listed, warn
from ..metrics import checked_probability_rows, label_columns
from ..tables.array_arguments import as_array, as_labels, as_numbers, check_labels_present

if TYPE_CHECKING:
    from .labelled_sample import LabelledSample

FEWEST_ROWS = 10
"""With fewer labelled rows, estimates warn."""


def once_for_all(values: Iterable[Any] | None) -> Any:
    """What can be read only once, as a list; text and what holds no values as it is, for `group_numbers` to refuse."""
    return list(values) if isinstance(values, Iterable) and not isinstance(values, (str, bytes)) else values


def checked_proba(proba: ArrayLike, y: NDArray[Any], known: list[Any] | None) -> tuple[Floats, list[Any] | None]:
    """Probabilities (N, K), and the classes of their columns if they are known; a label per row becomes a 1 in its column."""
    values = as_array(proba, "proba")
    if values.ndim != 1 or values.dtype.kind == "f" or _are_fractions(values):
        return checked_probability_rows(values), known
    predicted = as_labels(proba, "proba")
    check_labels_present(predicted, "proba", known)
    if known is None:
        by_hand = y if y.ndim == 1 else y[:0].reshape(-1)
        check_labels_present(by_hand, "y")
        try:
            known = sorted({*predicted.tolist(), *by_hand.tolist()})
        except TypeError:
            raise InputError(
                "the predicted labels in proba and the labels in y cannot be sorted together; "
                "give the classes as classes="
            ) from None
    if len(known) < 2:
        raise InputError(f"the classes are {known!r}; expected at least two: give them as classes=")
    try:
        columns = label_columns(predicted, len(known), known)
    except InputError as error:
        raise InputError(f"proba holds a label per row, and {str(error).replace('y[', 'proba[', 1)}") from None
    table = np.zeros((len(columns), len(known)))
    table[np.arange(len(columns)), columns] = 1.0
    return checked_probability_rows(table), known


def _are_fractions(values: NDArray[Any]) -> bool:
    """Whether the values of an object array are numbers of which some are no labels."""
    numbers = [value for value in values.tolist() if is_number(value)] if values.dtype.kind == "O" else []
    return len(numbers) == values.size > 0 and any(0.0 < value < 1.0 for value in numbers)


def checked_rows(rows: ArrayLike, n_rows: int) -> Integers:
    """The places of the labelled rows, from places or from a truth value per row."""
    places = as_array(rows, "rows")
    if places.ndim != 1:
        raise InputError(f"rows has shape {places.shape}; expected the place of each labelled row among the {n_rows}")
    if places.dtype.kind == "O":
        places = _typed(places)
    if places.dtype.kind == "b":
        if places.size != n_rows:
            raise InputError(f"rows holds {places.size} truth values for {n_rows} rows; expected one per row of proba")
        places = np.flatnonzero(places)
    if places.size < 2:
        raise InputError(
            f"{places.size} labelled row{'s' * (places.size != 1)}; two are the fewest that show how much rows differ: label more"
        )
    if places.dtype.kind not in "iu":
        odd = next((place for place in places.tolist() if not is_whole_number(place)), places[0])
        raise InputError(
            f"rows holds values such as {odd!r}; expected whole numbers, the places of the labelled rows, or a truth value per "
            "row"
        )
    bad = np.flatnonzero((places < 0) | (places >= n_rows))
    if bad.size:
        raise InputError(
            f"rows[{bad[0]}]={places[bad[0]]}, and proba has the rows 0 to {n_rows - 1}; labels of other rows say nothing about "
            "these: add the rows to proba, or drop the labels"
        )
    distinct, counts = np.unique(places, return_counts=True)
    if distinct.size < places.size:
        raise InputError(
            f"row {distinct[counts > 1][0]} occurs {counts.max()} times in rows; expected one label per row: decide between the "
            "labels first"
        )
    return places.astype(np.int64)


def _typed(places: NDArray[Any]) -> NDArray[Any]:
    """Whole numbers or truth values among Python objects, as a column of a table may hold them, with their type."""
    values = places.tolist()
    if values and all(isinstance(value, (bool, np.bool_)) for value in values):
        return places.astype(bool)
    if values and all(is_whole_number(value) and abs(value) < 2**62 for value in values):
        return places.astype(np.int64)
    return places


def checked_labels(y: Any, places: Integers, known: list[Any] | None = None) -> NDArray[Any]:
    """The labels by hand (n,) of the rows at these places, none of them missing."""
    labels = as_labels(y)
    if labels.ndim != 1 or labels.size != len(places):
        raise InputError(
            f"y has shape {labels.shape} for {len(places)} labelled rows; expected one label per entry of rows"
        )
    check_labels_present(labels, "y", known)
    if isinstance(y, pd.Series) and not isinstance(y.index, pd.RangeIndex):
        index, given = y.index.tolist(), places.tolist()
        if index != given and sorted(index, key=str) == sorted(given, key=str):
            raise InputError(
                "the index of y holds the places of the labelled rows in another order than rows, so it is not clear which label "
                "is whose; give y.loc[rows], or y.to_numpy() if the labels are in the order of rows"
            )
    if known is None and isinstance(getattr(y, "dtype", None), pd.CategoricalDtype):
        order = y.dtype.categories.tolist()
        if not _is_sorted(order):
            raise InputError(
                f"y has the categories {order!r} in this order, and the columns of proba would be those of the sorted labels; "
                "give the class of each column, in order, as classes="
            )
    return labels


def _is_sorted(values: list[Any]) -> bool:
    try:
        return sorted(values) == values
    except TypeError:
        return False


def checked_weights(weights: ArrayLike | None, n_rows: int) -> Floats:
    """What each row counts (N,), in units of the largest."""
    if weights is None:
        return np.ones(n_rows)
    v = as_numbers(weights, "weights")
    if v.shape != (n_rows,):
        raise InputError(f"weights has shape {v.shape}; expected ({n_rows},): what each row counts, labelled or not")
    bad = np.flatnonzero(~(np.isfinite(v) & (v >= 0)))
    if bad.size:
        raise InputError(f"weights[{bad[0]}]={v[bad[0]]}; expected finite numbers of at least 0")
    if not v.any():
        raise InputError("all weights are 0; expected at least one row that counts")
    relative: Floats = v / v.max()
    return relative


def check_counted(weights: Floats) -> None:
    """Refuse a sample of which fewer than two labelled rows (n,) have a weight."""
    n_counted = int(np.count_nonzero(weights))
    if n_counted < 2:
        raise InputError(
            f"{n_counted} of the {len(weights)} labelled rows have a weight above 0; two are the fewest that show how much rows "
            "differ: label rows that count"
        )


def sampling_fractions(places: Integers, n_rows: int, stratum: Integers | None, names: Iterable[Any] | None) -> Floats:
    """The inclusion probabilities (n,) of a simple random sample, of each stratum if there are strata."""
    if stratum is None:
        return np.full(len(places), len(places) / n_rows)
    sizes = np.bincount(stratum)
    drawn = np.bincount(stratum[places], minlength=len(sizes))
    empty = np.flatnonzero(drawn == 0)
    if empty.size:
        shown = listed(repr(_name_of(names, stratum, h)) for h in empty.tolist())
        raise InputError(
            f"no row of the strata {shown} is labelled, so nothing is known about such rows; label some, join the stratum with "
            "another, or leave it out of the table"
        )
    fractions: Floats = (drawn / sizes)[stratum[places]]
    return fractions


def checked_inclusion(inclusion: ArrayLike, places: Integers, n_rows: int) -> Floats:
    """The inclusion probabilities (n,) of the labelled rows, from theirs or from those of all rows."""
    pi = as_numbers(inclusion, "inclusion")
    if pi.shape not in ((len(places),), (n_rows,)):
        raise InputError(
            f"inclusion has shape {pi.shape}; expected ({len(places)},), a probability per labelled row, or ({n_rows},), one per "
            "row"
        )
    is_whole = pi.shape == (n_rows,)
    numbers = np.arange(n_rows) if is_whole else np.arange(len(places))
    labelled = np.isin(numbers, places) if is_whole else np.ones(len(places), dtype=bool)
    missing = np.flatnonzero(labelled & np.isnan(pi))
    if missing.size:
        raise InputError(
            f"inclusion[{missing[0]}] is missing, and the row is labelled; give the probability with which it was drawn. Without "
            "it the label cannot be used: drop it if it was not drawn at random"
        )
    zero = np.flatnonzero(pi <= 0)
    if zero.size:
        raise InputError(
            f"inclusion[{zero[0]}]={pi[zero[0]]:g}; expected above 0: a row that cannot be drawn is one about which no label "
            "says anything. Leave such rows out of the table, or draw so that each has a chance"
        )
    above = np.flatnonzero(pi > 1)
    if above.size:
        raise InputError(
            f"inclusion[{above[0]}]={pi[above[0]]:g}; expected probabilities of at most 1. Divide 1 by weights to get them"
        )
    return pi[places] if is_whole else pi


def check_weights_beside_inclusion(v: Floats, pi: Floats) -> None:
    """Refuse weights that repeat the inclusion probabilities, and warn of others, of labelled rows (n,)."""
    counted = v > 0
    v, pi = v[counted], pi[counted]
    product = v * pi
    # Weights that were rounded, as in a file, repeat them as well.
    if np.ptp(pi) > 0.02 * pi.max() and np.ptp(product) <= 0.01 * product.max():
        raise InputError(
            "weights are the inverse of inclusion, so that each row would count twice for its probability; give inclusion alone"
        )
    warn(
        "weights and inclusion are both given: weights say what each of all rows counts in the target, inclusion says how the "
        "labelled rows were drawn, and a labelled row counts weight / inclusion. If your weights correct for how rows were "
        "drawn, give inclusion alone",
        EstimationWarning,
    )


def _name_of(names: Iterable[Any] | None, numbers: Integers, number: int) -> Any:
    values = [] if names is None else list(names)
    value = values[int(np.flatnonzero(numbers == number)[0])]
    return value.item() if isinstance(value, np.generic) else value


def check_units(sample: LabelledSample) -> None:
    """Refuse a sample whose labelled rows were all drawn together: means and coefficients need to see units differ."""
    n_units = len(np.unique(sample.units[sample.design_weights > 0]))
    if n_units < 2:
        raise InputError(
            f"the labelled rows that count lie in {n_units} cluster; two are the fewest that show how clusters differ: label "
            "rows of others"
        )


def warn_of_limits(sample: LabelledSample, strata: Iterable[Any] | None) -> None:
    """Warn of a sample from which estimates hold only in part, and say what still holds."""
    n = sample.n_labelled
    if n < FEWEST_ROWS:
        warn(
            f"{n} labelled rows{_that_count(sample)}; the intervals are wide, and the model's probabilities can hardly be "
            f"checked with fewer than {FEWEST_ROWS}. Label more",
            EstimationWarning,
        )
    counts = np.bincount(sample.columns[sample.counted], minlength=sample.n_classes)
    if counts.max() == n:
        warn(
            f"all {n} labels{_that_count(sample)} are {sample.classes.tolist()[counts.argmax()]!r}; the intervals hold, but how "
            "good the probabilities are cannot be seen, so they are not used for more than the labels alone can bear out",
            EstimationWarning,
        )
    elif (counts == 0).any():
        never = listed(repr(label) for label in sample.classes[counts == 0].tolist())
        warn(
            f"no labelled row{_that_count(sample, 's')} is {never}; the intervals of such classes hold, and rest on how many "
            "rows were labelled without one, whatever the probabilities say",
            EstimationWarning,
        )
    if sample.has_known_inclusion:
        _warn_of_total(sample)
    if sample.strata is not None:
        drawn = np.bincount(sample.strata[sample.rows[sample.counted]])
        if (drawn == 1).any():
            shown = listed(repr(_name_of(strata, sample.strata, h)) for h in np.flatnonzero(drawn == 1).tolist())
            warn(
                f"one row of the strata {shown} is labelled, which does not show how much its rows differ; it is compared with "
                "the mean of all, which makes intervals wider. Label a second one, or join the stratum with another",
                EstimationWarning,
            )


def _that_count(sample: LabelledSample, ending: str = "") -> str:
    return "" if sample.counted.all() else f" that count{ending} (of weight above 0)"


def _warn_of_total(sample: LabelledSample) -> None:
    """Warn where the inverse inclusion probabilities cannot be those of a sample of these rows."""
    with np.errstate(over="ignore"):  # of probabilities next to 0, the inverse is endless
        inverse = 1.0 / sample.inclusion
        error = float(np.linalg.norm(np.sqrt(1.0 - sample.inclusion) * inverse))
    off = abs(float(inverse.sum()) - sample.n_rows)
    if not off <= 6.0 * error + 0.5:
        warn(
            f"the inverse inclusion probabilities of the labelled rows sum to {inverse.sum():.6g}, and there are {sample.n_rows} "
            "rows; in a sample of these rows both are about the same. The estimates use the ratios of the probabilities, so they "
            "hold if these are right; check that they belong to these rows, and that none of the drawn rows was left out",
            EstimationWarning,
        )
