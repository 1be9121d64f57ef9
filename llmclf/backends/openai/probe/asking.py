"""One tiny request at a time, whose refusal is a note and no error, unless every other request would fail, too."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ....errors import ServerError
from ...http.answering_model import AnsweringModel, name_of
from ...http.client import Client
from ...wires.token_replies import Position

COLD = 0.5
"""A temperature that would double every difference if it were in the numbers."""
AGREE = 0.3
"""Nats between two ways to the same number; half of that is one step of a half-precision logit."""
TOP = (20, 5, 1)
"""How many top log-probabilities are asked for, most first."""
WRONG_PARAMETERS = (400, 422)
"""The statuses of a refusal after which other parameters are tried."""

_NO_SUCH_MODEL = re.compile(
    r"invalid model|unknown model|not a valid model|model\b.{0,200}\b(not found|not exist|not available)"
)


class Asker:
    """Asks a server, and remembers what it refused.

    Parameters
    ----------
    client : Client
    model : str
        The name to ask for.
    extra : mapping
        What every request also carries.
    models : AnsweringModel
        Sees the replies.

    Attributes
    ----------
    notes : list of str
        What was refused, and how.
    status : int or None
        Of the last refusal.
    answered_by : str
        The last model that a reply named.
    forbidden : ServerError or None
        A refusal of one path, perhaps, and not of others.
    """

    def __init__(self, client: Client, model: str, extra: Mapping[str, Any], models: AnsweringModel) -> None:
        self.model = model
        self.extra = dict(extra)
        self.notes: list[str] = []
        self.status: int | None = None
        self.answered_by = ""
        self.forbidden: ServerError | None = None
        self._client = client
        self._models = models

    @property
    def body(self) -> dict[str, Any]:
        """What every request to a path of OpenAI's begins with."""
        return {"model": self.model, **self.extra}

    async def ask(self, path: str, body: Mapping[str, Any], read: Any, what: str, tokens_out: int = 1) -> Any:
        """The answer, or None (and a note) if the server refuses or answers something else."""

        def noting(reply: Any) -> Any:
            answer = read(reply)
            self._models.check(reply, path)
            self.answered_by = name_of(reply).model or self.answered_by
            return answer

        try:
            return await self._client.call(path, body, noting, tokens_in=64, tokens_out=tokens_out, max_retries=2)
        except ServerError as error:
            # A wrong key, an unknown model or a missing server fails every other request, too.
            if error.status in (None, 401, 402, 408, 429) or self._is_unknown(error):
                raise
            if error.status == 403:  # of this path, perhaps, and not of others
                self.forbidden = error
            if not any(note.endswith(f": {error}") for note in self.notes):  # one refusal of several requests is one
                self.notes.append(f"{what}: {error}")
            self.status = error.status
            return None

    def _is_unknown(self, error: ServerError) -> bool:
        """Whether a refusal says that the server does not have the model; some say so with the status of a wrong request."""
        words = str(error).lower()
        if "model" not in words or self.model.lower() not in words:
            return False
        return error.status == 404 or (error.status == 400 and _NO_SUCH_MODEL.search(words) is not None)

    async def optional(self, path: str, body: Mapping[str, Any] | None, read: Any) -> Any:
        """The answer of a path that is optional; None if the server refuses."""
        try:
            return await self._client.call(path, body, read, max_retries=0)
        except ServerError:
            return None


def agree(one: Position, other: Position) -> bool:
    """Whether two answers give the same log-probabilities to the tokens that both show."""
    known = {(entry.token, entry.text): entry.logprob for entry in (*other.top, other.chosen)}
    for entry in (*one.top, one.chosen):
        value = known.get((entry.token, entry.text))
        if value is not None and entry.logprob is not None and abs(value - entry.logprob) > AGREE:
            return False
    return True
