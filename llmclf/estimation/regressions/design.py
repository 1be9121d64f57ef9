"""From covariates as callers pass them, in a matrix or by a formula, to the design of a regression with a label in it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
import pandas as pd

from ...arrays import Floats, Integers
from ...checks import is_finite_number
from ...errors import InputError, MissingDependencyError, listed, type_of
from ...numerics.class_matching import is_hashable
from ...tables.array_arguments import as_numbers
from ..labelled_sample import LabelledSample
from .estimating_equations import LabelDesign

INTERCEPT = "Intercept"
_COLOURS = re.compile(r"\x1b\[[0-9;]*m|[\u29da\u29db]")
_LARGEST = 1e100  # of a column: its squares stay far from the largest and the smallest numbers that a computer has
_DEPENDENT = 1e-10  # of a column's sum of squares, that is left when those before it are taken out


@dataclass(frozen=True, eq=False)
class NamedDesign:
    """A design, and what its columns and its outcome are called.

    Attributes
    ----------
    design : LabelDesign
    names : list of str (p,)
    outcome : str
    """

    design: LabelDesign
    names: list[str]
    outcome: str

    def scaled(self) -> tuple[NamedDesign, Floats]:
        """The same with columns whose mean square is 1, and what the columns (p,) were divided by."""
        design = self.design
        squares = np.einsum("ij,ij->j", design.X, design.X) / len(design.X)
        if design.by_class:
            squares[design.varying] = np.mean([(part**2).mean(axis=0) for part in design.by_class], axis=0)
        scale = np.sqrt(np.where(squares > 0, squares, 1.0))
        by_class = tuple(part / scale[design.varying] for part in design.by_class)
        return replace(self, design=replace(design, X=design.X / scale, by_class=by_class)), scale


def label_values(sample: LabelledSample, event: Any, values: Mapping[Any, float] | None) -> Floats | None:
    """The number (K,) that each class stands for: 1 for the event, else 0; or as given; None where neither is given.

    Raises
    ------
    InputError
        Both are given, a class is unknown or lacks a number.

    Examples
    --------
    >>> sample = LabelledSample.checked(np.full((20, 2), 0.5), ["a", "b"] * 6, range(12))
    >>> label_values(sample, "b", None).tolist(), label_values(sample, None, {"a": -1, "b": 2.5}).tolist()
    ([0.0, 1.0], [-1.0, 2.5])
    """
    known = sample.classes.tolist()
    if event is not None and values is not None:
        raise InputError("event= and values= both say what the label stands for; give one of them")
    if event is not None:
        if isinstance(event, np.ndarray):
            event = event.tolist()
        events = list(event) if isinstance(event, (list, tuple, set, frozenset, range)) else [event]
        odd = [one for one in events if not is_hashable(one) or one not in known]
        if odd or not events or len(set(events)) == len(known):
            named = f"{odd[0]!r} is not a class" if odd else "it holds no class, or all of them"
            raise InputError(f"event={event!r}: {named}; expected one or some of the classes {known!r}")
        return np.array([float(label in events) for label in known])
    if values is not None:
        is_complete = isinstance(values, Mapping) and set(values) == set(known)
        if not is_complete or not all(is_finite_number(value) for value in values.values()):
            raise InputError(f"values={values!r}; expected a dict with a number for each of the classes {known!r}")
        return np.array([float(values[label]) for label in known])
    return None


def matrix_design(
    sample: LabelledSample,
    X: Any,
    outcome: Any,
    numbers: Floats | None,
    reference: Any,
    label: str,
    intercept: bool,
) -> NamedDesign:
    """The design of covariates in the columns of a table or matrix, or None; the label is a covariate if an outcome is given.

    Raises
    ------
    InputError
    """
    table = _numeric_table(X, sample.n_rows, outcome if isinstance(outcome, str) else None)
    names, columns = list(table), list(table.values())
    if intercept:
        names, columns = [INTERCEPT, *names], [np.ones(sample.n_rows), *columns]
    fixed = np.column_stack(columns) if columns else np.empty((sample.n_rows, 0))
    if outcome is None:
        if not names:
            raise InputError("there are no covariates and no intercept; give X, or intercept=True")
        return NamedDesign(LabelDesign(fixed, values=_outcome_values(sample, numbers)), names, label)
    y = _column(X, outcome, sample.n_rows) if isinstance(outcome, str) else _numbers(outcome, "outcome", sample.n_rows)
    own_names, parts = _label_columns(sample, numbers, reference, label)
    clash = [name for name in own_names if name in names]
    if clash:
        raise InputError(f"X has a column {clash[0]!r}, as the label's own is called; name the label otherwise: label=")
    at = int(intercept)
    width = len(own_names)
    whole = np.concatenate([fixed[:, :at], np.zeros((sample.n_rows, width)), fixed[:, at:]], axis=1)
    design = LabelDesign(whole, y=y, varying=np.arange(at, at + width), by_class=parts)
    return NamedDesign(
        design, [*names[:at], *own_names, *names[at:]], outcome if isinstance(outcome, str) else "outcome"
    )


def formula_design(
    sample: LabelledSample, formula: str, data: Any, numbers: Floats | None, reference: Any, label: str
) -> NamedDesign:
    """The design that a formula describes, in which the name `label` stands for the label.

    Raises
    ------
    InputError
        The formula cannot be read or used, or a row lacks a value.
    MissingDependencyError
        The package formulaic is not installed.
    """
    try:
        from formulaic import Formula  # heavy
        from formulaic.errors import FormulaicError
    except ImportError:
        raise MissingDependencyError("formulas need formulaic; run: pip install 'llmclf[formula]'") from None
    frame = _frame(data, sample.n_rows)
    if label in frame.columns:
        raise InputError(
            f"the data have a column {label!r} of their own; name the label in the formula otherwise: label="
        )
    try:
        parsed = Formula(formula)
        left, right = parsed.lhs, parsed.rhs
        left_names = {str(name) for name in left.required_variables}
        right_names = {str(name) for name in right.required_variables}
    except (FormulaicError, AttributeError, SyntaxError, ValueError) as error:
        # formulaic marks the place in colour, and names its own objects where there is no outcome.
        why = f" ({_COLOURS.sub('', str(error))})" if isinstance(error, (FormulaicError, SyntaxError)) else ""
        raise InputError(f"formula={formula!r} cannot be read{why}; expected 'outcome ~ covariates'") from error
    unknown = sorted((left_names | right_names) - set(frame.columns) - {label})
    if unknown:
        raise InputError(
            f"formula={formula!r} names {listed(map(repr, unknown))}, which the data do not have; they have "
            f"{listed(map(repr, map(str, frame.columns)))}, and {label!r} stands for the label"
        )
    if (label in left_names) == (label in right_names):
        raise InputError(f"formula={formula!r}; expected {label!r}, which stands for the label, on exactly one side")
    used = sorted((left_names | right_names) - {label})
    _check_present(frame, used)
    is_outcome = label in left_names
    if is_outcome and [str(term) for term in left] != [label]:
        raise InputError(
            f"formula={formula!r}; expected the label {label!r} itself as outcome. Numbers for its classes: values="
        )

    order = _reference_first(sample, reference)
    names = sample.classes.tolist()

    def materialised(spec: Any, codes: Integers) -> Any:
        own: Any = pd.Categorical.from_codes(np.argsort(order)[codes], [names[k] for k in order])
        given = frame.assign(**{label: own if numbers is None else numbers[codes]})
        try:
            return spec.get_model_matrix(given, context={}, na_action="raise", output="pandas")
        except (FormulaicError, ValueError, TypeError, KeyError, NameError) as error:
            raise InputError(f"formula={formula!r} cannot be computed: {error}") from error

    # Classes in turn, so that every one is among the categories from which the columns are made.
    turns = np.arange(sample.n_rows) % sample.n_classes
    first = materialised(right, turns)
    columns = [str(name) for name in first.columns]
    if is_outcome:
        X = _finite(first, columns)
        return NamedDesign(LabelDesign(X, values=_outcome_values(sample, numbers)), columns, label)
    outcome = materialised(left, turns)
    if outcome.shape[1] != 1:
        raise InputError(f"formula={formula!r} has {outcome.shape[1]} outcomes; expected one column of numbers")
    y = _finite(outcome, [str(name) for name in outcome.columns])[:, 0]
    tables = [
        _finite(materialised(first.model_spec, np.full(sample.n_rows, k)), columns) for k in range(sample.n_classes)
    ]
    varying = np.flatnonzero(np.any([(table != tables[0]).any(axis=0) for table in tables[1:]], axis=0))
    parts = tuple(_folded(table[:, varying]) for table in tables)
    return NamedDesign(LabelDesign(tables[0], y=y, varying=varying, by_class=parts), columns, str(outcome.columns[0]))


def dependent_columns(gram: Floats) -> list[int]:
    """The columns that are combinations of those before them, from the products (p, p) of all columns.

    Examples
    --------
    >>> X = np.array([[1.0, 0.0, 2.0], [1.0, 1.0, 2.0], [1.0, 3.0, 2.0]])
    >>> dependent_columns(X.T @ X)
    [2]
    """
    left = gram.copy()
    dependent = []
    for j in range(len(gram)):
        if left[j, j] <= _DEPENDENT * max(gram[j, j], 1e-300):
            dependent.append(j)
            continue
        left -= np.outer(left[:, j], left[j]) / left[j, j]
    return dependent


def _folded(columns: Floats) -> Floats:
    """One row in place of N equal ones."""
    return columns[:1] if (columns == columns[0]).all() else columns


def _outcome_values(sample: LabelledSample, numbers: Floats | None) -> Floats:
    if numbers is not None:
        return numbers
    if sample.n_classes == 2:
        return np.array([0.0, 1.0])
    raise InputError(
        f"the label has {sample.n_classes} classes, and an outcome is a number; give event=CLASS for the frequency of a class, "
        f"or values={{class: number}} for a score, with the classes {sample.classes.tolist()!r}"
    )


def _reference_first(sample: LabelledSample, reference: Any) -> list[int]:
    """The classes in the order in which they are coded: the one that others are compared with first."""
    known = sample.classes.tolist()
    if reference is None:
        return list(range(len(known)))
    if reference not in known:
        raise InputError(f"reference={reference!r} is not a class; expected one of {known!r}")
    first = known.index(reference)
    return [first, *(k for k in range(len(known)) if k != first)]


def _label_columns(
    sample: LabelledSample, numbers: Floats | None, reference: Any, label: str
) -> tuple[list[str], tuple[Floats, ...]]:
    """Names (v,) of the columns that a label as covariate has, and what stands in them (1, v) for each class."""
    if numbers is not None:
        return [label], tuple(np.full((1, 1), number) for number in numbers)
    order = _reference_first(sample, reference)
    table = np.zeros((sample.n_classes, sample.n_classes - 1))
    table[order[1:], np.arange(sample.n_classes - 1)] = 1.0
    return [f"{label}[T.{sample.classes[k]}]" for k in order[1:]], tuple(row[None, :] for row in table)


def _frame(data: Any, n_rows: int) -> pd.DataFrame:
    if isinstance(data, pd.DataFrame):
        frame = data.reset_index(drop=True)
    elif isinstance(data, Mapping):
        try:
            frame = pd.DataFrame(dict(data))
        except ValueError as error:
            raise InputError(
                f"X is a dict that is no table ({error}); expected {n_rows} values in each column"
            ) from None
    else:
        native = nw.from_native(data, pass_through=True)
        if not isinstance(native, nw.DataFrame):
            raise InputError(
                f"X is {type_of(data)}; a formula needs a data frame whose columns it names, and so does an outcome by name"
            )
        frame = pd.DataFrame(native.to_dict(as_series=False))
    if len(frame) != n_rows:
        raise InputError(f"X has {len(frame)} rows and proba {n_rows}; expected the covariates of every row")
    return frame


def _numeric_table(X: Any, n_rows: int, without: str | None) -> dict[str, Floats]:
    if X is None:
        return {}
    if isinstance(X, (pd.DataFrame, Mapping)) or isinstance(nw.from_native(X, pass_through=True), nw.DataFrame):
        frame = _frame(X, n_rows)
        if not frame.columns.is_unique:
            raise InputError("X has two columns of the same name; rename one of them")
        return {str(name): _column(frame, name, n_rows) for name in frame.columns if str(name) != without}
    values = np.asarray(X, dtype=object)
    values = values[:, None] if values.ndim == 1 else values
    if values.ndim != 2:
        raise InputError(f"X has shape {values.shape}; expected (N, p), the covariates of every row")
    return {f"x{j}": _numbers(values[:, j], f"column {j} of X", n_rows) for j in range(values.shape[1])}


def _column(X: Any, name: Any, n_rows: int) -> Floats:
    frame = _frame(X, n_rows)
    if name not in frame.columns:
        raise InputError(f"X has no column {name!r}; it has {listed(map(repr, map(str, frame.columns)))}")
    column = frame[name]
    missing = np.flatnonzero(column.isna())
    if missing.size:
        raise InputError(_missing(name, missing))
    if not pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
        raise InputError(
            f"column {name!r} of X holds {type_of(column.iloc[0])}, such as {column.iloc[0]!r}, and not numbers; give a formula, "
            f"in which C({name}) makes a column for each of its values"
        )
    return _numbers(column, f"column {name!r} of X", n_rows)


def _numbers(values: Any, name: str, n_rows: int) -> Floats:
    try:
        numbers = as_numbers(values, name)
    except InputError:
        raise InputError(f"{name} holds values that are not numbers; give a formula for categories") from None
    if numbers.shape != (n_rows,):
        raise InputError(f"{name} has shape {numbers.shape}; expected ({n_rows},), a number for every row")
    missing = np.flatnonzero(np.isnan(numbers))
    if missing.size:
        raise InputError(_missing(name, missing))
    if not np.isfinite(numbers).all():
        raise InputError(
            f"{name} is infinite in row {np.flatnonzero(~np.isfinite(numbers))[0]}; expected finite numbers"
        )
    largest = float(np.abs(numbers).max(initial=0.0))
    if largest > _LARGEST or 0.0 < largest < 1.0 / _LARGEST:
        raise InputError(f"{name} reaches {largest:.3g}, beyond what can be computed with; give it in another unit")
    return numbers


def _check_present(frame: pd.DataFrame, names: Iterable[str]) -> None:
    for name in names:
        missing = np.flatnonzero(frame[name].isna())
        if missing.size:
            raise InputError(_missing(name, missing))


def _missing(name: Any, rows: Sequence[int] | Integers) -> str:
    return (
        f"{name} is missing in {len(rows)} rows, the first of them row {rows[0]}; leave these rows out of everything (proba, X, "
        "y and rows), which makes the others the target, or fill them and add a column that says where"
    )


def _finite(table: Any, names: Sequence[str]) -> Floats:
    values = np.asarray(table, dtype=np.float64)
    bad = np.argwhere(~np.isfinite(values))
    if bad.size:
        raise InputError(
            f"{names[bad[0][1]]!r} of the formula is not finite in row {bad[0][0]}; expected finite numbers"
        )
    return values
