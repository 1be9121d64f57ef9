"""What rows have besides label scores, and how it is brought to one scale: learned from some rows, applied to others.

A scaling is learned from rows, so whoever cross-fits learns it anew outside of each fold. Whatever the features, scaled rows have
inner products of the order of 1, so that one range of ridges suits all.
"""

from __future__ import annotations

import reprlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from ..arrays import Floats, Integers
from ..checks import check_keys, checked_numbers, is_finite_number, is_whole_number
from ..errors import InputError
from .feature_arrays import column_names, dense_numbers, sparse_numbers

_LEAST_SPREAD = 1e-3  # of the median spread: what hardly varies is not blown up


class Scaling(ABC):
    """What turns features of rows into a matrix; learned from other rows."""

    @abstractmethod
    def matrix(self, features: RowFeatures) -> Any:
        """The scaled features, ndarray or sparse array (n, d)."""

    @property
    @abstractmethod
    def n_columns(self) -> int:
        """How many columns the matrix has."""

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Numbers and arrays that `scaling_from_dict` reads."""


class RowFeatures(ABC):
    """Features of n rows, before scaling."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def take(self, rows: Integers) -> Self:
        """Those of some rows."""

    @abstractmethod
    def scaling(self, columns: NDArray[np.intp], weights: Floats) -> Scaling:
        """The scaling that these rows (n,), with their true columns and positive weights, teach."""


@dataclass(frozen=True, eq=False)
class DenseFeatures(RowFeatures):
    """Numbers of the same kind in every row, such as hidden states or embeddings.

    Attributes
    ----------
    values : ndarray (n, d)
    names : tuple of d str
        Of the columns, where they have names.

    Examples
    --------
    >>> features = DenseFeatures(np.array([[1.0, 10.0], [3.0, 30.0]]))
    >>> scaling = features.scaling(np.array([0, 1]), np.ones(2))
    >>> (scaling.matrix(features) * np.sqrt(2)).round(6).tolist()
    [[-1.0, -1.0], [1.0, 1.0]]
    """

    values: NDArray[Any]
    names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.values)

    def take(self, rows: Integers) -> DenseFeatures:
        return DenseFeatures(self.values[rows], self.names)

    def scaling(self, columns: NDArray[np.intp], weights: Floats) -> Standardised:
        values = self.values.astype(np.float64)
        mean = weights @ values / weights.sum()
        spread = np.sqrt(weights @ (values - mean) ** 2 / weights.sum())
        varying = spread[spread > 0]
        if varying.size:
            spread = np.maximum(spread, _LEAST_SPREAD * float(np.median(varying)))
        spread[spread == 0] = 1.0
        return Standardised(mean, spread * np.sqrt(values.shape[1]), self.names)


@dataclass(frozen=True, eq=False)
class Standardised(Scaling):
    """(x - mean) / unit, with units such that a row of d features has length 1 on average."""

    mean: Floats
    unit: Floats
    names: tuple[str, ...] = ()

    def matrix(self, features: RowFeatures) -> Floats:
        dense = in_form(features, is_sparse=False)
        assert isinstance(dense, DenseFeatures)
        _check_width(dense.values.shape[1], len(self.mean))
        values = _in_order(dense, self.names).astype(np.float64)
        scaled: Floats = (values - self.mean) / self.unit
        return scaled

    def to_dict(self) -> dict[str, Any]:
        return {"kind": "standardised", "mean": self.mean, "unit": self.unit}

    @property
    def n_columns(self) -> int:
        return len(self.mean)


@dataclass(frozen=True, eq=False)
class SparseFeatures(RowFeatures):
    """Numbers most of which are 0, already weighted, such as those of somebody's own TF-IDF.

    Attributes
    ----------
    values : sparse array (n, d)
    """

    values: Any

    def __len__(self) -> int:
        return int(self.values.shape[0])

    def take(self, rows: Integers) -> SparseFeatures:
        return SparseFeatures(self.values[rows])

    def scaling(self, columns: NDArray[np.intp], weights: Floats) -> CommonUnit:
        values = self.values.astype(np.float64)
        squares = np.asarray(values.multiply(values).sum(axis=1)).reshape(-1)
        return CommonUnit(float(np.sqrt(weights @ squares / weights.sum())) or 1.0, int(self.values.shape[1]))


