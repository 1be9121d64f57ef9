"""The route ``sampled``: short answers are drawn, and their shares are the scores."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from ...errors import ServerError
from ...prompts.rendered import Span
from ..requests import RowScores
from .base import AnswerRoute, AnswerWork, Gather, added_tokens, row_scores
from .draws import LogShares, share_bounds
from .generates import GeneratedText, GeneratesText, GenerationRequest
from .label_answers import label_reader
from .options import LARGEST
from .question import DATA_ARE_DATA, Question

ASKS = "Answer with exactly one of these labels, word for word, and nothing else."
"""Stands below the labels."""
_ROOM = 16  # tokens of an answer beside the label
_HEAD = "Labels:\n"


@dataclass
class Draws:
    """What was drawn for one row so far.

    Attributes
    ----------
    counts : list of K int
        How often each label was the answer.
    n : int
        Answers, those that are no label included.
    n_cut, n_refused : int
        Of these, answers that were cut off, and refusals.
    n_orders : int
        Orders of the labels that were asked in.
    """

    counts: list[int]
    n: int = 0
    n_cut: int = 0
    n_refused: int = 0
    n_orders: int = 0

    @property
    def n_labels(self) -> int:
        return sum(self.counts)

    @property
    def is_hopeless(self) -> bool:
        """Whether there is no answer at all, only refusals and the beginnings of answers."""
        return self.n > 0 and self.n_cut + self.n_refused == self.n

    def add(self, text: GeneratedText, labels: tuple[str, ...]) -> None:
        """Count one answer; only a whole one can be a label."""
        self.n += 1
        if text.stop == "length":
            self.n_cut += 1
        elif text.stop != "end":
            self.n_refused += 1
        elif (place := label_reader(labels).place(text.text)) is not None:
            self.counts[place] += 1

    def with_more(self, n: int) -> Draws:
        """What it would be after `n` more answers that all were the most frequent label."""
        best = self.counts.index(max(self.counts))
        counts = [count + n * (place == best) for place, count in enumerate(self.counts)]
        return replace(self, counts=counts, n=self.n + n)

    def shares(self) -> LogShares:
        """Of all answers, those that are each label; there must be one."""
        return share_bounds(self.counts, self.n)

    def shares_among_labels(self, confidence: float) -> LogShares:
        """The same of the answers that are labels."""
        return share_bounds(self.counts, self.n_labels, confidence)


class Sampled(AnswerRoute):
    """`n_samples` answers at temperature 1, then more while the best label is open, up to `max_samples`.

    The best label is open as long as its lower bound is not above all other upper bounds, which hold whenever the drawing stops
    (see `llmclf.backends.answers.draws`): a row that counts as decided is so with a confidence of 95 %. Each time, the fewest
    answers are drawn that could decide the row, were they all its best label; all that are left, where fewer could not.
    """

    name = "sampled"
    summary = "short answers are drawn; their shares are the scores, with bounds"
    depends_on_answers = True
    batch_obstacle = "draws several answers to one row, and how many depends on them"

    async def score(self, question: Question, writer: GeneratesText, gather: Gather) -> RowScores:
        draws = await self.drawn(question, writer, gather, lambda found: found.shares().is_decided)
        if not draws.n_labels:
            return RowScores((), error=self.failure(question, draws))
        return row_scores(draws.shares())

    def failure(self, question: Question, draws: Draws) -> str:
        """Why a row has no scores, where no answer is a label."""
        reasons = [f"none of {draws.n} answers is one of the labels"]
        if draws.n_cut:
            reasons.append(
                f"{draws.n_cut} were cut off at {self._limit(question)} tokens (raise max_answer_tokens=, or lower effort=, for "
                "a model that reasons)"
            )
        if draws.n_refused:
            reasons.append(f"{draws.n_refused} were refusals, or broke off")
        return "; ".join(reasons)

    async def drawn(
        self, question: Question, writer: GeneratesText, gather: Gather, is_decided: Callable[[Draws], bool]
    ) -> Draws:
        """Answers to a row, until it is decided or all draws are spent."""
        draws = Draws([0] * len(question.labels))
        settings = self.settings
        while (wanted := self._wanted(draws, is_decided)) > 0:
            # Nothing is listed where a text is continued, so that there are no orders.
            n_orders = 1 if question.is_continued else min(settings.n_orders or wanted, wanted)
            sizes = [wanted // n_orders + (i < wanted % n_orders) for i in range(n_orders)]
            asked = [partial(self._some, question, writer, draws.n_orders + i, size) for i, size in enumerate(sizes)]
            draws.n_orders += n_orders
            for text in [text for texts in await gather(*asked) for text in texts]:
                draws.add(text, question.labels)
        return draws

    def _wanted(self, draws: Draws, is_decided: Callable[[Draws], bool]) -> int:
        """How many answers to draw next."""
        left = self.settings.max_samples - draws.n
        if draws.is_hopeless:
            return 0
        if not draws.n_labels:
            return min(self.settings.n_samples, left)
        if is_decided(draws):
            return 0
        return min(left, 1 + bisect_left(range(1, left), True, key=lambda n: is_decided(draws.with_more(n))))

    async def _some(self, question: Question, writer: GeneratesText, number: int, n: int) -> list[GeneratedText]:
        """Answers in one order of the labels, from as few requests as the generator allows."""
        texts: list[GeneratedText] = []
        while len(texts) < n:
            left = n - len(texts)
            request = self._request(question, writer, number, left if writer.takes_n else 1, len(texts))
            written = await writer.generate(request)
            if not written:
                raise ServerError("the reply holds no answer")
            texts += written[:left]
        return texts

    def first_request(self, question: Question, writer: GeneratesText) -> GenerationRequest:
        return self._request(question, writer, 0, 1, 0)

    def _request(
        self, question: Question, writer: GeneratesText, number: int, n: int, n_before: int
    ) -> GenerationRequest:
        seed = question.request_seed(number * LARGEST + n_before) if writer.takes_seed else None
        limit = self._limit(question)
        if question.is_continued:
            return GenerationRequest(question.turns, limit, n=n, seed=seed, stop=("\n",), effort=self.settings.effort)
        spans = [Span(f"{DATA_ARE_DATA}\n\n{_HEAD}", False)]
        for place in question.order(number):
            spans += [Span("- ", False), Span(" ".join(question.labels[place].split()), True), Span("\n", False)]
        spans.append(Span(f"\n{ASKS}", False))
        return GenerationRequest(question.asked(*spans), limit, n=n, seed=seed, effort=self.settings.effort)

    def _limit(self, question: Question) -> int:
        return self._longest_answer(max(len(label.encode("utf-8", "surrogatepass")) for label in question.labels))

    def _longest_answer(self, longest: int) -> int:
        return self.settings.max_answer_tokens or longest + _ROOM

    def work(self, context: int, labels: Sequence[int], longest: int) -> AnswerWork:
        n = self.settings.max_samples
        each = context + added_tokens(DATA_ARE_DATA + _HEAD + ASKS, labels)
        return AnswerWork(n, n * each, n * self._longest_answer(longest))

    @property
    def cost(self) -> str:
        least, most = self.settings.n_samples, self.settings.max_samples
        return f"{least} to {most} answers a row" if least < most else f"{most} answers a row"
