"""What is served under which name: saved classifiers with their own classes, and models that answer any question."""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from ..backends import Backend
from ..backends.base import shares_beginnings
from ..errors import InputError, listed
from ..pipeline import FittedPipeline
from ..saved_folder import classifier_sha256
from ..tables.values import plain
from ..terminal.visible import visible_line
from .limits import Limits
from .promises import Promise
from .questions import CHOICE, SCORE, YES_OR_NO, Answer, Ask, Question
from .refusals import RefusalError, invalid, too_large, unknown_model

ALIAS = "jev-latest"
"""The name that clients of System One ask for unless they are told otherwise."""
_SERVER_PASSES = 8  # under way at once, where the model is a server's
_LONGEST_NAME = 80  # characters of a client's own word in a refusal
_YES, _NO = frozenset({"yes", "true", "1"}), frozenset({"no", "false", "0"})
_LONGEST_WORD = 60  # characters of an option that stands for itself; longer ones are numbered


class Served(Protocol):
    """What all that is served has."""

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str: ...

    @property
    def released(self) -> datetime.date: ...

    @property
    def lane(self) -> str:
        """Which of the queues in front of the models its rows wait in."""
        ...

    @property
    def facts(self) -> dict[str, Any]:
        """What every answer says of it."""
        ...

    @property
    def description(self) -> str: ...

    def ask(self, question: Question) -> Ask | Answer:
        """What the model is asked for a question; an `Answer` where there is nothing to ask.

        Raises
        ------
        RefusalError
            The question cannot be asked of it.
        """
        ...


@dataclass(frozen=True, eq=False)
class ServedClassifier:
    """A saved classifier: its own classes, calibrated if it is.

    Attributes
    ----------
    name : str
        The folder's.
    folder : Path
    pipeline : FittedPipeline
        Whose model this process does not open.
    version : str
        A short hash of what was saved.
    released : date
        When it was saved.
    lane : str
    promise : Promise
        Its certificate, if it has one.
    """

    name: str
    folder: Path
    pipeline: FittedPipeline
    version: str
    released: datetime.date
    lane: str = ""
    promise: Promise = field(default_factory=Promise)

    def __post_init__(self) -> None:
        names = self.class_names
        twice = [name for place, name in enumerate(names) if name in names[:place]]
        if twice:
            raise InputError(
                f"{str(self.folder)!r} has two classes that are written {twice[0]!r} in JSON; fit it with other names to serve it"
            )

    @property
    def classes(self) -> list[Any]:
        """As JSON values."""
        return [plain(one, "the class") for one in self.pipeline.labels.classes]

    @property
    def class_names(self) -> list[str]:
        """As the keys of JSON objects; truth values as JSON writes them."""
        return [name_of(one) for one in self.classes]

    @property
    def is_calibrated(self) -> bool:
        return self.pipeline.corrections.calibrator is not None

    @property
    def threshold(self) -> float | None:
        """None without one, and where it accepts no row, as infinity is no number of JSON."""
        chosen = self.pipeline.threshold
        return None if chosen is None or math.isinf(chosen.threshold) else chosen.threshold

    @property
    def abstains(self) -> bool | None:
        """What is said of a row without an answer: that it is not accepted, if there is a threshold."""
        return None if self.pipeline.threshold is None else False

    @property
    def description(self) -> str:
        calibrated = "calibrated" if self.is_calibrated else "not calibrated"
        return f"A classifier of {listed(map(repr, self.class_names), 5)}, {calibrated}."

    @property
    def facts(self) -> dict[str, Any]:
        return {
            "version": self.version,
            "labels": "fixed",
            "calibrated": self.is_calibrated,
            "threshold": self.threshold,
            "certificate": self.promise.to_dict(),
        }

    def ask(self, question: Question) -> Ask | Answer:
        return Ask(self.name, {"row": self.row(question.content, "state"), "count": True}, self._order(question))

    def row(self, content: Any, *place: str | int) -> dict[str, Any]:
        """The fields of a row from a text or an object.

        Raises
        ------
        RefusalError
            The classifier was fitted on the other, a field is absent, or a value is no value of a cell.
        """
        if not self.pipeline.is_table:
            if not isinstance(content, str):
                raise invalid(f"{self.name!r} reads texts; expected a string, got {kind_of(content)}", *place)
            return {self.pipeline.field_names[0]: content}
        if not isinstance(content, dict):
            names = listed(map(repr, self.pipeline.read_fields), 8)
            raise invalid(
                f"{self.name!r} reads rows; expected an object with the fields {names}, got {kind_of(content)}", *place
            )
        for name in self.pipeline.read_fields:
            if name not in content:
                raise invalid(f"the field {name!r} is absent, which {self.name!r} reads", *place, kind="missing")
            value = content[name]
            is_choices = name == self.pipeline.prompt.choices and isinstance(value, list)
            if isinstance(value, (dict, list)) and not is_choices:
                raise invalid(f"expected a text, a number, true, false or null, got {kind_of(value)}", *place, name)
        return {name: content.get(name) for name in self.pipeline.field_names}

    def _order(self, question: Question) -> tuple[int, ...]:
        names = self.class_names
        if question.kind == YES_OR_NO:
            return self._yes_or_no(question)
        unknown = [one for one in question.options if one not in names]
        if unknown:
            raise invalid(
                f"{_shown(unknown[0])} is no class of {self.name!r}; its classes: {listed(map(repr, names), 20)}",
                *question.options_place,
                kind="unknown_choice",
            )
        absent = [one for one in names if one not in question.options]
        if absent:
            raise invalid(
                f"the class {absent[0]!r} is absent; {self.name!r} was fitted on all of {listed(map(repr, names), 20)}, and its "
                "probabilities are those of all",
                *question.options_place,
                kind="missing_choice",
            )
        return tuple(names.index(one) for one in question.options)

    def _yes_or_no(self, question: Question) -> tuple[int, ...]:
        """The columns of "no" and "yes": by the descriptions of both, else by the names of the classes."""
        names = self.class_names
        if sorted(question.descriptions) == sorted(names):
            return names.index(question.descriptions[0]), names.index(question.descriptions[1])
        said = [name.strip().casefold() for name in names]
        yes = [place for place, name in enumerate(said) if name in _YES]
        no = [place for place, name in enumerate(said) if name in _NO]
        if len(names) == 2 and len(yes) == len(no) == 1 and not any(question.descriptions):
            return no[0], yes[0]
        raise invalid(
            f"{self.name!r} has the classes {listed(map(repr, names), 20)}: a question that is answered by yes or no has to name "
            "the two classes of a classifier as its two outcomes; ask a choice",
            *question.options_place,
            kind="unknown_choice",
        )


