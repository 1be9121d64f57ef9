"""What a route is: one way to the log-probabilities of a row's labels on an OpenAI-compatible server."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

from ....errors import CapabilityError
from ...answers.options import AnswerSettings
from ...http.answering_model import AnsweringModel
from ...nested_labels import without_longer
from ...requests import Request, RowScores
from ...tokens.codec import TokenRow
from ...wires.base import SupportsCall, Wire, merged
from ...wires.registry import WIRES
from ..probe import Probe

T = TypeVar("T")

Placed = tuple[int, TokenRow]
"""A row as tokens, and its place among the requests."""
Answer = tuple[int, RowScores]
Labels = tuple[tuple[int, ...], ...]
"""The tokens of each label of a row."""

MAX_PROMPTS = 64
"""Prompts in one request, at most."""
MAX_PROMPT_TOKENS = 4_096
"""Tokens in one request, at most: the answer must come well before the request counts as lost."""
_SEVERAL_REPLIES = 0.1  # by which probabilities of one place from several replies may add up to more than 1
SHARED_IDENTITY = "exact"
"""The identity of every route that scores token ids exactly: their scores agree, so they share cached ones."""


@dataclass(frozen=True)
class RouteOptions:
    """What a user may set for the routes that ask step by step, and for those by answers.

    Attributes
    ----------
    top_calls : int
        Requests for one row, at most.
    tolerance : float
        Share of the labels' probability below which a branch of the label trie is not followed once the best label is decided.
    answers : AnswerSettings
    """

    top_calls: int
    tolerance: float
    answers: AnswerSettings = field(default_factory=AnswerSettings)


@dataclass(frozen=True)
class ServerFacts:
    """What is known about a server when a route is chosen.

    Attributes
    ----------
    probe : Probe
    is_tokenised : bool
        Texts can be turned into the model's token ids, by a tokenizer on this side or by the server.
    eos_id : int or None
        The token that ends an answer, where it is known.
    takes_one_text : bool
        A completion is asked for with one text: neither several in a request, nor token ids.
    """

    probe: Probe
    is_tokenised: bool = False
    eos_id: int | None = None
    takes_one_text: bool = False

    @property
    def wire(self) -> Wire:
        """The protocol in which answers are asked for."""
        return WIRES[self.probe.chat_wire]

    @property
    def shows_model(self) -> bool:
        """Whether the log-probabilities of tokens that the server generates at temperature 1 are the model's own."""
        return self.probe.raw or self.probe.echo == "exact"


@dataclass(frozen=True)
class RouteClient:
    """Sends a route's requests, with what all requests to this server carry.

    Attributes
    ----------
    client : SupportsCall
    server : ServerFacts
    common : mapping
        Whatever the user adds to every request.
    models : AnsweringModel
        Sees every reply.
    """

    client: SupportsCall
    server: ServerFacts
    common: Mapping[str, Any]
    models: AnsweringModel

    @property
    def probe(self) -> Probe:
        return self.server.probe

    async def complete(
        self,
        body: Mapping[str, Any],
        read: Callable[[Any], T],
        *,
        tokens_in: int,
        tokens_out: int = 1,
        path: str = "/completions",
        by_id: bool = True,
    ) -> T:
        """One request; its reply names tokens by their ids where the server can and `by_id` asks for it."""
        flag = {"return_tokens_as_token_ids": True} if by_id and self.probe.id_flag else {}
        name = {"model": self.probe.model} if self.server.wire.is_openai else {}  # elsewhere the wire says it
        whole = merged({**name, **flag, **body}, self.common)

        def checked(reply: Any) -> T:
            answer = read(reply)
            self.models.check(reply, path)
            return answer

        return await self.client.call(path, whole, checked, tokens_in=tokens_in, tokens_out=tokens_out)


@dataclass(frozen=True)
class RowSize:
    """How large a row is, as far as that is known before anything is sent.

    Attributes
    ----------
    context : int
        Tokens of the prompt.
    labels : tuple of tuples of int
        Tokens of the labels.
    longest : int
        Bytes of the longest label.
    """

    context: int
    labels: Labels
    longest: int


@dataclass(frozen=True)
class Work:
    """What one row takes.

    Attributes
    ----------
    requests : float
        A fraction where rows share requests.
    tokens_in, tokens_out : int
        Tokens read and written, without what the server's cache saves.
    """

    requests: float
    tokens_in: int
    tokens_out: int


