"""Rows in, answers of a model out: rendering, asking each question once, keeping what was answered."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..backends import Backend, Request, RowScores, open_backend
from ..backends.handle import Handle
from ..backends.http.usage import Estimate
from ..backends.logit_processing import Processing
from ..errors import InputError, ModelError, TerminatorWarning, TruncationWarning, warn
from ..labels import LabelSet
from ..progress import track
from ..prompts.prompt import Prompt
from ..prompts.rendered import RenderedPrompt
from ..prompts.renderer import PromptRenderer
from ..tables.rows import Row, Rows, check_fields
from ..tables.values import is_missing, plain
from .class_scores import class_scores
from .score_cache import ScoreCache, request_key

_STORE_EVERY = 64  # answers between two writes to the cache: the most that a killed process loses


class Scorer:
    """Asks one backend about rows with one prompt, one set of labels and fixed shots.

    Parameters
    ----------
    backend : Backend
    prompt : Prompt
    labels : LabelSet
    field_names : sequence of str
        The fields that rows have.
    shots : sequence of (row, word)
    processing : Processing, optional
        What is done to the model's logits. A key of its `logit_bias` that is a label word means the token of that word after the
        prompt; guidance compares with the prompt without the row.
    cache : path, optional
    on_error : {"raise", "missing"}
    """

    def __init__(
        self,
        backend: Backend,
        prompt: Prompt,
        labels: LabelSet,
        field_names: Sequence[str],
        *,
        shots: Sequence[tuple[Row, str]] = (),
        processing: Processing | None = None,
        cache: str | os.PathLike[str] | None = None,
        on_error: str = "raise",
    ) -> None:
        self.backend = backend
        self.prompt = prompt
        self.labels = labels
        self.field_names = tuple(field_names)
        self.shots = tuple(shots)
        self.processing = processing
        self.cache = cache
        self.on_error = on_error
        self._renderer = prompt.renderer(labels.first_words, self.shots, self.field_names)
        self._completions = tuple(prompt.completion(word) for word in labels.all_words)
        # Any other terminator is text and already part of the completions.
        self._terminator = prompt.terminator if prompt.terminator in ("auto", "eos") else None

    @property
    def renderer(self) -> PromptRenderer:
        """What makes prompts of rows, shots included."""
        return self._renderer

    @property
    def used_fields(self) -> tuple[str, ...]:
        """The fields of a row that the prompt shows."""
        return self._renderer.used_fields

    @cached_property
    def shown_fields(self) -> tuple[str, ...]:
        """All fields of a row that the model sees: those in the prompt, and that of the row's own choices."""
        own = self.prompt.choices
        return self.used_fields if own is None or own in self.used_fields else (*self.used_fields, own)

    def with_shots(self, shots: Sequence[tuple[Row, str]]) -> Scorer:
        """The same scorer with other shots."""
        return self._with(shots=shots)

    def with_processing(self, processing: Processing | None, unconditional: str | None) -> Scorer:
        """The same scorer with something else done to the logits, and another template of the prompt without the row."""
        if (processing, unconditional) == (self.processing, self.prompt.unconditional):
            return self
        return self._with(processing=processing, prompt=replace(self.prompt, unconditional=unconditional))

    def _with(self, **changes: Any) -> Scorer:
        own = {name: getattr(self, name) for name in ("prompt", "shots", "processing", "cache", "on_error")}
        return Scorer(self.backend, labels=self.labels, field_names=self.field_names, **{**own, **changes})

    def to_dict(self) -> dict[str, Any]:
        """Model, prompt, labels and shots as JSON values; cache and error handling belong to the caller."""
        if not isinstance(self.backend, Handle):
            raise InputError(f"{self.backend!r} cannot be saved; expected a backend made by open_backend")
        shots = [
            [{name: plain(value, "a shot's value") for name, value in row.items()}, word] for row, word in self.shots
        ]
        return {
            "model": self.backend.name,
            "model_options": self.backend.options,
            # Words are kept with the classes; the prompt's own table of them has done its work.
            "prompt": replace(self.prompt, words=None).to_dict(),
            "classes": [plain(label, "the class") for label in self.labels.classes],
            "words": [list(words) for words in self.labels.words],
            "shots": shots,
            "field_names": list(self.field_names),
            "processing": None if self.processing is None else self.processing.to_dict(),
        }

    @classmethod
    def from_dict(
        cls,
        values: Mapping[str, Any],
        cache: str | os.PathLike[str] | None = None,
        model_options: Mapping[str, Any] | None = None,
    ) -> Scorer:
        """The inverse of `to_dict`; `model_options` replace those that were saved."""
        labels = LabelSet(tuple(values["classes"]), tuple(tuple(map(str, words)) for words in values["words"]))
        return cls(
            open_backend(values["model"], **{**values["model_options"], **(model_options or {})}),
            Prompt.from_dict(values["prompt"]),
            labels,
            values["field_names"],
            shots=[(dict(row), str(word)) for row, word in values["shots"]],
            processing=Processing.from_dict(values.get("processing")),  # absent in folders of earlier versions
            cache=cache,
        )

    def check(self, rows: Rows, scoring: str) -> None:
        """Refuse rows that cannot be rendered and scored so, before anything is asked."""
        if scoring == "pmi":
            self._renderer.render_unconditional()
        if self.processing is not None:
            self._check_processing(self.processing, scoring)
        if scoring == "mean" and not getattr(self.backend, "sees_tokens", True):
            raise InputError(
                f"scoring='mean' divides by a label's tokens, and {self.backend!r} does not see them; use 'sum', 'bytes' or 'pmi'"
            )
        absent = [name for name in self._renderer.used_fields if name not in rows.field_names]
        if absent:
            raise InputError(
                f"X lacks the field {absent[0]!r} that the prompt uses; its fields: {list(rows.field_names)!r}"
            )
        check_fields(rows, self._renderer.used_fields, self._renderer.text_field)
        if self.prompt.choices is not None:
            for number, record in enumerate(rows.records):
                self._check_choices(number, record.get(self.prompt.choices))

    def answers(self, rows: Rows) -> list[RowScores]:
        """What the backend answers for each row, in the rows' order."""
        return self._ask(self._requests(rows))

    def class_scores(self, rows: Rows, scoring: str, answers: Sequence[RowScores] | None = None) -> NDArray[np.float64]:
        """Log-score (n, K) of every class; see `llmclf.scoring.class_scores`. `answers` saves asking for them again."""
        return self.bounded_scores(rows, scoring, answers)[0]

    def bounded_scores(
        self, rows: Rows, scoring: str, answers: Sequence[RowScores] | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Log-score of every class, and its lower and upper bound, (n, K) each."""
        words = [self.words(record) for record in rows.records]
        answers = self.answers(rows) if answers is None else answers
        unconditional = None
        if scoring == "pmi":
            unconditional = self._ask([self.unconditional_request(own) for own in words])

        def side(name: str) -> NDArray[np.float64]:
            return class_scores(
                answers,
                self.class_of,
                len(self.labels.classes),
                scoring,
                words=words,
                unconditional=unconditional,
                side=name,
            )

        scores = side("sums")
        if all(row.lower == row.upper for row in (*answers, *(unconditional or ()))):
            return scores, scores, scores
        return scores, side("lower"), side("upper")

    def estimate(self, rows: Rows, scoring: str) -> Estimate:
        """What asking about rows would take, equal rows counted once; nothing is sent.

        Raises
        ------
        InputError
            The backend is no server.
        """
        if not hasattr(self.backend, "estimate"):
            raise InputError(
                f"{self.backend!r} is no server, so there is nothing to pay; only servers' costs are estimated"
            )
        requests = self._requests(rows)
        if scoring == "pmi":
            requests += [self.unconditional_request(self.words(record)) for record in rows.records]
        requests = list(dict.fromkeys(requests))
        found: Estimate = self.backend.estimate(requests)
        return found

    def request(self, record: Row) -> Request:
        """The question about one row.

        Raises
        ------
        PromptError
            The template cannot be rendered for it.
        """
        return self._request(self._renderer.render(record), record)

    def unconditional_request(self, words: Sequence[str]) -> Request:
        """The question without a row, as pointwise mutual information needs it."""
        own = None if self.prompt.choices is None else {self.prompt.choices: words}
        return self._request(self._renderer.render_unconditional(), own)

    @cached_property
    def _wanted(self) -> Processing | None:
        """What requests say of the logits: label words as they follow the prompt, and the prompt without a row."""
        if self.processing is None:
            return None
        offsets = tuple((self.as_continued(key), offset) for key, offset in self.processing.logit_bias)
        without_row = self._renderer.render_unconditional() if self.processing.guidance != 1 else None
        return replace(self.processing, logit_bias=offsets, unconditional=without_row)

    def as_continued(self, key: str | int) -> str | int:
        """What a key of a logit bias means: a label's word as it follows the prompt, anything else as it is."""
        is_word = self.prompt.choices is None and key in self.labels.all_words
        return f"{self.prompt.answer_delimiter}{key}" if is_word else key

    @property
    def class_of(self) -> list[int]:
        """The class of each completion."""
        return list(range(len(self.labels.classes))) if self.prompt.choices is not None else self.labels.class_of

    def _check_processing(self, processing: Processing, scoring: str) -> None:
        if not getattr(self.backend, "processes_logits", False):
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
            self._renderer.render_unconditional()

    def problem(self, record: Row) -> str | None:
        """Why a row cannot be asked about; None if it can."""
        for name in self.used_fields:
            value = record.get(name)
            if is_missing(value):
                return f"field {name!r} is missing"
            if name == self._renderer.text_field and isinstance(value, str) and not value.strip():
                return f"field {name!r} is blank"
        if self.prompt.choices is not None:
            own = record.get(self.prompt.choices)
            return self._choices_problem(own.tolist() if isinstance(own, np.ndarray) else own)
        return None

    def words(self, record: Row) -> list[str]:
        """The words of every completion of one row."""
        if self.prompt.choices is not None:
            return [str(word) for word in record[self.prompt.choices]]
        return self.labels.all_words

    def _check_choices(self, number: int, own: Any) -> None:
        problem = self._choices_problem(own.tolist() if isinstance(own, np.ndarray) else own)
        if problem is not None:
            raise InputError(f"row {number}, {problem}")

    def _choices_problem(self, own: Any) -> str | None:
        where = f"field {self.prompt.choices!r}"
        if not isinstance(own, (list, tuple)) or not all(isinstance(word, str) and word.strip() for word in own):
            return f"{where} is {own!r}; expected a list of texts, one per class"
        if len(own) != len(self.labels.classes):
            return f"{where} has {len(own)} choices; expected {len(self.labels.classes)}, one per class"
        return None

    def _requests(self, rows: Rows) -> list[Request]:
        return [self.request(record) for record in rows.records]

    def _request(self, prompt: RenderedPrompt, record: Row | None) -> Request:
        completions = self._completions
        if self.prompt.choices is not None and record is not None:
            completions = tuple(map(self.prompt.completion, self.words(record)))
        return Request(prompt, completions, self._terminator, self._wanted)

    def _ask(self, requests: Sequence[Request]) -> list[RowScores]:
        """Answers in the order of the requests; equal requests are asked once, those in the cache not at all."""
        identity = self.backend.identity()
        keys = [request_key(identity, request) for request in requests]
        first: dict[str, int] = {}
        for place, key in enumerate(keys):
            first.setdefault(key, place)
        cache = None if self.cache is None else ScoreCache(self.cache)
        known: dict[str, RowScores] = cache.get(list(first)) if cache else {}
        wanted = [key for key in first if key not in known]
        fresh: list[tuple[str, RowScores]] = []
        scored = self.backend.score([requests[first[key]] for key in wanted])
        try:
            for place, answer in track(scored, len(wanted), "scoring"):
                key = wanted[place]
                known[key] = answer
                if answer.error is not None:
                    self._refuse(first[key], answer.error)
                    continue
                fresh.append((key, answer))
                if cache and len(fresh) >= _STORE_EVERY:
                    cache.put(fresh)
                    fresh = []
        finally:
            # What was paid for is kept, also when the user or an error stops the work.
            if cache and fresh:
                cache.put(fresh)
        answers = [known[key] for key in keys]
        _warn_of_cuts(answers)
        if self.prompt.terminator == "auto":
            _warn_of_terminators(answers)
        return answers

    def _refuse(self, number: int, error: str) -> None:
        if self.on_error == "raise":
            raise ModelError(f"row {number} could not be scored: {error}; on_error='missing' leaves such rows out")


def _warn_of_cuts(answers: Sequence[RowScores]) -> None:
    cut = [number for number, answer in enumerate(answers) if answer.characters_cut]
    if cut:
        most = max(answers[number].characters_cut for number in cut)
        warn(
            f"{len(cut)} of {len(answers)} texts were longer than the model's context and were shortened, by up to {most} "
            f"characters (first: row {cut[0]}); score_rows tells which",
            TruncationWarning,
        )


def _warn_of_terminators(answers: Sequence[RowScores]) -> None:
    terminated = sum(answer.terminated for answer in answers)
    if terminated:
        warn(
            f"in {terminated} of {len(answers)} rows one label's tokens begin with another's, so the end-of-answer token was "
            "added to every label; choose the end yourself with Prompt(terminator=...)",
            TerminatorWarning,
        )
