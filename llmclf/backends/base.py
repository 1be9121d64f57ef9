"""What every backend must promise, and what it may offer besides.

A backend needs `identity` and `score` alone. What else it can do, it says by having the members of one of the protocols below:
``isinstance(backend, Streams)`` asks for it. On Python 3.11 such a question reads the properties that a protocol names, so
protocols name methods wherever a property would load a model or ask a server.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ..arrays import Floats
from ..prompts.rendered import RenderedPrompt
from .logit_processing import TokenProcessing
from .model_names import ModelName
from .requests import Request, RowScores
from .usage import Estimate, Usage


@runtime_checkable
class Backend(Protocol):
    """A handle to a model: a small description that opens what it needs on first use.

    Copying a handle shares what it has opened, pickling it keeps the description alone, its ``repr`` shows the description.
    """

    def identity(self) -> dict[str, Any]:
        """Everything that the scores depend on, as plain JSON values: weights, revision, dtype, options."""
        ...

    def score(self, requests: Sequence[Request]) -> Iterator[tuple[int, RowScores]]:
        """Answer every request, in any order, each with its place in `requests`, as soon as it is known.

        All requests are checked before the model is first called; what cannot be asked raises `InputError` then.
        """
        ...


Answers = Iterator[list[tuple[int, RowScores]]]
"""Groups of answers, each with the place of its request."""


@runtime_checkable
class ProcessesLogits(Backend, Protocol):
    """Can apply guidance, logit bias and temperature, since it sees whole distributions; see `processes_logits`."""

    @property
    def processes_logits(self) -> bool:
        """Whether it can."""
        ...


@runtime_checkable
class SeesTokens(Backend, Protocol):
    """Says whether its scores come token by token, as means per token need them; see `sees_tokens`."""

    @property
    def sees_tokens(self) -> bool:
        """Whether they do; this may ask the server."""
        ...


@runtime_checkable
class TakesDescriptions(Backend, Protocol):
    """Reads label words as options to choose from, so that they may describe their classes; see `takes_descriptions`."""

    @property
    def takes_descriptions(self) -> bool:
        """Whether they may."""
        ...


@runtime_checkable
class SharesBeginnings(Backend, Protocol):
    """Says whether rows that begin alike cost less together, so that many of them are worth sorting; see `shares_beginnings`."""

    @property
    def shares_beginnings(self) -> bool:
        """Whether they do."""
        ...


@runtime_checkable
class ShowsStates(Backend, Protocol):
    """Shows the model's hidden states beside its scores; see `shows_states`."""

    @property
    def shows_states(self) -> bool:
        """Whether it does."""
        ...


@runtime_checkable
class AddsToPrompt(Backend, Protocol):
    """May ask more than the prompt says; see `shown_prompt`."""

    def shown_prompt(self, request: Request) -> str:
        """What the model reads, without the markup of a chat template; this may ask the server what it can do."""
        ...


@runtime_checkable
class WritesChats(Backend, Protocol):
    """Writes chats with the model's own template, whose text belongs to what a score depends on."""

    def chat_frame(self, prompt: RenderedPrompt) -> str | None:
        """What the template writes around the turns of a prompt, now; None where it is plain text, or the server's secret."""
        ...


@runtime_checkable
class Streams(Backend, Protocol):
    """Answers any number of requests with little at risk; see `llmclf.backends.streaming`."""

    def stream(self, requests: Iterable[Request], *, n_requests: int | None = None) -> Answers:
        """Answers in groups, in any order; a group counts as already handled once the next one is asked for."""
        ...


@runtime_checkable
class Batches(Backend, Protocol):
    """Answers requests through a provider's Batch API."""

    def batch_stream(self, requests: Iterable[Request], connection: sqlite3.Connection, **options: Any) -> Answers:
        """Answers as `Streams.stream` gives them; `connection` keeps what is under way, so that another process goes on."""
        ...


