"""What the process of the models does with what it is asked: all rows of a message in one pass, and each row's own answer."""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from threading import Lock
from typing import Any

import numpy as np

from ...backends import Backend, Request, RowScores
from ...backends.base import CountsTokens, shares_beginnings, takes_descriptions
from ...errors import BudgetError, CapabilityError, LlmclfError, ServerError
from ...labels import label_set
from ...logits import logsumexp
from ...pipeline import FittedPipeline
from ...prompts.prompt import Prompt
from ...scoring.asking import ask_once
from ...tables.bad_rows import Problem
from ...tables.rows import Rows
from ..questions import Answer
from .withheld import without_texts

_MOST_PIPELINES = 256  # of questions with labels of their own, that are kept for the next question with the same
_TEMPLATE = "{{ question }}\n\nText: {{ text }}\nAnswer:"
_FIELDS = ("question", "text")


@dataclass(frozen=True)
class Task:
    """Rows of one pipeline, and their places in the message."""

    pipeline: FittedPipeline
    rows: Rows
    places: list[int]
    problems: Mapping[int, Problem]
    questions: list[Request | RowScores]


class OpenModel:
    """A model that answers questions with labels of their own, without calibration.

    Parameters
    ----------
    backend : Backend
    chat : bool
        Use the model's chat template.
    """

    def __init__(self, backend: Backend, *, chat: bool = False) -> None:
        self.backend = backend
        self._chat = chat
        self._pipelines: OrderedDict[tuple[str, ...], FittedPipeline] = OrderedDict()
        self._lock = Lock()

    def pipeline(self, words: Sequence[str], question: str = "") -> FittedPipeline:
        """The pipeline of a question with these words; its columns are the words in their order.

        Parameters
        ----------
        words : sequence of str
        question : str
            Where the model is a decision model, whose questions are no part of its text; else rows bring it.
        """
        is_decision = takes_descriptions(self.backend)
        key = (question, *words) if is_decision else ("", *words)
        with self._lock:
            known = self._pipelines.get(key)
            if known is not None:
                self._pipelines.move_to_end(key)
                return known
        labels = label_set({place: [word] for place, word in enumerate(words)})
        if is_decision:
            prompt = Prompt("{{ text }}", instruction=_literal(question) if question else None)
            made = FittedPipeline(self.backend, prompt, labels, on_error="missing")
        else:
            # The question is the client's, so it is data, in which control tokens are text.
            prompt = Prompt(_TEMPLATE, chat=self._chat)
            made = FittedPipeline(self.backend, prompt, labels, _FIELDS, True, on_error="missing")
        with self._lock:
            self._pipelines[key] = made
            while len(self._pipelines) > _MOST_PIPELINES:
                self._pipelines.popitem(last=False)
        return made


