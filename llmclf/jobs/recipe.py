"""How a job makes a label of a row: what is asked about it, and what becomes of the answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import blake2b
from json.encoder import encode_basestring
from typing import Any

import numpy as np
import pandas as pd

from ..backends import Backend, Request, open_backend
from ..backends.base import BehindServer, takes_descriptions
from ..backends.handle import Handle
from ..errors import InputError, type_of
from ..labels import label_set, warn_of_descriptions
from ..logits import logsumexp
from ..pipeline import FittedPipeline
from ..prompts import TEXT_FIELD, Prompt
from ..scoring.class_scores import SCORINGS
from ..scoring.scorer import Scorer
from ..tables.text_files import other_delimiter
from .heads import Heads
from .journal.answer_codec import AnswerBlock
from .journal.journal import HEADS
from .questions import Question, decode_record, encode_record, record_key

MODEL = "model"
"""The column that says which model has answered a row."""


@dataclass(frozen=True)
class Recipe:
    """A pipeline, and the columns of a table that it is about: questions of rows, and labels from answers.

    Attributes
    ----------
    pipeline : FittedPipeline
    text_column : str or None
        The column that is the prompt's ``text``; None where the prompt names columns.
    threshold : float or None
        Rows at least as confident are accepted; None leaves that to the pipeline.
    """

    pipeline: FittedPipeline
    text_column: str | None = None
    threshold: float | None = None

    @classmethod
    def of_pipeline(
        cls,
        pipeline: FittedPipeline,
        columns: Sequence[str],
        text_column: str | None,
        threshold: float | None = None,
    ) -> Recipe:
        """The recipe of a pipeline, for a table with some columns.

        Raises
        ------
        InputError
            It was fitted on texts and no column holds them, or on a table that has other columns.
        """
        if pipeline.is_table == (text_column is not None):
            then, cure = (
                ("a table", "leave the text column out")
                if pipeline.is_table
                else ("texts", "name the column that holds them (--text-column)")
            )
            raise InputError(f"the classifier was fitted on {then}; {cure}")
        recipe = cls(pipeline, text_column, threshold)
        absent = [name for name in recipe.columns if name not in columns]
        if absent:
            raise InputError(
                f"the table has no column {absent[0]!r}; its columns: {', '.join(map(repr, columns))}"
                f"{other_delimiter(columns)}"
            )
        if pipeline.scoring == "pmi":
            recipe.scorer.unconditional_request(pipeline.labels.all_words)
        return recipe

    @classmethod
    def zero_shot(
        cls,
        backend: Backend,
        labels: Any,
        prompt: Prompt | None,
        columns: Sequence[str],
        text_column: str | None,
        *,
        scoring: str = "sum",
        threshold: float | None = None,
    ) -> Recipe:
        """The recipe of a model and labels alone.

        Raises
        ------
        InputError
            Prompt, labels and columns do not fit together.
        """
        if scoring not in SCORINGS:
            raise InputError(f"scoring={scoring!r}: expected one of {', '.join(map(repr, SCORINGS))}")
        prompt = prompt or Prompt()
        is_table = text_column is None
        fields = tuple(columns) if is_table else (TEXT_FIELD,)
        classes = label_set(labels, prompt.words)
        if prompt.choices is None and not takes_descriptions(backend):
            warn_of_descriptions(classes)
        pipeline = FittedPipeline(backend, prompt, classes, fields, is_table, scoring=scoring, on_error="missing")
        return cls.of_pipeline(pipeline, columns, text_column, threshold)

    @property
    def backend(self) -> Backend:
        return self.pipeline.backend

    @cached_property
    def scorer(self) -> Scorer:
        return self.pipeline.scorer

    @property
    def max_cost(self) -> float | None:
        """The limit on what the model's server may cost; None without one."""
        return self.backend.server_options.max_cost if isinstance(self.backend, BehindServer) else None

    def with_option(self, name: str, value: Any) -> Recipe:
        """The same with another value of an option of the model's server."""
        backend = self.backend
        assert isinstance(backend, Handle)
        other = open_backend(backend.name, **{**backend.options, name: value})
        return replace(self, pipeline=replace(self.pipeline, backend=other))

    @property
    def classes(self) -> list[Any]:
        return list(self.pipeline.labels.classes)

    @cached_property
    def fields(self) -> tuple[str, ...]:
        """The fields of a row on which its answer depends: those that the model sees, and those that features are read of."""
        return self.pipeline.read_fields if self.pipeline.has_heads else self.scorer.shown_fields

    @cached_property
    def columns(self) -> list[str]:
        """The columns of the table that are these fields."""
        return [self.text_column if self.text_column is not None else name for name in self.fields]

    @cached_property
    def heads(self) -> Heads | None:
        """The heads of the pipeline's pool; None where probabilities need the label scores alone."""
        return Heads(self.pipeline, self.fields) if self.pipeline.has_heads else None

    @property
    def n_heads(self) -> int:
        """How many numbers heads make of each row."""
        return 0 if self.heads is None else self.heads.n_numbers

    def fingerprint(self) -> dict[str, Any]:
        """All that an answer depends on and that is known without opening the model; see `FittedPipeline.fingerprint`."""
        known = self.pipeline.fingerprint()
        if self.heads is not None:
            known |= {"fields": list(self.fields), HEADS: self.heads.fingerprint()}
        return known

    @property
    def has_choices(self) -> bool:
        """Whether each row brings its own choices."""
        return self.pipeline.prompt.choices is not None

    @property
    def has_threshold(self) -> bool:
        """Whether rows are accepted or not."""
        return self.threshold is not None or self.pipeline.threshold is not None

    # --- questions -----------------------------------------------------------------------------------------------------

    def questions(self, frame: pd.DataFrame) -> list[Question]:
        """What each row of a piece of the table asks."""
        columns = self._values(frame)
        if len(columns) == 1 and not self.has_choices and not self._reads_columns:
            return [
                self._question((value,)) if type(value) is not str else self._of_text(value) for value in columns[0]
            ]
        return (
            [self._question(values) for values in zip(*columns, strict=True)]
            if columns
            else [self._question(()) for _ in range(len(frame))]
        )

    def digest(self, frame: pd.DataFrame, ids: Sequence[str] | None) -> bytes:
        """A hash of all that the labels of a piece of the table depend on, and of its ids."""
        return blake2b(repr((ids, self._values(frame))).encode("utf-8", "backslashreplace"), digest_size=16).digest()

    def _values(self, frame: pd.DataFrame) -> list[list[Any]]:
        """The values of each column on which answers depend."""
        # Pieces of JSON Lines may lack a column that others have.
        nothing = [None] * len(frame)
        return [frame[name].tolist() if name in frame.columns else nothing for name in self.columns]

    def _of_text(self, text: str) -> Question:
        """The usual case, without its costs: the row is one text."""
        if not text or text.isspace():
            return self._question((text,))
        record = f"[{encode_basestring(text)}]"
        try:
            data = record.encode()
        except UnicodeEncodeError:
            return self._question((text,))
        return Question(record_key(data), data)

    def _question(self, values: Sequence[Any]) -> Question:
        problem = self._problem(dict(zip(self.fields, values, strict=True)))
        if problem is not None:
            return Question(None, None, problem)
        try:
            record = encode_record(values)
        except InputError as error:
            return Question(None, None, str(error))
        return Question(self._key(record), record)

    def _key(self, record: bytes) -> bytes:
        # Journals of earlier versions know a job with choices of each row by the same name; where one choice begins another, its
        # answers were others.
        is_other = self.has_choices and self.request(record).terminator == "longest"
        return record_key(record + b"longest" if is_other else record)

    def request(self, record: bytes) -> Request:
        """The request that a record stands for; see `Scorer.request`."""
        values = decode_record(record)
        if self._is_unconditional(values):
            return self.scorer.unconditional_request(values[1])
        return self.scorer.request(dict(zip(self.fields, values)))  # noqa: B905 - they were encoded together

    def extra_questions(self, record: bytes | None = None) -> Iterator[Question]:
        """What has to be asked besides the rows: the prompt without a row where scores are mutual information.

        `record` is that of a row that brings its own choices; None asks for what serves all rows.
        """
        if self.pipeline.scoring == "pmi" and (record is None) != self.has_choices:
            data = encode_record([None, self._words(record)])
            yield Question(self._key(data), data)

    # --- answers -------------------------------------------------------------------------------------------------------

    def label(
        self,
        answers: AnswerBlock,
        *,
        records: Sequence[bytes | None],
        unconditional: AnswerBlock | None = None,
        logprobs: bool = False,
    ) -> pd.DataFrame:
        """The columns that answers add to rows.

        Parameters
        ----------
        answers : AnswerBlock of n rows
        records : sequence of bytes (n,)
            The rows' records; None where a row could not be asked.
        unconditional : AnswerBlock of n rows, for pmi
        logprobs : bool
            Whether to add each class's summed log-probability.

        Returns
        -------
        DataFrame (n, ...)
            With the columns of `added_columns`.
        """
        pipeline, classes = self.pipeline, self.classes
        words = None
        if pipeline.scoring == "bytes":
            words = [[] if record is None else self._words(record) for record in records]
        before = None if unconditional is None else unconditional.scores
        scores = self.scorer.scores_of(answers.scores, pipeline.scoring, words, before)
        if self.heads is not None:
            scores = scores.with_heads(self.heads.by_name(answers.heads))
        sums = scores if pipeline.scoring == "sum" else self.scorer.scores_of(answers.scores, "sum")
        decisions = pipeline.decide(scores, self.threshold)
        missing, proba = decisions.missing.tolist(), decisions.probabilities
        label = [None if gone else classes[k] for gone, k in zip(missing, decisions.columns.tolist(), strict=True)]
        accepted = decisions.accepted
        columns: dict[str, Any] = {
            "label": pd.Series(label, dtype=object),
            "confidence": decisions.confidence,
            "accepted": pd.Series([None] * len(answers) if accepted is None else accepted.tolist(), dtype=object),
        }
        columns |= {f"p_{name}": proba[:, k] for k, name in enumerate(classes)}
        if logprobs:
            columns |= {f"logprob_{name}": sums.values[:, k] for k, name in enumerate(classes)}
        columns |= {
            "label_mass": np.exp(logsumexp(sums.values, axis=1)).clip(0.0, 1.0),
            "truncated": answers.truncated,
            "undecided": decisions.undecided,
            "error": pd.Series(answers.errors, dtype=object),
        }
        return pd.DataFrame(columns)

    def added_columns(self, logprobs: bool = False, *, names_models: bool = False) -> dict[str, str]:
        """Names and kinds of the columns that `label` makes, and of the one that names models, where there is one."""
        kinds = {bool: "bool", int: "int", float: "float"}
        types = {type(label) for label in self.classes}
        return {
            "label": kinds.get(types.pop(), "str") if len(types) == 1 else "str",
            "confidence": "float",
            "accepted": "bool",
            **{f"p_{name}": "float" for name in self.classes},
            **({f"logprob_{name}": "float" for name in self.classes} if logprobs else {}),
            "label_mass": "float",
            "truncated": "bool",
            "undecided": "bool",
            "error": "str",
            **({MODEL: "str"} if names_models else {}),
        }

    # --- helpers -------------------------------------------------------------------------------------------------------

    def _words(self, record: bytes | None) -> list[str]:
        if record is None or not self.has_choices:
            return self.pipeline.labels.all_words
        return self.scorer.words(dict(zip(self.fields, decode_record(record), strict=True)))

    @cached_property
    def _reads_columns(self) -> bool:
        """Whether a transformer reads columns of the table as they were in the fit."""
        features = self.pipeline.features
        return self.pipeline.has_heads and features is not None and features.reads_columns

    def is_row(self, record: bytes) -> bool:
        """Whether a record is that of a row, and not of the prompt without one."""
        return not self._is_unconditional(decode_record(record))

    def _is_unconditional(self, values: Sequence[Any]) -> bool:
        # Those of a row's own values that the prompt shows are never missing, and come first.
        return bool(values) and values[0] is None

    def _problem(self, row: Mapping[str, Any]) -> str | None:
        problem = self.scorer.problem(row)
        features = self.pipeline.features
        if problem is None and self._reads_columns and features is not None:
            unlike_fit = features.problem(row)
            problem = None if unlike_fit is None else unlike_fit.reason
        if problem is None and self.text_column is not None and not isinstance(row[TEXT_FIELD], str):
            return f"the text is {type_of(row[TEXT_FIELD])}; expected a str"
        return problem
