"""What the heads of a pool make of a row's features: computed once, when the row is answered, and kept with its answer.

A head adds logits to what the label scores or the class frequencies say. They depend on the features alone, so that with them and
the scores the weights of the pool, temperatures, threshold and prior may change without a question asked. (Another bias= changes
what heads start from, so they are others.) The features themselves are not kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from typing import Any

import numpy as np

from ..arrays import Floats
from ..backends import RowScores
from ..backends.base import CountsUsage
from ..backends.usage import Estimate, Usage
from ..calibration import StackedCalibrator
from ..calibration.pool.members import FittedHead
from ..errors import InputError
from ..features.readers import FeatureReader
from ..features.sets import FeatureReaders
from ..features.transformed import Transformed
from ..numerics.row_features import Scaling
from ..pipeline import FittedPipeline
from ..tables.rows import Rows
from .questions import decode_record

_TRIED = 10  # rows that are read one by one where all together could not be


@dataclass(frozen=True, eq=False)
class Heads:
    """The heads of a pipeline's pool, for the records of a job.

    Attributes
    ----------
    pipeline : FittedPipeline
        Has heads.
    fields : tuple of str
        Those of a record.
    """

    pipeline: FittedPipeline
    fields: tuple[str, ...]

    @property
    def _calibrator(self) -> StackedCalibrator:
        calibrator = self.pipeline.corrections.calibrator
        assert isinstance(calibrator, StackedCalibrator)
        return calibrator

    @property
    def _readers(self) -> FeatureReaders:
        assert self.pipeline.features is not None
        return self.pipeline.features

    @cached_property
    def names(self) -> list[str]:
        """The H heads, in the order in which their numbers are kept."""
        return self._calibrator.heads

    @property
    def _shape(self) -> tuple[int, int]:
        return len(self.names), len(self.pipeline.labels.classes)

    @property
    def n_numbers(self) -> int:
        """How many numbers are kept of a row."""
        n_heads, n_classes = self._shape
        return n_heads * n_classes

    def by_name(self, numbers: Floats) -> dict[str, Floats]:
        """The logits (n, K) of each head, from the numbers (n, H * K) that were kept."""
        logits = numbers.reshape(-1, *self._shape)
        return {name: logits[:, place] for place, name in enumerate(self.names)}

    # --- read ----------------------------------------------------------------------------------------------------------

    def check(self, records: Sequence[bytes]) -> None:
        """Try what costs nothing on some rows, before anything is spent.

        Raises
        ------
        InputError
            Some feature set can be read of none of them.
        """
        rows = self._rows(records)
        for reader in self._readers.readers:
            if reader.needs_states or reader.asks:
                continue
            problem = self._problem(reader, rows)
            few = range(min(_TRIED, len(rows)))
            if problem is not None and all(self._problem(reader, rows.take([place])) for place in few):
                raise problem

    def _problem(self, reader: FeatureReader, rows: Rows) -> InputError | None:
        """Why the features of rows cannot be read."""
        scaling = self._scaling(reader.name)
        try:
            features = reader.read(rows, self._shown, ())
            if scaling is not None:
                scaling.matrix(features)
        except InputError as error:
            return error
        return None

    def read(self, records: Sequence[bytes], answers: Sequence[RowScores]) -> list[Floats | str]:
        """The numbers (H * K,) to keep of each row, or why there are none.

        Parameters
        ----------
        records : sequence of n bytes
        answers : sequence of n RowScores
            None of them is an error.

        Raises
        ------
        ModelError
            A model that makes features gave up, or its budget is spent.
        """
        logits, unread = self.pipeline.head_logits(self._rows(records), answers)
        numbers = np.stack([logits[name] for name in self.names], axis=1).reshape(len(records), -1)
        return [unread.get(place, own) for place, own in enumerate(numbers)]

    def _rows(self, records: Sequence[bytes]) -> Rows:
        values = [dict(zip(self.fields, decode_record(record), strict=True)) for record in records]
        # In the order of the fit, as a transformer of tables has them.
        order = [name for name in self.pipeline.field_names if name in self.fields]
        return Rows(list(values), tuple(order), self.pipeline.is_table)

    @property
    def _shown(self) -> tuple[str, ...]:
        return self.pipeline.scorer.used_fields

    # --- costs ---------------------------------------------------------------------------------------------------------

    def estimate(self, records: Sequence[bytes]) -> Estimate | None:
        """What reading the features of some rows would take of servers; None where none is asked."""
        return self._readers.estimate(self._rows(records), self._shown)

    def usage(self) -> Usage | None:
        """What servers were asked for features so far, by this process; None where none but the model's is ever asked."""
        backend = self.pipeline.backend
        return self._readers.usage_beside(backend.usage if isinstance(backend, CountsUsage) else None)

    # --- fingerprint ---------------------------------------------------------------------------------------------------

    def fingerprint(self) -> dict[str, Any]:
        """Names, and a hash of all that the numbers depend on besides the row, as JSON values.

        Where a head starts (its temperature, or the frequencies) and how much it weighs is not in it.
        """
        digest = blake2b(digest_size=16)
        for reader in self._readers.readers:
            _absorb(digest, [reader.name, reader.described()])
        for name in self.names:
            head = self._calibrator.members_[name]
            assert isinstance(head, FittedHead)
            scalings = {own: _described(scaling) for own, scaling in head.scalings.items()}
            _absorb(digest, [name, scalings, head.coefficients, head.intercepts])
        return {"names": list(self.names), "hash": digest.hexdigest()}

    def _scaling(self, feature_set: str) -> Scaling | None:
        """One that some head applies to a feature set."""
        members = self._calibrator.members_.values()
        heads = (one for one in members if isinstance(one, FittedHead) and feature_set in one.scalings)
        return next((head.scalings[feature_set] for head in heads), None)


def _described(scaling: Scaling) -> Any:
    # What a transformer has learned has no form of its own; the means and units of what it gives are as telling.
    return ["transformed", _described(scaling.inner)] if isinstance(scaling, Transformed) else scaling.to_dict()


def _absorb(digest: Any, value: Any) -> None:
    """Add nested values to a hash, so that different ones are told apart by type, length and order."""
    if isinstance(value, np.ndarray):
        digest.update(f"a{value.shape}".encode() + np.ascontiguousarray(value, dtype="<f8").tobytes())
    elif isinstance(value, Mapping):
        digest.update(f"m{len(value)}".encode())
        for name in sorted(value):
            _absorb(digest, name)
            _absorb(digest, value[name])
    elif isinstance(value, (list, tuple)):
        digest.update(f"l{len(value)}".encode())
        for one in value:
            _absorb(digest, one)
    else:
        data = repr(value).encode("utf-8", "backslashreplace")
        digest.update(f"v{len(data)}".encode() + data)
