"""System One: ``POST /v1/systemone`` (TypeSafe's OpenAPI 0.2.0; the requirements of jevcompat 0.1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..limits import Limits
from ..questions import CHOICE, SCORE, YES_OR_NO, Answer, Question, order_of
from ..refusals import RefusalError, invalid
from ..served import Catalogue
from .base import (
    Asked,
    a_list,
    an_object,
    answer_facts,
    check_available,
    check_number,
    choice_of,
    confidence_of,
    content,
    need,
    optional_content,
    reply_name,
    score_of,
    shared_facts,
)

_KINDS = {"choice": CHOICE, "noul": YES_OR_NO, "score": SCORE}
_MOST_LEVELS = 10
_LEAST_OPTIONS = 1


class SystemOne:
    """Questions and answers have names; what is wrong with a body is a list of places."""

    name = "systemone"

    def read(self, body: Mapping[str, Any], catalogue: Catalogue, limits: Limits) -> Asked:
        served = catalogue.find(body.get("model"))
        state = need(body, "state")
        text = content(state, limits, "state")
        questions = an_object(need(body, "questions"), "questions")
        check_number(len(questions), 1, limits.questions, "questions", "questions")
        if body.get("assets"):
            raise invalid("images are not read here; leave 'assets' out", "assets")
        read = [_question(name, one, state, text, limits) for name, one in questions.items()]
        return Asked(served, tuple(map(served.ask, read)), tuple(zip(questions, questions.values(), read, strict=True)))

    def write(self, asked: Asked, answers: Sequence[Answer], request_id: str) -> dict[str, Any]:
        check_available(answers)
        failed = next((answer for answer in answers if answer.kind), None)
        if failed is not None:
            if failed.is_unavailable:
                check_available([failed])
            raise invalid(failed.message, "state", kind=failed.kind)
        stated = {
            name: _answer(raw, question, answer, order_of(ask))
            for (name, raw, question), ask, answer in zip(asked.extra, asked.asks, answers, strict=True)
        }
        return {
            "model": reply_name(asked.served),
            "answers": stated,
            "usage": {"input_tokens": max((answer.tokens for answer in answers), default=0), "output_tokens": 0},
            "x_llmclf": shared_facts(asked.served, request_id),
        }

    def refuse(self, refusal: RefusalError, request_id: str) -> tuple[int, dict[str, Any]]:
        if refusal.status == 422:
            detail: Any = [{"loc": ["body", *refusal.place], "msg": refusal.message, "type": refusal.kind}]
        else:
            detail = {"error_type": refusal.kind, "message": refusal.message}
        return refusal.status, {"detail": detail, "x_request_id": request_id}


def _question(name: str, value: Any, state: Any, text: str, limits: Limits) -> Question:
    place = ("questions", name)
    if not name:
        raise invalid("a question has an empty name; expected at least one character", *place)
    one = an_object(value, *place)
    stated = need(one, "type", *place)
    kind = _KINDS.get(stated) if isinstance(stated, str) else None
    if kind is None:
        raise invalid("expected one of 'choice', 'noul' and 'score'", *place, "type", kind="unknown_type")
    instructions = optional_content(one.get("instructions"), limits, *place, "instructions")
    where = (*place, "criteria")
    if kind == CHOICE:
        criteria = an_object(need(one, "criteria", *place), *where)
        check_number(len(criteria), _LEAST_OPTIONS, limits.choices, "choices", *where)
        described = tuple(optional_content(said, limits, *where, option) for option, said in criteria.items())
        return Question(kind, state, text, instructions, tuple(criteria), described, place, where)
    if kind == SCORE:
        levels = a_list(need(one, "criteria", *place), *where)
        check_number(len(levels), 1, _MOST_LEVELS, "levels", *where)
        said = tuple(content(level, limits, *where, number) for number, level in enumerate(levels))
        return Question(kind, state, text, instructions, said, ("",) * len(said), place, where)
    outcomes = {} if one.get("criteria") is None else an_object(one["criteria"], *where)
    described = tuple(optional_content(outcomes.get(key), limits, *where, key) for key in ("false", "true"))
    if not instructions.strip() and not any(described):
        raise invalid("a noul needs instructions, or an outcome that is described", *place, kind="missing")
    return Question(kind, state, text, instructions, ("no", "yes"), described, place, where)


def _answer(raw: Mapping[str, Any], question: Question, answer: Answer, order: Sequence[int]) -> dict[str, Any]:
    shares = answer.shares(order)
    facts = {"x_llmclf": answer_facts(answer)}
    if question.kind == YES_OR_NO:
        return {"type": "noul", "noul": shares[1], **facts}
    stated: dict[str, Any] = {"confidence": confidence_of(shares, question.kind), **facts}
    if question.kind == CHOICE:
        names = question.options
        return {
            "type": "choice",
            "choice": choice_of(names, shares),
            "probabilities": dict(zip(names, shares, strict=True)),
            **stated,
        }
    return {
        "type": "score",
        "score": score_of(shares),
        "legend": {str(number): level for number, level in enumerate(raw["criteria"])},
        "probabilities": {str(number): share for number, share in enumerate(shares)},
        **stated,
    }


def is_system_one(body: Mapping[str, Any]) -> bool:
    """Whether a body is of this protocol, whatever the path: some gateways call theirs ``decisions``."""
    return "state" in body and "input" not in body and isinstance(body.get("questions"), dict)
