"""What somebody's own scikit-learn transformer makes of rows."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, clone
from sklearn.utils import get_tags

from ..arrays import Floats, Integers
from ..backends.remembering import Memory, Rehearsal
from ..backends.usage import Estimate, Usage
from ..errors import InputError, LlmclfError
from ..numerics.row_features import RowFeatures, Scaling, as_features, in_form
from .embeddings import Embeddings
from .reading import is_about_rows, of_set


@runtime_checkable
class Priced(Protocol):
    """A transformer that asks a server, and says what that takes."""

    def estimate(self, values: Any) -> Estimate:
        """What transforming would take; nothing is sent."""
        ...

    @property
    def usage(self) -> Usage:
        """What was asked so far."""
        ...


@dataclass(frozen=True, eq=False)
class Inputs(RowFeatures):
    """Rows as a transformer takes them: it is fitted on the rows from which a scaling is learned, and on no others.

    Attributes
    ----------
    values : list of str, or DataFrame
    transformer : scikit-learn transformer
        Not fitted; each scaling has a copy of its own.
    name : str
        For errors.
    memory : Memory
        What models inside of the transformer have answered about these rows, so that no fold asks again.
    is_sparse : bool or None
        The form that the transformer's output has on all labelled rows, whatever it is on some of them; None before that is
        known.
    """

    values: Any
    transformer: Any
    name: str
    memory: Memory = field(default_factory=Memory)
    is_sparse: bool | None = None

    def __len__(self) -> int:
        return len(self.values)

    def take(self, rows: Integers) -> Inputs:
        taken = [self.values[i] for i in rows] if isinstance(self.values, list) else self.values.iloc[rows]
        return replace(self, values=taken)

    def scaling(self, columns: NDArray[np.intp], weights: Floats) -> Transformed:
        fitted = clone(self.transformer)
        # One that learns from labels gets those of these rows alone.
        fit = getattr(fitted, "fit_transform", None) or (lambda X, y: fitted.fit(X, y).transform(X))
        with self.memory.opened():
            made = _made(self.name, fit, _copied(self.values), columns)
        if self.is_sparse is not None:
            made = in_form(made, is_sparse=self.is_sparse)
        return Transformed(fitted, made.scaling(columns, weights), self.name)


@dataclass(frozen=True, eq=False)
class Transformed(Scaling):
    """A fitted transformer, and the scaling of what it gives."""

    transformer: Any
    inner: Scaling
    name: str

    def matrix(self, features: RowFeatures) -> Any:
        assert isinstance(features, Inputs)
        with features.memory.opened():
            made = _made(self.name, self.transformer.transform, _copied(features.values))
        return self.inner.matrix(made)

    @property
    def n_columns(self) -> int:
        return self.inner.n_columns

    def to_dict(self) -> dict[str, Any]:
        raise InputError(cannot_be_saved(self.transformer))


def read_once(transformer: Any, values: Any, name: str, memory: Memory | None = None) -> RowFeatures:
    """Features of a transformer that learns nothing from rows."""
    with (memory or Memory()).opened():
        return _made(name, transformer.transform, _copied(values))


def rehearse(transformer: Any, values: Any, rehearsal: Rehearsal) -> None:
    """Note what a fitted transformer would ask of models about some rows.

    A row that the transformer cannot read stops it, so halves are tried until such rows are alone.
    """
    parts = [values]
    while parts:
        part = parts.pop()
        try:
            with rehearsal.opened(), np.errstate(all="ignore"):
                transformer.transform(_copied(part))
        except Exception:  # whatever somebody's own code raises; the rows' own errors come when they are read
            middle = len(part) // 2
            if middle:
                halves = (
                    (part[:middle], part[middle:])
                    if isinstance(part, list)
                    else (part.iloc[:middle], part.iloc[middle:])
                )
                parts += reversed(halves)


def holders(value: Any) -> Iterator[BaseEstimator]:
    """All `Embeddings` of a transformer, however deep in its parameters they are, and each estimator that holds some, after them.

    Examples
    --------
    >>> from sklearn.pipeline import make_pipeline, make_union
    >>> held = make_pipeline(make_union(Embeddings("openai:a"), Embeddings("openai:b")))
    >>> [type(one).__name__ for one in holders(held)]
    ['Embeddings', 'Embeddings', 'FeatureUnion', 'Pipeline']
    """
    if isinstance(value, (list, tuple, Mapping)):
        for one in value.values() if isinstance(value, Mapping) else value:
            yield from holders(one)
    elif isinstance(value, BaseEstimator) and not isinstance(value, type):
        inner = [] if isinstance(value, Embeddings) else list(holders(value.get_params(deep=False)))
        yield from inner
        if inner or isinstance(value, Embeddings):
            yield value


def prepare(transformer: Any, cache: str | os.PathLike[str] | None) -> None:
    """Embeddings inside of a transformer without a cache use this one; and whatever holds some works in one thread.

    Other processes and threads would not know what was asked before.
    """
    for one in holders(transformer):
        if isinstance(one, Embeddings):
            one.set_params(cache=one.cache if one.cache is not None else cache)
        elif "n_jobs" in one.get_params(deep=False):
            one.set_params(n_jobs=1)


def learns(transformer: Any) -> bool:
    """Whether a transformer has to be fitted before it transforms."""
    return bool(get_tags(transformer).requires_fit)


def cannot_be_saved(transformer: Any) -> str:
    """Why a classifier with somebody's own transformer is not written into a folder."""
    return (
        f"{transformer!r} cannot be saved: a saved classifier is JSON and numbers, and nothing in it is executed. Use "
        "features='tfidf', 'states' or Embeddings(...), or keep the fitted classifier by joblib, which executes what it reads"
    )


def _made(name: str, make: Any, values: Any, *labels: Any) -> RowFeatures:
    try:
        made = make(values, *labels)
    except LlmclfError as error:
        if is_about_rows(error):
            raise of_set(error, name) from error
        raise
    except Exception as error:  # whatever somebody's own code raises
        kind = "texts" if isinstance(values, list) else f"a table with the columns {list(values.columns)!r}"
        raise InputError(
            f"the transformer {name!r} cannot read the rows, which it gets as {kind}: {error!r}"
        ) from error
    return as_features(made, name, len(values))


def _copied(values: Any) -> Any:
    """A table of its own for whoever changes what it gets; a list of texts as it is."""
    return values if isinstance(values, list) else values.copy()
