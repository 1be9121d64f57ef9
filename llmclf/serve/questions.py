"""What a client asks, whatever its protocol, and what the model's process answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

CHOICE, YES_OR_NO, SCORE = "choice", "yes_or_no", "score"


@dataclass(frozen=True)
class Question:
    """One question about one text or row.

    Attributes
    ----------
    kind : {"choice", "yes_or_no", "score"}
    content : str, dict or list
        What it is about.
    text : str
        The same as a text: written once for all questions about it.
    instructions : str
        May be empty.
    options : tuple of str
        Names of the options; levels of a score, lowest first; ``("no", "yes")``.
    descriptions : tuple of str
        Of each option; empty where there is none.
    place : tuple of str or int
        Where in the body the question stands, for refusals.
    options_place : tuple of str or int
        Where its options stand.
    """

    kind: str
    content: Any
    text: str
    instructions: str
    options: tuple[str, ...]
    descriptions: tuple[str, ...]
    place: tuple[str | int, ...] = ()
    options_place: tuple[str | int, ...] = ()


@dataclass(frozen=True, slots=True)
class Ask:
    """What the model's process is asked: a row of a served classifier, or a question of its own.

    Attributes
    ----------
    model : str
        The name under which it is served.
    body : dict
        ``{"row": ...}``, or ``{"question", "words", "text"}``; JSON values.
    order : tuple of int
        For each option of the question, its place among the probabilities that come back.
    """

    model: str
    body: dict[str, Any]
    order: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model's process says of one `Ask`.

    Attributes
    ----------
    probabilities : tuple of float
        In the order of the classes; empty where there is an error.
    accepted : bool or None
        Whether the confidence reaches the threshold; None without a threshold.
    label_mass : float or None
        What the model gave to all labels together.
    undecided : bool
        Whether bounds leave open which class is the most probable.
    characters_cut : int
        Of a text that was longer than the model's context.
    tokens : int
        Of the text, where the model counts them; else 0.
    kind, message : str
        What went wrong; empty where nothing did. The message holds no text.
    id : str
        Of the decision, which the listening process makes; empty before.
    """

    probabilities: tuple[float, ...] = ()
    accepted: bool | None = None
    label_mass: float | None = None
    undecided: bool = False
    characters_cut: int = 0
    tokens: int = 0
    kind: str = ""
    message: str = ""
    id: str = ""

    def to_dict(self) -> dict[str, Any]:
        """All attributes as JSON values."""
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Answer:
        """The inverse of `to_dict`, also where JSON made lists of tuples."""
        return cls(**{**values, "probabilities": tuple(values["probabilities"])})

    @property
    def is_unavailable(self) -> bool:
        """Whether the row may be asked again later, as nothing is wrong with it."""
        return self.kind in UNAVAILABLE

    def shares(self, order: Sequence[int]) -> list[float]:
        """The probabilities of a question's options."""
        return [self.probabilities[place] for place in order]


def order_of(ask: Ask | Answer) -> tuple[int, ...]:
    """For each option of a question, its place among the probabilities of its answer; of what nobody is asked, there is one."""
    return ask.order if isinstance(ask, Ask) else (0,)


UNAVAILABLE = ("model_unavailable", "model_process_died", "model_failed")
"""Kinds of errors for which the row itself is not to blame."""
