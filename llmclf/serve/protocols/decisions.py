"""OpenAI Decisions: ``POST /v1/decisions`` (the types of openai-python 3.57)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..limits import Limits
from ..questions import CHOICE, SCORE, YES_OR_NO, Answer, Question, order_of
from ..refusals import RefusalError, invalid
from ..served import Catalogue, kind_of
from .base import (
    Asked,
    a_list,
    a_text,
    an_object,
    answer_facts,
    check_available,
    check_number,
    choice_of,
    confidence_of,
    need,
    reply_name,
    score_of,
    shared_facts,
    within,
)

_KINDS = {"choice": CHOICE, "predicate": YES_OR_NO, "score": SCORE}
_MOST_LEVELS = 10
_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


class Decisions:
    """Questions and answers are lists, and a question that cannot be answered is a refusal among the answers."""

    name = "decisions"

    def read(self, body: Mapping[str, Any], catalogue: Catalogue, limits: Limits) -> Asked:
        served = catalogue.find(body.get("model"))
        text = _input(need(body, "input"), limits)
        questions = a_list(need(body, "questions"), "questions")
        check_number(len(questions), 1, limits.questions, "questions", "questions")
        read = [_question(one, text, limits, ("questions", place)) for place, one in enumerate(questions)]
        asks = tuple(served.ask(question) for question, _ in read)
        names = (one.get("name") for one in questions)
        return Asked(served, asks, tuple((name, values, one) for name, (one, values) in zip(names, read, strict=True)))

    def write(self, asked: Asked, answers: Sequence[Answer], request_id: str) -> dict[str, Any]:
        check_available(answers)
        stated = [
            _answer(name, values, question, answer, order_of(ask))
            for (name, values, question), ask, answer in zip(asked.extra, asked.asks, answers, strict=True)
        ]
        tokens = max((answer.tokens for answer in answers), default=0)
        return {
            "model": reply_name(asked.served),
            "answers": stated,
            "usage": {
                "input_tokens": tokens,
                "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
                "output_tokens": 0,
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": tokens,
            },
            "x_llmclf": shared_facts(asked.served, request_id),
        }

    def refuse(self, refusal: RefusalError, request_id: str) -> tuple[int, dict[str, Any]]:
        status = {403: 401, 422: 400}.get(refusal.status, refusal.status)
        kind = _TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
        error = {
            "message": refusal.message,
            "type": kind,
            "param": _path(refusal.place) or None,
            "code": refusal.kind,
        }
        return status, {"error": error, "x_request_id": request_id}


def _input(value: Any, limits: Limits) -> str:
    """The text of an input: a string, or messages, whose texts follow one another."""
    if isinstance(value, str):
        return within(value, limits, "input")
    if not isinstance(value, list):
        raise invalid(f"expected a string or a list of messages, got {kind_of(value)}", "input")
    texts: list[str] = []
    for number, item in enumerate(value):
        message = an_object(item, "input", number)
        if message.get("type", "message") != "message":
            raise invalid("only messages are read here, and no calls of tools", "input", number, "type")
        said = need(message, "content", "input", number)
        if isinstance(said, str):
            texts.append(said)
            continue
        for part_number, one in enumerate(a_list(said, "input", number, "content")):
            where = ("input", number, "content", part_number)
            part = an_object(one, *where)
            if part.get("type") not in ("input_text", "output_text", "text"):
                raise invalid("only texts are read here, and no images or files", *where, "type")
            texts.append(a_text(need(part, "text", *where), limits, *where, "text"))
    return within("\n\n".join(texts), limits, "input")


def _question(value: Any, text: str, limits: Limits, place: tuple[str | int, ...]) -> tuple[Question, list[Any]]:
    """A question, and the values of its options as the client wrote them."""
    one = an_object(value, *place)
    stated = need(one, "type", *place)
    kind = _KINDS.get(stated) if isinstance(stated, str) else None
    if kind is None:
        raise invalid("expected one of 'predicate', 'choice' and 'score'", *place, "type", kind="unknown_type")
    if one.get("name") is not None:
        a_text(one["name"], limits, *place, "name")
    instructions = a_text(need(one, "instructions", *place), limits, *place, "instructions")
    if kind == YES_OR_NO:
        # The protocol has no field for what the outcomes mean, so that clients write it below the instructions.
        plain, said = outcomes_of(instructions)
        return Question(kind, text, text, plain, ("no", "yes"), said, place, (*place, "instructions")), [False, True]
    if kind == SCORE:
        where = (*place, "levels")
        levels = a_list(need(one, "levels", *place), *where)
        check_number(len(levels), 2, _MOST_LEVELS, "levels", *where)
        names = [_named(level, "label", limits, (*where, i)) for i, level in enumerate(levels)]
        described = [_description(level, limits, (*where, i)) for i, level in enumerate(levels)]
        return Question(kind, text, text, instructions, tuple(names), tuple(described), place, where), names
    where = (*place, "choices")
    choices = a_list(need(one, "choices", *place), *where)
    check_number(len(choices), 2, limits.choices, "choices", *where)
    values: list[Any] = []
    for number, choice in enumerate(choices):
        named = need(an_object(choice, *where, number), "value", *where, number)
        if not isinstance(named, (str, bool)):
            raise invalid(f"expected a string, true or false, got {kind_of(named)}", *where, number, "value")
        values.append(named)
    options = tuple(value if isinstance(value, str) else ("true" if value else "false") for value in values)
    if len(set(options)) < len(options):
        raise invalid("two choices are written alike; give each another value", *where, kind="duplicate_choice")
    described = [_description(choice, limits, (*where, i)) for i, choice in enumerate(choices)]
    return Question(kind, text, text, instructions, options, tuple(described), place, where), values


def outcomes_of(instructions: str) -> tuple[str, tuple[str, str]]:
    """Instructions without their last two lines, where these say what the outcomes mean; and what no and yes mean."""
    before, _, last = instructions.rpartition("\n")
    above, line_break, line = before.rpartition("\n")
    beginning, mark, yes = line.partition("True means: ")
    if not mark or not last.startswith("False means: "):
        return instructions, ("", "")
    plain = f"{above}{line_break}{beginning}" if beginning else above
    return plain, (last.removeprefix("False means: "), yes)


def _named(value: Any, field: str, limits: Limits, place: tuple[str | int, ...]) -> str:
    return a_text(need(an_object(value, *place), field, *place), limits, *place, field)


def _description(value: Mapping[str, Any], limits: Limits, place: tuple[str | int, ...]) -> str:
    said = value.get("description")
    return "" if said is None else a_text(said, limits, *place, "description")


def _answer(
    name: Any, values: Sequence[Any], question: Question, answer: Answer, order: Sequence[int]
) -> dict[str, Any]:
    facts = {"name": name, "x_llmclf": answer_facts(answer)}
    if answer.kind:
        error = {"type": answer.kind, "message": answer.message}
        return {"type": "refusal", "name": name, "x_llmclf": {**facts["x_llmclf"], "error": error}}
    shares = answer.shares(order)
    if question.kind == YES_OR_NO:
        return {"type": "predicate", "probability": shares[1], **facts}
    stated: dict[str, Any] = {"confidence": confidence_of(shares, question.kind), **facts}
    if question.kind == CHOICE:
        pairs = [{"value": value, "probability": share} for value, share in zip(values, shares, strict=True)]
        return {"type": "choice", "choice": choice_of(values, shares), "probabilities": pairs, **stated}
    levels = [
        {"value": number, "label": label, "probability": share}
        for number, (label, share) in enumerate(zip(values, shares, strict=True))
    ]
    return {"type": "score", "score": score_of(shares), "probabilities": levels, **stated}


def _path(place: Sequence[str | int]) -> str:
    """A place as OpenAI writes it: ``questions[0].choices``."""
    said = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place)
    return said.removeprefix(".")