@dataclass(frozen=True, eq=False)
class ServedModel:
    """A model without calibration, which answers any question with the options that the question brings.

    Attributes
    ----------
    name : str
        The model string.
    backend : Backend
        Which this process does not open.
    options : mapping
        Of the backend.
    chat : bool
    versions : dict of name to str
        Filled by the process of the model once it is open.
    """

    name: str
    backend: Backend
    options: Mapping[str, Any]
    limits: Limits
    chat: bool = False
    lane: str = ""
    released: datetime.date = field(default_factory=datetime.date.today)
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def version(self) -> str:
        return self.versions.get(self.name, "unopened")

    @property
    def description(self) -> str:
        return "A model that answers any question with the options that the question brings, not calibrated."

    @property
    def facts(self) -> dict[str, Any]:
        return {
            "version": self.version,
            "labels": "request",
            "calibrated": False,
            "threshold": None,
            "certificate": Promise().to_dict(),
        }

    def ask(self, question: Question) -> Ask | Answer:
        n = len(question.options)
        if n > self.limits.choices:
            raise invalid(
                f"{n} options; expected at most {self.limits.choices}", *question.options_place, kind="too_many_choices"
            )
        text = question.text
        if not text.strip():
            raise invalid("the text is blank; expected at least one visible character", "state", kind="blank")
        if n == 1:
            return Answer(probabilities=(1.0,), label_mass=None)
        words, said = _words(question)
        if len(said) > self.limits.text_characters:
            raise too_large(
                f"{len(said):,} characters are said about a question, its options included; expected at most "
                f"{self.limits.text_characters:,}, so say less, or ask about fewer options at once",
                *question.options_place,
            )
        body = {"question": said, "words": words, "text": text, "count": True}
        return Ask(self.name, body, tuple(range(n)))


