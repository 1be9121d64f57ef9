"""What a user hands to an estimator, checked as scikit-learn does and read as rows."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
import pandas as pd
from scipy.sparse import issparse
from sklearn.base import BaseEstimator
from sklearn.utils.validation import validate_data

from .rows import Rows, read_rows


def read_input(estimator: BaseEstimator, X: Any, *, reset: bool, needed: Collection[str] | None = None) -> Rows:
    """Rows of named fields; shapes, feature counts and names are checked as scikit-learn does.

    Parameters
    ----------
    estimator : BaseEstimator
        Keeps number and names of the columns of a table.
    X : n texts (list, 1-D array or Series of str) or a table (DataFrame, 2-D array, list of dicts)
    reset : bool
        Whether this is a fit: number and names of the columns are then noted, else compared.
    needed : collection of str, optional
        The columns of the fit that may be shown; a table may lack the others. None needs all.

    Raises
    ------
    InputError
        As `read_rows`.
    ValueError
        A table has other columns than in the fit.
    """
    if not isinstance(X, (list, tuple)) and not nw.dependencies.is_into_dataframe(X) and hasattr(X, "__array__"):
        X = X if nw.dependencies.is_into_series(X) else np.asarray(X)
    first = X[0] if isinstance(X, (list, tuple)) and X else None
    if isinstance(first, (list, tuple, np.ndarray)) or (isinstance(X, np.ndarray) and X.ndim == 2) or issparse(X):
        return read_rows(validate_data(estimator, X, reset=reset, dtype=None))
    rows = read_rows(X)
    if rows.is_table:
        # Names and number of columns are scikit-learn's business; which values are needed, the prompt knows.
        validate_data(estimator, _completed(estimator, _header(rows, X), needed), reset=reset, skip_check_array=True)
    return rows


def _completed(estimator: BaseEstimator, header: Any, needed: Collection[str] | None) -> Any:
    """A header with the columns of the fit that it may lack."""
    fitted = getattr(estimator, "feature_names_in_", None)
    if needed is None or fitted is None or not isinstance(header, pd.DataFrame):
        return header
    given = list(header.columns)
    if all(name in given for name in fitted if name not in needed):
        return header
    names = [name for name in fitted if name in given or name not in needed]
    return pd.DataFrame(columns=[*names, *(name for name in given if name not in names)])


def _header(rows: Rows, X: Any) -> Any:
    """A table without rows that has the columns of `X`; dicts have no order of their own, so theirs is sorted."""
    if isinstance(X, (list, tuple)):
        return pd.DataFrame(columns=sorted(rows.field_names))
    if all(isinstance(name, str) for name in X.columns):
        return pd.DataFrame(columns=list(rows.field_names))
    return np.empty((len(rows), len(rows.field_names)))
