"""What all protocols share: their interface, how numbers become answers, and checks of a body's parts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from ...backends.decisions.backend import confidence
from ..limits import Limits
from ..questions import SCORE, Answer, Ask
from ..refusals import RefusalError, invalid, too_large, unavailable
from ..served import Catalogue, Served, kind_of


@dataclass(frozen=True)
class Asked:
    """A request that was read: what is asked of whom, and what its answer needs besides the answers.

    Attributes
    ----------
    served : Served
    asks : tuple of Ask or Answer
        An `Answer` where there is nothing to ask.
    extra : tuple
        Whatever the protocol wants to know again, one for each ask.
    are_rows : bool
        Each of the asks is about a row of its own, though it be the same text; else all are questions about one.
    """

    served: Served
    asks: tuple[Ask | Answer, ...]
    extra: tuple[Any, ...]
    are_rows: bool = False

    def identified(self, answers: Sequence[Answer], decision: str) -> list[Answer]:
        """The answers with the ids of their decisions, which begin with that of the request."""
        last = self.n_decisions - 1
        return [replace(answer, id=f"{decision}:{min(place, last)}") for place, answer in enumerate(answers)]

    @property
    def n_decisions(self) -> int:
        """How many of the answers, from the first one on, are decisions about rows of their own.

        Several questions to a classifier about one state are one decision; to a model each of them is another.
        """
        return 1 if self.is_one_ask and not self.are_rows else len(self.asks)

    @property
    def is_one_ask(self) -> bool:
        """Whether the model is asked the same for all of them, as where a classifier gets several questions about one state."""
        bodies = [ask.body if isinstance(ask, Ask) else None for ask in self.asks]
        return bodies[0] is not None and bodies.count(bodies[0]) == len(bodies)


class WireProtocol(Protocol):
    """A protocol's form of requests, answers and refusals."""

    name: str

    def read(self, body: Mapping[str, Any], catalogue: Catalogue, limits: Limits) -> Asked:
        """What a body asks.

        Raises
        ------
        RefusalError
        """
        ...

    def write(self, asked: Asked, answers: Sequence[Answer], request_id: str) -> dict[str, Any]:
        """The reply.

        Raises
        ------
        RefusalError
            A row has no answer, and the protocol has no form for that.
        """
        ...

    def refuse(self, refusal: RefusalError, request_id: str) -> tuple[int, dict[str, Any]]:
        """Status and body of a refusal."""
        ...


def reply_name(served: Served) -> str:
    """Who answered: the name with the version, so that clients notice another one behind the same name."""
    return f"{served.name}@{served.version}"


def shared_facts(served: Served, request_id: str) -> dict[str, Any]:
    """What a reply says beyond its protocol."""
    return {"model": served.name, **served.facts, "request_id": request_id}


def answer_facts(answer: Answer) -> dict[str, Any]:
    """What one answer says beyond its protocol."""
    return {
        "id": answer.id,
        "accepted": answer.accepted,
        "label_mass": answer.label_mass,
        "undecided": answer.undecided,
        "characters_cut": answer.characters_cut,
    }


def check_available(answers: Sequence[Answer]) -> None:
    """Refuse a request none of whose rows could be answered, for reasons that are not theirs.

    Raises
    ------
    RefusalError
        500 where the model failed on them, else 503.
    """
    if answers and all(answer.is_unavailable for answer in answers):
        first = answers[0]
        if first.kind == "model_failed":
            raise RefusalError(500, first.kind, first.message)
        raise unavailable(first.message, kind=first.kind, seconds=5.0)


def choice_of(names: Sequence[Any], shares: Sequence[float]) -> Any:
    """The most probable option, the first of several."""
    return names[max(range(len(shares)), key=shares.__getitem__)]


def score_of(shares: Sequence[float]) -> float:
    """The mean level, counted from 0."""
    return float(sum(level * share for level, share in enumerate(shares)))


def confidence_of(shares: Sequence[float], kind: str) -> float:
    """As the protocols compute it; see `llmclf.backends.decisions.backend.confidence`."""
    return min(1.0, max(0.0, confidence(shares, ordered=kind == SCORE)))


def need(body: Mapping[str, Any], name: str, *place: str | int) -> Any:
    """A field that has to be there.

    Raises
    ------
    RefusalError
    """
    if name not in body:
        raise invalid(f"the field {name!r} is absent", *place, name, kind="missing")
    return body[name]


def an_object(value: Any, *place: str | int) -> dict[str, Any]:
    """A value that has to be an object."""
    if not isinstance(value, dict):
        raise invalid(f"expected an object, got {kind_of(value)}", *place)
    return value


def a_list(value: Any, *place: str | int) -> list[Any]:
    """A value that has to be a list."""
    if not isinstance(value, list):
        raise invalid(f"expected a list, got {kind_of(value)}", *place)
    return value


def a_text(value: Any, limits: Limits, *place: str | int) -> str:
    """A value that has to be a string within the limit."""
    if not isinstance(value, str):
        raise invalid(f"expected a string, got {kind_of(value)}", *place)
    return within(value, limits, *place)


def content(value: Any, limits: Limits, *place: str | int) -> str:
    """A string, or an object or a list as JSON."""
    if not isinstance(value, (str, dict, list)):
        raise invalid(f"expected a string, an object or a list, got {kind_of(value)}", *place)
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return within(text, limits, *place)


def optional_content(value: Any, limits: Limits, *place: str | int) -> str:
    """The same, or nothing where it is null."""
    return "" if value is None else content(value, limits, *place)


def within(text: str, limits: Limits, *place: str | int) -> str:
    """A text that is not too long."""
    if len(text) > limits.text_characters:
        raise too_large(
            f"a text of {len(text):,} characters; expected at most {limits.text_characters:,}, so send less of it",
            *place,
        )
    return text


def check_number(n: int, least: int, most: int, what: str, *place: str | int) -> None:
    """Refuse too few or too many of something."""
    if not least <= n <= most:
        raise invalid(
            f"{n:,} {what}; expected {least} to {most}", *place, kind=f"too_{'few' if n < least else 'many'}_{what}"
        )
