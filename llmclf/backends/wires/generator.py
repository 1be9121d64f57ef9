"""Written answers of a server, whatever its protocol."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ...errors import CapabilityError, ServerError
from ..answers.generates import GeneratedText, GenerationRequest
from ..http.answering_model import AnsweringModel
from ..providers import Provider
from .base import SupportsCall, Wire, merged

_TEMPLATE_TOKENS = 64  # tokens that a chat template may add to the texts
_TURN_TOKENS = 9  # tokens that it may add to each turn, and one before its text
_REFUSED_STATUS = (400, 422)


class TextGenerator:
    """A model behind a server as `llmclf.backends.answers.generates.GeneratesText`.

    Parameters
    ----------
    client : SupportsCall
    wire : Wire
    provider : Provider
        What its servers take.
    model : str
    extra : mapping
        What every request also carries.
    models : AnsweringModel
        Sees the replies.
    limit : str, optional
        The server's name for the largest number of tokens, where it is known.
    """

    def __init__(
        self,
        client: SupportsCall,
        wire: Wire,
        provider: Provider,
        model: str,
        extra: Mapping[str, Any],
        models: AnsweringModel,
        limit: str | None = None,
    ) -> None:
        self._client = client
        self._wire = wire
        self._provider = provider
        self._model = model
        self._extra = extra
        self._models = models
        first = limit or provider.limit
        self._limits = sorted(wire.limits, key=lambda name: name != first)

    @property
    def takes_schema(self) -> bool:
        return self._provider.takes_schema and self._wire.takes_schema

    @property
    def takes_grammar(self) -> bool:
        return self._provider.takes_grammar and self._wire.takes_grammar

    @property
    def takes_n(self) -> bool:
        return self._provider.takes_n and self._wire.takes_n

    @property
    def takes_seed(self) -> bool:
        return self._provider.takes_seed and self._wire.takes_seed

    async def generate(self, request: GenerationRequest) -> list[GeneratedText]:
        """What the model writes; see `GeneratesText.generate`."""
        while True:
            limit = self._limits[0]
            try:
                return await self._ask(request, limit)
            except ServerError as error:
                # The server may know the limit by another name; nothing was written for this one.
                if error.status not in _REFUSED_STATUS or not _names(str(error), limit):
                    raise
                if self._limits[0] == limit:  # else another request has seen it already
                    if len(self._limits) == 1:
                        raise
                    del self._limits[0]

    async def _ask(self, request: GenerationRequest, limit: str) -> list[GeneratedText]:
        body = merged(self._wire.body(self._model, request, limit=limit), self._extra)
        path = self._wire.path(self._model, is_chat=request.turns[0].role is not None)

        def read(reply: Any) -> list[GeneratedText]:
            texts = self._wire.texts(reply, request.n)
            self._models.check(reply, path)
            return texts

        n_out = max(request.max_tokens, self._wire.least_tokens) * request.n
        try:
            return await self._client.call(path, body, read, tokens_in=most_tokens(request), tokens_out=n_out)
        except ServerError as error:
            is_told = request.effort is not None and error.status in _REFUSED_STATUS
            if not is_told or not re.search("effort|reasoning|thinking", str(error)):
                raise
            raise CapabilityError(
                f"the model {self._model!r} cannot be told how much to reason (effort={request.effort!r}): {error}; leave effort "
                "out, or give it another value"
            ) from error


def most_tokens(request: GenerationRequest) -> int:
    """The largest number of tokens that a request can have: one for each byte, and what a chat's template adds."""
    n_bytes = sum(len(turn.text.encode("utf-8", "surrogatepass")) for turn in request.turns)
    return n_bytes + _TEMPLATE_TOKENS + _TURN_TOKENS * len(request.turns)


def _names(message: str, limit: str) -> bool:
    return re.search(rf"\b{re.escape(limit)}\b", message) is not None
