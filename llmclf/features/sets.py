"""Which feature sets a classifier learns from, by name or as transformers, and what reads them of rows."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from sklearn.base import clone

from ..arrays import Floats, Integers
from ..backends import Backend, RowScores
from ..backends.base import CountedEmbedder, CountsUsage, shows_states
from ..backends.remembering import Memory, Rehearsal
from ..backends.requests import STATE_PARTS, check_states
from ..backends.state_codes import pack_states, unpack_states
from ..backends.usage import Estimate, Usage
from ..errors import InputError
from ..numerics.row_features import CommonUnit, DenseFeatures, RowFeatures
from ..tables.bad_rows import Problem
from ..tables.rows import Row, Rows
from .columns import ColumnTypes
from .embeddings import Embeddings
from .terms import Vocabularies
from .transformed import Inputs, Priced, cannot_be_saved, learns, prepare, read_once, rehearse

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

    @property
    def columns_read(self) -> ColumnTypes | None:
        """The columns of a table that it reads, besides those that the prompt shows; None where there are none."""
        return None

    @property
    def asks(self) -> bool:
        """Whether reading rows asks a model, which may cost."""
        return False

    def rehearse(self, rows: Rows, fields: Sequence[str], rehearsal: Rehearsal) -> None:
        """Note what reading rows would ask of models; nothing is sent."""
        assert not self.asks

    @property
    def usages(self) -> list[Usage]:
        """What servers were asked so far, one that lives on for each server."""
        return []

    def described(self) -> Any:
        """What its features depend on, as JSON values."""
        return self.to_dict()

    def spec(self) -> Any:
        """What ``features=`` says of it."""
        return self.name

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
        return read_once(self.embeddings, row_texts(rows.records, fields), self.name, Memory.current())

    @property
    def asks(self) -> bool:
        return True

    def rehearse(self, rows: Rows, fields: Sequence[str], rehearsal: Rehearsal) -> None:
        with rehearsal.opened():
            self.embeddings.transform(row_texts(rows.records, fields))

    @property
    def usages(self) -> list[Usage]:
        return [self.embeddings.usage]

    def described(self) -> Any:
        # Neither the address nor limits and price, which change no vector.
        own = self.embeddings
        identity = {name: value for name, value in own.identity_.items() if name != "base_url"}
        return {"kind": "embeddings", "identity": identity, "prefix": own.prefix, "normalize": own.normalize}

    def spec(self) -> Any:
        return clone(self.embeddings)

    def to_dict(self) -> dict[str, Any]:
        return {"kind": "embeddings", "name": self.name, "embeddings": self.embeddings.to_dict()}


@dataclass(frozen=True, eq=False)
class Own(FeatureReader):
    """What a transformer of the caller makes of the texts, or of the table.

    Attributes
    ----------
    transformer : scikit-learn transformer
        Not fitted, if it learns.
    name : str
    columns : ColumnTypes or None
        Those of the table that the transformer gets, as they were in the fit; None before, and where it gets texts.
    memory : Memory
        What models inside of the transformer have answered about the labelled rows, and which models these are.
    fitted : scikit-learn transformer
        One that has seen all labelled rows, for rehearsals; None before.
    is_sparse : bool or None
        Whether that one gave a sparse array of them.
    """

    transformer: Any
    name: str
    columns: ColumnTypes | None = None
    memory: Memory = field(default_factory=Memory)
    fitted: Any = None
    is_sparse: bool | None = None
    needs_table = True

    def learned(self, rows: Rows, fields: Sequence[str], columns: Integers) -> Own:
        # The columns of the fit, in its order, wherever they stand later and whatever else there is.
        types = ColumnTypes.of(rows) if rows.is_table else None
        reader = replace(self, columns=types, memory=Memory.current() or Memory(), fitted=self.transformer)
        if not learns(self.transformer):
            return reader
        inputs = reader.read(rows, fields, ())
        assert isinstance(inputs, Inputs)
        found = inputs.scaling(columns, np.ones(len(rows)))
        return replace(reader, fitted=found.transformer, is_sparse=isinstance(found.inner, CommonUnit))

    def read(self, rows: Rows, fields: Sequence[str], answers: Sequence[RowScores]) -> RowFeatures:
        values, memory = self._values(rows, fields), Memory.current() or self.memory
        if learns(self.transformer):
            return Inputs(values, self.transformer, self.name, memory, self.is_sparse)
        return read_once(self.transformer, values, self.name, memory)

    def _values(self, rows: Rows, fields: Sequence[str]) -> Any:
        if self.columns is None:
            return row_texts(rows.records, fields)
        self.columns.check(rows.field_names)
        return self.columns.frame(rows.records)

    @property
    def columns_read(self) -> ColumnTypes | None:
        return self.columns

    @property
    def asks(self) -> bool:
        return isinstance(self.transformer, Priced) or bool(self.memory.asked)

    def rehearse(self, rows: Rows, fields: Sequence[str], rehearsal: Rehearsal) -> None:
        if isinstance(self.transformer, Priced):
            rehearsal.estimates.append(self.transformer.estimate(self._values(rows, fields)))
        elif self.asks:
            rehearse(self.fitted, self._values(rows, fields), rehearsal)

    @property
    def usages(self) -> list[Usage]:
        if isinstance(self.transformer, Priced):
            return [self.transformer.usage]
        return [model.usage for model in self.memory.asked if isinstance(model, CountedEmbedder | CountsUsage)]

    def described(self) -> Any:
        return {"kind": "transformer", "name": self.name}

    def spec(self) -> Any:
        return self.transformer

    def to_dict(self) -> dict[str, Any]:
        raise InputError(cannot_be_saved(self.transformer))


@dataclass(frozen=True, eq=False)
class FeatureReaders:
    """The feature sets of a classifier.

    Attributes
    ----------
    readers : tuple of FeatureReader
        With different names.
    memory : Memory or None
        What models have answered about the labelled rows, once these were seen.
    """

    readers: tuple[FeatureReader, ...]
    memory: Memory | None = None

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
        with Memory().opened() as memory:
            return FeatureReaders(tuple(reader.learned(rows, fields, columns) for reader in self.readers), memory)

    def read(self, rows: Rows, fields: Sequence[str], answers: Sequence[RowScores]) -> dict[str, RowFeatures]:
        """Each feature set of rows (n,); see `FeatureReader.read`."""
        with self.asking_once():
            return {reader.name: reader.read(rows, fields, answers) for reader in self.readers}

    @contextmanager
    def asking_once(self) -> Iterator[None]:
        """In this block a question of features is asked once, however often rows are read."""
        with (Memory.current() or Memory()).opened():
            yield

    def read_without_answers(self, rows: Rows, fields: Sequence[str]) -> dict[str, RowFeatures]:
        """The feature sets of labelled rows that need no answers: what is wrong with them shows before the model is asked."""
        with (self.memory or Memory()).opened():
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
        """The inverse of `to_dict`; `embeddings` are those of `saved_embeddings`, if they have been read already."""
        known = iter(saved_embeddings(list(values)) if embeddings is None else embeddings)
        return cls(tuple(_reader_from_dict(one, known) for one in values))


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
    if values["kind"] == "states":
        return States()
    if values["kind"] == "tfidf":
        return Terms(Vocabularies.from_dict(values["vocabularies"]))
    if values["kind"] == "embeddings":
        return Embedded(next(embeddings), str(values["name"]))
    raise InputError(f"kind={values['kind']!r} is not a feature set that can be saved; expected 'states' or 'tfidf'")


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


def _kept(answer: RowScores) -> Floats:
    """An answer's states as a cache keeps them, so that a cached answer gives the same features."""
    assert answer.states is not None
    kept: Floats = unpack_states(pack_states(answer.states, len(STATE_PARTS)), len(STATE_PARTS)).astype(np.float64)
    return kept
