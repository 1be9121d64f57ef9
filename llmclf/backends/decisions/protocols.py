"""The two wire formats of a decision: what is sent, and what of the reply is believed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ..http.replies import expect, mapping, probability, sequence


@dataclass(frozen=True)
class Question:
    """What is asked about a text.

    Attributes
    ----------
    instructions : str
    options : tuple of str
        For a yes-or-no question: what "no" and what "yes" stands for. For a score: the levels, lowest first.
    """

    instructions: str
    options: tuple[str, ...]


class Wire(Protocol):
    """A protocol's wire format, for the questions that llmclf asks; `kind` is the type of all questions of a request.

    Attributes
    ----------
    path : str
        Below the server's root.
    yes_or_no : str
        What the protocol calls a question that is answered by yes or no.
    """

    path: str
    yes_or_no: str

    def body(self, kind: str, state: str, questions: Sequence[Question], *, describe: bool) -> dict[str, Any]:
        """The request, but for the model's name; with `describe` no option is left without a description."""
        ...

    def answers(self, kind: str, stated: Any, questions: Sequence[Question]) -> list[list[float] | None]:
        """Probabilities of each question's options, in the question's order; None where the model refused to answer.

        Raises
        ------
        BadReplyError
            The reply's ``answers`` are not those to these questions.
        """
        ...


class SystemOneWire:
    """``POST /v1/systemone``: questions and answers have names, and all options may be described."""

    path = "/v1/systemone"
    yes_or_no = "noul"

    def body(self, kind: str, state: str, questions: Sequence[Question], *, describe: bool) -> dict[str, Any]:
        asked: dict[str, Any] = {}
        for i, one in enumerate(questions):
            criteria: Any = {option: option if describe else None for option in one.options}
            if kind == "noul":
                criteria = {"true": one.options[1], "false": one.options[0]}
            elif kind == "score":
                criteria = list(one.options)
            asked[f"q{i}"] = {"type": kind, "instructions": one.instructions, "criteria": criteria}
        return {"state": state, "questions": asked}

    def answers(self, kind: str, stated: Any, questions: Sequence[Question]) -> list[list[float] | None]:
        answers = mapping(stated, "answers")
        read: list[list[float] | None] = []
        for i, one in enumerate(questions):
            answer = _typed(answers.get(f"q{i}"), kind, f"answers.q{i}")
            if kind == "noul":
                yes = probability(answer.get("noul"), f"answers.q{i}.noul")
                read.append([1.0 - yes, yes])
                continue
            shares = mapping(answer.get("probabilities"), f"answers.q{i}.probabilities")
            keys = [str(level) for level in range(len(one.options))] if kind == "score" else list(one.options)
            expect(set(shares) == set(keys), f"answers.q{i}.probabilities are of other options than those asked about")
            read.append([probability(shares[key], f"a probability in answers.q{i}") for key in keys])
        return read


class DecisionsWire:
    """``POST /v1/decisions``: questions and answers are lists, and a model may refuse."""

    path = "/v1/decisions"
    yes_or_no = "predicate"

    def body(self, kind: str, state: str, questions: Sequence[Question], *, describe: bool) -> dict[str, Any]:
        asked = []
        for i, one in enumerate(questions):
            question: dict[str, Any] = {"type": kind, "name": f"q{i}", "instructions": one.instructions}
            if kind == "choice":
                question["choices"] = [
                    {"value": option, "description": option} if describe else {"value": option}
                    for option in one.options
                ]
            elif kind == "score":
                question["levels"] = [{"label": option} for option in one.options]
            else:
                question["instructions"] += f"\nTrue means: {one.options[1]}\nFalse means: {one.options[0]}"
            asked.append(question)
        return {"input": state, "questions": asked}

    def answers(self, kind: str, stated: Any, questions: Sequence[Question]) -> list[list[float] | None]:
        answers = sequence(stated, "answers", len(questions))
        read: list[list[float] | None] = []
        for i, one in enumerate(questions):
            where = f"answers[{i}]"
            if mapping(answers[i], where).get("type") == "refusal":
                read.append(None)
                continue
            answer = _typed(answers[i], kind, where)
            expect(answer.get("name") in (None, f"q{i}"), f"{where} answers another question than the one in its place")
            if kind == "predicate":
                yes = probability(answer.get("probability"), f"{where}.probability")
                read.append([1.0 - yes, yes])
                continue
            items = sequence(answer.get("probabilities"), f"{where}.probabilities", len(one.options))
            entries = [mapping(item, f"an item of {where}.probabilities") for item in items]
            keys: list[Any] = list(range(len(one.options))) if kind == "score" else list(one.options)
            # True equals 1 in Python, and the protocol tells true from 1.
            shares = {
                (type(entry.get("value")), str(entry.get("value"))): entry.get("probability") for entry in entries
            }
            wanted = [(type(key), str(key)) for key in keys]
            expect(set(shares) == set(wanted), f"{where}.probabilities are of other options than those asked about")
            read.append([probability(shares[key], f"a probability in {where}") for key in wanted])
        return read


def _typed(value: Any, kind: str, where: str) -> Mapping[str, Any]:
    answer = mapping(value, where)
    expect(answer.get("type") == kind, f"{where} is not an answer of the type {kind!r}")
    return answer
