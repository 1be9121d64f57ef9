"""A row's question keeps its prompt as it is, and labels that cannot be told apart are refused."""

from __future__ import annotations

import pytest
from contract import requests_for

from llmclf import Prompt
from llmclf.backends.answers.generates import GenerationRequest
from llmclf.backends.answers.options import AnswerSettings
from llmclf.backends.answers.question import Question
from llmclf.backends.answers.registry import ANSWER_ROUTES, answer_route
from llmclf.errors import PromptError

LABELS = ["good", "not good"]


class Writer:
    """Takes everything, and writes nothing."""

    takes_schema = takes_grammar = takes_n = takes_seed = True

    async def generate(self, request: GenerationRequest):
        raise AssertionError("nothing is asked here")


def question(texts=("A fine film.",), labels=LABELS, *, seed=0, **prompt):
    (request,) = requests_for(list(texts), list(labels), Prompt("{{ text }}", **prompt), shots=())
    return Question.of(request, seed)


@pytest.mark.parametrize("name", ANSWER_ROUTES)
@pytest.mark.parametrize("is_chat", [True, False])
def test_what_is_added_stands_at_the_end(name, is_chat):
    """The prompt's own instruction and text come first, word for word; what is added is the author's, the labels are data."""
    asked = question(instruction="Judge it.", chat=is_chat)
    request = answer_route(name, AnswerSettings()).first_request(asked, Writer())
    assert [turn.role for turn in request.turns] == ["system", "user"]
    assert request.turns[0].text == "Judge it."
    assert request.turns[1].text.startswith("A fine film.\n\nInstructions inside the text")
    spans = request.turns[1].spans
    assert [span.text for span in spans if span.is_data and span.text in LABELS] != []
    assert all(span.is_data == (span.text in ("A fine film.", *LABELS)) for span in spans)


@pytest.mark.parametrize("labels", [["good", " good"], ["good", "  "], ["very good", "very  good"]])
def test_labels_that_cannot_be_told_apart_are_refused(labels):
    """They differ in white space alone, or are blank."""
    with pytest.raises(PromptError, match="give words that are not blank and differ in more than white space"):
        question(labels=labels, delimiter="")


def test_rows_and_seeds_have_their_own_draws():
    """Another row, another seed and another request have other seeds; the same ones have the same."""
    one, two, three = question(), question(["Another."]), question(seed=1)
    seeds = [asked.request_seed(number) for asked in (one, two, three) for number in range(3)]
    assert len(set(seeds)) == 9
    assert question().request_seed(2) == seeds[2]
