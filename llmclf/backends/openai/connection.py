"""A connection to an OpenAI-compatible server: the probe's facts, the model's tokenizer, and the route to its scores."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from ...errors import CapabilityError, InputError, MissingDependencyError, RowError, ServerError
from ...prompts.rendered import RenderedPrompt, Span
from ..answers.first_use import warn_of_estimates
from ..answers.options import AnswerSettings
from ..answers.registry import ANSWER_ROUTES
from ..http.answering_model import AnsweringModel
from ..http.async_bridge import AsyncBridge
from ..http.client import Client
from ..http.options import ServerOptions
from ..http.usage import cost_of
from ..providers import Provider
from ..requests import Request, RowScores, check_requests
from ..tokens.codec import Encoder, TokenCodec, TokenRow
from ..usage import Estimate
from ..wires.base import SupportsCall, Wire
from .batches.options import BatchOptions
from .batches.registry import BATCHES
from .batches.runner import BatchRunner
from .batches.store import BatchStore
from .probe import Probe, probe
from .routes.answered import Answered
from .routes.base import (
    Answer,
    Placed,
    Route,
    RouteClient,
    RouteOptions,
    RowSize,
    ServerFacts,
    TextRoute,
    TokenRoute,
    n_fitting,
)
from .routes.registry import RouteReport, Routes
from .tokenizer import ServerEncoder

if TYPE_CHECKING:
    from ..tokens.transformers_encoder import TokenizerEncoder

_SAMPLE = "The quick brown fox (42 kg) jumps over 3 lazy dogs: naïve, 東京!"
_NO_LIMIT = 1 << 30
_TURN_TOKENS, _ANSWER_TOKENS = 4, 3  # what most chat templates write around a turn, and before an answer
_MARGIN = 2  # tokens of the context that a server keeps for what it generates


_Unit = Sequence[tuple[int, Request | TokenRow]]
"""Rows that are worked on together, each with its place; as tokens where they come for the second time."""


class _Task:
    """Requests cut into units of work, and what holds for all of them.

    Attributes
    ----------
    client : RouteClient
    route : Route or None
        The one that does the work; None until the first rows have settled that.
    again : deque of units
        Rows to be asked anew, or later than those they came with; they come before new ones.
    """

    def __init__(
        self, requests: Iterable[Request], size: Callable[[Request], int], client: RouteClient, route: Route | None
    ) -> None:
        self.client = client
        self.route = route
        self.again: deque[_Unit] = deque()
        self._rows = enumerate(requests)
        self._size = size

    def __iter__(self) -> Iterator[_Unit]:
        return self

    def __next__(self) -> _Unit:
        if self.again:
            return self.again.popleft()
        unit: list[tuple[int, Request]] = []
        for place, request in self._rows:
            check_requests([request])
            unit.append((place, request))
            if len(unit) >= self._size(unit[0][1]):
                break
        if not unit:
            raise StopIteration
        return unit


class Connection:
    """A connection to a server, with the probe's facts, the tokenizer of its model, and the chosen route."""

    def __init__(
        self,
        options: ServerOptions,
        model: str,
        *,
        use_route: str | None,
        tokenizer: str | None,
        context_length: int | None,
        top_calls: int,
        tolerance: float,
        extra: Mapping[str, Any],
        models: AnsweringModel,
        provider: Provider,
        wires: Sequence[Wire],
        answers: AnswerSettings,
    ) -> None:
        self.options = options
        self._provider = provider
        self._wires = wires
        self.models = models
        self.bridge = AsyncBridge(Client(options))
        self._routes = Routes(RouteOptions(top_calls, tolerance, answers))
        self._asks = answers if use_route in ANSWER_ROUTES else None
        self._warned = False
        self._model = model
        self._extra = extra
        self._use_route = use_route
        self._context_length = context_length
        self._tokenizer = tokenizer
        self._lock = threading.Lock()
        self._probe: Probe | None = None
        self._route: Route | None = None
        self._used: Route | None = None
        self._codec: TokenCodec | None = None
        self._encoder: Encoder | None = None
        self._local: TokenizerEncoder | None = None

    @property
    def probe(self) -> Probe:
        """What the server was seen to do; asks it on first use."""
        with self._lock:
            if self._probe is None:
                probed = self.bridge.call(self._open)
                self._route = self._routes.choose(self._facts(probed), self._use_route)
                self._probe = probed
            return self._probe

    @property
    def route(self) -> Route:
        """The route that was chosen for this server."""
        _ = self.probe
        assert self._route is not None
        return self._route

    @property
    def used_route(self) -> Route:
        """The route that did the work for the last rows."""
        return self._used or self.route.default

    @property
    def asked_path(self) -> str:
        """The endpoint that the chosen route asks."""
        return self.route.asked_path(self._facts(self.probe))

    @property
    def reports(self) -> list[RouteReport]:
        """Every route, and whether the server allows it."""
        return self._routes.reports(self._facts(self.probe))

    def warn_of_answers(self, requests: Sequence[Request]) -> None:
        """Warn, once, where scores are estimates from what the model writes: what they cost, and what would be better."""
        route = self.route
        if self._warned or not isinstance(route, Answered) or not requests:
            return
        self._warned = True
        estimate = self.estimate(requests[:1])
        better = next((one for one in self._routes.allowed(self._facts(self.probe)) if not one.on_request), None)
        warn_of_estimates(route.answers, repr(self._model), estimate, None if better is None else better.name)

    def shown_prompt(self, request: Request) -> str:
        """What the model reads, without the markup of a chat template; of a route by answers, with all that it adds."""
        route = self.route
        if not isinstance(route, Answered):
            return request.prompt.text
        return route.shown(self._client(self.bridge.client), request)

    def chat_frame(self, prompt: RenderedPrompt) -> str | None:
        """What the model's chat template writes around the turns of a prompt; None where the server alone knows."""
        route, facts = self.route, self._facts(self.probe)
        if self._codec is None or not route.takes_tokens(facts):
            return None
        return self.bridge.call(partial(self._frame, prompt))

    async def _frame(self, prompt: RenderedPrompt, client: Client) -> str | None:
        import anyio.to_thread

        assert self._codec is not None
        return await anyio.to_thread.run_sync(self._codec.frame, prompt)

    def score(self, requests: Sequence[Request]) -> Iterator[Answer]:
        task = self._task(requests, len(requests))
        return self.bridge.stream(task, partial(self._serve, task), leader=self._leads)

    def stream(self, requests: Iterable[Request], n_requests: int | None) -> Iterator[list[Answer]]:
        task = self._task(requests, n_requests)
        return self.bridge.groups(task, partial(self._serve, task), leader=self._leads)

    def batches(self, requests: Iterable[Request], store: BatchStore, options: BatchOptions) -> Iterator[list[Answer]]:
        route = self.route
        if route.batch_obstacle is not None:
            raise CapabilityError(
                f"the route {route.name!r} {route.batch_obstacle}; ask live, or name another route (use_route=)"
            )
        wire = self._wires[0]
        kind = BATCHES.get(wire.name)
        if kind is None:
            raise CapabilityError(
                f"llmclf knows no batches of {wire.title}; ask live, or through an OpenAI-compatible API"
            )
        runner = BatchRunner(self.bridge.client, store, options, kind)
        settled = route.recalled(store.kept("route"))
        # A row by itself asks the same in every process, whatever rows are left.
        task = _Task(requests, lambda _: 1, self._client(runner), settled)

        def decided() -> None:
            if route.depends_on_rows and task.route is not None:
                store.keep("route", task.route.name)

        return self.bridge.drain(runner.over(task, partial(self._serve, task), decided))

    @property
    def _leads(self) -> bool:
        """Whether the first rows go ahead: the server's cache then serves what all rows share."""
        return self._codec is not None

    def _facts(self, probed: Probe) -> ServerFacts:
        eos_id = None if self._encoder is None else self._encoder.eos_id
        return ServerFacts(probed, self._codec is not None, eos_id, self._provider.takes_one_text)

    def _client(self, client: SupportsCall) -> RouteClient:
        return RouteClient(client, self._facts(self.probe), self._extra, self.models)

    def _task(self, requests: Iterable[Request], n_requests: int | None) -> _Task:
        client, route = self._client(self.bridge.client), self.route
        size = partial(self._unit_size, route, n_requests)
        return _Task(requests, size, client, None if route.depends_on_rows else route)

    def _unit_size(self, route: Route, n_requests: int | None, first: Request) -> int:
        """Rows that are worked on together: few enough for all workers, many enough that few requests hold many rows."""
        if self._codec is None:
            return 1
        n_rows = route.rows_together(len(first.completions))
        if n_requests is not None:
            n_rows = min(n_rows, -(-n_requests // self.options.concurrency))
        return max(1, n_rows)

    def estimate(self, requests: Sequence[Request]) -> Estimate:
        if self._codec is None and self._tokenizer is not None:
            self._codec = TokenCodec(self._load_tokenizer(), self._context_length or _NO_LIMIT)
        sizes = [self._size(request) for request in requests]
        rows = [(place, TokenRow((0,) * row.context, row.labels)) for place, row in enumerate(sizes)]
        route = self._assumed(rows, is_chat=bool(requests) and requests[0].prompt.is_chat)
        probed = self._probe or Probe(self._model)
        is_text = not route.takes_tokens(self._facts(probed))
        if is_text:
            sizes = [self._as_text(row, request) for row, request in zip(sizes, requests, strict=True)]
        n_together = self._unit_size(route, len(requests), requests[0]) if requests else 1
        # A tokenizer behind the server is asked for the prompt and for every label after it.
        is_remote = isinstance(self._encoder, ServerEncoder) and not is_text
        n_requests, tokens_in, tokens_out = 0.0, 0, 0
        for row in sizes:
            work = route.work(row, n_together)
            n_requests += work.requests + (1 + len(row.labels) if is_remote else 0)
            tokens_in, tokens_out = tokens_in + work.tokens_in, tokens_out + work.tokens_out
        cost = cost_of(self.options.price, tokens_in, tokens_out)
        return Estimate(
            route.name,
            len(requests),
            max(1, round(n_requests)),
            tokens_in,
            tokens_out,
            cost,
            is_counted=self._tokenizer is not None,
            is_at_most=route.depends_on_answers,
            is_assumed=self._route is None and self._use_route is None,
        )

    def _assumed(self, rows: Sequence[Placed], *, is_chat: bool) -> Route:
        """The route that would do the work, as far as that is known without asking the server."""
        if self._route is not None:
            return self._route.settle(rows) if rows else self.used_route
        if self._use_route is not None:
            return self._routes.named(self._use_route).settle(rows)
        return self._routes.assumed(is_tokenised=self._codec is not None, is_chat=is_chat).default

    def _size(self, request: Request) -> RowSize:
        """How large a row is; where tokens cannot be counted, four bytes stand for one."""
        texts = [completion.encode("utf-8", "surrogatepass") for completion in request.completions]
        longest = max(map(len, texts))
        if self._codec is not None and not isinstance(self._encoder, ServerEncoder):
            row = self._codec.encode([request])[0]
            return RowSize(len(row.context), row.targets, longest)
        labels = tuple(tuple(text[i] for i in range(0, len(text), 4)) for text in texts)
        return RowSize(-(-len(request.prompt.text.encode("utf-8", "surrogatepass")) // 4), labels, longest)

    def _as_text(self, row: RowSize, request: Request) -> RowSize:
        """The size of a row that is sent as text: of a chat, the server writes what its template puts around the turns."""
        turns = request.prompt.turns
        if not request.prompt.is_chat:
            return row
        if self._local is not None:
            n_tokens = self._local.served_chat_size([{"role": str(turn.role), "content": turn.text} for turn in turns])
            return row if n_tokens is None else replace(row, context=n_tokens)
        n_bytes = sum(len(turn.text.encode("utf-8", "surrogatepass")) for turn in turns)
        return replace(row, context=-(-n_bytes // 4) + _TURN_TOKENS * len(turns) + _ANSWER_TOKENS)

    async def _open(self, client: Client) -> Probe:
        probed = await probe(client, self._model, self._extra, self.models, self._provider, self._wires, self._asks)
        if self._tokenizer is not None:
            self._encoder = self._load_tokenizer()
            if probed.tokenizer is not None:
                server = await ServerEncoder(client, self._model, probed.tokenizer).open()
                await self._compare(server, self._encoder)
        elif probed.tokenizer is not None and probed.token_ids:
            server = ServerEncoder(client, self._model, probed.tokenizer)
            self._encoder = await server.open(probed.bos_token, probed.eos_token)
        if self._encoder is not None:
            length = min(probed.context_length or _NO_LIMIT, self._context_length or _NO_LIMIT)
            self._codec = TokenCodec(self._encoder, length - _MARGIN)
        return probed

    async def _compare(self, server: ServerEncoder, local: Encoder) -> None:
        """Refuse another model's tokenizer, whose numbers would mean nothing.

        Raises
        ------
        InputError
        """
        text = (Span(_SAMPLE, False),)
        (theirs,) = await server.encode_all([text])
        (ours,) = local.encode([text])
        if theirs != ours:
            raise InputError(
                f"tokenizer={self._tokenizer!r} cuts a text into other tokens than the server's model does ({ours[:8]}... and "
                f"{theirs[:8]}...); give the tokenizer of the model that is served"
            )

    def _load_tokenizer(self) -> Encoder:
        try:
            from transformers import AutoTokenizer
        except ImportError as error:
            raise MissingDependencyError(
                f"tokenizer={self._tokenizer!r} needs transformers ({error}); run: pip install transformers"
            ) from error
        from ..tokens.transformers_encoder import TokenizerEncoder

        try:
            # Without the second, transformers asks on standard input whether to run the code of a repository.
            tokenizer = AutoTokenizer.from_pretrained(self._tokenizer, trust_remote_code=False)
            self._encoder = self._local = TokenizerEncoder(tokenizer)
        except (OSError, ValueError) as error:
            if "trust_remote_code" in str(error):
                raise InputError(
                    f"tokenizer={self._tokenizer!r} needs Python code from its repository, which llmclf never runs; leave "
                    "tokenizer= out, so that the server's is asked, or give a folder with a tokenizer.json"
                ) from error
            raise InputError(
                f"tokenizer={self._tokenizer!r} cannot be read ({[*str(error).splitlines(), type(error).__name__][0]}); give a "
                "folder or a name on the hub"
            ) from error
        return self._encoder

    async def _serve(self, task: _Task, client: Client, unit: _Unit) -> list[Answer]:
        with self.models.noting() as noted:
            return self.models.marked(await self._answers(task, unit), noted)

    async def _answers(self, task: _Task, unit: _Unit) -> list[Answer]:
        answers: list[Answer] = []
        rows: list[Placed] = []
        chosen = task.route or self.route
        takes_tokens = chosen.takes_tokens(task.client.server)
        for place, row in unit:
            try:
                if isinstance(row, TokenRow):
                    rows.append((place, row))
                elif isinstance(chosen, TextRoute) and not takes_tokens:
                    answers.append((place, await chosen.score_text(task.client, row)))
                else:
                    rows.append((place, await self._tokens(row)))
            except (RowError, ServerError) as error:
                answers.append((place, _missing(error)))
        if rows:
            if task.route is None:
                # The first rows decide for all: they come alone, and labels are those of all.
                task.route = self.route.settle(rows)
            route = self._used = task.route
            assert isinstance(route, TokenRoute)
            n = n_fitting(route, rows)
            if n < len(rows):
                # Rows that need a request of their own come later, so that what is answered can be stored soon.
                task.again.appendleft(rows[n:])
                rows = rows[:n]
            try:
                answers += await route.score_tokens(task.client, rows)
            except ServerError as error:
                if len(rows) == 1:
                    answers.append((rows[0][0], _missing(error)))
                elif error.is_final:
                    raise
                else:
                    # One row that the server refuses must not take the others with it.
                    task.again.extend([row] for row in rows)
        return answers

    async def _tokens(self, request: Request) -> TokenRow:
        assert self._codec is not None
        if isinstance(self._encoder, ServerEncoder):
            import anyio.to_thread

            # It asks the server, from a thread that may wait.
            return (await anyio.to_thread.run_sync(self._codec.encode, [request]))[0]
        return self._codec.encode([request])[0]


def _missing(error: Exception) -> RowScores:
    if isinstance(error, ServerError) and error.is_final:
        raise error
    return RowScores((), error=str(error))
