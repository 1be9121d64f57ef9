"""The route ``verbalized``: one request asks for the probabilities of all labels in percent."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from ...errors import CapabilityError
from ...prompts.rendered import Span
from ..requests import RowScores
from .base import AnswerRoute, AnswerWork, Gather, added_tokens, row_scores
from .draws import LogShares
from .generates import GeneratesText, GenerationRequest
from .label_codes import codes
from .pooling import log_pool
from .question import DATA_ARE_DATA, Question
from .stated_shares import UnusableAnswerError, log_shares, read_json, read_lines

_HEAD = "How probable is each of these labels for it?\n"
_TAIL = "Be as precise as you can. All of them together are 100 percent."
_AS_JSON = (
    "Answer with a JSON object and nothing else. Its keys are the letters before the labels, its values the probabilities in "
    f"percent. {_TAIL}"
)
_AS_LINES = (
    "Answer with one line for each label and nothing else: the letter before the label, a colon, a space, and the probability in "
    f"percent. {_TAIL}"
)
_STATED_TOKENS, _ROOM = 14, 24  # what one share, and what stands around all, may take


class Verbalized(AnswerRoute):
    """Each of `n_orders` requests lists the labels in another order, under other codes; the logarithms are averaged."""

    name = "verbalized"
    summary = "one request asks for all probabilities in percent; they are read strictly"
    depends_on_answers = False
    batch_obstacle = None

    @property
    def n_orders(self) -> int:
        """Requests for a row."""
        return self.settings.n_orders or 1

    def check(self, question: Question) -> None:
        if question.is_continued:
            raise CapabilityError(
                f"use_route={self.name!r} asks a question, and the prompt is plain text that a model continues; use "
                "Prompt(..., chat=True) and a model with a chat template, or use_route='sampled'"
            )

    async def score(self, question: Question, writer: GeneratesText, gather: Gather) -> RowScores:
        try:
            return row_scores(await self.stated(question, writer, gather))
        except UnusableAnswerError as error:
            return RowScores((), error=str(error))

    async def stated(self, question: Question, writer: GeneratesText, gather: Gather) -> LogShares:
        """What the model states, averaged over all orders.

        Raises
        ------
        UnusableAnswerError
            An answer cannot be read.
        """
        self.check(question)
        parts = await gather(*(partial(self._one, question, writer, number) for number in range(self.n_orders)))
        return log_pool(parts, [1.0 / len(parts)] * len(parts))

    async def _one(self, question: Question, writer: GeneratesText, number: int) -> LogShares:
        """What the model states where the labels are listed in one order."""
        request = self._request(question, writer, number)
        written = await writer.generate(request)
        if not written:
            raise UnusableAnswerError("the reply holds no answer")
        answer = written[0]
        if answer.stop == "length":
            raise UnusableAnswerError(
                f"the answer was cut off at {request.max_tokens} tokens; raise max_answer_tokens=, or lower effort=, for a model "
                "that reasons"
            )
        if answer.stop != "end":
            raise UnusableAnswerError(
                "the model refused to answer" if answer.stop == "refusal" else "the answer broke off"
            )
        names = codes(len(question.labels))
        try:
            read = read_lines if request.schema is None else read_json
            percentages = read(answer.text, names)
        except UnusableAnswerError as error:
            raise UnusableAnswerError(f"the model's answer cannot be used: {error}") from None
        by_label = dict(zip(question.order(number), percentages, strict=True))
        return log_shares([by_label[place] for place in range(len(names))])

    def first_request(self, question: Question, writer: GeneratesText) -> GenerationRequest:
        return self._request(question, writer, 0)

    def _request(self, question: Question, writer: GeneratesText, number: int) -> GenerationRequest:
        names = codes(len(question.labels))
        spans = [Span(f"{DATA_ARE_DATA}\n\n{_HEAD}", False)]
        for name, place in zip(names, question.order(number), strict=True):
            label = " ".join(question.labels[place].split())
            spans += [Span(f"{name}: ", False), Span(label, True), Span("\n", False)]
        spans.append(Span(f"\n{_AS_JSON if writer.takes_schema else _AS_LINES}", False))
        return GenerationRequest(
            question.asked(*spans),
            self._longest_answer(len(names)),
            temperature=0.0,
            seed=question.request_seed(number) if writer.takes_seed else None,
            schema=shares_schema(names) if writer.takes_schema else None,
            grammar=_grammar(names) if writer.takes_grammar and not writer.takes_schema else None,
            effort=self.settings.effort,
        )

    def _longest_answer(self, n_labels: int) -> int:
        return self.settings.max_answer_tokens or n_labels * _STATED_TOKENS + _ROOM

    def work(self, context: int, labels: Sequence[int], longest: int) -> AnswerWork:
        n = self.n_orders
        each = context + added_tokens(DATA_ARE_DATA + _HEAD + _AS_LINES, labels)
        return AnswerWork(n, n * each, n * self._longest_answer(len(labels)))

    @property
    def cost(self) -> str:
        return "1 request a row" if self.n_orders == 1 else f"{self.n_orders} requests a row"


def shares_schema(names: Sequence[str]) -> dict[str, Any]:
    """The JSON schema of stated shares; strict, as servers call it: every key is required, and no other allowed."""
    return {
        "type": "object",
        "properties": {name: {"type": "number"} for name in names},
        "required": list(names),
        "additionalProperties": False,
    }


def _grammar(names: Sequence[str]) -> str:
    """The lines in GBNF."""
    lines = ' "\\n" '.join(f'"{name}: " share' for name in names)
    return f'root ::= {lines}\nshare ::= "100" | [0-9] [0-9]? ("." [0-9])?\n'
