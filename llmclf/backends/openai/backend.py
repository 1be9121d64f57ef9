"""Any OpenAI-compatible server as a backend: exact where the server allows it, and honest where it does not."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from ...errors import InputError
from ..base import Request, RowScores, check_requests
from ..handle import shared
from ..http.server_handle import ServerHandle
from ..http.usage import Estimate, Usage
from .batches.options import BatchOptions
from .batches.store import BatchStore
from .connection import ROUTES, Connection
from .probe import Probe

_TOP_CALLS = 16
_TOLERANCE = 0.01


class OpenAIBackend(ServerHandle):
    """Score labels with a model behind an OpenAI-compatible server.

    The handle is a description. On first use it connects, and a few tiny requests find out what the server really does (`probe`);
    that decides the `route`:

    - ``"echo"``, ``"named tokens"`` (whichever is cheaper for the labels, or as told), ``"grammar"``: exact;
    - ``"echo_text"``: exact, for servers that echo and neither tokenise nor take `tokenizer`;
    - ``"top_logprobs"``, and ``"chat"`` where the server answers chats alone: it names at most twenty tokens, so that a label's
      log-probability lies between two bounds. `RowScores.lower` and `upper` hold them, and the score is the logarithm of the
      middle of the two probabilities.

    Parameters
    ----------
    name : str
        ``"openai:NAME"`` with the model's name on the server.
    base_url : str, optional
        Such as ``"http://localhost:8000/v1"``; else the environment variable OPENAI_BASE_URL, else OpenAI's own.
    api_key_env : str, optional
        The *name* of the environment variable that holds the key. Default: OPENAI_API_KEY where that is set, else no key is sent.
    tokenizer : str, optional
        Folder, or name on the model hub, of the model's tokenizer for transformers. With it, texts are tokenised on this side: no
        request is spent on that, and control tokens in the data stay text on every server.
    use_route : str, optional
        One of the routes above; None takes the best that the server allows.
    context_length : int, optional
        Most tokens the model may read; by default what the server says.
    top_calls : int, optional
        Most requests for one row on the route ``"top_logprobs"`` (default 16).
    tolerance : float, optional
        On that route: share of the labels' probability below which a branch of the label trie is not looked at, once the best
        label is decided (default 0.01).
    extra : mapping, optional
        What every request carries besides, such as ``{"reasoning_effort": "none"}``.
    timeout, max_retries, concurrency, rpm, tpm, price, max_cost
        See `llmclf.backends.http.options.ServerOptions`. There are 60 s, 5 retries and 32 requests at once by default.

    Examples
    --------
    >>> OpenAIBackend("openai:org/model", base_url="http://localhost:8000/v1", concurrency=64)
    OpenAIBackend('openai:org/model', base_url='http://localhost:8000/v1', concurrency=64)
    """

    option_names = (
        *ServerHandle.server_option_names,
        "tokenizer",
        "use_route",
        "context_length",
        "top_calls",
        "tolerance",
        "extra",
    )
    scheme = "openai"
    url_variable = "OPENAI_BASE_URL"
    key_variable = "OPENAI_API_KEY"
    default_url = "https://api.openai.com/v1"

    def __init__(
        self,
        name: str,
        *,
        base_url: str | None = None,
        api_key_env: str | None = None,
        tokenizer: str | None = None,
        use_route: str | None = None,
        context_length: int | None = None,
        top_calls: int | None = None,
        tolerance: float | None = None,
        extra: Mapping[str, Any] | None = None,
        timeout: float | None = None,
        max_retries: int | None = None,
        concurrency: int | None = None,
        rpm: int | None = None,
        tpm: int | None = None,
        price: Mapping[str, float] | None = None,
        max_cost: float | None = None,
    ) -> None:
        super().__init__(
            name,
            base_url=base_url,
            api_key_env=api_key_env,
            timeout=timeout,
            max_retries=max_retries,
            concurrency=concurrency,
            rpm=rpm,
            tpm=tpm,
            price=price,
            max_cost=max_cost,
        )
        self.tokenizer = tokenizer
        self.use_route = use_route
        self.context_length = context_length
        self.top_calls = top_calls
        self.tolerance = tolerance
        self.extra = None if extra is None else dict(extra)
        self._check()

    def _check(self) -> None:
        if self.use_route is not None and self.use_route not in ROUTES:
            raise InputError(f"use_route={self.use_route!r}: expected one of {', '.join(map(repr, ROUTES))}, or None")
        for name in ("context_length", "top_calls"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise InputError(f"{name}={value!r}: expected a positive whole number, or None for the default")
        value = self.tolerance
        if value is not None and not (isinstance(value, (int, float)) and 0 <= value < 1):
            raise InputError(f"tolerance={value!r}: expected a number from 0 to below 1, or None for the default")
        try:
            json.dumps(self.extra, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise InputError(f"extra={self.extra!r}: expected plain JSON values ({error})") from error
        own = {"prompt", "messages", "logprobs", "model", "echo"} & set(self.extra or ())
        if own:
            raise InputError(f"extra has {sorted(own)[0]!r}, which the backend sets itself; leave it out")
        if self.tokenizer is not None and not isinstance(self.tokenizer, str):
            raise InputError(f"tokenizer={self.tokenizer!r}: expected a folder or a name on the model hub")

    @property
    def _connection(self) -> Connection:
        if self._held is None:
            options = self.server_options
            make = partial(
                Connection,
                options,
                self.model,
                use_route=self.use_route,
                tokenizer=self.tokenizer,
                context_length=self.context_length,
                top_calls=self.top_calls or _TOP_CALLS,
                tolerance=_TOLERANCE if self.tolerance is None else self.tolerance,
                extra=self.extra or {},
            )
            # The address may come from the environment, which equal handles need not have seen alike.
            self._held = shared((*self._key, options.base_url, options.api_key_env), make)
        held: Connection = self._held
        return held

    @property
    def probe(self) -> Probe:
        """What the server was seen to do; asks it on first use."""
        return self._connection.probe

    @property
    def route(self) -> str:
        """The way to a label's log-probability; asks the server on first use.

        Where a server allows both ``"echo"`` and ``"named tokens"``, that of the rows scored last, chosen by what is cheaper
        for their labels; ``"echo"`` before any were.
        """
        return self._connection.route

    @property
    def sees_tokens(self) -> bool:
        """Whether scores come token by token, as means per token need them."""
        return self.route not in ("top_logprobs", "chat")

    @property
    def usage(self) -> Usage:
        """What this and equal backends have asked of the server since it was opened."""
        return self._connection.engine.client.usage

    def identity(self) -> dict[str, Any]:
        server = self._connection
        found, bounded = server.probe, server.route in ("top_logprobs", "chat")
        shown = found.chat_top_logprobs if server.route == "chat" else found.top_logprobs
        return {
            "backend": "openai",
            "model": self.model,
            "answered_by": found.answered_by,
            "base_url": server.options.base_url,
            "route": server.route if bounded or server.route == "echo_text" else "exact",
            "top_logprobs": shown if bounded else None,
            "top_calls": server.top_calls if bounded else None,
            "tolerance": server.tolerance if bounded else None,
            "tokenizer": self.tokenizer,
            "context_length": self.context_length,
            "extra": self.extra,
            "probe": found.summary,
        }

    def score(self, requests: Sequence[Request]) -> Iterator[tuple[int, RowScores]]:
        check_requests(requests)
        if not requests:
            return
        yield from self._connection.score(requests)

    def stream(
        self, requests: Iterable[Request], *, n_requests: int | None = None
    ) -> Iterator[list[tuple[int, RowScores]]]:
        """Answers in groups, of any number of requests; see `llmclf.backends.streaming`."""
        if n_requests == 0:
            return
        yield from self._connection.stream(requests, n_requests)

    def batch_stream(
        self, requests: Iterable[Request], connection: sqlite3.Connection, **options: Any
    ) -> Iterator[list[tuple[int, RowScores]]]:
        """Answers as `stream` gives them, by the provider's batches (``/v1/files`` and ``/v1/batches``).

        The scores are those of the live route. A few tiny live requests find out what the server does, as always; where its
        tokenizer is used, texts are tokenised live, too. `rpm` and `tpm` hold for what is sent live, `price` is that of batches,
        and a batch that could cost more than is left of `max_cost` is made smaller.

        Parameters
        ----------
        requests : iterable of Request
            The same rows in another process find what was answered and go on with what is open, in whatever order they come.
        connection : sqlite3.Connection
            Where that is kept; see `llmclf.backends.openai.batches.store`.
        **options
            See `llmclf.backends.openai.batches.options.BatchOptions`.

        Yields
        ------
        list of (int, RowScores)
            At least one, with the place of each request. It counts as taken care of once the next is asked for; what was kept of
            it is then forgotten.
        """
        yield from self._connection.batches(requests, BatchStore(connection), BatchOptions(**options))

    def estimate(self, requests: Sequence[Request]) -> Estimate:
        """What answering would take, counted without sending anything.

        The route is the one found where the server was asked before, else `use_route`, else ``"echo"``.
        """
        return self._connection.estimate(requests)
