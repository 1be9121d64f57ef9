"""Rows in, answers of a model out: rendering, asking each question once, keeping what was answered."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any
from weakref import WeakSet

import numpy as np

from ..arrays import Floats
from ..backends import Backend, Request, RowScores
from ..backends.base import EstimatesCost, processes_logits, sees_tokens, shows_states
from ..backends.logit_processing import Processing
from ..backends.remembering import Memory, Rehearsal
from ..backends.requests import StatePart, check_states
from ..backends.usage import Estimate
from ..errors import (
    InputError,
    PromptError,
    PromptWarning,
    TruncationWarning,
    warn,
)
from ..labels import LabelSet
from ..prompts.prompt import Prompt, PromptRenderer
from ..prompts.rendered import RenderedPrompt
from ..prompts.seams import author_spaces, doubtful_end, doubtful_words, row_spaces
from ..tables.bad_rows import Problem, check_problems, value_problem
from ..tables.rows import Row, Rows, field_problem
from .asking import ask_cached, ask_once, n_to_ask
from .class_scores import ClassScores, ScoreTable, bounded_class_scores
from .score_cache import ScoreCache

_WARNED_OF_SPACES: WeakSet[PromptRenderer] = WeakSet()
"""Whose rows have been warned of already, so that calls one after the other do not repeat it."""


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
    states : tuple of StatePart
        The hidden states that each row's answer shall show; questions without a row ask for none.

    Raises
    ------
    PromptError
        Template, fields or label words do not fit together, or the template shows nothing of a row.
    """

    backend: Backend
    prompt: Prompt
    labels: LabelSet
    field_names: tuple[str, ...]
    shots: tuple[tuple[Row, str], ...] = ()
    processing: Processing | None = None
    cache: str | os.PathLike[str] | None = None
    on_error: str = "raise"
    states: tuple[StatePart, ...] = ()

    def __post_init__(self) -> None:
        self.renderer.check_shows_row()  # a prompt that cannot be rendered is refused here, too

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
        """Refuse what cannot be asked, before anything is asked; bad rows only where ``on_error="raise"``."""
        if scoring == "pmi":
            self.renderer.render_unconditional()
        if self.processing is not None:
            self._check_processing(self.processing, scoring)
        check_states(self.states, None if shows_states(self.backend) else repr(self.backend))
        if scoring == "mean" and not sees_tokens(self.backend):
            raise InputError(
                f"scoring='mean' divides by a label's tokens, and {self.backend!r} does not see them; use 'sum', 'bytes' or 'pmi'"
            )
        absent = [name for name in self.used_fields if name not in rows.field_names]
        if absent:
            raise InputError(
                f"X lacks the field {absent[0]!r} that the prompt uses; its fields: {list(rows.field_names)!r}. The order of "
                "feature names does not matter, nor do those that the prompt does not use"
            )
        if self.on_error == "raise":
            check_problems(self.problems(rows))

    def problems(self, rows: Rows) -> dict[int, Problem]:
        """The rows that cannot be asked about, by number, and why."""
        found = ((number, self._problem_of(rows, number)) for number in range(len(rows)))
        return {number: problem for number, problem in found if problem is not None}

    def _problem_of(self, rows: Rows, number: int) -> Problem | None:
        if number in rows.problems:
            return rows.problems[number]
        record = rows.records[number]
        problem = self._problem(record) or self._template_problem(record)
        return None if problem is None else rows.placed(problem)

    def answers(self, rows: Rows, *, are_ours: bool = False) -> list[RowScores]:
        """What the backend answers for each row, in the rows' order; see `check`.

        With ``on_error="missing"``, a row that cannot be asked about has an error instead.

        Parameters
        ----------
        rows : Rows
        are_ours : bool
            The rows are no user's, so that blank texts among them are asked about, too.
        """
        return self._ask(self._questions(rows, are_ours))

    def n_to_ask(self, rows: Rows) -> int:
        """How many questions `answers` would ask the model: equal ones once, those in the cache not at all."""
        return n_to_ask(self.backend, self._questions(rows), None if self.cache is None else ScoreCache(self.cache))

    def _questions(self, rows: Rows, are_ours: bool = False) -> list[Request | RowScores]:
        """One question for each row, or why there is none."""
        problems = {} if are_ours or self.on_error == "raise" else self.problems(rows)
        return [
            RowScores((), error=problems[number].reason) if number in problems else self.request(record)
            for number, record in enumerate(rows.records)
        ]

    def doubtful_spaces(self, record: Row) -> list[str]:
        """Why the spaces between prompt and words are probably not meant, where they are the same for all rows.

        Parameters
        ----------
        record : dict
            Any row.
        """
        spaces = author_spaces(self.renderer.render(record))
        found = [doubtful_end(self.prompt, spaces, "the prompt")]
        if self.prompt.unconditional is not None:
            alone = author_spaces(self.renderer.render_unconditional())
            found.append(doubtful_end(self.prompt, alone, "the prompt without the row"))
        return [*filter(None, found), *doubtful_words(self.prompt, self.words(record), spaces)]

    def class_scores(self, rows: Rows, scoring: str, answers: Sequence[RowScores] | None = None) -> Floats:
        """Log-score (n, K) of every class; see `llmclf.scoring.class_scores`. `answers` saves asking for them again."""
        return self.bounded_scores(rows, scoring, answers).values

    def bounded_scores(self, rows: Rows, scoring: str, answers: Sequence[RowScores] | None = None) -> ClassScores:
        """Log-score of every class, and its lower and upper bound, (n, K) each."""
        answers = self.answers(rows) if answers is None else answers
        words, unconditional = None, None
        if scoring in ("bytes", "pmi"):
            # A row that could not be asked about may have no words.
            words = [
                [] if answer.error is not None else self.words(record)
                for answer, record in zip(answers, rows.records, strict=True)
            ]
        if scoring == "pmi" and words is not None:
            unconditional = self._table(
                self._ask(
                    [self.unconditional_request(own) if own else RowScores((), error="no words") for own in words]
                )
            )
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
        problems = self.problems(rows)
        records = [record for number, record in enumerate(rows.records) if number not in problems]
        requests = [self.request(record) for record in records]
        if scoring == "pmi":
            requests += [self.unconditional_request(self.words(record)) for record in records]
        return self.backend.estimate(list(dict.fromkeys(requests)))

    def request(self, record: Row) -> Request:
        """The question about one row.

        Raises
        ------
        PromptError
            The template cannot be rendered for it.
        """
        return self._request(self.renderer.render(record), record, self.states)

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
        """What is wrong with a row's values; None where nothing is, though the template may still fail for them."""
        problem = self._problem(record)
        return None if problem is None else problem.reason

    def _problem(self, record: Row) -> Problem | None:
        problem = field_problem(record, self.used_fields, self.renderer.text_field)
        if problem is None and self.prompt.choices is not None:
            reason = self._choices_problem(record.get(self.prompt.choices))
            problem = None if reason is None else Problem("other", reason, reason)
        return problem

    def _template_problem(self, record: Row) -> Problem | None:
        if not self.renderer.may_fail:
            return None
        try:
            self.renderer.render(record)
        except PromptError as error:
            return Problem("other", str(error), str(error))
        return None

    def words(self, record: Row) -> list[str]:
        """The words of every completion of one row."""
        if self.prompt.choices is not None:
            return [str(word) for word in record[self.prompt.choices]]
        return self.labels.all_words

    def _choices_problem(self, choices: Any) -> str | None:
        choices = choices.tolist() if isinstance(choices, np.ndarray) else choices
        where = f"field {self.prompt.choices!r}"
        if not isinstance(choices, (list, tuple)) or not all(
            isinstance(word, str) and word.strip() for word in choices
        ):
            return f"{where} is {choices!r}; expected a list of texts, one per class"
        if len(choices) != len(self.labels.classes):
            return f"{where} has {len(choices)} choices; expected {len(self.labels.classes)}, one per class"
        broken = next(
            filter(None, (value_problem(word, self.prompt.choices or "", is_text=True) for word in choices)), None
        )
        return None if broken is None else broken.reason

    def _request(self, prompt: RenderedPrompt, record: Row | None, states: tuple[StatePart, ...] = ()) -> Request:
        completions, terminator = self._completions, self._terminator
        if self.prompt.choices is not None and record is not None:
            completions = tuple(map(self.prompt.completion, self.words(record)))
            terminator = self.prompt.request_terminator(completions)
        return Request(prompt, completions, terminator, self._requested_processing, states)

    def _table(self, answers: Sequence[RowScores]) -> ScoreTable:
        return ScoreTable.of(answers, self.n_completions)

    def _ask(self, questions: Sequence[Request | RowScores]) -> list[RowScores]:
        """Answers in the order of the questions, some of which are answered already.

        Equal requests are asked once, those in the cache not at all.
        """
        is_strict = self.on_error == "raise"
        rehearsal, memory = Rehearsal.current(), Memory.current()
        if rehearsal is not None:
            return rehearsal.answers(self.backend, questions)
        if memory is not None:
            memory.note(self.backend)
        known = memory if self.cache is None else ScoreCache(self.cache)
        if known is None:
            answers = ask_once(self.backend, questions, is_strict=is_strict)
        else:
            answers = ask_cached(self.backend, questions, known, is_strict=is_strict)
        _warn_of_cuts(answers)
        self._warn_of_spaces(questions)
        return answers

    def _warn_of_spaces(self, questions: Sequence[Request | RowScores]) -> None:
        """Warn, once for all calls, where a prompt ends with the row's own text, and that with spaces."""
        if self.renderer in _WARNED_OF_SPACES:
            return
        spaces = {
            place: found
            for place, question in enumerate(questions)
            if isinstance(question, Request) and (found := row_spaces(question.prompt))
        }
        if spaces:
            first = next(iter(spaces))
            what = f"in {len(spaces)} of {len(questions)} rows (first: row {first}) the prompt"
            doubt = doubtful_end(self.prompt, spaces[first], what)
            if doubt is not None:
                _WARNED_OF_SPACES.add(self.renderer)
                warn(f"{doubt}, or trim the field: {{{{ ... | trim }}}}", PromptWarning)


def _warn_of_cuts(answers: Sequence[RowScores]) -> None:
    cut = [number for number, answer in enumerate(answers) if answer.characters_cut]
    if cut:
        longest = max(answers[number].characters_cut for number in cut)
        warn(
            f"{len(cut)} of {len(answers)} texts were longer than the model's context and were shortened, by up to {longest} "
            f"characters (first: row {cut[0]}); score_rows tells which",
            TruncationWarning,
        )
