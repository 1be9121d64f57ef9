"""What the process of the models answers, row by row, and what it says of rows that fail."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from serving import close, fake_pipeline

from llmclf.backends import FakeBackend
from llmclf.errors import PromptError, ServerError
from llmclf.serve.model.answering import Answerer, OpenModel
from llmclf.serve.model.frames import framed, length_of, packed, unpacked
from llmclf.serve.model.withheld import WITHHELD, without_texts
from llmclf.tables import read_rows


class Poisoned(FakeBackend):
    """Fails as a whole where any prompt holds the word; notes how many it was asked about at once."""

    def __init__(self, error=None):
        super().__init__()
        self.error = error or ZeroDivisionError("POISON in the words")
        self.asked = []

    def score(self, requests):
        self.asked.append(len(requests))
        if any("POISON" in request.prompt.text for request in requests):
            raise self.error
        return super().score(requests)


def row(text, model="moods"):
    return {"model": model, "row": {"text": text}}


def own(words, question="Which?", text="A text.", model="fake"):
    return {"model": model, "question": question, "words": words, "text": text}


def test_rows_of_several_classifiers_and_questions_are_one_pass_of_one_model():
    """Equal backends are asked once about all; each answer is that of its row alone."""
    backend = Poisoned()
    first = replace(fake_pipeline(), backend=backend)
    second = replace(fake_pipeline({"a": "x", "b": "y", "c": "z"}), backend=backend)
    answerer = Answerer({"moods": first, "other": second}, {"fake": OpenModel(backend)})
    asks = [row("one"), own(["u", "v"]), row("two", "other"), row("three"), own(["u", "v", "w"])]
    together = answerer.answers(asks)
    assert backend.asked == [5]
    assert together == [answerer.answers([one])[0] for one in asks]
    rows = read_rows(["three"])
    close(together[3]["probabilities"], first.probabilities(first.scores(rows))[0])
    assert [len(one["probabilities"]) for one in together] == [2, 2, 3, 2, 3]


def test_a_row_on_which_the_model_fails_does_not_spoil_the_others():
    """It is found by halving; its error names the kind, and nothing of its words."""
    backend = Poisoned()
    answerer = Answerer({"moods": replace(fake_pipeline(), backend=backend)}, {})
    answers = answerer.answers([row(f"text {i}" if i != 5 else "POISON") for i in range(16)])
    assert [one["kind"] for one in answers] == [*[""] * 5, "model_failed", *[""] * 10]
    assert answers[5]["message"] == "the model failed on this row (ZeroDivisionError)"
    assert len(backend.asked) <= 10


def test_a_server_that_cannot_be_reached_is_nobodys_row():
    """All rows of the message wait for better times; nothing is asked twice."""
    backend = Poisoned(ServerError("the server cannot be reached at http://10.0.0.1", is_final=True))
    answerer = Answerer({"moods": replace(fake_pipeline(), backend=backend)}, {})
    answers = answerer.answers([row("POISON"), row("other")])
    assert {one["kind"] for one in answers} == {"model_unavailable"}
    assert "cannot be reached" in answers[0]["message"]
    assert backend.asked == [2]


def test_bad_rows_are_named_by_their_kind():
    """Blank, missing and broken texts are the row's fault, and what the model refuses is its own kind."""
    backend = Poisoned(PromptError("the text 'POISON and a long secret' is refused"))
    answerer = Answerer({"moods": replace(fake_pipeline(), backend=backend)}, {})
    answers = answerer.answers([row(" "), row(None), row("\ud800"), row("POISON and a long secret"), row("x")])
    assert [one["kind"] for one in answers] == ["invalid_row"] * 3 + ["unscorable_row", ""]
    assert answers[0]["message"] == "field 'text' is blank"
    assert answers[3]["message"] == WITHHELD


def test_a_question_is_data_in_which_nothing_acts():
    """Templates, braces and control tokens of a client's question are text."""
    answerer = Answerer({}, {"fake": OpenModel(FakeBackend())})
    plain = answerer.answers([own(["a", "b"], "What is it?")])[0]["probabilities"]
    for odd in ("{{ text }}", "{% raw %}", "{{ 7 * 7 }}", "<|im_end|>", "{% for i in range(10**9) %}x{% endfor %}"):
        (answer,) = answerer.answers([own(["a", "b"], odd)])
        assert answer["kind"] == ""
        assert answer["probabilities"] != plain


def test_as_many_questions_as_one_likes_take_no_more_memory():
    """What is kept for questions with the same labels has an end."""
    model = OpenModel(FakeBackend())
    first = model.pipeline(["a", "b"])
    for i in range(300):
        model.pipeline(["a", f"b{i}"])
    assert model.pipeline(["a", "b"]) is not first
    assert model.pipeline(["a", "b299"]) is model.pipeline(["a", "b299"])


class Counting(FakeBackend):
    """Counts tokens as words, and how often each text was counted."""

    def __init__(self):
        super().__init__()
        self.counted = []

    def count_tokens(self, texts):
        self.counted.extend(texts)
        return sum(len(text.split()) for text in texts)


def test_the_tokens_of_a_text_are_counted_once_for_all_its_questions():
    """And are added to those of each question."""
    backend = Counting()
    answerer = Answerer({}, {"fake": OpenModel(backend)})
    asks = [{**own(["u", "v"], question), "count": True} for question in ("One?", "And two?", "One?")]
    assert [one["tokens"] for one in answerer.answers(asks)] == [3, 4, 3]
    assert sorted(backend.counted) == ["A text.", "And two?", "One?"]
    assert answerer.answers([own(["u", "v"])])[0]["tokens"] == 0


def test_a_message_has_each_text_once():
    """What comes out is what went in."""
    asks = [*[own(["u", "v"], str(i), "A long text. " * 1000) for i in range(50)], row("x"), own(["u", "v"], text="y")]
    assert len(framed(packed(asks))) < 20_000
    assert unpacked(json.loads(framed(packed(asks))[4:])) == asks


def test_messages_have_their_length_before_them():
    """A length that nobody sends is refused before it is believed."""
    message = framed({"text": "Größe"})
    assert json.loads(message[4:]) == {"text": "Größe"}
    assert length_of(message[:4]) == len(message) - 4
    with pytest.raises(ValueError, match="expected at most"):
        length_of(b"\xff\xff\xff\xff")


@given(st.text(min_size=8), st.text(), st.text(), st.integers(0, 40), st.integers(8, 60))
def test_no_message_repeats_eight_characters_of_a_text(text, before, after, start, length):
    """Whatever part of a text an error quotes, the message is replaced."""
    part = text[start : start + length]
    message = f"{before}{part}{after}"
    said = without_texts(message, [{"row": {"text": text}}])
    if len(part) >= 8 and len(before) + len(part) < 400:
        assert said == WITHHELD
