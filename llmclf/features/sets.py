"""Which feature sets a classifier learns from, by name or as transformers, and what reads them of rows."""

from __future__ import annotations

import os
import reprlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from sklearn.base import clone

from ..arrays import Integers
from ..backends import Backend, RowScores
from ..backends.base import shows_states
from ..backends.remembering import Memory, Rehearsal
from ..backends.requests import STATE_PARTS, check_states
from ..backends.usage import Estimate, Usage
from ..checks import check_keys, checked_names
from ..errors import InputError
from ..numerics.row_features import RowFeatures
from ..tables.bad_rows import Problem
from ..tables.rows import Row, Rows
from .embeddings import Embeddings
from .readers import Embedded, FeatureReader, Own, States, Terms
from .terms import Vocabularies
from .transformed import prepare

NAMES = ("auto", "states", "tfidf")


@dataclass(frozen=True, eq=False)
class FeatureReaders:
    """The feature sets of a classifier.

    Attributes
    ----------
    readers : tuple of FeatureReader
        With different names.
    """

    readers: tuple[FeatureReader, ...]

    @property
    def needs_states(self) -> bool:
        """Whether the model is asked for its hidden states."""
        return any(reader.needs_states for reader in self.readers)

    @property
    def reads_columns(self) -> bool:
        """Whether some set reads columns of a table as they were in the fit."""
        return any(reader.columns_read is not None for reader in self.readers)

    def problem(self, record: Row) -> Problem | None:
        """Why a row of a table cannot be brought to what a transformer was fitted with; None where it can."""
        types = (reader.columns_read for reader in self.readers)
        return next(filter(None, (one.problem(record) for one in types if one is not None)), None)

    def noted(self, rows: Rows) -> Rows:
        """The rows, with what `problem` says of them.

        Raises
        ------
        InputError
            A column is absent.
        """
        if not rows.is_table or not self.reads_columns:
            return rows
        for reader in self.readers:
            if reader.columns_read is not None:
                reader.columns_read.check(rows.field_names)
        found = {place: self.problem(record) for place, record in enumerate(rows.records) if place not in rows.problems}
        return replace(
            rows, problems={**rows.problems, **{place: one for place, one in found.items() if one is not None}}
        )

    def estimate(self, rows: Rows, fields: Sequence[str]) -> Estimate | None:
        """What reading rows would take of servers; None where none is asked."""
        rehearsal = Rehearsal()
        for reader in self.readers:
            reader.rehearse(rows, fields, rehearsal)
        return rehearsal.estimate

    @property
    def usage(self) -> Usage | None:
        """What servers were asked so far; None where none is ever asked."""
        return self.usage_beside(None)

    def usage_beside(self, of_model: Usage | None) -> Usage | None:
        """The same without what the classifier's own model counts, which a transformer may ask, too."""
        # Two sets that ask one server share its counts.
        counted = {id(one): one for reader in self.readers for one in reader.usages if one is not of_model}
        return sum(counted.values(), Usage()) if counted else None

    @property
    def needs_table(self) -> bool:
        """Whether fields of a table are read that the prompt does not show."""
        return any(reader.needs_table for reader in self.readers)

    @property
    def of_answers(self) -> FeatureReaders | None:
        """Those that change what the model is asked; None where none does."""
        readers = tuple(reader for reader in self.readers if reader.needs_states)
        return FeatureReaders(readers) if readers else None

    @property
    def spec(self) -> list[Any]:
        """What ``features=`` says."""
        return [reader.spec() for reader in self.readers]

    def learned(self, rows: Rows, fields: Sequence[str], columns: Integers) -> FeatureReaders:
        """The readers after they have seen the labelled rows; see `FeatureReader.learned`."""
        with self.asking_once():
            return FeatureReaders(tuple(reader.learned(rows, fields, columns) for reader in self.readers))

    def unreadable(self, rows: Rows, fields: Sequence[str], columns: Integers) -> dict[int, str]:
        """The labelled rows to which it is due that `learned` fails, and why; empty where no single row is to blame."""
        found: dict[int, str] = {}
        for reader in self.readers:
            found = {**reader.unreadable(rows, fields, columns), **found}
        return found

    def read(self, rows: Rows, fields: Sequence[str], answers: Sequence[RowScores]) -> dict[str, RowFeatures]:
        """Each feature set of rows (n,); see `FeatureReader.read`."""
        with self.asking_once():
            return {reader.name: reader.read(rows, fields, answers) for reader in self.readers}

    @contextmanager
    def asking_once(self) -> Iterator[None]:
        """In this block a question of features is asked once, however often rows are read."""
        with (Memory.current() or Memory()).opened():
            yield

    def to_dict(self) -> list[dict[str, Any]]:
        """JSON values.

        Raises
        ------
        InputError
            A transformer of the caller has no JSON form.
        """
        return [reader.to_dict() for reader in self.readers]

    @classmethod
    def from_dict(
        cls,
        values: Sequence[Mapping[str, Any]],
        embeddings: Sequence[Embeddings] | None = None,
        *,
        trust: bool = False,
    ) -> FeatureReaders:
        """The inverse of `to_dict`; `embeddings` are those of `saved_embeddings`, if they have been read already.

        Raises
        ------
        InputError
            These are no feature sets that can be saved.
        """
        if not isinstance(values, list) or not values or not all(isinstance(one, Mapping) for one in values):
            raise InputError(f"features={reprlib.repr(values)}; expected a list of descriptions of feature sets")
        known = iter(saved_embeddings(values, trust=trust) if embeddings is None else embeddings)
        readers = tuple(_reader_from_dict(one, known) for one in values)
        checked_names([reader.name for reader in readers], "the names of the feature sets")
        return cls(readers)


