"""The route ``mixed``: what the model states and what it answers, in one distribution."""

from __future__ import annotations

from collections.abc import Sequence

from ..requests import RowScores
from .base import AnswerRoute, AnswerWork, Gather, row_scores, scaled
from .draws import LogShares
from .generates import GeneratesText, GenerationRequest
from .options import AnswerSettings
from .pooling import log_pool
from .question import Question
from .sampled import Draws, Sampled
from .stated_shares import UnusableAnswerError
from .verbalized import Verbalized


class Mixed(AnswerRoute):
    """The logarithmic pool of stated shares (`verbalized_weight`) and of the shares of the drawn labels (the rest).

    The labels' probability together is the share of answers that are labels, which has no bounds of its own here.
    """

    name = "mixed"
    summary = "stated probabilities and the shares of drawn answers, pooled"
    depends_on_answers = True
    batch_obstacle = Sampled.batch_obstacle

    def __init__(self, settings: AnswerSettings) -> None:
        super().__init__(settings)
        self._verbalized = Verbalized(settings)
        self._sampled = Sampled(settings)

    def check(self, question: Question) -> None:
        self._verbalized.check(question)

    async def score(self, question: Question, writer: GeneratesText, gather: Gather) -> RowScores:
        try:
            stated = await self._verbalized.stated(question, writer, gather)
        except UnusableAnswerError as error:
            return RowScores((), error=str(error))

        def pooled(draws: Draws) -> LogShares:
            weight = self.settings.verbalized_weight
            return log_pool([stated, draws.shares_among_labels()], [weight, 1.0 - weight])

        draws = await self._sampled.drawn(question, writer, gather, lambda found: pooled(found).is_decided)
        if not draws.n_labels:
            return RowScores((), error=self._sampled.failure(question, draws))
        return row_scores(scaled(pooled(draws), draws.n_labels / draws.n))

    def first_request(self, question: Question, writer: GeneratesText) -> GenerationRequest:
        return self._verbalized.first_request(question, writer)

    def work(self, context: int, labels: Sequence[int], longest: int) -> AnswerWork:
        one, other = (route.work(context, labels, longest) for route in (self._verbalized, self._sampled))
        return AnswerWork(*(a + b for a, b in zip(one, other, strict=True)))

    @property
    def cost(self) -> str:
        return f"{self._verbalized.cost} for all probabilities, and {self._sampled.cost}"
