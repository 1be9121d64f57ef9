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
from ...wires.answer_facts import AnswerFacts, most_tokens
from ...wires.registry import WIRES
from ..probe import Probe
from .base import RouteClient, RouteOptions, RowSize, ServerFacts, TextRoute, Work


class ChatWriter:
    """Writes answers in the protocol of a server; see `llmclf.backends.answers.generates.GeneratesText`.

    Parameters
    ----------
    client : RouteClient
    """

    def __init__(self, client: RouteClient) -> None:
        self._client = client
        self._facts = answer_facts(client.probe)
        self._wire = WIRES[self._facts.wire]

    @property
    def takes_grammar(self) -> bool:
        return self._wire.takes_grammar and self._client.probe.grammar

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
        model = self._client.probe.model
        return await self._client.complete(
            self._wire.body(model, self._facts.adapted(request), limit=self._facts.limit),
            lambda reply: self._wire.texts(reply, request.n),
            tokens_in=most_tokens(request),
            tokens_out=request.n * max(request.max_tokens, self._wire.least_tokens),
            path=self._wire.path(model, is_chat=request.turns[0].role is not None),
            by_id=False,
        )


class Answered(TextRoute):
    """A route by answers, asked by chats."""

    kind: ClassVar[type[answers.AnswerRoute]]
    is_exact = False
    sees_tokens = False
    answers_chats = True
    on_request = True

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.name, cls.summary = cls.kind.name, cls.kind.summary
        cls.depends_on_answers, cls.batch_obstacle = cls.kind.depends_on_answers, cls.kind.batch_obstacle

    def __init__(self, options: RouteOptions) -> None:
        super().__init__(options)
        self.answers = self.kind(options.answers)

    def obstacle(self, server: ServerFacts) -> str | None:
        return None if server.probe.answers or server.probe.chat else "the server does not answer chats"

    def asked_path(self, server: ServerFacts) -> str:
        return WIRES[answer_facts(server.probe).wire].path(server.probe.model, is_chat=True)

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
    return probe.answers or AnswerFacts(probe.chat_wire, probe.chat_limit)


class VerbalizedAnswers(Answered):
    """See `llmclf.backends.answers.verbalized`."""

    kind = Verbalized


class SampledAnswers(Answered):
    """See `llmclf.backends.answers.sampled`."""

    kind = Sampled


class MixedAnswers(Answered):
    """See `llmclf.backends.answers.mixed`."""

    kind = Mixed