class Answerer:
    """Answers messages; threads may share it.

    Parameters
    ----------
    classifiers : mapping of name to FittedPipeline
    models : mapping of name to OpenModel
    """

    def __init__(self, classifiers: Mapping[str, FittedPipeline], models: Mapping[str, OpenModel]) -> None:
        self._classifiers = {name: replace(one, on_error="missing") for name, one in classifiers.items()}
        self._models = dict(models)

    def open(self, names: Collection[str]) -> dict[str, str]:
        """Open the models behind these names; for each `OpenModel`, a short hash of what its scores depend on.

        Raises
        ------
        LlmclfError
            A model cannot be opened, or is not the one that a classifier was calibrated on.
        """
        classifiers = {name: one for name, one in self._classifiers.items() if name in names}
        for pipeline in classifiers.values():
            identity = pipeline.backend.identity()
            if pipeline.calibrated_on is not None:
                pipeline.check_model_identity(identity)
        # A first pass takes longer than all others, and costs nothing where the model is here.
        self.answers(
            [
                {"model": name, "row": dict.fromkeys(one.field_names, "A first text.")}
                for name, one in classifiers.items()
                if shares_beginnings(one.backend)
            ]
        )
        return {name: hash_of(model.backend.identity()) for name, model in self._models.items() if name in names}

    def answers(self, asks: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """The answer to each ask; where one of them makes the model fail, the others are answered all the same."""
        try:
            return [answer.to_dict() for answer in self._together(asks)]
        except (ServerError, BudgetError, CapabilityError) as error:
            message = without_texts(str(error), asks)
            return [Answer(kind="model_unavailable", message=message).to_dict()] * len(asks)
        except Exception as error:
            if len(asks) == 1:
                return [_failure(error, asks[0]).to_dict()]
            half = len(asks) // 2
            return [*self.answers(asks[:half]), *self.answers(asks[half:])]

    def _together(self, asks: Sequence[Mapping[str, Any]]) -> list[Answer]:
        tasks = self._tasks(asks)
        n_tokens = _TokenCounts()
        by_backend: dict[Backend, list[Task]] = {}
        for task in tasks:
            by_backend.setdefault(task.pipeline.backend, []).append(task)
        answers: list[Answer] = [Answer()] * len(asks)
        for backend, own in by_backend.items():
            scored = ask_once(backend, [one for task in own for one in task.questions], is_strict=False)
            at = 0
            for task in own:
                part = scored[at : at + len(task.questions)]
                at += len(part)
                for place, answer in zip(task.places, _decided(task, part, asks, n_tokens), strict=True):
                    answers[place] = answer
        return answers

    def _tasks(self, asks: Sequence[Mapping[str, Any]]) -> list[Task]:
        grouped: dict[int, tuple[FittedPipeline, list[int], list[Mapping[str, Any]]]] = {}
        for place, ask in enumerate(asks):
            pipeline, record = self._row(ask)
            _, places, records = grouped.setdefault(id(pipeline), (pipeline, [], []))
            places.append(place)
            records.append(record)
        tasks = []
        for pipeline, places, records in grouped.values():
            rows = pipeline.check(Rows(records, pipeline.field_names, pipeline.is_table))
            scorer = pipeline.scorer
            problems = scorer.problems(rows)
            questions: list[Request | RowScores] = [
                RowScores((), error=problems[number].reason) if number in problems else scorer.request(record)
                for number, record in enumerate(rows.records)
            ]
            tasks.append(Task(pipeline, rows, places, problems, questions))
        return tasks

    def _row(self, ask: Mapping[str, Any]) -> tuple[FittedPipeline, Mapping[str, Any]]:
        name = ask["model"]
        if name in self._classifiers:
            return self._classifiers[name], ask["row"]
        pipeline = self._models[name].pipeline(ask["words"], ask["question"])
        record = {"question": ask["question"], "text": ask["text"]}
        return pipeline, record if pipeline.is_table else {"text": ask["text"]}


def hash_of(values: Any) -> str:
    """A short name of JSON values.

    Examples
    --------
    >>> hash_of({"model": "a"})
    'eb88c6defa43'
    """
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()[:12]


class _TokenCounts:
    """How many tokens texts have, each of them counted once: many questions of a message may be about one long text."""

    def __init__(self) -> None:
        self._known: dict[tuple[Backend, str], int] = {}

    def of(self, pipeline: FittedPipeline, record: Mapping[str, Any]) -> int:
        """Of what the model sees of a row; 0 where its backend counts none."""
        backend = pipeline.backend
        if not isinstance(backend, CountsTokens):
            return 0
        shown = [record.get(name) for name in pipeline.scorer.used_fields]
        texts = [value for value in shown if isinstance(value, str)]
        for text in texts:
            if (backend, text) not in self._known:
                self._known[backend, text] = backend.count_tokens([text])
        return sum(self._known[backend, text] for text in texts)


def _decided(
    task: Task, scored: Sequence[RowScores], asks: Sequence[Mapping[str, Any]], n_tokens: _TokenCounts
) -> list[Answer]:
    pipeline, rows = task.pipeline, task.rows
    scores = pipeline.scores(rows, scored)
    decisions, reasons = pipeline.decide(scores), scores.reasons(scored)
    sums = scores.values if pipeline.scoring == "sum" else pipeline.scorer.class_scores(rows, "sum", scored)
    mass = np.exp(logsumexp(sums, axis=1))
    probabilities, accepted, missing = decisions.probabilities, decisions.accepted, decisions.missing
    answers = []
    for number, place in enumerate(task.places):
        tokens = n_tokens.of(pipeline, rows.records[number]) if asks[place].get("count") else 0
        if missing[number]:
            reason = reasons[number].error or "the model gave no score"
            kind = "invalid_row" if number in task.problems else "unscorable_row"
            message = without_texts(reason, [asks[place]])
            answers.append(Answer(accepted=None if accepted is None else False, kind=kind, message=message))
            continue
        answers.append(
            Answer(
                probabilities=tuple(probabilities[number].tolist()),
                accepted=None if accepted is None else bool(accepted[number]),
                label_mass=float(mass[number]) if np.isfinite(mass[number]) else None,
                undecided=bool(decisions.undecided[number]),
                characters_cut=scored[number].characters_cut,
                tokens=tokens,
            )
        )
    return answers


def _failure(error: Exception, ask: Mapping[str, Any]) -> Answer:
    """What is said of an error that nobody foresaw: its kind alone, unless it is one of ours."""
    if isinstance(error, LlmclfError):
        return Answer(kind="unscorable_row", message=without_texts(str(error), [ask]))
    return Answer(kind="model_failed", message=f"the model failed on this row ({type(error).__name__})")


def _literal(text: str) -> str:
    """A template that writes exactly this text."""
    return "{{ " + json.dumps(text, ensure_ascii=False) + " }}"
