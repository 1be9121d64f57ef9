"""The routes ``verbalized``, ``sampled`` and ``mixed``: scores from what a chat answers, for models without log-probabilities."""

from __future__ import annotations

from typing import Any, ClassVar

from ...answers import base as answers
from ...answers.generates import GeneratedText, GenerationRequest
from ...answers.mixed import Mixed
from ...answers.question import Question
from ...answers.sampled import Sampled
from ...answers.verbalized import Verbalized
from ...http.async_bridge import together
from ...requests import Request, RowScores
from ..chat_answers import PATH, AnswerFacts, answer_body, read_answers
from ..probe import Probe
from .base import (
    TEMPLATE_TOKENS,
    TURN_TOKENS,
    RouteClient,
    RouteOptions,
    RowSize,
    ServerFacts,
    TextRoute,
    Work,
    max_tokens,
)


class ChatWriter:
    """Writes answers of chats; see `llmclf.backends.answers.generates.GeneratesText`.

    Parameters
    ----------
    client : RouteClient
    """

    takes_grammar = False

    def __init__(self, client: RouteClient) -> None:
        self._client = client
        self._facts = answer_facts(client.probe)

    @property
    def takes_schema(self) -> bool:
        return self._facts.schema

    @property
    def takes_n(self) -> bool:
        return self._facts.choices

    @property
    def takes_seed(self) -> bool:
        return self._facts.seeds

    async def generate(self, request: GenerationRequest) -> list[GeneratedText]:
        return await self._client.complete(
            answer_body(request, self._facts),
            lambda reply: read_answers(reply, request.n),
            tokens_in=TEMPLATE_TOKENS + sum(max_tokens(turn.text) + TURN_TOKENS for turn in request.turns),
            tokens_out=request.n * request.max_tokens,
            path=PATH,
            by_id=False,
        )


class Answered(TextRoute):
    """A route by answers, asked by chats."""

    kind: ClassVar[type[answers.AnswerRoute]]
    is_exact = False
    sees_tokens = False
    answers_chats = True
    on_request = True
    path = PATH

    def __init__(self, options: RouteOptions) -> None:
        super().__init__(options)
        self.answers = self.kind(options.answers)

    def obstacle(self, server: ServerFacts) -> str | None:
        return None if server.probe.answers or server.probe.chat else "the server does not answer chats"

    def work(self, row: RowSize, n_together: int) -> Work:
        return Work(*self.answers.work(row.context, [len(label) for label in row.labels], row.longest))

    def identity(self, probe: Probe) -> dict[str, Any]:
        return {**super().identity(probe), **self.answers.identity(), "schema": answer_facts(probe).schema}

    @property
    def cost(self) -> str:
        return self.answers.cost

    def question(self, request: Request) -> Question:
        """The question of a row."""
        return Question.of(request, self.options.answers.seed)

    async def score_text(self, client: RouteClient, request: Request) -> RowScores:
        return await self.answers.score(self.question(request), ChatWriter(client), together)

    def shown(self, client: RouteClient, request: Request) -> str:
        """What the model reads in the first request about a row."""
        turns = self.answers.first_request(self.question(request), ChatWriter(client)).turns
        return "\n\n".join(turn.text for turn in turns)


def answer_facts(probe: Probe) -> AnswerFacts:
    """What a server does with chats; the least where that was not asked."""
    return probe.answers or AnswerFacts(limit=probe.chat_limit)


class VerbalizedAnswers(Answered):
    """See `llmclf.backends.answers.verbalized`."""

    kind = Verbalized
    name = kind.name
    summary = kind.summary
    batch_obstacle = kind.batch_obstacle


class SampledAnswers(Answered):
    """See `llmclf.backends.answers.sampled`."""

    kind = Sampled
    name = kind.name
    summary = kind.summary
    depends_on_answers = True
    batch_obstacle = kind.batch_obstacle


class MixedAnswers(Answered):
    """See `llmclf.backends.answers.mixed`."""

    kind = Mixed
    name = kind.name
    summary = kind.summary
    depends_on_answers = True
    batch_obstacle = kind.batch_obstacle
