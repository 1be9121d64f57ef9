"""Asking a decision server: several questions at once, orders averaged, groups of options where it takes few."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from ...errors import ServerError
from ..http.answering_model import AnsweringModel
from ..http.async_bridge import AsyncBridge
from ..http.client import Client
from ..http.options import ServerOptions
from ..http.replies import expect, mapping, string
from ..http.usage import cost_of
from ..requests import RowScores
from ..usage import Estimate
from .option_groups import groups, link, rotations, smaller_cap, winner
from .protocols import Question, Wire
from .shares import Shares, average, is_rounded, shares, sums_to_one

NEUTRAL_INSTRUCTIONS = "Choose the option that fits best."
"""The instructions of a prompt that has none; some servers answer no question without them."""

_MOST_QUESTIONS = 32  # the smallest limit on the questions of a request that a vendor documents
_UNUSABLE = {200, 400, 413, 422}  # 200: the reply was there, and was not what was asked for
_OVERHEAD = 64  # tokens that a server's own template may add to a question

Outcome = Shares | ServerError
"""The answer to a question, or why there is none."""

Ask = Callable[[Sequence[Question]], Awaitable[list[Outcome]]]


@dataclass(frozen=True)
class Unit:
    """Questions about one text, and the places of the rows that they belong to."""

    state: str
    placed: tuple[tuple[int, Question], ...]


class DecisionConnection(AsyncBridge):
    """One server and model: its client, which model answers there, and how many options it takes.

    Parameters
    ----------
    options : ServerOptions
    wire : Wire
    model : str
        As it is asked for.
    kind : str
        The type of all questions.
    permutations : int
        Orders of the options in which every question is asked.
    accepts_change : bool
        Whether another model may answer later than the first.

    Attributes
    ----------
    models : AnsweringModel
        Which model answers.
    cap : int or None
        Largest number of options that the server takes in one question; None as long as it has taken all.
    """

    def __init__(
        self, options: ServerOptions, wire: Wire, model: str, kind: str, permutations: int, *, accepts_change: bool
    ) -> None:
        super().__init__(Client(options))
        # Probabilities of two models must not be mixed, nor those of one be calibrated by the other's map.
        self.models = AnsweringModel(model, accepts_change=accepts_change)
        self.cap: int | None = None
        self._most_options = 0  # that were accepted in one question
        self._most_questions = _MOST_QUESTIONS  # of one request
        self._describe = False  # some servers refuse an option without a description; then its name describes it
        self._wire = wire
        self._model = model
        self._kind = kind
        self._permutations = permutations
        self._lock = threading.Lock()

    @property
    def answered_by(self) -> str | None:
        """The model that answered first; None before `connect`."""
        return self.models.first().model

    def connect(self) -> None:
        """Ask one small question to learn which model answers, once.

        Raises
        ------
        ServerError
            Final: a server that cannot answer this question cannot answer any.
        """
        with self._lock:
            if self.answered_by is not None:
                return
            try:
                self.call(self._introduce)
            except ServerError as error:
                raise ServerError(
                    f"{self._model!r} at {self.client.options.root} cannot be used: {error}",
                    status=error.status,
                    is_final=True,
                ) from error

    async def _introduce(self, client: Client) -> None:
        question = Question(NEUTRAL_INSTRUCTIONS, ("no", "yes"))
        try:
            await self._post(client, "The sky is blue.", [question])
        except ServerError as error:
            if error.status not in (400, 422):
                raise
            if self._kind == "choice":
                self._describe = True
                with suppress(ServerError):
                    await self._post(client, "The sky is blue.", [question])
                    return
                self._describe = False
            if not await self._is_named_in_list(client):
                raise

    async def _is_named_in_list(self, client: Client) -> bool:
        """Whether the server says in its list of models which one answers: one that answers only a question of its own."""

        def read(reply: Any) -> str | None:
            models = reply.get("models") if isinstance(reply, Mapping) else None
            entries = [one for one in models if isinstance(one, Mapping)] if isinstance(models, Sequence) else []
            named = [one for one in entries if one.get("name") == self._model] or (entries if len(entries) == 1 else [])
            stated = named[0].get("x_answers_as") if named else None
            return stated if isinstance(stated, str) else None

        try:
            stated = await client.call("//v1/models", None, read, max_retries=0)
        except ServerError:
            return False
        if stated is not None:
            self.models.check({"model": stated})
        return stated is not None

    def units(self, asked: Iterator[tuple[str, Question]]) -> Iterator[Unit]:
        """Consecutive questions about the same text: what one HTTP request can hold."""
        state, placed, size = "", list[tuple[int, Question]](), 0
        for place, (text, question) in enumerate(asked):
            orders = len(self._turned(question))
            if placed and (text != state or size + orders > _MOST_QUESTIONS):
                yield Unit(state, tuple(placed))
                placed, size = [], 0
            state, size = text, size + orders
            placed.append((place, question))
        if placed:
            yield Unit(state, tuple(placed))

    def score(self, units: Iterator[Unit]) -> Iterator[tuple[int, RowScores]]:
        """The scores of every row, as they come."""
        # The first unit learns how many options the server takes.
        return self.stream(units, self._serve, leader=True)

    def score_in_groups(self, units: Iterator[Unit]) -> Iterator[list[tuple[int, RowScores]]]:
        """As `score`, in groups that count as handled when the next is asked for."""
        return self.groups(units, self._serve, leader=True)

    def estimate(self, units: Iterator[Unit], route: str) -> Estimate:
        """What some units would take, if the server reads a text once for all questions of a request."""
        n_rows = n_requests = n_bytes = 0
        for unit in units:
            n_rows += len(unit.placed)
            n_requests += 1
            turned = [order for _, question in unit.placed for order, _ in self._turned(question)]
            # A server writes a template around text and options; what the protocol writes around them is about as long.
            body = self._body(unit.state, turned)
            n_bytes += _size(json.dumps(body, ensure_ascii=False, separators=(",", ":")))
        tokens = -(-n_bytes // 4)
        cost = cost_of(self.client.options.price, tokens, 0)
        return Estimate(route, n_rows, n_requests, tokens, 0, cost, is_counted=False)

    async def _serve(self, client: Client, unit: Unit) -> list[tuple[int, RowScores]]:
        with self.models.noting() as noted:
            return self.models.marked(await self._answers(client, unit), noted)

    async def _answers(self, client: Client, unit: Unit) -> list[tuple[int, RowScores]]:
        ask = partial(self._averaged, client, unit.state)
        cap = self.cap
        questions = [question for _, question in unit.placed]
        outcomes = await linked(ask, questions, cap)
        for i, (question, outcome) in enumerate(zip(questions, outcomes, strict=True)):
            n = len(question.options) if cap is None else min(cap, len(question.options))
            if isinstance(outcome, ServerError):
                outcomes[i] = await self._with_fewer_options(ask, question, outcome, n)
            else:
                self._most_options = max(self._most_options, n)
        return [(place, _row_scores(outcome)) for (place, _), outcome in zip(unit.placed, outcomes, strict=True)]

    async def _with_fewer_options(self, ask: Ask, question: Question, refusal: ServerError, size: int) -> Outcome:
        """Ask again with fewer than `size` options at once, if their number may be what the server refused."""
        outcome: Outcome = refusal
        known = self.cap if self.cap is not None and self.cap < size else None  # another row has learned it meanwhile
        while isinstance(outcome, ServerError) and self._may_be_too_many(outcome, size):
            size = smaller_cap(_reason(outcome), size) if known is None else known
            known = None
            (outcome,) = await linked(ask, [question], size)
        if isinstance(outcome, ServerError):
            return refusal
        self.cap = size
        self._most_options = max(self._most_options, size)
        return outcome

    def _may_be_too_many(self, refusal: ServerError, size: int) -> bool:
        """Whether a refusal may be about the number of options; not if it speaks of the length of the text."""
        return (
            self._kind == "choice"
            and refusal.status in (400, 422)
            and size > max(2, self._most_options)
            and not re.search(r"context|token", _reason(refusal), re.IGNORECASE)
        )

    def _turned(self, question: Question) -> list[tuple[Question, int]]:
        """The question in each order of its options, and how far they were turned; none if there is only one option."""
        options = question.options
        if len(options) < 2:
            return []
        orders = rotations(len(options), self._permutations)
        return [(replace(question, options=(*options[by:], *options[:by])), by) for by in orders]

    async def _averaged(self, client: Client, state: str, questions: Sequence[Question]) -> list[Outcome]:
        """The answers to some questions, each the mean over the orders of its options."""
        turned = [self._turned(question) for question in questions]
        answers = iter(await self._ask(client, state, [order for orders in turned for order, _ in orders]))
        outcomes: list[Outcome] = []
        for orders in turned:
            asked = [(next(answers), by) for _, by in orders]
            failures = [answer for answer, _ in asked if isinstance(answer, ServerError)]
            straight = [_turn_back(answer, by) for answer, by in asked if isinstance(answer, Shares)]
            # A single option has no alternative, so there is nothing to ask.
            outcomes.append(failures[0] if failures else average(straight or [shares([1.0], rounded=False)]))
        return outcomes

    async def _ask(self, client: Client, state: str, questions: Sequence[Question]) -> list[Outcome]:
        """Ask in as few HTTP requests as will do; one by one what was refused together."""
        outcomes: list[Outcome] = []
        while len(outcomes) < len(questions):
            together = questions[len(outcomes) :][: self._most_questions]
            try:
                outcomes += await self._post(client, state, together)
            except ServerError as error:
                if error.is_final:
                    raise
                if len(together) > 1 and error.status in _UNUSABLE:
                    alone = [(await self._ask(client, state, [question]))[0] for question in together]
                    if not any(isinstance(outcome, ServerError) for outcome in alone):
                        # Each alone is answered, so their number was the reason.
                        self._most_questions = min(self._most_questions, len(together) // 2)
                    outcomes += alone
                else:
                    outcomes += [error] * len(together)
        return outcomes

    async def _post(self, client: Client, state: str, questions: Sequence[Question]) -> list[Outcome]:
        """One HTTP request: the answer to each question."""

        def read(reply: Any) -> list[Outcome]:
            whole = mapping(reply, "the reply")
            string(whole.get("model"), "model")
            self.models.check(reply)
            return _outcomes(self._wire.answers(self._kind, whole.get("answers"), questions))

        n_options = sum(len(question.options) for question in questions)
        return await client.call(
            f"/{self._wire.path}",
            self._body(state, questions),
            read,
            # A token has at least one byte, and each question may have the text read anew.
            tokens_in=len(questions) * (_size(state) + _OVERHEAD) + sum(map(_question_size, questions)) + n_options * 8,
            tokens_out=len(questions) * 16 + n_options * 8,
        )

    def _body(self, state: str, questions: Sequence[Question]) -> dict[str, Any]:
        return {"model": self._model, **self._wire.body(self._kind, state, questions, describe=self._describe)}


async def linked(ask: Ask, questions: Sequence[Question], cap: int | None) -> list[Outcome]:
    """The answers to some questions about one text, asked in groups of at most `cap` options.

    All groups are asked first, then each question's winners, in groups again where they are too many. The whole is exact
    where the answers are independent of irrelevant alternatives; see `llmclf.backends.decisions.option_groups`.

    Parameters
    ----------
    ask : coroutine function
        Answers questions of at most `cap` options.
    questions : sequence of Question
    cap : int or None
        None asks about all options at once.
    """
    split = [groups(len(question.options), cap) for question in questions]
    replies = iter(await ask([_part(q, part) for q, parts in zip(questions, split, strict=True) for part in parts]))
    outcomes: list[Outcome] = []
    waiting: list[tuple[int, list[Shares], Question]] = []
    for question, parts in zip(questions, split, strict=True):
        answers = [next(replies) for _ in parts]
        failures = [answer for answer in answers if isinstance(answer, ServerError)]
        known = [answer for answer in answers if isinstance(answer, Shares)]
        outcomes.append(failures[0] if failures else answers[0])
        if len(parts) > 1 and not failures:
            best = [question.options[part][winner(answer)] for part, answer in zip(parts, known, strict=True)]
            waiting.append((len(outcomes) - 1, known, replace(question, options=tuple(best))))
    if waiting:
        finals = await linked(ask, [question for _, _, question in waiting], cap)
        for (place, known, _), final in zip(waiting, finals, strict=True):
            outcomes[place] = final if isinstance(final, ServerError) else link(known, final)
    return outcomes


def _outcomes(stated: Sequence[list[float] | None]) -> list[Outcome]:
    """The distributions of one reply; whether its server rounds is seen on all of them."""
    rounded = all(is_rounded(one) for one in stated if one is not None)
    outcomes: list[Outcome] = []
    for one in stated:
        if one is None:
            outcomes.append(ServerError("the model refused to answer"))
            continue
        expect(sums_to_one(one, rounded), f"the probabilities of an answer sum to {sum(one):.3f}; expected about 1")
        outcomes.append(shares(one, rounded))
    return outcomes


def _row_scores(outcome: Outcome) -> RowScores:
    if isinstance(outcome, ServerError):
        return RowScores((), error=str(outcome))
    logprobs = tuple((value,) for value in outcome.logp.tolist())
    if outcome.is_exact:
        return RowScores(logprobs)
    return RowScores(logprobs, tuple(outcome.lower.tolist()), tuple(outcome.upper.tolist()))


def _reason(refusal: ServerError) -> str:
    """A refusal's message without its status, which is a number as well."""
    return str(refusal).replace(f"answered {refusal.status}", "", 1)


def _part(question: Question, part: slice) -> Question:
    return replace(question, options=question.options[part])


def _turn_back(answer: Shares, by: int) -> Shares:
    return Shares(*(np.roll(values, by) for values in (answer.logp, answer.lower, answer.upper)))


def _question_size(question: Question) -> int:
    return _size(question.instructions) + sum(map(_size, question.options))


def _size(text: str) -> int:
    """Bytes of a text."""
    return len(text.encode("utf-8", "surrogatepass"))
