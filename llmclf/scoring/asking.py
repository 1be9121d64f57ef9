"""Asking a backend: each different question once, those in the score cache not at all, and what was answered is kept."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import replace

from ..backends import Backend, Request, RowScores
from ..backends.base import chat_frame
from ..backends.remembering import Memory
from ..backends.requests import StatePart
from ..backends.streaming import score_each
from ..errors import ModelError, RowError
from ..progress import track
from ..tables.bad_rows import named_rows
from .score_cache import ScoreCache, request_key

States = tuple[StatePart, ...]

_LEAVE_OUT = "on_error='missing' leaves such rows out"
_STORE_EVERY = 64  # answers between two writes to the cache: as many as a killed process can lose


def ask_once(backend: Backend, questions: Sequence[Request | RowScores], *, is_strict: bool) -> list[RowScores]:
    """The answers to some questions, in their order.

    Parameters
    ----------
    backend : Backend
    questions : sequence of Request, or of RowScores where a row is answered already
    is_strict : bool
        A row that cannot be scored stops the work; else its answer is an error.

    Raises
    ------
    ModelError, RowError
        A row could not be scored, and `is_strict`.
    """
    places: dict[Request, int] = {}  # of each different request, in the order in which they are asked
    for place, question in enumerate(questions):
        if isinstance(question, Request):
            places.setdefault(question, place)
    requests = list(places)
    answers = {requests[i]: answer for i, answer in _answered(backend, requests, list(places.values()), is_strict)}
    return [answers[question] if isinstance(question, Request) else question for question in questions]


def n_to_ask(backend: Backend, questions: Sequence[Request | RowScores], cache: ScoreCache | None) -> int:
    """How many questions a model would be asked: equal ones once, those that the cache answers not at all."""
    requests = dict.fromkeys(question for question in questions if isinstance(question, Request))
    if cache is None:
        return len(requests)
    identity, asked = backend.identity(), {}
    for request in requests:
        asked[request_key(identity, request, chat_frame(backend, request.prompt)), request.states] = request
    known = cache.get(list(dict.fromkeys(key for key, _ in asked)))
    return sum(key not in known or states not in ((), known[key].state_parts) for key, states in asked)


def ask_cached(
    backend: Backend, questions: Sequence[Request | RowScores], cache: ScoreCache | Memory, *, is_strict: bool
) -> list[RowScores]:
    """As `ask_once`, with a score cache, which keeps what was answered also where an error stops the work.

    A kept answer serves a question that asks for just its hidden states, or for none; else the row is asked again.
    """
    identity = backend.identity()
    # The states that a question asks for are no part of its key, but of what its answer needs.
    asked: dict[tuple[str, States], tuple[int, Request]] = {}
    wants: list[tuple[str, States] | None] = []
    # Asked anew in each call: a template may write the date.
    frames: dict[tuple[str | None, ...], str | None] = {}
    for place, question in enumerate(questions):
        if isinstance(question, RowScores):
            wants.append(None)
            continue
        roles = tuple(turn.role for turn in question.prompt.turns)
        if roles not in frames:
            frames[roles] = chat_frame(backend, question.prompt)
        want = request_key(identity, question, frames[roles]), question.states
        asked.setdefault(want, (place, question))
        wants.append(want)
    known = cache.get(list(dict.fromkeys(key for key, _ in asked)))
    answers = {
        (key, states): known[key] for key, states in asked if key in known and states in ((), known[key].state_parts)
    }
    names = [want for want in asked if want not in answers]
    # An answer with states is also one without.
    richer = {key: (key, states) for key, states in names if states}
    names = [(key, states) for key, states in names if states or key not in richer]
    requests, numbers = [asked[name][1] for name in names], [asked[name][0] for name in names]
    fresh: list[tuple[str, RowScores]] = []
    try:
        with closing(_answered(backend, requests, numbers, is_strict)) as answered:
            for i, answer in answered:
                answers[names[i]] = answer
                # An answer by a model that may be another belongs to no model.
                if answer.error is not None or answer.model is not None:
                    continue
                fresh.append((names[i][0], answer))
                if len(fresh) >= _STORE_EVERY:
                    cache.put(fresh)
                    fresh = []
    finally:
        # What was paid for is kept, also when the user or an error stops the work.
        if fresh:
            cache.put(fresh)
    in_order: list[RowScores] = []
    for one, question in zip(wants, questions, strict=True):
        if isinstance(question, RowScores):
            in_order.append(question)
        elif one is not None:
            answer = answers[one if one in answers else richer[one[0]]]
            in_order.append(_as_asked(answer, question.states))
    return in_order


def _as_asked(answer: RowScores, states: States) -> RowScores:
    """An answer without the states that nobody asked for."""
    return answer if states or answer.states is None else replace(answer, states=None, state_parts=())


def _answered(
    backend: Backend, requests: Sequence[Request], numbers: Sequence[int], is_strict: bool
) -> Generator[tuple[int, RowScores], None, None]:
    """The answer to each request, with its place; `numbers` are those of their rows, for errors."""
    answers = backend.score(requests) if is_strict else score_each(backend, requests)
    try:
        with track(answers, len(requests), "scoring") as tracked:
            for place, answer in tracked:
                if is_strict and answer.error is not None:
                    raise ModelError(f"row {numbers[place]} could not be scored: {answer.error}; {_LEAVE_OUT}")
                yield place, answer
    except RowError as error:
        if not error.problems:
            raise
        problems = {numbers[place]: reason for place, reason in error.problems.items()}
        raise RowError(
            f"{len(problems)} of {len(numbers)} rows cannot be scored ({named_rows(problems)}); {_LEAVE_OUT}"
        ) from error
