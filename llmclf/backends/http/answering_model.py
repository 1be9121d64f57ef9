"""Which model answers: a server may put another one behind a name at any time, between two replies."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import Any

from ...errors import ModelChangedError
from ..model_names import ModelName
from ..requests import RowScores

_NOTED: ContextVar[dict[str, None] | None] = ContextVar("noted", default=None)
_LONGEST = 200  # characters of a name
_ACCEPT = (
    "name the exact version and ask it anew, or go on with --accept-model-change (accept_model_change=True), which writes into "
    "each row which model has answered it"
)


class AnsweringModel:
    """The model that answers at one server, compared reply by reply with the one that answered first.

    What is compared is what the server says, with what it said before, and not with the name asked for: a dated name behind an
    alias is the same model as long as it stays the same. Routes of a server may name a model differently, so each path has its
    own first reply. A reply that says nothing says nothing against it.

    Parameters
    ----------
    asked : str
        The name asked for.
    accepts_change : bool
        Whether another model may go on.
    cure : str
        What to do about another model, for the error.
    """

    def __init__(self, asked: str, *, accepts_change: bool = False, cure: str = _ACCEPT) -> None:
        self.accepts_change = accepts_change
        self._asked = asked
        self._cure = cure
        self._first: dict[str, ModelName] = {}
        self._lock = threading.Lock()

    def first(self, path: str | None = None) -> ModelName:
        """The model that answered first at a path, or at any."""
        if path is None:
            path = next(iter(self._first), "")
        return self._first.get(path, ModelName())

    def check(self, reply: Any, path: str = "") -> None:
        """Compare a reply.

        Raises
        ------
        ModelChangedError
            Another model answered than before, and that is not accepted.
        """
        now = name_of(reply)
        with self._lock:
            first = self._first[path] = self._first.get(path, ModelName()).known_with(now)
        noted = _NOTED.get()
        if noted is not None and str(now):
            noted[str(now)] = None
        if self.accepts_change or first.is_same(now):
            return
        if now.model is not None and first.model not in (None, now.model):
            said = (
                f"{now.model!r} answered, and {first.model!r} did before: {self._asked!r} now stands for another model, or for "
                "several by turns"
            )
        else:
            said = (
                f"{self._asked!r} answered with the system fingerprint {now.fingerprint!r}, and with {first.fingerprint!r} "
                "before: the server now runs it in another version or configuration"
            )
        raise ModelChangedError(f"{said}; {self._cure}")

    @contextmanager
    def noting(self) -> Iterator[dict[str, None]]:
        """Note which models answer what is asked inside, in this task and those that it starts."""
        noted: dict[str, None] = {}
        token = _NOTED.set(noted)
        try:
            yield noted
        finally:
            _NOTED.reset(token)

    def marked(
        self, answers: Sequence[tuple[int, RowScores]], noted: Mapping[str, None]
    ) -> list[tuple[int, RowScores]]:
        """Answers with the models that gave them, where these may change."""
        if not self.accepts_change or not noted:
            return list(answers)
        name = " + ".join(noted)
        return [(place, scores if scores.error else replace(scores, model=name)) for place, scores in answers]


def name_of(reply: Any) -> ModelName:
    """What a reply says of the model; nothing where it says nothing that could be a name.

    Gemini calls its name another word. Where one provider passes requests on to several, the one that has answered counts as
    the fingerprint.

    Examples
    --------
    >>> str(name_of({"model": "org/name", "provider": "Somebody"})), str(name_of({"modelVersion": "gemini-2.0"}))
    ('org/name (Somebody)', 'gemini-2.0')
    """
    said = reply if isinstance(reply, Mapping) else {}
    model = _first_text(said, "model", "modelVersion")
    return ModelName(model, _first_text(said, "system_fingerprint", "provider"))


def _first_text(said: Mapping[str, Any], *names: str) -> str | None:
    texts = (said.get(name) for name in names)
    return next((text[:_LONGEST] for text in texts if isinstance(text, str) and text), None)