def saved_embeddings(
    values: Any,
    cache: str | os.PathLike[str] | None = None,
    options: Mapping[str, Any] | None = None,
    *,
    trust: bool = False,
) -> list[Embeddings]:
    """The embeddings among saved readers; see `Embeddings.from_dict`, which sends nothing to a server that only a file names.

    Parameters
    ----------
    values : list of mapping
        As `FeatureReaders.to_dict` gives them; what is none of them is passed over.
    cache, options, trust : as `Embeddings.from_dict` has them
    """
    described = values if isinstance(values, list) else []
    return [
        Embeddings.from_dict(one.get("embeddings") or {}, cache=cache, options=options, trust=trust)
        for one in described
        if isinstance(one, Mapping) and one.get("kind") == "embeddings"
    ]


def feature_readers(
    features: Any, backend: Backend, cache: str | os.PathLike[str] | None = None
) -> FeatureReaders | None:
    """The readers that ``features=`` asks for; None for None.

    Parameters
    ----------
    features : None, str, transformer, or list of these
    backend : Backend
        That of the classifier.
    cache : path, optional
        That of the classifier: embeddings without a cache of their own use it, too.

    Raises
    ------
    InputError
        It is none of these, or the backend shows no states.
    """
    if features is None:
        return None
    asked = list(features) if isinstance(features, (list, tuple)) else [features]
    if not asked:
        raise InputError("features=[] names no features; leave it out, or say 'auto'")
    readers: list[FeatureReader] = []
    for one in asked:
        if isinstance(one, str) and one in NAMES:
            if one == "states" or (one == "auto" and shows_states(backend)):
                readers.append(States())
            if one in ("tfidf", "auto"):
                readers.append(Terms())
        elif isinstance(one, Embeddings):
            own = clone(one)
            readers.append(Embedded(own if own.cache is not None else own.set_params(cache=cache)))
        elif not isinstance(one, (str, type)) and callable(getattr(one, "transform", None)) and hasattr(one, "fit"):
            own = clone(one, safe=False)
            prepare(own, cache)
            readers.append(Own(own, type(one).__name__))
        else:
            raise InputError(
                f"features={one!r}: expected one of {', '.join(map(repr, NAMES))}, Embeddings(...), a scikit-learn transformer "
                "(an instance, not a class) that takes the texts, or a list of these"
            )
    if any(reader.needs_states for reader in readers):
        check_states(STATE_PARTS, None if shows_states(backend) else repr(backend))
    counts = Counter(reader.name for reader in readers)
    twice = [name for name, number in counts.items() if number > 1]
    if twice and twice[0] in ("states", "tfidf"):
        raise InputError(f"features={features!r} names {twice[0]!r} twice; name each once")
    return FeatureReaders(tuple(_numbered(readers)))


def _reader_from_dict(values: Mapping[str, Any], embeddings: Iterator[Embeddings]) -> FeatureReader:
    """The inverse of `to_dict` of a reader."""
    kind = values.get("kind")
    if kind == "states":
        check_keys(values, ["kind"], "the feature set 'states'")
        return States()
    if kind == "tfidf":
        check_keys(values, ["kind", "vocabularies"], "the feature set 'tfidf'")
        return Terms(Vocabularies.from_dict(values["vocabularies"]))
    if kind == "embeddings":
        check_keys(values, ["kind", "name", "embeddings"], "the feature set 'embeddings'")
        (name,) = checked_names([values["name"]], "the name of a feature set")
        return Embedded(next(embeddings), name)
    raise InputError(
        f"kind={kind!r} is not a feature set that can be saved; expected 'states', 'tfidf' or 'embeddings'"
    )


def _numbered(readers: Sequence[FeatureReader]) -> list[FeatureReader]:
    """The readers, those of transformers of one class told apart by numbers."""
    counts = Counter(reader.name for reader in readers)
    seen: Counter[str] = Counter()
    named = []
    for reader in readers:
        seen[reader.name] += 1
        if isinstance(reader, (Own, Embedded)) and counts[reader.name] > 1:
            reader = replace(reader, name=f"{reader.name} {seen[reader.name]}")
        named.append(reader)
    return named
