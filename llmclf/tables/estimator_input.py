"""What a user hands to an estimator, checked as scikit-learn does and read as rows; bad rows are noted, not refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
import pandas as pd
from scipy.sparse import issparse
from sklearn.base import BaseEstimator
from sklearn.utils.validation import validate_data

from ..errors import InputError, listed
from .bad_rows import Problem, check_problems, value_problem
from .rows import Rows, read_rows


def read_input(estimator: BaseEstimator, X: Any, *, reset: bool) -> Rows:
    """Rows of named fields; shapes, feature counts and names are checked as scikit-learn does.

    Parameters
    ----------
    estimator : BaseEstimator
        Keeps number and names of the columns of a table.
    X : n texts (list, 1-D array or Series of str) or a table (DataFrame, 2-D array, list of dicts)
    reset : bool
        Whether this is a fit: number and names of the columns are then noted, else compared where they have no names.

    Raises
    ------
    InputError
        `X` is empty or of another type.
    ValueError
        A table without names has another number of columns than in the fit, or only one of both has names.

    Notes
    -----
    What is wrong with single rows stands in `Rows.problems`; what a prompt finds wrong with others, the scorer knows.
    """
    X = _unmasked(X)
    is_nested = isinstance(X, (list, tuple)) and all(isinstance(row, (list, tuple, np.ndarray)) for row in X)
    if (is_nested and len(X)) or (isinstance(X, np.ndarray) and X.ndim == 2) or issparse(X):
        array = validate_data(estimator, X, reset=reset, dtype=None, ensure_all_finite=False)
        return replace(read_rows(array, keep_bad=True), problems=_infinite(array))
    rows = read_rows(X, keep_bad=True)
    is_named = all(isinstance(name, str) for name in getattr(X, "columns", rows.field_names))
    is_known = not reset and is_named and getattr(estimator, "feature_names_in_", None) is not None
    if rows.is_table and not is_known:
        # Among named columns the prompt finds those that it shows, wherever they stand and whatever else there is.
        validate_data(estimator, _header(rows, X), reset=reset, skip_check_array=True)
    return rows


def read_texts(X: Any, *, cure: str) -> list[str]:
    """The texts of an input that may not be a table.

    Parameters
    ----------
    X : list, array or Series of str
    cure : str
        What to do with a table, for the error: ``{column}`` in it becomes the name of its first column.

    Raises
    ------
    InputError
        `X` is empty, of another type or a table; or a value is missing, blank or not a text.

    Examples
    --------
    >>> read_texts([{"review": "fine"}], cure="give X[{column}]")
    Traceback (most recent call last):
    ...
    llmclf.errors.InputError: X is a table of 'review', and texts are expected: give X['review']
    """
    rows = read_rows(_unmasked(X), keep_bad=True)
    if rows.is_table:
        names = listed(map(repr, rows.field_names), 5)
        raise InputError(
            f"X is a table of {names}, and texts are expected: {cure.format(column=repr(rows.field_names[0]))}"
        )
    check_problems(rows.problems, may_be_left_out=False)
    (name,) = rows.field_names
    found = ((number, value_problem(record[name], name, is_text=True)) for number, record in enumerate(rows.records))
    problems = {number: problem.without_field for number, problem in found if problem is not None}
    check_problems(problems, may_be_left_out=False)
    return [str(record[name]) for record in rows.records]


def _unmasked(X: Any) -> Any:
    """Whatever has an array's interface as an array, with what a mask hides as missing."""
    if not isinstance(X, (list, tuple)) and not nw.dependencies.is_into_dataframe(X) and hasattr(X, "__array__"):
        X = X if nw.dependencies.is_into_series(X) else np.asanyarray(X)
    if isinstance(X, np.ma.MaskedArray):
        mask, X = np.ma.getmaskarray(X), np.array(X.data, dtype=object)
        X[mask] = None  # scikit-learn would show what the mask hides
    return X


def _infinite(array: np.ndarray) -> dict[int, Problem]:
    """The rows of a 2-D array with an infinite number, which scikit-learn refuses in arrays."""
    if array.dtype.kind not in "fc":
        return {}
    places = np.argwhere(np.isinf(array))[::-1]  # of several in a row, the first remains
    return {
        int(i): Problem("infinite", f"field 'x{j}' is infinite", str(array[i, j]), f"x{j}") for i, j in places.tolist()
    }


def _header(rows: Rows, X: Any) -> Any:
    """A table without rows that has the columns of `X`; dicts have no order of their own, so theirs is sorted."""
    if isinstance(X, (list, tuple)):
        return pd.DataFrame(columns=sorted(rows.field_names))
    if all(isinstance(name, str) for name in X.columns):
        return pd.DataFrame(columns=list(rows.field_names))
    return np.empty((len(rows), len(rows.field_names)))
