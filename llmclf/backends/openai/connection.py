"""A connection to an OpenAI-compatible server: what was found out about it, its model's tokenizer, the route to its scores."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, cast

from ...errors import CapabilityError, InputError, MissingDependencyError, RowError, ServerError
from ...prompts.rendered import Span
from ..base import Request, RowScores, check_requests
from ..http.async_bridge import Engine
from ..http.client import Client
from ..http.options import ServerOptions
from ..http.usage import Estimate, cost_of
from ..tokens.codec import Encoder, TokenCodec, TokenRow
from ..tokens.label_trie import label_trie
from .batches.options import BatchOptions
from .batches.runner import BatchRunner
from .batches.store import BatchStore
from .probe import Probe, probe
from .routes import base as routes
from .routes.top_logprobs import TopLogprobs
from .tokenizer import ServerEncoder

ROUTES = ("echo", "named tokens", "grammar", "echo_text", "top_logprobs", "chat")
"""Ways to a label's log-probability, best first."""

_SAMPLE = "The quick brown fox (42 kg) jumps over 3 lazy dogs: naïve, 東京!"
_NO_LIMIT = 1 << 30
_MARGIN = 2  # tokens of the context that a server keeps for what it generates


_Unit = Sequence[tuple[int, Request | TokenRow]]
"""Rows that are worked on together, each with its place; tokenised where they come for the second time."""


