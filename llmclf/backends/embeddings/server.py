"""A server's ``/v1/embeddings``: texts in batches, by the same client as scores, with its limits, retries and prices."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ...errors import ServerError
from ..base import CountedEmbedder
from ..handle import shared
from ..http.answering_model import AnsweringModel
from ..http.async_bridge import AsyncBridge
from ..http.client import Client
from ..http.options import ServerOptions
from ..http.server_handle import NamedServer
from ..http.usage import cost_of
from ..options import describe_options, further_fields, one_of, option, positive_count, whole_number
from ..providers import PROVIDERS, Provider
from ..usage import Estimate, Usage
from .replies import Vectors, read_counts, read_vectors

_PATH = "/embeddings"
_OVERHEAD = 8  # tokens that a model's own tokenizer may add to a text
_TOO_MUCH = {400, 413, 422}  # refusals that may be about the number of texts, or about one of them
_SHOWN = 60  # characters of a text in a message

Placed = tuple[int, NDArray[np.float32]]


@describe_options
@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class ServerEmbedder(NamedServer, CountedEmbedder):
    """Vectors of texts by a model behind an OpenAI-compatible server.

    Parameters
    ----------
    name : str
        ``"openai:NAME"`` with the model's name on the server.
    """

    dimensions: int | None = option(
        None,
        help="Ask for vectors of so many numbers, which some models can shorten; by default what the model makes.",
        check=positive_count,
    )
    batch_size: int = option(
        32,
        help="Largest number of texts in one request. A server that takes fewer is asked about fewer.",
        moves_scores=False,
        check=whole_number(1),
    )
    encoding_format: str = option(
        "float",
        help='"float" asks for numbers, "base64" for a third of the bytes; a server that answers the other is understood.',
        moves_scores=False,
        check=one_of("float", "base64"),
    )
    extra: Mapping[str, Any] | None = option(
        None,
        help='What every request also carries, such as {"input_type": "passage"}.',
        check=further_fields("input", "model", "dimensions", "encoding_format"),
    )

    scheme: ClassVar[str] = "openai"
    usual_provider: ClassVar[Provider] = PROVIDERS["openai"]

    @property
    def _connection(self) -> EmbeddingConnection:
        return self.open_once(self._connect)

    def _connect(self) -> EmbeddingConnection:
        options = self.server_options
        make = partial(
            EmbeddingConnection,
            options,
            self.model_name,
            dimensions=self.dimensions,
            batch_size=self.batch_size,
            extra={"encoding_format": self.encoding_format, **(self.extra or {})},
        )
        # The address may come from the environment, which equal handles need not have seen alike.
        return shared((*self._key, options.base_url, options.api_key_env), make)

    @property
    def usage(self) -> Usage:
        return self._connection.client.usage

    def answered_by(self) -> str | None:
        return self._connection.answered_by

    def identity(self) -> dict[str, Any]:
        return {
            "embedder": "openai",
            "model": self.model_name,
            "base_url": self.server_options.base_url,
            "dimensions": self.dimensions,
            "extra": self.extra,
        }

    def embed(self, texts: Sequence[str]) -> Iterator[Placed]:
        """The vector of every text, each asked once; every text given is asked, so equal ones are better given once.

        Raises
        ------
        ServerError
            The server refuses or fails, answers with another model or another length than before, or its answer is not one.
        BudgetError
            The next request could cost more than is left.
        """
        if len(texts):
            yield from self._connection.embed(texts)

    def estimate(self, texts: Sequence[str]) -> Estimate:
        """Requests, tokens and cost of some texts, at about four bytes to a token; nothing is sent."""
        tokens = sum(map(_estimated_tokens, texts))
        return Estimate(
            "embeddings",
            len(texts),
            -(-len(texts) // self.batch_size),
            tokens,
            0,
            cost_of(self.price, tokens, 0),
            is_counted=False,
        )


class EmbeddingConnection(AsyncBridge):
    """One server and model: its client, which model answers there, and how long its vectors are.

    Attributes
    ----------
    length : int or None
        Of the first vector; no other may have another.
    """

    def __init__(
        self, options: ServerOptions, model: str, *, dimensions: int | None, batch_size: int, extra: Mapping[str, Any]
    ) -> None:
        super().__init__(Client(options))
        self._models = AnsweringModel(model, cure="name the exact version, and fit again")
        self.length: int | None = None
        self._model = model
        self._dimensions = dimensions
        self._most = batch_size  # texts in one request; fewer once the server has refused so many
        self._fields = {**extra, "model": model, **({} if dimensions is None else {"dimensions": dimensions})}
        self._lock = threading.Lock()

    @property
    def answered_by(self) -> str | None:
        """The model that answered first, by its own name; no other may answer later, whatever is accepted of other models."""
        return self._models.first().model

    def embed(self, texts: Sequence[str]) -> Iterator[Placed]:
        """The vectors of texts, as they come."""
        return self.stream(self._units(texts), self._serve)

    def _units(self, texts: Sequence[str]) -> Iterator[list[tuple[int, str]]]:
        start = 0
        while start < len(texts):
            size = self._most  # what the server takes may be learned on the way
            yield [*enumerate(texts[start : start + size], start)]
            start += size

    async def _serve(self, client: Client, unit: Sequence[tuple[int, str]]) -> list[Placed]:
        try:
            vectors = await self._post(client, [text for _, text in unit])
        except ServerError as error:
            if error.is_final or error.status not in _TOO_MUCH:
                raise
            if len(unit) == 1:
                # Its number among the texts that are asked about says nothing to a user whose table repeats some of them.
                text = unit[0][1]
                shown = repr(text[:_SHOWN]) + (", ..." if len(text) > _SHOWN else "")
                raise ServerError(
                    f"the text {shown} got no embedding: {error}",
                    status=error.status,
                ) from error
            # Either they are too many, or one of them is refused: halves tell, and the others get their vectors.
            half = (len(unit) + 1) // 2
            first, second = await self._serve(client, unit[:half]), await self._serve(client, unit[half:])
            self._most = min(self._most, half)
            return [*first, *second]
        return [(place, vector) for (place, _), vector in zip(unit, vectors, strict=True)]

    async def _post(self, client: Client, texts: Sequence[str]) -> Vectors:
        estimated = sum(map(_estimated_tokens, texts))

        def read(reply: Any) -> Vectors:
            vectors = read_vectors(reply, len(texts))
            self._check_length(vectors.shape[1])
            self._models.check(reply)
            return vectors

        return await client.call(
            _PATH,
            {**self._fields, "input": list(texts)},
            read,
            # A token has at least one byte.
            tokens_in=sum(len(text.encode()) + _OVERHEAD for text in texts),
            counts=partial(read_counts, estimated=estimated),
        )

    def _check_length(self, length: int) -> None:
        """Refuse what asking again will not heal: vectors of another length."""
        if self._dimensions not in (None, length):
            raise ServerError(
                f"{self._model!r} answers vectors of {length} numbers, and dimensions={self._dimensions} was asked for; the "
                "model or the server cannot shorten them: leave dimensions out",
                is_final=True,
            )
        with self._lock:
            if self.length is None:
                self.length = length
        if length != self.length:
            raise ServerError(
                f"{self._model!r} answered a vector of {length} numbers, and of {self.length} before: another model seems to "
                "answer now; name the exact version, and fit again",
                is_final=True,
            )


def _estimated_tokens(text: str) -> int:
    return -(-len(text.encode("utf-8", "surrogatepass")) // 4)