class Route(ABC):
    """One way to the log-probabilities of a row's labels. A connection has one object of each registered class.

    A subclass is a `TokenRoute`, a `TextRoute`, or both, and `takes_tokens` then says which of them a server needs. All that it
    asks goes through `RouteClient.complete`. If its requests depend on nothing but the row, they also go through the Batch API:
    a restarted process then makes the same requests and finds their answers. Otherwise `batch_obstacle` says why not.

    Attributes
    ----------
    name : str
        As in ``use_route=``.
    summary : str
        How it works, for a list of routes.
    is_exact : bool
        Its scores are exact; otherwise each lies between two bounds.
    sees_tokens : bool
        Its scores come token by token, as a mean per token needs them.
    identity_name : str or None
        The name in `OpenAIBackend.identity`: routes whose scores agree share one. None stands for `name`.
    depends_on_rows : bool
        `settle` picks another route by looking at rows.
    depends_on_answers : bool
        What a row takes is known only from its answers, and `work` says what it takes at most.
    path : str
        The endpoint that is asked, below the server's address, unless `asked_path` says otherwise.
    on_request : bool
        It is taken only where a user names it (``use_route=``), never as the best that is allowed.
    batch_obstacle : str or None
        Why the Batch API cannot carry it, as the end of a sentence that begins with the route; None where it can.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    is_exact: ClassVar[bool]
    sees_tokens: ClassVar[bool] = True
    identity_name: ClassVar[str | None] = None
    depends_on_rows: ClassVar[bool] = False
    depends_on_answers: ClassVar[bool] = False
    on_request: ClassVar[bool] = False
    batch_obstacle: ClassVar[str | None] = None
    path: ClassVar[str] = "/completions"

    def __init__(self, options: RouteOptions) -> None:
        self.options = options

    @abstractmethod
    def obstacle(self, server: ServerFacts) -> str | None:
        """Why the server does not allow this route, in words; None where it does."""

    @abstractmethod
    def work(self, row: RowSize, n_together: int) -> Work:
        """What a row would take, of `n_together` rows that go together."""

    def takes_tokens(self, server: ServerFacts) -> bool:
        """Whether rows come as token ids or as text; a route of both kinds decides by what the server can do."""
        return isinstance(self, TokenRoute)

    def rows_together(self, n_labels: int) -> int:
        """How many rows with this many labels may go together, at most."""
        return 1

    def prompt_sizes(self, row: TokenRow) -> list[int]:
        """Tokens of each prompt that the row puts into the first request."""
        return [len(row.context)]

    def asked_path(self, server: ServerFacts) -> str:
        """The endpoint that is asked at a server."""
        return self.path

    @property
    def cost(self) -> str | None:
        """What a row takes, in words; None where that depends on the labels."""
        return None

    @property
    def default(self) -> Route:
        """The route that does the work as long as no rows are known."""
        return self

    def settle(self, rows: Sequence[Placed]) -> Route:
        """The route that does the work for rows like these."""
        return self

    def recalled(self, name: str | None) -> Route | None:
        """What `settle` gave in an earlier process, by its name; None if it is not known, so that rows have to settle it anew."""
        return self

    def identity(self, probe: Probe) -> dict[str, Any]:
        """What its scores depend on, besides model and server, as plain JSON values."""
        return {
            "route": self.identity_name or self.name,
            "top_logprobs": None,
            "top_calls": None,
            "tolerance": None,
        }


class TokenRoute(Route):
    """A route that takes rows as token ids."""

    @abstractmethod
    async def score_tokens(self, client: RouteClient, rows: Sequence[Placed]) -> list[Answer]:
        """The scores of rows of token ids that go together.

        Raises
        ------
        ServerError
            The server refuses a request, or still fails after the last attempt.
        """


class TextRoute(Route):
    """A route that takes rows as text, whose tokens are known to the server alone.

    Attributes
    ----------
    answers_chats : bool
        Its rows are chats; otherwise texts that are continued.
    """

    answers_chats: ClassVar[bool] = False

    @abstractmethod
    async def score_text(self, client: RouteClient, request: Request) -> RowScores:
        """The scores of a row.

        Raises
        ------
        CapabilityError
            The route cannot answer requests of this kind.
        RowError, ServerError
            This row has no answer.
        """


NO_TOKENIZER = (
    "the model's tokenizer is unknown, and the server does not tokenise by id; give the backend the tokenizer "
    "(tokenizer='folder or name')"
)
NOT_RAW = "the server's log-probabilities are those after temperature and masks, not the model's own"


def echo_obstacle(probe: Probe) -> str | None:
    """Why the server's echo cannot be used."""
    reasons = {
        "exact": None,
        "ignored": "the server ignores echo and generates instead",
        "shifted": "the log-probabilities in its echo are those of other tokens (off by one)",
    }
    return reasons.get(probe.echo, "the server does not echo prompts with their log-probabilities")


