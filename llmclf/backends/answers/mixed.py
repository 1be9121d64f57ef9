"""The route ``mixed``: what the model states and what it answers, in one distribution."""

from __future__ import annotations

from collections.abc import Sequence

from ..requests import RowScores
from .base import AnswerRoute, AnswerWork, Gather, row_scores, scaled
from .draws import CONFIDENCE, LogShares, share_bounds
from .generates import GeneratesText, GenerationRequest
from .options import AnswerSettings
from .pooling import log_pool
from .question import Question
from .sampled import Draws, Sampled
from .stated_shares import UnusableAnswerError
from .verbalized import Verbalized

_EACH = 1.0 - (1.0 - CONFIDENCE) / 2
"""With which the bounds of the labels' shares hold, and those of their probability together."""


class Mixed(AnswerRoute):
    """The logarithmic pool of stated shares (`verbalized_weight`) and of the shares of the drawn labels (the rest).

    The labels' probability together is the share of answers that are labels. It has bounds, too, and all hold together: half of
    what they may miss is theirs.
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
            return log_pool([stated, draws.shares_among_labels(_EACH)], [weight, 1.0 - weight])

        draws = await self._sampled.drawn(question, writer, gather, lambda found: pooled(found).is_decided)
        if not draws.n_labels:
            return RowScores((), error=self._sampled.failure(question, draws))
        return row_scores(scaled(pooled(draws), share_bounds([draws.n_labels], draws.n, _EACH)))

    def first_request(self, question: Question, writer: GeneratesText) -> GenerationRequest:
        return self._verbalized.first_request(question, writer)

    def first_requests(self, question: Question, writer: GeneratesText) -> Sequence[GenerationRequest]:
        return [part.first_request(question, writer) for part in (self._verbalized, self._sampled)]

    def work(self, context: int, labels: Sequence[int], longest: int) -> AnswerWork:
        one, other = (route.work(context, labels, longest) for route in (self._verbalized, self._sampled))
        return AnswerWork(*(a + b for a, b in zip(one, other, strict=True)))

    @property
    def cost(self) -> str:
        return f"{self._verbalized.cost} for all probabilities, and {self._sampled.cost}"
