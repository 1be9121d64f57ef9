"""How a job makes a label of a row: what is asked about it, and what becomes of the answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from json.encoder import encode_basestring
from typing import Any

import numpy as np
import pandas as pd

from ..backends import Backend, Request
from ..backends.base import SCORE_VERSION
from ..backends.handle import Handle
from ..backends.identity import check_same_model
from ..calibration import Corrections
from ..classifier import LLMClassifier
from ..errors import InputError
from ..labels import label_set
from ..logits import log_softmax, logsumexp
from ..prompts import TEXT_FIELD, Prompt
from ..scoring.class_scores import SCORINGS, class_scores
from ..scoring.scorer import Scorer
from ..tables.values import plain
from .journal.answer_codec import AnswerBlock
from .questions import Question, decode_record, encode_record, record_key


@dataclass(frozen=True)
class Recipe:
    """Questions of rows, and labels from answers.

    Attributes
    ----------
    scorer : Scorer
    corrections : Corrections
    scoring : str
    threshold : float or None
        Rows at least as confident are accepted; None where nothing is known of that.
    text_column : str or None
        The column that is the prompt's ``text``; None where the prompt names columns.
    calibrated_on : mapping or None
        The identity of the model that the corrections were fitted on.
    """

    scorer: Scorer
    corrections: Corrections
    scoring: str = "sum"
    threshold: float | None = None
    text_column: str | None = None
    calibrated_on: Mapping[str, Any] | None = None
    check_model: bool = True

    @classmethod
    def of_classifier(
        cls, classifier: LLMClassifier, columns: Sequence[str], text_column: str | None, threshold: float | None = None
    ) -> Recipe:
        """The recipe of a fitted classifier, for a table with some columns.

        Raises
        ------
        InputError
            It was fitted on texts and no column holds them, or on a table that has other columns.
        """
        scorer = classifier._current_scorer()
        if classifier._is_table == (text_column is not None):
            then, cure = (
                ("a table", "leave the text column out")
                if classifier._is_table
                else ("texts", "name the column that holds them (--text-column)")
            )
            raise InputError(f"the classifier was fitted on {then}; {cure}")
        if threshold is None:
            threshold = None if classifier.threshold_ is None else classifier.threshold_.threshold
        recipe = cls(
            scorer,
            classifier._corrections,
            classifier.scoring,
            threshold,
            text_column,
            classifier.calibrated_on_,
            classifier._check_model,
        )
        recipe._check(columns)
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
        fields = (TEXT_FIELD,) if text_column is not None else tuple(columns)
        scorer = Scorer(backend, prompt, label_set(labels, prompt.words), fields, on_error="missing")
        recipe = cls(scorer, Corrections(), scoring, threshold, text_column)
        recipe._check(columns)
        return recipe

    @property
    def backend(self) -> Backend:
        return self.scorer.backend

    @property
    def classes(self) -> list[Any]:
        return list(self.scorer.labels.classes)

    def fingerprint(self) -> dict[str, Any]:
        """All that an answer depends on and that is known without opening the model, as flat JSON values with plain names."""
        labels = self.scorer.labels
        prompt = {f"prompt {name}": value for name, value in self.scorer.prompt.to_dict().items() if name != "words"}
        backend = self.backend
        described = backend.description if isinstance(backend, Handle) else backend.identity()
        shots = [
            [{name: plain(value, "a shot's value") for name, value in row.items()}, word]
            for row, word in self.scorer.shots
        ]
        return {
            "score version": SCORE_VERSION,
            **described,
            **prompt,
            "labels": [
                [plain(label, "the class"), list(words)]
                for label, words in zip(labels.classes, labels.words, strict=True)
            ],
            "shots": shots,
            "fields": list(self.scorer.shown_fields),
            **({} if self.scorer.processing is None else self.scorer.processing.to_dict()),
        }

    def check_identity(self, identity: Mapping[str, Any]) -> None:
        """Refuse a model that is another than the one that the corrections were fitted on.

        Raises
        ------
        ModelError
        """
        if self.calibrated_on is not None:
            check_same_model(self.calibrated_on, identity, is_strict=self.check_model)

    # --- questions -----------------------------------------------------------------------------------------------------

    def questions(self, frame: pd.DataFrame) -> list[Question]:
        """What each row of a piece of the table asks."""
        columns = self._columns(frame)
        if len(columns) == 1 and self.scorer.prompt.choices is None:
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
        return blake2b(repr((ids, self._columns(frame))).encode("utf-8", "backslashreplace"), digest_size=16).digest()

    def _columns(self, frame: pd.DataFrame) -> list[list[Any]]:
        # Pieces of JSON Lines may lack a column that others have.
        nothing = [None] * len(frame)
        names = map(self._column, self.scorer.shown_fields)
        return [frame[name].tolist() if name in frame.columns else nothing for name in names]

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
        problem = self._problem(dict(zip(self.scorer.shown_fields, values, strict=True)))
        if problem is not None:
            return Question(None, None, problem)
        try:
            record = encode_record(values)
        except InputError as error:
            return Question(None, None, str(error))
        return Question(record_key(record), record)

    def request(self, record: bytes) -> Request:
        """The request that a record stands for; see `Scorer.request`."""
        values = decode_record(record)
        if self._is_unconditional(values):
            return self.scorer.unconditional_request(values[1])
        return self.scorer.request(dict(zip(self.scorer.shown_fields, values)))  # noqa: B905 - they were encoded together

    def extra_questions(self, record: bytes | None = None) -> Iterator[Question]:
        """What has to be asked besides the rows: the prompt without a row where scores are mutual information.

        `record` is that of a row that brings its own choices; None asks for what serves all rows.
        """
        if self.scoring == "pmi" and (record is None) == (self.scorer.prompt.choices is None):
            data = encode_record([None, self._words(record)])
            yield Question(record_key(data), data)

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
        n, classes = len(answers), self.classes
        words = [self._words(record) if record is not None else [] for record in records] if self._needs_words else None

        def scores(scoring: str, side: str = "sums") -> np.ndarray:
            before = None if unconditional is None else unconditional.scores
            return class_scores(
                answers.scores,
                self.scorer.class_of,
                len(classes),
                scoring,
                words=words,
                unconditional=before,
                side=side,
            )

        raw = scores(self.scoring)
        corrected = self.corrections.apply(raw)
        proba = np.exp(log_softmax(corrected))
        missing = np.isnan(proba).any(axis=1)
        sums = raw if self.scoring == "sum" else scores("sum")
        is_open = np.zeros(n, dtype=bool)
        if (answers.scores.lower < answers.scores.upper).any():
            is_open = self.corrections.undecided(raw, scores(self.scoring, "lower"), scores(self.scoring, "upper"))
        # As in LLMClassifier.predict: the first of the best.
        best = np.argmax(np.where(missing[:, None], 0.0, corrected), axis=1)
        confidence = np.where(missing, np.nan, proba.max(axis=1))
        accepted: list[bool | None] = [None] * n
        if self.threshold is not None:
            accepted = [bool(value) for value in np.where(missing, False, confidence >= self.threshold)]
        label = [None if gone else classes[k] for gone, k in zip(missing.tolist(), best.tolist(), strict=True)]
        columns: dict[str, Any] = {
            "label": pd.Series(label, dtype=object),
            "confidence": confidence,
            "accepted": pd.Series(accepted, dtype=object),
        }
        columns |= {f"p_{name}": proba[:, k] for k, name in enumerate(classes)}
        if logprobs:
            columns |= {f"logprob_{name}": sums[:, k] for k, name in enumerate(classes)}
        columns |= {
            "label_mass": np.exp(logsumexp(sums, axis=1)).clip(0.0, 1.0),
            "truncated": answers.truncated,
            "undecided": is_open,
            "error": pd.Series(answers.errors, dtype=object),
        }
        return pd.DataFrame(columns)

    def added_columns(self, logprobs: bool = False) -> dict[str, str]:
        """Names and kinds of the columns that `label` makes."""
        kinds = {bool: "bool", int: "int", float: "float"}
        found = {type(label) for label in self.classes}
        return {
            "label": kinds.get(found.pop(), "str") if len(found) == 1 else "str",
            "confidence": "float",
            "accepted": "bool",
            **{f"p_{name}": "float" for name in self.classes},
            **({f"logprob_{name}": "float" for name in self.classes} if logprobs else {}),
            "label_mass": "float",
            "truncated": "bool",
            "undecided": "bool",
            "error": "str",
        }

    # --- helpers -------------------------------------------------------------------------------------------------------

    @property
    def _needs_words(self) -> bool:
        return self.scoring == "bytes"

    def _words(self, record: bytes | None) -> list[str]:
        if record is None or self.scorer.prompt.choices is None:
            return self.scorer.labels.all_words
        return self.scorer.words(dict(zip(self.scorer.shown_fields, decode_record(record), strict=True)))

    def _is_unconditional(self, values: Sequence[Any]) -> bool:
        # A row's own values are never missing.
        return bool(values) and values[0] is None

    def _column(self, name: str) -> str:
        return self.text_column if self.text_column is not None else name

    def _problem(self, row: Mapping[str, Any]) -> str | None:
        problem = self.scorer.problem(row)
        if problem is None and self.text_column is not None and not isinstance(row[TEXT_FIELD], str):
            return f"the text is a {type(row[TEXT_FIELD]).__name__}; expected a str"
        return problem

    def _check(self, columns: Sequence[str]) -> None:
        absent = [name for name in map(self._column, self.scorer.shown_fields) if name not in columns]
        if absent:
            raise InputError(f"the table has no column {absent[0]!r}; its columns: {', '.join(map(repr, columns))}")
        if self.scoring == "pmi":
            self.scorer.unconditional_request(self.scorer.labels.all_words)