class _Task:
    """Requests cut into units of work, and what holds for all of them.

    Attributes
    ----------
    ask : Asker
    route : str or None
        The one that the first rows chose where there is a choice.
    again : deque of units
        Rows to be asked anew, or later than those they came with; they come before new ones.
    """

    def __init__(self, requests: Iterable[Request], size: Callable[[Request], int], ask: routes.Asker) -> None:
        self.ask = ask
        self.route: str | None = None
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
    """A connection, what was found out about it, and the tokenizer of its model."""

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
    ) -> None:
        self.options = options
        self.engine = Engine(Client(options))
        self.top_calls = top_calls
        self.tolerance = tolerance
        self._model = model
        self._extra = extra
        self._use_route = use_route
        self._context_length = context_length
        self._tokenizer = tokenizer
        self._lock = threading.Lock()
        self._probe: Probe | None = None
        self._route = ""
        self._codec: TokenCodec | None = None
        self._encoder: Encoder | None = None
        self._other_ends: set[int] = set()

    @property
    def probe(self) -> Probe:
        with self._lock:
            if self._probe is None:
                found = self.engine.call(self._open)
                self._route = self._choose(found)
                self._probe = found
            return self._probe

    @property
    def route(self) -> str:
        _ = self.probe
        return self._route

    def score(self, requests: Sequence[Request]) -> Iterator[tuple[int, RowScores]]:
        task = self._task(requests, len(requests))
        return self.engine.stream(task, partial(self._serve, task), leader=self._leads)

    def stream(self, requests: Iterable[Request], n_requests: int | None) -> Iterator[list[tuple[int, RowScores]]]:
        task = self._task(requests, n_requests)
        return self.engine.groups(task, partial(self._serve, task), leader=self._leads)

    def batches(
        self, requests: Iterable[Request], store: BatchStore, options: BatchOptions
    ) -> Iterator[list[tuple[int, RowScores]]]:
        if self.route == "grammar":
            raise CapabilityError(
                "the route 'grammar' learns from one row what to ask about the next, so that after a restart a batch's answers "
                "could not be found again; ask live, or name another route (use_route=)"
            )
        runner = BatchRunner(self.engine.client, store, options)
        ask = routes.Asker(cast(Client, runner), self.probe, {"model": self._model, **self._extra})
        # A row by itself asks the same in every process, whatever rows are left.
        task = _Task(requests, lambda _: 1, ask)
        if self._picks_the_cheaper:
            task.route = store.kept("route")

        def decided() -> None:
            if task.route is not None:
                store.keep("route", task.route)

        return self.engine.drain(runner.over(task, partial(self._serve, task), decided))

    @property
    def _leads(self) -> bool:
        """Whether the first rows go ahead: the server's cache then serves what all rows share."""
        return self._codec is not None

    def _task(self, requests: Iterable[Request], n_requests: int | None) -> _Task:
        ask = routes.Asker(self.engine.client, self.probe, {"model": self._model, **self._extra})
        return _Task(requests, partial(self._unit_size, n_requests), ask)

    def _unit_size(self, n_requests: int | None, first: Request) -> int:
        """Rows that are worked on together: few enough for all workers, many enough that few requests hold many rows."""
        if self._codec is None or self._route in ("grammar", "top_logprobs", "echo_text", "chat"):
            return 1
        most = routes.PROMPTS // len(first.completions)
        if n_requests is not None:
            most = min(most, -(-n_requests // self.options.concurrency))
        return max(1, most)

    def estimate(self, requests: Sequence[Request]) -> Estimate:
        if self._codec is None and self._tokenizer is not None:
            self._codec = TokenCodec(self._load_tokenizer(), self._context_length or _NO_LIMIT)
        sizes = [self._sizes(request) for request in requests]
        rows = [(place, TokenRow((0,) * context, targets)) for place, (context, targets) in enumerate(sizes)]
        route = self._use_route or self._route or "echo"
        if rows and self._probe is not None and self._picks_the_cheaper:
            route = routes.cheaper(rows)
        size = self._unit_size(len(requests), requests[0]) if requests else 1
        # A tokenizer behind the server is asked for the prompt and for every label after it.
        tokenised = isinstance(self._encoder, ServerEncoder)
        n_requests, tokens_in, tokens_out = 0.0, 0, 0
        for context, targets in sizes:
            n_labels, nodes = len(targets), label_trie(targets)
            read = context * n_labels + sum(map(len, targets))
            n_nodes, longest = nodes.n_nodes + 1, max(map(len, targets))
            if route in ("echo", "echo_text"):
                own, written, asked = read, n_labels, 1 / size if route == "echo" else 1
            elif route == "named tokens":
                deeper = -(-size * (n_nodes - 1) // routes.PROMPTS)  # requests of a unit, after that for the roots
                own, written, asked = n_nodes * context + int(nodes.depths.sum()), n_nodes, (1 + deeper) / size
            elif route == "grammar":
                own, written, asked = context * n_labels, sum(map(len, targets)), n_labels
            elif route == "chat":
                own, written, asked = context, longest, 1
            else:
                calls = min(n_nodes, self.top_calls)
                own, written, asked = calls * context + int(nodes.depths.sum()), calls, calls
            n_requests += asked + (1 + n_labels if tokenised else 0)
            tokens_in, tokens_out = tokens_in + own, tokens_out + written
        cost = cost_of(self.options.price, tokens_in, tokens_out)
        is_counted = self._tokenizer is not None
        return Estimate(route, len(requests), max(1, round(n_requests)), tokens_in, tokens_out, cost, is_counted)

    def _sizes(self, request: Request) -> tuple[int, tuple[tuple[int, ...], ...]]:
        """Tokens of the prompt, and the labels' tokens; where they cannot be counted, four bytes stand for one."""
        if self._codec is not None and not isinstance(self._encoder, ServerEncoder):
            row = self._codec.encode([request])[0]
            return len(row.context), row.targets
        texts = [completion.encode("utf-8", "surrogatepass") for completion in request.completions]
        labels = tuple(tuple(text[i] for i in range(0, len(text), 4)) for text in texts)
        return -(-len(request.prompt.text.encode("utf-8", "surrogatepass")) // 4), labels

    async def _open(self, client: Client) -> Probe:
        found = await probe(client, self._model, self._extra)
        if self._tokenizer is not None:
            self._encoder = self._load_tokenizer()
            if found.tokenizer is not None:
                server = await ServerEncoder(client, self._model, found.tokenizer).open()
                await self._compare(server, self._encoder)
        elif found.tokenizer is not None and found.token_ids:
            server = ServerEncoder(client, self._model, found.tokenizer)
            self._encoder = await server.open(found.bos_token, found.eos_token)
        if self._encoder is not None:
            length = min(found.context_length or _NO_LIMIT, self._context_length or _NO_LIMIT)
            self._codec = TokenCodec(self._encoder, length - _MARGIN)
        return found

    async def _compare(self, server: ServerEncoder, own: Encoder) -> None:
        """Another model's tokenizer would give numbers that mean nothing."""
        text = (Span(_SAMPLE, False),)
        (theirs,) = await server.encode_all([text])
        (ours,) = own.encode([text])
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
            self._encoder = TokenizerEncoder(AutoTokenizer.from_pretrained(self._tokenizer))
        except (OSError, ValueError) as error:
            raise InputError(
                f"tokenizer={self._tokenizer!r} cannot be read ({str(error).splitlines()[0]}); give a folder or a name on the hub"
            ) from error
        return self._encoder

    def _choose(self, found: Probe) -> str:
        """The best route that the server allows, or the one asked for."""
        ids = self._codec is not None
        honest = found.raw or found.echo == "exact"  # what is generated at temperature 1 then agrees with what is read
        possible = {
            "echo": ids and found.echo == "exact",
            "named tokens": ids and found.named_tokens and honest,
            "grammar": ids and found.grammar,
            "echo_text": found.echo == "exact",
            "top_logprobs": found.top_logprobs > 1 and honest,
            "chat": found.chat and found.chat_top_logprobs > 1 and found.raw,
        }
        allowed = [route for route in ROUTES if possible[route]]
        said = "; ".join(found.notes) or "it did not say why"
        if self._use_route is not None and self._use_route not in allowed:
            raise CapabilityError(
                f"the server cannot be asked by the route {self._use_route!r} ({said}); it allows: "
                f"{', '.join(map(repr, allowed)) or 'none'}"
            )
        if not allowed:
            raise CapabilityError(
                f"the server's log-probabilities cannot be trusted or do not reach a label ({said}); use a server that shows the "
                "model's own (vLLM with its default --logprobs-mode raw_logprobs, SGLang, llama.cpp's server)"
            )
        return self._use_route or allowed[0]

    @property
    def _picks_the_cheaper(self) -> bool:
        """Whether the server allows both exact routes that read prompts, and the user wants neither in particular."""
        found = self._probe
        both = found is not None and found.echo == "exact" and found.named_tokens
        return both and self._use_route is None and self._codec is not None

    async def _serve(self, task: _Task, client: Client, unit: _Unit) -> list[tuple[int, RowScores]]:
        answers: list[tuple[int, RowScores]] = []
        rows: list[routes.Placed] = []
        # Tokens are looked up only where the server names them by their ids.
        by_text = self._route in ("echo_text", "chat") or self._codec is None
        by_text |= self._route == "top_logprobs" and not task.ask.probe.token_ids
        for place, row in unit:
            try:
                if isinstance(row, TokenRow):
                    rows.append((place, row))
                elif by_text:
                    answers.append((place, await self._by_text(task.ask, row)))
                else:
                    rows.append((place, await self._tokens(row)))
            except (RowError, ServerError) as error:
                answers.append((place, _missing(error)))
        if rows:
            if self._picks_the_cheaper and task.route is None:
                # The first rows decide for all: they come alone, and labels are those of all.
                self._route = task.route = routes.cheaper(rows)
            route = task.route or self._route
            n = _fitting(rows, route)
            if n < len(rows):
                # What takes a request of its own is asked by itself, so that what is answered is soon taken care of.
                task.again.appendleft(rows[n:])
                rows = rows[:n]
            try:
                answers += await self._by_tokens(task.ask, rows, route)
            except ServerError as error:
                if len(rows) == 1:
                    answers.append((rows[0][0], _missing(error)))
                elif error.is_final:
                    raise
                else:
                    # One row that the server refuses must not take the others with it.
                    task.again.extend([row] for row in rows)
        return answers

    async def _by_tokens(self, ask: routes.Asker, rows: list[routes.Placed], route: str) -> list[tuple[int, RowScores]]:
        if route == "echo":
            return await routes.echo(ask, rows)
        if route == "named tokens":
            return await routes.named_tokens(ask, rows)
        if route == "grammar":
            assert self._encoder is not None
            return await routes.grammar(ask, rows, self._encoder.eos_id, self._other_ends)
        top = TopLogprobs(ask, self.top_calls, self.tolerance)
        return [(place, await top.tokens(row)) for place, row in rows]

    async def _by_text(self, ask: routes.Asker, request: Request) -> RowScores:
        is_chat = request.prompt.is_chat
        if self._route == "chat":
            if not is_chat:
                raise CapabilityError(
                    "this server answers chats alone, and the prompt is plain text; use Prompt(..., chat=True), or a server that "
                    "continues text"
                )
            return await TopLogprobs(ask, 1, self.tolerance).chat(request)
        if is_chat:
            raise CapabilityError(
                "this server continues text, and how it writes a chat is unknown; give the backend the model's tokenizer "
                "(tokenizer='folder or name'), or use chat=False"
            )
        if self._route == "echo_text":
            return await routes.echo_text(ask, request)
        return await TopLogprobs(ask, self.top_calls, self.tolerance).text(request)

    async def _tokens(self, request: Request) -> Any:
        assert self._codec is not None
        if isinstance(self._encoder, ServerEncoder):
            import anyio.to_thread

            # It asks the server, from a thread that may wait.
            return (await anyio.to_thread.run_sync(self._codec.encode, [request]))[0]
        return self._codec.encode([request])[0]


def _fitting(rows: Sequence[routes.Placed], route: str) -> int:
    """How many of the rows, from the first on, go into one request; at least one."""
    n_prompts = n_tokens = 0
    for n, (_, row) in enumerate(rows):
        # Of named tokens the roots count; deeper nodes are asked about in further requests anyway.
        prompts = [len(target) for target in row.targets] if route == "echo" else [0]
        n_prompts += len(prompts)
        n_tokens += len(row.context) * len(prompts) + sum(prompts)
        if n and (n_prompts > routes.PROMPTS or n_tokens > routes.PROMPT_TOKENS):
            return n
    return len(rows)


def _missing(error: Exception) -> RowScores:
    if isinstance(error, ServerError) and error.is_final:
        raise error
    return RowScores((), error=str(error))
