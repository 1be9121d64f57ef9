"""What reads one feature set of rows: hidden states, words, embeddings, or a transformer of the caller."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from sklearn.base import clone

from ..arrays import Floats, Integers
from ..backends import RowScores
from ..backends.base import CountedEmbedder, CountsUsage
from ..backends.remembering import Memory, Rehearsal
from ..backends.requests import STATE_PARTS
from ..backends.state_codes import pack_states, unpack_states
from ..backends.usage import Usage
from ..errors import InputError
from ..numerics.row_features import CommonUnit, DenseFeatures, RowFeatures, Scaling, Standardised, TermWeights
from ..tables.rows import Row, Rows
from .columns import ColumnTypes
from .embeddings import Embeddings
from .reading import reasons_of
from .terms import Vocabularies
from .transformed import Inputs, Priced, cannot_be_saved, learns, read_once, rehearse


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

    def unreadable(self, rows: Rows, fields: Sequence[str], columns: Integers) -> dict[int, str]:
        """The labelled rows to which it is due that `learned` fails, and why; empty where no single row is to blame."""
        return {}

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

    def unreadable(self, rows: Rows, fields: Sequence[str], columns: Integers) -> dict[int, str]:
        return reasons_of(lambda part: self.read(rows.take(part), fields, ()), len(rows))

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

    def is_scaled_by(self, scaling: Scaling) -> bool:
        length = getattr(self.embeddings, "n_features_out_", None)  # there is none before the fit
        return isinstance(scaling, Standardised) and scaling.n_columns == length

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

    def unreadable(self, rows: Rows, fields: Sequence[str], columns: Integers) -> dict[int, str]:
        reader = self._prepared(rows)
        fitted = reader.fitted
        if learns(fitted):
            try:
                fitted = clone(fitted).fit(reader.values_of(rows, fields), columns)
            except Exception:  # whatever somebody's own code raises: no single row is to blame
                return {}
        return reasons_of(
            lambda part: read_once(fitted, reader.values_of(rows.take(part), fields), self.name, reader.memory),
            len(rows),
        )

    def _prepared(self, rows: Rows) -> Own:
        # The columns of the fit, in its order, wherever they stand later and whatever else there is.
        types = ColumnTypes.of(rows) if rows.is_table else None
        return replace(self, columns=types, memory=Memory.current() or Memory(), fitted=self.transformer)

    def learned(self, rows: Rows, fields: Sequence[str], columns: Integers) -> Own:
        reader = self._prepared(rows)
        if not learns(self.transformer):
            return reader
        inputs = reader.read(rows, fields, ())
        assert isinstance(inputs, Inputs)
        found = inputs.scaling(columns, np.ones(len(rows)))
        return replace(reader, fitted=found.transformer, is_sparse=isinstance(found.inner, CommonUnit))

    def read(self, rows: Rows, fields: Sequence[str], answers: Sequence[RowScores]) -> RowFeatures:
        values, memory = self.values_of(rows, fields), Memory.current() or self.memory
        if learns(self.transformer):
            return Inputs(values, self.transformer, self.name, memory, self.is_sparse)
        return read_once(self.transformer, values, self.name, memory)

    def values_of(self, rows: Rows, fields: Sequence[str]) -> Any:
        """What the transformer gets of rows: a table, or their texts."""
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
            rehearsal.estimates.append(self.transformer.estimate(self.values_of(rows, fields)))
        elif self.asks:
            rehearse(self.fitted, self.values_of(rows, fields), rehearsal)

    @property
    def usages(self) -> list[Usage]:
        if isinstance(self.transformer, Priced):
            return [self.transformer.usage]
        return [model.usage for model in self.memory.asked if isinstance(model, CountedEmbedder | CountsUsage)]

    def described(self) -> Any:
        return {"kind": "transformer", "name": self.name}

    def spec(self) -> Any:
        return self.transformer

    def is_scaled_by(self, scaling: Scaling) -> bool:
        # Of its own, which no folder holds.
        return True

    def to_dict(self) -> dict[str, Any]:
        raise InputError(cannot_be_saved(self.transformer))


def row_texts(records: Sequence[Row], fields: Sequence[str]) -> list[str]:
    """What the prompt shows of each row, without the prompt.

    Examples
    --------
    >>> row_texts([{"title": "Ants", "body": "They walk.", "id": 3}], ["title", "body"])
    ['Ants\\nThey walk.']
    """
    return ["\n".join(str(record[name]) for name in fields) for record in records]


def _kept(answer: RowScores) -> Floats:
    """An answer's states as a cache keeps them, so that a cached answer gives the same features."""
    assert answer.states is not None
    kept: Floats = unpack_states(pack_states(answer.states, len(STATE_PARTS)), len(STATE_PARTS)).astype(np.float64)
    return kept
