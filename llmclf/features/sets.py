"""Which feature sets a classifier learns from, by name or as transformers, and what reads them of rows."""

from __future__ import annotations

import os
import reprlib
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sklearn.base import clone

from ..arrays import Floats, Integers
from ..backends import Backend, RowScores
from ..backends.base import shows_states
from ..backends.requests import STATE_PARTS, check_states
from ..backends.state_codes import pack_states, unpack_states
from ..backends.usage import Estimate, Usage
from ..checks import check_keys, checked_names
from ..errors import InputError
from ..numerics.row_features import DenseFeatures, RowFeatures, Scaling, Standardised, TermWeights
from ..tables.rows import Row, Rows
from .embeddings import Embeddings
from .terms import Vocabularies
from .transformed import Inputs, Priced, cannot_be_saved, learns, read_once

NAMES = ("auto", "states", "tfidf")


class FeatureReader(ABC):
    """Reads one feature set of rows."""

    name: str
    needs_states = False
    needs_table = False
    """Whether it reads fields of a table that the prompt does not show."""

    @abstractmethod
    def read(self, rows: Rows, fields: Sequence[str], answers: Sequence[RowScores]) -> RowFeatures:
        """The features of rows (n,).

        Parameters
        ----------
        rows : Rows
        fields : sequence of str
            Those that the prompt shows.
        answers : sequence of n RowScores
            What the model said of the rows; with states if it `needs_states`.
        """

    def learned(self, rows: Rows, fields: Sequence[str], columns: Integers) -> FeatureReader:
        """The reader after it has seen the labelled rows, which are checked before the model is asked about them.

        `columns` (n,) are those of the true classes.
        """
        return self

    def estimate(self, rows: Rows, fields: Sequence[str]) -> Estimate | None:
        """What reading rows would take of a server; None where it costs nothing."""
        return None

    @property
    def usage(self) -> Usage | None:
        """What a server was asked so far; None where none is asked."""
        return None

    def described(self) -> Any:
        """What its features depend on, as JSON values."""
        return self.to_dict()

    def spec(self) -> Any:
        """What ``features=`` says of it."""
        return self.name

    def is_scaled_by(self, scaling: Scaling) -> bool:
        """Whether a scaling is of the kind, and of the size where that is known, that the features have."""
        return isinstance(scaling, Standardised)

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """JSON values."""


@dataclass(frozen=True, eq=False)
class States(FeatureReader):
    """The model's own hidden states, which came with the scores."""

    name: str = "states"
    needs_states = True

    def read(self, rows: Rows, fields: Sequence[str], answers: Sequence[RowScores]) -> RowFeatures:
        return DenseFeatures(np.stack([_kept(answer) for answer in answers]))

    def to_dict(self) -> dict[str, Any]:
        return {"kind": "states"}


@dataclass(frozen=True, eq=False)
class Terms(FeatureReader):
    """The words of the texts; of a table, those of the fields that the prompt shows."""

    vocabularies: Vocabularies | None = None
    name: str = "tfidf"

    def learned(self, rows: Rows, fields: Sequence[str], columns: Integers) -> Terms:
        return Terms(Vocabularies.of(row_texts(rows.records, fields)))

    def read(self, rows: Rows, fields: Sequence[str], answers: Sequence[RowScores]) -> RowFeatures:
        assert self.vocabularies is not None
        return self.vocabularies.counts(row_texts(rows.records, fields))

    def is_scaled_by(self, scaling: Scaling) -> bool:
        if not isinstance(scaling, TermWeights) or self.vocabularies is None:
            return False
        return [len(rarity) for rarity in scaling.rarity] == [len(terms) for terms in self.vocabularies.terms.values()]

    def to_dict(self) -> dict[str, Any]:
        assert self.vocabularies is not None
        return {"kind": "tfidf", "vocabularies": self.vocabularies.to_dict()}


@dataclass(frozen=True, eq=False)
class Embedded(FeatureReader):
    """Embeddings of the texts; of a table, of the fields that the prompt shows."""

    embeddings: Embeddings
    name: str = "embeddings"

    def learned(self, rows: Rows, fields: Sequence[str], columns: Integers) -> Embedded:
        return Embedded(clone(self.embeddings).fit(row_texts(rows.records, fields)), self.name)

    def read(self, rows: Rows, fields: Sequence[str], answers: Sequence[RowScores]) -> RowFeatures:
        return read_once(self.embeddings, row_texts(rows.records, fields), self.name)

    def estimate(self, rows: Rows, fields: Sequence[str]) -> Estimate | None:
        return self.embeddings.estimate(row_texts(rows.records, fields))

    @property
    def usage(self) -> Usage | None:
        return self.embeddings.usage

    def described(self) -> Any:
        # Neither the address nor limits and price, which change no vector.
        own = self.embeddings
        identity = {name: value for name, value in own.identity_.items() if name != "base_url"}
        return {"kind": "embeddings", "identity": identity, "prefix": own.prefix, "normalize": own.normalize}

    def spec(self) -> Any:
        return clone(self.embeddings)

    def is_scaled_by(self, scaling: Scaling) -> bool:
        length = getattr(self.embeddings, "n_features_out_", None)  # there is none before the fit
        return isinstance(scaling, Standardised) and scaling.n_columns == length

    def to_dict(self) -> dict[str, Any]:
        return {"kind": "embeddings", "name": self.name, "embeddings": self.embeddings.to_dict()}