@runtime_checkable
class EstimatesCost(Backend, Protocol):
    """Tells what requests would take without sending anything."""

    def estimate(self, requests: Sequence[Request]) -> Estimate:
        """Requests, tokens and cost."""
        ...


@runtime_checkable
class CountsUsage(Backend, Protocol):
    """Counts what was asked."""

    @property
    def usage(self) -> Usage:
        """The counts so far; the object lives on and changes with every request."""
        ...


@runtime_checkable
class CountsTokens(Backend, Protocol):
    """Has the model's tokenizer at hand."""

    def count_tokens(self, texts: Sequence[str]) -> int:
        """How many tokens the texts have together, without special tokens."""
        ...


class ServerLimits(Protocol):
    """What a backend behind a server is told of it, with defaults filled in; see `llmclf.backends.http.options`."""

    @property
    def base_url(self) -> str: ...
    @property
    def api_key_env(self) -> str | None: ...
    @property
    def concurrency(self) -> int: ...
    @property
    def rpm(self) -> int | None: ...
    @property
    def tpm(self) -> int | None: ...
    @property
    def max_cost(self) -> float | None: ...
    @property
    def is_local(self) -> bool: ...


@runtime_checkable
class BehindServer(Backend, Protocol):
    """Reaches its model over the network, with limits and maybe a key."""

    @property
    def server_options(self) -> ServerLimits:
        """Address, name of the key's variable, and limits; reading them sends nothing."""
        ...


@runtime_checkable
class NamesModel(Backend, Protocol):
    """Says which model answers, reply by reply, and notices when it is another."""

    @property
    def accept_model_change(self) -> bool:
        """Whether another model may go on than the one that answered first."""
        ...

    def answering_model(self) -> ModelName:
        """The model that answered first, by the server's own name; this may ask the server."""
        ...


class Embedder(Protocol):
    """A handle to a model that makes a vector of a text; it is no `Backend`, since it scores nothing."""

    def identity(self) -> dict[str, Any]:
        """Everything that a vector depends on besides its text, as plain JSON values; a server is not asked for it."""
        ...

    def embed(self, texts: Sequence[str]) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """The vector (d,) of every text, in any order, each with the place of its text, as soon as it is known.

        All vectors are finite and have one length.
        """
        ...


@runtime_checkable
class ServedEmbedder(Embedder, Protocol):
    """An embedder behind a server, whose answers may cost."""

    def estimate(self, texts: Sequence[str]) -> Estimate:
        """Requests, tokens and cost of some texts; nothing is sent."""
        ...

    def answered_by(self) -> str | None:
        """The model that answers, by its own name; None before the first answer, or where the server does not say."""
        ...

    @property
    def server_options(self) -> ServerLimits:
        """Address, name of the key's variable, and limits; reading them sends nothing."""
        ...


@runtime_checkable
class CountedEmbedder(ServedEmbedder, Protocol):
    """One that counts what was asked."""

    @property
    def usage(self) -> Usage:
        """The counts so far; the object lives on and changes with every request."""
        ...


class Written(Protocol):
    """What a model wrote; see `llmclf.backends.local.generation.Generation`."""

    @property
    def token_ids(self) -> tuple[int, ...]: ...
    @property
    def pieces(self) -> tuple[str, ...]: ...
    @property
    def text(self) -> str: ...
    @property
    def logprobs(self) -> tuple[float, ...]: ...
    @property
    def perplexities(self) -> Floats: ...
    @property
    def finish_reason(self) -> str: ...


