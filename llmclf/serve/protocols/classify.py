"""The plain protocol: ``POST /v1/classify``, rows in and one result for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..limits import Limits
from ..questions import CHOICE, Answer, Ask, Question
from ..refusals import RefusalError, invalid
from ..served import Catalogue, Served, ServedClassifier, kind_of, name_of
from .base import (
    Asked,
    a_list,
    a_text,
    answer_facts,
    check_available,
    check_number,
    choice_of,
    need,
    optional_content,
    shared_facts,
    within,
)


class Classify:
    """A bad row is an error of its own result, and the others are answered."""

    name = "classify"

    def read(self, body: Mapping[str, Any], catalogue: Catalogue, limits: Limits) -> Asked:
        served = catalogue.find(body.get("model"))
        inputs = a_list(need(body, "inputs"), "inputs")
        check_number(len(inputs), 1, limits.rows, "rows", "inputs")
        labels = _labels(body, served, limits)
        instructions = optional_content(body.get("instructions"), limits, "instructions")
        if isinstance(served, ServedClassifier):
            n = len(served.classes)
            order = tuple(range(n))
            asks = tuple(_row(served, one, limits, place, order) for place, one in enumerate(inputs))
            return Asked(served, asks, (served.classes, served.class_names), are_rows=True)
        asks = tuple(
            served.ask(
                Question(
                    CHOICE,
                    text := a_text(one, limits, "inputs", place),
                    text,
                    instructions,
                    labels,
                    ("",) * len(labels),
                    ("inputs", place),
                    ("labels",),
                )
            )
            if isinstance(one, str) and one.strip()
            else _bad_text(one)
            for place, one in enumerate(inputs)
        )
        return Asked(served, asks, (list(labels), list(labels)), are_rows=True)

    def write(self, asked: Asked, answers: Sequence[Answer], request_id: str) -> dict[str, Any]:
        check_available(answers)
        classes, names = asked.extra
        results = [_result(answer, classes, names) for answer in answers]
        return {**shared_facts(asked.served, request_id), "results": results}

    def refuse(self, refusal: RefusalError, request_id: str) -> tuple[int, dict[str, Any]]:
        error = {"type": refusal.kind, "message": refusal.message, "place": list(refusal.place)}
        status = 401 if refusal.status == 403 else refusal.status
        return status, {"error": error, "request_id": request_id}


def _labels(body: Mapping[str, Any], served: Served, limits: Limits) -> tuple[str, ...]:
    """The labels of a request, which a model needs, and a classifier knows."""
    stated = body.get("labels")
    if isinstance(served, ServedClassifier):
        if stated is not None and sorted(map(name_of, a_list(stated, "labels"))) != sorted(served.class_names):
            raise invalid(
                f"{served.name!r} has classes of its own ({', '.join(map(repr, served.class_names[:20]))}); leave 'labels' out",
                "labels",
                kind="unknown_choice",
            )
        return ()
    labels = [a_text(one, limits, "labels", place) for place, one in enumerate(a_list(need(body, "labels"), "labels"))]
    check_number(len(labels), 2, limits.choices, "choices", "labels")
    if len(set(labels)) < len(labels):
        raise invalid("two labels are the same", "labels", kind="duplicate_choice")
    return tuple(labels)


def _row(served: ServedClassifier, value: Any, limits: Limits, place: int, order: tuple[int, ...]) -> Ask | Answer:
    for name, one in value.items() if isinstance(value, dict) else (("text", value),):
        if isinstance(one, str):
            within(one, limits, "inputs", place, *([name] if isinstance(value, dict) else []))
    try:
        return Ask(served.name, {"row": served.row(value, "inputs", place)}, order)
    except RefusalError as refusal:
        return Answer(accepted=served.abstains, kind="invalid_row", message=refusal.message)


def _bad_text(value: Any) -> Answer:
    if isinstance(value, str):
        return Answer(kind="invalid_row", message="the text is blank; expected at least one visible character")
    return Answer(kind="invalid_row", message=f"expected a string, got {kind_of(value)}")


def _result(answer: Answer, classes: Sequence[Any], names: Sequence[str]) -> dict[str, Any]:
    if answer.kind:
        error = {"type": answer.kind, "message": answer.message}
        return {"label": None, "probabilities": None, **answer_facts(answer), "error": error}
    shares = answer.probabilities
    return {
        "label": choice_of(classes, shares),
        "probabilities": dict(zip(names, shares, strict=True)),
        **answer_facts(answer),
        "error": None,
    }