class Catalogue:
    """All that is served, by name.

    Parameters
    ----------
    served : iterable of Served

    Raises
    ------
    InputError
        Two have the same name, or there are none.
    """

    def __init__(self, served: Iterable[Served]) -> None:
        self._served: dict[str, Served] = {}
        for one in served:
            if one.name in self._served:
                raise InputError(f"two of what is to be served are called {one.name!r}; rename one of the folders")
            self._served[one.name] = one
        if not self._served:
            raise InputError("nothing is to be served; give a folder that save wrote, or a model")

    def __iter__(self) -> Any:
        return iter(self._served.values())

    def find(self, name: Any) -> Served:
        """What is served under a name: ``NAME``, ``NAME@VERSION``, or nothing where only one could be meant.

        Raises
        ------
        RefusalError
            Nothing is, or another version of it.
        """
        if name is None or name == ALIAS:
            return self._only(name)
        if not isinstance(name, str):
            raise invalid(f"expected the name of a model, got {kind_of(name)}", "model")
        if name in self._served:
            return self._served[name]
        plain_name, _, version = name.rpartition("@")
        if plain_name in self._served:
            one = self._served[plain_name]
            if version == one.version:
                return one
            raise RefusalError(
                404,
                "model_not_found",
                f"{plain_name!r} is served here in the version {one.version!r}, and not in the one that was asked for",
                ("model",),
            )
        raise unknown_model(visible_line(name[:_LONGEST_NAME]), listed(map(repr, self._served), 20))

    def _only(self, name: str | None) -> Served:
        any_question = [one for one in self._served.values() if isinstance(one, ServedModel)]
        for candidates in (list(self._served.values()), any_question):
            if len(candidates) == 1:
                return candidates[0]
        if name is None:
            raise invalid(f"name one of {listed(map(repr, self._served), 20)}", "model", kind="missing")
        raise unknown_model(name, listed(map(repr, self._served), 20))


def name_of(value: Any) -> str:
    """A class as the key of a JSON object.

    Examples
    --------
    >>> name_of("good"), name_of(True), name_of(3)
    ('good', 'true', '3')
    """
    return value if isinstance(value, str) else json.dumps(value)


def version_of(folder: Path) -> tuple[str, datetime.date]:
    """A short hash of a saved classifier, and when it was saved."""
    saved = datetime.datetime.fromtimestamp((folder / "classifier.json").stat().st_mtime, datetime.UTC)
    return classifier_sha256(folder)[:12], saved.date()


def lanes(backends: Sequence[Backend]) -> tuple[list[str], dict[str, int]]:
    """The lane of each backend, and how many passes of each lane may be under way: equal backends share one."""
    known: list[Backend] = []
    for backend in backends:
        if backend not in known:
            known.append(backend)
    names = [str(known.index(backend)) for backend in backends]
    return names, {str(i): 1 if shares_beginnings(one) else _SERVER_PASSES for i, one in enumerate(known)}


def _words(question: Question) -> tuple[list[str], str]:
    """The words that stand for the options, and the question as the model reads it."""
    options, descriptions = question.options, question.descriptions
    is_named = question.kind in (CHOICE, YES_OR_NO) and _are_words(options)
    first = 0 if question.kind == SCORE else 1
    words = list(options) if is_named else [str(place) for place in range(first, len(options) + first)]
    lines = [question.instructions.strip()] if question.instructions.strip() else []
    if question.kind == YES_OR_NO and not any(descriptions):
        lines.append("Answer yes or no.")
    else:
        lines.append("Levels, from the lowest to the highest:" if question.kind == SCORE else "Options:")
        for word, option, description in zip(words, options, descriptions, strict=True):
            meant = [*([] if is_named else [option]), *([description] if description else [])]
            lines.append(f"- {word}{': ' if meant else ''}{': '.join(meant)}")
    return words, "\n".join(lines)


def _are_words(options: Sequence[str]) -> bool:
    """Whether options can stand for themselves: short, on one line, and different in more than their spaces."""
    said = [option.strip() for option in options]
    return (
        all(said)
        and len(set(said)) == len(said)
        and all(option == option.strip() for option in options)
        and all(len(option) <= _LONGEST_WORD and "\n" not in option for option in options)
    )


def _shown(word: str) -> str:
    """A client's own word in a refusal."""
    return repr(visible_line(word if len(word) <= _LONGEST_NAME else f"{word[:_LONGEST_NAME]}..."))


_KINDS = {dict: "an object", list: "a list", str: "a string", bool: "true or false", int: "a number", float: "a number"}


def kind_of(value: Any) -> str:
    """How refusals name the type of a JSON value.

    Examples
    --------
    >>> kind_of([]), kind_of(None)
    ('a list', 'null')
    """
    return "null" if value is None else _KINDS.get(type(value), "another value")