def n_fitting(route: Route, rows: Sequence[Placed]) -> int:
    """How many of the rows, from the first on, go into one request; at least one."""
    n_prompts = n_tokens = 0
    for n, (_, row) in enumerate(rows):
        sizes = route.prompt_sizes(row)
        n_prompts += len(sizes)
        n_tokens += sum(sizes)
        if n and (n_prompts > MAX_PROMPTS or n_tokens > MAX_PROMPT_TOKENS):
            return n
    return len(rows)


def request_groups(sizes: Sequence[int]) -> list[list[int]]:
    """The places of some prompts, grouped in order so that no request holds too many prompts or tokens.

    Examples
    --------
    >>> request_groups([3000, 1000, 1000, 9000])
    [[0, 1], [2], [3]]
    """
    groups: list[list[int]] = []
    tokens = 0
    for place, size in enumerate(sizes):
        if not groups or len(groups[-1]) >= MAX_PROMPTS or tokens + size > MAX_PROMPT_TOKENS:
            groups.append([])
            tokens = 0
        groups[-1].append(place)
        tokens += size
    return groups


def exact_scores(row: TokenRow, logprobs: Iterable[tuple[float, ...]]) -> RowScores:
    """The answer to a row from the log-probabilities of its labels' tokens, or the error that these are no distribution."""
    values = tuple(logprobs)
    excess = distribution_error(row.targets, values)
    if excess:
        return RowScores((), error=excess)
    if row.excludes_longer:
        values = without_longer(row.targets, values)
    return RowScores(values, characters_cut=row.characters_cut, healed=row.healed, terminated=row.terminated)


def distribution_error(labels: Sequence[Sequence[Any]], logprobs: Sequence[Sequence[float]]) -> str | None:
    """What is wrong with log-probabilities if tokens that could stand at the same place have more probability than there is.

    Parameters
    ----------
    labels : sequence of sequences
        The tokens of each label.
    logprobs : sequence of sequences of float
        The log-probability of each of them, in nats.

    Returns
    -------
    str or None
        None where nothing is wrong.

    Notes
    -----
    The numbers come from several replies, and a server computes the same place otherwise in another batch: in bfloat16 a
    log-odds may be off by an eighth, so that two halves may add up to 1.06.

    Examples
    --------
    >>> import math
    >>> distribution_error([(7,), (8, 9)], [(math.log(0.6),), (math.log(0.6), -0.1)])
    "the server's reply cannot be used: the probabilities of 2 tokens at one place add up to 1.2; expected at most 1"
    """
    places: dict[tuple[Any, ...], dict[Any, float]] = {}
    for label, values in zip(labels, logprobs, strict=True):
        for j, (token, value) in enumerate(zip(label, values, strict=True)):
            shown = places.setdefault(tuple(label[:j]), {})
            shown[token] = max(value, shown.get(token, value))
    for shown in places.values():
        total = math.fsum(map(math.exp, shown.values()))
        if total > 1.0 + _SEVERAL_REPLIES:
            return (
                f"the server's reply cannot be used: the probabilities of {len(shown)} tokens at one place add up "
                f"to {total:.4g}; expected at most 1"
            )
    return None


def refuse_chat(request: Request) -> None:
    """Refuse a chat on a route that continues text.

    Raises
    ------
    CapabilityError
    """
    if request.prompt.is_chat:
        raise CapabilityError(
            "this server continues text, and how it writes a chat is unknown; give the backend the model's tokenizer "
            "(tokenizer='folder or name'), or use chat=False"
        )


def max_tokens(text: str) -> int:
    """The largest number of tokens that a text can have: one for each of its bytes, and one before it.

    Examples
    --------
    >>> max_tokens("né")
    4
    """
    return len(text.encode("utf-8", "surrogatepass")) + 1
