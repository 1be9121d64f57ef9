"""Any OpenAI-compatible server as a backend: exact where the server allows it, and honest where it does not."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from typing import Any

from ...checks import is_number
from ...errors import InputError
from ...prompts.rendered import RenderedPrompt
from ..answers.options import AnswerOptions, answer_settings
from ..base import AddsToPrompt, Batches, CountsUsage, EstimatesCost, SeesTokens, Streams
from ..handle import shared
from ..http.answering_model import AnsweringModel
from ..http.server_handle import ServerHandle, server
from ..model_names import ModelName
from ..options import further_fields, one_of, option, positive_count
from ..providers import PROVIDERS, Endpoint, Provider
from ..requests import Request, RowScores, check_requests
from ..usage import Estimate, Usage
from ..wires.base import Wire
from ..wires.registry import WIRES
from .batches.options import BatchOptions
from .batches.store import BatchStore
from .connection import Connection
from .probe import Probe
from .routes import RouteReport, check_name

_TOP_CALLS = 16
_SET_HERE = (
    *("model", "prompt", "messages", "input", "contents", "system"),
    *("logprobs", "echo", "n", "stream", "temperature"),
)
"""Fields of a request that mean something for its answer, which routes set themselves."""
_TOLERANCE = 0.01


def _is_tokenizer(name: str, value: Any) -> None:
    if not isinstance(value, str):
        raise InputError(f"{name}={value!r}: expected a folder or a name on the model hub")


def _is_tolerance(name: str, value: Any) -> None:
    if not (is_number(value) and 0 <= value < 1):
        raise InputError(f"{name}={value!r}: expected a number from 0 to below 1, or None for the default")


@server
@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class OpenAIBackend(
    AnswerOptions, ServerHandle, Streams, Batches, EstimatesCost, CountsUsage, SeesTokens, AddsToPrompt
):
    """Score labels with a model behind an OpenAI-compatible server.

    The handle is a description. On first use it connects, and a few tiny requests find out what the server really does (`probe`);
    that decides the `route`:

    - ``"choice"``: exact; ``"echo"`` or ``"named_tokens"``, whichever is cheaper for the labels at hand;
    - ``"echo"``, ``"named_tokens"``, ``"grammar"``: exact;
    - ``"echo_text"``: exact, for servers that echo and neither tokenise nor take `tokenizer`;
    - ``"top_logprobs"``, and ``"chat"`` where the server answers chats alone: it names at most twenty tokens, so that a label's
      log-probability lies between two bounds. `RowScores.lower` and `upper` hold them, and the score is the logarithm of the
      middle of the two probabilities;
    - ``"verbalized"``, ``"sampled"`` and ``"mixed"``, only where ``use_route=`` names one: estimates from what a chat answers,
      for models that show no log-probabilities; see `llmclf.backends.answers`.

    Parameters
    ----------
    name : str
        ``"openai:NAME"`` with the model's name on the server.

    Examples
    --------
    >>> OpenAIBackend("openai:org/model", base_url="http://localhost:8000/v1", concurrency=64)
    OpenAIBackend('openai:org/model', base_url='http://localhost:8000/v1', concurrency=64)
    """

    tokenizer: str | None = option(
        None,
        help="Folder, or name on the model hub, of the model's tokenizer for transformers. With it, texts are tokenised on this "
        "side: no request is spent on that, and control tokens in the data stay text on every server.",
        check=_is_tokenizer,
    )
    use_route: str | None = option(
        None, help="One of the routes above; None takes the best that the server allows.", convert=check_name
    )
    context_length: int | None = option(
        None, help="Largest number of tokens the model may read; by default what the server says.", check=positive_count
    )
    top_calls: int | None = option(
        None,
        help='Largest number of requests for one row on the route "top_logprobs"; None: 16.',
        check=positive_count,
    )
    tolerance: float | None = option(
        None,
        help="On that route: share of the labels' probability below which a branch of the label trie is not followed once the "
        "best label is decided; None: 0.01.",
        check=_is_tolerance,
    )
    extra: Mapping[str, Any] | None = option(
        None,
        help='What every request also carries, such as {"reasoning_effort": "none"}.',
        check=further_fields(*_SET_HERE),
    )
    wire: str | None = option(
        None,
        help='The protocol: "chat", or "responses" for the Responses API, "gemini", "ollama" and "anthropic" for those of their '
        "own. None takes the provider's first one in which log-probabilities come back.",
        check=one_of(*WIRES),
    )

    scheme = "openai"
    usual_provider = PROVIDERS["openai"]

    @property
    def endpoint(self) -> Endpoint:
        return self.provider.endpoint(self.wire)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.provider.check_extra(self.name, self.extra)
        answer_settings(self, self.use_route)

    @property
    def _connection(self) -> Connection:
        return self.open_once(self._connect)

    def _connect(self) -> Connection:
        options = self.server_options
        make = partial(
            Connection,
            options,
            self.model_name,
            use_route=self.use_route,
            tokenizer=self.tokenizer,
            context_length=self.context_length,
            top_calls=self.top_calls or _TOP_CALLS,
            tolerance=_TOLERANCE if self.tolerance is None else self.tolerance,
            extra=self.extra or {},
            models=AnsweringModel(self.model_name, accepts_change=self.accept_model_change),
            provider=self.provider,
            wires=self._wires,
            answers=answer_settings(self, self.use_route),
        )
        # The address may come from the environment, which equal handles need not have seen alike.
        return shared((*self._key, options.base_url, options.api_key_env), make)

    @property
    def _wires(self) -> list[Wire]:
        """The protocols to ask in: that of the endpoint, and unless it was named, the others at the same address."""
        chosen = self.endpoint
        others = [one for one in self.provider.endpoints if self.wire is None and one.base_url == chosen.base_url]
        return [WIRES[one.wire] for one in dict.fromkeys((chosen, *others))]

    @property
    def probe(self) -> Probe:
        """What the server was seen to do; asks the server on first use."""
        return self._connection.probe

    @property
    def route(self) -> str:
        """The way to a label's log-probability; asks the server on first use.

        Where a server allows both ``"echo"`` and ``"named_tokens"``, the one that was used for the last rows, chosen by what is
        cheaper for their labels; ``"echo"`` before any rows were scored.
        """
        return self._connection.used_route.name

    @property
    def routes(self) -> list[RouteReport]:
        """Every route, best first, and why the server does not allow it, if so; asks the server on first use."""
        return self._connection.reports

    @property
    def sees_tokens(self) -> bool:
        """Whether scores come token by token, as means per token need them."""
        return self._connection.route.sees_tokens

    @property
    def usage(self) -> Usage:
        """What this and equal backends have asked of the server since it was opened."""
        return self._connection.bridge.client.usage

    def answering_model(self) -> ModelName:
        connection = self._connection
        return connection.models.first(connection.asked_path)

    def identity(self) -> dict[str, Any]:
        connection = self._connection
        return {
            "backend": self.provider.scheme,
            "model": self.model_name,
            "answered_by": connection.probe.answered_by,
            "base_url": connection.options.base_url,
            **connection.route.identity(connection.probe),
            "tokenizer": self.tokenizer,
            "context_length": self.context_length,
            "extra": self.extra,
            "probe": connection.probe.summary,
        }

    def shown_prompt(self, request: Request) -> str:
        """What the model reads, without the markup of a chat template; of a route by answers, with all that it adds."""
        return self._connection.shown_prompt(request)

    def chat_frame(self, prompt: RenderedPrompt) -> str | None:
        """What the model's chat template writes around the turns of a prompt; None where the server alone knows."""
        return self._connection.chat_frame(prompt)

    def score(self, requests: Sequence[Request]) -> Iterator[tuple[int, RowScores]]:
        check_requests(requests)
        if not requests:
            return
        self._connection.warn_of_answers(requests)
        yield from self._connection.score(requests)

    def stream(
        self, requests: Iterable[Request], *, n_requests: int | None = None
    ) -> Iterator[list[tuple[int, RowScores]]]:
        """Answers in groups, of any number of requests; see `llmclf.backends.streaming`."""
        if n_requests == 0:
            return
        yield from self._connection.stream(self._told(requests), n_requests)

    def batch_stream(
        self, requests: Iterable[Request], connection: sqlite3.Connection, **options: Any
    ) -> Iterator[list[tuple[int, RowScores]]]:
        """Answers as `stream` gives them, by the provider's batches (``/v1/files`` and ``/v1/batches``, or Message Batches).

        The scores are those of the live route. A few tiny live requests find out what the server does, as always; where its
        tokenizer is used, texts are tokenised live, too. `rpm` and `tpm` hold for live requests, `price` is that of batches, and
        a batch that could cost more than is left of `max_cost` is made smaller.

        Parameters
        ----------
        requests : iterable of Request
            In another process, the same rows find what was answered and go on with the rest, in whatever order they come.
        connection : sqlite3.Connection
            Keeps what was asked and answered; see `llmclf.backends.openai.batches.store`.
        **options
            See `llmclf.backends.openai.batches.options.BatchOptions`.

        Yields
        ------
        list of (int, RowScores)
            At least one, with the place of each request. A list counts as handled once the next is asked for; what was kept
            about its rows is then deleted.
        """
        chosen = BatchOptions(**options)  # a wrong one is named before anything is sent
        yield from self._connection.batches(self._told(requests), BatchStore(connection), chosen)

    def _told(self, requests: Iterable[Request]) -> Iterator[Request]:
        """The requests, of which the first is looked at now; see `Connection.warn_of_answers`."""
        rest = iter(requests)
        first = list(islice(rest, 1))
        self._connection.warn_of_answers(first)
        return chain(first, rest)

    def estimate(self, requests: Sequence[Request]) -> Estimate:
        """What answering would take, counted without sending anything.

        The route is the one that was chosen where the server was asked before, else `use_route`, else the
        default of the first registered route: ``"echo"``, unless one was added before it.
        """
        return self._connection.estimate(requests)


@server
@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class ProviderBackend(OpenAIBackend):
    """Score labels with a model of a provider, or of a program that serves models, by its name.

    The table of providers says where each is, which environment variable holds its key, and which protocol it speaks. All other
    options are those of `OpenAIBackend`, and override the table.

    Parameters
    ----------
    name : str
        ``"mistral:NAME"``, ``"gemini:NAME"``, ``"ollama:NAME"`` and so on, with the model's name there; see
        `llmclf.backends.providers.table`.

    Examples
    --------
    >>> ProviderBackend("mistral:mistral-small-latest").server_options.base_url
    'https://api.mistral.ai/v1'
    >>> ProviderBackend("ollama:llama3.2", base_url="http://gpu:11434")
    ProviderBackend('ollama:llama3.2', base_url='http://gpu:11434')
    """

    @classmethod
    def providers(cls) -> Mapping[str, Provider]:
        return {scheme: provider for scheme, provider in PROVIDERS.items() if scheme != OpenAIBackend.scheme}
