"""Rows in, answers of a model out: rendering, asking each question once, keeping what was answered."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from ..arrays import Floats
from ..backends import Backend, Request, RowScores
from ..backends.base import EstimatesCost, processes_logits, sees_tokens
from ..backends.logit_processing import Processing
from ..backends.usage import Estimate
from ..errors import InputError, ModelError, TruncationWarning, warn
from ..labels import LabelSet
from ..progress import track
from ..prompts.prompt import Prompt, PromptRenderer
from ..prompts.rendered import RenderedPrompt
from ..tables.rows import Row, Rows, check_fields
from ..tables.values import is_missing
from .class_scores import ClassScores, ScoreTable, bounded_class_scores
from .score_cache import ScoreCache, request_key

_STORE_EVERY = 64  # answers between two writes to the cache: as many as a killed process can lose


@dataclass(frozen=True, eq=False)
class Scorer:
    """Asks one backend about rows with one prompt, one set of labels and fixed shots.

    Threads may share a scorer: nothing in it changes.

    Parameters
    ----------
    backend : Backend
    prompt : Prompt
    labels : LabelSet
    field_names : tuple of str
        The fields that rows have.
    shots : tuple of (row, word)
    processing : Processing, optional
        What is done to the model's logits. A key of its `logit_bias` that is a label word means the token of that word after the
        prompt; guidance compares with the prompt without the row.
    cache : path, optional
    on_error : {"raise", "missing"}

    Raises
    ------
    PromptError
        Template, fields or label words do not fit together.
    """

    backend: Backend
    prompt: Prompt
    labels: LabelSet
    field_names: tuple[str, ...]
    shots: tuple[tuple[Row, str], ...] = ()
    processing: Processing | None = None
    cache: str | os.PathLike[str] | None = None
    on_error: str = "raise"

    def __post_init__(self) -> None:
        _ = self.renderer  # a prompt that cannot be rendered is refused here

    @cached_property
    def renderer(self) -> PromptRenderer:
        """What makes prompts of rows, shots included."""
        return self.prompt.renderer(self.labels.first_words, self.shots, self.field_names)

    @property
    def used_fields(self) -> tuple[str, ...]:
        """The fields of a row that the prompt shows."""
        return self.renderer.used_fields

    @cached_property
    def shown_fields(self) -> tuple[str, ...]:
        """All fields of a row that the model sees: those in the prompt, and that of the row's own choices."""
        choices = self.prompt.choices
        return self.used_fields if choices is None or choices in self.used_fields else (*self.used_fields, choices)

    @cached_property
    def class_of(self) -> list[int]:
        """The class of each completion."""
        return list(range(len(self.labels.classes))) if self.prompt.choices is not None else self.labels.class_of

    @property
    def n_completions(self) -> int:
        """How many completions each question has."""
        return len(self.class_of)

    def check(self, rows: Rows, scoring: str) -> None:
        """Refuse rows that cannot be rendered and scored so, before anything is asked."""
        if scoring == "pmi":
            self.renderer.render_unconditional()
        if self.processing is not None:
            self._check_processing(self.processing, scoring)
        if scoring == "mean" and not sees_tokens(self.backend):
            raise InputError(
                f"scoring='mean' divides by a label's tokens, and {self.backend!r} does not see them; use 'sum', 'bytes' or 'pmi'"
            )
        absent = [name for name in self.used_fields if name not in rows.field_names]
        if absent:
            raise InputError(
                f"X lacks the field {absent[0]!r} that the prompt uses; its fields: {list(rows.field_names)!r}"
            )
        check_fields(rows, self.used_fields, self.renderer.text_field)
        if self.prompt.choices is not None:
            for number, record in enumerate(rows.records):
                self._check_choices(number, record.get(self.prompt.choices))

    def answers(self, rows: Rows) -> list[RowScores]:
        """What the backend answers for each row, in the rows' order."""
        return self._ask([self.request(record) for record in rows.records])

    def class_scores(self, rows: Rows, scoring: str, answers: Sequence[RowScores] | None = None) -> Floats:
        """Log-score (n, K) of every class; see `llmclf.scoring.class_scores`. `answers` saves asking for them again."""
        return self.bounded_scores(rows, scoring, answers).values

    def bounded_scores(self, rows: Rows, scoring: str, answers: Sequence[RowScores] | None = None) -> ClassScores:
        """Log-score of every class, and its lower and upper bound, (n, K) each."""
        answers = self.answers(rows) if answers is None else answers
        words, unconditional = None, None
        if scoring in ("bytes", "pmi"):
            words = [self.words(record) for record in rows.records]
        if scoring == "pmi" and words is not None:
            unconditional = self._table(self._ask([self.unconditional_request(row_words) for row_words in words]))
        return self.scores_of(self._table(answers), scoring, words, unconditional)

    def scores_of(
        self,
        table: ScoreTable,
        scoring: str,
        words: Sequence[Sequence[str]] | None = None,
        unconditional: ScoreTable | None = None,
    ) -> ClassScores:
        """Log-score of every class from answers that are there already.

        Parameters
        ----------
        table : ScoreTable of n rows
        scoring : str
        words : per row, the words of each completion
            Needed for ``"bytes"``; empty where a row could not be asked.
        unconditional : ScoreTable of n rows
            The answers to the prompts without the row; needed for ``"pmi"``.
        """
        return bounded_class_scores(
            table,
            self.class_of,
            len(self.labels.classes),
            scoring,
            words=words,
            unconditional=unconditional,
        )

    def estimate(self, rows: Rows, scoring: str) -> Estimate:
        """What asking about rows would take, equal rows counted once; nothing is sent.

        Raises
        ------
        InputError
            The backend is not behind a server.
        """
        if not isinstance(self.backend, EstimatesCost):
            raise InputError(
                f"{self.backend!r} is not a server's, so there is nothing to pay; only servers' costs are estimated"
            )
        requests = [self.request(record) for record in rows.records]
        if scoring == "pmi":
            requests += [self.unconditional_request(self.words(record)) for record in rows.records]
        return self.backend.estimate(list(dict.fromkeys(requests)))

    def request(self, record: Row) -> Request:
        """The question about one row.

        Raises
        ------
        PromptError
            The template cannot be rendered for it.
        """
        return self._request(self.renderer.render(record), record)

    def unconditional_request(self, words: Sequence[str]) -> Request:
        """The question without a row, as pointwise mutual information needs it."""
        record = None if self.prompt.choices is None else {self.prompt.choices: words}
        return self._request(self.renderer.render_unconditional(), record)

    @cached_property
    def _completions(self) -> tuple[str, ...]:
        """The completions of rows without choices of their own."""
        return tuple(self.prompt.completion(word) for word in self.labels.all_words)

    @cached_property
    def _terminator(self) -> str | None:
        """That of rows without choices of their own."""
        return self.prompt.request_terminator(self._completions)

    @cached_property
    def _requested_processing(self) -> Processing | None:
        """What requests say of the logits: label words as they follow the prompt, and the prompt without a row."""
        if self.processing is None:
            return None
        offsets = tuple((self.as_continued(key), offset) for key, offset in self.processing.logit_bias)
        without_row = self.renderer.render_unconditional() if self.processing.guidance != 1 else None
        return replace(self.processing, logit_bias=offsets, unconditional=without_row)

    def as_continued(self, key: str | int) -> str | int:
        """What a key of a logit bias means: a label's word as it follows the prompt, anything else as it is."""
        is_word = self.prompt.choices is None and key in self.labels.all_words
        return f"{self.prompt.answer_delimiter}{key}" if is_word else key

    def _check_processing(self, processing: Processing, scoring: str) -> None:
        if not processes_logits(self.backend):
            raise InputError(
                f"{processing.described} needs the logits of the whole vocabulary, which {self.backend!r} does not see; use a "
                "local model, or leave it out"
            )
        if processing.guidance != 1:
            if scoring == "pmi":
                raise InputError(
                    f"guidance={processing.guidance!r} and scoring='pmi' both compare with the prompt without the row; use one "
                    "of them"
                )
            self.renderer.render_unconditional()

    def problem(self, record: Row) -> str | None:
        """Why a row cannot be asked about; None if it can."""
        for name in self.used_fields:
            value = record.get(name)
            if is_missing(value):
                return f"field {name!r} is missing"
            if name == self.renderer.text_field and isinstance(value, str) and not value.strip():
                return f"field {name!r} is blank"
        if self.prompt.choices is not None:
            return self._choices_problem(record.get(self.prompt.choices))
        return None

    def words(self, record: Row) -> list[str]:
        """The words of every completion of one row."""
        if self.prompt.choices is not None:
            return [str(word) for word in record[self.prompt.choices]]
        return self.labels.all_words

    def _check_choices(self, number: int, choices: Any) -> None:
        problem = self._choices_problem(choices)
        if problem is not None:
            raise InputError(f"row {number}, {problem}")

    def _choices_problem(self, choices: Any) -> str | None:
        choices = choices.tolist() if isinstance(choices, np.ndarray) else choices
        where = f"field {self.prompt.choices!r}"
        if not isinstance(choices, (list, tuple)) or not all(
            isinstance(word, str) and word.strip() for word in choices
        ):
            return f"{where} is {choices!r}; expected a list of texts, one per class"
        if len(choices) != len(self.labels.classes):
            return f"{where} has {len(choices)} choices; expected {len(self.labels.classes)}, one per class"
        return None

    def _request(self, prompt: RenderedPrompt, record: Row | None) -> Request:
        completions, terminator = self._completions, self._terminator
        if self.prompt.choices is not None and record is not None:
            completions = tuple(map(self.prompt.completion, self.words(record)))
            terminator = self.prompt.request_terminator(completions)
        return Request(prompt, completions, terminator, self._requested_processing)

    def _table(self, answers: Sequence[RowScores]) -> ScoreTable:
        return ScoreTable.of(answers, self.n_completions)

    def _ask(self, requests: Sequence[Request]) -> list[RowScores]:
        """Answers in the order of the requests; equal requests are asked once, those in the cache not at all."""
        answers = self._ask_once(requests) if self.cache is None else self._ask_cached(requests, ScoreCache(self.cache))
        _warn_of_cuts(answers)
        return answers

    def _ask_once(self, requests: Sequence[Request]) -> list[RowScores]:
        numbers: dict[Request, int] = {}  # of each different request, in the order in which they are asked
        asked = [numbers.setdefault(request, len(numbers)) for request in requests]
        answers: dict[int, RowScores] = {}
        for number, answer in track(self.backend.score(list(numbers)), len(numbers), "scoring"):
            if answer.error is not None:
                self._refuse(asked.index(number), answer.error)
            answers[number] = answer
        return [answers[number] for number in asked]

    def _ask_cached(self, requests: Sequence[Request], cache: ScoreCache) -> list[RowScores]:
        identity = self.backend.identity()
        keys = [request_key(identity, request) for request in requests]
        first: dict[str, int] = {}
        for number, key in enumerate(keys):
            first.setdefault(key, number)
        answers = cache.get(list(first))
        missing = [key for key in first if key not in answers]
        fresh: list[tuple[str, RowScores]] = []
        scored = self.backend.score([requests[first[key]] for key in missing])
        try:
            for place, answer in track(scored, len(missing), "scoring"):
                key = missing[place]
                answers[key] = answer
                if answer.error is not None:
                    self._refuse(first[key], answer.error)
                    continue
                fresh.append((key, answer))
                if len(fresh) >= _STORE_EVERY:
                    cache.put(fresh)
                    fresh = []
        finally:
            # What was paid for is kept, also when the user or an error stops the work.
            if fresh:
                cache.put(fresh)
        return [answers[key] for key in keys]

    def _refuse(self, number: int, error: str) -> None:
        if self.on_error == "raise":
            raise ModelError(f"row {number} could not be scored: {error}; on_error='missing' leaves such rows out")


def _warn_of_cuts(answers: Sequence[RowScores]) -> None:
    cut = [number for number, answer in enumerate(answers) if answer.characters_cut]
    if cut:
        longest = max(answers[number].characters_cut for number in cut)
        warn(
            f"{len(cut)} of {len(answers)} texts were longer than the model's context and were shortened, by up to {longest} "
            f"characters (first: row {cut[0]}); score_rows tells which",
            TruncationWarning,
        )