@dataclass(frozen=True, eq=False)
class CommonUnit(Scaling):
    """x / unit, with one unit such that rows have length 1 on average; zeros stay zeros."""

    unit: float
    n_features: int

    def matrix(self, features: RowFeatures) -> Any:
        thin = in_form(features, is_sparse=True)
        assert isinstance(thin, SparseFeatures)
        _check_width(int(thin.values.shape[1]), self.n_features)
        return thin.values.astype(np.float64) / self.unit

    def to_dict(self) -> dict[str, Any]:
        return {"kind": "common unit", "unit": self.unit, "n_features": self.n_features}

    @property
    def n_columns(self) -> int:
        return self.n_features


@dataclass(frozen=True, eq=False)
class TermCounts(RowFeatures):
    """How often terms occur in each row's text, in one or more vocabularies.

    Attributes
    ----------
    counts : sequence of sparse arrays (n, terms)
        One for each vocabulary, such as that of words and that of parts of words.

    Examples
    --------
    >>> terms = TermCounts([sparse.csr_array([[1, 0, 2], [1, 1, 0]])])
    >>> scaling = terms.scaling(np.array([0, 1]), np.ones(2))
    >>> scaling.matrix(terms).toarray().round(2).tolist()
    [[0.39, 0.0, 0.92], [0.58, 0.81, 0.0]]
    """

    counts: Sequence[Any]

    def __len__(self) -> int:
        return int(self.counts[0].shape[0])

    def take(self, rows: Integers) -> TermCounts:
        return TermCounts([counts[rows] for counts in self.counts])

    def scaling(self, columns: NDArray[np.intp], weights: Floats) -> TermWeights:
        tables = []
        for counts in self.counts:
            frequency = np.asarray(weights @ (counts > 0).astype(np.float64)).reshape(-1)
            rarity = np.log((1.0 + weights.sum()) / (1.0 + frequency)) + 1.0
            # A term that no row has teaches nothing, and must not make other rows' terms count less.
            tables.append(np.where(frequency > 0, rarity, 0.0))
        return TermWeights(tables)


@dataclass(frozen=True, eq=False)
class TermWeights(Scaling):
    """TF-IDF: (1 + log count) times the rarity of the term, each vocabulary's part of a row scaled to the same length.

    Attributes
    ----------
    rarity : sequence of ndarray (terms,)
        0 for terms that no row had.
    """

    rarity: Sequence[Floats]

    def matrix(self, features: RowFeatures) -> Any:
        assert isinstance(features, TermCounts)
        sizes = [counts.shape[1] for counts in features.counts]
        if sizes != [len(rarity) for rarity in self.rarity]:
            raise InputError(
                f"texts are counted by vocabularies of {sizes} terms, and the fit had {list(map(len, self.rarity))}; the "
                "vocabularies are damaged, or of another fit"
            )
        share = np.sqrt(1.0 / len(self.rarity))
        return sparse.hstack(
            [share * _weighted(counts, rarity) for counts, rarity in zip(features.counts, self.rarity, strict=True)],
            format="csr",
        )

    def to_dict(self) -> dict[str, Any]:
        return {"kind": "term weights", "rarity": list(self.rarity)}

    @property
    def n_columns(self) -> int:
        return sum(map(len, self.rarity))


def scaling_from_dict(values: Mapping[str, Any]) -> Scaling:
    """The inverse of `to_dict` of a scaling.

    Raises
    ------
    InputError
        These are no values that fitting can produce.
    """
    kind = values.get("kind") if isinstance(values, Mapping) else None
    read = _READERS.get(kind) if isinstance(kind, str) else None
    if read is None:
        raise InputError(
            f"a scaling of kind {kind!r} is one that fitting cannot produce; expected one of {sorted(_READERS)}"
        )
    try:
        return read(values)
    except InputError as error:
        raise InputError(f"a scaling of kind {kind!r} holds values that fitting cannot produce: {error}") from error


def _standardised(values: Mapping[str, Any]) -> Standardised:
    check_keys(values, ["kind", "mean", "unit"], "it")
    mean = checked_numbers(values["mean"], (None,), "mean")
    unit = checked_numbers(values["unit"], mean.shape, "unit")
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        is_sound = (unit > 0).all() and np.isfinite(mean / unit).all()
    if not is_sound:
        raise InputError("a unit is 0, negative or tiny; expected positive numbers that suit the mean")
    return Standardised(mean, unit)