@runtime_checkable
class Generates(Backend, Protocol):
    """Writes texts."""

    def generate(
        self,
        prompt: str | RenderedPrompt | Sequence[int],
        max_tokens: int = 64,
        processors: Sequence[Any] = (),
        seed: int | None = None,
        stop: str | Sequence[str] = (),
    ) -> Written:
        """One answer to a prompt: the likeliest tokens, or drawn ones where a seed is given."""
        ...

    def generate_many(
        self,
        prompt: str | RenderedPrompt | Sequence[int],
        n: int,
        max_tokens: int = 64,
        processors: Sequence[Any] = (),
        seed: int | None = None,
        stop: str | Sequence[str] = (),
    ) -> Sequence[Written]:
        """`n` answers to one prompt."""
        ...


class ViewedRow(Protocol):
    """One request in the model's tokens; see `llmclf.backends.tokens.codec.TokenRow`."""

    @property
    def context(self) -> tuple[int, ...]: ...
    @property
    def targets(self) -> tuple[tuple[int, ...], ...]: ...
    @property
    def terminated(self) -> bool: ...
    @property
    def excludes_longer(self) -> bool: ...
    @property
    def processing(self) -> TokenProcessing | None: ...


class View(Protocol):
    """One request as the model sees it; see `llmclf.backends.local.trie_view.TrieView`."""

    @property
    def row(self) -> ViewedRow: ...
    @property
    def logits(self) -> Floats: ...
    @property
    def unconditional(self) -> Floats | None: ...
    @property
    def processed(self) -> Floats: ...


@runtime_checkable
class ShowsDistributions(Generates, Protocol):
    """Shows the whole distribution of the next token, wherever it is asked for."""

    def view(self, request: Request) -> View:
        """Tokens, label trie, and the logits at every place where a label token is predicted."""
        ...

    def next_logits(self, prompt: str | RenderedPrompt | Sequence[int]) -> tuple[tuple[int, ...], NDArray[Any]]:
        """The tokens of a prompt, and the logits (vocabulary,) of what comes next."""
        ...

    def token_texts(self, token_ids: Sequence[int]) -> list[str]:
        """What each token adds to a text."""
        ...

    def joined_texts(self, token_ids: Sequence[int]) -> list[str]:
        """What each token adds to the text of those before it; empty where it only begins a character."""
        ...

    def token_of(self, prompt: str | RenderedPrompt, text: str) -> int:
        """The id of the one token that a text is directly after a prompt."""
        ...

    def ends_answer(self, token_id: int) -> bool:
        """Whether a token ends an answer."""
        ...

    def room_after(self, n_tokens: int) -> int:
        """How many more tokens the model can read after so many; 0 or less where it can read none."""
        ...


def processes_logits(backend: Backend) -> bool:
    """Whether guidance, logit bias and temperature can act on a backend's distributions; no, where it does not say."""
    return isinstance(backend, ProcessesLogits) and backend.processes_logits


def sees_tokens(backend: Backend) -> bool:
    """Whether a backend's scores come token by token; yes, where it does not say otherwise."""
    return not isinstance(backend, SeesTokens) or backend.sees_tokens


def takes_descriptions(backend: Backend) -> bool:
    """Whether label words may describe their classes; no, where a backend does not say."""
    return isinstance(backend, TakesDescriptions) and backend.takes_descriptions


def shares_beginnings(backend: Backend) -> bool:
    """Whether rows that begin alike cost a backend less together; no, where it does not say."""
    return isinstance(backend, SharesBeginnings) and backend.shares_beginnings


def shows_states(backend: Backend) -> bool:
    """Whether a backend shows the model's hidden states; no, where it does not say."""
    return isinstance(backend, ShowsStates) and backend.shows_states


def shown_prompt(backend: Backend, request: Request) -> str:
    """What a model reads for a request, without the markup of a chat template: the prompt, and what the backend adds to it."""
    return backend.shown_prompt(request) if isinstance(backend, AddsToPrompt) else request.prompt.text


def chat_frame(backend: Backend, prompt: RenderedPrompt) -> str | None:
    """What the model's chat template writes around the turns of a prompt; None where nobody can say."""
    return backend.chat_frame(prompt) if prompt.is_chat and isinstance(backend, WritesChats) else None