@dataclass(frozen=True, eq=False)
class Own(FeatureReader):
    """What a transformer of the caller makes of the texts, or of the table."""

    transformer: Any
    name: str
    columns: tuple[str, ...] = ()
    needs_table = True

    def learned(self, rows: Rows, fields: Sequence[str], columns: Integers) -> Own:
        # The columns of the fit, in its order, wherever they stand later and whatever else there is.
        reader = replace(self, columns=rows.field_names)
        if learns(self.transformer):
            reader.read(rows, fields, ()).scaling(columns, np.ones(len(rows)))
        return reader

    def read(self, rows: Rows, fields: Sequence[str], answers: Sequence[RowScores]) -> RowFeatures:
        values = _table(rows, self.columns) if rows.is_table else row_texts(rows.records, fields)
        if learns(self.transformer):
            return Inputs(values, self.transformer, self.name)
        return read_once(self.transformer, values, self.name)

    def estimate(self, rows: Rows, fields: Sequence[str]) -> Estimate | None:
        if not isinstance(self.transformer, Priced):
            return None
        return self.transformer.estimate(
            _table(rows, self.columns) if rows.is_table else row_texts(rows.records, fields)
        )

    @property
    def usage(self) -> Usage | None:
        return self.transformer.usage if isinstance(self.transformer, Priced) else None

    def described(self) -> Any:
        return {"kind": "transformer", "name": self.name}

    def spec(self) -> Any:
        return self.transformer

    def is_scaled_by(self, scaling: Scaling) -> bool:
        # Of its own, which no folder holds.
        return True

    def to_dict(self) -> dict[str, Any]:
        raise InputError(cannot_be_saved(self.transformer))


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

    def estimate(self, rows: Rows, fields: Sequence[str]) -> Estimate | None:
        """What reading rows would take of servers; None where none is asked."""
        found = [reader.estimate(rows, fields) for reader in self.readers]
        asked = [one for one in found if one is not None and one.requests]
        return sum(asked[1:], asked[0]) if asked else None

    @property
    def usage(self) -> Usage | None:
        """What servers were asked so far; None where none is ever asked."""
        used = [reader.usage for reader in self.readers]
        counted = [one for one in used if one is not None]
        return sum(counted, Usage()) if counted else None

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
        return FeatureReaders(tuple(reader.learned(rows, fields, columns) for reader in self.readers))

    def read(self, rows: Rows, fields: Sequence[str], answers: Sequence[RowScores]) -> dict[str, RowFeatures]:
        """Each feature set of rows (n,); see `FeatureReader.read`."""
        return {reader.name: reader.read(rows, fields, answers) for reader in self.readers}

    def read_without_answers(self, rows: Rows, fields: Sequence[str]) -> dict[str, RowFeatures]:
        """The feature sets that need no answers: what is wrong with them shows before the model is asked."""
        return {reader.name: reader.read(rows, fields, ()) for reader in self.readers if not reader.needs_states}

    def read_answers(self, rows: Rows, fields: Sequence[str], answers: Sequence[RowScores]) -> dict[str, RowFeatures]:
        """The others."""
        return {reader.name: reader.read(rows, fields, answers) for reader in self.readers if reader.needs_states}

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
        cls, values: Sequence[Mapping[str, Any]], embeddings: Sequence[Embeddings] | None = None
    ) -> FeatureReaders:
        """The inverse of `to_dict`; `embeddings` are those of `saved_embeddings`, if they have been read already.

        Raises
        ------
        InputError
            These are no feature sets that can be saved.
        """
        if not isinstance(values, list) or not values or not all(isinstance(one, Mapping) for one in values):
            raise InputError(f"features={reprlib.repr(values)}; expected a list of descriptions of feature sets")
        known = iter(saved_embeddings(values) if embeddings is None else embeddings)
        readers = tuple(_reader_from_dict(one, known) for one in values)
        checked_names([reader.name for reader in readers], "the names of the feature sets")
        return cls(readers)


def saved_embeddings(
    values: Any, cache: str | os.PathLike[str] | None = None, options: Mapping[str, Any] | None = None
) -> list[Embeddings]:
    """The embeddings among saved readers; see `Embeddings.from_dict`, which refuses to send a key where a file alone says.

    Parameters
    ----------
    values : list of mapping
        As `FeatureReaders.to_dict` gives them; what is none of them is passed over.
    cache, options : as `Embeddings.from_dict` has them
    """
    described = values if isinstance(values, list) else []
    return [
        Embeddings.from_dict(one.get("embeddings") or {}, cache=cache, options=options)
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
            readers.append(Own(clone(one, safe=False), type(one).__name__))
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


def row_texts(records: Sequence[Row], fields: Sequence[str]) -> list[str]:
    """What the prompt shows of each row, without the prompt.

    Examples
    --------
    >>> row_texts([{"title": "Ants", "body": "They walk.", "id": 3}], ["title", "body"])
    ['Ants\\nThey walk.']
    """
    return ["\n".join(str(record[name]) for name in fields) for record in records]


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


def _table(rows: Rows, columns: Sequence[str]) -> Any:
    import pandas as pd

    absent = [name for name in columns if name not in rows.field_names]
    if absent:
        raise InputError(f"X lacks the column {absent[0]!r}, which a transformer of features= was fitted with")
    return pd.DataFrame.from_records(rows.records, columns=list(columns))


def _kept(answer: RowScores) -> Floats:
    """An answer's states as a cache keeps them, so that a cached answer gives the same features."""
    assert answer.states is not None
    kept: Floats = unpack_states(pack_states(answer.states, len(STATE_PARTS)), len(STATE_PARTS)).astype(np.float64)
    return kept