def _term_weights(values: Mapping[str, Any]) -> TermWeights:
    check_keys(values, ["kind", "rarity"], "it")
    if not isinstance(values["rarity"], list) or not values["rarity"]:
        raise InputError(f"rarity={reprlib.repr(values['rarity'])}; expected the numbers of each vocabulary")
    rarity = [checked_numbers(one, (None,), "rarity") for one in values["rarity"]]
    if any((one < 0).any() for one in rarity):
        raise InputError("a rarity is negative; expected numbers of at least 0")
    return TermWeights(rarity)


def _common_unit(values: Mapping[str, Any]) -> CommonUnit:
    check_keys(values, ["kind", "unit", "n_features"], "it")
    unit, n_features = values["unit"], values["n_features"]
    if not is_finite_number(unit) or unit <= 0 or not is_whole_number(n_features, 1):
        raise InputError(f"unit={unit!r}, n_features={n_features!r}; expected a positive number and a whole one")
    return CommonUnit(float(unit), int(n_features))


_READERS = {"standardised": _standardised, "term weights": _term_weights, "common unit": _common_unit}


def in_form(features: RowFeatures, *, is_sparse: bool) -> RowFeatures:
    """The same numbers as a dense or a sparse array: which one somebody's transformer gives may hang on how many are 0.

    Examples
    --------
    >>> in_form(DenseFeatures(np.array([[0.0, 2.0]])), is_sparse=True).values.toarray().tolist()
    [[0.0, 2.0]]
    """
    if is_sparse and isinstance(features, DenseFeatures):
        return SparseFeatures(sparse.csr_array(features.values.astype(np.float64)))
    if not is_sparse and isinstance(features, SparseFeatures):
        return DenseFeatures(features.values.toarray())
    return features


def as_features(values: Any, name: str, n_rows: int) -> RowFeatures:
    """What a caller gives as features of n rows.

    Parameters
    ----------
    values : RowFeatures, array-like (n, d) or sparse array (n, d)
    name : str
        Of the feature set, for errors.
    n_rows : int

    Raises
    ------
    InputError
        They are no finite numbers, or of another number of rows.
    """
    features = values if isinstance(values, RowFeatures) else _checked(values, name)
    if len(features) != n_rows:
        raise InputError(
            f"features {name!r} have {len(features)} rows, and there are {n_rows}; expected one line per row"
        )
    return features


def _checked(values: Any, name: str) -> RowFeatures:
    """Features that are finite numbers, dense or sparse."""
    is_sparse = sparse.issparse(values)
    numbers = values if is_sparse else dense_numbers(values, name)
    if len(numbers.shape) != 2 or numbers.shape[1] == 0:
        raise InputError(
            f"features {name!r} have shape {numbers.shape}; expected (n, d), one line of at least one number per row"
        )
    features: RowFeatures
    if is_sparse:
        matrix = sparse_numbers(numbers, name)
        features, bad = SparseFeatures(matrix), ~np.isfinite(matrix.data)
        rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))[bad]
    else:
        features, bad = DenseFeatures(numbers, column_names(values, numbers.shape[1])), ~np.isfinite(numbers)
        rows = np.flatnonzero(bad.any(axis=1))
    if len(rows):
        where = f" (first: row {int(rows[0])})" if numbers.shape[0] > 1 else ""
        raise InputError(
            f"features {name!r} hold {int(bad.sum())} values that are NaN or infinite{where}; expected numbers"
        )
    return features


def _check_width(n: int, n_fitted: int) -> None:
    if n != n_fitted:
        raise InputError(
            f"rows have {n} features, and {n_fitted} were fitted; give features of the same kind as in fit"
        )


def _in_order(features: DenseFeatures, names: tuple[str, ...]) -> NDArray[Any]:
    """The columns in the order of the fit, where both have names."""
    if not names or not features.names or features.names == names:
        return features.values
    odd = [name for name in features.names if name not in names]
    if odd or len(set(names)) < len(names):
        shown = odd or [name for name, then in zip(features.names, names, strict=True) if name != then]
        raise InputError(
            f"rows have a feature {shown[0]!r} where the fit had others; give features of the same kind as in fit, such as by "
            "a transformer that learns its columns"
        )
    return features.values[:, [features.names.index(name) for name in names]]


def _weighted(counts: Any, rarity: Floats) -> Any:
    rows = counts.astype(np.float64).tocsr(copy=True)
    rows.data = (1.0 + np.log(rows.data)) * rarity[rows.indices]
    rows.eliminate_zeros()
    length = np.sqrt(np.asarray(rows.multiply(rows).sum(axis=1)).reshape(-1))
    length[length == 0] = 1.0
    return sparse.diags_array(1.0 / length) @ rows
